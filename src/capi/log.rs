//! Log: what the library has to say beside errors, a line at a time. Off until it is set.

use std::ffi::{c_char, c_void};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

use super::quiet;

/// How important a line is.
pub type graft_log_level = i32;
/// Nothing.
pub const GRAFT_LOG_OFF: graft_log_level = 0;
/// A defect in Graft.
pub const GRAFT_LOG_ERROR: graft_log_level = 1;
/// Something was used wrongly that a call could not say: a handle freed twice.
pub const GRAFT_LOG_WARNING: graft_log_level = 2;
/// A model or an adapter was opened or made.
pub const GRAFT_LOG_INFO: graft_log_level = 3;

/// Is given a line, valid during the call and not NUL-terminated. Comes from whichever thread has something to say, also from several
/// at a time.
pub type graft_log_callback =
    Option<unsafe extern "C" fn(level: graft_log_level, message: *const c_char, len: usize, user_data: *mut c_void)>;

struct Sink {
    callback: graft_log_callback,
    user_data: *mut c_void,
}

// SAFETY: the pointer is only handed back; that any thread may use it is what the header asks for.
unsafe impl Send for Sink {}

static SINK: Mutex<Sink> = Mutex::new(Sink {
    callback: None,
    user_data: std::ptr::null_mut(),
});
/// Looked at first: nothing is put together that nobody reads.
static LEVEL: AtomicI32 = AtomicI32::new(GRAFT_LOG_OFF);

/// Sends lines up to the level `most` to `callback`, for the whole process; NULL sends them nowhere. A line that another thread has begun
/// may still come after the call has returned.
#[unsafe(no_mangle)]
pub extern "C" fn graft_log_set(callback: graft_log_callback, user_data: *mut c_void, most: graft_log_level) {
    quiet(|| {
        let mut sink = SINK.lock().unwrap_or_else(PoisonError::into_inner);
        *sink = Sink { callback, user_data };
        let level = if callback.is_some() { most } else { GRAFT_LOG_OFF };
        LEVEL.store(level, Ordering::Relaxed);
        Ok(())
    });
}

/// Whether somebody reads lines of `level`.
pub(super) fn reads(level: graft_log_level) -> bool {
    level <= LEVEL.load(Ordering::Relaxed)
}

/// Says a line.
pub(super) fn write(level: graft_log_level, message: &str) {
    if !reads(level) {
        return;
    }
    // Not while the lock is held: the callback may set another.
    let (callback, user_data) = {
        let sink = SINK.lock().unwrap_or_else(PoisonError::into_inner);
        (sink.callback, sink.user_data)
    };
    if let Some(callback) = callback {
        // SAFETY: the caller of `graft_log_set` promises that it may be called so; the text lives until it returns.
        unsafe { callback(level, message.as_ptr().cast(), message.len(), user_data) };
    }
}

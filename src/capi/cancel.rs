//! Cancelling work from elsewhere. (`graft_session_cancel` is the short form for one session.)

use super::error::graft_error;
use super::handle::{self, Handle};
use super::input::out;
use super::status::graft_status;
use super::{call, quiet};
use crate::runtime::Cancel;

/// A flag that ends work: handed to it in its options, set by any thread at any time. One may serve several pieces of work.
pub struct graft_cancel {
    _opaque: (),
}

impl Handle for graft_cancel {
    type Shared = Cancel;
    type Own = ();
    const KIND: u8 = 2;
    const NAME: &'static str = "graft_cancel";
}

/// The flag behind a handle; NULL is none.
pub(super) unsafe fn flag(cancel: *const graft_cancel) -> super::Outcome<Option<Cancel>> {
    if cancel.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller promises.
    Ok(Some(unsafe { handle::shared(cancel) }?.clone()))
}

/// A flag that is not set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_cancel_new(
    cancel: *mut *mut graft_cancel,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let cancel = out(cancel, "cancel")?;
            cancel.put(handle::create(Cancel::new(), ()));
            Ok(())
        })
    }
}

/// Asks the work that has this flag to end, now and later: until it is cleared. Any thread; also a signal handler, while nobody frees the
/// flag.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_cancel_set(cancel: *const graft_cancel) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(std::ptr::null_mut(), || {
            handle::shared(cancel)?.set();
            Ok(())
        })
    }
}

/// Takes it back. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_cancel_clear(cancel: *const graft_cancel) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(std::ptr::null_mut(), || {
            handle::shared(cancel)?.clear();
            Ok(())
        })
    }
}

/// Frees a flag; work that has it goes on without. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_cancel_free(cancel: *mut graft_cancel) {
    // SAFETY: as the caller promises.
    quiet(|| unsafe { handle::free(cancel) });
}

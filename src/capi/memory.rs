//! What a function gives out for good: texts, lists of tokens, bytes.

use std::any::Any;
use std::collections::HashMap;
use std::ffi::{c_char, c_void};
use std::sync::{LazyLock, Mutex, PoisonError};

use super::Outcome;
use super::input::Out;

/// What was given out, by its address: so that freeing what is not there is found out instead of undefined.
static GIVEN: LazyLock<Mutex<HashMap<usize, Box<dyn Any + Send>>>> = LazyLock::new(Mutex::default);

/// Gives `values` to the caller, who frees them with [`graft_free`]; the pointer is never NULL.
fn give<T: Send + 'static>(mut values: Vec<T>, padding: T) -> *mut T {
    // Something to point to also where there is nothing in it.
    values.push(padding);
    let mut values = values.into_boxed_slice();
    let start = values.as_mut_ptr();
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    given.insert(start.addr(), Box::new(values));
    start
}

/// Gives out a text, with a NUL behind its end.
pub(super) fn give_text(text: String, data: Out<*mut c_char>, len: Option<Out<usize>>) -> Outcome<()> {
    if let Some(len) = len {
        len.put(text.len());
    }
    data.put(give(text.into_bytes(), 0).cast());
    Ok(())
}

/// Gives out numbers.
pub(super) fn give_all<T: Copy + Default + Send + 'static>(values: Vec<T>, data: Out<*mut T>, len: Out<usize>) {
    len.put(values.len());
    data.put(give(values, T::default()));
}

/// Frees a text, a list of tokens or bytes that a function gave out. NULL, and what is not (or no longer) given out, is passed over.
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn graft_free(memory: *mut c_void) {
    super::quiet(|| {
        let gone = GIVEN
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&memory.addr());
        drop(gone);
        Ok(())
    });
}

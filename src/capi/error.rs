//! Errors: what went wrong, and where.
//!
//! A function that can fail has a last parameter `graft_error **error`. It may be NULL. Otherwise `*error` is written by every call:
//! NULL where it succeeded, an error to be freed with `graft_error_free` where it did not.

use std::ffi::{CString, c_char};
use std::ptr::null;

use super::handle::{self, Handle};
use super::quiet;
use super::status::{GRAFT_ERROR_HANDLE, graft_status};
use crate::error::Error;

/// What went wrong, and where. Any thread.
pub struct graft_error {
    _opaque: (),
}

/// The texts of an error, as C reads them.
pub(super) struct Texts {
    status: graft_status,
    message: CString,
    file: Option<CString>,
    item: Option<CString>,
    expected: Option<CString>,
    found: Option<CString>,
}

impl Handle for graft_error {
    type Shared = Texts;
    type Own = ();
    const KIND: u8 = 1;
    const NAME: &'static str = "graft_error";
}

/// A text that C reads up to its first NUL: one inside becomes U+FFFD.
pub(super) fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

pub(super) fn new(status: graft_status, e: &Error) -> *mut graft_error {
    let texts = Texts {
        status,
        message: c_text(&e.to_string()),
        file: e.path().map(|p| c_text(&p.to_string_lossy())),
        item: e.item_name().map(c_text),
        expected: e.expectation().map(c_text),
        found: e.finding().map(c_text),
    };
    handle::create(texts, ())
}

/// One of the texts of an error, or NULL.
unsafe fn text(error: *const graft_error, of: impl FnOnce(&Texts) -> Option<&CString>) -> *const c_char {
    let mut found = null();
    quiet(|| {
        // SAFETY: as the caller promises.
        let texts = unsafe { handle::shared(error) }?;
        // What it points to lives until the error is freed, as the header says.
        found = of(&texts).map_or(null(), |text| text.as_ptr());
        Ok(())
    });
    found
}

/// The status that the call returned; `GRAFT_ERROR_HANDLE` for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_error_status(error: *const graft_error) -> graft_status {
    let mut status = GRAFT_ERROR_HANDLE;
    quiet(|| {
        // SAFETY: as the caller promises.
        status = unsafe { handle::shared(error) }?.status;
        Ok(())
    });
    status
}

/// Everything in one line: file, item, what is wrong, what was expected and what was found. Valid until the error is freed; NULL only for
/// what is no error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_error_message(error: *const graft_error) -> *const c_char {
    // SAFETY: as the caller promises.
    unsafe { text(error, |texts| Some(&texts.message)) }
}

/// The file at fault, or NULL. Valid until the error is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_error_file(error: *const graft_error) -> *const c_char {
    // SAFETY: as the caller promises.
    unsafe { text(error, |texts| texts.file.as_ref()) }
}

/// The tensor, key, field or argument at fault, or NULL. Valid until the error is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_error_item(error: *const graft_error) -> *const c_char {
    // SAFETY: as the caller promises.
    unsafe { text(error, |texts| texts.item.as_ref()) }
}

/// What would have been right, or NULL. Valid until the error is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_error_expected(error: *const graft_error) -> *const c_char {
    // SAFETY: as the caller promises.
    unsafe { text(error, |texts| texts.expected.as_ref()) }
}

/// What was there instead, or NULL. Valid until the error is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_error_found(error: *const graft_error) -> *const c_char {
    // SAFETY: as the caller promises.
    unsafe { text(error, |texts| texts.found.as_ref()) }
}

/// Frees an error. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_error_free(error: *mut graft_error) {
    // SAFETY: as the caller promises.
    quiet(|| unsafe { handle::free(error) });
}

//! What a call says.

use crate::error::ErrorKind;

/// The version of this interface. A program that was compiled with a version runs with every library whose `graft_abi_version()`
/// is the same: functions and struct fields are only added.
pub const GRAFT_ABI_VERSION: u32 = 1;

/// As the length of a text: it ends at its first NUL byte.
pub const GRAFT_NUL: usize = usize::MAX;

/// What a call says: `GRAFT_OK`, or one of `GRAFT_ERROR_...`. Later versions may add some.
pub type graft_status = i32;

/// It is done.
pub const GRAFT_OK: graft_status = 0;
/// The system refused: a missing file, no permission, a full disk.
pub const GRAFT_ERROR_IO: graft_status = 1;
/// The input breaks its own format: truncated, contradictory, out of range, a folder in place of a file.
pub const GRAFT_ERROR_INVALID: graft_status = 2;
/// The input is well formed but asks for something that Graft does not do.
pub const GRAFT_ERROR_UNSUPPORTED: graft_status = 3;
/// Two inputs do not belong together: an adapter and another model, if only one opened a second time.
pub const GRAFT_ERROR_MISMATCH: graft_status = 4;
/// A documented limit was reached: the context is full, a prompt is longer, a size is over its cap.
pub const GRAFT_ERROR_LIMIT: graft_status = 5;
/// The call is wrong: an argument is NULL, out of range, not UTF-8, no open descriptor, a struct of another size, JSON that is none.
pub const GRAFT_ERROR_USAGE: graft_status = 6;
/// A defect in Graft itself.
pub const GRAFT_ERROR_INTERNAL: graft_status = 7;
/// The caller asked for the work to end.
pub const GRAFT_ERROR_CANCELLED: graft_status = 8;
/// The handle is in use: by another thread, or by the call whose callback this is.
pub const GRAFT_ERROR_BUSY: graft_status = 9;
/// The handle is NULL, was freed, or is of another kind.
pub const GRAFT_ERROR_HANDLE: graft_status = 10;
/// A defect ended an earlier call in the middle: the handle can only be freed.
pub const GRAFT_ERROR_POISONED: graft_status = 11;

pub(super) fn of(kind: ErrorKind) -> graft_status {
    match kind {
        ErrorKind::Io => GRAFT_ERROR_IO,
        ErrorKind::Invalid => GRAFT_ERROR_INVALID,
        ErrorKind::Unsupported => GRAFT_ERROR_UNSUPPORTED,
        ErrorKind::Mismatch => GRAFT_ERROR_MISMATCH,
        ErrorKind::Limit => GRAFT_ERROR_LIMIT,
        ErrorKind::Usage => GRAFT_ERROR_USAGE,
        ErrorKind::Internal => GRAFT_ERROR_INTERNAL,
        ErrorKind::Cancelled => GRAFT_ERROR_CANCELLED,
    }
}

/// The name of a status, such as "mismatch"; "unknown" for a number that is none. Never NULL, never freed.
#[unsafe(no_mangle)]
pub extern "C" fn graft_status_name(status: graft_status) -> *const std::ffi::c_char {
    let name = match status {
        GRAFT_OK => c"ok",
        GRAFT_ERROR_IO => c"io",
        GRAFT_ERROR_INVALID => c"invalid",
        GRAFT_ERROR_UNSUPPORTED => c"unsupported",
        GRAFT_ERROR_MISMATCH => c"mismatch",
        GRAFT_ERROR_LIMIT => c"limit",
        GRAFT_ERROR_USAGE => c"usage",
        GRAFT_ERROR_INTERNAL => c"internal",
        GRAFT_ERROR_CANCELLED => c"cancelled",
        GRAFT_ERROR_BUSY => c"busy",
        GRAFT_ERROR_HANDLE => c"handle",
        GRAFT_ERROR_POISONED => c"poisoned",
        _ => c"unknown",
    };
    name.as_ptr()
}

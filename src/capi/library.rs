//! The library itself.

use std::ffi::c_char;

use super::status::GRAFT_ABI_VERSION;

/// The version of the interface that the library has: to be compared with `GRAFT_ABI_VERSION`, which the program was compiled with.
#[unsafe(no_mangle)]
pub extern "C" fn graft_abi_version() -> u32 {
    GRAFT_ABI_VERSION
}

/// The library's version, such as "0.1.0". Never freed.
#[unsafe(no_mangle)]
pub extern "C" fn graft_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

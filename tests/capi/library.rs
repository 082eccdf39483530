//! The C interface as a shared library with the features that tests are built with, without compiling all of it again: for `tests/capi_cuda.rs`.

pub use graft::capi;

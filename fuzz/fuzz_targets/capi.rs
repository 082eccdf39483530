//! A sequence of calls of the C interface.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| graft_fuzz::capi::run(data));

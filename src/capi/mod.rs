//! The C interface: conversion and checks, nothing else. `include/graft.h` is generated from these files, in the order of
//! [`HEADER`]; the comments here are its comments.
//!
//! What holds for every function:
//!
//! * it runs inside [`call`]: an error becomes a status and a `graft_error`, a panic becomes `GRAFT_ERROR_INTERNAL`;
//! * a handle is a [`handle`] slot, never freed memory, so that a freed, foreign or busy one is found out;
//! * [`input`] checks what pointers point to as far as that can be checked: NULL, alignment, length, UTF-8, `struct_size`.
//!
//! What cannot be checked is the caller's promise, the same for every `unsafe fn` here, and not repeated there: a pointer that is not
//! NULL points to as much readable (for results: writable) memory as its length says, which no other thread changes meanwhile; handles come
//! from this library; callbacks do not unwind.
#![allow(non_camel_case_types, clippy::missing_safety_doc)]

pub mod adapter;
pub mod batch;
pub mod cancel;
pub mod chat;
pub mod error;
pub mod facts;
pub mod generate;
pub mod generation;
mod handle;
mod input;
pub mod library;
pub mod log;
pub mod memory;
pub mod mix;
pub mod model;
pub mod sampling;
pub mod session;
pub mod state;
pub mod status;
pub mod team;
pub mod tokens;
pub mod train_options;
pub mod trainer;
pub mod training;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::Error;
use error::graft_error;
use status::{GRAFT_OK, graft_status};

/// The files that make the header, in its order.
pub const HEADER: &[&str] = &[
    "status",
    "error",
    "library",
    "memory",
    "log",
    "cancel",
    "team",
    "model",
    "tokens",
    "chat",
    "adapter",
    "session",
    "facts",
    "state",
    "sampling",
    "generate",
    "generation",
    "batch",
    "train_options",
    "trainer",
    "training",
    "mix",
];

/// What went wrong, with the status that says so.
struct Fault(graft_status, Error);

impl From<Error> for Fault {
    fn from(e: Error) -> Self {
        Fault(status::of(e.kind()), e)
    }
}

/// The result of what is inside a call.
type Outcome<T> = std::result::Result<T, Fault>;

/// Runs the inside of a function: `*error` (where there is one) is NULL afterwards, or says what went wrong.
unsafe fn call(error: *mut *mut graft_error, body: impl FnOnce() -> Outcome<()>) -> graft_status {
    // What a panic may leave half done is behind an exclusive handle, which is poisoned when its guard is dropped by one.
    let done = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let e = Error::panicked("a defect in Graft", &*panic);
        log::write(log::GRAFT_LOG_ERROR, &e.to_string());
        Err(e.into())
    });
    let (status, made) = match done {
        Ok(()) => (GRAFT_OK, std::ptr::null_mut()),
        Err(Fault(status, e)) if error.is_null() || !error.is_aligned() => {
            drop(e);
            (status, std::ptr::null_mut())
        }
        Err(Fault(status, e)) => (status, error::new(status, &e)),
    };
    if !error.is_null() && error.is_aligned() {
        // SAFETY: not NULL, aligned, and the caller promises that it may be written.
        unsafe { error.write(made) };
    }
    status
}

/// Runs the inside of a function that has no way to say what went wrong but the log.
fn quiet(body: impl FnOnce() -> Outcome<()>) {
    let said = || body().inspect_err(|Fault(_, e)| log::write(log::GRAFT_LOG_WARNING, &e.to_string()));
    // SAFETY: NULL is always allowed.
    unsafe { call(std::ptr::null_mut(), said) };
}

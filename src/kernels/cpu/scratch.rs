//! Buffers that kernels need for a moment, kept per thread so that a warm thread allocates nothing.

use std::cell::RefCell;

thread_local! {
    /// A stack: nested borrowers find the same buffers every time.
    static F32: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Lends `len` floats of unspecified (old) contents to `f`. Nested calls get buffers of their own.
pub(crate) fn with_f32<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = F32.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    let result = f(&mut buffer[..len]);
    F32.with_borrow_mut(|stack| stack.push(buffer));
    result
}

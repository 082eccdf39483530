//! Buffers that kernels need for a moment, kept per thread so that a warm thread allocates nothing.

use std::cell::RefCell;

use super::acts::Acts;

/// Floats in a cache line.
const LINE: usize = 16;

thread_local! {
    /// A stack: nested borrowers find the same buffers every time.
    static F32: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
    static ACTS: RefCell<Vec<Acts>> = const { RefCell::new(Vec::new()) };
}

/// Lends `len` floats of unspecified (old) contents, beginning at a cache line, to `f`. Nested calls get buffers of their own.
pub(crate) fn with_f32<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = F32.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < len + LINE {
        buffer.resize(len + LINE, 0.0);
    }
    // The start within the line depends on the address alone; `align_offset` may decline (then it is only slower).
    let start = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    let result = f(&mut buffer[start..start + len]);
    F32.with_borrow_mut(|stack| stack.push(buffer));
    result
}

/// Lends activations of unspecified (old) contents to `f`, likewise.
pub(crate) fn with_acts<R>(f: impl FnOnce(&mut Acts) -> R) -> R {
    let mut acts = ACTS.with_borrow_mut(Vec::pop).unwrap_or_default();
    let result = f(&mut acts);
    ACTS.with_borrow_mut(|stack| stack.push(acts));
    result
}

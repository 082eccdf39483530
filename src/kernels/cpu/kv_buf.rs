//! The storage of a KV ring.

use std::alloc::{Layout, alloc_zeroed};

use half::f16;

use super::{KvBuf, Precision};
use crate::error::{Error, Result};

impl KvBuf {
    /// A ring of `capacity` rows of `width` zeros: f32 for `Exact`, f16 for `Fast`. The system gives its pages only
    /// when they are first written.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub fn new(capacity: usize, width: usize, precision: Precision) -> Result<Self> {
        let too_large = || {
            Error::limit("the KV cache does not fit in memory; ask for a shorter context")
                .item("context")
                .found(format!("{capacity} positions of {width} values"))
        };
        let len = capacity.checked_mul(width).ok_or_else(too_large)?;
        Ok(match precision {
            Precision::Exact => KvBuf::F32(zeroed(len, 0f32).ok_or_else(too_large)?),
            Precision::Fast | Precision::Fine => KvBuf::F16(zeroed(len, f16::ZERO.to_bits()).ok_or_else(too_large)?),
        })
    }

    /// Bytes of one value at `precision`.
    pub fn value_bytes(precision: Precision) -> usize {
        match precision {
            Precision::Exact => size_of::<f32>(),
            Precision::Fast | Precision::Fine => size_of::<u16>(),
        }
    }
}

/// Numbers whose zero is all-zero bits. Only for [`zeroed`].
trait Number: Copy {}
impl Number for f32 {}
impl Number for u16 {}

/// `vec![0; len]` that gives `None` instead of ending the process where memory is short.
fn zeroed<T: Number>(len: usize, _zero: T) -> Option<Vec<T>> {
    if len == 0 {
        return Some(Vec::new());
    }
    let layout = Layout::array::<T>(len).ok()?;
    // SAFETY: `layout` has a size above zero: `len` is not 0 and `T` is a number.
    let start = unsafe { alloc_zeroed(layout) }.cast::<T>();
    if start.is_null() {
        return None;
    }
    // SAFETY: allocated just now by the global allocator with the layout of `len` elements of `T`; all-zero bits are a
    // valid `T`, so all `len` are initialised.
    Some(unsafe { Vec::from_raw_parts(start, len, len) })
}

//! The table of integer kernels.

use std::ops::Range;

use super::{decode, prefill};
use crate::kernels::cpu::acts::Acts;
use crate::kernels::cpu::avx2::matmul::{Kernels, kernels};
use crate::kernels::cpu::avx2::{self, unpack};
use crate::kernels::cpu::types::{Out, Weight};
use crate::quant::BlockFormat;

/// Decode is AVX2's: it reads as fast as the memory gives.
static Q8_0: &[Kernels] = &[Kernels {
    format: BlockFormat::Q8_0,
    decode: [
        avx2::decode::q8_0::<1>,
        avx2::decode::q8_0::<2>,
        avx2::decode::q8_0::<3>,
    ],
    prefill: prefill::prefill::<unpack::Q8_0>,
}];
static OTHERS: &[Kernels] = unpack::formats!(kernels);

/// # Safety
/// As [`Isa::matmul_int`](crate::kernels::cpu::isa::Isa::matmul_int).
pub(super) unsafe fn matmul_int(w: Weight, acts: &Acts, y: Out, rows: Range<usize>) {
    // SAFETY: the caller's promises.
    unsafe { Kernels::run([Q8_0, OTHERS], w, acts, y, rows) }
}

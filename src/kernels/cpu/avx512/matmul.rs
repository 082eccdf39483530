//! The table of integer kernels.

use std::ops::Range;

use super::{decode, prefill};
use crate::kernels::cpu::acts::Acts;
use crate::kernels::cpu::avx2::matmul::{Kernels, kernels, q8_0, turned};
use crate::kernels::cpu::avx2::unpack;
use crate::kernels::cpu::types::{Out, Weight};
use crate::quant::BlockFormat;

static Q8_0: &[Kernels] = &[q8_0(prefill::prefill::<unpack::Q8_0>)];
static OTHERS: &[Kernels] = unpack::formats!(kernels);

/// # Safety
/// As [`Isa::matmul_int`](crate::kernels::cpu::isa::Isa::matmul_int).
pub(super) unsafe fn matmul_int(w: Weight, acts: &Acts, y: Out, rows: Range<usize>) {
    // SAFETY: the caller's promises.
    unsafe { Kernels::run([Q8_0, OTHERS], w, acts, y, rows) }
}

static TURNED: &[Kernels] = turned!();

/// # Safety
/// As [`Isa::turned`](crate::kernels::cpu::isa::Isa::turned).
pub(super) unsafe fn turned(w: Weight, acts: &Acts, y: Out, rows: Range<usize>) {
    // SAFETY: the caller's promises.
    unsafe { Kernels::run([TURNED, &[]], w, acts, y, rows) }
}

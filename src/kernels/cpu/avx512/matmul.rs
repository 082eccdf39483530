//! The table of integer kernels, and which one a call takes.

use std::ops::Range;

use super::{decode, prefill};
use crate::kernels::cpu::acts::Acts;
use crate::kernels::cpu::avx2::{self, unpack};
use crate::kernels::cpu::types::{Out, Weight};
use crate::quant::BlockFormat;

type Run = unsafe fn(w: Weight, acts: &Acts, y: Out, rows: Range<usize>);

/// A format's kernels.
struct Kernels {
    format: BlockFormat,
    /// For 1, 2 and 3 tokens: in the blocks, 16 rows at a time.
    decode: [Run; 3],
    /// From 4 tokens on: through a panel.
    prefill: Run,
}

macro_rules! bytes {
    ($name:ident) => {
        Kernels {
            format: BlockFormat::$name,
            decode: [
                decode::bytes::<unpack::$name, 1>,
                decode::bytes::<unpack::$name, 2>,
                decode::bytes::<unpack::$name, 3>,
            ],
            prefill: prefill::prefill::<unpack::$name>,
        }
    };
}

/// All of [`PARTNERS`](crate::kernels::cpu::PARTNERS) with an integer partner.
static KERNELS: &[Kernels] = &[
    bytes!(Q4_0),
    bytes!(Q4_1),
    bytes!(Q5_0),
    bytes!(Q5_1),
    bytes!(Q4_K),
    bytes!(Q5_K),
    bytes!(Q6_K),
    Kernels {
        format: BlockFormat::Q8_0,
        decode: [
            avx2::decode::q8_0::<1>,
            avx2::decode::q8_0::<2>,
            avx2::decode::q8_0::<3>,
        ],
        prefill: prefill::prefill::<unpack::Q8_0>,
    },
];

/// # Safety
/// As [`Isa::matmul_int`](crate::kernels::cpu::isa::Isa::matmul_int).
pub(super) unsafe fn matmul_int(w: Weight, acts: &Acts, y: Out, rows: Range<usize>) {
    let kernels = KERNELS.iter().find(|k| k.format == w.format);
    let kernels = kernels.unwrap_or_else(|| panic!("{} has no integer kernel", w.format.name()));
    let run = kernels.decode.get(acts.m.wrapping_sub(1)).unwrap_or(&kernels.prefill);
    // SAFETY: the caller's promises are theirs.
    unsafe { run(w, acts, y, rows) }
}

//! The table of integer kernels, and which one a call takes.

use std::ops::Range;

use super::{decode, prefill, unpack};
use crate::kernels::cpu::acts::Acts;
use crate::kernels::cpu::types::{Out, Weight};
use crate::quant::BlockFormat;

type Run = unsafe fn(w: Weight, acts: &Acts, y: Out, rows: Range<usize>);

/// A format's kernels.
struct Kernels {
    format: BlockFormat,
    /// For 1, 2 and 3 tokens: in the blocks, 8 rows at a time.
    decode: [Run; 3],
    /// From 4 tokens on: through a panel. (A 4-bit format is compute bound from 3 tokens on. Taken over from
    /// prototypes on a Zen 3 core, not yet varied here.)
    prefill: Run,
}

macro_rules! blocks {
    ($name:ident) => {
        Kernels {
            format: BlockFormat::$name,
            decode: [
                decode::blocks::<unpack::$name, 1>,
                decode::blocks::<unpack::$name, 2>,
                decode::blocks::<unpack::$name, 3>,
            ],
            prefill: prefill::prefill::<unpack::$name>,
        }
    };
}

/// All of [`PARTNERS`](crate::kernels::cpu::PARTNERS) with an integer partner.
static KERNELS: &[Kernels] = &[
    blocks!(Q4_0),
    blocks!(Q4_1),
    blocks!(Q5_0),
    blocks!(Q5_1),
    Kernels {
        format: BlockFormat::Q8_0,
        decode: [decode::q8_0::<1>, decode::q8_0::<2>, decode::q8_0::<3>],
        prefill: prefill::prefill::<unpack::Q8_0>,
    },
    blocks!(Q2_K),
    blocks!(Q3_K),
    blocks!(Q4_K),
    blocks!(Q5_K),
    blocks!(Q6_K),
    blocks!(IQ4_NL),
    blocks!(IQ4_XS),
    blocks!(MXFP4),
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

/// The 8 rows from `row` on, where they lie, or, at the end of the matrix, copied to `spare` and filled up with zero blocks.
pub(in crate::kernels::cpu) fn eight_rows<'a>(w: &Weight<'a>, row: usize, spare: &'a mut Vec<u8>) -> &'a [u8] {
    let bytes = w.row_bytes();
    let data = &w.data[(row * bytes).min(w.data.len())..];
    if data.len() >= 8 * bytes {
        return &data[..8 * bytes];
    }
    spare.clear();
    spare.extend_from_slice(data);
    spare.resize(8 * bytes, 0);
    spare
}

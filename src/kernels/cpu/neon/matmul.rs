//! Which integer kernel a call takes.

use std::ops::Range;

use super::dot::Dot;
use super::unpack::{self, Unpack};
use super::{decode, prefill};
use crate::kernels::cpu::acts::Acts;
use crate::kernels::cpu::types::{Out, Weight};
use crate::quant::BlockFormat;

/// All of [`PARTNERS`](crate::kernels::cpu::PARTNERS) with an integer partner.
///
/// # Safety
/// As [`Isa::matmul_int`](crate::kernels::cpu::isa::Isa::matmul_int), on a CPU that has L.
pub(super) unsafe fn matmul_int<L: Dot>(w: Weight, acts: &Acts, y: Out, rows: Range<usize>) {
    // SAFETY: the caller's promises are theirs.
    unsafe {
        match w.format {
            BlockFormat::Q4_0 => blocks::<unpack::Q4_0, L>(w, acts, y, rows),
            BlockFormat::Q4_1 => blocks::<unpack::Q4_1, L>(w, acts, y, rows),
            BlockFormat::Q5_0 => blocks::<unpack::Q5_0, L>(w, acts, y, rows),
            BlockFormat::Q5_1 => blocks::<unpack::Q5_1, L>(w, acts, y, rows),
            BlockFormat::Q2_K => blocks::<unpack::Q2_K, L>(w, acts, y, rows),
            BlockFormat::Q3_K => blocks::<unpack::Q3_K, L>(w, acts, y, rows),
            BlockFormat::Q4_K => blocks::<unpack::Q4_K, L>(w, acts, y, rows),
            BlockFormat::Q5_K => blocks::<unpack::Q5_K, L>(w, acts, y, rows),
            BlockFormat::Q6_K => blocks::<unpack::Q6_K, L>(w, acts, y, rows),
            BlockFormat::IQ4_NL => blocks::<unpack::IQ4_NL, L>(w, acts, y, rows),
            BlockFormat::IQ4_XS => blocks::<unpack::IQ4_XS, L>(w, acts, y, rows),
            BlockFormat::MXFP4 => blocks::<unpack::MXFP4, L>(w, acts, y, rows),
            BlockFormat::Q8_0 => match acts.m {
                1 => decode::q8_0::<1>(w, acts, y, rows),
                2 => decode::q8_0::<2>(w, acts, y, rows),
                3 => decode::q8_0::<3>(w, acts, y, rows),
                _ => prefill::prefill::<unpack::Q8_0, L>(w, acts, y, rows),
            },
            format => panic!("{} has no integer kernel", format.name()),
        }
    }
}

/// For 1, 2 and 3 tokens in the blocks, 8 rows at a time; from 4 tokens on (when activations come in tiles) through a panel.
///
/// # Safety
/// As [`matmul_int`], with F's format.
unsafe fn blocks<F: Unpack, L: Dot>(w: Weight, acts: &Acts, y: Out, rows: Range<usize>) {
    // SAFETY: the caller's promises are theirs.
    unsafe {
        match acts.m {
            1 => decode::blocks::<F, L, 1>(w, acts, y, rows),
            2 => decode::blocks::<F, L, 2>(w, acts, y, rows),
            3 => decode::blocks::<F, L, 3>(w, acts, y, rows),
            _ => prefill::prefill::<F, L>(w, acts, y, rows),
        }
    }
}

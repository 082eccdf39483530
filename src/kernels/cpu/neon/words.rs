//! Gradients and weights in words: see [`crate::kernels::cpu::words`].

use std::arch::aarch64::*;

use crate::kernels::cpu::isa::Words;
pub(super) use crate::kernels::cpu::scalar::{word_panels, word_rows};
use crate::kernels::cpu::words::{self, COLUMNS, SPAN};

/// Rows of a tile: 6 x 4 sums, 2 vectors of the panel and pairs of gradients of the 32 registers.
const ROWS: usize = 6;

#[target_feature(enable = "neon")]
pub(super) fn pack_words(x: &[f32], code: f32, out: &mut [i16]) -> f32 {
    let (eights, rest) = x.as_chunks::<8>();
    assert!(rest.is_empty() && out.len() >= x.len(), "pack_words: lengths");
    // SAFETY: numbers i to i + 4 of 8.
    let load = |x: &[f32; 8], i: usize| unsafe { vld1q_f32(x[i..][..4].as_ptr()) };
    let (mut most, mut sum) = ([vdupq_n_f32(0.0); 2], vdupq_n_f32(0.0));
    for x in eights {
        for (i, most) in most.iter_mut().enumerate() {
            let x = load(x, 4 * i);
            *most = vmaxnmq_f32(*most, vabsq_f32(x));
            // 0, or NaN from something that is no number.
            sum = vfmaq_n_f32(sum, x, 0.0);
        }
    }
    let most = vmaxnmvq_f32(vmaxnmq_f32(most[0], most[1]));
    let (steps, scale) = words::steps(most, code, !vaddvq_f32(sum).is_nan());
    for (x, out) in eights.iter().zip(out.as_chunks_mut::<8>().0) {
        let code = |i: usize| vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(load(x, i), steps)));
        // SAFETY: 8 words.
        unsafe { vst1q_s16(out.as_mut_ptr(), vcombine_s16(code(0), code(4))) };
    }
    scale
}

/// # Safety
/// As [`Isa::word_products`](crate::kernels::cpu::isa::Isa::word_products).
#[target_feature(enable = "neon")]
pub(super) unsafe fn word_products(p: Words) {
    let depth = p.depth();
    let mut row = 0;
    while row < p.x_scales.len() {
        // SAFETY: the caller's promise.
        row += unsafe {
            match p.x_scales.len() - row {
                ROWS.. => tile::<ROWS>(&p, depth, row),
                3.. => tile::<3>(&p, depth, row),
                _ => tile::<1>(&p, depth, row),
            }
        };
    }
}

/// Rows `row .. row + T`. Returns T.
///
/// # Safety
/// As [`word_products`], which has checked `p`; the rows exist.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn tile<const T: usize>(p: &Words, depth: usize, row: usize) -> usize {
    let x = p.x[row * SPAN..][..T * SPAN].as_ptr();
    for column in (0..COLUMNS).step_by(16) {
        let mut sums = [[vdupq_n_s32(0); 4]; T];
        // SAFETY: `depth` rows of the panel and T of x.
        unsafe {
            let mut panel = p.panel.as_ptr().add(2 * column);
            for c in (0..depth).step_by(2) {
                // Two rows of 16 columns.
                let (left, right) = (vld2q_s16(panel), vld2q_s16(panel.add(16)));
                for (t, sums) in sums.iter_mut().enumerate() {
                    let x = x.add(t * SPAN + c).cast::<i32>().read_unaligned();
                    let x = vreinterpret_s16_s32(vdup_n_s32(x));
                    for (i, codes) in [left, right].into_iter().enumerate() {
                        let (low, high) = (&mut sums[2 * i], vget_low_s16(codes.0));
                        *low = vmlal_lane_s16::<1>(vmlal_lane_s16::<0>(*low, high, x), vget_low_s16(codes.1), x);
                        let sum = &mut sums[2 * i + 1];
                        *sum = vmlal_high_lane_s16::<1>(vmlal_high_lane_s16::<0>(*sum, codes.0, x), codes.1, x);
                    }
                }
                panel = panel.add(2 * COLUMNS);
            }
        }
        for (t, sums) in sums.iter().enumerate() {
            let x_scale = p.x_scales[row + t];
            // SAFETY: these columns are ours; a panel has 32 scales.
            unsafe {
                let y = p.y.at(row + t, p.column + column, 16).as_mut_ptr();
                for (v, sum) in sums.iter().enumerate() {
                    let scale = vmulq_n_f32(vld1q_f32(p.scales.as_ptr().add(column + 4 * v)), x_scale);
                    let y = y.add(4 * v);
                    let old = if p.add { vld1q_f32(y) } else { vdupq_n_f32(0.0) };
                    vst1q_f32(y, vfmaq_f32(old, vcvtq_f32_s32(*sum), scale));
                }
            }
        }
    }
    T
}

//! Activation quantisation, bit for bit as the scalar level: the same roundings of the same products.

use std::arch::aarch64::*;
use std::array::from_fn;

use crate::kernels::cpu::acts::{BLOCK, I8_LINES, I16_LINES, OUTLIERS, OUTLYING, Outlier, TINY};

/// A block in vectors.
#[inline]
#[target_feature(enable = "neon")]
fn block(x: &[f32; BLOCK]) -> [float32x4_t; 8] {
    // SAFETY: 32 elements.
    from_fn(|i| unsafe { vld1q_f32(x.as_ptr().add(4 * i)) })
}

/// The largest magnitude; as integers, in which order a NaN is the largest.
#[inline]
#[target_feature(enable = "neon")]
fn largest(v: [float32x4_t; 8]) -> f32 {
    let bits = v.map(|v| vreinterpretq_u32_f32(vabsq_f32(v)));
    f32::from_bits(vmaxvq_u32(
        bits.into_iter().fold(vdupq_n_u32(0), |m, v| vmaxq_u32(m, v)),
    ))
}

/// A bit for each element of the block whose magnitude is larger than `limit`.
#[inline]
#[target_feature(enable = "neon")]
fn above(v: [float32x4_t; 8], limit: f32) -> u32 {
    // SAFETY: 4 elements.
    let mut bit = unsafe { vld1q_u32([1, 2, 4, 8].as_ptr()) };
    let mut bits = vdupq_n_u32(0);
    for v in v {
        bits = vorrq_u32(bits, vandq_u32(vcagtq_f32(v, vdupq_n_f32(limit)), bit));
        bit = vshlq_n_u32::<4>(bit);
    }
    vaddvq_u32(bits)
}

/// 32 integers in vectors of i16, in order, and their scale; `amax` is the largest magnitude.
#[inline]
#[target_feature(enable = "neon")]
fn quantize(v: [float32x4_t; 8], amax: f32, top: f32) -> ([int16x8_t; 4], f32) {
    if !amax.is_finite() {
        return ([vdupq_n_s16(0); 4], f32::NAN);
    }
    if amax < TINY {
        return ([vdupq_n_s16(0); 4], 0.0);
    }
    let inverse = top / amax;
    let q = v.map(|v| vcvtnq_s32_f32(vmulq_n_f32(v, inverse)));
    (
        from_fn(|i| vmovn_high_s32(vmovn_s32(q[2 * i]), q[2 * i + 1])),
        amax / top,
    )
}

#[target_feature(enable = "neon")]
pub(super) fn pack_i8(x: &[f32], k: usize, tile: usize, out: &mut [u32], outliers: &mut [Outlier]) -> usize {
    if x.len() < tile * k {
        out.fill(0);
    }
    let (mut found, take_out) = (0, !outliers.is_empty());
    for (t, row) in x.chunks_exact(k).enumerate() {
        let blocks = row.as_chunks::<BLOCK>().0;
        for (b, (x, record)) in blocks.iter().zip(out.chunks_exact_mut(I8_LINES * tile)).enumerate() {
            let mut v = block(x);
            let mut amax = largest(v);
            // Of a block with a NaN nothing is larger; of one with an infinity neither.
            let mut large = above(v, OUTLYING * amax);
            if take_out && (1..=OUTLIERS as u32).contains(&large.count_ones()) {
                let mut rest = *x;
                while large != 0 {
                    let i = large.trailing_zeros() as usize;
                    outliers[found] = Outlier {
                        at: (b * BLOCK + i) as u32,
                        token: t as u32,
                        x: rest[i],
                    };
                    rest[i] = 0.0;
                    found += 1;
                    large &= large - 1;
                }
                v = block(&rest);
                amax = largest(v);
            }
            let (q, d) = quantize(v, amax, 127.0);
            let mut all = [0u32; I8_LINES];
            let mut sum = 0;
            for half in 0..2 {
                let codes = vmovn_high_s16(vmovn_s16(q[2 * half]), q[2 * half + 1]);
                // SAFETY: words 4 * half .. 4 * half + 4.
                unsafe { vst1q_s8(all.as_mut_ptr().add(4 * half).cast(), codes) };
                // Sums of elements 0,1 and 2,3 of each word, then of the four words.
                let pairs = vpaddlq_s8(codes);
                let pairs = vadd_s16(vget_low_s16(pairs), vget_high_s16(pairs));
                let pairs = vadd_s16(pairs, vext_s16::<2>(pairs, pairs));
                sum += i32::from(vget_lane_s16::<0>(pairs)) + i32::from(vget_lane_s16::<1>(pairs));
                all[8 + half] = vget_lane_u32::<0>(vreinterpret_u32_s16(pairs));
            }
            all[10] = d.to_bits();
            all[11] = (d * sum as f32).to_bits();
            for (line, word) in record.chunks_exact_mut(tile).zip(all) {
                line[t] = word;
            }
        }
    }
    found
}

#[target_feature(enable = "neon")]
pub(super) fn pack_i16(x: &[f32], k: usize, tile: usize, out: &mut [u32]) {
    if x.len() < tile * k {
        out.fill(0);
    }
    for (t, row) in x.chunks_exact(k).enumerate() {
        let blocks = row.as_chunks::<BLOCK>().0;
        for (x, record) in blocks.iter().zip(out.chunks_exact_mut(I16_LINES * tile)) {
            let v = block(x);
            let (q, d) = quantize(v, largest(v), 32767.0);
            let mut all = [0u32; I16_LINES];
            for half in 0..2 {
                let (even, odd) = (
                    vuzp1q_s16(q[2 * half], q[2 * half + 1]),
                    vuzp2q_s16(q[2 * half], q[2 * half + 1]),
                );
                // SAFETY: words 4 * half .. 4 * half + 4, and 8 later.
                unsafe {
                    vst1q_s16(all.as_mut_ptr().add(4 * half).cast(), even);
                    vst1q_s16(all.as_mut_ptr().add(8 + 4 * half).cast(), odd);
                }
            }
            all[16] = d.to_bits();
            for (line, word) in record.chunks_exact_mut(tile).zip(all) {
                line[t] = word;
            }
        }
    }
}

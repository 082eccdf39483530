//! A few tokens: weights are read once, in their blocks, 8 rows at a time.
//!
//! Memory is the limit, so the next 8 rows are fetched ahead while these are multiplied. Bounds: see [`dot`](super::dot).

use std::arch::aarch64::*;
use std::array::from_fn;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::dot::{self, Dot, Rows};
use super::lanes::{high_bytes, low_bytes, prefetch, store};
use super::unpack::{self, LINE, SCALES, TOTALS, Unpack, column};
use crate::kernels::cpu::acts::{Acts, BLOCK, I8_LINES, I16_LINES, Outlier};
use crate::kernels::cpu::types::{Out, Weight};

/// Fetches `bytes` at `p + ahead`, which may reach past the end.
#[inline]
#[target_feature(enable = "neon")]
fn fetch(p: *const u8, ahead: usize, bytes: usize) {
    for line in 0..bytes.div_ceil(64) {
        prefetch(p.wrapping_add(ahead + 64 * line));
    }
}

/// T tokens, in one tile each.
///
/// # Safety
/// As [`Isa::matmul_int`](crate::kernels::cpu::isa::Isa::matmul_int) on a CPU that has L, with `acts.m == T` and F's format.
#[target_feature(enable = "neon")]
pub(super) unsafe fn blocks<F: Unpack, L: Dot, const T: usize>(w: Weight, acts: &Acts, y: Out, rows: Range<usize>) {
    let stride = w.row_bytes();
    let blocks = stride / F::BYTES;
    let record = if F::WIDE { I16_LINES } else { I8_LINES };
    let (x, outliers): ([&[u32]; T], [&[Outlier]; T]) = if F::WIDE {
        (from_fn(|t| acts.i16_tile(t)), [&[]; T])
    } else {
        (from_fn(|t| acts.i8_tile(t)), from_fn(|t| acts.tile_outliers(t)))
    };
    assert!(x.iter().all(|x| x.len() == blocks * F::GROUPS * record));
    let ahead = (8 * stride).next_multiple_of(4096);
    let mut spare = Vec::new();
    // Room for the largest: 8 groups of 12 lines.
    let mut strip = MaybeUninit::<[[int8x16_t; 2]; 8 * 12]>::uninit();
    let strip = strip.as_mut_ptr().cast::<u8>();
    const { assert!(F::GROUPS * F::LINES <= 8 * 12) };
    for row in rows.clone().step_by(8) {
        let data = w.rows_or_zeros::<8>(row, &mut spare).as_ptr();
        let mut f = [[vdupq_n_f32(0.0); 2]; T];
        let mut outliers = outliers;
        for b in 0..blocks {
            fetch(data.wrapping_add(8 * b * F::BYTES), ahead, 8 * F::BYTES);
            // SAFETY: block b of the 8 rows is in `data`; the strip has room, as just asserted.
            unsafe { unpack::eight::<F>(data.add(b * F::BYTES), stride, strip) };
            for g in 0..F::GROUPS {
                // SAFETY: the groups that were just written.
                let group = unsafe { strip.add(g * F::LINES * LINE).cast_const() };
                for t in 0..T {
                    // SAFETY: lengths asserted above.
                    f[t] = unsafe {
                        let record = x[t].as_ptr().add((b * F::GROUPS + g) * record);
                        if F::WIDE {
                            words::<L>(group, record, f[t])
                        } else {
                            bytes::<F, L>(group, record, f[t])
                        }
                    };
                    // In the order of their columns.
                    while let Some((o, rest)) = outliers[t].split_first()
                        && o.at as usize / BLOCK == b * F::GROUPS + g
                    {
                        let at = o.at as usize % BLOCK;
                        // SAFETY: the group that was just written.
                        f[t] = unsafe { column::<F>(group, dot::line(group, at / 4), at, o.x, f[t]) };
                        outliers[t] = rest;
                    }
                }
            }
        }
        for (t, f) in f.into_iter().enumerate() {
            // SAFETY: these columns are ours.
            let out = unsafe { y.at(t, row, 8.min(rows.end - row)) };
            out.chunks_mut(4).zip(f).for_each(|(out, f)| store(out, f));
        }
    }
}

/// f + (8 rows of one group) . (one record of int8 activations).
///
/// # Safety
/// The group and the record are readable; the CPU has L.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn bytes<F: Unpack, L: Dot>(group: *const u8, record: *const u32, mut f: [float32x4_t; 2]) -> [float32x4_t; 2] {
    // SAFETY: the caller's promise, for all of these.
    let (line, real) = unsafe {
        (
            |l: usize, h: usize| vld1q_f32(group.add(l * LINE + 16 * h).cast()),
            |i: usize| f32::from_bits(record.add(i).read()),
        )
    };
    let mut add = |half: usize, sums: Rows| {
        for (h, (f, sum)) in f.iter_mut().zip(sums).enumerate() {
            *f = vfmaq_f32(*f, vcvtq_f32_s32(sum), vmulq_n_f32(line(SCALES + half, h), real(10)));
        }
    };
    // SAFETY: the caller's promise.
    unsafe {
        if F::HALVES == 1 {
            add(0, L::token::<8, false>(group, record));
        } else {
            add(0, L::token::<4, false>(group, record));
            add(1, L::token::<4, false>(group.add(4 * LINE), record.add(4)));
        }
    }
    if F::MIN {
        for half in 0..F::HALVES {
            let x = if F::HALVES == 1 {
                real(11)
            } else {
                // SAFETY: the caller's promise.
                let pair = unsafe { record.add(8 + half).read() };
                (i32::from(pair as i16) + (pair as i32 >> 16)) as f32 * real(10)
            };
            for (h, f) in f.iter_mut().enumerate() {
                *f = vfmaq_n_f32(*f, line(F::MINS + half, h), x);
            }
        }
    }
    f
}

/// f + (8 rows of one group of a WIDE format) . (one record of int16 activations), in two parts as in [`prefill`](super::prefill).
///
/// # Safety
/// The group and the record are readable; the CPU has L.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn words<L: Dot>(group: *const u8, record: *const u32, f: [float32x4_t; 2]) -> [float32x4_t; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let words = |i: usize| vld1q_s8(record.add(4 * i).cast());
        let (high, low) = (
            from_fn::<_, 2, _>(|i| high_bytes(words(i), words(2 + i))),
            from_fn::<_, 2, _>(|i| low_bytes(words(i), words(2 + i))),
        );
        let high = L::token::<8, true>(group, high.as_ptr().cast());
        let low = L::token::<8, true>(group, low.as_ptr().cast());
        let d = f32::from_bits(record.add(16).read());
        from_fn(|h| {
            let total = vld1q_s32(group.add(TOTALS * LINE + 16 * h).cast());
            let sum = vaddq_s32(vaddq_s32(vshlq_n_s32::<8>(high[h]), low[h]), total);
            let scale = vld1q_f32(group.add(SCALES * LINE + 16 * h).cast());
            vfmaq_f32(f[h], vcvtq_f32_s32(sum), vmulq_n_f32(scale, d))
        })
    }
}

/// Q8_0 with int16 activations: lanes are columns, two rows at a time (two chains, one load of the activations for both). A lane
/// adds 8 products: 8 * 128 * 32767 = 34M < 2^31.
///
/// # Safety
/// As [`bytes`], with Q8_0.
#[target_feature(enable = "neon")]
pub(super) unsafe fn q8_0<const T: usize>(w: Weight, acts: &Acts, y: Out, rows: Range<usize>) {
    const BYTES: usize = 34;
    const AHEAD: usize = 8192;
    let blocks = w.cols / BLOCK;
    let x: [&[u32]; T] = from_fn(|t| acts.i16_tile(t));
    assert!(x.iter().all(|x| x.len() == blocks * I16_LINES));
    for row in rows.clone().step_by(2) {
        // An odd last row is done twice.
        let pair = [w.row(row), w.row((row + 1).min(rows.end - 1))];
        let mut f = [[vdupq_n_f32(0.0); 2]; T];
        for b in 0..blocks {
            fetch(pair[0].as_ptr().wrapping_add(2 * b * BYTES), AHEAD, 2 * BYTES);
            for (r, data) in pair.iter().enumerate() {
                // SAFETY: block b is in the row: 2 bytes of scale, 32 codes.
                let (codes, d) = unsafe {
                    let p = data.as_ptr().add(b * BYTES);
                    (
                        [vld1q_s16(p.add(2).cast()), vld1q_s16(p.add(18).cast())],
                        half::f16::from_bits(p.cast::<u16>().read_unaligned()).to_f32(),
                    )
                };
                for t in 0..T {
                    let mut sum = vdupq_n_s32(0);
                    // SAFETY: lengths asserted above.
                    let scale = unsafe {
                        let record = x[t].as_ptr().add(b * I16_LINES);
                        for (i, codes) in codes.into_iter().enumerate() {
                            let even = vshrq_n_s16::<8>(vshlq_n_s16::<8>(codes));
                            let odd = vshrq_n_s16::<8>(codes);
                            for (codes, at) in [(even, 4 * i), (odd, 8 + 4 * i)] {
                                let x = vld1q_s16(record.add(at).cast());
                                sum = vmlal_s16(sum, vget_low_s16(codes), vget_low_s16(x));
                                sum = vmlal_high_s16(sum, codes, x);
                            }
                        }
                        d * f32::from_bits(record.add(16).read())
                    };
                    f[t][r] = vfmaq_n_f32(f[t][r], vcvtq_f32_s32(sum), scale);
                }
            }
        }
        for (t, f) in f.into_iter().enumerate() {
            // SAFETY: these columns are ours.
            let out = unsafe { y.at(t, row, 2.min(rows.end - row)) };
            for (out, f) in out.iter_mut().zip(f) {
                *out = vaddvq_f32(f);
            }
        }
    }
}

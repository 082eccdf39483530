//! Many tokens: 8 weight rows are unpacked to a panel in cache, which meets 4 tokens at a time.
//!
//! Per 32 columns the products of bytes are added up in i32 ([`dot`](super::dot)), converted and multiplied by both scales.
//!
//! **Codes of 8 bits** (WIDE) meet int16 activations, in two parts: a = 256 h + l + 128 with h and l signed bytes, so
//! sum(w a) = 256 sum(w h) + sum(w l) + 128 sum(w), whose last term the panel has. Bounds: 32 * 128 * 32768 = 134M < 2^31 for each term.

use std::arch::aarch64::*;
use std::array::from_fn;
use std::ops::Range;

use super::dot::{Dot, Rows};
use super::lanes::{high_bytes, load, low_bytes, store};
use super::unpack::{self, LINE, SCALES, TOTALS, Unpack, column};
use crate::kernels::cpu::acts::{Acts, BLOCK, I8_LINES, I16_LINES, Outlier, TILE};
use crate::kernels::cpu::scratch;
use crate::kernels::cpu::types::{Out, Weight};

/// Bytes of a panel: about the first-level cache.
const PANEL: usize = 32 << 10;
/// Bytes of activations that are used again by each panel: half of a second-level cache of 512 KB. Not varied on an arm64
/// machine yet.
const ACTS: usize = 256 << 10;

/// Sums of 8 rows for each of 4 tokens.
type Sums = [[float32x4_t; 2]; TILE];

/// # Safety
/// As [`Isa::matmul_int`](crate::kernels::cpu::isa::Isa::matmul_int) on a CPU that has L, with m >= 4 and F's format.
#[target_feature(enable = "neon")]
pub(super) unsafe fn prefill<F: Unpack, L: Dot>(w: Weight, acts: &Acts, y: Out, rows: Range<usize>) {
    let stride = w.row_bytes();
    let groups = w.cols / BLOCK;
    let group_bytes = F::LINES * LINE;
    let record = TILE * if F::WIDE { I16_LINES } else { I8_LINES };
    assert_eq!(acts.tile(), TILE);
    // Groups in a panel, whole blocks; tiles of tokens that stay in cache meanwhile.
    let chunk = (PANEL / group_bytes / F::GROUPS * F::GROUPS).min(groups);
    let tiles = acts.m.div_ceil(TILE);
    let together = (ACTS / (groups * record * 4)).clamp(4, tiles.max(4));
    let mut spare = Vec::new();
    scratch::with_f32(chunk * group_bytes / 4, |panel| {
        let panel = panel.as_mut_ptr().cast::<u8>();
        for first in (0..tiles).step_by(together) {
            for row in rows.clone().step_by(8) {
                let data = w.rows_or_zeros::<8>(row, &mut spare);
                for start in (0..groups).step_by(chunk) {
                    let count = chunk.min(groups - start);
                    for b in (0..count).step_by(F::GROUPS) {
                        // SAFETY: blocks of the rows; the panel has room for `chunk` groups.
                        unsafe {
                            let block = panel.add(b * group_bytes);
                            let p = data.as_ptr().add((start + b) / F::GROUPS * F::BYTES);
                            unpack::eight::<F>(p, stride, block);
                            for g in 0..F::GROUPS {
                                L::arrange(block.add(g * group_bytes));
                            }
                        }
                    }
                    for tile in first..(first + together).min(tiles) {
                        let x = if F::WIDE {
                            acts.i16_tile(tile)
                        } else {
                            acts.i8_tile(tile)
                        };
                        let x = x[start * record..][..count * record].as_ptr();
                        let mut sums: Sums = [[vdupq_n_f32(0.0); 2]; TILE];
                        // SAFETY: `count` groups of the panel and as many records; the columns of y are ours.
                        unsafe {
                            if F::WIDE {
                                words::<F, L>(panel, x, count, &mut sums);
                            } else {
                                bytes::<F, L>(panel, x, count, &mut sums);
                                lone::<F, L>(panel, acts.tile_outliers(tile), start..start + count, &mut sums);
                            }
                            put(y, tile * TILE, row, rows.end.min(row + 8) - row, start > 0, &sums);
                        }
                    }
                }
            }
        }
    });
}

/// Stores (or adds, for later chunks of columns) the sums that exist.
///
/// # Safety
/// Columns `row..row + n` of `y` are ours.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn put(y: Out, token: usize, row: usize, n: usize, add: bool, sums: &Sums) {
    for (t, sums) in sums.iter().enumerate().take(y.m() - token) {
        // SAFETY: the caller's promise.
        let out = unsafe { y.at(token + t, row, n) };
        for (out, sum) in out.chunks_mut(4).zip(sums) {
            let sum = if add { vaddq_f32(load(out), *sum) } else { *sum };
            store(out, sum);
        }
    }
}

/// Two vectors of a line of 8 f32.
///
/// # Safety
/// Readable.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn reals(line: *const u8) -> [float32x4_t; 2] {
    // SAFETY: the caller's promise.
    from_fn(|h| unsafe { vld1q_f32(line.add(16 * h).cast()) })
}

/// sums[t] += rows * lane t of `x`.
#[inline]
#[target_feature(enable = "neon")]
fn outer(sums: &mut Sums, rows: [float32x4_t; 2], x: float32x4_t) {
    for (h, rows) in rows.into_iter().enumerate() {
        sums[0][h] = vfmaq_laneq_f32::<0>(sums[0][h], rows, x);
        sums[1][h] = vfmaq_laneq_f32::<1>(sums[1][h], rows, x);
        sums[2][h] = vfmaq_laneq_f32::<2>(sums[2][h], rows, x);
        sums[3][h] = vfmaq_laneq_f32::<3>(sums[3][h], rows, x);
    }
}

/// sums += products * (scales of the rows x scales of the tokens).
#[inline]
#[target_feature(enable = "neon")]
fn scaled(sums: &mut Sums, products: [Rows; TILE], rows: [float32x4_t; 2], tokens: float32x4_t) {
    for (h, rows) in rows.into_iter().enumerate() {
        let scales = [
            vmulq_laneq_f32::<0>(rows, tokens),
            vmulq_laneq_f32::<1>(rows, tokens),
            vmulq_laneq_f32::<2>(rows, tokens),
            vmulq_laneq_f32::<3>(rows, tokens),
        ];
        for (t, scale) in scales.into_iter().enumerate() {
            sums[t][h] = vfmaq_f32(sums[t][h], vcvtq_f32_s32(products[t][h]), scale);
        }
    }
}

/// The byte kernel: sums += panel . records, `groups` of each.
///
/// # Safety
/// They are readable; the CPU has L.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn bytes<F: Unpack, L: Dot>(panel: *const u8, x: *const u32, groups: usize, sums: &mut Sums) {
    let mut f = *sums;
    for g in 0..groups {
        // SAFETY: the caller's promise: groups and records up to `groups` are readable.
        unsafe {
            let (group, record) = (panel.add(g * F::LINES * LINE), x.add(g * I8_LINES * TILE));
            let codes = |line: usize| vld1q_s8(record.add(line * TILE).cast());
            let real = |line: usize| vld1q_f32(record.add(line * TILE).cast());
            if F::HALVES == 1 {
                let products = L::tile::<8, false>(group, from_fn(codes));
                scaled(&mut f, products, reals(group.add(SCALES * LINE)), real(10));
            } else {
                for h in 0..2 {
                    let products = L::tile::<4, false>(group.add(4 * h * LINE), from_fn(|i| codes(4 * h + i)));
                    scaled(&mut f, products, reals(group.add((SCALES + h) * LINE)), real(10));
                }
            }
            if F::MIN && F::HALVES == 1 {
                outer(&mut f, reals(group.add(F::MINS * LINE)), real(11));
            } else if F::MIN {
                for h in 0..2 {
                    let sum = vpaddlq_s16(vreinterpretq_s16_s8(codes(8 + h)));
                    let x = vmulq_f32(vcvtq_f32_s32(sum), real(10));
                    outer(&mut f, reals(group.add((F::MINS + h) * LINE)), x);
                }
            }
        }
    }
    *sums = f;
}

/// sums += the panel's columns times the outliers among the groups `groups`, which the panel holds.
///
/// # Safety
/// It does; the CPU has L.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn lone<F: Unpack, L: Dot>(panel: *const u8, outliers: &[Outlier], groups: Range<usize>, sums: &mut Sums) {
    for o in outliers {
        let (group, at) = (o.at as usize / BLOCK, o.at as usize % BLOCK);
        if groups.contains(&group) {
            let sums = &mut sums[o.token as usize];
            // SAFETY: the caller's promise.
            *sums = unsafe {
                let group = panel.add((group - groups.start) * F::LINES * LINE);
                column::<F>(group, L::line(group, at / 4), at, o.x, *sums)
            };
        }
    }
}

/// The word kernel.
///
/// # Safety
/// As [`bytes`].
#[inline]
#[target_feature(enable = "neon")]
unsafe fn words<F: Unpack, L: Dot>(panel: *const u8, x: *const u32, groups: usize, sums: &mut Sums) {
    let mut f = *sums;
    for g in 0..groups {
        // SAFETY: the caller's promise: groups and records up to `groups` are readable.
        unsafe {
            let (group, record) = (panel.add(g * F::LINES * LINE), x.add(g * I16_LINES * TILE));
            let words = |line: usize| vld1q_s8(record.add(line * TILE).cast());
            let high = L::tile::<8, true>(group, from_fn(|i| high_bytes(words(i), words(8 + i))));
            let low = L::tile::<8, true>(group, from_fn(|i| low_bytes(words(i), words(8 + i))));
            let rest: Rows = from_fn(|h| vld1q_s32(group.add(TOTALS * LINE + 16 * h).cast()));
            let products =
                from_fn(|t| from_fn(|h| vaddq_s32(vaddq_s32(vshlq_n_s32::<8>(high[t][h]), low[t][h]), rest[h])));
            scaled(
                &mut f,
                products,
                reals(group.add(SCALES * LINE)),
                vld1q_f32(record.add(16 * TILE).cast()),
            );
        }
    }
    *sums = f;
}

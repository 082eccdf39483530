//! Many tokens: 16 weight rows are unpacked to a panel in cache, which meets 4 tokens at a time.
//!
//! **Delayed widening.** Per 32 columns the byte kernel adds eight `maddubs` results (u8 code x s8 activation, two products to
//! an i16 lane) in i16 and widens once: 8 x (`maddubs`, `paddw`) + 1 `madd`, half again as fast as widening each time.
//!
//! **Modular bias.** Formats with a zero point z want sum (q - z) a. A lane starts at -z * (sum of the a's that fall into it), which
//! costs nothing per element; `paddw` wraps modulo 2^16, so only the *final* lane value must fit, and no single `maddubs` may
//! saturate. With |a| <= 127 (the packer never makes -128) and 16 products a lane (8 with HALVES = 2):
//!
//! | format           | codes | z  | pair of products <= 32767 | final lane value <= 32767 |
//! |------------------|-------|----|---------------------------|---------------------------|
//! | Q4_0             | 0..15 | 8  | 2*15*127 = 3810           | 16*8*127 = 16256          |
//! | Q4_1, Q4_K       | 0..15 | 0  | 3810                      | 16*15*127 = 30480         |
//! | Q5_0, Q5_1, Q5_K | 0..31 | 16 | 2*31*127 = 7874           | 16*16*127 = 32512         |
//! | Q6_K, by halves  | 0..63 | 32 | 2*63*127 = 16002          | 8*32*127 = 32512          |
//! | Q2_K, by halves  | 0..3  | 0  | 2*3*127 = 762             | 8*3*127 = 3048            |
//! | Q3_K, by halves  | 0..7  | 4  | 2*7*127 = 1778            | 8*4*127 = 4064            |
//! | MXFP4            | 0..24 | 12 | 2*24*127 = 6096           | 16*12*127 = 24384         |
//!
//! The word kernel (Q8_0, IQ4_NL, IQ4_XS) adds 16 `madd` results, two products each, in i32: 32 * 128 * 32767 = 134M < 2^31.
//!
//! **The loop over lines stays a loop.** Unrolled, LLVM moves all loads up and spills the accumulators, which halves the speed;
//! so the trip count goes through `black_box` once a call.

use std::arch::x86_64::*;
use std::hint::black_box;
use std::ops::Range;

use super::decode::{Dot, Maddubs};
use super::unpack::{LINE, Unpack, column};
use crate::kernels::cpu::acts::{Acts, BLOCK, I8_LINES, I16_LINES, Outlier, TILE};
use crate::kernels::cpu::scratch;
use crate::kernels::cpu::types::{Out, Weight};

/// Strips of 8 rows in a panel.
const R: usize = 2;
/// Bytes of a panel: about the first-level cache.
const PANEL: usize = 32 << 10;
/// Bytes of activations that are used again by each panel: half of a second-level cache of 512 KB.
const ACTS: usize = 256 << 10;

/// Sums of 8 rows x R for each of 4 tokens.
type Sums = [[__m256; R]; TILE];

/// # Safety
/// As [`Isa::matmul_int`](crate::kernels::cpu::isa::Isa::matmul_int), with m >= 4 and F's format.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn prefill<F: Unpack>(w: Weight, acts: &Acts, y: Out, rows: Range<usize>) {
    // SAFETY: the caller's promise.
    scratch::with_f32(panel_len::<F>(&w), |panel| unsafe {
        panels::<F, Maddubs>(w, acts, y, rows, panel)
    });
}

/// Bytes of a panel of 32 columns.
const fn group_bytes<F: Unpack>() -> usize {
    F::LINES * R * LINE
}

/// Groups of 32 columns in a panel, whole blocks.
fn panel_groups<F: Unpack>(w: &Weight) -> usize {
    (PANEL / group_bytes::<F>() / F::GROUPS * F::GROUPS).min(w.cols / BLOCK)
}

/// Floats that [`panels`] needs.
pub(in crate::kernels::cpu) fn panel_len<F: Unpack>(w: &Weight) -> usize {
    panel_groups::<F>(w) * group_bytes::<F>() / 4
}

/// [`prefill`] with D's arithmetic and room for a panel.
///
/// # Safety
/// As `prefill`, and what [`Dot`] asks for.
#[inline(always)]
pub(in crate::kernels::cpu) unsafe fn panels<F: Unpack, D: Dot>(
    w: Weight,
    acts: &Acts,
    y: Out,
    rows: Range<usize>,
    panel: &mut [f32],
) {
    let stride = w.row_bytes();
    let groups = w.cols / BLOCK;
    let record = TILE * if F::WORDS { I16_LINES } else { I8_LINES };
    let chunk = panel_groups::<F>(&w);
    assert!(acts.tile() == TILE && panel.len() >= panel_len::<F>(&w));
    // Tiles of tokens that stay in cache meanwhile.
    let tiles = acts.m.div_ceil(TILE);
    let together = (ACTS / (groups * record * 4)).clamp(4, tiles.max(4));
    let (mut spare, mut spare2) = (Vec::new(), Vec::new());
    let panel = panel.as_mut_ptr().cast::<u8>();
    for first in (0..tiles).step_by(together) {
        for row in rows.clone().step_by(8 * R) {
            let strips = [
                w.rows_or_zeros::<8>(row, &mut spare),
                w.rows_or_zeros::<8>(row + 8, &mut spare2),
            ];
            for start in (0..groups).step_by(chunk) {
                let count = chunk.min(groups - start);
                for (r, strip) in strips.iter().enumerate() {
                    for b in (0..count).step_by(F::GROUPS) {
                        // SAFETY: blocks of the row; the panel has room for `chunk` groups of R strips.
                        unsafe {
                            let p = strip.as_ptr().add((start + b) / F::GROUPS * F::BYTES);
                            F::unpack::<__m256i, R>(p, stride, panel.add(b * group_bytes::<F>() + r * LINE));
                        }
                    }
                }
                for tile in first..(first + together).min(tiles) {
                    let x = if F::WORDS {
                        acts.i16_tile(tile)
                    } else {
                        acts.i8_tile(tile)
                    };
                    let x = x[start * record..][..count * record].as_ptr();
                    // SAFETY: `count` groups of the panel and as many records; the columns of y are ours.
                    unsafe {
                        let mut sums: Sums = [[_mm256_setzero_ps(); R]; TILE];
                        if F::WORDS {
                            words::<F, D>(panel, x, count, &mut sums);
                        } else {
                            bytes::<F, D>(panel, x, count, &mut sums);
                            lone::<F>(panel, acts.tile_outliers(tile), start..start + count, &mut sums);
                        }
                        put(y, tile * TILE, row, rows.end.min(row + 8 * R) - row, start > 0, &sums);
                    }
                }
            }
        }
    }
}

/// Stores (or adds, for later chunks of columns) the sums that exist.
///
/// # Safety
/// Columns `row..row + n` of `y` are ours.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn put(y: Out, token: usize, row: usize, n: usize, add: bool, sums: &Sums) {
    for (t, sums) in sums.iter().enumerate().take(y.m() - token) {
        // SAFETY: the caller's promise.
        let out = unsafe { y.at(token + t, row, n) };
        for (out, sum) in out.chunks_mut(8).zip(sums) {
            let sum = if add {
                _mm256_add_ps(super::lanes::load(out), *sum)
            } else {
                *sum
            };
            super::lanes::store(out, sum);
        }
    }
}

/// The byte kernel: sums += panel . records, `groups` of each.
///
/// # Safety
/// They are readable; what [`Dot`] asks for.
#[inline(always)]
unsafe fn bytes<F: Unpack, D: Dot>(panel: *const u8, x: *const u32, groups: usize, sums: &mut Sums) {
    let steps = black_box(8 / F::HALVES);
    for g in 0..groups {
        // SAFETY: the caller's promise: groups and records up to `groups` are readable.
        unsafe {
            let (panel, x) = (panel.add(g * group_bytes::<F>()), x.add(g * I8_LINES * TILE));
            let word = |line: usize, t: usize| _mm256_set1_epi32(x.add(line * TILE + t).read() as i32);
            let real = |line: usize, t: usize| _mm256_broadcast_ss(&*x.add(line * TILE + t).cast::<f32>());
            let line = |l: usize, r: usize| _mm256_loadu_si256(panel.add((l * R + r) * LINE).cast());
            for h in 0..F::HALVES {
                let mut acc = [[_mm256_setzero_si256(); R]; TILE];
                if F::ZERO != 0 {
                    for (t, acc) in acc.iter_mut().enumerate() {
                        let mut sum = D::start(word(8 + h, t), -F::ZERO);
                        if F::HALVES == 1 {
                            sum = D::join(sum, D::start(word(9, t), -F::ZERO));
                        }
                        *acc = [sum; R];
                    }
                }
                for i in h * steps..(h + 1) * steps {
                    let codes = [line(i, 0), line(i, 1)];
                    for (t, acc) in acc.iter_mut().enumerate() {
                        let a = word(i, t);
                        for (acc, codes) in acc.iter_mut().zip(codes) {
                            *acc = D::step(*acc, codes, a);
                        }
                    }
                }
                for (t, (sums, acc)) in sums.iter_mut().zip(acc).enumerate() {
                    for (r, (sum, acc)) in sums.iter_mut().zip(acc).enumerate() {
                        let scale = _mm256_mul_ps(_mm256_castsi256_ps(line(F::CODES + h, r)), real(10, t));
                        *sum = _mm256_fmadd_ps(D::finish(acc), scale, *sum);
                    }
                }
            }
            if F::MIN {
                for (t, sums) in sums.iter_mut().enumerate() {
                    for h in 0..F::HALVES {
                        let total = if F::HALVES == 1 {
                            real(11, t)
                        } else {
                            _mm256_mul_ps(D::finish(D::start(word(8 + h, t), 1)), real(10, t))
                        };
                        for (r, sum) in sums.iter_mut().enumerate() {
                            let min = _mm256_castsi256_ps(line(F::MINS + h, r));
                            *sum = _mm256_fmadd_ps(min, total, *sum);
                        }
                    }
                }
            }
        }
    }
}

/// sums += the panel's columns times the outliers among the groups `groups`, which the panel holds.
///
/// # Safety
/// It does.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn lone<F: Unpack>(panel: *const u8, mut outliers: &[Outlier], groups: Range<usize>, sums: &mut Sums) {
    // They come by token, so that a token's sums can stay in registers.
    for (t, sums) in sums.iter_mut().enumerate() {
        let mut f = *sums;
        while let Some((o, rest)) = outliers.split_first()
            && o.token as usize == t
        {
            outliers = rest;
            let (group, at) = (o.at as usize / BLOCK, o.at as usize % BLOCK);
            if groups.contains(&group) {
                let x = _mm256_set1_ps(o.x);
                for (r, f) in f.iter_mut().enumerate() {
                    let strip = (group - groups.start) * F::LINES * R * LINE + r * LINE;
                    // SAFETY: the caller's promise.
                    *f = unsafe { column::<F, R>(panel.add(strip), at, x, *f) };
                }
            }
        }
        *sums = f;
    }
}

/// The word kernel.
///
/// # Safety
/// As [`bytes`].
#[inline(always)]
unsafe fn words<F: Unpack, D: Dot>(panel: *const u8, x: *const u32, groups: usize, sums: &mut Sums) {
    let steps = black_box(16);
    for g in 0..groups {
        // SAFETY: the caller's promise: groups and records up to `groups` are readable.
        unsafe {
            let (panel, x) = (panel.add(g * group_bytes::<F>()), x.add(g * I16_LINES * TILE));
            let word = |line: usize, t: usize| _mm256_set1_epi32(x.add(line * TILE + t).read() as i32);
            let real = |line: usize, t: usize| _mm256_broadcast_ss(&*x.add(line * TILE + t).cast::<f32>());
            let line = |l: usize, r: usize| _mm256_loadu_si256(panel.add((l * R + r) * LINE).cast());
            let mut acc = [[_mm256_setzero_si256(); R]; TILE];
            for i in 0..steps {
                let codes = [line(i, 0), line(i, 1)];
                for (t, acc) in acc.iter_mut().enumerate() {
                    let a = word(i, t);
                    for (acc, codes) in acc.iter_mut().zip(codes) {
                        *acc = D::step_words(*acc, codes, a);
                    }
                }
            }
            for (t, (sums, acc)) in sums.iter_mut().zip(acc).enumerate() {
                for (r, (sum, acc)) in sums.iter_mut().zip(acc).enumerate() {
                    let scale = _mm256_mul_ps(_mm256_castsi256_ps(line(F::CODES, r)), real(16, t));
                    *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc), scale, *sum);
                }
            }
        }
    }
}

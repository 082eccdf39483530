//! Many tokens: 32 weight rows are unpacked to a panel in cache, which meets 4 tokens at a time: 8 sums of 16 rows, in i32 over 32
//! columns and in f32 over all, fill half of the 32 registers.
//!
//! `vpdpbusd` adds four products u8 x s8 to an i32 lane. The intermediate sums are exact and cannot overflow:
//! 32 columns of codes <= 255 and |a| <= 127 stay below 32 * 255 * 127 = 1.1M. Formats with a zero point z start a lane at
//! -z * (sum of the a's), made from the record's half sums by `vpdpwssd`. The word kernel (int16 activations) adds 32 products of
//! at most 2^15 * 32767, below 2^31 for codes of 8 bits: 32 * 128 * 32767 = 134M.

use std::arch::x86_64::*;
use std::ops::Range;

use crate::kernels::cpu::acts::{Acts, BLOCK, I8_LINES, I16_LINES, Outlier, TILE};
use crate::kernels::cpu::avx2::unpack::{LINE, Unpack};
use crate::kernels::cpu::scratch;
use crate::kernels::cpu::types::{Out, Weight};

/// Vectors of 16 rows in a panel.
const V: usize = 2;
/// Strips of 8 rows in a panel.
const R: usize = 2 * V;
/// Rows of a panel.
pub(super) const ROWS: usize = 8 * R;
/// Bytes of a panel: the second-level cache feeds it as fast, and longer sums save their way out and back in.
const PANEL: usize = 128 << 10;
/// Bytes of activations that are used again by each panel: with the panel half of a second-level cache of 1 MB.
const ACTS: usize = 384 << 10;

/// Sums of 16 rows x V for each of 4 tokens.
type Sums = [[__m512; V]; TILE];

/// # Safety
/// As [`Isa::matmul_int`](crate::kernels::cpu::isa::Isa::matmul_int), with m >= 4 and F's format.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn prefill<F: Unpack>(w: Weight, acts: &Acts, y: Out, rows: Range<usize>) {
    let stride = w.row_bytes();
    let groups = w.cols / BLOCK;
    let group_bytes = F::LINES * R * LINE;
    let record = TILE * if F::WORDS { I16_LINES } else { I8_LINES };
    assert_eq!(acts.tile(), TILE);
    // Groups in a panel, whole blocks; tiles of tokens that stay in cache meanwhile.
    let chunk = (PANEL / group_bytes / F::GROUPS * F::GROUPS).max(F::GROUPS).min(groups);
    let tiles = acts.m.div_ceil(TILE);
    let together = (ACTS / (groups * record * 4)).clamp(4, tiles.max(4));
    let mut spare: [Vec<u8>; V] = Default::default();
    scratch::with_f32(chunk * group_bytes / 4, |panel| {
        let panel = panel.as_mut_ptr().cast::<u8>();
        for first in (0..tiles).step_by(together) {
            for row in rows.clone().step_by(ROWS) {
                let mut next = (row..).step_by(16);
                let data = spare
                    .each_mut()
                    .map(|spare| w.rows_or_zeros::<16>(next.next().unwrap_or(row), spare));
                for start in (0..groups).step_by(chunk) {
                    let count = chunk.min(groups - start);
                    for (v, data) in data.iter().enumerate() {
                        for b in (0..count).step_by(F::GROUPS) {
                            // SAFETY: blocks of the rows; the panel has room for `chunk` groups of R strips.
                            unsafe {
                                let p = data.as_ptr().add((start + b) / F::GROUPS * F::BYTES);
                                let out = panel.add(b * group_bytes + v * 2 * LINE);
                                F::unpack::<__m512i, R>(p, stride, out);
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
                        let mut sums: Sums = [[_mm512_setzero_ps(); V]; TILE];
                        // SAFETY: `count` groups of the panel and as many records; the columns of y are ours.
                        unsafe {
                            if F::WORDS {
                                words::<F>(panel, x, count, &mut sums);
                            } else {
                                bytes::<F>(panel, x, count, &mut sums);
                                lone::<F>(panel, acts.tile_outliers(tile), start..start + count, &mut sums);
                            }
                            put(y, tile * TILE, row, rows.end.min(row + ROWS) - row, start > 0, &sums);
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
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn put(y: Out, token: usize, row: usize, n: usize, add: bool, sums: &Sums) {
    for (t, sums) in sums.iter().enumerate().take(y.m() - token) {
        // SAFETY: the caller's promise.
        let out = unsafe { y.at(token + t, row, n) };
        for (out, sum) in out.chunks_mut(16).zip(sums) {
            let mask = lanes(out.len());
            // SAFETY: masked lanes are not touched, the others are in `out`.
            unsafe {
                let sum = if add {
                    _mm512_add_ps(_mm512_maskz_loadu_ps(mask, out.as_ptr()), *sum)
                } else {
                    *sum
                };
                _mm512_mask_storeu_ps(out.as_mut_ptr(), mask, sum);
            }
        }
    }
}

/// The first `n` lanes (at most 16).
pub(super) fn lanes(n: usize) -> __mmask16 {
    (u32::MAX >> (32 - n.clamp(1, 16))) as __mmask16
}

/// The byte kernel: sums += panel . records, `groups` of each.
///
/// # Safety
/// They are readable.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn bytes<F: Unpack>(panel: *const u8, x: *const u32, groups: usize, sums: &mut Sums) {
    let zero = _mm512_set1_epi16(-F::ZERO);
    let steps = 8 / F::HALVES;
    let mut f = *sums;
    for g in 0..groups {
        // SAFETY: the caller's promise: groups and records up to `groups` are readable.
        let (panel, x) = unsafe { (panel.add(g * F::LINES * R * LINE), x.add(g * I8_LINES * TILE)) };
        // SAFETY: within this group's record or lines.
        let word = |line: usize, t: usize| unsafe { _mm512_set1_epi32(x.add(line * TILE + t).read() as i32) };
        // SAFETY: within this group's record or lines.
        let real = |line: usize, t: usize| unsafe { _mm512_set1_ps(x.add(line * TILE + t).cast::<f32>().read()) };
        // SAFETY: within this group's record or lines.
        let line = |l: usize, v: usize| unsafe { _mm512_loadu_si512(panel.add((l * V + v) * 2 * LINE).cast()) };
        for h in 0..F::HALVES {
            let mut acc = [[_mm512_setzero_si512(); V]; TILE];
            if F::ZERO != 0 {
                for (t, acc) in acc.iter_mut().enumerate() {
                    let mut half = word(8 + h, t);
                    if F::HALVES == 1 {
                        half = _mm512_add_epi16(half, word(9, t));
                    }
                    *acc = [_mm512_dpwssd_epi32(_mm512_setzero_si512(), half, zero); V];
                }
            }
            for i in h * steps..(h + 1) * steps {
                let codes: [__m512i; V] = std::array::from_fn(|v| line(i, v));
                for (t, acc) in acc.iter_mut().enumerate() {
                    let a = word(i, t);
                    for (acc, codes) in acc.iter_mut().zip(codes) {
                        *acc = _mm512_dpbusd_epi32(*acc, codes, a);
                    }
                }
            }
            for v in 0..V {
                let scale = _mm512_castsi512_ps(line(F::CODES + h, v));
                for t in 0..TILE {
                    let scale = _mm512_mul_ps(scale, real(10, t));
                    f[t][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[t][v]), scale, f[t][v]);
                }
            }
        }
        if F::MIN {
            for (t, f) in f.iter_mut().enumerate() {
                for h in 0..F::HALVES {
                    let total = if F::HALVES == 1 {
                        real(11, t)
                    } else {
                        half_sum(word(8 + h, t), real(10, t))
                    };
                    for (v, f) in f.iter_mut().enumerate() {
                        let min = _mm512_castsi512_ps(line(F::MINS + h, v));
                        *f = _mm512_fmadd_ps(min, total, *f);
                    }
                }
            }
        }
    }
    *sums = f;
}

/// d times a half sum of a record.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn half_sum(pairs: __m512i, d: __m512) -> __m512 {
    let sum = _mm512_dpwssd_epi32(_mm512_setzero_si512(), pairs, _mm512_set1_epi16(1));
    _mm512_mul_ps(_mm512_cvtepi32_ps(sum), d)
}

/// sum + x * (16 weights of column `at` (< 32) of a group: vector v of the panel).
///
/// # Safety
/// `group` is a group of the panel that F (bytes) has written, from vector v on.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn column<F: Unpack>(group: *const u8, at: usize, x: __m512, sum: __m512) -> __m512 {
    // SAFETY: lines of the group.
    let line = |l: usize| unsafe { _mm512_loadu_si512(group.add(l * R * LINE).cast()) };
    let code = _mm512_srl_epi32(line(at / 4), _mm_cvtsi32_si128(8 * (at % 4) as i32));
    let code = _mm512_cvtepi32_ps(_mm512_and_si512(code, _mm512_set1_epi32(255)));
    let code = _mm512_sub_ps(code, _mm512_set1_ps(f32::from(F::ZERO)));
    let half = if F::HALVES == 2 { at / 16 } else { 0 };
    let mut weight = _mm512_mul_ps(code, _mm512_castsi512_ps(line(F::CODES + half)));
    if F::MIN {
        weight = _mm512_add_ps(weight, _mm512_castsi512_ps(line(F::MINS + half)));
    }
    _mm512_fmadd_ps(weight, x, sum)
}

/// sums += the panel's columns times the outliers among the groups `groups`, which the panel holds.
///
/// # Safety
/// It does.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
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
                let x = _mm512_set1_ps(o.x);
                for (v, f) in f.iter_mut().enumerate() {
                    let lines = (group - groups.start) * F::LINES * R * LINE + v * 2 * LINE;
                    // SAFETY: the caller's promise.
                    *f = unsafe { column::<F>(panel.add(lines), at, x, *f) };
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
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn words<F: Unpack>(panel: *const u8, x: *const u32, groups: usize, sums: &mut Sums) {
    let mut f = *sums;
    for g in 0..groups {
        // SAFETY: the caller's promise: groups and records up to `groups` are readable.
        let (panel, x) = unsafe { (panel.add(g * F::LINES * R * LINE), x.add(g * I16_LINES * TILE)) };
        // SAFETY: within this group's record or lines.
        let word = |line: usize, t: usize| unsafe { _mm512_set1_epi32(x.add(line * TILE + t).read() as i32) };
        // SAFETY: within this group's record or lines.
        let real = |line: usize, t: usize| unsafe { _mm512_set1_ps(x.add(line * TILE + t).cast::<f32>().read()) };
        // SAFETY: within this group's record or lines.
        let line = |l: usize, v: usize| unsafe { _mm512_loadu_si512(panel.add((l * V + v) * 2 * LINE).cast()) };
        let mut acc = [[_mm512_setzero_si512(); V]; TILE];
        for i in 0..16 {
            let codes: [__m512i; V] = std::array::from_fn(|v| line(i, v));
            for (t, acc) in acc.iter_mut().enumerate() {
                let a = word(i, t);
                for (acc, codes) in acc.iter_mut().zip(codes) {
                    *acc = _mm512_dpwssd_epi32(*acc, codes, a);
                }
            }
        }
        for v in 0..V {
            let scale = _mm512_castsi512_ps(line(F::CODES, v));
            for t in 0..TILE {
                let scale = _mm512_mul_ps(scale, real(16, t));
                f[t][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[t][v]), scale, f[t][v]);
            }
        }
    }
    *sums = f;
}

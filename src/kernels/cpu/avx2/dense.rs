//! f32 products: `Exact`, dense weights, formats without an integer kernel, adapters, and attention's tiles.
//!
//! From 4 tokens on, 16 weight rows are expanded to a panel `[columns][16]`, which meets 6 tokens at a time (12 sums, 2 weight
//! vectors and 1 broadcast fill the 16 registers). Below, 8 rows are expanded by pieces and multiplied at once. F32, F16 and BF16
//! are widened in registers on both ways: with few tokens memory is the limit.

use std::arch::x86_64::*;
use std::ops::Range;

use super::decode::prefetch;
use super::expand;
use super::lanes::{load, store, sum, transpose};
use crate::kernels::cpu::acts::{Acts, F32_TILE as TOKENS};
use crate::kernels::cpu::crossovers::PANELS_FROM;
use crate::kernels::cpu::scratch;
use crate::kernels::cpu::types::{Out, Weight};
use crate::quant::BlockFormat;

/// Columns of a panel, a multiple of every block length: 16 KB with 16 rows, half of a first-level cache.
const COLUMNS: usize = 256;
/// Rows of a panel.
const ROWS: usize = 16;
/// Tokens that use a panel before it is expanded again, so that their activations stay in the second-level cache.
const TOGETHER: usize = 32 * TOKENS;

/// # Safety
/// As [`Isa::matmul_f32`](crate::kernels::cpu::isa::Isa::matmul_f32).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn matmul_f32(w: Weight, acts: &Acts, y: Out, add: bool, rows: Range<usize>) {
    assert!(acts.m == y.m() && acts.k == w.cols);
    // SAFETY: the caller's promise.
    unsafe {
        match (acts.m, w.format) {
            (PANELS_FROM.., _) => many(w, acts, y, add, rows),
            (_, BlockFormat::F32) => by_tokens::<F32>(w, acts, y, add, rows),
            (_, BlockFormat::F16) => by_tokens::<F16>(w, acts, y, add, rows),
            (_, BlockFormat::BF16) => by_tokens::<BF16>(w, acts, y, add, rows),
            (1, _) => few::<1>(w, acts, y, add, rows),
            (2, _) => few::<2>(w, acts, y, add, rows),
            _ => few::<3>(w, acts, y, add, rows),
        }
    }
    const { assert!(PANELS_FROM == 4) };
}

/// The rows of fewer than PANELS_FROM, which are tiles of their own.
fn rows_of<const T: usize>(acts: &Acts) -> [&[f32]; T] {
    assert!(acts.m == T && acts.f32_tile() == 1);
    std::array::from_fn(|t| acts.f32_tile_at(t))
}

/// A format of one number an element.
pub(super) trait Dense {
    /// Bytes of a number.
    const BYTES: usize;

    /// 8 numbers at `p`.
    ///
    /// # Safety
    /// The CPU has AVX2, FMA and F16C; they are readable.
    unsafe fn eight(p: *const u8) -> __m256;
}

pub(super) struct F32;

impl Dense for F32 {
    const BYTES: usize = 4;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn eight(p: *const u8) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(p.cast()) }
    }
}

pub(super) struct F16;

impl Dense for F16 {
    const BYTES: usize = 2;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn eight(p: *const u8) -> __m256 {
        // SAFETY: the caller's promise.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(p.cast()) })
    }
}

pub(super) struct BF16;

impl Dense for BF16 {
    const BYTES: usize = 2;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn eight(p: *const u8) -> __m256 {
        // SAFETY: the caller's promise.
        let words = _mm256_cvtepu16_epi32(unsafe { _mm_loadu_si128(p.cast()) });
        _mm256_castsi256_ps(_mm256_slli_epi32(words, 16))
    }
}

/// The first 8 numbers of `data`, or all of a shorter one and zeros.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn eight<D: Dense>(data: &[u8]) -> __m256 {
    let mut all = [0u8; 32];
    let p = if data.len() >= 8 * D::BYTES {
        data.as_ptr()
    } else {
        all[..data.len()].copy_from_slice(data);
        all.as_ptr()
    };
    // SAFETY: 8 numbers of at most 4 bytes, as just checked.
    unsafe { D::eight(p) }
}

/// Columns `start .. start + len` of a row.
fn piece<'a>(w: &Weight<'a>, row: usize, start: usize, len: usize) -> &'a [u8] {
    let bytes = |len: usize| w.format.bytes_for(len).unwrap_or(usize::MAX);
    &w.row(row)[bytes(start)..][..bytes(len)]
}

/// [`dense`] for `y.m()` < PANELS_FROM tokens.
///
/// # Safety
/// As [`matmul_f32`], with D's format.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn by_tokens<D: Dense>(w: Weight, acts: &Acts, y: Out, add: bool, rows: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe {
        match y.m() {
            1 => dense::<D, 1>(w, acts, y, add, rows),
            2 => dense::<D, 2>(w, acts, y, add, rows),
            _ => dense::<D, 3>(w, acts, y, add, rows),
        }
    }
}

/// T tokens, row by row, four chains a token.
///
/// # Safety
/// As [`matmul_f32`], with D's format and `y.m() == T`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dense<D: Dense, const T: usize>(w: Weight, acts: &Acts, y: Out, add: bool, rows: Range<usize>) {
    /// Bytes of weights fetched ahead.
    const AHEAD: usize = 8192;
    let k = w.cols;
    let x: [&[f32]; T] = rows_of(acts);
    let whole = k / 32 * 32;
    for row in rows {
        let data = w.row(row);
        let mut f = [[_mm256_setzero_ps(); 4]; T];
        for c in (0..whole).step_by(32) {
            prefetch(data.as_ptr().wrapping_add(c * D::BYTES), AHEAD, 32 * D::BYTES);
            for i in 0..4 {
                // SAFETY: columns c + 8i .. c + 8i + 8 of 32 that the row and the inputs have.
                unsafe {
                    let w = D::eight(data.as_ptr().add((c + 8 * i) * D::BYTES));
                    for (f, x) in f.iter_mut().zip(x) {
                        f[i] = _mm256_fmadd_ps(w, _mm256_loadu_ps(x.as_ptr().add(c + 8 * i)), f[i]);
                    }
                }
            }
        }
        for c in (whole..k).step_by(8) {
            let w = eight::<D>(&data[c * D::BYTES..]);
            for (f, x) in f.iter_mut().zip(x) {
                f[0] = _mm256_fmadd_ps(w, load(&x[c..]), f[0]);
            }
        }
        // SAFETY: this column is ours.
        unsafe { put(y, row, f, add) };
    }
}

/// Adds up the chains of one row.
///
/// # Safety
/// Column `row` of `y` is ours.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn put<const T: usize>(y: Out, row: usize, f: [[__m256; 4]; T], add: bool) {
    for (t, [a, b, c, d]) in f.into_iter().enumerate() {
        let sum = sum(_mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d)));
        // SAFETY: this column is ours.
        let out = unsafe { &mut y.at(t, row, 1)[0] };
        *out = if add { *out + sum } else { sum };
    }
}

/// T tokens of blocks, 8 rows at a time.
///
/// # Safety
/// As [`matmul_f32`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn few<const T: usize>(w: Weight, acts: &Acts, y: Out, add: bool, rows: Range<usize>) {
    let k = w.cols;
    let x: [&[f32]; T] = rows_of(acts);
    let ahead = (8 * w.row_bytes()).next_multiple_of(4096);
    scratch::with_f32(8 * COLUMNS, |panel| {
        let mut spare = Vec::new();
        for row in rows.clone().step_by(8) {
            let n = 8.min(rows.end - row);
            // Four chains a token.
            let mut f = [[_mm256_setzero_ps(); 4]; T];
            let blocks = w.rows_or_zeros::<8>(row, &mut spare);
            for start in (0..k).step_by(COLUMNS) {
                let count = COLUMNS.min(k - start);
                // The next 8 rows, a share with each piece.
                let share = |columns: usize| 8 * w.format.bytes_for(columns).unwrap_or(0);
                prefetch(blocks.as_ptr().wrapping_add(share(start)), ahead, share(count));
                eight_rows(&w, blocks, start, count, panel, 8);
                for (c, w) in panel.chunks_exact(8 * 4).enumerate().take(count / 4) {
                    for (i, w) in w.chunks_exact(8).enumerate() {
                        let w = load(w);
                        for (x, f) in x.iter().zip(&mut f) {
                            f[i] = _mm256_fmadd_ps(w, _mm256_set1_ps(x[start + 4 * c + i]), f[i]);
                        }
                    }
                }
            }
            for (t, [a, b, c, d]) in f.into_iter().enumerate() {
                let sums = _mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d));
                // SAFETY: these columns are ours.
                let out = unsafe { y.at(t, row, n) };
                store(out, if add { _mm256_add_ps(load(out), sums) } else { sums });
            }
        }
    });
}

/// `out[c * pitch + r]` = column `start + c` of row r of `blocks`, 8 rows of w or what stands for them; `count` columns, whole blocks.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn eight_rows(w: &Weight, blocks: &[u8], start: usize, count: usize, out: &mut [f32], pitch: usize) {
    let stride = w.row_bytes();
    let bytes = |len: usize| w.format.bytes_for(len).unwrap_or(usize::MAX);
    assert!(blocks.len() >= 7 * stride + bytes(start) + bytes(count) && out.len() >= (count - 1) * pitch + 8);
    if let Some(expand) = expand::of(w.format) {
        // SAFETY: as just checked.
        unsafe {
            let p = blocks.as_ptr().add(bytes(start));
            expand(p, stride, count / w.format.info().block_len, out.as_mut_ptr(), pitch);
        }
        return;
    }
    scratch::with_f32(8 * COLUMNS, |wide| {
        for (wide, row) in wide.chunks_exact_mut(COLUMNS).zip(blocks.chunks_exact(stride)) {
            w.format
                .dequantize(&row[bytes(start)..][..bytes(count)], &mut wide[..count]);
        }
        columns(wide, COLUMNS, count, out, pitch);
    });
}

/// Panels and tiles.
///
/// # Safety
/// As [`matmul_f32`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn many(w: Weight, acts: &Acts, y: Out, add: bool, rows: Range<usize>) {
    let (k, m) = (w.cols, acts.m);
    let mut spare: [Vec<u8>; ROWS / 8] = Default::default();
    scratch::with_f32(COLUMNS * ROWS, |panel| {
        for from in (0..m).step_by(TOGETHER) {
            let tokens = from..m.min(from + TOGETHER);
            for row in rows.clone().step_by(ROWS) {
                let n = ROWS.min(rows.end - row);
                for start in (0..k).step_by(COLUMNS) {
                    let count = COLUMNS.min(k - start);
                    match w.format {
                        BlockFormat::F32 => fill::<F32>(&w, row..row + n, start, count, panel),
                        BlockFormat::F16 => fill::<F16>(&w, row..row + n, start, count, panel),
                        BlockFormat::BF16 => fill::<BF16>(&w, row..row + n, start, count, panel),
                        _ => {
                            for (half, spare) in spare.iter_mut().enumerate() {
                                let blocks = w.rows_or_zeros::<8>(row + 8 * half, spare);
                                eight_rows(&w, blocks, start, count, &mut panel[8 * half..], ROWS);
                            }
                        }
                    }
                    for token in tokens.clone().step_by(TOKENS) {
                        let count_t = TOKENS.min(tokens.end - token);
                        let x = &acts.f32_tile_at(token / TOKENS)[start * TOKENS..][..count * TOKENS];
                        let mut sums = [[_mm256_setzero_ps(); 2]; TOKENS];
                        for (t, sums) in sums.iter_mut().enumerate().take(count_t) {
                            if add || start > 0 {
                                // SAFETY: these columns are ours.
                                let old = unsafe { y.at(token + t, row, n) };
                                *sums = [load(old), load(old.get(8..).unwrap_or_default())];
                            }
                        }
                        // SAFETY: the panel has `count` <= COLUMNS columns of ROWS.
                        unsafe {
                            tile::<F32, TOKENS, 2, 1, TOKENS>(x, panel.as_ptr().cast(), 4 * ROWS, count, &mut sums)
                        };
                        for (t, sums) in sums.into_iter().enumerate().take(count_t) {
                            // SAFETY: as above.
                            let out = unsafe { y.at(token + t, row, n) };
                            out.chunks_mut(8).zip(sums).for_each(|(out, sum)| store(out, sum));
                        }
                    }
                }
            }
        }
    });
}

/// panel[c][r] = column `start + c` of row r of `rows`; where rows are missing the last one again, whose sums nobody stores.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn fill<D: Dense>(w: &Weight, rows: Range<usize>, start: usize, count: usize, panel: &mut [f32]) {
    for half in 0..ROWS / 8 {
        let row = |r: usize| piece(w, (rows.start + 8 * half + r).min(rows.end - 1), start, count).as_ptr();
        // SAFETY: pieces of `count` numbers.
        unsafe { turn::<D>(std::array::from_fn(row), count, &mut panel[8 * half..], ROWS) };
    }
}

/// out[c][r] = rows[r][c] for 8 rows with `pitch` elements between them and `count` columns, `stride` between those of `out`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn columns(rows: &[f32], pitch: usize, count: usize, out: &mut [f32], stride: usize) {
    let row = |r: usize| rows[r * pitch..][..count].as_ptr().cast();
    // SAFETY: `count` elements each, as just checked.
    unsafe { turn::<F32>(std::array::from_fn(row), count, out, stride) };
}

/// out[c][r] = number c of row r, for `count` columns with `stride` between them in `out`.
///
/// # Safety
/// Each row has `count` numbers.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn turn<D: Dense>(rows: [*const u8; 8], count: usize, out: &mut [f32], stride: usize) {
    assert!(count > 0 && out.len() >= (count - 1) * stride + 8);
    let whole = count / 8 * 8;
    for c in (0..whole).step_by(8) {
        // SAFETY: columns c .. c + 8 of `count` that the rows and, as just checked, `out` have.
        unsafe {
            // Not `map`: where it is not inlined, its closure calls each instruction as a function.
            let mut v = [_mm256_setzero_ps(); 8];
            for (v, row) in v.iter_mut().zip(rows) {
                *v = D::eight(row.add(c * D::BYTES));
            }
            let v = transpose(v);
            for (i, v) in v.into_iter().enumerate() {
                _mm256_storeu_ps(out.as_mut_ptr().add((c + i) * stride), v);
            }
        }
    }
    if whole < count {
        let rest = |row: *const u8| {
            // SAFETY: the caller's promise.
            unsafe { std::slice::from_raw_parts(row.add(whole * D::BYTES), (count - whole) * D::BYTES) }
        };
        let v = transpose(rows.map(|row| eight::<D>(rest(row))));
        for (out, v) in out[whole * stride..].chunks_mut(stride).zip(v).take(count - whole) {
            store(&mut out[..8], v);
        }
    }
}

/// sums[t] += x[t] . 8 V columns of `panel` for T rows of x, over `count` rows of the panel: element c of row t of `x` at `t * XT + c * XC`
/// (constants, so that one pointer serves all rows); `pitch` bytes between rows of the panel.
///
/// # Safety
/// The panel is readable.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn tile<D: Dense, const T: usize, const V: usize, const XT: usize, const XC: usize>(
    x: &[f32],
    panel: *const u8,
    pitch: usize,
    count: usize,
    sums: &mut [[__m256; V]; T],
) {
    assert!(count > 0 && x.len() > (T - 1) * XT + (count - 1) * XC);
    let x = x.as_ptr();
    let mut f = *sums;
    for c in 0..count {
        // SAFETY: the length of `x` was just checked, the panel is the caller's promise.
        unsafe {
            let mut w = [_mm256_setzero_ps(); V];
            for (i, w) in w.iter_mut().enumerate() {
                *w = D::eight(panel.add(c * pitch + 8 * i * D::BYTES));
            }
            for (t, f) in f.iter_mut().enumerate() {
                let x = _mm256_broadcast_ss(&*x.add(t * XT + c * XC));
                for (f, w) in f.iter_mut().zip(w) {
                    *f = _mm256_fmadd_ps(w, x, *f);
                }
            }
        }
    }
    *sums = f;
}

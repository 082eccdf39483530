//! f32 products: `Exact`, dense weights, formats without an integer kernel, adapters, and attention's tiles.
//!
//! From 4 tokens on, 16 weight rows are expanded to a panel `[columns][16]`, which meets 6 tokens at a time (12 sums, 2 weight
//! vectors and 1 broadcast fill the 16 registers). Below, each row is expanded by pieces and multiplied at once. F32, F16 and BF16
//! are widened in registers on both ways: with few tokens memory is the limit.

use std::arch::x86_64::*;
use std::ops::Range;

use super::decode::prefetch;
use super::lanes::{load, store, sum, transpose};
use crate::kernels::cpu::scratch;
use crate::kernels::cpu::types::{Out, Weight};
use crate::quant::BlockFormat;

/// Columns of a panel, a multiple of every block length: 16 KB with 16 rows, half of a first-level cache.
const COLUMNS: usize = 256;
/// Rows of a panel.
const ROWS: usize = 16;
/// Tokens of a tile.
pub(super) const TOKENS: usize = 6;
/// Tokens that use a panel before it is expanded again, so that their activations stay in the second-level cache.
const TOGETHER: usize = 32 * TOKENS;
/// Tokens from which a panel pays.
const FEW: usize = 4;

/// # Safety
/// As [`Isa::matmul_f32`](crate::kernels::cpu::isa::Isa::matmul_f32).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn matmul_f32(w: Weight, x: &[f32], y: Out, add: bool, rows: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe {
        match (y.m(), w.format) {
            (FEW.., _) => many(w, x, y, add, rows),
            (_, BlockFormat::F32) => by_tokens::<F32>(w, x, y, add, rows),
            (_, BlockFormat::F16) => by_tokens::<F16>(w, x, y, add, rows),
            (_, BlockFormat::BF16) => by_tokens::<BF16>(w, x, y, add, rows),
            (1, _) => few::<1>(w, x, y, add, rows),
            (2, _) => few::<2>(w, x, y, add, rows),
            _ => few::<3>(w, x, y, add, rows),
        }
    }
    const { assert!(FEW == 4) };
}

/// A format of one number an element.
trait Dense {
    /// Bytes of a number.
    const BYTES: usize;

    /// 8 numbers at `p`.
    ///
    /// # Safety
    /// The CPU has AVX2, FMA and F16C; they are readable.
    unsafe fn eight(p: *const u8) -> __m256;
}

struct F32;

impl Dense for F32 {
    const BYTES: usize = 4;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn eight(p: *const u8) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(p.cast()) }
    }
}

struct F16;

impl Dense for F16 {
    const BYTES: usize = 2;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn eight(p: *const u8) -> __m256 {
        // SAFETY: the caller's promise.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(p.cast()) })
    }
}

struct BF16;

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
fn eight<D: Dense>(data: &[u8]) -> __m256 {
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

/// [`dense`] for `y.m()` < FEW tokens.
///
/// # Safety
/// As [`matmul_f32`], with D's format.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn by_tokens<D: Dense>(w: Weight, x: &[f32], y: Out, add: bool, rows: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe {
        match y.m() {
            1 => dense::<D, 1>(w, x, y, add, rows),
            2 => dense::<D, 2>(w, x, y, add, rows),
            _ => dense::<D, 3>(w, x, y, add, rows),
        }
    }
}

/// T tokens, row by row, four chains a token.
///
/// # Safety
/// As [`matmul_f32`], with D's format and `y.m() == T`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dense<D: Dense, const T: usize>(w: Weight, x: &[f32], y: Out, add: bool, rows: Range<usize>) {
    /// Bytes of weights fetched ahead.
    const AHEAD: usize = 8192;
    let k = w.cols;
    assert_eq!(x.len(), T * k);
    let x: [&[f32]; T] = std::array::from_fn(|t| &x[t * k..][..k]);
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

/// T tokens, row by row, of blocks.
///
/// # Safety
/// As [`matmul_f32`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn few<const T: usize>(w: Weight, x: &[f32], y: Out, add: bool, rows: Range<usize>) {
    let k = w.cols;
    let mut wide = [0.0f32; COLUMNS];
    for row in rows {
        // Four chains a token.
        let mut f = [[_mm256_setzero_ps(); 4]; T];
        for start in (0..k).step_by(COLUMNS) {
            let wide = &mut wide[..COLUMNS.min(k - start)];
            w.format.dequantize(piece(&w, row, start, wide.len()), wide);
            for (t, f) in f.iter_mut().enumerate() {
                let x = &x[t * k + start..][..wide.len()];
                for (w, x) in wide.chunks(32).zip(x.chunks(32)) {
                    for ((w, x), f) in w.chunks(8).zip(x.chunks(8)).zip(f.iter_mut()) {
                        *f = _mm256_fmadd_ps(load(w), load(x), *f);
                    }
                }
            }
        }
        // SAFETY: this column is ours.
        unsafe { put(y, row, f, add) };
    }
}

/// Panels and tiles.
///
/// # Safety
/// As [`matmul_f32`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn many(w: Weight, x: &[f32], y: Out, add: bool, rows: Range<usize>) {
    let (k, m) = (w.cols, y.m());
    assert_eq!(x.len(), m * k);
    let together = TOGETHER.min(m.next_multiple_of(TOKENS));
    scratch::with_f32(2 * COLUMNS * ROWS + together * k, |buffer| {
        let (wide, rest) = buffer.split_at_mut(COLUMNS * ROWS);
        let (panel, packed) = rest.split_at_mut(COLUMNS * ROWS);
        for from in (0..m).step_by(TOGETHER) {
            let tokens = from..m.min(from + TOGETHER);
            interleave(&x[from * k..tokens.end * k], k, packed);
            for row in rows.clone().step_by(ROWS) {
                let n = ROWS.min(rows.end - row);
                for start in (0..k).step_by(COLUMNS) {
                    let count = COLUMNS.min(k - start);
                    match w.format {
                        BlockFormat::F32 => fill::<F32>(&w, row..row + n, start, count, panel),
                        BlockFormat::F16 => fill::<F16>(&w, row..row + n, start, count, panel),
                        BlockFormat::BF16 => fill::<BF16>(&w, row..row + n, start, count, panel),
                        format => {
                            for (r, out) in wide.chunks_exact_mut(COLUMNS).enumerate().take(n) {
                                format.dequantize(piece(&w, row + r, start, count), &mut out[..count]);
                            }
                            wide[n * COLUMNS..].fill(0.0);
                            for half in 0..ROWS / 8 {
                                let wide = &wide[half * 8 * COLUMNS..][..8 * COLUMNS];
                                columns(wide, COLUMNS, count, &mut panel[8 * half..], ROWS);
                            }
                        }
                    }
                    for token in tokens.clone().step_by(TOKENS) {
                        let count_t = TOKENS.min(tokens.end - token);
                        let x = &packed[(token - from) * k + start * TOKENS..][..count * TOKENS];
                        let mut sums = [[_mm256_setzero_ps(); 2]; TOKENS];
                        for (t, sums) in sums.iter_mut().enumerate().take(count_t) {
                            if add || start > 0 {
                                // SAFETY: these columns are ours.
                                let old = unsafe { y.at(token + t, row, n) };
                                *sums = [load(old), load(old.get(8..).unwrap_or_default())];
                            }
                        }
                        tile::<TOKENS, 1, TOKENS>(x, panel, ROWS, count, &mut sums);
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

/// Rows of `k` by tiles of [`TOKENS`]: element c of row t of a tile at `c * TOKENS + t`; rows that a last tile lacks are zero.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn interleave(x: &[f32], k: usize, out: &mut [f32]) {
    for (x, out) in x.chunks(TOKENS * k).zip(out.chunks_exact_mut(TOKENS * k)) {
        for (c, out) in out.as_chunks_mut::<TOKENS>().0.iter_mut().enumerate() {
            for (t, out) in out.iter_mut().enumerate() {
                *out = x.get(t * k + c).copied().unwrap_or(0.0);
            }
        }
    }
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
pub(super) fn columns(rows: &[f32], pitch: usize, count: usize, out: &mut [f32], stride: usize) {
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
unsafe fn turn<D: Dense>(rows: [*const u8; 8], count: usize, out: &mut [f32], stride: usize) {
    assert!(count > 0 && out.len() >= (count - 1) * stride + 8);
    let whole = count / 8 * 8;
    for c in (0..whole).step_by(8) {
        // SAFETY: columns c .. c + 8 of `count` that the rows and, as just checked, `out` have.
        unsafe {
            let v = transpose(rows.map(|row| D::eight(row.add(c * D::BYTES))));
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

/// sums[t] += x[t] . columns of `panel` for T rows of x, over `count` columns: element c of row t of `x` at `t * XT + c * XC` (constants, so that
/// one pointer serves all rows); panel `[count][>= 16]` with `stride` between its rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn tile<const T: usize, const XT: usize, const XC: usize>(
    x: &[f32],
    panel: &[f32],
    stride: usize,
    count: usize,
    sums: &mut [[__m256; 2]; T],
) {
    assert!(count > 0 && x.len() > (T - 1) * XT + (count - 1) * XC);
    assert!(panel.len() >= (count - 1) * stride + 16);
    let (x, panel) = (x.as_ptr(), panel.as_ptr());
    let mut f = *sums;
    for c in 0..count {
        // SAFETY: lengths just checked.
        unsafe {
            let w = [
                _mm256_loadu_ps(panel.add(c * stride)),
                _mm256_loadu_ps(panel.add(c * stride + 8)),
            ];
            for (t, f) in f.iter_mut().enumerate() {
                let x = _mm256_broadcast_ss(&*x.add(t * XT + c * XC));
                f[0] = _mm256_fmadd_ps(w[0], x, f[0]);
                f[1] = _mm256_fmadd_ps(w[1], x, f[1]);
            }
        }
    }
    *sums = f;
}

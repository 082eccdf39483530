//! f32 products: `Exact`, dense weights, formats without an integer kernel, adapters, and attention's tiles.
//!
//! From 4 tokens on, 16 weight rows are expanded to a panel `[columns][16]`, which meets 6 tokens at a time (12 sums, 2 weight
//! vectors and 1 broadcast fill the 16 registers). Below, each row is expanded by pieces and multiplied at once.

use std::arch::x86_64::*;
use std::ops::Range;

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
        match y.m() {
            1 => few::<1>(w, x, y, add, rows),
            2 => few::<2>(w, x, y, add, rows),
            3 => few::<3>(w, x, y, add, rows),
            _ => many(w, x, y, add, rows),
        }
    }
    const { assert!(FEW == 4) };
}

/// Columns `start .. start + out.len()` of a row as f32.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn expand(w: &Weight, row: usize, start: usize, out: &mut [f32]) {
    let bytes = |len: usize| w.format.bytes_for(len).unwrap_or(usize::MAX);
    let data = &w.row(row)[bytes(start)..][..bytes(out.len())];
    match w.format {
        BlockFormat::F32 => {
            for (out, data) in out.iter_mut().zip(data.as_chunks::<4>().0) {
                *out = f32::from_le_bytes(*data);
            }
        }
        BlockFormat::F16 => {
            for (out, data) in out.chunks_mut(8).zip(data.chunks(16)) {
                let mut all = [0u8; 16];
                all[..data.len()].copy_from_slice(data);
                // SAFETY: 16 bytes.
                store(out, _mm256_cvtph_ps(unsafe { _mm_loadu_si128(all.as_ptr().cast()) }));
            }
        }
        BlockFormat::BF16 => {
            for (out, data) in out.iter_mut().zip(data.as_chunks::<2>().0) {
                *out = f32::from_bits(u32::from(u16::from_le_bytes(*data)) << 16);
            }
        }
        format => format.dequantize(data, out),
    }
}

/// T tokens, row by row.
///
/// # Safety
/// As [`matmul_f32`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn few<const T: usize>(w: Weight, x: &[f32], y: Out, add: bool, rows: Range<usize>) {
    let k = w.cols;
    let mut piece = [0.0f32; COLUMNS];
    for row in rows {
        // Four chains a token.
        let mut f = [[_mm256_setzero_ps(); 4]; T];
        for start in (0..k).step_by(COLUMNS) {
            let piece = &mut piece[..COLUMNS.min(k - start)];
            expand(&w, row, start, piece);
            for (t, f) in f.iter_mut().enumerate() {
                let x = &x[t * k + start..][..piece.len()];
                for (w, x) in piece.chunks(32).zip(x.chunks(32)) {
                    for ((w, x), f) in w.chunks(8).zip(x.chunks(8)).zip(f.iter_mut()) {
                        *f = _mm256_fmadd_ps(load(w), load(x), *f);
                    }
                }
            }
        }
        for (t, [a, b, c, d]) in f.into_iter().enumerate() {
            let sum = sum(_mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d)));
            // SAFETY: this column is ours.
            let out = unsafe { &mut y.at(t, row, 1)[0] };
            *out = if add { *out + sum } else { sum };
        }
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
                    for r in 0..n {
                        expand(&w, row + r, start, &mut wide[r * COLUMNS..][..count]);
                    }
                    wide[n * COLUMNS..].fill(0.0);
                    for half in 0..ROWS / 8 {
                        let wide = &wide[half * 8 * COLUMNS..][..8 * COLUMNS];
                        columns(wide, COLUMNS, count, &mut panel[8 * half..], ROWS);
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

/// out[c][r] = rows[r][c] for 8 rows with `pitch` elements between them and `count` columns, `stride` between those of `out`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn columns(rows: &[f32], pitch: usize, count: usize, out: &mut [f32], stride: usize) {
    for start in (0..count).step_by(8) {
        let n = 8.min(count - start);
        let v = transpose(std::array::from_fn(|r| load(&rows[r * pitch + start..][..n])));
        for (c, v) in v.into_iter().enumerate().take(n) {
            store(&mut out[(start + c) * stride..][..8], v);
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

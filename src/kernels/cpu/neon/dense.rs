//! f32 products: `Exact`, dense weights, formats without an integer kernel, adapters, and attention's tiles.
//!
//! From 4 tokens on, 16 weight rows are expanded to a panel `[columns][16]`, which meets 6 tokens at a time (24 sums, 4 weight
//! vectors and 1 activation of the 32 registers). Below, each row is expanded by pieces and multiplied at once.

use std::arch::aarch64::*;
use std::ops::Range;

use super::lanes::{load, store, transpose, widen};
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

/// Sums of 16 rows for one token.
pub(super) type Sums = [float32x4_t; 4];

/// # Safety
/// As [`Isa::matmul_f32`](crate::kernels::cpu::isa::Isa::matmul_f32).
#[target_feature(enable = "neon")]
pub(super) unsafe fn matmul_f32(w: Weight, acts: &Acts, y: Out, add: bool, rows: Range<usize>) {
    assert!(acts.m == y.m() && acts.k == w.cols);
    // SAFETY: the caller's promise.
    unsafe {
        match acts.m {
            1 => few::<1>(w, acts, y, add, rows),
            2 => few::<2>(w, acts, y, add, rows),
            3 => few::<3>(w, acts, y, add, rows),
            _ => many(w, acts, y, add, rows),
        }
    }
    const { assert!(PANELS_FROM == 4) };
}

/// Columns `start .. start + out.len()` of a row as f32.
#[inline]
#[target_feature(enable = "neon")]
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
            for (out, data) in out.chunks_mut(4).zip(data.chunks(8)) {
                let mut all = [0u8; 8];
                all[..data.len()].copy_from_slice(data);
                // SAFETY: 8 bytes.
                store(out, widen(vreinterpret_u16_u8(unsafe { vld1_u8(all.as_ptr()) })));
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
#[target_feature(enable = "neon")]
unsafe fn few<const T: usize>(w: Weight, acts: &Acts, y: Out, add: bool, rows: Range<usize>) {
    let k = w.cols;
    let mut piece = [0.0f32; COLUMNS];
    for row in rows {
        // Four chains a token.
        let mut f = [[vdupq_n_f32(0.0); 4]; T];
        for start in (0..k).step_by(COLUMNS) {
            let piece = &mut piece[..COLUMNS.min(k - start)];
            expand(&w, row, start, piece);
            for (t, f) in f.iter_mut().enumerate() {
                let x = &acts.f32_tile_at(t)[start..][..piece.len()];
                for (w, x) in piece.chunks(16).zip(x.chunks(16)) {
                    for ((w, x), f) in w.chunks(4).zip(x.chunks(4)).zip(f.iter_mut()) {
                        *f = vfmaq_f32(*f, load(w), load(x));
                    }
                }
            }
        }
        for (t, [a, b, c, d]) in f.into_iter().enumerate() {
            let sum = vaddvq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d)));
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
#[target_feature(enable = "neon")]
unsafe fn many(w: Weight, acts: &Acts, y: Out, add: bool, rows: Range<usize>) {
    let (k, m) = (w.cols, acts.m);
    scratch::with_f32(2 * COLUMNS * ROWS, |buffer| {
        let (wide, panel) = buffer.split_at_mut(COLUMNS * ROWS);
        for from in (0..m).step_by(TOGETHER) {
            let tokens = from..m.min(from + TOGETHER);
            for row in rows.clone().step_by(ROWS) {
                let n = ROWS.min(rows.end - row);
                for start in (0..k).step_by(COLUMNS) {
                    let count = COLUMNS.min(k - start);
                    for r in 0..n {
                        expand(&w, row + r, start, &mut wide[r * COLUMNS..][..count]);
                    }
                    wide[n * COLUMNS..].fill(0.0);
                    for four in 0..ROWS / 4 {
                        let wide = &wide[four * 4 * COLUMNS..][..4 * COLUMNS];
                        columns(wide, COLUMNS, count, &mut panel[4 * four..], ROWS);
                    }
                    for token in tokens.clone().step_by(TOKENS) {
                        let count_t = TOKENS.min(tokens.end - token);
                        let x = &acts.f32_tile_at(token / TOKENS)[start * TOKENS..][..count * TOKENS];
                        let mut sums = [[vdupq_n_f32(0.0); 4]; TOKENS];
                        for (t, sums) in sums.iter_mut().enumerate().take(count_t) {
                            if add || start > 0 {
                                // SAFETY: these columns are ours.
                                let old = unsafe { y.at(token + t, row, n) };
                                sums.iter_mut()
                                    .zip(old.chunks(4))
                                    .for_each(|(sum, old)| *sum = load(old));
                            }
                        }
                        // SAFETY: the panel has `count` <= COLUMNS columns of ROWS.
                        unsafe {
                            tile::<false, TOKENS, 1, TOKENS>(x, panel.as_ptr().cast(), 4 * ROWS, count, &mut sums)
                        };
                        for (t, sums) in sums.into_iter().enumerate().take(count_t) {
                            // SAFETY: as above.
                            let out = unsafe { y.at(token + t, row, n) };
                            out.chunks_mut(4).zip(sums).for_each(|(out, sum)| store(out, sum));
                        }
                    }
                }
            }
        }
    });
}

/// out[c][r] = rows[r][c] for 4 rows with `pitch` elements between them and `count` columns, `stride` between those of `out`.
#[inline]
#[target_feature(enable = "neon")]
fn columns(rows: &[f32], pitch: usize, count: usize, out: &mut [f32], stride: usize) {
    for start in (0..count).step_by(4) {
        let n = 4.min(count - start);
        let v = transpose(std::array::from_fn(|r| load(&rows[r * pitch + start..][..n])));
        for (c, v) in v.into_iter().enumerate().take(n) {
            store(&mut out[(start + c) * stride..][..4], v);
        }
    }
}

/// sums[t] += x[t] . columns of `panel` for T rows of x, over `count` columns: element c of row t of `x` at `t * XT + c * XC` (constants, so that
/// one pointer serves all rows); panel `[count][>= 16]` numbers, f16 if HALF, else f32, with `pitch` bytes between its rows.
///
/// # Safety
/// They are readable.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn tile<const HALF: bool, const T: usize, const XT: usize, const XC: usize>(
    x: &[f32],
    panel: *const u8,
    pitch: usize,
    count: usize,
    sums: &mut [Sums; T],
) {
    assert!(count > 0 && x.len() > (T - 1) * XT + (count - 1) * XC);
    let x = x.as_ptr();
    let mut f = *sums;
    for c in 0..count {
        // SAFETY: the length of `x` was just checked, the panel is the caller's promise.
        unsafe {
            let w: Sums = std::array::from_fn(|i| four::<HALF>(panel.add(c * pitch), 4 * i));
            for (t, f) in f.iter_mut().enumerate() {
                let x = x.add(t * XT + c * XC).read();
                for (f, w) in f.iter_mut().zip(w) {
                    *f = vfmaq_n_f32(*f, w, x);
                }
            }
        }
    }
    *sums = f;
}

/// Numbers `at .. at + 4` of a row that begins at `p`, f16 if HALF, else f32.
///
/// # Safety
/// They are readable.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn four<const HALF: bool>(p: *const u8, at: usize) -> float32x4_t {
    // SAFETY: the caller's promise.
    unsafe {
        if HALF {
            widen(vld1_u16(p.cast::<u16>().add(at)))
        } else {
            vld1q_f32(p.cast::<f32>().add(at))
        }
    }
}

//! y[t][r] = sum_k x[t][k] w[r][k], weights dequantized row by row.
//!
//! The integer form multiplies by d * q, the value that the quantized activation stands for: this is the definition
//! of what the integer kernels of other levels compute in another order.

use std::ops::Range;

use crate::kernels::cpu::acts::{Acts, BLOCK, I8_LINES, I16_LINES, Partner, partner};
use crate::kernels::cpu::scratch;
use crate::kernels::cpu::types::{Out, Weight};

/// # Safety
/// As [`Isa::matmul_f32`](crate::kernels::cpu::isa::Isa::matmul_f32).
pub(crate) unsafe fn matmul_f32(w: Weight, acts: &Acts, y: Out, add: bool, rows: Range<usize>) {
    scratch::with_f32(w.cols * (acts.m + 1), |buffer| {
        let (row, x) = buffer.split_at_mut(w.cols);
        let tile = acts.f32_tile();
        for (t, x) in x.chunks_exact_mut(w.cols.max(1)).enumerate() {
            let tile_x = acts.f32_tile_at(t / tile)[t % tile..].iter().step_by(tile);
            x.iter_mut().zip(tile_x).for_each(|(x, v)| *x = *v);
        }
        for r in rows {
            w.format.dequantize(w.row(r), row);
            for t in 0..y.m() {
                let sum = dot(row, &x[t * w.cols..][..w.cols]);
                // SAFETY: column r is ours.
                let y = unsafe { &mut y.at(t, r, 1)[0] };
                *y = if add { *y + sum } else { sum };
            }
        }
    });
}

/// # Safety
/// As [`Isa::matmul_int`](crate::kernels::cpu::isa::Isa::matmul_int).
pub(crate) unsafe fn matmul_int(w: Weight, acts: &Acts, y: Out, rows: Range<usize>) {
    // Small batches at once; of large ones the activations are expanded again for each range of output rows.
    scratch::with_f32(w.cols * (acts.m + 1), |buffer| {
        let (row, x) = buffer.split_at_mut(w.cols);
        unpack(acts, partner(w.format), x);
        for r in rows {
            w.format.dequantize(w.row(r), row);
            for t in 0..acts.m {
                // SAFETY: column r is ours.
                unsafe { y.at(t, r, 1)[0] = dot(row, &x[t * w.cols..][..w.cols]) };
            }
        }
    });
}

/// Eight sums, so that the error grows slowly (and the compiler may use what vectors the target has).
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a8.zip(b8) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + b) + (c + d)) + ((e + f) + (g + h)) + tail
}

/// d * q of all rows, `[m][k]`, and the outliers in their places.
pub(crate) fn unpack(acts: &Acts, partner: Partner, x: &mut [f32]) {
    let tile = acts.tile();
    for (t, row) in x.chunks_exact_mut(acts.k).enumerate() {
        let lane = t % tile;
        for (b, x) in row.chunks_exact_mut(BLOCK).enumerate() {
            if partner == Partner::I16 {
                let record = &acts.i16_tile(t / tile)[b * I16_LINES * tile..][..I16_LINES * tile];
                let d = f32::from_bits(record[16 * tile + lane]);
                for (i, x) in x.chunks_exact_mut(4).enumerate() {
                    let (even, odd) = (record[i * tile + lane], record[(8 + i) * tile + lane]);
                    for (x, q) in x
                        .iter_mut()
                        .zip([even as i16, odd as i16, (even >> 16) as i16, (odd >> 16) as i16])
                    {
                        *x = d * f32::from(q);
                    }
                }
            } else {
                let record = &acts.i8_tile(t / tile)[b * I8_LINES * tile..][..I8_LINES * tile];
                let d = f32::from_bits(record[10 * tile + lane]);
                for (i, x) in x.chunks_exact_mut(4).enumerate() {
                    for (x, q) in x.iter_mut().zip(record[i * tile + lane].to_le_bytes()) {
                        *x = d * f32::from(q as i8);
                    }
                }
            }
        }
    }
    if partner == Partner::I8 {
        for t in 0..acts.m.div_ceil(tile) {
            for o in acts.tile_outliers(t) {
                x[(t * tile + o.token as usize) * acts.k + o.at as usize] = o.x;
            }
        }
    }
}

//! Gradients and weights in words: see [`crate::kernels::cpu::words`].

use std::ops::Range;

use crate::kernels::cpu::isa::Words;
use crate::kernels::cpu::types::Weight;
use crate::kernels::cpu::words::{self, AHEAD, BACK, COLUMNS, LEAST, SPAN};

pub(crate) fn pack_words(x: &[f32], code: f32, out: &mut [i16]) -> f32 {
    let most = x.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    let (steps, scale) = words::steps(most, code, !x.iter().any(|v| v.is_nan()));
    for (code, v) in out.iter_mut().zip(x) {
        *code = (v * steps).round_ties_even() as i16;
    }
    scale
}

pub(crate) fn word_panels(
    w: Weight,
    rows: Range<usize>,
    column: usize,
    unpacked: &mut [f32],
    panels: &mut [i16],
    scales: &mut [f32],
) {
    let (columns, depth) = (scales.len(), rows.len());
    let bytes = |columns: usize| w.format.bytes_for(columns).unwrap_or(0);
    scales.fill(0.0);
    for (row, out) in rows.zip(unpacked.chunks_exact_mut(columns)) {
        let blocks = &w.row(row)[bytes(column)..][..bytes(columns)];
        w.format.dequantize(blocks, out);
        for (most, v) in scales.iter_mut().zip(out) {
            *most = if v.abs() > *most { v.abs() } else { *most };
        }
    }
    for (c, scale) in scales.iter_mut().enumerate() {
        let steps = if *scale > LEAST { BACK.w / *scale } else { 0.0 };
        *scale = if *scale > LEAST { *scale * (1.0 / BACK.w) } else { 0.0 };
        let panel = &mut panels[c / COLUMNS * depth * COLUMNS..];
        for (r, row) in unpacked.chunks_exact(columns).take(depth).enumerate() {
            let at = (r / 2 * COLUMNS + c % COLUMNS) * 2 + r % 2;
            panel[at] = (row[c] * steps).round_ties_even() as i16;
        }
    }
}

pub(crate) fn word_rows(
    w: Weight,
    row: usize,
    columns: Range<usize>,
    unpacked: &mut [f32],
    panel: &mut [i16],
    scales: &mut [f32],
) {
    let bytes = |columns: usize| w.format.bytes_for(columns).unwrap_or(0);
    let unpacked = &mut unpacked[..columns.len()];
    for (r, scale) in scales.iter_mut().enumerate() {
        if row + r < w.rows {
            let blocks = &w.row(row + r)[bytes(columns.start)..bytes(columns.end)];
            w.format.dequantize(blocks, unpacked);
        } else {
            unpacked.fill(0.0);
        }
        let most = unpacked
            .iter()
            .fold(0.0f32, |most, v| if v.abs() > most { v.abs() } else { most });
        let steps = if most > LEAST { AHEAD.w / most } else { 0.0 };
        *scale = if most > LEAST { most * (1.0 / AHEAD.w) } else { 0.0 };
        for (c, v) in unpacked.iter().enumerate() {
            panel[(c / 2 * COLUMNS + r) * 2 + c % 2] = (v * steps).round_ties_even() as i16;
        }
    }
}

/// # Safety
/// As [`Isa::word_products`](crate::kernels::cpu::isa::Isa::word_products).
pub(crate) unsafe fn word_products(p: Words) {
    let depth = p.depth();
    for (t, (x, x_scale)) in p.x.chunks_exact(SPAN).zip(p.x_scales).enumerate() {
        // SAFETY: these columns are ours.
        let y = unsafe { p.y.at(t, p.column, COLUMNS) };
        let mut sums = [0i32; COLUMNS];
        for (pair, x) in p.panel.chunks_exact(2 * COLUMNS).zip(x[..depth].chunks_exact(2)) {
            for (sum, codes) in sums.iter_mut().zip(pair.chunks_exact(2)) {
                *sum += i32::from(codes[0]) * i32::from(x[0]) + i32::from(codes[1]) * i32::from(x[1]);
            }
        }
        for ((y, sum), scale) in y.iter_mut().zip(sums).zip(p.scales) {
            let old = if p.add { *y } else { 0.0 };
            *y = old + sum as f32 * (scale * x_scale);
        }
    }
}

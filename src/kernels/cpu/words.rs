//! Products of training in 16 bits: y = x w^T ([`Fine`](super::Precision::Fine)) and the gradients back, dx += dy w, for w as it lies in its
//! blocks.
//!
//! Back, the sums run over the rows of w, across its blocks, so that scales of blocks cannot stand before a sum. [`SPAN`] rows at a time are
//! unpacked for some columns and packed again, with one scale for each column (AVX-512: for each 32); a row of gradients has one scale for as
//! many numbers. Ahead, the same with rows and columns exchanged, and a scale for each row of w. So long sums of products in i32 need no look
//! at a scale: they have 23 bits for the codes of both. Activations and weights have much the same need of them; gradients, of which a few are
//! far larger than the others, have more ([`AHEAD`], [`BACK`]): with 14 bits for them too the least cosine of a tensor's gradients with those of
//! `Exact` was 0.9956 instead of 0.9973 over six texts, with 15 bits for activations 0.9957.

use std::ops::Range;

use super::acts::Acts;
use super::isa::Words;
use super::types::{Out, Weight};
use super::{Cpu, GRAIN, scratch};

/// Rows of w that share a scale in each column: terms of a sum in i32.
pub(super) const SPAN: usize = 256;
/// Columns of a panel.
pub(super) const COLUMNS: usize = 32;
/// The largest codes of a product's factors.
pub(super) struct Largest {
    /// Of activations or gradients.
    pub x: f32,
    /// Of weights.
    pub w: f32,
}

impl Largest {
    const fn new(x: f32, w: f32) -> Self {
        assert!(SPAN as i64 * x as i64 * w as i64 <= i32::MAX as i64);
        Largest { x, w }
    }
}

/// Those of y = x w^T.
pub(super) const AHEAD: Largest = Largest::new(8191.0, 1023.0);
/// Those of dx += dy w.
pub(super) const BACK: Largest = Largest::new(16383.0, 511.0);
/// Largest magnitudes below this count as 0, so that a step has an inverse.
pub(super) const LEAST: f32 = 1e-30;
/// Columns that are unpacked together, where blocks are not longer: cache lines hold several blocks of a row.
const WIDEST: usize = 128;

/// Floats that hold so many codes.
const fn floats(codes: usize) -> usize {
    codes.div_ceil(2)
}

/// `codes` codes in a buffer.
fn codes_in(buffer: &mut [f32], codes: usize) -> &mut [i16] {
    assert!(codes <= 2 * buffer.len());
    // SAFETY: any bits are valid in both types, the alignment of f32 is enough for i16; same memory, same lifetime.
    unsafe { std::slice::from_raw_parts_mut(buffer.as_mut_ptr().cast(), codes) }
}

/// Columns of a matrix with blocks of `block` that are unpacked together: as many pieces for each thread, where that goes. `None`: its shape
/// is nothing for these kernels.
fn wide(block: usize, rows: usize, cols: usize, threads: usize) -> Option<usize> {
    let least = block.max(COLUMNS);
    let fits = |wide: &usize| wide.is_multiple_of(least) && cols.div_ceil(*wide).is_multiple_of(threads);
    let possible = rows.is_multiple_of(32) && cols.is_multiple_of(least) && least.is_multiple_of(COLUMNS);
    possible.then(|| [WIDEST, 96, 64].into_iter().find(fits).unwrap_or(least))
}

/// Bytes that leading `m` rows of gradients back through a matrix of so many rows takes for a moment: once, and for each
/// thread.
pub fn matmul_back_bytes(rows: usize, m: usize) -> [usize; 2] {
    let spans = rows.div_ceil(SPAN);
    let widest = 2 * WIDEST;
    [
        spans * m * (2 * SPAN + size_of::<f32>()),
        widest * (SPAN * (size_of::<f32>() + size_of::<i16>()) + size_of::<f32>()),
    ]
}

/// What turns numbers of at most `most` in magnitude into codes of at most `code`, and those into numbers; NaN where one is no number.
pub(super) fn steps(most: f32, code: f32, numbers: bool) -> (f32, f32) {
    match (most > LEAST, numbers && most < f32::INFINITY) {
        (_, false) => (0.0, f32::NAN),
        (true, _) => (code / most, most * (1.0 / code)),
        (false, _) => (0.0, 0.0),
    }
}

impl Cpu {
    /// Columns `rows` of y = x w^T, x packed in words.
    ///
    /// # Safety
    /// The weight is checked and has an integer kernel; `rows` is within it and begins at a multiple of [`COLUMNS`]; nobody else uses these
    /// columns of y.
    pub(super) unsafe fn matmul_words(&self, w: Weight, acts: &Acts, y: Out, rows: Range<usize>) {
        let (m, k) = (acts.m, w.cols);
        let room = COLUMNS * (SPAN + floats(SPAN) + 1);
        let tail = if rows.len().is_multiple_of(COLUMNS) {
            0
        } else {
            m * COLUMNS
        };
        scratch::with_f32(room + tail, |buffer| {
            let (buffer, tail) = buffer.split_at_mut(room);
            let (unpacked, buffer) = buffer.split_at_mut(COLUMNS * SPAN);
            let (panel, scales) = buffer.split_at_mut(COLUMNS * floats(SPAN));
            let panel = codes_in(panel, COLUMNS * SPAN);
            // Not by rows first: the activations of a span stay in the second-level cache.
            for (span, start) in (0..k).step_by(SPAN).enumerate() {
                let columns = start..k.min(start + SPAN);
                for row in rows.clone().step_by(COLUMNS) {
                    let panel = &mut panel[..columns.len() * COLUMNS];
                    let whole = row + COLUMNS <= rows.end;
                    // SAFETY: the level fits the CPU; whole blocks, as those of the format divide SPAN; the columns are ours, or the tail's.
                    unsafe {
                        (self.isa.word_rows)(w, row, columns.clone(), unpacked, panel, scales);
                        (self.isa.word_products)(Words {
                            panel,
                            scales,
                            x: &acts.words[span * m * SPAN..][..m * SPAN],
                            x_scales: &acts.word_scales[span * m..][..m],
                            y: if whole { y } else { Out::new(tail, COLUMNS) },
                            column: if whole { row } else { 0 },
                            add: start > 0,
                        });
                    }
                }
            }
            let last = rows.end / COLUMNS * COLUMNS;
            for (t, tail) in tail.chunks_exact(COLUMNS).enumerate() {
                // SAFETY: as above.
                let y = unsafe { y.at(t, last, rows.end - last) };
                y.copy_from_slice(&tail[..y.len()]);
            }
        });
    }

    /// [`matmul_back`](Self::matmul_back) in integers where the shape allows it: see the head of the file. Gradients in 8 bits, as activations
    /// are, were tried: the least cosine of a tensor's gradients with those of `Exact` was 0.9959 instead of 0.9966 on the same text.
    ///
    /// # Panics
    /// If lengths do not belong together.
    pub fn matmul_back_int(&self, w: Weight, dy: &[f32], dx: &mut [f32]) {
        w.check();
        let (n, k) = (w.rows, w.cols);
        let Some(wide) = wide(w.format.info().block_len, n, k, self.threads()) else {
            return self.matmul_back(w, dy, dx);
        };
        assert!(
            dy.len().is_multiple_of(n) && dx.len() == dy.len() / n * k,
            "matmul_back: lengths"
        );
        let (m, spans) = (dy.len() / n, n.div_ceil(SPAN));
        let dx = Out::new(dx, k);
        scratch::with_f32(spans * m * (floats(SPAN) + 1), |buffer| {
            let (codes, scales) = buffer.split_at_mut(spans * m * floats(SPAN));
            {
                let (codes, scales) = (Out::new(codes, floats(SPAN)), Out::new(scales, 1));
                self.split(spans * m, GRAIN.div_ceil(SPAN), &|pieces| {
                    for at in pieces {
                        let (span, t) = (at / m, at % m);
                        let x = &dy[t * n..][span * SPAN..n.min((span + 1) * SPAN)];
                        // SAFETY: row `at` is this piece's; the level fits the CPU.
                        unsafe {
                            let codes = codes_in(codes.at(at, 0, floats(SPAN)), SPAN);
                            scales.at(at, 0, 1)[0] = (self.isa.pack_words)(x, BACK.x, codes);
                        }
                    }
                });
            }
            let codes = &*codes_in(codes, spans * m * SPAN);
            let scales = &*scales;
            self.split(k.div_ceil(wide), 1, &|pieces| {
                scratch::with_f32(wide * (SPAN + floats(SPAN) + 1), |buffer| {
                    let (unpacked, buffer) = buffer.split_at_mut(wide * SPAN);
                    let (panels, of_columns) = buffer.split_at_mut(wide * floats(SPAN));
                    let panels = codes_in(panels, wide * SPAN);
                    for column in pieces.map(|piece| piece * wide) {
                        let columns = wide.min(k - column);
                        for span in 0..spans {
                            let rows = span * SPAN..n.min((span + 1) * SPAN);
                            let depth = rows.len();
                            let of_columns = &mut of_columns[..columns];
                            // SAFETY: the level fits the CPU; whole blocks; rows are a multiple of 32.
                            unsafe { (self.isa.word_panels)(w, rows, column, unpacked, panels, of_columns) };
                            let x = &codes[span * m * SPAN..][..m * SPAN];
                            let x_scales = &scales[span * m..][..m];
                            let each = panels
                                .chunks_exact(depth * COLUMNS)
                                .zip(of_columns.chunks_exact(COLUMNS));
                            for (i, (panel, of_columns)) in each.enumerate() {
                                let words = Words {
                                    panel,
                                    scales: of_columns,
                                    x,
                                    x_scales,
                                    y: dx,
                                    column: column + i * COLUMNS,
                                    add: true,
                                };
                                // SAFETY: the level fits the CPU; these columns belong to this piece.
                                unsafe { (self.isa.word_products)(words) };
                            }
                        }
                    }
                });
            });
        });
    }
}

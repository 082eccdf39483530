//! Matrices of adapters: tall or wide and thin, packed once for the life of the adapter.
//!
//! 16 rows together, column by column: `[rows / 16][columns][16]`, rows past the last zero. A product then reads one stream and needs no
//! sum across a vector, whether the matrix has few rows (A of a low-rank update) or few columns (B).

use std::ops::Range;
use std::sync::OnceLock;

use half::f16;

use super::acts::F32_TILE;
use super::types::{Out, Precision};
use crate::quant::BlockFormat;

/// Rows of a panel.
pub(crate) const ROWS: usize = 16;

/// A packed matrix.
pub struct Panels {
    rows: usize,
    cols: usize,
    format: BlockFormat,
    data: Vec<u8>,
    /// For `Fast`: an f32 matrix divided by a power of two, in f16, half the bytes to read; and the power.
    half: OnceLock<(Box<Panels>, f32)>,
}

/// What a kernel reads.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub rows: usize,
    pub cols: usize,
    /// F32, F16 or BF16.
    pub format: BlockFormat,
    pub data: &'a [u8],
}

/// What becomes of a product.
#[derive(Clone, Copy)]
pub(crate) enum How<'a> {
    /// y = product.
    Set,
    /// y += product.
    Add,
    /// y += factors ⊙ product, one for each row of the matrix.
    Scaled(&'a [f32]),
}

impl Panels {
    /// Packs a row-major matrix of F32, F16 or BF16.
    ///
    /// # Panics
    /// If `bytes` are not `rows * cols` numbers.
    pub fn new(rows: usize, cols: usize, format: BlockFormat, bytes: &[u8]) -> Self {
        let size = format.info().block_bytes;
        assert_eq!(bytes.len(), rows * cols * size, "panels: shape");
        let mut data = vec![0; rows.div_ceil(ROWS) * ROWS * cols * size];
        match size {
            2 => pack::<2>(cols, bytes, &mut data),
            _ => pack::<4>(cols, bytes, &mut data),
        }
        Panels {
            rows,
            cols,
            format,
            data,
            half: OnceLock::new(),
        }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The type of its numbers.
    pub fn format(&self) -> BlockFormat {
        self.format
    }

    /// Bytes that a product reads.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// The numbers, row by row.
    pub fn to_rows(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.data.len() / self.format.info().block_bytes];
        self.format.dequantize(&self.data, &mut values);
        let mut rows = vec![0.0; self.rows * self.cols];
        for (i, v) in rows.iter_mut().enumerate() {
            let (row, c) = (i / self.cols, i % self.cols);
            *v = values[(row / ROWS * self.cols + c) * ROWS + row % ROWS];
        }
        rows
    }

    fn view(&self) -> View<'_> {
        View {
            rows: self.rows,
            cols: self.cols,
            format: self.format,
            data: &self.data,
        }
    }

    /// What to read at `precision`, and what to multiply products with.
    pub(crate) fn at(&self, precision: Precision, halves: bool) -> (View<'_>, f32) {
        if precision == Precision::Exact || self.format != BlockFormat::F32 || !halves {
            return (self.view(), 1.0);
        }
        let (half, scale) = self.half.get_or_init(|| {
            let values: Vec<f32> = self.data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            let largest = values.iter().fold(0.0f32, |max, v| max.max(v.abs()));
            // The largest becomes 0.5 to 1: small numbers keep their 11 bits.
            let power = if largest > 0.0 {
                largest.log2().ceil().clamp(-100.0, 100.0).exp2()
            } else {
                1.0
            };
            let half = Panels {
                format: BlockFormat::F16,
                data: values
                    .iter()
                    .flat_map(|v| f16::from_f32(v / power).to_le_bytes())
                    .collect(),
                half: OnceLock::new(),
                ..*self
            };
            (Box::new(half), power)
        });
        (half.view(), *scale)
    }
}

/// Packs rows of `cols` numbers of N bytes.
fn pack<const N: usize>(cols: usize, rows: &[u8], out: &mut [u8]) {
    if cols == 0 {
        return;
    }
    let (rows, _) = rows.as_chunks::<N>();
    let (out, _) = out.as_chunks_mut::<N>();
    for (rows, panel) in rows.chunks(ROWS * cols).zip(out.chunks_exact_mut(ROWS * cols)) {
        // Some columns of all rows at a time: what is read stays in cache until its line is used up, what is written is in order.
        for (c, column) in panel.chunks_exact_mut(ROWS).enumerate() {
            for (out, row) in column.iter_mut().zip(rows.chunks_exact(cols)) {
                *out = row[c];
            }
        }
    }
}

/// The kernel in plain Rust: see [`Isa::panels`](super::isa::Isa::panels).
pub(crate) fn portable(p: View, panels: Range<usize>, x: &[f32], tokens: usize, y: Out, first: usize, how: How) {
    let tile = if x.len() == p.cols { 1 } else { F32_TILE };
    let size = p.format.info().block_bytes;
    let mut wide = vec![0.0; p.cols * ROWS];
    for panel in panels {
        let n = ROWS.min(p.rows - panel * ROWS);
        p.format.dequantize(
            &p.data[panel * p.cols * ROWS * size..][..p.cols * ROWS * size],
            &mut wide,
        );
        for t in 0..tokens {
            let mut sums = [0.0f32; ROWS];
            for (c, w) in wide.chunks_exact(ROWS).enumerate() {
                let x = x[c * tile + t];
                sums.iter_mut().zip(w).for_each(|(s, w)| *s += x * w);
            }
            // SAFETY: the caller's promise: nobody else uses these columns of y.
            let out = unsafe { y.at(first + t, panel * ROWS, n) };
            match how {
                How::Set => out.copy_from_slice(&sums[..n]),
                How::Add => out.iter_mut().zip(sums).for_each(|(y, s)| *y += s),
                How::Scaled(f) => {
                    let f = &f[panel * ROWS..];
                    out.iter_mut().zip(sums).zip(f).for_each(|((y, s), f)| *y += f * s);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_and_back_changes_nothing_and_halves_are_near() {
        for (rows, cols) in [(1, 1), (16, 3), (17, 5), (40, 2)] {
            let values: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * 0.7).sin() * 1e-6).collect();
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let panels = Panels::new(rows, cols, BlockFormat::F32, &bytes);
            assert_eq!(panels.to_rows(), values);
            let (view, scale) = panels.at(Precision::Fast, true);
            assert_eq!((view.format, view.data.len()), (BlockFormat::F16, panels.bytes() / 2));
            let (half, _) = panels.half.get().unwrap();
            for (a, b) in half.to_rows().iter().zip(&values) {
                assert!((a * scale - b).abs() <= 1e-6 / 2048.0);
            }
        }
    }
}

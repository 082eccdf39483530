//! A matrix of an adapter, in the type that it was saved in.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{Dtype, Gguf, TensorInfo, TensorView};
use crate::linalg;
use crate::quant::{self, BlockFormat};

/// A row-major matrix of F32, F16 or BF16. Cloning shares the numbers.
#[derive(Clone, PartialEq)]
pub struct Matrix {
    rows: usize,
    cols: usize,
    format: BlockFormat,
    bytes: Arc<[u8]>,
}

impl fmt::Debug for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} {}", self.rows, self.cols, self.format.name())
    }
}

impl Matrix {
    /// A matrix of f32.
    ///
    /// # Panics
    /// If `values` are not `rows * cols`.
    pub fn from_f32(rows: usize, cols: usize, values: &[f32]) -> Self {
        assert_eq!(rows.checked_mul(cols), Some(values.len()), "matrix: shape");
        Matrix {
            rows,
            cols,
            format: BlockFormat::F32,
            bytes: le_bytes(values),
        }
    }

    /// The tensor as `rows` rows (its elements in order), in its own type.
    ///
    /// # Errors
    /// A type that is none of the three, a value that is no finite number: it would turn every later token into garbage.
    ///
    /// # Panics
    /// If the elements are not `rows * cols`.
    pub fn from_tensor(t: &TensorView, rows: usize, cols: usize) -> Result<Self> {
        assert_eq!(rows.checked_mul(cols), Some(t.elements()), "matrix: shape");
        let format = match t.dtype {
            Dtype::F32 => BlockFormat::F32,
            Dtype::F16 => BlockFormat::F16,
            Dtype::BF16 => BlockFormat::BF16,
            other => {
                let e = Error::unsupported("the type of the tensor is not supported");
                return Err(t.error(e.expected("F32, F16 or BF16").found(other)));
            }
        };
        Self::of_bytes(rows, cols, format, t.data.into()).map_err(|e| t.error(e))
    }

    /// The tensor of a GGUF file as `rows` rows (its elements in order): in its own type, or in f32 if it is quantized.
    ///
    /// # Errors
    /// As [`Matrix::from_tensor`].
    ///
    /// # Panics
    /// If the elements are not `rows * cols`.
    pub fn from_gguf(gguf: &Gguf, t: &TensorInfo, rows: usize, cols: usize) -> Result<Self> {
        assert_eq!(rows.checked_mul(cols), Some(t.elements()), "matrix: shape");
        let data = gguf.data(t);
        let (format, bytes) = match t.format {
            BlockFormat::F32 | BlockFormat::F16 | BlockFormat::BF16 => (t.format, data.into()),
            quantized => {
                let mut values = vec![0.0; t.elements()];
                quantized.dequantize(data, &mut values);
                (BlockFormat::F32, le_bytes(&values))
            }
        };
        Self::of_bytes(rows, cols, format, bytes).map_err(|e| e.file(gguf.path()).item(&t.name))
    }

    /// A matrix of finite numbers in one of the three types.
    fn of_bytes(rows: usize, cols: usize, format: BlockFormat, bytes: Arc<[u8]>) -> Result<Self> {
        let m = Matrix {
            rows,
            cols,
            format,
            bytes,
        };
        match first_not_finite(format, &m.bytes) {
            None => Ok(m),
            Some(i) => {
                let e = Error::invalid("value is not a finite number").expected("finite numbers");
                Err(e.found(format_args!("{} at element {i}", m.to_f32()[i])))
            }
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

    /// Elements.
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// F32, F16 or BF16.
    pub fn format(&self) -> BlockFormat {
        self.format
    }

    /// The numbers as they are saved, little-endian.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// The numbers, row by row.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.len()];
        self.format.dequantize(&self.bytes, &mut values);
        values
    }

    /// Row `i` moved to row `to(i)`; `to` is a permutation.
    pub fn permute_rows(&self, to: impl Fn(usize) -> usize) -> Matrix {
        let row = self.bytes.len().checked_div(self.rows).unwrap_or(0);
        let mut bytes = vec![0; self.bytes.len()];
        for (i, from) in self.bytes.chunks_exact(row.max(1)).enumerate() {
            bytes[to(i) * row..][..row].copy_from_slice(from);
        }
        Matrix {
            bytes: bytes.into(),
            ..self.clone()
        }
    }

    /// The matrix with each number changed by `change(row, column, number)`, in f32.
    pub fn map(&self, change: impl Fn(usize, usize, f32) -> f32) -> Matrix {
        let mut values = self.to_f32();
        for (i, row) in values.chunks_exact_mut(self.cols.max(1)).enumerate() {
            for (j, v) in row.iter_mut().enumerate() {
                *v = change(i, j, *v);
            }
        }
        Matrix::from_f32(self.rows, self.cols, &values)
    }

    /// Its shape alone: nobody may ask for its numbers.
    pub fn without_numbers(&self) -> Matrix {
        Matrix {
            bytes: Arc::default(),
            ..*self
        }
    }

    /// The first `rows` rows of the first `cols` columns.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn top_left(&self, rows: usize, cols: usize) -> Matrix {
        assert!(rows <= self.rows && cols <= self.cols, "matrix: shape");
        if (rows, cols) == (self.rows, self.cols) {
            return self.clone();
        }
        let (size, row) = (self.format.info().block_bytes, self.bytes.len() / self.rows.max(1));
        let rows_of = self.bytes.chunks_exact(row.max(1)).take(rows);
        Matrix {
            rows,
            cols,
            format: self.format,
            bytes: rows_of.flat_map(|r| &r[..cols * size]).copied().collect(),
        }
    }

    /// The transpose, in f32.
    pub fn transposed(&self) -> Matrix {
        let values = linalg::transpose(self.rows, self.cols, &self.to_f32());
        Matrix::from_f32(self.cols, self.rows, &values)
    }
}

fn le_bytes(values: &[f32]) -> Arc<[u8]> {
    let mut bytes = Vec::new();
    quant::f32::append(values, &mut bytes);
    bytes.into()
}

/// The first number that is NaN or infinite: one whose exponent has all bits set.
fn first_not_finite(format: BlockFormat, bytes: &[u8]) -> Option<usize> {
    match format {
        BlockFormat::F32 => first(bytes.as_chunks().0, |b| {
            u32::from_le_bytes(b) & 0x7f80_0000 == 0x7f80_0000
        }),
        BlockFormat::F16 => first(bytes.as_chunks().0, |b| u16::from_le_bytes(b) & 0x7c00 == 0x7c00),
        _ => first(bytes.as_chunks().0, |b| u16::from_le_bytes(b) & 0x7f80 == 0x7f80),
    }
}

/// The first element that `is_bad`. Whole runs are looked at without a branch, so that the compiler can use vectors.
fn first<const N: usize>(elements: &[[u8; N]], is_bad: impl Fn([u8; N]) -> bool) -> Option<usize> {
    const RUN: usize = 4096;
    for (run, chunk) in elements.chunks(RUN).enumerate() {
        if chunk.iter().fold(false, |any, &e| any | is_bad(e)) {
            return chunk.iter().position(|&e| is_bad(e)).map(|i| run * RUN + i);
        }
    }
    None
}

/// out += the rows of `b`, each times its factor: a row of a product.
pub(in crate::adapter) fn add_rows(factors: &[f32], b: &[f32], out: &mut [f32]) {
    for (f, row) in factors.iter().zip(b.chunks_exact(out.len())) {
        out.iter_mut().zip(row).for_each(|(o, v)| *o += f * v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_move_in_any_type_and_transposing_twice_changes_nothing() {
        let m = Matrix::from_f32(3, 2, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(m.permute_rows(|i| (i + 1) % 3).to_f32(), [5.0, 6.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(m.transposed().to_f32(), [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
        assert_eq!(m.transposed().transposed(), m);
        assert_eq!(
            m.map(|i, j, v| v + 10.0 * i as f32 + 100.0 * j as f32).to_f32()[3],
            114.0
        );
    }

    #[test]
    fn the_first_bad_element_is_found() {
        let mut all = vec![[0u8; 4]; 10_000];
        let nan = |b: [u8; 4]| f32::from_le_bytes(b).is_nan();
        assert_eq!(first(&all, nan), None);
        all[9_000] = f32::NAN.to_le_bytes();
        all[5_000] = f32::NAN.to_le_bytes();
        assert_eq!(first(&all, nan), Some(5_000));
    }
}

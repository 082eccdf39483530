//! Packing rows so that what one block loses, later blocks make up for, in the directions in which the inputs of the matrix point.
//!
//! A row w, packed as v, should give v·x close to w·x for the inputs x that occur. Taken alone, the least squared error of each block does
//! not do that: a small change that all columns share (what an adapter adds) is rounded away in every block alike, and nothing of it is
//! left, although it is the part that matters. So the error is measured as
//!
//! ```text
//! E[((v - w)·x)²]  ~  |(v - w) S|² + sum of l_j (v_j - w_j)²,      S: [cols][k], S S^T ~ E[x x^T],   l_j = E[x_j²] - |s_j|²
//! ```
//!
//! and blocks are packed one after the other: with r = the part of (v - w) S from the blocks before, block b is packed as
//! `w_b - r G_b`, where the gain G_b is what minimises the whole if all columns from b on were free. That minimum is of least
//! squares with a prior, so it comes from the back as in a Kalman filter, in k dimensions:
//!
//! ```text
//! J_b = 1 + sum of s_j s_j^T / l_j over columns j from block b on      G_b = J_b^-1 S_b^T L_b^-1
//! ```
//!
//! Within a block errors weigh `l_j + s_j J_{b+1}^-1 s_j^T`: alone, and through the directions, with later blocks free.

use nalgebra::DMatrix;

use super::BlockFormat;
use crate::error::Result;

/// What packing rows of one matrix needs to know of its inputs.
pub struct Feedback {
    format: BlockFormat,
    /// Directions.
    k: usize,
    /// S, `[cols][k]`.
    s: Vec<f32>,
    /// For each block G, `[k][block]`.
    gain: Vec<f32>,
    /// Weights of squared errors, for each column.
    weights: Vec<f32>,
}

impl Feedback {
    /// For rows of whole blocks of `format`, whose inputs have the mean squares `squares` and, in S^T `[k][cols]`, these directions.
    /// `None` where they say nothing: inputs that are zero, not finite, or without a direction that stands out.
    pub fn new(format: BlockFormat, squares: &[f64], directions: &[f32]) -> Option<Self> {
        /// The share of the mean square of all columns that a column has at least: a text shows only what it shows.
        const LEAST: f64 = 1e-2;
        /// The share of a column's mean square that S leaves out at least.
        const ALONE: f64 = 0.03;
        let (cols, k) = (squares.len(), directions.len() / squares.len().max(1));
        let mean = squares.iter().sum::<f64>() / cols as f64;
        if k == 0 || !(mean.is_finite() && mean > 0.0) || directions.iter().any(|s| !s.is_finite()) {
            return None;
        }
        // In units of the mean, so that nothing overflows.
        let unit = mean.sqrt();
        let s = DMatrix::from_fn(k, cols, |i, j| f64::from(directions[i * cols + j]) / unit);
        let s = prominent(&s);
        let k = s.nrows();
        if k == 0 {
            return None;
        }
        let l: Vec<f64> = squares
            .iter()
            .enumerate()
            .map(|(j, x)| {
                let x = (x / mean).max(LEAST);
                (x - s.column(j).norm_squared()).max(ALONE * x)
            })
            .collect();
        let n = format.info().block_len;
        let mut feedback = Feedback {
            format,
            k,
            s: s.iter().map(|s| *s as f32).collect(),
            gain: vec![0.0; k * cols],
            weights: vec![0.0; cols],
        };
        let mut information = DMatrix::identity(k, k);
        let mut inverse = DMatrix::identity(k, k);
        for b in (0..cols / n).rev() {
            let s = s.columns(b * n, n);
            let through = &inverse * s;
            let mut scaled = s.clone_owned();
            for j in 0..n {
                let l = l[b * n + j];
                feedback.weights[b * n + j] = (l + s.column(j).dot(&through.column(j))) as f32;
                scaled.column_mut(j).scale_mut(l.recip());
            }
            information += &scaled * s.transpose();
            inverse = information.clone().cholesky()?.inverse();
            let gain = &inverse * scaled;
            for (to, g) in feedback.gain[b * k * n..].iter_mut().zip(gain.transpose().iter()) {
                *to = *g as f32;
            }
        }
        Some(feedback)
    }

    /// Packs `values`, whole rows, into `out`, as [`BlockFormat::quantize`] does.
    ///
    /// # Errors
    /// As that.
    pub fn quantize(&self, values: &[f32], out: &mut [u8]) -> Result<()> {
        let info = self.format.info();
        let (n, cols) = (info.block_len, self.weights.len());
        let row_bytes = cols / n * info.block_bytes;
        let (mut target, mut back) = (vec![0.0; n], vec![0.0; n]);
        let mut off = vec![0.0f32; self.k];
        for (row, out) in values.chunks_exact(cols).zip(out.chunks_exact_mut(row_bytes)) {
            off.fill(0.0);
            let blocks = row.chunks_exact(n).zip(out.chunks_exact_mut(info.block_bytes));
            for (b, (w, out)) in blocks.enumerate() {
                let weights = Some(&self.weights[b * n..][..n]);
                target.copy_from_slice(w);
                for (off, gain) in off.iter().zip(self.gain[b * self.k * n..].chunks_exact(n)) {
                    target.iter_mut().zip(gain).for_each(|(t, g)| *t -= off * g);
                }
                // Where the correction leads out of the format's range it cannot be made.
                if self.format.quantize(&target, weights, out).is_err() {
                    self.format.quantize(w, weights, out)?;
                }
                self.format.dequantize(out, &mut back);
                let s = self.s[b * n * self.k..].chunks_exact(self.k);
                for ((v, w), s) in back.iter().zip(w).zip(s) {
                    off.iter_mut().zip(s).for_each(|(off, s)| *off += (v - w) * s);
                }
            }
        }
        Ok(())
    }
}

/// The directions of `s`, `[k][cols]`, that stand out: those of its principal axes that are longer than half of them, less that length. Few
/// random mixes of rows that point everywhere are long by chance, all alike.
fn prominent(s: &DMatrix<f64>) -> DMatrix<f64> {
    let eigen = (s * s.transpose()).symmetric_eigen();
    let mut squares: Vec<f64> = eigen.eigenvalues.iter().copied().collect();
    squares.sort_by(f64::total_cmp);
    let median = squares[squares.len() / 2];
    let kept: Vec<usize> = (0..squares.len()).filter(|i| eigen.eigenvalues[*i] > median).collect();
    let mut axes = eigen.eigenvectors.select_columns(&kept);
    for (mut axis, i) in axes.column_iter_mut().zip(&kept) {
        axis *= (1.0 - median / eigen.eigenvalues[*i]).sqrt();
    }
    axes.transpose() * s
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLS: usize = 2048;
    const K: usize = 8;

    /// Numbers around zero, the same every time.
    fn noise(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next() + next() + next()).collect()
    }

    /// S^T, whose first direction stands out, and the mean squares that belong to it.
    fn inputs() -> (Vec<f32>, Vec<f64>) {
        let mut s = noise(K * COLS, 7);
        s[..COLS].iter_mut().for_each(|s| *s *= 8.0);
        let squares = (0..COLS).map(|j| (0..K).map(|d| f64::from(s[d * COLS + j]).powi(2)).sum());
        let squares = squares.collect();
        (s, squares)
    }

    fn unpack(format: BlockFormat, bytes: &[u8]) -> Vec<f32> {
        let mut values = vec![0.0; COLS];
        format.dequantize(bytes, &mut values);
        values
    }

    /// |(v - w) S|
    fn off(v: &[f32], w: &[f32], s: &[f32]) -> f32 {
        let along = |s: &[f32]| v.iter().zip(w).zip(s).map(|((v, w), s)| (v - w) * s).sum::<f32>();
        s.chunks_exact(COLS).map(|s| along(s).powi(2)).sum::<f32>().sqrt()
    }

    #[test]
    fn a_small_change_that_columns_share_is_not_rounded_away() {
        use BlockFormat as F;
        let (s, squares) = inputs();
        for format in [F::Q4_0, F::Q4_1, F::Q5_0, F::Q5_1, F::Q8_0, F::Q4_K, F::Q5_K, F::Q6_K] {
            let mut bytes = vec![0; format.bytes_for(COLS).unwrap()];
            format.quantize(&noise(COLS, 3), None, &mut bytes).unwrap();
            let base = unpack(format, &bytes);
            let w: Vec<f32> = base.iter().zip(&s).map(|(w, s)| w + 1e-2 * s / 8.0).collect();
            let feedback = Feedback::new(format, &squares, &s).unwrap();
            feedback.quantize(&w, &mut bytes).unwrap();
            let shaped = off(&unpack(format, &bytes), &w, &s[..COLS]);
            format.quantize(&w, None, &mut bytes).unwrap();
            let plain = off(&unpack(format, &bytes), &w, &s[..COLS]);
            assert!(shaped < 0.5 * plain, "{format:?}: {shaped} {plain}");
        }
    }

    #[test]
    fn what_needs_no_rounding_comes_back() {
        let (s, squares) = inputs();
        for format in [BlockFormat::Q4_0, BlockFormat::Q8_0] {
            let mut bytes = vec![0; format.bytes_for(COLS).unwrap()];
            format.quantize(&noise(COLS, 3), None, &mut bytes).unwrap();
            let w = unpack(format, &bytes);
            let feedback = Feedback::new(format, &squares, &s).unwrap();
            feedback.quantize(&w, &mut bytes).unwrap();
            assert!(unpack(format, &bytes) == w, "{format:?}");
        }
    }

    #[test]
    fn inputs_that_say_nothing_and_values_at_the_edge() {
        let (s, squares) = inputs();
        let format = BlockFormat::Q8_0;
        assert!(Feedback::new(format, &[0.0; COLS], &s).is_none());
        assert!(Feedback::new(format, &[f64::NAN; COLS], &s).is_none());
        assert!(Feedback::new(format, &squares, &[f32::INFINITY; COLS]).is_none());
        assert!(Feedback::new(format, &[], &[]).is_none());
        assert!(Feedback::new(format, &squares, &[]).is_none());
        assert!(Feedback::new(format, &squares, &s[..COLS]).is_none());
        let feedback = Feedback::new(format, &squares, &s).unwrap();
        let mut bytes = vec![0; format.bytes_for(COLS).unwrap()];
        feedback.quantize(&[65504.0; COLS], &mut bytes).unwrap();
        assert!(unpack(format, &bytes).iter().all(|v| v.is_finite()));
        assert!(feedback.quantize(&[f32::NAN; COLS], &mut bytes).is_err());
        // Inputs of extreme size are measured in their own unit.
        for unit in [1e-18, 1e18] {
            let s: Vec<f32> = s.iter().map(|s| s * unit).collect();
            let squares: Vec<f64> = squares.iter().map(|x| x * f64::from(unit).powi(2)).collect();
            let other = Feedback::new(format, &squares, &s).unwrap();
            let mut same = vec![0; bytes.len()];
            other.quantize(&noise(COLS, 3), &mut same).unwrap();
            feedback.quantize(&noise(COLS, 3), &mut bytes).unwrap();
            let (a, b) = (unpack(format, &same), unpack(format, &bytes));
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 0.1));
        }
    }
}

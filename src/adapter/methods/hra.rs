//! HRA (Yuan et al. 2024, arXiv 2405.17484): W' = W H_0 H_1 … H_{r-1} with reflections H_i = I - 2 u_i u_i^T of the normed columns of
//! `<m>.hra_u` (in, r); with `apply_GS` the columns are made orthogonal first, and W' = W (I - 2 U U^T) (peft/tuners/hra/layer.py).
//!
//! A product of r reflections is I - U T U^T with T upper triangular (the compact WY form, Schreiber and Van Loan 1989), so
//! x := x - U T (U^T x): an update of rank r.

use crate::adapter::Lowered;
use crate::adapter::forms::{Form, LowRank};
use crate::adapter::matrix::Matrix;
use crate::adapter::options::Rule;
use crate::adapter::source::{Method, Source, bad_shape};
use crate::error::{Error, Result};

/// The method.
pub const METHOD: Method = Method {
    peft_type: "HRA",
    options: &[("r", Rule::Fine), ("apply_GS", Rule::Fine)],
    tensors: &["hra_u"],
    shared: &[],
    lower,
};

fn lower(source: &Source) -> Result<Lowered> {
    let orthogonal = source.folder.bool("apply_GS", false)?;
    source.lower(|module| {
        let stored = module.matrix("hra_u")?;
        let (n, r) = (stored.rows(), stored.cols());
        // More reflections than directions do nothing new; their table T would be larger than the file.
        if r > n {
            return Err(bad_shape(module.need("hra_u")?, format_args!("[{n}, {n} or less]")));
        }
        let Reflections { u, t, .. } = Reflections::new(&stored.to_f32(), r, orthogonal).map_err(|(i, norm)| {
            let e = Error::invalid("a reflection has no direction");
            let found = format_args!("column {i} of length {norm}").to_string();
            module.need("hra_u").map_or_else(|e| e, |t| t.error(e.found(found)))
        })?;
        let a: Vec<f32> = u.iter().flatten().map(|v| *v as f32).collect();
        let b: Vec<f32> = (0..n * r)
            .map(|p| -(0..=p % r).map(|l| u[l][p / r] * t[l * r + p % r]).sum::<f64>() as f32)
            .collect();
        let (a, b) = (Matrix::from_f32(r, n, &a), Matrix::from_f32(n, r, &b));
        Ok(vec![Form::InLowRank(LowRank::new(a, b, 1.0))])
    })
}

/// The directions of reflections, and the table of their product.
struct Reflections {
    /// The normed columns.
    u: Vec<Vec<f64>>,
    /// What they were divided by.
    norms: Vec<f64>,
    /// How much of each column before it was taken from a column, `[r][r]`; zeros without `apply_GS`.
    taken: Vec<f64>,
    /// T, `[r][r]`.
    t: Vec<f64>,
    orthogonal: bool,
}

impl Reflections {
    /// Those of the columns of `stored`, `[n][r]`.
    ///
    /// # Errors
    /// A column whose length is no positive number: which, and its length.
    fn new(stored: &[f32], r: usize, orthogonal: bool) -> std::result::Result<Self, (usize, f64)> {
        // u[i]: column i.
        let mut u: Vec<Vec<f64>> = (0..r)
            .map(|i| stored.iter().skip(i).step_by(r).map(|v| f64::from(*v)).collect())
            .collect();
        let (mut norms, mut taken) = (Vec::with_capacity(r), vec![0.0; r * r]);
        for i in 0..r {
            let (before, rest) = u.split_at_mut(i);
            let column = &mut rest[0];
            for (k, other) in before.iter().enumerate().filter(|_| orthogonal) {
                let along = dot(other, column);
                column.iter_mut().zip(other).for_each(|(c, o)| *c -= along * o);
                taken[i * r + k] = along;
            }
            let norm = dot(column, column).sqrt();
            if norm.is_nan() || norm <= 0.0 {
                return Err((i, norm));
            }
            column.iter_mut().for_each(|c| *c /= norm);
            norms.push(norm);
        }
        // H_0 … H_{i-1} (I - 2 u u^T) = I - [U u] [[T, -2 T U^T u], [0, 2]] [U u]^T.
        let mut t = vec![0.0; r * r];
        for i in 0..r {
            for row in 0..i {
                let along = |k: usize| if orthogonal { 0.0 } else { dot(&u[k], &u[i]) };
                t[row * r + i] = -2.0 * (row..i).map(|k| t[row * r + k] * along(k)).sum::<f64>();
            }
            t[i * r + i] = 2.0;
        }
        Ok(Reflections {
            u,
            norms,
            taken,
            t,
            orthogonal,
        })
    }

    /// From the gradients by A = U^T, `[r][n]`, and by B = -U T, `[n][r]`, to that by the stored columns, `[n][r]`.
    fn back(&self, d_a: &[f32], d_b: &[f32]) -> Vec<f32> {
        let (u, r) = (&self.u, self.u.len());
        let n = d_a.len() / r.max(1);
        let by_b = |c: usize| -> Vec<f64> { d_b.iter().skip(c).step_by(r).map(|v| f64::from(*v)).collect() };
        let mut d_u: Vec<Vec<f64>> = d_a
            .chunks_exact(n.max(1))
            .map(|row| row.iter().map(|v| f64::from(*v)).collect())
            .collect();
        // b_c = -sum over l <= c of u_l t_lc.
        let mut d_t = vec![0.0; r * r];
        for c in 0..r {
            let d = by_b(c);
            for l in 0..=c {
                d_t[l * r + c] = -dot(&d, &u[l]);
                add(&mut d_u[l], -self.t[l * r + c], &d);
            }
        }
        // t_ri = -2 sum over r <= k < i of t_rk (u_k u_i), the last column first.
        for i in (0..r).rev().filter(|_| !self.orthogonal) {
            for k in 0..i {
                let (along, mut d_along) = (dot(&u[k], &u[i]), 0.0);
                for row in 0..=k {
                    let d = -2.0 * d_t[row * r + i];
                    d_t[row * r + k] += d * along;
                    d_along += d * self.t[row * r + k];
                }
                add(&mut d_u[k], d_along, &u[i]);
                add(&mut d_u[i], d_along, &u[k]);
            }
        }
        // Through the norms, and what was taken from each column, again the last first.
        for i in (0..r).rev() {
            let (before, rest) = d_u.split_at_mut(i);
            let d = &mut rest[0];
            let along = dot(d, &u[i]);
            add(d, -along, &u[i]);
            d.iter_mut().for_each(|d| *d /= self.norms[i]);
            if !self.orthogonal {
                continue;
            }
            let mut column: Vec<f64> = u[i].iter().map(|v| v * self.norms[i]).collect();
            for k in (0..i).rev() {
                // after = column - (u_k column) u_k
                let taken = self.taken[i * r + k];
                add(&mut column, taken, &u[k]);
                let d_taken = -dot(&u[k], d);
                add(&mut before[k], -taken, d);
                add(&mut before[k], d_taken, &column);
                add(d, d_taken, &u[k]);
            }
        }
        (0..n * r).map(|p| d_u[p % r][p / r] as f32).collect()
    }
}

/// From the gradients by the factors A, `[r][n]`, and B, `[n][r]`, of the product of reflections to that by `stored`, `[n][r]`; none where
/// there are no such reflections.
pub fn back(stored: &[f32], r: usize, orthogonal: bool, d_a: &[f32], d_b: &[f32]) -> Vec<f32> {
    match Reflections::new(stored, r, orthogonal) {
        Ok(reflections) => reflections.back(d_a, d_b),
        Err(_) => vec![0.0; stored.len()],
    }
}

/// y += factor x.
fn add(y: &mut [f64], factor: f64, x: &[f64]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += factor * x);
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

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
        // u[i]: column i.
        let mut u: Vec<Vec<f64>> = stored
            .transposed()
            .to_f32()
            .chunks_exact(n)
            .map(|c| c.iter().map(|v| f64::from(*v)).collect())
            .collect();
        for i in 0..r {
            let (before, rest) = u.split_at_mut(i);
            let column = &mut rest[0];
            for other in before.iter().filter(|_| orthogonal) {
                let along = dot(other, column);
                column.iter_mut().zip(other).for_each(|(c, o)| *c -= along * o);
            }
            let norm = dot(column, column).sqrt();
            if norm.is_nan() || norm <= 0.0 {
                let e = Error::invalid("a reflection has no direction");
                return Err(module
                    .need("hra_u")?
                    .error(e.found(format_args!("column {i} of length {norm}"))));
            }
            column.iter_mut().for_each(|c| *c /= norm);
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
        let a: Vec<f32> = u.iter().flatten().map(|v| *v as f32).collect();
        let b: Vec<f32> = (0..n * r)
            .map(|p| -(0..=p % r).map(|l| u[l][p / r] * t[l * r + p % r]).sum::<f64>() as f32)
            .collect();
        let (a, b) = (Matrix::from_f32(r, n, &a), Matrix::from_f32(n, r, &b));
        Ok(vec![Form::InLowRank(LowRank::new(a, b, 1.0))])
    })
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

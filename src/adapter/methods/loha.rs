//! LoHa (Hyeon-Woo et al. 2022, arXiv 2108.06098): y += s ((W1a W1b) ⊙ (W2a W2b)) x with `<m>.hada_w1_a` (out, r), `<m>.hada_w1_b`
//! (r, in) and the same for w2; s = alpha / r (peft/tuners/loha/layer.py).
//!
//! The Hadamard product of two matrices of rank r has rank r² at most: column k r + l of B is column k of W1a times column l of W2a, row
//! k r + l of A is row k of W1b times row l of W2b. Where that is no cheaper than the product itself, it is one dense matrix.

use std::sync::Arc;

use crate::adapter::Lowered;
use crate::adapter::forms::{Form, FromBase, LowRank};
use crate::adapter::matrix::{Matrix, add_rows};
use crate::adapter::options::Rule;
use crate::adapter::scaling::Scaling;
use crate::adapter::source::{Method, Source, bad_shape};
use crate::error::Result;

/// The method.
pub const METHOD: Method = Method {
    peft_type: "LOHA",
    options: &[
        ("r", Rule::Fine),
        ("alpha", Rule::Fine),
        ("rank_pattern", Rule::Fine),
        ("alpha_pattern", Rule::Fine),
        // Training, and convolutions.
        ("rank_dropout", Rule::Fine),
        ("module_dropout", Rule::Fine),
        ("use_effective_conv2d", Rule::Fine),
    ],
    tensors: &["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"],
    shared: &[],
    lower,
};

fn lower(source: &Source) -> Result<Lowered> {
    let scaling = Scaling::read(source.folder, "alpha")?;
    source.lower(|module| {
        let (w1a, w1b) = (module.matrix("hada_w1_a")?, module.matrix("hada_w1_b")?);
        let (w2a, w2b) = (module.matrix("hada_w2_a")?, module.matrix("hada_w2_b")?);
        let (rows, cols, r) = (w1a.rows(), w1b.cols(), w1b.rows());
        let configured = scaling.rank(module.path);
        for (name, m, shape) in [
            ("hada_w1_b", &w1b, [configured, cols]),
            ("hada_w1_a", &w1a, [rows, r]),
            ("hada_w2_a", &w2a, [rows, r]),
            ("hada_w2_b", &w2b, [r, cols]),
        ] {
            if [m.rows(), m.cols()] != shape {
                return Err(bad_shape(module.need(name)?, format_args!("{shape:?}")));
            }
        }
        let scale = scaling.scale(module.path, configured);
        // Either way larger than the file: made when it is known that the module is as large.
        Ok(vec![Form::FromBase(FromBase {
            what: "the product of two products",
            shape: (cols, rows),
            scalable: true,
            embedding: false,
            lower: Arc::new(move |_| Ok(vec![hadamard([&w1a, &w1b, &w2a, &w2b], scale)])),
        })])
    })
}

/// The update (W1a W1b) ⊙ (W2a W2b).
fn hadamard(factors: [&Matrix; 4], scale: f32) -> Form {
    let (rows, r, cols) = (factors[0].rows(), factors[0].cols(), factors[1].cols());
    let [w1a, w1b, w2a, w2b] = factors.map(Matrix::to_f32);
    let rank = r * r;
    if rank.saturating_mul(rows + cols) < rows.saturating_mul(cols) {
        let mut a = Vec::with_capacity(rank * cols);
        for k in w1b.chunks_exact(cols) {
            for l in w2b.chunks_exact(cols) {
                a.extend(k.iter().zip(l).map(|(x, y)| x * y));
            }
        }
        let mut b = Vec::with_capacity(rows * rank);
        for (k, l) in w1a.chunks_exact(r).zip(w2a.chunks_exact(r)) {
            for x in k {
                b.extend(l.iter().map(|y| x * y));
            }
        }
        let (a, b) = (Matrix::from_f32(rank, cols, &a), Matrix::from_f32(rows, rank, &b));
        return Form::LowRank(LowRank::new(a, b, scale));
    }
    let (mut dense, mut second) = (vec![0.0; rows * cols], vec![0.0; cols]);
    for (i, out) in dense.chunks_exact_mut(cols).enumerate() {
        add_rows(&w1a[i * r..][..r], &w1b, out);
        second.fill(0.0);
        add_rows(&w2a[i * r..][..r], &w2b, &mut second);
        out.iter_mut().zip(&second).for_each(|(x, y)| *x *= y);
    }
    Form::Dense(Matrix::from_f32(rows, cols, &dense), scale)
}

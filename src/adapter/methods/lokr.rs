//! LoKr (Edalati et al. 2022, arXiv 2212.10650; LyCORIS): y += s (W1 ⊗ W2) x with `<m>.lokr_w1` (o1, i1) and `<m>.lokr_w2` (o2, i2), each
//! whole or as a product of `…_a` and `…_b`; s = alpha / r with the config's r (peft/tuners/lokr/layer.py).
//!
//! With x as a matrix X (i1, i2), (W1 ⊗ W2) x is W1 X W2^T: two small products, far cheaper than the large one.

use std::sync::Arc;

use crate::adapter::Lowered;
use crate::adapter::forms::{Form, FromBase, Kron};
use crate::adapter::matrix::{Matrix, add_rows};
use crate::adapter::options::Rule;
use crate::adapter::scaling::Scaling;
use crate::adapter::source::{Method, Module, Source, bad_shape};
use crate::error::Result;

/// The method.
pub const METHOD: Method = Method {
    peft_type: "LOKR",
    options: &[
        ("r", Rule::Fine),
        ("alpha", Rule::Fine),
        ("rank_pattern", Rule::Fine),
        ("alpha_pattern", Rule::Fine),
        // The shapes tell.
        ("decompose_both", Rule::Fine),
        ("decompose_factor", Rule::Fine),
        // Training, and convolutions.
        ("rank_dropout", Rule::Fine),
        ("rank_dropout_scale", Rule::Fine),
        ("module_dropout", Rule::Fine),
        ("use_effective_conv2d", Rule::Fine),
    ],
    tensors: &["lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b"],
    shared: &[],
    lower,
};

fn lower(source: &Source) -> Result<Lowered> {
    let scaling = Scaling::read(source.folder, "alpha")?;
    source.lower(|module| {
        let rank = scaling.rank(module.path);
        let scale = scaling.scale(module.path, rank);
        let w1 = Factor::read(module, rank, "lokr_w1", "lokr_w1_a", "lokr_w1_b")?;
        let w2 = Factor::read(module, rank, "lokr_w2", "lokr_w2_a", "lokr_w2_b")?;
        if let (Factor::Whole(w1), Factor::Whole(w2)) = (&w1, &w2) {
            let (w1, w2) = (w1.clone(), w2.clone());
            return Ok(vec![Form::Kron(Kron { w1, w2, scale })]);
        }
        let ((o1, i1), (o2, i2)) = (w1.shape(), w2.shape());
        // A product can be far larger than the file: made when it is known that the module is as large.
        Ok(vec![Form::FromBase(FromBase {
            what: "the product of factors that are products",
            shape: (i1.saturating_mul(i2), o1.saturating_mul(o2)),
            scalable: true,
            embedding: false,
            lower: Arc::new(move |_| {
                let (w1, w2) = (w1.whole(), w2.whole());
                Ok(vec![Form::Kron(Kron { w1, w2, scale })])
            }),
        })])
    })
}

/// A factor as it is saved.
enum Factor {
    Whole(Matrix),
    /// (out, r) times (r, in).
    Product(Matrix, Matrix),
}

impl Factor {
    /// The matrix `whole`, or `a` and `b` of the config's rank.
    fn read(module: &Module, rank: usize, whole: &str, a: &str, b: &str) -> Result<Self> {
        if module.get(a).is_none() && module.get(b).is_none() {
            return Ok(Factor::Whole(module.matrix(whole)?));
        }
        if let Some(t) = module.get(whole) {
            return Err(t.error(crate::Error::invalid("a factor is there whole and as a product")));
        }
        let (ma, mb) = (module.matrix(a)?, module.matrix(b)?);
        if ma.cols() != rank {
            return Err(bad_shape(module.need(a)?, format_args!("[out, {rank}]")));
        }
        if mb.rows() != rank {
            return Err(bad_shape(module.need(b)?, format_args!("[{rank}, in]")));
        }
        Ok(Factor::Product(ma, mb))
    }

    /// (rows, columns)
    fn shape(&self) -> (usize, usize) {
        match self {
            Factor::Whole(m) => (m.rows(), m.cols()),
            Factor::Product(a, b) => (a.rows(), b.cols()),
        }
    }

    fn whole(&self) -> Matrix {
        let (a, b) = match self {
            Factor::Whole(m) => return m.clone(),
            Factor::Product(a, b) => (a, b),
        };
        let (rows, r, cols) = (a.rows(), a.cols(), b.cols());
        let (fa, fb) = (a.to_f32(), b.to_f32());
        let mut product = vec![0.0; rows * cols];
        for (out, factors) in product.chunks_exact_mut(cols).zip(fa.chunks_exact(r)) {
            add_rows(factors, &fb, out);
        }
        Matrix::from_f32(rows, cols, &product)
    }
}

//! LoKr (Edalati et al. 2022, arXiv 2212.10650; LyCORIS): y += s (W1 ⊗ W2) x with `<m>.lokr_w1` (o1, i1) and `<m>.lokr_w2` (o2, i2), each
//! whole or as a product of `…_a` and `…_b`; s = alpha / r with the config's r (peft/tuners/lokr/layer.py).
//!
//! With x as a matrix X (i1, i2), (W1 ⊗ W2) x is W1 X W2^T: two small products, far cheaper than the large one.

use crate::adapter::Lowered;
use crate::adapter::forms::{Form, Kron};
use crate::adapter::matrix::Matrix;
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
        let w1 = factor(module, rank, "lokr_w1", "lokr_w1_a", "lokr_w1_b")?;
        let w2 = factor(module, rank, "lokr_w2", "lokr_w2_a", "lokr_w2_b")?;
        Ok(vec![Form::Kron(Kron { w1, w2, scale })])
    })
}

/// The matrix `whole`, or the product of `a` and `b` of the config's rank.
fn factor(module: &Module, rank: usize, whole: &str, a: &str, b: &str) -> Result<Matrix> {
    if module.get(a).is_none() && module.get(b).is_none() {
        return module.matrix(whole);
    }
    if let Some(t) = module.get(whole) {
        return Err(t.error(crate::Error::invalid("a factor is there whole and as a product")));
    }
    let (ma, mb) = (module.matrix(a)?, module.matrix(b)?);
    let (rows, r, cols) = (ma.rows(), ma.cols(), mb.cols());
    if r != rank {
        return Err(bad_shape(module.need(a)?, format_args!("[out, {rank}]")));
    }
    if mb.rows() != rank {
        return Err(bad_shape(module.need(b)?, format_args!("[{rank}, in]")));
    }
    let (fa, fb) = (ma.to_f32(), mb.to_f32());
    let mut product = vec![0.0; rows * cols];
    for (out, factors) in product.chunks_exact_mut(cols).zip(fa.chunks_exact(r)) {
        for (f, row) in factors.iter().zip(fb.chunks_exact(cols)) {
            out.iter_mut().zip(row).for_each(|(o, v)| *o += f * v);
        }
    }
    Ok(Matrix::from_f32(rows, cols, &product))
}

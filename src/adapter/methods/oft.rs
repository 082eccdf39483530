//! OFT (Qiu et al. 2023, arXiv 2306.07280; Liu et al. 2025, arXiv 2506.19847): x, cut into blocks, is turned block by block. `<m>.oft_R.weight`
//! (blocks or 1, bs (bs - 1) / 2) holds the upper triangles, row by row, of skew-symmetric Q; x := x blockdiag(R). Embeddings turn what
//! comes out (`oft_embedding_R.weight`). peft/tuners/oft/layer.py.

use std::sync::Arc;

use crate::adapter::Lowered;
use crate::adapter::forms::{Base, Blocks, Form, FromBase};
use crate::adapter::methods::cayley::{cayley, neumann};
use crate::adapter::options::Rule;
use crate::adapter::source::{Method, Source, bad_shape};
use crate::error::{Error, Result};

const R: &str = "oft_R.weight";
const EMBEDDING_R: &str = "oft_embedding_R.weight";
/// Terms of the series; more than anybody needs.
const MAX_TERMS: usize = 64;

/// The method.
pub const METHOD: Method = Method {
    peft_type: "OFT",
    options: &[
        ("r", Rule::Fine),
        ("oft_block_size", Rule::Fine),
        ("coft", Rule::Fine),
        ("eps", Rule::Fine),
        ("block_share", Rule::Fine),
        ("use_cayley_neumann", Rule::Fine),
        ("num_cayley_neumann_terms", Rule::Fine),
        ("module_dropout", Rule::Fine),
    ],
    tensors: &[R, EMBEDDING_R],
    shared: &[],
    lower,
};

fn lower(source: &Source) -> Result<Lowered> {
    let folder = source.folder;
    let coft = folder.bool("coft", false)?;
    let eps = folder.f64("eps", 6e-5)?;
    if eps < 0.0 {
        let e = Error::invalid("value out of range").expected("0 or more").found(eps);
        return Err(folder.error(e, "eps"));
    }
    let share = folder.bool("block_share", false)?;
    let series = folder.bool("use_cayley_neumann", true)?;
    let terms = folder.usize("num_cayley_neumann_terms", 5)?;
    if terms > MAX_TERMS {
        let e = Error::limit("too many terms")
            .expected(format_args!("at most {MAX_TERMS}"))
            .found(terms);
        return Err(folder.error(e, "num_cayley_neumann_terms"));
    }
    source.lower(|module| {
        let embedding = module.get(EMBEDDING_R).is_some();
        let name = if embedding { EMBEDDING_R } else { R };
        let (t, stored) = (module.need(name)?, module.matrix(name)?);
        let n = side(stored.cols());
        if n * (n - 1) / 2 != stored.cols() {
            return Err(bad_shape(t, "[blocks, size (size - 1) / 2]"));
        }
        let most = coft.then(|| norm_bound(eps, stored.rows()));
        let mut blocks = Vec::with_capacity(stored.rows() * n * n);
        for row in stored.to_f32().chunks_exact(stored.cols()) {
            let q = skew(row, n, most);
            let r = if series {
                neumann(&q, n, terms)
            } else {
                cayley(&q, n).map_err(|e| t.error(e))?
            };
            blocks.extend(r.iter().map(|v| *v as f32));
        }
        let form = move |blocks| {
            let b = Blocks {
                size: n,
                blocks,
                order: None,
            };
            if embedding {
                Form::OutBlocks(b)
            } else {
                Form::InBlocks(b)
            }
        };
        if !share {
            return Ok(vec![form(blocks)]);
        }
        if stored.rows() != 1 {
            return Err(bad_shape(t, "[1, size (size - 1) / 2], for all blocks"));
        }
        // One block for all: how often it stands there, only the base tells.
        Ok(vec![Form::FromBase(FromBase {
            what: "one rotation for all blocks",
            shape: (0, 0),
            scalable: false,
            embedding,
            lower: Arc::new(move |base: &Base| {
                let width = if embedding { base.rows } else { base.cols };
                if !width.is_multiple_of(n) {
                    let e = Error::mismatch("features are not whole blocks of OFT");
                    return Err(e.expected(format_args!("a multiple of {n}")).found(width));
                }
                Ok(vec![form(blocks.repeat(width / n))])
            }),
        })])
    })
}

/// The n of n (n - 1) / 2 numbers above a diagonal.
pub fn side(numbers: usize) -> usize {
    ((1.0 + 8.0 * numbers as f64).sqrt() as usize).div_ceil(2)
}

/// With `coft` the norm of each Q of `blocks` is at most this.
pub fn norm_bound(eps: f64, blocks: usize) -> f64 {
    eps / (blocks as f64).sqrt()
}

/// The skew-symmetric Q `[n][n]` of the `numbers` above its diagonal, with a norm of at most `most`.
pub fn skew(numbers: &[f32], n: usize, most: Option<f64>) -> Vec<f64> {
    let mut q = vec![0.0; n * n];
    let mut numbers = numbers.iter();
    for i in 0..n {
        for j in i + 1..n {
            let v = f64::from(numbers.next().copied().unwrap_or(0.0));
            (q[i * n + j], q[j * n + i]) = (v, -v);
        }
    }
    let norm = q.iter().map(|v| v * v).sum::<f64>().sqrt();
    if let Some(most) = most.filter(|most| norm > *most) {
        q.iter_mut().for_each(|v| *v *= most / norm);
    }
    q
}

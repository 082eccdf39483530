//! MiSS (Kang and Yin 2024, arXiv 2409.15371): x is cut into pieces of length r that are summed, z_k = Σ_n x[n r + k], and
//! y += miss_block^T z with `<m>.miss_block` (r, out); in the "mini" form the block is (r, mini_r) and repeats along the outputs; in the
//! "bat" form it is (out / r, r, r), and block (o, i) of W gains W_{o,i} M_o + M_o (peft/tuners/miss/layer.py).

use std::sync::Arc;

use serde_json::Value;

use crate::adapter::Lowered;
use crate::adapter::forms::{Base, Form, FromBase, LowRank};
use crate::adapter::matrix::Matrix;
use crate::adapter::options::Rule;
use crate::adapter::source::{Method, Module, Source, bad_shape};
use crate::error::{Error, Result};

/// The method.
pub const METHOD: Method = Method {
    peft_type: "MISS",
    options: &[
        ("r", Rule::Fine),
        ("mini_r", Rule::Fine),
        ("init_weights", Rule::Fine),
        ("miss_dropout", Rule::Fine),
    ],
    tensors: &["miss_block"],
    shared: &[],
    lower,
};

fn lower(source: &Source) -> Result<Lowered> {
    let field = "init_weights";
    let mini_r = source.folder.usize("mini_r", 1)?;
    let kind = match source.folder.value(field) {
        None | Some(Value::Null | Value::Bool(_)) => "",
        Some(Value::String(kind)) if kind == "bat" || kind == "mini" => kind,
        Some(other) => {
            let e = Error::unsupported("unknown form of MiSS").expected("true, false, bat or mini");
            return Err(source.folder.error(e.found(other), field));
        }
    };
    source.lower(|module| match kind {
        "bat" => bat(module),
        kind => sums(module, (kind == "mini").then_some(mini_r)),
    })
}

/// The sums of pieces are an A of zeros and ones; it depends on the module's width, which only the base tells.
fn sums(module: &Module, mini: Option<usize>) -> Result<Vec<Form>> {
    let block = module.matrix("miss_block")?.transposed();
    let (rank, period) = (block.cols(), block.rows());
    if mini.is_some_and(|n| n != period) {
        return Err(bad_shape(
            module.need("miss_block")?,
            format_args!("[r, {}], as mini_r says", mini.unwrap_or(0)),
        ));
    }
    let stored = block.to_f32();
    Ok(vec![Form::FromBase(FromBase {
        what: "sums of pieces of x, then miss_block",
        shape: (0, if mini.is_some() { 0 } else { period }),
        scalable: true,
        embedding: false,
        lower: Arc::new(move |base: &Base| {
            let n = base.rows;
            if rank > base.cols {
                let e = Error::mismatch("the rank is larger than the module's input");
                return Err(e.expected(format_args!("at most {}", base.cols)).found(rank));
            }
            if !n.is_multiple_of(period) {
                let e = Error::mismatch("outputs are not whole repetitions of miss_block");
                return Err(e.expected(format_args!("a multiple of {period}")).found(n));
            }
            let one = |i: usize| (i % base.cols) % rank == i / base.cols;
            let a: Vec<f32> = (0..rank * base.cols).map(|i| if one(i) { 1.0 } else { 0.0 }).collect();
            let b: Vec<f32> = stored.iter().copied().cycle().take(n * rank).collect();
            let (a, b) = (Matrix::from_f32(rank, base.cols, &a), Matrix::from_f32(n, rank, &b));
            Ok(vec![Form::LowRank(LowRank::new(a, b, 1.0))])
        }),
    })])
}

fn bat(module: &Module) -> Result<Vec<Form>> {
    let t = module.need("miss_block")?;
    let [blocks, r, same] = t.shape[..] else {
        return Err(bad_shape(t, "[out / r, r, r]"));
    };
    if r != same || r == 0 || blocks == 0 {
        return Err(bad_shape(t, "[out / r, r, r]"));
    }
    let m = Matrix::from_tensor(t, blocks * r, r)?.to_f32();
    Ok(vec![Form::FromBase(FromBase {
        what: "W M + M in blocks",
        shape: (0, blocks * r),
        scalable: true,
        embedding: false,
        lower: Arc::new(move |base: &Base| {
            if !base.cols.is_multiple_of(r) {
                let e = Error::mismatch("inputs are not whole blocks of miss_block");
                return Err(e.expected(format_args!("a multiple of {r}")).found(base.cols));
            }
            let w = base.weights();
            let mut delta = vec![0.0; w.len()];
            for (row, (out, w)) in delta
                .chunks_exact_mut(base.cols)
                .zip(w.chunks_exact(base.cols))
                .enumerate()
            {
                let (block, within) = (&m[row / r * r * r..][..r * r], row % r);
                for (out, w) in out.chunks_exact_mut(r).zip(w.chunks_exact(r)) {
                    out.copy_from_slice(&block[within * r..][..r]);
                    for (f, m) in w.iter().zip(block.chunks_exact(r)) {
                        out.iter_mut().zip(m).for_each(|(o, m)| *o += f * m);
                    }
                }
            }
            Ok(vec![Form::Dense(Matrix::from_f32(base.rows, base.cols, &delta), 1.0)])
        }),
    })])
}

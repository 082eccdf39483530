//! VeRA (Kopiczko et al. 2023, arXiv 2310.11454): all modules share random A (r, widest input) and B (widest output, r), of which each takes
//! as much as it needs; y += λ_b ⊙ B (λ_d ⊙ (A x)) with `<m>.vera_lambda_d` (r) and `<m>.vera_lambda_b` (out).
//!
//! `base_model.vera_A` and `vera_B` are in the file, or (`save_projection` false) are drawn again as PEFT draws them: Kaiming uniform of
//! torch's generator with the seed `projection_prng_key`, A before B (peft/tuners/vera/model.py).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use crate::adapter::Lowered;
use crate::adapter::forms::{Base, Form, FromBase, LowRank};
use crate::adapter::matrix::Matrix;
use crate::adapter::options::Rule;
use crate::adapter::scaling::MAX_RANK;
use crate::adapter::source::{Method, Source, bad_shape, matrix};
use crate::adapter::torch_rng::TorchRng;
use crate::error::{Error, Result};

/// Numbers of A and B together, where they are drawn: rank 1,024 for 65,536 features.
pub const MAX_DRAWN: usize = 1 << 26;

/// The method.
pub const METHOD: Method = Method {
    peft_type: "VERA",
    options: &[
        ("r", Rule::Fine),
        ("projection_prng_key", Rule::Fine),
        ("save_projection", Rule::Fine),
        // Training only.
        ("vera_dropout", Rule::Fine),
        ("d_initial", Rule::Fine),
    ],
    tensors: &["vera_lambda_d", "vera_lambda_b"],
    shared: &["vera_A", "vera_B"],
    lower,
};

/// A and B, and what modules of each width took of them.
struct Projection {
    whole: OnceLock<(Matrix, Matrix)>,
    seed: u64,
    rank: usize,
    a_by_cols: Mutex<HashMap<usize, Matrix>>,
    b_by_rows: Mutex<HashMap<usize, Matrix>>,
}

fn lower(source: &Source) -> Result<Lowered> {
    let folder = source.folder;
    let rank = folder.usize("r", 256)?;
    if rank == 0 || rank > MAX_RANK {
        let e = Error::invalid("value out of range").expected(format_args!("1 to {MAX_RANK}"));
        return Err(folder.error(e.found(rank), "r"));
    }
    let projection = Projection {
        whole: OnceLock::new(),
        seed: folder.usize("projection_prng_key", 0)? as u64,
        rank,
        a_by_cols: Mutex::default(),
        b_by_rows: Mutex::default(),
    };
    let saved = folder.bool("save_projection", true)?;
    if saved || source.shared("vera_A").is_some() || source.shared("vera_B").is_some() {
        let (ta, tb) = (source.need_shared("vera_A")?, source.need_shared("vera_B")?);
        let (a, b) = (matrix(ta)?, matrix(tb)?);
        if a.rows() != rank {
            return Err(bad_shape(ta, format_args!("[{rank}, in]")));
        }
        if b.cols() != rank {
            return Err(bad_shape(tb, format_args!("[out, {rank}]")));
        }
        let _ = projection.whole.set((a, b));
    }
    let projection = Arc::new(projection);
    source.lower(|module| {
        let (d, b) = (module.vector("vera_lambda_d")?, module.vector("vera_lambda_b")?);
        if d.len() != rank {
            return Err(bad_shape(module.need("vera_lambda_d")?, format_args!("[{rank}]")));
        }
        let projection = projection.clone();
        Ok(vec![Form::FromBase(FromBase {
            what: "what the module takes of the shared A and B",
            shape: (0, b.len()),
            scalable: true,
            embedding: false,
            lower: Arc::new(move |base: &Base| {
                let (pa, pb) = projection.take(base)?;
                Ok(vec![Form::LowRank(LowRank {
                    mid: Some(d.clone()),
                    out: Some(b.clone()),
                    ..LowRank::new(pa, pb, 1.0)
                })])
            }),
        })])
    })
}

impl Projection {
    /// The first columns of A and the first rows of B, shared by all modules of that width.
    fn take(&self, base: &Base) -> Result<(Matrix, Matrix)> {
        // Of a projection that is not in the file, rank and model alone give the size.
        let numbers = (base.widest.0 + base.widest.1).saturating_mul(self.rank);
        if self.whole.get().is_none() && numbers > MAX_DRAWN {
            let e = Error::limit("the projection that the seed stands for is too large");
            return Err(e.expected(format_args!("at most {MAX_DRAWN} numbers")).found(numbers));
        }
        let (a, b) = self.whole.get_or_init(|| {
            let mut rng = TorchRng::new(self.seed);
            let (cols, rows) = base.widest;
            let a = rng.kaiming_uniform(self.rank * cols, cols);
            let b = rng.kaiming_uniform(rows * self.rank, self.rank);
            (
                Matrix::from_f32(self.rank, cols, &a),
                Matrix::from_f32(rows, self.rank, &b),
            )
        });
        if base.cols > a.cols() || base.rows > b.rows() {
            let e = Error::mismatch("the shared vera_A and vera_B are too small for the module");
            let found = format_args!("{} inputs, {} outputs", a.cols(), b.rows()).to_string();
            return Err(e
                .expected(format_args!("{} inputs, {} outputs", base.cols, base.rows))
                .found(found));
        }
        let cut = |map: &Mutex<HashMap<usize, Matrix>>, key: usize, whole: &Matrix, rows: usize, cols: usize| {
            // A poisoned lock holds nothing half-done: entries are whole.
            let mut map = map.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            map.entry(key).or_insert_with(|| whole.top_left(rows, cols)).clone()
        };
        Ok((
            cut(&self.a_by_cols, base.cols, a, self.rank, base.cols),
            cut(&self.b_by_rows, base.rows, b, base.rows, self.rank),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_stands_for_no_more_than_the_limit() {
        let projection = Projection {
            whole: OnceLock::new(),
            seed: 0,
            rank: MAX_RANK,
            a_by_cols: Mutex::default(),
            b_by_rows: Mutex::default(),
        };
        let base = Base {
            rows: 262_144,
            cols: 640,
            widest: (640, 262_144),
            read: &|| Vec::new(),
        };
        assert!(projection.take(&base).is_err());
        assert!(projection.whole.get().is_none());
    }
}

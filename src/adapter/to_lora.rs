//! Writes what an adapter adds to the weights as a plain LoRA: the nearest product of a given rank (Eckart and Young 1936), module by
//! module, in a folder that PEFT loads.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::AdapterFile;
use super::attach::each_site;
use super::update::{Product, Update, of_modules_only};
use crate::error::{Error, Result};
use crate::format::{AdapterTensor, Dtype, write_peft_folder};
use crate::linalg::{self, Svd};
use crate::model::Site;
use crate::model::backend::Backend;
use crate::model::spec::Spec;
use crate::model::weights::Weights;

/// The rank of a module's update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RankRule {
    /// This one (less only where the update itself has less).
    Fixed(usize),
    /// The smallest whose squared singular values are this share of all, above 0 and up to 1.
    Energy(f64),
}

/// A module of the new adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Its path.
    pub path: String,
    /// Its rank.
    pub rank: usize,
    /// The share of the update's energy (its squared Frobenius norm) that is kept.
    pub energy: f64,
}

/// The factors of a module: B, `[out][rank]`, and A, `[rank][in]`.
struct Factors {
    site: Site,
    rows: usize,
    cols: usize,
    b: Vec<f32>,
    a: Vec<f32>,
}

/// Writes `file`, an adapter for the model of `spec` and `weights`, to the folder `dir` as a LoRA; tells `progress` the share of the work
/// that is done.
///
/// # Errors
/// A rule out of range, an adapter that does more than add to weights, a side of a dense update beyond [`linalg::MAX_SIDE`], and what the
/// system refuses. The folder's two files are there whole or not at all.
pub fn to_lora<B: Backend>(
    backend: &B,
    spec: &Spec,
    weights: &Weights<B>,
    file: &AdapterFile,
    dir: &Path,
    rule: RankRule,
    progress: &dyn Fn(f32),
) -> Result<Vec<Kept>> {
    match rule {
        RankRule::Fixed(0) => return Err(Error::usage("a rank of 0").expected("1 or more")),
        RankRule::Energy(share) if !(share > 0.0 && share <= 1.0) => {
            let e = Error::usage("a share of the energy out of range").expected("above 0, up to 1");
            return Err(e.found(share));
        }
        _ => {}
    }
    of_modules_only(file)?;
    // PEFT finds modules by the paths that the adapter has, whichever version of transformers they come from.
    let paths = file.sites().iter().map(|s| &s.path);
    let paths: HashMap<Site, &String> = paths
        .filter_map(|path| Some((Site::from_hf_path(path, spec.post_norms)?, path)))
        .collect();
    let (mut kept, mut factors) = (Vec::new(), Vec::new());
    each_site(backend, spec, weights, file, &mut |site, forms| {
        let (f, energy) = nearest(site, Update::of(file.method(), forms)?, rule)?;
        kept.push(Kept {
            path: paths
                .get(&site)
                .map_or_else(|| site.hf_path(spec.post_norms), |path| path.to_string()),
            rank: f.b.len() / f.rows,
            energy,
        });
        factors.push(f);
        progress(kept.len() as f32 / paths.len().max(1) as f32);
        Ok(())
    })?;
    write(file, dir, &kept, &factors)?;
    Ok(kept)
}

/// The nearest product to `update`, and the share of the energy that it keeps.
fn nearest(site: Site, update: Update, rule: RankRule) -> Result<(Factors, f64)> {
    let asked = match rule {
        RankRule::Fixed(rank) => rank,
        RankRule::Energy(_) => usize::MAX,
    };
    let (rows, cols, scale, svd) = match update {
        Update::LowRank(forms) => {
            let p = Product::sum(&forms);
            let svd = linalg::svd_of_product(p.rows, p.rank, p.cols, &p.b, &p.a, asked)?;
            (p.rows, p.cols, p.scale, svd)
        }
        Update::Dense(d) => (
            d.rows(),
            d.cols(),
            1.0,
            linalg::svd(d.rows(), d.cols(), &d.to_f32(), asked)?,
        ),
    };
    let Svd { k, u, s, vt, energy } = svd;
    let squares = s.iter().map(|s| f64::from(*s).powi(2));
    let shares: Vec<f64> = squares
        .scan(0.0, |sum, square| {
            *sum += square;
            // An update of zeros is kept whole by any rank.
            Some(if energy > 0.0 { *sum / energy } else { 1.0 })
        })
        .collect();
    let rank = match rule {
        RankRule::Fixed(_) => k,
        // The last one where rounding keeps the sum below all of it.
        RankRule::Energy(share) => shares.iter().position(|s| *s >= share).map_or(k, |i| i + 1),
    };
    // Half of each singular value to either side, so that both have numbers of one size.
    let root = |i: usize| (s[i] * scale.abs()).sqrt();
    let b = (0..rows * rank).map(|at| u[at / rank * k + at % rank] * root(at % rank) * scale.signum());
    let a = (0..rank * cols).map(|at| vt[at] * root(at / cols));
    let f = Factors {
        site,
        rows,
        cols,
        b: b.collect(),
        a: a.collect(),
    };
    Ok((f, shares.get(rank.saturating_sub(1)).copied().unwrap_or(1.0).min(1.0)))
}

fn write(file: &AdapterFile, dir: &Path, kept: &[Kept], factors: &[Factors]) -> Result<()> {
    let mut names = Vec::new();
    for (k, f) in kept.iter().zip(factors) {
        let ends = match f.site {
            Site::Embed => ["lora_embedding_A", "lora_embedding_B"],
            _ => ["lora_A.weight", "lora_B.weight"],
        };
        let name = |end: &str| format!("base_model.model.{}.{end}", k.path);
        names.push((
            (name(ends[0]), [k.rank, f.cols], &f.a),
            (name(ends[1]), [f.rows, k.rank], &f.b),
        ));
    }
    let tensors: Vec<AdapterTensor> = names
        .iter()
        .flat_map(|(a, b)| [a, b])
        .map(|(name, shape, values)| AdapterTensor {
            name,
            dtype: Dtype::F32,
            shape,
            values,
        })
        .collect();
    write_peft_folder(dir, &config(file, kept), &tensors)
}

/// The config: a scale of 1 for every module, so that alpha is the rank everywhere.
fn config(file: &AdapterFile, kept: &[Kept]) -> Map<String, Value> {
    let mut times: HashMap<usize, usize> = HashMap::new();
    kept.iter().for_each(|k| *times.entry(k.rank).or_default() += 1);
    // The rank that most have; of equals the smaller.
    let usual = times.into_iter().max_by_key(|(rank, n)| (*n, std::cmp::Reverse(*rank)));
    let usual = usual.map_or(1, |(rank, _)| rank);
    let others: Map<String, Value> = kept
        .iter()
        .filter(|k| k.rank != usual)
        .map(|k| (k.path.clone(), k.rank.into()))
        .collect();
    let paths: Vec<&String> = kept.iter().map(|k| &k.path).collect();
    let config = json!({
        "alora_invocation_tokens": file.lowered().invocation,
        "alpha_pattern": others,
        "base_model_name_or_path": file.base_model(),
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": usual,
        "lora_dropout": 0.0,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": usual,
        "rank_pattern": others,
        "target_modules": paths,
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": false,
    });
    match config {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

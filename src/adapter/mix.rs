//! Several adapters become one: PEFT's `add_weighted_adapter`, with its numbers (0.21.2), for LoRA and IA3.
//!
//! At a module, adapter i adds `s_i B_i A_i` with its scale s_i, and has the weight w_i. The result has the scale 1:
//!
//! | type | result | rank |
//! |---|---|---|
//! | `cat` | all `w_i s_i A_i` stacked, all `B_i` side by side: the exact sum | the sum |
//! | `linear` | `A = Σ ±√\|w_i s_i\| A_i`, `B = Σ √\|w_i s_i\| B_i`, the sign on A: contains products `B_i A_j`, a rough mix | the same in all |
//! | `svd` | the best approximation of `Σ w_i s_i B_i A_i` | free |
//! | `ties`, `dare_*`, `magnitude_prune` | as `linear`, the factors pruned before (the rules are in `mix/operators.rs`) | the same in all |
//! | the same with `_svd` | the updates `s_i B_i A_i` pruned, summed, approximated | free |
//!
//! An adapter that leaves a module alone is left out there. IA3 knows one type, `linear`: `l = Σ w_i l_i`.
//!
//! What differs from PEFT: a single adapter is treated as asked (PEFT takes `linear` whatever was asked), so `svd` can lower
//! its rank; a module whose rank is below the largest is filled up with zeros in every type; the scale is 1 also where the
//! first adapter has `use_rslora` (PEFT then multiplies by √rank); random pruning follows a seed.

mod config;
mod lora;
mod operators;
mod options;
mod sources;

pub use options::{CombinationType, Combine, MajoritySign};

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::format::safetensors::Dtype;
use crate::format::{AdapterTensor, PeftFolder, TensorView, write_peft_folder};
use crate::rng::Rng;

/// A tensor of the result.
struct Tensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Tensor {
    fn view(&self) -> AdapterTensor<'_> {
        AdapterTensor {
            name: &self.name,
            dtype: self.dtype,
            shape: &self.shape,
            values: &self.values,
        }
    }
}

/// A module of the result.
#[derive(Clone, Debug)]
pub struct CombinedSite {
    /// Its path, such as `model.layers.0.self_attn.q_proj`.
    pub path: String,
    /// How many of the adapters have it.
    pub adapters: usize,
    /// The squared Frobenius norm of the mixed update, and how much of that the result's rank keeps (before clamping); for
    /// types with `svd`.
    pub energy: Option<(f64, f64)>,
}

/// Adapters combined into one, in memory.
pub struct Combined {
    method: &'static str,
    rank: Option<usize>,
    sites: Vec<CombinedSite>,
    config: Map<String, Value>,
    tensors: Vec<Tensor>,
}

impl Combined {
    /// `LORA` or `IA3`.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// The rank of all modules; of LoRA.
    pub fn rank(&self) -> Option<usize> {
        self.rank
    }

    /// The modules, in the order of their paths.
    pub fn sites(&self) -> &[CombinedSite] {
        &self.sites
    }

    /// Numbers in it.
    pub fn parameters(&self) -> usize {
        self.tensors.iter().map(|t| t.values.len()).sum()
    }

    /// The share of the mixed updates' energy that the rank keeps, over all modules; for types with `svd`.
    pub fn captured(&self) -> Option<f64> {
        let energies: Option<Vec<_>> = self.sites.iter().map(|s| s.energy).collect();
        let (total, kept) = energies?.iter().fold((0.0, 0.0), |sum, e| (sum.0 + e.0, sum.1 + e.1));
        Some(if total > 0.0 { kept / total } else { 1.0 })
    }

    /// Writes it as PEFT's `save_pretrained` would: whole, or not at all.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let tensors: Vec<_> = self.tensors.iter().map(Tensor::view).collect();
        write_peft_folder(dir, &self.config, &tensors)
    }
}

/// Combines `adapters`, each with its weight, into one. `progress` is told the share that is done.
///
/// Besides the result, memory holds the updates of one module at a time.
///
/// # Errors
/// No adapter; a method other than LoRA and IA3, or two of them; an option that cannot be mixed; modules whose shapes (and,
/// as the type needs it, ranks) differ; an option of `options` that is out of range; a result or an update of over 4 GiB.
pub fn combine(adapters: &[(&PeftFolder, f32)], options: &Combine, progress: &mut dyn FnMut(f32)) -> Result<Combined> {
    options.validate()?;
    let (folders, weights): (Vec<_>, Vec<_>) = adapters.iter().copied().unzip();
    let Some(first) = folders.first() else {
        return Err(Error::usage("no adapter to combine"));
    };
    if let Some(at) = weights.iter().position(|w| !w.is_finite()) {
        let e = Error::usage("the weight is not a finite number").file(folders[at].dir());
        return Err(e.found(weights[at]));
    }
    for folder in &folders {
        let method = folder.peft_type()?;
        if !["LORA", "IA3"].contains(&method) {
            let e = Error::unsupported("adapters of this method cannot be mixed (nor in PEFT)");
            return Err(folder.error(e.expected("LORA or IA3").found(method), "peft_type"));
        }
        if method != first.peft_type()? {
            let e = Error::mismatch("adapters of two methods cannot be mixed").expected(first.peft_type()?);
            return Err(folder.error(e.found(method), "peft_type"));
        }
        sources::check_options(folder, method)?;
    }
    let combined = match first.peft_type()? {
        "IA3" => ia3(&folders, &weights, options)?,
        _ => lora::combine(&folders, &weights, options, progress)?,
    };
    match combined.sites.is_empty() {
        true => Err(Error::invalid("the adapters hold no tensors").file(first.tensors_path())),
        false => Ok(combined),
    }
}

fn ia3(folders: &[&PeftFolder], weights: &[f32], options: &Combine) -> Result<Combined> {
    if options.kind != CombinationType::Linear {
        let e = Error::usage("IA3 adapters have one type of combination").item("type");
        return Err(e.expected("linear").found(options.kind.name()));
    }
    let sites = sources::ia3_sites(folders)?;
    let mut combined = Vec::new();
    let mut tensors = Vec::new();
    for (path, parts) in &sites {
        let vectors = parts.iter().map(|p| values(&p.1)).collect::<Result<Vec<_>>>()?;
        let weights: Vec<f32> = parts.iter().map(|p| weights[p.0]).collect();
        tensors.push(Tensor {
            name: format!("base_model.model.{path}.ia3_l"),
            dtype: Dtype::F32,
            shape: parts.first().map_or(Vec::new(), |p| p.1.shape.to_vec()),
            values: options.operator().mix(vectors, &weights, &mut Rng::new(0)),
        });
        combined.push(CombinedSite {
            path: (*path).to_owned(),
            adapters: parts.len(),
            energy: None,
        });
    }
    let paths: Vec<&str> = sites.keys().copied().collect();
    let mut config = config::of(folders, &paths);
    // A vector on the inputs is a row.
    let feedforward = |path: &str| {
        let shape = sites.get(path).and_then(|parts| parts.first()).map(|p| p.1.shape);
        matches!(shape, Some([1, _]))
    };
    let names = config::names(folders, "feedforward_modules", &paths, &feedforward);
    config.insert("feedforward_modules".into(), names);
    Ok(Combined {
        method: "IA3",
        rank: None,
        sites: combined,
        config,
        tensors,
    })
}

/// The values of a tensor, all finite.
fn values(t: &TensorView) -> Result<Vec<f32>> {
    let values = t.to_f32()?;
    match values.iter().find(|v| !v.is_finite()) {
        None => Ok(values),
        Some(v) => Err(t.error(Error::invalid("a value is not a finite number").found(v))),
    }
}

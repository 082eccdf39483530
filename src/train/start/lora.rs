//! Updates of two factors: LoRA and its variants, AdaLoRA.

use serde_json::{Value, json};

use super::draw::{normal, normals, uniform};
use super::{Module, NewAdapter, Tensor};
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::runtime::Model;

/// How a low-rank update begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Init {
    /// A uniform in ±1/√in, B zero: what PEFT does.
    #[default]
    Default,
    /// A normal with deviation 1/r, B zero.
    Gaussian,
}

impl Init {
    /// The one called `name`.
    ///
    /// # Errors
    /// `Usage` for another name.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "default" => Ok(Init::Default),
            "gaussian" => Ok(Init::Gaussian),
            other => Err(Error::usage("unknown initialisation")
                .item("init")
                .expected("default or gaussian")
                .found(other)),
        }
    }
}

pub(super) fn lora_fields(_: &Model, new: &NewAdapter) -> Value {
    json!({
        "peft_type": "LORA",
        "r": new.r,
        "lora_alpha": new.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": match new.init { Init::Default => json!(true), Init::Gaussian => json!("gaussian") },
        "use_rslora": new.method == "rslora",
        "use_dora": new.method == "dora",
        "rank_pattern": {},
        "alpha_pattern": {},
    })
}

/// A uniform in ±1/√in (`kaiming_uniform_(a=√5)`), or normal; B zero.
pub(super) fn lora(module: &Module, new: &NewAdapter, rng: &mut Rng) -> Result<Vec<Tensor>> {
    let a = match new.init {
        Init::Default => uniform(rng, new.r, module.inputs),
        Init::Gaussian => (0..new.r * module.inputs).map(|_| normal(rng) / new.r as f32).collect(),
    };
    Ok(vec![
        ("lora_A.weight", vec![new.r, module.inputs], a),
        (
            "lora_B.weight",
            vec![module.outputs, new.r],
            vec![0.0; module.outputs * new.r],
        ),
    ])
}

/// As LoRA, and magnitudes that are the norms of the weight's rows.
pub(super) fn dora(module: &Module, new: &NewAdapter, rng: &mut Rng) -> Result<Vec<Tensor>> {
    let mut tensors = lora(module, new, rng)?;
    let norm = |row: &[f32]| row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt() as f32;
    let norms = module.base().chunks_exact(module.inputs).map(norm).collect();
    tensors.push(("lora_magnitude_vector", vec![module.outputs], norms));
    Ok(tensors)
}

/// Ranks are not given and taken between modules while it trains: each has r from the first step to the last, which PEFT's allocator
/// leaves so too where `target_r` is `init_r`. PEFT demands a `total_step`.
pub(super) fn adalora_fields(_: &Model, new: &NewAdapter) -> Value {
    json!({
        "peft_type": "ADALORA",
        "init_r": new.r,
        "target_r": new.r,
        "lora_alpha": new.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "orth_reg_weight": 0.5,
        "tinit": 0,
        "tfinal": 0,
        "deltaT": 1,
        "total_step": 1,
        "rank_pattern": null,
    })
}

/// A and B normal with deviation 0.02, E zero.
pub(super) fn adalora(module: &Module, new: &NewAdapter, rng: &mut Rng) -> Result<Vec<Tensor>> {
    const DEVIATION: f32 = 0.02;
    let (r, inputs, outputs) = (new.r, module.inputs, module.outputs);
    Ok(vec![
        ("lora_A", vec![r, inputs], normals(rng, r * inputs, DEVIATION)),
        ("lora_E", vec![r, 1], vec![0.0; r]),
        ("lora_B", vec![outputs, r], normals(rng, outputs * r, DEVIATION)),
    ])
}

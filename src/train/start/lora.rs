//! Updates of two factors: LoRA and its variants, AdaLoRA.

use serde_json::{Value, json};

use super::super::parameters::START;
use super::draw::{normals, uniform};
use super::{Module, NewAdapter, Tensor};
use crate::error::{Error, Result};
use crate::linalg;
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
    /// The principal part of the weight: its largest singular values and vectors (PiSSA: Meng et al. 2024, arXiv:2404.03948).
    Pissa,
    /// The first columns and rows of its QR decomposition (OLoRA: Büyükakyüz 2024, arXiv:2406.01775).
    Olora,
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
            "pissa" => Ok(Init::Pissa),
            "olora" => Ok(Init::Olora),
            other => Err(Error::usage("unknown initialisation")
                .item("init")
                .expected("default, gaussian, pissa or olora")
                .found(other)),
        }
    }

    /// Whether the update begins as a part of the base's weight W. PEFT takes that part from W; here W stays as it is in its blocks, and the
    /// part is taken off in the adapter: what is saved is B A - B0 A0, a plain LoRA of twice the rank, as PEFT converts such adapters
    /// (`path_initial_model_for_weight_conversion`). B0 and A0 are not trained: see [`START`].
    fn takes_from_base(self) -> bool {
        matches!(self, Init::Pissa | Init::Olora)
    }
}

pub(super) fn lora_fields(_: &Model, new: &NewAdapter) -> Value {
    // Twice the rank, of the same scale.
    let (r, alpha) = match (new.init.takes_from_base(), new.method.as_str()) {
        (false, _) => (new.r, new.alpha),
        (true, "rslora") => (2 * new.r, new.alpha * std::f64::consts::SQRT_2),
        (true, _) => (2 * new.r, new.alpha * 2.0),
    };
    json!({
        "peft_type": "LORA",
        "r": r,
        "lora_alpha": alpha,
        "lora_dropout": new.dropout,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": if new.init == Init::Gaussian { json!("gaussian") } else { json!(true) },
        "use_rslora": new.method == "rslora",
        "use_dora": new.method == "dora",
        "rank_pattern": {},
        "alpha_pattern": {},
    })
}

/// A uniform in ±1/√in (`kaiming_uniform_(a=√5)`), or normal; B zero.
pub(super) fn lora(module: &Module, new: &NewAdapter, rng: &mut Rng) -> Result<Vec<Tensor>> {
    let (r, inputs, outputs) = (new.r, module.inputs, module.outputs);
    let (a, b) = match new.init {
        Init::Default => (uniform(rng, r, inputs), vec![0.0; outputs * r]),
        Init::Gaussian => (normals(rng, r * inputs, 1.0 / r as f32), vec![0.0; outputs * r]),
        Init::Pissa => principal(module, new, rng)?,
        Init::Olora => first_columns(module, r)?,
    };
    let mut tensors = Vec::new();
    if new.init.takes_from_base() {
        tensors.push((START[0], vec![r, inputs], a.clone()));
        tensors.push((START[1], vec![outputs, r], b.iter().map(|v| -v).collect()));
    }
    tensors.push(("lora_A.weight", vec![r, inputs], a));
    tensors.push(("lora_B.weight", vec![outputs, r], b));
    Ok(tensors)
}

/// A and B whose product times the update's scale has the largest singular values of the weight, the root of each in either.
fn principal(module: &Module, new: &NewAdapter, rng: &mut Rng) -> Result<(Vec<f32>, Vec<f32>)> {
    let r = new.r;
    let scale = new.alpha
        / if new.method == "rslora" {
            (r as f64).sqrt()
        } else {
            r as f64
        };
    if scale <= 0.0 {
        let e = Error::usage("no principal part has such a scale").item("alpha");
        return Err(e.expected("a number above 0").found(new.alpha));
    }
    let svd = linalg::svd_lowrank(module.outputs, module.inputs, &module.base(), r, rng)?;
    let roots: Vec<f32> = svd.s.iter().map(|s| (f64::from(*s) / scale).sqrt() as f32).collect();
    let rows = svd.vt.chunks_exact(module.inputs).zip(&roots);
    let a = rows.flat_map(|(row, root)| row.iter().map(move |v| v * root)).collect();
    let b = svd
        .u
        .iter()
        .zip(roots.iter().cycle())
        .map(|(v, root)| v * root)
        .collect();
    Ok((a, b))
}

/// The first r rows of R and columns of Q of the weight. Q of the first r columns alone is the same, and R is then Q^T W.
fn first_columns(module: &Module, r: usize) -> Result<(Vec<f32>, Vec<f32>)> {
    let (inputs, outputs, w) = (module.inputs, module.outputs, module.base());
    let columns: Vec<f32> = w.chunks_exact(inputs).flat_map(|row| &row[..r]).copied().collect();
    let (q, _) = linalg::qr(outputs, r, &columns)?;
    let a = linalg::product(r, outputs, inputs, &linalg::transpose(outputs, r, &q), &w)?;
    Ok((a, q))
}

/// As LoRA, and magnitudes that are the norms of the weight's rows.
pub(super) fn dora(module: &Module, new: &NewAdapter, rng: &mut Rng) -> Result<Vec<Tensor>> {
    if new.init.takes_from_base() {
        let e = Error::usage("DoRA does not begin so").item("init");
        return Err(e.expected("default or gaussian").found(format!("{:?}", new.init)));
    }
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
        "lora_dropout": new.dropout,
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

//! Updates that are products of several matrices, or take from shared ones: LoHa, LoKr, VeRA, MiSS.

use serde_json::{Value, json};

use super::draw::uniform;
use super::{Module, NewAdapter, Tensor};
use crate::adapter::methods::vera::MAX_DRAWN;
use crate::adapter::torch_rng::TorchRng;
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::runtime::Model;

pub(super) fn loha_fields(_: &Model, new: &NewAdapter) -> Value {
    json!({
        "peft_type": "LOHA",
        "r": new.r,
        "alpha": new.alpha,
        "init_weights": true,
        "rank_dropout": 0.0,
        "module_dropout": 0.0,
        "rank_pattern": {},
        "alpha_pattern": {},
    })
}

/// All uniform, but for the last: that is zero.
pub(super) fn loha(module: &Module, new: &NewAdapter, rng: &mut Rng) -> Result<Vec<Tensor>> {
    let (r, inputs, outputs) = (new.r, module.inputs, module.outputs);
    Ok(vec![
        ("hada_w1_a", vec![outputs, r], uniform(rng, outputs, r)),
        ("hada_w1_b", vec![r, inputs], uniform(rng, r, inputs)),
        ("hada_w2_a", vec![outputs, r], uniform(rng, outputs, r)),
        ("hada_w2_b", vec![r, inputs], vec![0.0; r * inputs]),
    ])
}

pub(super) fn lokr_fields(model: &Model, new: &NewAdapter) -> Value {
    let mut fields = loha_fields(model, new);
    fields["peft_type"] = json!("LOKR");
    fields["decompose_both"] = json!(false);
    fields["decompose_factor"] = json!(-1);
    fields["rank_dropout_scale"] = json!(false);
    fields
}

/// W1 zero and whole; W2 uniform, as a product where the rank is small beside its sides.
pub(super) fn lokr(module: &Module, new: &NewAdapter, rng: &mut Rng) -> Result<Vec<Tensor>> {
    let (r, (o1, o2), (i1, i2)) = (new.r, divisors(module.outputs), divisors(module.inputs));
    let mut tensors = vec![("lokr_w1", vec![o1, i1], vec![0.0; o1 * i1])];
    if 2 * r < o2.max(i2) {
        tensors.push(("lokr_w2_a", vec![o2, r], uniform(rng, o2, r)));
        tensors.push(("lokr_w2_b", vec![r, i2], uniform(rng, r, i2)));
    } else {
        tensors.push(("lokr_w2", vec![o2, i2], uniform(rng, o2, i2)));
    }
    Ok(tensors)
}

/// n as the product of two numbers that are as near to each other as can be, the smaller first (PEFT's `factorization`).
fn divisors(n: usize) -> (usize, usize) {
    let small = (1..=n.isqrt()).rev().find(|m| n.is_multiple_of(*m)).unwrap_or(1);
    (small, n / small)
}

/// What `projection_prng_key` is in PEFT: adapters of one model must have it alike there.
const VERA_KEY: u64 = 0;
const D_INITIAL: f32 = 0.1;

pub(super) fn vera_fields(_: &Model, new: &NewAdapter) -> Value {
    json!({
        "peft_type": "VERA",
        "r": new.r,
        "projection_prng_key": VERA_KEY,
        "save_projection": true,
        "vera_dropout": 0.0,
        "d_initial": 0.1,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_weights": true,
    })
}

/// d is a constant, b zero.
pub(super) fn vera(module: &Module, new: &NewAdapter, _: &mut Rng) -> Result<Vec<Tensor>> {
    Ok(vec![
        ("vera_lambda_d", vec![new.r], vec![D_INITIAL; new.r]),
        ("vera_lambda_b", vec![module.outputs], vec![0.0; module.outputs]),
    ])
}

/// A and B for the widest modules, the very numbers that PEFT draws.
pub(super) fn vera_projection(_: &Model, modules: &[Module], new: &NewAdapter, _: &mut Rng) -> Result<Vec<Tensor>> {
    let widest = |width: fn(&Module) -> usize| modules.iter().map(width).max().unwrap_or(0);
    let (inputs, outputs) = (widest(|m| m.inputs), widest(|m| m.outputs));
    let numbers = (inputs + outputs).saturating_mul(new.r);
    if numbers > MAX_DRAWN {
        let e = Error::limit("the projection is too large").item("r");
        return Err(e.expected(format!("at most {MAX_DRAWN} numbers")).found(numbers));
    }
    let mut rng = TorchRng::new(VERA_KEY);
    let a = rng.kaiming_uniform(new.r * inputs, inputs);
    let b = rng.kaiming_uniform(outputs * new.r, new.r);
    Ok(vec![
        ("base_model.vera_A", vec![new.r, inputs], a),
        ("base_model.vera_B", vec![outputs, new.r], b),
    ])
}

pub(super) fn miss_fields(_: &Model, new: &NewAdapter) -> Value {
    json!({
        "peft_type": "MISS",
        "r": new.r,
        "mini_r": 1,
        "miss_dropout": 0.0,
        "init_weights": true,
        "bias": "none",
    })
}

/// Zeros.
pub(super) fn miss(module: &Module, new: &NewAdapter, _: &mut Rng) -> Result<Vec<Tensor>> {
    let (r, outputs) = (new.r, module.outputs);
    Ok(vec![("miss_block", vec![r, outputs], vec![0.0; r * outputs])])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Oracle: `peft.tuners.lokr.layer.factorization` of PEFT 0.21.2.
    #[test]
    fn divisors_are_pefts() {
        for (n, pair) in [
            (1, (1, 1)),
            (127, (1, 127)),
            (128, (8, 16)),
            (256, (16, 16)),
            (960, (30, 32)),
            (1536, (32, 48)),
        ] {
            assert_eq!(divisors(n), pair);
        }
    }
}

//! What turns inputs or outputs: OFT, BOFT, HRA, RoAd. All but HRA of an odd rank begin with no turn.

use serde_json::{Value, json};

use super::draw::uniform;
use super::{Module, NewAdapter, Tensor};
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::runtime::Model;

pub(super) fn oft_fields(_: &Model, new: &NewAdapter) -> Value {
    json!({
        "peft_type": "OFT",
        "r": 0,
        "oft_block_size": new.oft_block_size,
        "module_dropout": 0.0,
        "init_weights": true,
        "coft": false,
        "eps": 6e-5,
        "block_share": false,
        "use_cayley_neumann": true,
        "num_cayley_neumann_terms": 5,
        "bias": "none",
        "fan_in_fan_out": false,
    })
}

/// Zeros: the numbers above the diagonal of each block.
pub(super) fn oft(module: &Module, new: &NewAdapter, _: &mut Rng) -> Result<Vec<Tensor>> {
    if new.oft_block_size < 2 {
        let e = Error::usage("number out of range").item("oft_block_size");
        return Err(e.expected("2 or more").found(new.oft_block_size));
    }
    let size = nearest_divisor(module.inputs, new.oft_block_size);
    let shape = vec![module.inputs / size, size * (size - 1) / 2];
    let n = shape.iter().product();
    if n == 0 {
        let e = Error::usage("no blocks of such a size in the module").item(module.path());
        return Err(e
            .expected(format!("an oft_block_size that divides {}", module.inputs))
            .found(new.oft_block_size));
    }
    Ok(vec![("oft_R.weight", shape, vec![0.0; n])])
}

/// The divisor of n that is nearest to `size`, the smaller of two (PEFT's `adjust_oft_parameters`).
fn nearest_divisor(n: usize, size: usize) -> usize {
    if size >= n {
        return n;
    }
    let divides = |m: &usize| n.is_multiple_of(*m);
    let below = (1..=size).rev().find(divides).unwrap_or(1);
    let above = (size..=n).find(divides).unwrap_or(n);
    if size - below <= above - size { below } else { above }
}

pub(super) fn boft_fields(_: &Model, new: &NewAdapter) -> Value {
    json!({
        "peft_type": "BOFT",
        "boft_block_size": new.boft_block_size,
        "boft_block_num": 0,
        "boft_n_butterfly_factor": 1,
        "boft_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_weights": true,
    })
}

/// Turns of zero, factors of one.
pub(super) fn boft(module: &Module, new: &NewAdapter, _: &mut Rng) -> Result<Vec<Tensor>> {
    let (size, inputs) = (new.boft_block_size, module.inputs);
    if size < 2 || !inputs.is_multiple_of(size) {
        let e = Error::usage("the module is not whole blocks").item("boft_block_size");
        return Err(e
            .expected(format!(
                "2 or more, a divisor of the {inputs} inputs of {}",
                module.path()
            ))
            .found(size));
    }
    Ok(vec![
        ("boft_R", vec![1, inputs / size, size, size], vec![0.0; inputs * size]),
        ("boft_s", vec![module.outputs, 1], vec![1.0; module.outputs]),
    ])
}

pub(super) fn hra_fields(_: &Model, new: &NewAdapter) -> Value {
    json!({
        "peft_type": "HRA",
        "r": new.r,
        "apply_GS": false,
        "bias": "none",
        "init_weights": true,
    })
}

/// Uniform; of an even rank each vector twice, so that the second reflection undoes the first.
pub(super) fn hra(module: &Module, new: &NewAdapter, rng: &mut Rng) -> Result<Vec<Tensor>> {
    let times = if new.r.is_multiple_of(2) { 2 } else { 1 };
    let drawn = uniform(rng, module.inputs, new.r / times);
    let u = drawn.iter().flat_map(|v| std::iter::repeat_n(*v, times)).collect();
    Ok(vec![("hra_u", vec![module.inputs, new.r], u)])
}

pub(super) fn road_fields(_: &Model, new: &NewAdapter) -> Value {
    json!({
        "peft_type": "ROAD",
        "variant": "road_1",
        "group_size": new.group_size,
        "init_weights": true,
    })
}

/// Angles of zero, lengths of one: one of each for a pair of outputs.
pub(super) fn road(module: &Module, new: &NewAdapter, _: &mut Rng) -> Result<Vec<Tensor>> {
    let (size, outputs) = (new.group_size, module.outputs);
    if size == 0 || !size.is_multiple_of(2) || !outputs.is_multiple_of(size) {
        let e = Error::usage("the module is not whole groups").item("group_size");
        return Err(e
            .expected(format!("an even divisor of the {outputs} outputs of {}", module.path()))
            .found(size));
    }
    let pairs = outputs / 2;
    Ok(vec![
        ("road_theta", vec![pairs], vec![0.0; pairs]),
        ("road_alpha", vec![pairs], vec![1.0; pairs]),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Oracle: `OFTLayer.adjust_oft_parameters` of PEFT 0.21.2.
    #[test]
    fn blocks_of_oft_have_pefts_sizes() {
        for (n, size, found) in [
            (576, 32, 32),
            (100, 32, 25),
            (100, 23, 25),
            (1536, 7, 6),
            (97, 32, 1),
            (64, 90, 64),
            (96, 10, 8),
        ] {
            assert_eq!(nearest_divisor(n, size), found, "{n} {size}");
        }
    }
}

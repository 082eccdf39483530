//! What begins as the base has it: factors of one (IA3), copies of parameters (LN tuning, trainable tokens, `modules_to_save`).

use serde_json::{Value, json};

use super::targets::{self, Targets};
use super::{Module, NewAdapter, Tensor};
use crate::error::{Error, Result};
use crate::model::backend::Backend;
use crate::model::{Part, Site};
use crate::rng::Rng;
use crate::runtime::Model;

pub(super) fn ia3_fields(_: &Model, new: &NewAdapter) -> Value {
    json!({
        "peft_type": "IA3",
        "feedforward_modules": match &new.targets {
            Targets::Named(names) => json!(names.iter().filter(|n| n.ends_with("down_proj")).collect::<Vec<_>>()),
            _ => json!(["down_proj"]),
        },
        "fan_in_fan_out": false,
        "init_ia3_weights": true,
    })
}

/// Ones: on the input of the feed-forward's last map, else on the output.
pub(super) fn ia3(module: &Module, _: &NewAdapter, _: &mut Rng) -> Result<Vec<Tensor>> {
    let shape = match module.site {
        Site::Layer(_, Part::Down) => vec![1, module.inputs],
        _ => vec![module.outputs, 1],
    };
    let n = shape.iter().product();
    Ok(vec![("ia3_l", shape, vec![1.0; n])])
}

pub(super) fn ln_fields(_: &Model, _: &NewAdapter) -> Value {
    json!({"peft_type": "LN_TUNING"})
}

/// The base's own weights.
pub(super) fn ln_tuning(module: &Module, _: &NewAdapter, _: &mut Rng) -> Result<Vec<Tensor>> {
    let values = norm(module.model, module.site);
    Ok(vec![("ln_tuning_layers.weight", vec![values.len()], values)])
}

/// The weights of a norm, as a checkpoint has them.
fn norm(model: &Model, site: Site) -> Vec<f32> {
    let weights = model.weights();
    let norm = match site {
        Site::Layer(i, part) => weights.layers[i].norm(part),
        _ => Some(&weights.output_norm),
    };
    // The converter adds the 1 that Gemma's norms add when they run.
    let one = if model.spec().norms_plus_one { 1.0 } else { 0.0 };
    norm.map_or(Vec::new(), |v| {
        model.backend().read_vector(v).iter().map(|v| v - one).collect()
    })
}

pub(super) fn tokens_fields(_: &Model, new: &NewAdapter) -> Value {
    json!({
        "peft_type": "TRAINABLE_TOKENS",
        "token_indices": new.token_indices,
        "init_weights": true,
    })
}

/// The base's own rows.
pub(super) fn trainable_tokens(module: &Module, new: &NewAdapter, _: &mut Rng) -> Result<Vec<Tensor>> {
    let (ids, vocab) = (&new.token_indices, module.model.spec().vocab_size);
    let wrong = |expected: String, found: String| {
        let e = Error::usage("tokens that cannot be trained").item("token_indices");
        Err(e.expected(expected).found(found))
    };
    if ids.is_empty() {
        return wrong("one token or more".into(), "none".into());
    }
    if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
        return wrong(format!("0 to {}", vocab - 1), id.to_string());
    }
    let mut seen = std::collections::HashSet::new();
    if let Some(id) = ids.iter().find(|id| !seen.insert(**id)) {
        return wrong("each token once".into(), format!("{id} twice"));
    }
    let rows = module.rows(ids);
    Ok(vec![(
        "trainable_tokens_delta",
        vec![ids.len(), module.model.spec().hidden_size],
        rows,
    )])
}

/// The `weight` of a module: shape, numbers.
type Saved = (Site, Vec<usize>, Vec<f32>);

/// `modules_to_save`: whole parameters, which are trained beside the adapter.
///
/// # Errors
/// Names that match no norm or table; one of a module that is adapted too.
pub(super) fn saved(model: &Model, new: &NewAdapter, adapted: &[Site]) -> Result<Vec<Saved>> {
    let (spec, mut tensors) = (model.spec(), Vec::new());
    for site in targets::saved(model, &new.modules_to_save)? {
        if adapted.contains(&site) {
            let e = Error::usage("the module is adapted already").item("modules_to_save");
            return Err(e
                .expected("a module that is not among the targets")
                .found(site.hf_path(spec.post_norms)));
        }
        let (shape, values) = if site.is_norm() {
            let values = norm(model, site);
            (vec![values.len()], values)
        } else {
            let module = Module::of(model, site);
            let ids: Vec<u32> = (0..spec.vocab_size as u32).collect();
            (vec![spec.vocab_size, spec.hidden_size], module.rows(&ids))
        };
        tensors.push((site, shape, values));
    }
    Ok(tensors)
}

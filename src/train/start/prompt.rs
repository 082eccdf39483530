//! What stands before the text: prompt tuning, prefix tuning.

use serde_json::{Value, json};

use super::draw::normals;
use super::{Module, NewAdapter, Tensor};
use crate::error::{Error, Result};
use crate::model::Site;
use crate::rng::Rng;
use crate::runtime::Model;
use crate::tokenizer::EncodeOptions;

/// The embeddings of tokens: those of a text, or random ones of the vocabulary. PEFT's RANDOM, its default, draws normal numbers instead,
/// which are far larger than embeddings are.
pub(super) fn prompt_fields(model: &Model, new: &NewAdapter) -> Value {
    let (spec, text) = (model.spec(), &new.prompt_tuning_init_text);
    json!({
        "peft_type": "PROMPT_TUNING",
        "num_virtual_tokens": new.num_virtual_tokens,
        "token_dim": spec.hidden_size,
        "num_transformer_submodules": 1,
        "num_attention_heads": spec.n_heads,
        "num_layers": spec.n_layers,
        "prompt_tuning_init": if text.is_some() { "TEXT" } else { "SAMPLE_VOCAB" },
        "prompt_tuning_init_text": text,
        // PEFT demands one beside a text; what is saved it loads without.
        "tokenizer_name_or_path": text.as_ref().map(|_| new.base_model.as_deref().unwrap_or("unknown")),
    })
}

pub(super) fn prompt(model: &Model, _: &[Module], new: &NewAdapter, rng: &mut Rng) -> Result<Vec<Tensor>> {
    let (n, spec) = (virtual_tokens(model, new)?, model.spec());
    let ids: Vec<u32> = match &new.prompt_tuning_init_text {
        None => (0..n).map(|_| (rng.unit() * spec.vocab_size as f64) as u32).collect(),
        Some(text) => {
            let ids = model.tokenizer()?.encode(text, EncodeOptions::default())?;
            if ids.is_empty() {
                let e = Error::usage("the text has no tokens").item("prompt_tuning_init_text");
                return Err(e.expected("one or more").found(format!("{text:?}")));
            }
            // As often as need be, as PEFT does.
            ids.into_iter().cycle().take(n).collect()
        }
    };
    // What stands in the prompt is what the model's embedding gives, its factor included.
    let rows = Module::of(model, Site::Embed).rows(&ids);
    let values = rows.iter().map(|v| v * spec.embed_scale).collect();
    Ok(vec![("prompt_embeddings", vec![n, spec.hidden_size], values)])
}

pub(super) fn prefix_fields(model: &Model, new: &NewAdapter) -> Value {
    let spec = model.spec();
    json!({
        "peft_type": "PREFIX_TUNING",
        "num_virtual_tokens": new.num_virtual_tokens,
        "token_dim": spec.kv_width(),
        "num_transformer_submodules": 1,
        "num_attention_heads": spec.n_kv_heads,
        "num_layers": spec.n_layers,
        "encoder_hidden_size": spec.kv_width(),
        "prefix_projection": false,
        "init_weights": null,
    })
}

/// Keys and values, all normal.
pub(super) fn prefix(model: &Model, _: &[Module], new: &NewAdapter, rng: &mut Rng) -> Result<Vec<Tensor>> {
    let (n, spec) = (virtual_tokens(model, new)?, model.spec());
    let width = spec.n_layers * 2 * spec.kv_width();
    Ok(vec![(
        "prompt_embeddings",
        vec![n, width],
        normals(rng, n * width, 1.0),
    )])
}

/// How many stand there: the context must have room for two tokens more.
fn virtual_tokens(model: &Model, new: &NewAdapter) -> Result<usize> {
    let most = model.spec().context_length.saturating_sub(2);
    match new.num_virtual_tokens {
        n if (1..=most).contains(&n) => Ok(n),
        n => {
            let e = Error::usage("number out of range").item("num_virtual_tokens");
            Err(e.expected(format!("1 to {most}")).found(n))
        }
    }
}

//! Prefix tuning (Li and Liang 2021, arXiv 2101.00190): `prompt_embeddings` (n, layers · 2 · kv_heads · head_dim) are keys and values of n
//! positions before the text, in every layer: of layer l, slice 2 l holds the keys (behind RoPE), 2 l + 1 the values (peft/peft_model.py,
//! `get_prompt`). A projection was evaluated when it was saved.

use super::prompt::{OPTIONS, prompt};
use crate::adapter::source::{Method, Source, bad_shape};
use crate::adapter::{Lowered, Prefix};
use crate::error::Result;

/// The method.
pub const METHOD: Method = Method {
    peft_type: "PREFIX_TUNING",
    options: OPTIONS,
    tensors: &[],
    shared: &["prompt_embeddings"],
    lower,
};

fn lower(source: &Source) -> Result<Lowered> {
    let mut lowered = source.lower(|_| Ok(Vec::new()))?;
    let values = prompt(source)?;
    let layers = source.folder.usize("num_layers", 1)?;
    if !values.cols().is_multiple_of(layers.max(1).saturating_mul(2)) {
        let t = source.need_shared("prompt_embeddings")?;
        return Err(bad_shape(
            t,
            format_args!("keys and values of {layers} layers, as num_layers says"),
        ));
    }
    lowered.prefix = Some(Prefix::KeysAndValues(values));
    Ok(lowered)
}

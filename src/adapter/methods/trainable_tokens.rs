//! Trainable tokens: `<embedding>.trainable_tokens_delta` (n, dim) holds new rows (not differences) for the tokens of the config's
//! `token_indices`; a tied head uses them too (peft/tuners/trainable_tokens/layer.py).

use crate::adapter::Lowered;
use crate::adapter::options::Rule;
use crate::adapter::rows;
use crate::adapter::source::{Method, Source};
use crate::error::Result;

/// The method.
pub const METHOD: Method = Method {
    peft_type: "TRAINABLE_TOKENS",
    options: &[("token_indices", Rule::Fine)],
    tensors: &["trainable_tokens_delta"],
    shared: &[],
    lower,
};

fn lower(source: &Source) -> Result<Lowered> {
    let ids = rows::ids(source.folder, "token_indices", source.folder.value("token_indices"))?;
    source.lower(|module| Ok(vec![rows::form(&ids, module.need("trainable_tokens_delta")?)?]))
}

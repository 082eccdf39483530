//! Single rows of an embedding: TRAINABLE_TOKENS, and LoRA's `trainable_token_indices`. The stored rows are the new ones; which tokens they
//! belong to, only the config knows.

use serde_json::Value;

use super::forms::Form;
use super::source::{bad_shape, matrix};
use crate::error::{Error, Result};
use crate::format::{PeftFolder, TensorView};

/// The form for the rows `t` of LoRA's option `trainable_token_indices`: a list, for the embedding, or one for each module's name.
pub fn of_option(folder: &PeftFolder, module: &str, t: &TensorView) -> Result<Form> {
    let field = "trainable_token_indices";
    let list = match folder.value(field) {
        Some(Value::Object(by_name)) => by_name
            .iter()
            .find(|(name, _)| module.ends_with(name.as_str()))
            .map(|p| p.1),
        other => other,
    };
    form(&ids(folder, field, list)?, t)
}

/// A list of token ids, each once.
pub fn ids(folder: &PeftFolder, field: &str, list: Option<&Value>) -> Result<Vec<u32>> {
    let wrong = || {
        folder.error(
            Error::invalid("the field has the wrong type or range").expected("a list of token ids, each once"),
            field,
        )
    };
    let list = list.and_then(Value::as_array).ok_or_else(wrong)?;
    let ids = of_numbers(list).ok_or_else(wrong)?;
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() != ids.len() {
        return Err(wrong());
    }
    Ok(ids)
}

/// A list as token ids; `None` if one of its entries is no such number.
pub fn of_numbers(list: &[Value]) -> Option<Vec<u32>> {
    list.iter()
        .map(|v| v.as_u64().and_then(|n| u32::try_from(n).ok()))
        .collect()
}

/// The rows `t` for the tokens `ids`.
pub fn form(ids: &[u32], t: &TensorView) -> Result<Form> {
    let rows = matrix(t)?;
    if rows.rows() != ids.len() {
        return Err(bad_shape(
            t,
            format_args!("[{}, dim], a row for each token of the config", ids.len()),
        ));
    }
    Ok(Form::Rows(ids.to_vec(), rows))
}

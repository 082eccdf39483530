//! LoRA adapters as GGUF files, in the form of llama.cpp's `convert_lora_to_gguf.py`, which its `llama-adapter.cpp` loads:
//!
//! ```text
//! general.type = "adapter"   general.architecture = that of the model   adapter.type = "lora"
//! adapter.lora.alpha f32     adapter.alora.invocation_tokens [u32] (aLoRA only)
//! <tensor>.lora_a [in, r]    <tensor>.lora_b [r, out]       for example blk.0.attn_q.weight.lora_a
//! token_embd.weight.lora_a [r, V]   token_embd.weight.lora_b [r, hidden]
//! ```
//!
//! (dimensions as GGUF writes them, the fastest-varying first). y += alpha / r * B (A x), where r is that of the tensor; an alpha of 0, or
//! none, means a factor of 1 (`llama_adapter_lora_weight::get_scale`). A of the embedding is stored transposed, a row for each token
//! (`build_inp_embd` in llama-graph.cpp). Rows of B have the order of the model's file: q and k of llama are permuted.

use std::collections::HashMap;

use super::Lowered;
use super::forms::{Form, LowRank, SiteForms};
use super::matrix::Matrix;
use super::scaling::MAX_RANK;
use crate::error::{Error, Result};
use crate::format::{Gguf, Metadata, TensorInfo};
use crate::model::Site;

/// Keys of the metadata, and the ends of tensors' names.
pub(super) const TYPE: &str = "general.type";
pub(super) const ARCHITECTURE: &str = "general.architecture";
pub(super) const ADAPTER_TYPE: &str = "adapter.type";
pub(super) const ALPHA: &str = "adapter.lora.alpha";
pub(super) const INVOCATION: &str = "adapter.alora.invocation_tokens";
pub(super) const ENDS: [&str; 2] = [".weight.lora_a", ".weight.lora_b"];
/// Keys that say nothing about what the adapter computes.
const WORDS: [&str; 2] = ["adapter.lora.task_name", "adapter.lora.prompt_prefix"];

/// Whether the file says that it is an adapter.
///
/// # Errors
/// A key of the wrong type.
pub fn is_adapter(file: &Gguf) -> Result<bool> {
    Ok(file.metadata().str(TYPE)? == Some("adapter"))
}

/// The forms in `file`, by Hugging Face's paths but with rows in the file's order ([`Lowered::architecture`]).
///
/// # Errors
/// A file that is no LoRA adapter, a tensor that would not be used, half of a pair, shapes that are no low-rank update, numbers that are
/// not finite.
pub(super) fn lower(file: &Gguf) -> Result<Lowered> {
    let meta = file.metadata();
    for (key, expected) in [(TYPE, "adapter"), (ADAPTER_TYPE, "lora")] {
        let found = meta.str(key)?;
        if found != Some(expected) {
            let e = Error::invalid("not a LoRA adapter").expected(format_args!("\"{expected}\""));
            return Err(meta.error(e.found(found.unwrap_or("no such key")), key));
        }
    }
    let known = [ADAPTER_TYPE, ALPHA, INVOCATION];
    let unknown = |key: &str| key.starts_with("adapter.") && !known.contains(&key) && !WORDS.contains(&key);
    if let Some((key, value)) = meta.iter().find(|(key, _)| unknown(key)) {
        let e = Error::unsupported("an option of the adapter that Graft does not know");
        return Err(meta.error(e.found(value), key));
    }
    let alpha = meta.f32(ALPHA)?.unwrap_or(0.0);
    let mut sites = Vec::new();
    for (site, pair) in pairs(file)? {
        sites.push(SiteForms {
            // Of linear maps it is the same in all architectures.
            path: site.hf_path(false),
            forms: vec![Form::LowRank(update(file, site, pair, alpha)?)],
        });
    }
    if sites.is_empty() {
        return Err(Error::invalid("the adapter holds no tensors").file(file.path()));
    }
    Ok(Lowered {
        sites,
        invocation: invocation(meta)?,
        architecture: Some(meta.need_str(ARCHITECTURE)?.to_owned()),
        ..Default::default()
    })
}

/// A and B of each site, in the order of the file.
fn pairs(file: &Gguf) -> Result<Vec<(Site, [&TensorInfo; 2])>> {
    let mut order = Vec::new();
    let mut found: HashMap<Site, [Option<&TensorInfo>; 2]> = HashMap::new();
    for t in file.tensors() {
        let of = |which: usize| Some((Site::from_gguf_name(t.name.strip_suffix(ENDS[which])?)?, which));
        let Some((site, which)) = of(0).or_else(|| of(1)).filter(|(site, _)| !site.is_norm()) else {
            let e = Error::unsupported("tensor that would not be applied").file(file.path());
            return Err(e
                .item(&t.name)
                .expected("the name of a weight matrix, and .lora_a or .lora_b")
                .found(format_args!("{:?}", t.dims)));
        };
        let pair = found.entry(site).or_insert_with(|| {
            order.push(site);
            [None, None]
        });
        pair[which] = Some(t);
    }
    let whole = |site: Site| {
        let pair = found.get(&site).copied().unwrap_or_default();
        let missing = |which: usize| {
            let e = Error::invalid("tensor is missing").file(file.path());
            e.item(format!("{}{}", site.gguf_name(), ENDS[which]))
        };
        match pair {
            [Some(a), Some(b)] => Ok((site, [a, b])),
            [None, _] => Err(missing(0)),
            [_, None] => Err(missing(1)),
        }
    };
    order.into_iter().map(whole).collect()
}

fn update(file: &Gguf, site: Site, [ta, tb]: [&TensorInfo; 2], alpha: f32) -> Result<LowRank> {
    let bad = |t: &TensorInfo, e: Error| e.file(file.path()).item(&t.name);
    let read = |t: &TensorInfo| {
        // A writer in C leaves out the last dimensions of 1.
        let (cols, rows) = match t.dims[..] {
            [cols] => (cols, 1),
            [cols, rows] | [cols, rows, 1] | [cols, rows, 1, 1] => (cols, rows),
            _ => {
                let e = Error::invalid("shape does not fit").expected("two dimensions");
                return Err(bad(t, e.found(format_args!("{:?}", t.dims))));
            }
        };
        Matrix::from_gguf(file, t, rows, cols)
    };
    let (a, b) = (read(ta)?, read(tb)?);
    let a = if site == Site::Embed { a.transposed() } else { a };
    let rank = b.cols();
    if a.rows() != rank {
        let e = Error::invalid("shape does not fit").expected(format_args!("the rank of lora_b, {rank}"));
        return Err(bad(ta, e.found(format_args!("{:?}", ta.dims))));
    }
    if rank > MAX_RANK {
        let e = Error::limit("the rank is too large").expected(MAX_RANK);
        return Err(bad(tb, e.found(rank)));
    }
    let scale = if alpha == 0.0 { 1.0 } else { alpha / rank as f32 };
    Ok(LowRank::new(a, b, scale))
}

/// aLoRA's tokens; an empty list is a plain LoRA, as in llama.cpp.
fn invocation(meta: &Metadata) -> Result<Option<Vec<u32>>> {
    let ids = meta.ints(INVOCATION)?.unwrap_or_default();
    let ids: Option<Vec<u32>> = ids.iter().map(|id| u32::try_from(*id).ok()).collect();
    let ids = ids.ok_or_else(|| {
        let e = Error::invalid("the metadata value has the wrong type or range").expected("a list of token ids");
        meta.error(e, INVOCATION)
    })?;
    Ok((!ids.is_empty()).then_some(ids))
}

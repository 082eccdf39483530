//! AdaLoRA (Zhang et al. 2023, arXiv 2303.10512): `<m>.lora_A` (r, in), `<m>.lora_E` (r, 1), `<m>.lora_B` (out, r), where r differs from
//! module to module; y += s B (E ⊙ (A x)) with s = lora_alpha / (init_r + 1e-5) (peft/tuners/adalora/layer.py: the rank of the scale is
//! the one that training began with, whatever was pruned).

use serde_json::Value;

use crate::adapter::Lowered;
use crate::adapter::forms::{Form, LowRank};
use crate::adapter::options::Rule;
use crate::adapter::source::{Method, Source, bad_shape};
use crate::error::{Error, Result};

/// The method.
pub const METHOD: Method = Method {
    peft_type: "ADALORA",
    options: &[
        ("lora_alpha", Rule::Fine),
        ("init_r", Rule::Fine),
        // Training only; the tensors tell the ranks.
        ("r", Rule::Fine),
        ("target_r", Rule::Fine),
        ("rank_pattern", Rule::Fine),
        ("tinit", Rule::Fine),
        ("tfinal", Rule::Fine),
        ("deltaT", Rule::Fine),
        ("beta1", Rule::Fine),
        ("beta2", Rule::Fine),
        ("orth_reg_weight", Rule::Fine),
        ("total_step", Rule::Fine),
        ("lora_dropout", Rule::Fine),
        ("init_lora_weights", Rule::Fine),
        // LoraConfig's fields that AdaLoRA does not look at.
        ("use_rslora", Rule::Fine),
        ("alpha_pattern", Rule::Fine),
        ("megatron_config", Rule::Fine),
        ("megatron_core", Rule::Fine),
        ("eva_config", Rule::Fine),
        ("corda_config", Rule::Fine),
        ("lora_ga_config", Rule::Fine),
        ("loftq_config", Rule::Fine),
        ("qalora_group_size", Rule::Fine),
        ("ensure_weight_tying", Rule::Fine),
        ("trainable_token_indices", Rule::Fine),
    ],
    tensors: &["lora_A", "lora_E", "lora_B"],
    shared: &[],
    lower,
};

fn lower(source: &Source) -> Result<Lowered> {
    let alpha = source.folder.f64("lora_alpha", 8.0)?;
    let init_r = source.folder.f64("init_r", 12.0)?;
    if init_r < 1.0 {
        let e = Error::invalid("value out of range").expected("1 or more").found(init_r);
        return Err(source.folder.error(e, "init_r"));
    }
    let kept = source.folder.object("rank_pattern")?;
    source.lower(|module| {
        let (ta, te, tb) = (module.need("lora_A")?, module.need("lora_E")?, module.need("lora_B")?);
        let rank = ta.shape.first().copied().unwrap_or(0);
        if te.shape[..] != [rank, 1] {
            return Err(bad_shape(te, format_args!("[{rank}, 1]")));
        }
        if tb.shape.len() != 2 || tb.shape[1] != rank {
            return Err(bad_shape(tb, format_args!("[out, {rank}]")));
        }
        // Which ranks were kept, one bool each; only those are in the file.
        let pattern = kept
            .and_then(|k| k.get(&format!("{}.lora_E", module.path)))
            .and_then(Value::as_array);
        if let Some(n) = pattern.map(|list| list.iter().filter(|v| **v == Value::Bool(true)).count())
            && n != rank
        {
            return Err(bad_shape(ta, format_args!("[{n}, in], as rank_pattern says")));
        }
        if rank == 0 {
            return Ok(Vec::new()); // all of it was pruned
        }
        let e = module.vector("lora_E")?;
        let a = module.matrix("lora_A")?.map(|k, _, v| v * e[k]);
        // A scale of alpha 0 or less is the number of ranks in PEFT.
        let scale = if alpha > 0.0 { alpha } else { init_r } / (init_r + 1e-5);
        Ok(vec![Form::LowRank(LowRank::new(
            a,
            module.matrix("lora_B")?,
            scale as f32,
        ))])
    })
}

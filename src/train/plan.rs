//! How much memory a training will take, known before it begins.

use super::parameters::{Parameter, Parameters};
use super::trainer::TrainOptions;
use crate::error::{Error, Result};
use crate::kernels::Precision;
use crate::kernels::cpu::{ActsSize, KvBuf, Readers, back_scratch_bytes, matmul_back_bytes};
use crate::model::backward::rows_of_logits;
use crate::quant::BlockFormat;
use crate::runtime::Model;

/// Bytes that a training takes at its most, by part. What is not in it: the program, the tokenizer, the data's index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrainPlan {
    /// The tensors in the model's file, which stay mapped.
    pub weights: usize,
    /// The adapter's numbers, and the adapter as it runs.
    pub adapter: usize,
    /// Their gradients; or, between two steps, when those are gone, what the changed adapter is made from.
    pub gradients: usize,
    /// What the optimizer keeps of each number.
    pub optimizer: usize,
    /// Keys and values, and what is kept of each layer's rows for the way back.
    pub activations: usize,
    /// Buffers of the layer that is under way, and of the head.
    pub workspace: usize,
}

impl TrainPlan {
    /// The plan for `parameters` on `model`.
    pub fn of(model: &Model, parameters: &Parameters, options: &TrainOptions) -> Self {
        let spec = model.spec();
        let sum = |of: &dyn Fn(&Parameter) -> usize| parameters.all().iter().map(of).fold(0, usize::saturating_add);
        let numbers = 4 * sum(&|p| p.values.len());
        let trained = 4 * sum(&|p| if is_fixed(p) { 0 } else { p.values.len() });
        let running = sum(&running);
        let (seq, precision) = (options.seq.min(spec.context_length), options.precision.for_training());
        let before = parameters.number("num_virtual_tokens", 0.0) as usize;
        let m = (seq + before).min(spec.context_length);
        let value = KvBuf::value_bytes(precision);
        let (hidden, q, kv, ffn) = (spec.hidden_size, spec.q_width(), spec.kv_width(), spec.ffn_size);
        let k_norm = model.weights().layers.iter().any(|l| l.k_norm.is_some());
        let attention = 2 * q + hidden + if k_norm { kv } else { 0 };
        let kept = hidden + if options.keep_attention { attention } else { 0 };
        TrainPlan {
            weights: model.gguf().tensors().iter().map(|t| t.range.len()).sum(),
            adapter: numbers + running,
            gradients: trained.max((2 * numbers).saturating_sub(running)).max(numbers),
            optimizer: options.optimizer.bytes(trained / 4),
            activations: spec.n_layers * m * (kept + 2 * kv) * value,
            workspace: workspace(model, parameters, m, precision, [hidden, q, kv, ffn]),
        }
    }

    /// All of it together.
    pub fn total(&self) -> usize {
        self.parts()
            .into_iter()
            .fold(0, |sum, (_, bytes)| sum.saturating_add(bytes))
    }

    /// The parts by name.
    pub fn parts(&self) -> [(&'static str, usize); 6] {
        [
            ("weights", self.weights),
            ("adapter", self.adapter),
            ("gradients", self.gradients),
            ("optimizer", self.optimizer),
            ("activations", self.activations),
            ("workspace", self.workspace),
        ]
    }

    /// Changes the options so that all takes at most `bytes` together with `beside`, what the process holds for other things: attention runs
    /// again on the way back instead of being kept. Nothing that changes what is learnt is touched.
    ///
    /// # Errors
    /// `Limit` where that is not enough, with the least that is.
    pub fn fit(
        model: &Model,
        parameters: &Parameters,
        options: &mut TrainOptions,
        bytes: usize,
        beside: usize,
    ) -> Result<Self> {
        options.keep_attention = true;
        let kept = Self::of(model, parameters, options);
        if kept.total().saturating_add(beside) <= bytes {
            return Ok(kept);
        }
        options.keep_attention = false;
        let plan = Self::of(model, parameters, options);
        plan.within(bytes, beside)?;
        Ok(plan)
    }

    /// That all takes at most `bytes` together with `beside`, what the process holds for other things.
    ///
    /// # Errors
    /// `Limit` where that is not enough, with the least that is.
    pub fn within(&self, bytes: usize, beside: usize) -> Result<()> {
        let least = self.total().saturating_add(beside);
        if least <= bytes {
            return Ok(());
        }
        let advice = "a shorter seq, a lower rank, fewer targets or adamw8bit take less";
        let e = Error::limit(format!("the training does not fit in its memory: {advice}"));
        Err(e
            .item("memory")
            .expected(format!("at least {least} bytes"))
            .found(bytes))
    }
}

/// Whether a tensor is a random projection that nobody trains.
fn is_fixed(p: &Parameter) -> bool {
    p.key.starts_with("base_model.vera_") || p.key.ends_with(".start")
}

/// Bytes of a tensor where it runs: factors are packed in panels of 16 rows, other tensors are as they are.
fn running(p: &Parameter) -> usize {
    match p.shape[..] {
        // Codes, a scale for each row of 32 columns, and what they leave over.
        [rows, cols] => rows.next_multiple_of(16) * (cols.next_multiple_of(4) + 4 * cols.div_ceil(32) + 2 * cols),
        _ => 4 * p.values.len(),
    }
}

/// Bytes of the buffers of a pass and its way back over `m` rows: see `State`, `Tape` and `Way` for each of them.
fn workspace(model: &Model, parameters: &Parameters, m: usize, precision: Precision, widths: [usize; 4]) -> usize {
    let (spec, threads) = (model.spec(), model.cpu().threads());
    let [hidden, q, kv, ffn] = widths;
    let norms = if spec.post_norms { 2 * hidden } else { 0 };
    let layer = &model.weights().layers[0];
    let raw = if layer.k_norm.is_some() { q + kv } else { 0 };
    let rank = parameters
        .all()
        .iter()
        .filter_map(|p| p.shape.iter().min())
        .max()
        .copied()
        .unwrap_or(0);
    let widest = ffn.max(q).max(hidden);
    // Forms that read what they are given have it, what comes out, and a changed gradient.
    let plain = [
        "LORA",
        "LN_TUNING",
        "PROMPT_TUNING",
        "PREFIX_TUNING",
        "TRAINABLE_TOKENS",
        "ADALORA",
    ];
    let plain =
        parameters.text("peft_type").is_some_and(|name| plain.contains(&name)) && !parameters.flag("use_dora", false);
    let forms = if plain { 0 } else { 3 * widest };
    let a_row = 9 * hidden + 4 * q + 4 * kv + 6 * ffn + norms + raw + forms + 3 * rank.min(widest);
    let vocab = spec.vocab_size;
    let logits = rows_of_logits(vocab).min(m) * (vocab + 3 * hidden);
    let factor = parameters.all().iter().map(|p| p.values.len()).max().unwrap_or(0);
    let floats = m * a_row + logits + factor;
    let formats = [BlockFormat::Q8_0];
    let [of_layer, panels] = matmul_back_bytes(widest, m);
    let gradients = matmul_back_bytes(vocab, rows_of_logits(vocab).min(m))[0].max(of_layer);
    let acts = match precision {
        Precision::Exact => 4 * m * widest,
        precision => ActsSize::of(m, widest, Readers::weights(&formats, precision)).bytes() + gradients,
    };
    let (once, each) = back_scratch_bytes(&spec.attention(None, m, 0), m);
    4 * floats + acts + once + threads * (each + panels)
}

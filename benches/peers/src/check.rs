//! llama.cpp as a second opinion on logits and token ids.

use std::path::Path;

use graft::kernels::Precision;
use graft::tokenizer::EncodeOptions;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;

use crate::engine::{Llama, backend, graft_logits, graft_model, graft_session, llama_model, random_tokens};
use crate::{Options, Result};

/// llama.cpp rounds activations to 8 bits where weights are quantized, so the bound is on the divergence of the
/// distributions (nats, mean over positions), not on the logits. It is meant for text: on random tokens the rounding weighs more.
pub const MEAN_KL: f64 = 0.02;

/// Compares the logits after every token of a text or a random sequence.
pub fn logits(options: &Options) -> Result<bool> {
    let backend = backend()?;
    each_model(options, |path| logits_of(&backend, path, options))
}

fn logits_of(backend: &LlamaBackend, path: &Path, options: &Options) -> Result<bool> {
    let prompt = options.prompt.unwrap_or(64);
    let model = llama_model(backend, path)?;
    let mut tokens = match &options.file {
        Some(file) => llama_tokens(&model, &std::fs::read_to_string(file)?, false),
        None => random_tokens(prompt, usize::try_from(model.n_vocab())?),
    };
    tokens.truncate(prompt);
    let want = Llama::new(backend, &model, options.threads, prompt.next_multiple_of(256), true)?.logits(&tokens)?;
    let mut good = true;
    for precision in [Precision::Exact, Precision::Fast] {
        let model = graft_model(path, options.threads)?;
        let mut session = graft_session(&model, prompt, precision)?;
        let got = graft_logits(&mut session, &tokens)?;
        let mut worst = 0f32;
        let (mut kl, mut same) = (0f64, 0);
        for (g, w) in got.iter().zip(&want) {
            if g.len() != w.len() {
                return Err(format!("{} logits, llama.cpp has {}", g.len(), w.len()).into());
            }
            worst = g
                .iter()
                .zip(w)
                .map(|(g, w)| (g - w).abs() / w.abs().max(1.0))
                .fold(worst, f32::max);
            kl += divergence(w, g) / got.len() as f64;
            same += usize::from(argmax(g) == argmax(w));
        }
        let verdict = if kl < MEAN_KL { "ok" } else { "DIFFERS" };
        println!(
            "  {precision:?}: mean KL {kl:.2e}, worst |difference|/max(1, |logit|) {worst:.2e}, same first token {same}/{}: {verdict}",
            tokens.len()
        );
        good &= kl < MEAN_KL;
    }
    Ok(good)
}

/// KL(p ‖ q) of two rows of logits, in nats.
pub fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let (p_norm, q_norm) = (log_sum_exp(p), log_sum_exp(q));
    p.iter()
        .zip(q)
        .map(|(&p, &q)| (f64::from(p) - p_norm, f64::from(q) - q_norm))
        .map(|(p, q)| p.exp() * (p - q))
        .sum()
}

pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::MIN, f32::max);
    f64::from(max) + logits.iter().map(|&x| f64::from(x - max).exp()).sum::<f64>().ln()
}

pub fn argmax(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
}

/// Compares the token ids of every line of a text, with and without control tokens.
pub fn tokens(options: &Options) -> Result<bool> {
    let backend = backend()?;
    let text = match &options.file {
        Some(file) => std::fs::read_to_string(file)?,
        None => include_str!("../README.md").into(),
    };
    each_model(options, |path| tokens_of(&backend, path, &text))
}

fn tokens_of(backend: &LlamaBackend, path: &Path, text: &str) -> Result<bool> {
    const SHOWN: usize = 5;
    let model = llama_model(backend, path)?;
    let graft = graft_model(path, 1)?;
    let tokenizer = graft.tokenizer()?;
    let (mut lines, mut different) = (0, 0);
    for line in text.lines().chain([text]) {
        for parse_special in [false, true] {
            let want = llama_tokens(&model, line, parse_special);
            let got = tokenizer.encode(
                line,
                EncodeOptions {
                    add_bos_eos: true,
                    parse_special,
                },
            )?;
            lines += 1;
            if got != want {
                different += 1;
                if different <= SHOWN {
                    let start: String = line.chars().take(80).collect();
                    println!("  {start:?} special {parse_special}\n    graft     {got:?}\n    llama.cpp {want:?}");
                }
            }
        }
    }
    println!("  {different} of {lines} lines differ");
    Ok(different == 0)
}

/// The ids by llama.cpp's tokenizer, with the BOS and EOS that the model asks for.
pub fn llama_tokens(model: &LlamaModel, text: &str, parse_special: bool) -> Vec<u32> {
    let ids = model.vocab().tokenize(text.as_bytes(), true, parse_special);
    ids.iter().map(|t| t.0.cast_unsigned()).collect()
}

/// Compares for every model, which is named; what one engine refuses is reported and counts as a difference.
pub fn each_model(options: &Options, compare: impl Fn(&Path) -> Result<bool>) -> Result<bool> {
    let mut good = true;
    for path in &options.models {
        println!("{}", path.display());
        good &= compare(path).unwrap_or_else(|e| {
            println!("  {e}");
            false
        });
    }
    Ok(good)
}

//! What speed costs in accuracy: how far the distributions of Graft's `Fast` and of llama.cpp are from those of Graft's `Exact`, on the
//! same file and text.

use std::path::Path;

use graft::kernels::Precision;
use llama_cpp_2::llama_backend::LlamaBackend;

use crate::check::{divergence, each_model, llama_tokens, log_sum_exp};
use crate::engine::{Llama, backend, graft_logits, graft_model, graft_session, llama_model};
use crate::{Options, Result};

/// Tokens of a chunk; each starts with an empty cache.
const CHUNK: usize = 256;

/// One engine's sums over predictions.
#[derive(Default)]
struct Sums {
    kl: f64,
    worst: f64,
    loss: f64,
}

impl Sums {
    /// A prediction of `token` by `logits`, beside the exact ones.
    fn add(&mut self, exact: &[f32], logits: &[f32], token: u32) {
        let kl = divergence(exact, logits);
        self.kl += kl;
        self.worst = self.worst.max(kl);
        self.loss += loss(logits, token);
    }
}

/// -ln of the probability of `token`.
fn loss(logits: &[f32], token: u32) -> f64 {
    log_sum_exp(logits) - f64::from(logits[token as usize])
}

/// Compares on `options.file`, `options.rounds` chunks of it.
pub fn run(options: &Options) -> Result<bool> {
    let file = options.file.as_ref().ok_or("kl needs a text: -f FILE")?;
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let backend = backend()?;
    each_model(options, |path| of_model(&backend, path, &text, options))
}

/// True if `Fast` is not farther from `Exact` than llama.cpp.
fn of_model(backend: &LlamaBackend, path: &Path, text: &str, options: &Options) -> Result<bool> {
    let model = llama_model(backend, path)?;
    let tokens = llama_tokens(&model, text, false);
    let graft = graft_model(path, options.threads)?;
    let mut exact_session = graft_session(&graft, CHUNK, Precision::Exact)?;
    let mut fast_session = graft_session(&graft, CHUNK, Precision::Fast)?;
    let (mut exact_loss, mut fast, mut llama) = (0.0, Sums::default(), Sums::default());
    let mut count = 0usize;
    for chunk in tokens.chunks_exact(CHUNK).take(options.rounds) {
        let want = graft_logits(&mut exact_session, chunk)?;
        let quick = graft_logits(&mut fast_session, chunk)?;
        let theirs = Llama::new(backend, &model, options.threads, CHUNK, false)?.logits(chunk)?;
        for (i, &token) in chunk.iter().enumerate().skip(1) {
            exact_loss += loss(&want[i - 1], token);
            fast.add(&want[i - 1], &quick[i - 1], token);
            llama.add(&want[i - 1], &theirs[i - 1], token);
            count += 1;
        }
    }
    if count == 0 {
        return Err(format!("the text has fewer than {CHUNK} tokens").into());
    }
    let of = |sum: f64| sum / count as f64;
    println!("  {count} predictions, perplexity exact {:.4}", of(exact_loss).exp());
    for (name, sums) in [("graft fast", &fast), ("llama.cpp", &llama)] {
        println!(
            "  {name:10}  mean KL {:.2e}  largest {:.2e}  perplexity {:.4} ({:+.3} %)",
            of(sums.kl),
            sums.worst,
            of(sums.loss).exp(),
            100.0 * (of(sums.loss - exact_loss).exp() - 1.0)
        );
    }
    Ok(fast.kl <= llama.kl)
}

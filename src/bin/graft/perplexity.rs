//! `graft perplexity`: how well the model predicts a text, by llama.cpp's rule.
//!
//! The text's tokens are cut into chunks of `ctx`, each evaluated from an empty cache; where the model wants a begin token it
//! takes the place of a chunk's first. Counted are the predictions of the tokens after the middle: positions
//! `ctx/2 + 1 .. ctx`. The error is the standard error of the mean log-likelihood, carried to the perplexity.

use std::ops::ControlFlow;

use graft::kernels::Precision;
use graft::runtime::divergence::Divergence;
use graft::runtime::likelihood::{Likelihood, log_probability};
use graft::tokenizer::EncodeOptions;
use graft::{Error, Result, Session, SessionOptions};
use serde::Serialize;

use crate::args::PerplexityArgs;
use crate::interrupt::Catch;
use crate::load;
use crate::output::{Done, Fail, print, print_json, say};
use crate::progress::Progress;

#[derive(Serialize)]
struct Document {
    perplexity: f64,
    error: f64,
    mean_logprob: f64,
    counted: u64,
    chunks: usize,
    ctx: usize,
    tokens: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    kl: Option<Kl>,
}

/// Fast beside Exact, over the counted positions.
#[derive(Serialize)]
struct Kl {
    /// Mean of KL(exact || fast), in nats.
    mean: f64,
    max: f64,
    exact_perplexity: f64,
    /// Share of positions with the same most likely token.
    same_top: f64,
}

pub fn run(args: &PerplexityArgs) -> Done {
    let ctx = args.ctx;
    if ctx < 4 {
        Err(Error::usage("chunks are too short")
            .item("--ctx")
            .expected("at least 4")
            .found(ctx))?;
    }
    let text = load::text_of(&args.file)?;
    let (model, adapters) = load::model_and_adapters(&args.model)?;
    let ids = model.tokenizer()?.encode(&text, EncodeOptions::default())?;
    let chunks = (ids.len() / ctx).min(args.chunks.unwrap_or(usize::MAX));
    if chunks == 0 {
        let e = Error::invalid("the text is too short for one chunk").file(&args.file);
        Err(e.expected(format!("at least {ctx} tokens (--ctx)")).found(ids.len()))?;
    }
    let bos = model.tokenizer()?.begin_token();
    let mut session = load::session(&model, &args.model, ctx, &adapters)?;
    let mut exact = match args.kl {
        true => {
            let mut s = model.session(&SessionOptions {
                context: Some(ctx),
                precision: Precision::Exact,
                ..Default::default()
            })?;
            s.set_adapters(&load::active(&adapters))?;
            Some((s, Likelihood::default(), Divergence::default()))
        }
        false => None,
    };

    let catch = Catch::begin();
    let progress = Progress::new("perplexity");
    let mut sums = Likelihood::default();
    let mut running = String::new();
    for (n, chunk) in ids.chunks_exact(ctx).take(chunks).enumerate() {
        let mut chunk = chunk.to_vec();
        if let Some(bos) = bos {
            chunk[0] = bos;
        }
        match &mut exact {
            None => predict(&mut session, &chunk, &mut |next, logits| {
                sums.add(log_probability(logits, next))
            })?,
            Some((exact, exact_sums, differences)) => {
                // The exact logits of half a chunk, as long as they are compared.
                let mut reference = Vec::new();
                predict(exact, &chunk, &mut |next, logits| {
                    exact_sums.add(log_probability(logits, next));
                    reference.push(logits.to_vec());
                })?;
                let mut reference = reference.iter();
                predict(&mut session, &chunk, &mut |next, logits| {
                    sums.add(log_probability(logits, next));
                    if let Some(reference) = reference.next() {
                        differences.add(reference, logits);
                    }
                })?;
            }
        }
        progress.set((n + 1) as f32 / chunks as f32);
        running.push_str(&format!("[{}]{:.4},", n + 1, sums.perplexity()));
        if catch.asked() {
            return Err(Fail::Interrupted);
        }
    }
    progress.finish();
    let kl = exact.map(|(_, sums, d)| Kl {
        mean: d.mean(),
        max: d.max(),
        exact_perplexity: sums.perplexity(),
        same_top: d.same_top(),
    });
    let (perplexity, error, counted) = (sums.perplexity(), sums.error(), sums.count());
    let document = Document {
        perplexity,
        error,
        mean_logprob: -sums.mean(),
        counted,
        chunks,
        ctx,
        tokens: ids.len(),
        kl,
    };
    if args.json {
        return print_json(&document);
    }
    say(&running);
    print(&format!(
        "perplexity {perplexity:.4} ± {error:.4} ({chunks} chunks of {ctx} tokens, {counted} predictions)\n"
    ))?;
    match &document.kl {
        None => Ok(()),
        Some(kl) => print(&format!(
            "exact perplexity {:.4}, mean KL(exact || fast) {:.6}, largest {:.6}, same most likely token {:.2} %\n",
            kl.exact_perplexity,
            kl.mean,
            kl.max,
            100.0 * kl.same_top
        )),
    }
}

/// Gives `each` the counted tokens of a chunk with the logits that predict them.
fn predict(session: &mut Session, chunk: &[u32], each: &mut dyn FnMut(u32, &[f32])) -> Result<()> {
    let first = chunk.len() / 2;
    session.reset();
    session.eval(&chunk[..first])?;
    // The last token predicts nothing that is in the chunk.
    session.eval_each(&chunk[first..chunk.len() - 1], &mut |i, logits| {
        each(chunk[first + i + 1], logits);
        ControlFlow::Continue(())
    })
}

//! `graft run`: continue a prompt.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use graft::runtime::{Finish, GenerateOptions, Generated, Sampler, Timings, generate};
use serde::Serialize;

use crate::args::RunArgs;
use crate::interrupt::Catch;
use crate::load;
use crate::memory::memory;
use crate::output::{Done, Fail, print, print_json, say};

#[derive(Serialize)]
struct Document<'a> {
    tokens: &'a [u32],
    text: &'a str,
    finish_reason: &'static str,
    seed: u64,
    timings: Times,
    memory: Memory,
}

/// Milliseconds and tokens per second.
#[derive(Serialize)]
struct Times {
    load_ms: f64,
    prompt_tokens: usize,
    prompt_ms: f64,
    prompt_per_second: f64,
    tokens: usize,
    generation_ms: f64,
    tokens_per_second: f64,
    first_token_ms: f64,
}

/// Bytes: of the KV cache, and of everything that is not backed by a file (Linux only).
#[derive(Serialize)]
struct Memory {
    kv: usize,
    anonymous: Option<usize>,
}

/// `started` is when the process began.
pub fn run(args: &RunArgs, started: Instant) -> Done {
    let max_tokens = load::max_tokens(args.n)?;
    let sampling = args.sampling.options(0.0, load::any_seed)?;
    let (model, adapters) = load::model_and_adapters(&args.model)?;
    let prompt = load::prompt(&model, &args.prompt, args.chat)?;
    let context = load::context(&model, args.end.ctx, max_tokens.map(|n| n.saturating_add(prompt.len())));
    let mut session = load::session(&model, &args.model, context, &adapters)?;
    let kv = model.kv_bytes(&load::session_options(&args.model, context));
    let mut sampler = Sampler::new(sampling, session.vocab_size())?;
    let loaded = started.elapsed();

    let catch = Catch::begin();
    let options = GenerateOptions {
        max_tokens,
        stop: args.end.stop.clone(),
        ignore_eos: args.end.ignore_eos,
        keep: args.end.keep,
        show_special: args.special,
        cancel: vec![catch.flag()],
    };
    let (mut printed, mut first) = (Ok(()), None);
    let mut on_text = |text: &str, _| {
        first.get_or_insert_with(|| started.elapsed());
        if !args.json && !text.is_empty() {
            printed = print(text);
        }
        if printed.is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    let made = generate(
        &mut session,
        model.tokenizer()?,
        &prompt,
        &mut sampler,
        &options,
        &mut on_text,
    )?;
    printed?;
    if args.json {
        print_json(&Document {
            tokens: &made.tokens,
            text: &made.text,
            finish_reason: made.finish.name(),
            seed: sampler.options().seed,
            timings: times(loaded, first.unwrap_or_default(), &made.timings),
            memory: Memory {
                kv,
                anonymous: memory().map(|m| m.anonymous),
            },
        })?;
    } else {
        print("\n")?;
    }
    if args.verbose {
        say(&summary(loaded, &made));
    }
    match made.finish {
        Finish::Cancelled => Err(Fail::Interrupted),
        Finish::Context => {
            let full = session.context();
            say(&format!(
                "stopped: the context of {full} tokens is full; --ctx makes it longer, --keep slides it"
            ));
            Ok(())
        }
        _ => Ok(()),
    }
}

fn times(load: Duration, first: Duration, t: &Timings) -> Times {
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    Times {
        load_ms: ms(load),
        prompt_tokens: t.prompt_tokens,
        prompt_ms: ms(t.prompt),
        prompt_per_second: per_second(t.prompt_tokens, t.prompt),
        tokens: t.tokens,
        generation_ms: ms(t.generation),
        tokens_per_second: per_second(t.evaluations, t.generation),
        first_token_ms: ms(first),
    }
}

fn summary(load: Duration, made: &Generated) -> String {
    let t = &made.timings;
    format!(
        "loaded in {:.0} ms; prompt: {} tokens, {:.1} tokens/s; new: {} tokens, {:.1} tokens/s; ended by {}",
        load.as_secs_f64() * 1e3,
        t.prompt_tokens,
        per_second(t.prompt_tokens, t.prompt),
        t.tokens,
        per_second(t.evaluations, t.generation),
        made.finish
    )
}

fn per_second(n: usize, d: Duration) -> f64 {
    if d.is_zero() { 0.0 } else { n as f64 / d.as_secs_f64() }
}

//! `graft bench`: speed beside the limits of this machine.
//!
//! The limits come first: what the memory delivers when it is only read, and how many multiply-adds the cores do when they
//! do nothing else. A generated token reads every weight once, so its limit is the memory; a prompt's tokens share that
//! reading, so their limit is arithmetic. Start time and memory are those of a fresh `graft run`, from outside.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use graft::kernels::Precision;
use graft::kernels::cpu::peaks;
use graft::{Error, Model, Result, Session};
use serde::Serialize;

use crate::args::BenchArgs;
use crate::load;
use crate::output::{Done, bytes, print, print_json};

#[derive(Serialize)]
struct Document {
    pp: f64,
    tg: f64,
    model: String,
    isa: &'static str,
    threads: usize,
    precision: &'static str,
    limits: Limits,
    prompt: Speed,
    generation: Speed,
    start: Start,
}

#[derive(Serialize)]
struct Limits {
    read_gb_per_s: f64,
    f32_gmac_per_s: f64,
    int8_gmac_per_s: f64,
}

#[derive(Serialize)]
struct Speed {
    tokens: u32,
    tokens_per_s: f64,
    /// Of all repetitions, the slowest and the fastest.
    range: (f64, f64),
    gb_per_s: f64,
    gmac_per_s: f64,
    percent_of_limit: f64,
}

/// A fresh process with a five-token prompt.
#[derive(Serialize)]
struct Start {
    /// From starting the process to its end, with one token made in between.
    start_ms: f64,
    /// Memory that no file backs, with all of its KV cache in use.
    anonymous_bytes: Option<u64>,
    kv_bytes: u64,
}

/// What one token costs.
struct Work {
    /// Bytes of weights that a generated token reads.
    bytes: usize,
    /// Multiply-adds with weights of the layers, for every token.
    layers: usize,
    /// Multiply-adds of the head, for tokens whose logits are asked for.
    head: usize,
}

pub fn run(args: &BenchArgs) -> Done {
    let (model, adapters) = load::model_and_adapters(&args.model)?;
    let ids = ids(model.spec().vocab_size, args.prompt.max(args.n) as usize);
    let most = model.spec().context_length;
    if ids.len() > most {
        Err(Error::usage("more tokens than the model's context")
            .item("-p or -n")
            .expected(format!("at most {most}"))
            .found(ids.len()))?;
    }
    let threads = model.backend().threads();
    let peaks = peaks::measure(threads);
    let limits = Limits {
        read_gb_per_s: peaks.read_gb_s,
        f32_gmac_per_s: peaks.fma_gmac_s,
        int8_gmac_per_s: peaks.int8_gmac_s,
    };
    let (precision, gmac_limit) = match args.model.precision() {
        Precision::Exact => ("exact", limits.f32_gmac_per_s),
        Precision::Fast => ("fast", limits.int8_gmac_per_s),
    };
    if !args.json {
        print(&format!(
            "{}: {}, {precision}, {} · {threads} threads\n\
             limits      read {:.1} GB/s · f32 {:.0} GMAC/s · int8 {:.0} GMAC/s\n",
            args.model.model.display(),
            bytes(model.gguf().tensors().iter().map(|t| t.range.len()).sum()),
            model.backend().isa(),
            limits.read_gb_per_s,
            limits.f32_gmac_per_s,
            limits.int8_gmac_per_s,
        ))?;
    }

    let mut session = load::session(&model, &args.model, ids.len(), &adapters)?;
    let work = work(&model);

    let pp = repeat(args.repeat, &mut session, |s| {
        s.eval(&ids[..args.prompt as usize]).map(|_| ())
    })?;
    let prompt = speed(args.prompt, &pp, &work, 1.0 / f64::from(args.prompt), |_, gmac| {
        gmac / gmac_limit
    });
    if !args.json {
        print(&line("prompt", &prompt, "arithmetic"))?;
    }
    let tg = repeat(args.repeat, &mut session, |s| {
        ids[..args.n as usize]
            .iter()
            .try_for_each(|id| s.eval(&[*id]).map(|_| ()))
    })?;
    let generation = speed(args.n, &tg, &work, 1.0, |gb, _| gb / limits.read_gb_per_s);
    if !args.json {
        print(&line("generation", &generation, "reading"))?;
    }
    drop(session);

    let start = start(args)?;
    if !args.json {
        let anonymous = start.anonymous_bytes.map_or("unknown".into(), |n| bytes(n as usize));
        return print(&format!(
            "start       {:.0} ms from process start to the end of the first token, 5-token prompt · anonymous memory {anonymous}, KV cache {}\n",
            start.start_ms,
            bytes(start.kv_bytes as usize),
        ));
    }
    print_json(&Document {
        pp: prompt.tokens_per_s,
        tg: generation.tokens_per_s,
        model: args.model.model.display().to_string(),
        isa: model.backend().isa(),
        threads,
        precision,
        limits,
        prompt,
        generation,
        start,
    })
}

/// Ids that are the same on every run and do not repeat one row of the embedding.
fn ids(vocab: usize, n: usize) -> Vec<u32> {
    (0..n).map(|i| (i.wrapping_mul(7919) % vocab) as u32).collect()
}

/// Times of `work` on an empty session, once to warm up and then `n` times, ascending.
fn repeat(n: u32, session: &mut Session, mut work: impl FnMut(&mut Session) -> Result<()>) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for i in 0..=n {
        session.reset();
        let start = Instant::now();
        work(session)?;
        if i > 0 {
            times.push(start.elapsed());
        }
    }
    times.sort();
    Ok(times)
}

/// `heads`: logits that are computed for each token, on average.
fn speed(tokens: u32, times: &[Duration], work: &Work, heads: f64, share: impl Fn(f64, f64) -> f64) -> Speed {
    let per_s = |t: &Duration| f64::from(tokens) / t.as_secs_f64();
    let tokens_per_s = per_s(&times[times.len() / 2]);
    // A prompt reads the weights once for many tokens.
    let gb_per_s = tokens_per_s * heads * work.bytes as f64 / 1e9;
    let gmac_per_s = tokens_per_s * (work.layers as f64 + heads * work.head as f64) / 1e9;
    Speed {
        tokens,
        tokens_per_s,
        range: (times.last().map_or(0.0, per_s), times.first().map_or(0.0, per_s)),
        gb_per_s,
        gmac_per_s,
        percent_of_limit: 100.0 * share(gb_per_s, gmac_per_s),
    }
}

fn line(what: &str, s: &Speed, limit: &str) -> String {
    format!(
        "{what:11} {:>9.1} tokens/s ({:.1} to {:.1}) · {:.2} GB/s · {:.1} GMAC/s · {:.0} % of the limit ({limit}), {} tokens\n",
        s.tokens_per_s, s.range.0, s.range.1, s.gb_per_s, s.gmac_per_s, s.percent_of_limit, s.tokens
    )
}

/// Counts the weights: matrices only, the embedding only where it is the head too.
fn work(model: &Model) -> Work {
    let mut work = Work {
        bytes: 0,
        layers: 0,
        head: 0,
    };
    for t in model.gguf().tensors() {
        let head = match t.name.as_str() {
            "token_embd.weight" if !model.tied_head() => continue,
            "token_embd.weight" | "output.weight" => true,
            _ => false,
        };
        work.bytes += t.range.len();
        if t.dims.len() >= 2 {
            *(if head { &mut work.head } else { &mut work.layers }) += t.elements();
        }
    }
    work
}

/// Runs this program afresh, a few times, and takes the fastest: what else the machine does only ever adds.
fn start(args: &BenchArgs) -> Result<Start> {
    let failed = |why: String| Error::internal(format!("cannot measure the start: {why}"));
    let program = std::env::current_exe().map_err(|e| failed(e.to_string()))?;
    let mut best: Option<Start> = None;
    for _ in 0..3 {
        let mut command = Command::new(&program);
        command
            .args([
                "run",
                "--tokens",
                "1,2,3,4,5",
                "-n",
                "1",
                "--ignore-eos",
                "--json",
                "-m",
            ])
            .arg(&args.model.model);
        command.args(args.model.adapters.iter().map(|a| format!("-a{a}")));
        command.args(args.model.threads.map(|t| format!("-t{t}")));
        command
            .args(args.model.exact.then_some("--exact"))
            .args(args.model.no_mmap.then_some("--no-mmap"));
        let begun = Instant::now();
        let output = command
            .stdin(Stdio::null())
            .output()
            .map_err(|e| failed(e.to_string()))?;
        let start_ms = begun.elapsed().as_secs_f64() * 1e3;
        let said: serde_json::Value = serde_json::from_slice(&output.stdout)
            .map_err(|_| failed(String::from_utf8_lossy(&output.stderr).trim().to_string()))?;
        let memory = &said["memory"];
        if best.as_ref().is_none_or(|b| start_ms < b.start_ms) {
            best = Some(Start {
                start_ms,
                anonymous_bytes: memory["anonymous"].as_u64(),
                kv_bytes: memory["kv"].as_u64().unwrap_or(0),
            });
        }
    }
    best.ok_or_else(|| failed("it never ran".into()))
}

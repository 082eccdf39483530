//! `graft bench`: speed beside the limits of this machine.
//!
//! The limits come first: what the memory delivers when it is only read, and how many multiply-adds the cores do when they
//! do nothing else. A generated token reads every weight once, so its limit is the memory; a prompt's tokens share that
//! reading, so their limit is arithmetic. Of a model on a GPU the limits are the GPU's. Start time and memory are those of a fresh `graft run`, from outside.

pub mod cost;
mod ops;
mod roofline;
mod start;
mod svg;
pub mod work;

use std::time::{Duration, Instant};

use graft::kernels::Precision;
use graft::machine::Gpu;
use graft::runtime::{Sampler, SamplerOptions};
use graft::{Error, Result, Session};
use serde::Serialize;

use crate::args::BenchArgs;
use crate::load;
use crate::machine::Limits;
use crate::output::{Done, bytes, can_hold_file, print, print_json, write_file};
use cost::Cost;
use roofline::{GENERATION, Mark, PROMPT};
use start::Start;
use work::{Attention, Work};

#[derive(Serialize)]
struct Document {
    pp: f64,
    tg: f64,
    model: String,
    isa: &'static str,
    threads: usize,
    /// Where layers are, with a GPU in question.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    precision: &'static str,
    limits: Limits,
    prompt: Speed,
    generation: Speed,
    /// What the adapters cost, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    adapters: Option<Cost>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    depth: Vec<Depth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ops: Option<Ops>,
    start: Start,
}

#[derive(Serialize)]
pub struct Speed {
    tokens: usize,
    pub tokens_per_s: f64,
    /// Of all repetitions, the slowest and the fastest.
    range: (f64, f64),
    pub gb_per_s: f64,
    pub gmac_per_s: f64,
    pub percent_of_limit: f64,
}

/// The same with tokens already in the context.
#[derive(Serialize)]
struct Depth {
    tokens: usize,
    prompt: Deep,
    generation: Deep,
}

/// A speed beside the arithmetic law: time at a depth = time at depth 0 + the attention that comes with it, at the
/// limits of the machine.
#[derive(Serialize)]
struct Deep {
    tokens_per_s: f64,
    range: (f64, f64),
    /// By the law, from the measured speed at depth 0.
    law_tokens_per_s: f64,
    percent_of_law: f64,
    /// What comes with the depth, for each token.
    more_macs: usize,
    more_kv_bytes: usize,
}

#[derive(Serialize)]
struct Ops {
    prompt: ops::Table,
    generation: ops::Table,
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Tokens that come all at once.
    Prompt,
    /// Tokens that come one by one.
    Generation,
}

/// A session and what to run in it.
pub struct Bench {
    /// Tokens of a prompt.
    pub prompt: usize,
    /// Tokens to generate.
    pub n: usize,
    pub repeat: u32,
    pub session: Session,
    /// Those of the greatest depth, then those of a phase.
    pub ids: Vec<u32>,
}

pub fn run(args: &BenchArgs) -> Done {
    args.svg.as_deref().map_or(Ok(()), can_hold_file)?;
    let (model, adapters) = load::model_and_adapters(&args.model)?;
    let mut depths: Vec<usize> = args.depth.iter().map(|&d| d as usize).filter(|&d| d > 0).collect();
    depths.sort_unstable();
    depths.dedup();
    let depth = depths.last().copied().unwrap_or(0);
    let ids = ids(model.spec().vocab_size, depth + args.prompt.max(args.n) as usize);
    let most = model.spec().context_length;
    if ids.len() > most {
        Err(Error::usage("more tokens than the model's context")
            .item("-p or -n, and -d")
            .expected(format!("at most {most}"))
            .found(ids.len()))?;
    }
    let threads = model.cpu().threads();
    let limits = match model.gpu() {
        Some(_) if args.ops => {
            let e = Error::usage("operations are timed on the CPU alone").item("--ops");
            Err(e.expected("--device cpu").found(model.device().unwrap_or_default()))?
        }
        Some(index) => Limits::of_gpu(&Gpu::measure(Some(index))?),
        None => Limits::measure(threads),
    };
    let precision = match args.model.precision() {
        Precision::Exact => "exact",
        Precision::Fast => "fast",
        Precision::Fine => "fine",
    };
    // Text comes as it is measured, a document at the end.
    let say = |text: &str| if args.json { Ok(()) } else { print(text) };
    say(&format!(
        "{}: {}, {precision}, {} · {threads} threads{}\nlimits      {limits}\n",
        args.model.model.display(),
        bytes(model.gguf().tensors().iter().map(|t| t.range.len()).sum()),
        model.cpu().isa(),
        model
            .gpu()
            .and(model.device())
            .map_or(String::new(), |said| format!(" · {said}")),
    ))?;

    let mut bench = Bench {
        prompt: args.prompt as usize,
        n: args.n as usize,
        repeat: args.repeat,
        session: load::session(&model, &args.model, ids.len(), &adapters)?,
        ids,
    };
    let work = Work::of(&model);
    let prompt = bench.speed(Phase::Prompt, &work, &limits)?;
    say(&prompt.line(Phase::Prompt))?;
    let generation = bench.speed(Phase::Generation, &work, &limits)?;
    say(&generation.line(Phase::Generation))?;
    let cost = match adapters.is_empty() {
        true => None,
        false => {
            let attach = || adapters.iter().try_for_each(|a| model.load_adapter(&a.dir).map(|_| ()));
            let cost = cost::measure(&mut bench, &load::active(&adapters), &attach)?;
            bench.session.set_adapters(&load::active(&adapters))?;
            say(&cost.line())?;
            Some(cost)
        }
    };
    let mut deep = Vec::new();
    for depth in depths {
        bench.fill(depth)?;
        let prompt = bench.deep(Phase::Prompt, depth, &prompt, &limits)?;
        say(&prompt.line(Phase::Prompt, depth))?;
        let generation = bench.deep(Phase::Generation, depth, &generation, &limits)?;
        say(&generation.line(Phase::Generation, depth))?;
        deep.push(Depth {
            tokens: depth,
            prompt,
            generation,
        });
    }
    let mut ops = None;
    if args.ops {
        let prompt = ops::measure(&mut bench, Phase::Prompt, depth, &limits)?;
        say(&prompt.text("prompt"))?;
        let generation = ops::measure(&mut bench, Phase::Generation, depth, &limits)?;
        say(&generation.text("generation"))?;
        ops = Some(Ops { prompt, generation });
    }
    drop(bench);
    if let Some(path) = &args.svg {
        let name = args.model.model.file_name().unwrap_or_default().to_string_lossy();
        let title = format!("{name}, {precision}, {}, {threads} threads", model.cpu().isa());
        let mut marks = vec![prompt.mark("prompt", PROMPT), generation.mark("generation", GENERATION)];
        if let Some(ops) = &ops {
            marks.extend(Mark::operations(&ops.prompt, PROMPT));
            marks.extend(Mark::operations(&ops.generation, GENERATION));
        }
        write_file(path, &roofline::draw(&title, &limits, &marks))?;
    }

    let start = start::measure(args)?;
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
        isa: model.cpu().isa(),
        threads,
        device: model.device().map(str::to_owned),
        precision,
        limits,
        prompt,
        generation,
        adapters: cost,
        depth: deep,
        ops,
        start,
    })
}

/// Ids that are the same on every run and do not repeat one row of the embedding.
pub fn ids(vocab: usize, n: usize) -> Vec<u32> {
    (0..n).map(|i| (i.wrapping_mul(7919) % vocab) as u32).collect()
}

impl Bench {
    /// Tokens of a phase.
    fn tokens(&self, phase: Phase) -> usize {
        match phase {
            Phase::Prompt => self.prompt,
            Phase::Generation => self.n,
        }
    }

    /// Puts the first `depth` tokens into the session.
    fn fill(&mut self, depth: usize) -> Result<()> {
        self.session.reset();
        self.session.eval(&self.ids[..depth]).map(|_| ())
    }

    /// A phase, once, behind `depth` tokens; `after` follows each evaluation. Behind each token the likeliest is chosen, where its logits are.
    fn run(&mut self, phase: Phase, depth: usize, mut after: impl FnMut(&Session) -> Result<()>) -> Result<()> {
        let ids = &self.ids[depth..depth + self.tokens(phase)];
        let chunk = match phase {
            Phase::Prompt => ids.len(),
            Phase::Generation => 1,
        };
        let mut greedy = Sampler::new(SamplerOptions::default(), self.session.vocab_size())?;
        ids.chunks(chunk).try_for_each(|ids| {
            self.session.append(ids)?;
            self.session.sample(&mut greedy)?;
            after(&self.session)
        })
    }

    /// Times of a phase, once to warm up and then as often as asked, ascending.
    fn times(&mut self, phase: Phase, depth: usize) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        for i in 0..=self.repeat {
            self.session.truncate(depth)?;
            let start = Instant::now();
            self.run(phase, depth, |_| Ok(()))?;
            if i > 0 {
                times.push(start.elapsed());
            }
        }
        times.sort();
        Ok(times)
    }

    pub fn speed(&mut self, phase: Phase, work: &Work, limits: &Limits) -> Result<Speed> {
        let times = self.times(phase, 0)?;
        let tokens = self.tokens(phase);
        let (tokens_per_s, range) = per_second(tokens, &times);
        // A prompt reads the weights once for many tokens, and asks for the logits of the last.
        let heads = match phase {
            Phase::Prompt => 1.0 / tokens as f64,
            Phase::Generation => 1.0,
        };
        let gb_per_s = tokens_per_s * heads * work.bytes as f64 / 1e9;
        let gmac_per_s = tokens_per_s * (work.layers as f64 + heads * work.head as f64) / 1e9;
        let share = match (phase, self.session.precision()) {
            (Phase::Generation, _) => gb_per_s / limits.read_gb_per_s,
            (Phase::Prompt, Precision::Exact) => gmac_per_s / limits.f32_gmac_per_s,
            (Phase::Prompt, Precision::Fast | Precision::Fine) => gmac_per_s / limits.fast.gmac_per_s(),
        };
        Ok(Speed {
            tokens,
            tokens_per_s,
            range,
            gb_per_s,
            gmac_per_s,
            percent_of_limit: 100.0 * share,
        })
    }

    fn deep(&mut self, phase: Phase, depth: usize, shallow: &Speed, limits: &Limits) -> Result<Deep> {
        let times = self.times(phase, depth)?;
        let tokens = self.tokens(phase);
        let (tokens_per_s, range) = per_second(tokens, &times);
        let (model, precision) = (self.session.model(), self.session.precision());
        let attention = |depth| Attention::of(model, precision, phase, depth, tokens);
        let more = attention(depth).beyond(attention(0));
        let law_tokens_per_s = tokens as f64 / (tokens as f64 / shallow.tokens_per_s + more.seconds(limits));
        Ok(Deep {
            tokens_per_s,
            range,
            law_tokens_per_s,
            percent_of_law: 100.0 * tokens_per_s / law_tokens_per_s,
            more_macs: more.macs / tokens,
            more_kv_bytes: more.bytes / tokens,
        })
    }
}

/// Tokens a second: in the middle of the ascending `times`, and from the slowest to the fastest.
fn per_second(tokens: usize, times: &[Duration]) -> (f64, (f64, f64)) {
    let per_s = |t: &Duration| tokens as f64 / t.as_secs_f64();
    let (slowest, fastest) = (times.last().map_or(0.0, per_s), times.first().map_or(0.0, per_s));
    (per_s(&times[times.len() / 2]), (slowest, fastest))
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Phase::Prompt => "prompt",
            Phase::Generation => "generation",
        }
    }
}

impl Speed {
    fn mark(&self, what: &str, color: roofline::Color) -> Mark {
        let label = format!("{what} {:.0} tokens/s", self.tokens_per_s);
        Mark::phase(label, self.gmac_per_s, self.gb_per_s, color)
    }

    fn line(&self, phase: Phase) -> String {
        let limit = match phase {
            Phase::Prompt => "arithmetic",
            Phase::Generation => "reading",
        };
        format!(
            "{:11} {:>9.1} tokens/s ({:.1} to {:.1}) · {:.2} GB/s · {:.1} GMAC/s · {:.0} % of the limit ({limit}), {} tokens\n",
            phase.name(),
            self.tokens_per_s,
            self.range.0,
            self.range.1,
            self.gb_per_s,
            self.gmac_per_s,
            self.percent_of_limit,
            self.tokens
        )
    }
}

impl Deep {
    fn line(&self, phase: Phase, depth: usize) -> String {
        format!(
            "{:11} {:>9.1} tokens/s ({:.1} to {:.1}) behind {depth} tokens · {:.0} % of the law: {:.1} tokens/s with {:.1} MMAC of attention and {} of keys and values more a token\n",
            phase.name(),
            self.tokens_per_s,
            self.range.0,
            self.range.1,
            self.percent_of_law,
            self.law_tokens_per_s,
            self.more_macs as f64 / 1e6,
            bytes(self.more_kv_bytes),
        )
    }
}

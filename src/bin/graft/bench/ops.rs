//! `--ops`: where the time of a phase goes, operation by operation.

use std::fmt::Write;
use std::time::{Duration, Instant};

use graft::kernels::op_times::{OpTime, Work};
use graft::runtime::{Sampler, SamplerOptions};
use graft::{Result, Session};
use serde::Serialize;

use super::{Bench, Phase};
use crate::machine::Limits;

/// The operations of one repetition.
#[derive(Serialize)]
pub struct Table {
    pub tokens: usize,
    pub ms: f64,
    /// The longest first.
    pub ops: Vec<Row>,
}

/// All calls of one operation on the same kinds of weights.
#[derive(Serialize)]
pub struct Row {
    pub op: &'static str,
    /// The tensor without its layer, or those that are multiplied together: `ffn_gate+ffn_up`. Of operations that read no
    /// weight, nothing.
    pub weight: Option<String>,
    /// One for all of them, or one for each: `Q5_0+Q8_0`.
    pub format: Option<String>,
    pub calls: usize,
    pub ms: f64,
    pub percent_of_phase: f64,
    pub macs: usize,
    pub bytes: usize,
    pub gmac_per_s: f64,
    /// Of weights, keys and values; of operations on elements, of activations, which mostly stay in the caches.
    pub gb_per_s: f64,
    /// `read`, `f32` or `int8`: the limit that matters at this number of tokens. Operations on elements have none. Formats of
    /// 8 bits multiply int16, of which a register holds half as many: they too are held to `int8`.
    pub limit: Option<&'static str>,
    pub percent_of_limit: Option<f64>,
}

/// Repeats a phase with every operation timed and takes the fastest repetition: what else the machine does only ever adds.
pub fn measure(bench: &mut Bench, phase: Phase, depth: usize, limits: &Limits) -> Result<Table> {
    let mut best: Option<(Duration, Vec<OpTime>)> = None;
    let mut sampler = Sampler::new(usual(), bench.session.model().spec().vocab_size)?;
    for _ in 0..bench.repeat {
        bench.session.truncate(depth)?;
        let model = bench.session.model().clone();
        model.cpu().times().start();
        let start = Instant::now();
        let done = bench.run(phase, depth, |session| match phase {
            Phase::Prompt => Ok(()),
            Phase::Generation => sample(&mut sampler, session),
        });
        let (time, ops) = (start.elapsed(), model.cpu().times().stop());
        done?;
        if best.as_ref().is_none_or(|b| time < b.0) {
            best = Some((time, ops));
        }
    }
    let (time, mut ops) = best.unwrap_or_default();
    ops.sort_by_key(|op| std::cmp::Reverse(op.time));
    Ok(Table {
        tokens: bench.tokens(phase),
        ms: time.as_secs_f64() * 1e3,
        ops: ops.into_iter().map(|op| Row::new(op, time, limits)).collect(),
    })
}

/// A usual way to sample. (Without top-k the meaningless tokens of a benchmark would be unfair: what follows them is anything.)
fn usual() -> SamplerOptions {
    SamplerOptions {
        temperature: 0.8,
        top_k: 40,
        top_p: 0.95,
        ..SamplerOptions::default()
    }
}

/// What generation does between two tokens; which one comes out does not matter here.
fn sample(sampler: &mut Sampler, session: &Session) -> Result<()> {
    let logits = session.logits();
    let mut token = Ok(0);
    let work = Work::elements("sample", size_of_val(logits));
    let times = session.model().cpu().times();
    times.time(work, || token = sampler.sample(logits, session.tokens()));
    token.map(|_| ())
}

impl Row {
    fn new(op: OpTime, phase: Duration, limits: &Limits) -> Self {
        let seconds = op.time.as_secs_f64();
        let macs = op.macs + op.integer_macs;
        let (gmac, gb) = (macs as f64 / 1e9, op.bytes as f64 / 1e9);
        let f32 = op.macs as f64 / 1e9 / limits.f32_gmac_per_s;
        let int8 = op.integer_macs as f64 / 1e9 / limits.fast.gmac_per_s();
        let arithmetic = (if int8 > f32 { "int8" } else { "f32" }, int8 + f32);
        let reading = ("read", gb / limits.read_gb_per_s);
        // Whatever takes longer at the machine's limit is what limits.
        let (limit, least) = if arithmetic.1 > reading.1 { arithmetic } else { reading };
        let limited = macs > 0;
        let names: Vec<&str> = op.weights.iter().map(|w| w.0.as_str()).collect();
        let mut formats: Vec<&str> = op.weights.iter().map(|w| w.1.name()).collect();
        if formats.iter().all(|f| *f == formats[0]) {
            formats.truncate(1);
        }
        let joined = |words: &[&str]| (!words.is_empty()).then(|| words.join("+"));
        Row {
            op: op.op,
            weight: joined(&names),
            format: joined(&formats),
            calls: op.calls,
            ms: seconds * 1e3,
            percent_of_phase: 100.0 * seconds / phase.as_secs_f64(),
            macs,
            bytes: op.bytes,
            gmac_per_s: gmac / seconds,
            gb_per_s: gb / seconds,
            limit: limited.then_some(limit),
            percent_of_limit: limited.then_some(100.0 * least / seconds),
        }
    }

    /// `attn_q matmul Q4_1`
    pub fn name(&self) -> String {
        let words = [self.weight.as_deref(), Some(self.op), self.format.as_deref()];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

impl Table {
    pub fn text(&self, what: &str) -> String {
        let mut text = format!("{what}, {} tokens: {:.2} ms\n", self.tokens, self.ms);
        let width = self.ops.iter().map(|row| row.name().len()).max().unwrap_or(0).max(24);
        let _ = writeln!(
            text,
            "  {:width$} {:>6} {:>10} {:>7} {:>8} {:>8}  of its limit",
            "operation", "calls", "ms", "share", "GMAC/s", "GB/s"
        );
        for row in &self.ops {
            let _ = write!(
                text,
                "  {:width$} {:>6} {:>10.3} {:>5.1} %",
                row.name(),
                row.calls,
                row.ms,
                row.percent_of_phase
            );
            let _ = match (row.limit, row.percent_of_limit) {
                (Some(limit), Some(percent)) => writeln!(
                    text,
                    " {:>8.1} {:>8.2}  {percent:.0} % ({limit})",
                    row.gmac_per_s, row.gb_per_s
                ),
                _ => writeln!(text, " {:>8} {:>8.2}", "", row.gb_per_s),
            };
        }
        let rest = self.ms - self.ops.iter().map(|r| r.ms).sum::<f64>();
        let share = 100.0 * rest / self.ms;
        let _ = writeln!(
            text,
            "  {:width$} {:>6} {rest:>10.3} {share:>5.1} %",
            "between operations", ""
        );
        text
    }
}

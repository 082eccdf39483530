//! `graft gpu-check`: whether a GPU gives the CPU's numbers, and how near its limits it comes. `scripts/gpu-check` has the rest.

use std::ops::ControlFlow;
use std::path::Path;

use graft::kernels::Precision;
use graft::machine::Gpu;
use graft::runtime::Divergence;
use graft::train::{NewAdapter, Parameters};
use graft::{DeviceChoice, Error, LoadOptions, Model, Result, Session, SessionOptions};
use serde::Serialize;

use crate::args::GpuCheckArgs;
use crate::bench::cost::{self, Cost};
use crate::bench::work::Work;
use crate::bench::{Bench, Phase, Speed, ids};
use crate::machine::Limits;
use crate::output::{Done, Fail, bytes, print, print_json};

/// How far a logit may be from the CPU's in `Exact`, where the order of sums is all that differs; relative where it is above 1.
const EXACT: f32 = 1e-3;
/// Nats that `Fast` may be from the CPU's `Exact`, where the CPU's own `Fast` is nearer still.
const FAST: f64 = 1e-4;
/// Tokens of the comparison, and how many come at once, over and over: many, one by one, and few have kernels of their own.
const TOKENS: usize = 96;
const PIECES: [usize; 5] = [40, 1, 1, 5, 1];

#[derive(Serialize)]
struct Report {
    gpu: Gpu,
    models: Vec<Checked>,
}

#[derive(Serialize)]
struct Checked {
    model: String,
    /// Layers there.
    device: String,
    exact: Exact,
    fast: Near,
    prompt: Speed,
    generation: Speed,
    /// What a LoRA of rank 16 on all linear maps costs.
    lora: Cost,
}

/// The GPU's logits in `Exact` beside the CPU's.
#[derive(Default, Serialize)]
struct Exact {
    /// The largest difference.
    difference: f32,
    /// The same in units where 1 is the size of the logit (at least 1).
    relative: f32,
    passed: bool,
}

/// The GPU's `Fast` beside the CPU's `Exact`, in nats.
#[derive(Serialize)]
struct Near {
    kl: f64,
    worst_kl: f64,
    /// The share of predictions with the same most likely token.
    same_top: f64,
    /// What the CPU's own `Fast` has.
    cpu_kl: f64,
    passed: bool,
}

pub fn run(args: &GpuCheckArgs) -> Done {
    let gpu = Gpu::measure(args.gpu).map_err(Fail::NoGpu)?;
    let limits = Limits::of_gpu(&gpu);
    let say = |text: &str| if args.json { Ok(()) } else { print(text) };
    say(&of_device(&gpu))?;
    let mut models = Vec::new();
    for path in &args.models {
        let checked = check(path, args, gpu.index, &limits)?;
        say(&checked.text(&gpu))?;
        models.push(checked);
    }
    let failed = models.iter().filter(|m| !(m.exact.passed && m.fast.passed)).count();
    let n = models.len();
    if args.json {
        print_json(&Report { gpu, models })?;
    }
    match failed {
        0 => Ok(()),
        _ => Err(Error::mismatch("the GPU's numbers are not the CPU's")
            .expected("none that failed")
            .found(format_args!("{failed} of {n} models"))
            .into()),
    }
}

fn check(path: &Path, args: &GpuCheckArgs, index: usize, limits: &Limits) -> Result<Checked> {
    let open = |device| {
        let options = LoadOptions {
            threads: args.threads.map(usize::from),
            device,
            ..Default::default()
        };
        Model::open_with(path, &options)
    };
    let (cpu, gpu) = (open(DeviceChoice::Cpu)?, open(DeviceChoice::Cuda(Some(index)))?);
    let session = |model: &Model, precision, context: usize| {
        model.session(&SessionOptions {
            context: Some(context.min(model.spec().context_length)),
            precision,
            ..Default::default()
        })
    };
    let (vocab, most) = (cpu.spec().vocab_size, cpu.spec().context_length);
    let tokens = ids(vocab, TOKENS.min(most));
    let (mut exact, mut near, mut near_cpu) = (Exact::default(), Divergence::default(), Divergence::default());
    let mut reference = session(&cpu, Precision::Exact, tokens.len())?;
    let mut others = [
        session(&gpu, Precision::Exact, tokens.len())?,
        session(&gpu, Precision::Fast, tokens.len())?,
        session(&cpu, Precision::Fast, tokens.len())?,
    ];
    let (mut rest, mut sizes) = (&tokens[..], PIECES.iter().cycle());
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rest.len().min(*sizes.next().unwrap_or(&1)));
        rest = behind;
        let wanted = logits(&mut reference, piece)?;
        for (i, other) in others.iter_mut().enumerate() {
            for (row, wanted) in logits(other, piece)?.iter().zip(&wanted) {
                match i {
                    0 => exact.add(wanted, row),
                    1 => near.add(wanted, row),
                    _ => near_cpu.add(wanted, row),
                }
            }
        }
    }
    exact.passed = exact.relative <= EXACT;
    let (prompt, n) = (most.min(args.prompt as usize), most.min(args.n as usize));
    let mut bench = Bench {
        prompt,
        n,
        repeat: args.repeat,
        session: session(&gpu, Precision::Fast, prompt.max(n))?,
        ids: ids(vocab, prompt.max(n)),
    };
    let work = Work::of(&gpu);
    let new = NewAdapter {
        r: 16,
        alpha: 32.0,
        ..Default::default()
    };
    let file = Parameters::start(&gpu, &new)?.file()?;
    let adapter = [(gpu.attach(&file)?, 1.0)];
    Ok(Checked {
        model: path.display().to_string(),
        device: gpu.device().unwrap_or_default().to_owned(),
        exact,
        fast: Near {
            kl: near.mean(),
            worst_kl: near.max(),
            same_top: near.same_top(),
            cpu_kl: near_cpu.mean(),
            passed: near.mean() <= FAST.max(near_cpu.mean()),
        },
        prompt: bench.speed(Phase::Prompt, &work, limits)?,
        generation: bench.speed(Phase::Generation, &work, limits)?,
        lora: cost::measure(&mut bench, &adapter, &|| gpu.attach(&file).map(|_| ()))?,
    })
}

/// The logits behind each of `tokens`.
fn logits(session: &mut Session, tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
    let mut rows = Vec::new();
    session.eval_each(tokens, &mut |_, logits| {
        rows.push(logits.to_vec());
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}

impl Exact {
    fn add(&mut self, wanted: &[f32], found: &[f32]) {
        for (w, f) in wanted.iter().zip(found) {
            let difference = (w - f).abs();
            // What is not a number is as far off as can be.
            let difference = if difference.is_nan() { f32::INFINITY } else { difference };
            self.difference = self.difference.max(difference);
            self.relative = self.relative.max(difference / w.abs().max(1.0));
        }
    }
}

/// A line of the table.
fn row(name: &str, text: impl std::fmt::Display) -> String {
    format!("{name:<20} {text}\n")
}

fn of_device(gpu: &Gpu) -> String {
    let share = 100.0 * gpu.copy_gb_per_s / gpu.peak_gb_per_s;
    [
        row(
            "device",
            format_args!("GPU {}, {}, compute capability {}", gpu.index, gpu.name, gpu.capability),
        ),
        row("driver", format_args!("CUDA {}", gpu.cuda)),
        row(
            "memory",
            format_args!("{}, {} free", bytes(gpu.total_bytes), bytes(gpu.free_bytes)),
        ),
        row(
            "copy on the device",
            format_args!(
                "{:.1} GB/s read and written, {share:.0} % of {:.1} GB/s by clock and bus",
                gpu.copy_gb_per_s, gpu.peak_gb_per_s
            ),
        ),
        row(
            "arithmetic, by clock",
            format_args!(
                "f32 {:.0} GMAC/s, f16 {:.0} GMAC/s",
                gpu.f32_gmac_per_s, gpu.f16_gmac_per_s
            ),
        ),
    ]
    .concat()
}

impl Checked {
    fn text(&self, gpu: &Gpu) -> String {
        let verdict = |passed| if passed { "passed" } else { "FAILED" };
        let (exact, fast) = (&self.exact, &self.fast);
        let (prompt, generation) = (&self.prompt, &self.generation);
        [
            row("model", format_args!("{}: {}", self.model, self.device)),
            row(
                "  exact",
                format_args!(
                    "{}: logits within {:.1e} of the CPU's, relative {:.1e} of {EXACT:.0e}",
                    verdict(exact.passed),
                    exact.difference,
                    exact.relative
                ),
            ),
            row(
                "  fast",
                format_args!(
                    "{}: KL {:.1e} nats from the CPU's exact (the CPU's fast: {:.1e}), at most {:.1e}, same token {:.1} %",
                    verdict(fast.passed),
                    fast.kl,
                    fast.cpu_kl,
                    fast.worst_kl,
                    100.0 * fast.same_top
                ),
            ),
            row(
                "  prompt",
                format_args!(
                    "{:.1} tokens/s, {:.1} GMAC/s, {:.1} % of the peak (f16)",
                    prompt.tokens_per_s, prompt.gmac_per_s, prompt.percent_of_limit
                ),
            ),
            row(
                "  generation",
                format_args!(
                    "{:.1} tokens/s, {:.2} GB/s, {:.1} % of a copy, {:.1} % of the peak",
                    generation.tokens_per_s,
                    generation.gb_per_s,
                    generation.percent_of_limit,
                    100.0 * generation.gb_per_s / gpu.peak_gb_per_s
                ),
            ),
            row(
                "  LoRA of rank 16",
                format_args!(
                    "costs {:.1} % of the prompt's speed, {:.1} % of generation's",
                    self.lora.prompt_percent, self.lora.generation_percent
                ),
            ),
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Oracle: by hand.
    #[test]
    fn differences_are_relative_to_large_logits_and_see_nan() {
        let mut exact = Exact::default();
        exact.add(&[100.0, 0.5], &[100.5, 0.498]);
        assert_eq!((exact.difference, exact.relative), (0.5, 0.005));
        exact.add(&[1.0, 1.0], &[1.0, f32::NAN]);
        assert_eq!((exact.difference, exact.relative), (f32::INFINITY, f32::INFINITY));
    }
}

//! Graft where it does not have the machine to itself: beside a program that keeps cores busy, and beside another Graft.
//!
//! A team of threads waits for its slowest, so a machine that is shared can cost more than the share that is taken. What one
//! thread gives alone is the measure: with [`BAR`] of that, more threads have at least done no harm.

use std::hint::black_box;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use graft::Session;
use graft::kernels::Precision;
use serde_json::{Value, json};

use crate::engine::{Engine, graft_model, graft_session, random_tokens};
use crate::spread::Spread;
use crate::{Options, Result};

/// A run: long enough that the system's scheduler has settled.
const WINDOW: Duration = Duration::from_millis(1500);
/// Share of one thread's speed that all instances together should have.
const BAR: f64 = 0.9;

/// One way to share the machine.
struct Case {
    name: &'static str,
    /// Graft instances at once, …
    instances: usize,
    /// … each with all threads, or with one.
    all_threads: bool,
    /// Whether all cores but one are kept busy meanwhile.
    busy: bool,
}

/// The first is what the others are compared with.
const CASES: [Case; 4] = [
    case("one thread alone", 1, false, false),
    case("all threads alone", 1, true, false),
    case("all threads, other cores busy", 1, true, true),
    case("two instances at once", 2, true, false),
];

const fn case(name: &'static str, instances: usize, all_threads: bool, busy: bool) -> Case {
    Case {
        name,
        instances,
        all_threads,
        busy,
    }
}

/// An instance: a session, and what to feed it again and again.
struct Instance {
    session: Session,
    tokens: Vec<u32>,
}

/// Measures every model.
pub fn run(options: &Options) -> Result<()> {
    let mut all = Vec::new();
    for path in &options.models {
        all.push(one(path, options)?);
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    Ok(())
}

fn one(path: &Path, options: &Options) -> Result<Value> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let prompt = options.prompt.unwrap_or(128);
    let mut result = json!({ "model": name, "threads": options.threads, "rounds": options.rounds });
    for (kind, tokens, unit) in [("pp", prompt, prompt), ("tg", options.gen_tokens, 1)] {
        // Instances of their own, as programs of their own would have: nothing is shared but the file's pages.
        let open = |threads| -> Result<Instance> {
            let model = graft_model(path, threads)?;
            Ok(Instance {
                session: graft_session(&model, tokens, Precision::Fast)?,
                tokens: random_tokens(tokens, model.spec().vocab_size),
            })
        };
        let mut single = [open(1)?];
        let mut full = [open(options.threads)?, open(options.threads)?];
        let mut speeds: [Vec<Vec<f64>>; CASES.len()] = Default::default();
        // Round 0 warms up.
        for round in 0..=options.rounds {
            for (case, speeds) in CASES.iter().zip(&mut speeds) {
                let instances = match case.all_threads {
                    true => &mut full[..case.instances],
                    false => &mut single[..],
                };
                let each = together(instances, unit, case.busy)?;
                if round > 0 {
                    speeds.push(each);
                }
            }
        }
        result[format!("{kind}{tokens}")] = report(&name, &format!("{kind}{tokens}"), &speeds);
    }
    Ok(result)
}

/// Tokens a second of each instance, all running at once.
fn together(instances: &mut [Instance], unit: usize, busy: bool) -> Result<Vec<f64>> {
    let others = match busy {
        true => std::thread::available_parallelism().map_or(1, usize::from) - 1,
        false => 0,
    };
    let (start, stop) = (Barrier::new(instances.len() + others), AtomicBool::new(false));
    let (start, stop) = (&start, &stop);
    std::thread::scope(|scope| {
        for _ in 0..others {
            scope.spawn(|| {
                start.wait();
                let mut x = 1u64;
                while !stop.load(Ordering::Relaxed) {
                    x = black_box(x.wrapping_mul(3));
                }
            });
        }
        let running: Vec<_> = instances
            .iter_mut()
            .map(|instance| {
                scope.spawn(move || {
                    start.wait();
                    // Not across threads: the error type is for the main one.
                    instance.speed(unit).map_err(|e| e.to_string())
                })
            })
            .collect();
        let speeds: Vec<_> = running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        stop.store(true, Ordering::Relaxed);
        speeds.into_iter().map(|speed| Ok(speed?)).collect()
    })
}

impl Instance {
    /// Tokens a second, `unit` at a time, over the window; an unfinished unit does not count.
    fn speed(&mut self, unit: usize) -> Result<f64> {
        let start = Instant::now();
        let mut done = 0;
        loop {
            Engine::reset(&mut self.session)?;
            for tokens in self.tokens.chunks(unit) {
                Engine::eval(&mut self.session, tokens)?;
                done += tokens.len();
                let time = start.elapsed();
                if time >= WINDOW {
                    return Ok(done as f64 / time.as_secs_f64());
                }
            }
        }
    }
}

/// `speeds[case][round][instance]`. Ratios are taken within a round.
fn report(model: &str, test: &str, speeds: &[Vec<Vec<f64>>; CASES.len()]) -> Value {
    let mut figures = json!({});
    for (case, rounds) in CASES.iter().zip(speeds) {
        let sums: Vec<f64> = rounds.iter().map(|each| each.iter().sum()).collect();
        let alone = speeds[0].iter().map(|each| each[0]);
        let ratios: Vec<f64> = sums.iter().zip(alone).map(|(sum, alone)| sum / alone).collect();
        let (sum, ratio) = (Spread::of(&sums), Spread::of(&ratios));
        let mut line = format!(
            "{model:44} {test:6} {:30} {:9.1} tokens/s = {:.2} of one thread   p10 {:.2}   p90 {:.2}",
            case.name, sum.median, ratio.median, ratio.p10, ratio.p90
        );
        let mut entry = json!({ "tokens_per_s": sum.json(), "of_one_thread": ratio.json() });
        if case.instances > 1 {
            let each: Vec<Spread> = (0..case.instances)
                .map(|i| Spread::of(&rounds.iter().map(|each| each[i]).collect::<Vec<_>>()))
                .collect();
            let words: Vec<_> = each.iter().map(|s| format!("{:.1}", s.median)).collect();
            line += &format!("   ({})", words.join(" + "));
            entry["each"] = each.iter().map(Spread::json).collect();
        }
        if ratio.median < BAR {
            line += &format!("   BELOW {BAR}");
        }
        eprintln!("{line}");
        figures[case.name] = entry;
    }
    figures
}

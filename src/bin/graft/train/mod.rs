//! `graft train`: an adapter from a data file.

mod folder;
mod options;
mod picture;

use std::path::Path;
use std::time::Instant;

use graft::runtime::LoadOptions;
use graft::train::{BatchOptions, Batches, Data, Parameters, StepReport, TrainOptions, TrainPlan, Trainer};
use graft::{Error, Model, Result};
use serde::Serialize;
use serde_json::json;

use crate::args::TrainArgs;
use crate::interrupt::Catch;
use crate::load;
use crate::memory::memory;
use crate::output::{Done, Fail, bytes, print, print_json, say};
use crate::progress::Progress;
use folder::{Folder, Logged};
use options::Plan;

pub fn run(args: &TrainArgs) -> Done {
    let plan = Plan::read(args)?;
    let mut folder = match &args.output {
        Some(output) if !args.plan => Some(Folder::at(output, args.resume)?),
        _ => None,
    };
    let load = LoadOptions {
        threads: args.threads.map(usize::from),
        device: args.device,
        gpu_layers: args.gpu_layers,
        training: Some(plan.sequences()),
        ..Default::default()
    };
    let model = load::model_at(&args.model, load)?;
    let data = look_through("data", &args.data, &model, &plan)?;
    let eval = match &args.eval {
        Some(path) => Some(look_through("eval", path, &model, &plan)?),
        None => None,
    };
    let mut batches = data.batches(&plan.batches)?;
    let per_step = plan.accumulate;
    let steps = match plan.steps {
        Some(steps) => steps,
        None => plan.epochs * epoch_steps(&data, &plan)?,
    };
    let mut options = plan.train(steps);
    let every = plan.eval_every.unwrap_or_else(|| steps.div_ceil(10));

    // The program, the tokenizer, the data's index: hardly anything of the model is in memory yet.
    model.tokenizer()?;
    let held = memory().map_or(0, |m| m.resident);
    let Some(folder) = &mut folder else {
        let parameters = begin(&model, &plan)?;
        let of = planned(&model, &parameters, &plan, &mut options, held)?;
        return print_plan(&of, held, args.json);
    };
    let mut trainer = match folder.checkpoint(&model, &options)? {
        Some((trainer, place)) => {
            let place = serde_json::from_value(place)
                .map_err(|e| Error::invalid(format!("the checkpoint's place in the data: {e}")))?;
            batches.resume(&place)?;
            say(&format!("going on after step {}", trainer.steps_done()));
            trainer
        }
        None => {
            let parameters = begin(&model, &plan)?;
            planned(&model, &parameters, &plan, &mut options, held)?;
            Trainer::new(&model, parameters, options)?
        }
    };
    let mut run = Run {
        args,
        plan: &plan,
        folder,
        eval,
        every,
        best: None,
        last: None,
        worse: 0,
        tokens: 0,
        started: Instant::now(),
        fallen: 0,
    };
    let catch = Catch::begin();
    let progress = Progress::new("training");
    run.log_start(&trainer)?;
    while trainer.steps_done() < steps {
        let batch = next_step(&mut batches, per_step)?;
        let report = trainer.step(&batch)?;
        run.say_what_fell(&model);
        run.after_step(&mut trainer, &report, &batches, steps, &progress)?;
        if catch.asked() {
            progress.finish();
            run.folder.save_checkpoint(&trainer, &place(&batches)?)?;
            say(&format!(
                "stopped after step {}; the same command with --resume goes on",
                trainer.steps_done()
            ));
            return Err(Fail::Interrupted);
        }
        if run.enough() {
            break;
        }
    }
    progress.finish();
    run.end(&trainer, &batches)
}

/// The adapter as it begins.
fn begin(model: &Model, plan: &Plan) -> Result<Parameters> {
    match &plan.init_from {
        Some(dir) => {
            let mut parameters = Parameters::open(dir)?;
            if let Some(p) = plan.dropout {
                parameters.set_dropout(p)?;
            }
            Ok(parameters)
        }
        None => Parameters::start(model, &plan.new_adapter(model)),
    }
}

/// What memory the training will take beside the `held`; with --memory the options become such that it is enough.
fn planned(
    model: &Model,
    parameters: &Parameters,
    plan: &Plan,
    options: &mut TrainOptions,
    held: usize,
) -> Result<TrainPlan> {
    match plan.memory {
        None => Ok(TrainPlan::of(model, parameters, options)),
        Some(bytes) => TrainPlan::fit(model, parameters, options, bytes, held),
    }
}

fn print_plan(of: &TrainPlan, held: usize, json: bool) -> Done {
    let all = held + of.total();
    if json {
        let mut parts: serde_json::Map<String, serde_json::Value> = of
            .parts()
            .into_iter()
            .map(|(name, n)| (name.into(), n.into()))
            .collect();
        parts.insert("program".into(), held.into());
        parts.insert("total".into(), all.into());
        return print_json(&json!({"plan": parts}));
    }
    let mut text = String::new();
    for (name, n) in of
        .parts()
        .into_iter()
        .chain([("program, tokenizer, data", held), ("at most", all)])
    {
        text += &format!("{name:26} {:>10}\n", bytes(n));
    }
    print(&text)
}

/// Opens a data file and shows how far it is.
fn look_through(what: &str, path: &Path, model: &Model, plan: &Plan) -> Result<Data> {
    let bar = Progress::new(what);
    let data = Data::open_with(path, model, &plan.data, &mut |share| {
        bar.set(share);
        std::ops::ControlFlow::Continue(())
    });
    bar.finish();
    data
}

/// Steps of an epoch. Of packed examples only putting them together tells.
fn epoch_steps(data: &Data, plan: &Plan) -> Result<usize> {
    let batches = match plan.packing {
        false => usize::try_from(data.len())
            .unwrap_or(usize::MAX)
            .div_ceil(plan.batches.batch),
        true => {
            let (mut batches, mut n) = (data.batches(&plan.batches)?, 0);
            while batches.next()?.is_some() {
                n += 1;
            }
            n
        }
    };
    Ok(batches.div_ceil(plan.accumulate).max(1))
}

/// The batches of one step, across the end of an epoch if need be.
fn next_step(batches: &mut Batches, n: usize) -> Result<Vec<graft::train::Example>> {
    let mut all = Vec::new();
    let mut taken = 0;
    while taken < n {
        if let Some(batch) = batches.next()? {
            all.extend(batch);
            taken += 1;
        } else if taken > 0 {
            // A step ends with its epoch.
            break;
        }
    }
    Ok(all)
}

fn place(batches: &Batches) -> Result<serde_json::Value> {
    serde_json::to_value(batches.state()).map_err(|e| Error::internal(e.to_string()))
}

/// What goes on beside the steps: logs, measurements, checkpoints.
struct Run<'a> {
    args: &'a TrainArgs,
    plan: &'a Plan,
    folder: &'a mut Folder,
    eval: Option<Data>,
    every: usize,
    /// The least loss on --eval so far, and its step; the last one.
    best: Option<(f64, usize)>,
    last: Option<f64>,
    /// Measurements since.
    worse: usize,
    tokens: usize,
    started: Instant,
    /// Operations that were said to have no kernel.
    fallen: usize,
}

#[derive(Serialize)]
struct Document {
    steps: usize,
    loss: Option<f64>,
    /// Of what is written.
    eval_loss: Option<f64>,
    best_step: Option<usize>,
    tokens: usize,
    tokens_per_second: f64,
    skipped_steps: usize,
    /// The most memory that the process has held, where the system says it.
    peak_memory: Option<usize>,
    bad_lines: u64,
    folder: String,
}

impl Run<'_> {
    fn log_start(&mut self, trainer: &Trainer) -> Done {
        self.folder.begin_log(trainer.steps_done())?;
        // What --early-stop goes by began before the training was interrupted.
        for (step, loss) in self.folder.measured().to_vec() {
            self.measured(step, loss);
        }
        let trained: usize = trainer
            .learner()
            .parameters()
            .all()
            .iter()
            .map(|p| p.values.len())
            .sum();
        say(&format!(
            "{} tensors of {} numbers, {} steps",
            trainer.learner().parameters().all().len(),
            trained,
            trainer.options().steps
        ));
        Ok(())
    }

    /// Names the operations that the GPU has no kernel for, each once.
    fn say_what_fell(&mut self, model: &Model) {
        let fallen = model.fallen();
        if let new @ [_, ..] = &fallen[self.fallen..] {
            let new = new.join(", ");
            say(&format!(
                "warning: no kernel on the GPU for {new}: the CPU does it, with copies"
            ));
        }
        self.fallen = fallen.len();
    }

    fn after_step(
        &mut self,
        trainer: &mut Trainer,
        report: &StepReport,
        batches: &Batches,
        steps: usize,
        progress: &Progress,
    ) -> Done {
        self.tokens += report.tokens;
        let logged = Logged {
            step: report.step,
            loss: Some(report.loss).filter(|l| l.is_finite()),
            eval_loss: None,
            lr: Some(report.lr),
            grad_norm: Some(report.grad_norm).filter(|n| n.is_finite()),
            tokens: Some(report.tokens),
            epoch: Some(batches.epoch()),
            seconds: Some(report.seconds),
        };
        self.log(&logged)?;
        let rate = report.tokens as f64 / report.seconds;
        let held = memory().map_or(String::new(), |m| format!(", {}", bytes(m.resident)));
        progress.say(&format!("loss {:.4}, {rate:.0} tokens/s{held}", report.loss));
        progress.set(report.step as f32 / steps as f32);
        let last = report.step == steps;
        if let Some(eval) = self
            .eval
            .clone()
            .filter(|_| last || report.step.is_multiple_of(self.every))
        {
            let loss = evaluate(trainer, &eval)?;
            self.log(&Logged {
                step: report.step,
                eval_loss: Some(loss),
                ..Default::default()
            })?;
            if self.measured(report.step, loss) && self.plan.early_stop.is_some() {
                trainer.save(self.folder.path())?;
            }
        }
        if !last && report.step.is_multiple_of(self.plan.save_every) {
            self.folder.save_checkpoint(trainer, &place(batches)?)?;
        }
        Ok(())
    }

    /// Takes note of a loss on the evaluation data, and says whether it is the best so far.
    fn measured(&mut self, step: usize, loss: f64) -> bool {
        self.last = Some(loss);
        let better = self.best.is_none_or(|(best, _)| loss < best);
        if better {
            (self.best, self.worse) = (Some((loss, step)), 0);
        } else {
            self.worse += 1;
        }
        better
    }

    fn log(&mut self, logged: &Logged) -> Done {
        self.folder.log(logged)?;
        match self.args.json {
            true => print_json(logged),
            false => Ok(()),
        }
    }

    /// Whether --early-stop has seen enough.
    fn enough(&self) -> bool {
        self.plan.early_stop.is_some_and(|n| self.worse >= n)
    }

    fn end(self, trainer: &Trainer, batches: &Batches) -> Done {
        let bad_lines = batches.counts().skipped;
        // What is written: the best, or the last.
        let best = self.best.filter(|_| self.plan.early_stop.is_some());
        if best.is_none() {
            trainer.save(self.folder.path())?;
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let document = Document {
            steps: trainer.steps_done(),
            loss: self.folder.last_loss(),
            eval_loss: best.map(|b| b.0).or(self.last),
            best_step: self.best.map(|b| b.1),
            tokens: self.tokens,
            tokens_per_second: self.tokens as f64 / seconds,
            skipped_steps: trainer.steps_skipped(),
            peak_memory: memory().map(|m| m.peak),
            bad_lines,
            folder: self.folder.path().display().to_string(),
        };
        self.folder.finish(self.args, self.plan, trainer)?;
        if self.args.json {
            return print_json(&json!({"done": document}));
        }
        let loss = document.loss.map_or(String::new(), |loss| format!(", loss {loss:.4}"));
        let eval = document
            .eval_loss
            .map_or(String::new(), |loss| format!(", eval {loss:.4}"));
        print(&format!(
            "{} steps, {} tokens, {:.0} tokens/s{loss}{eval}: {} ({})\n",
            document.steps,
            document.tokens,
            document.tokens_per_second,
            document.folder,
            bytes(
                4 * trainer
                    .learner()
                    .parameters()
                    .all()
                    .iter()
                    .map(|p| p.values.len())
                    .sum::<usize>()
            ),
        ))
    }
}

/// The mean loss of all of a file.
fn evaluate(trainer: &mut Trainer, data: &Data) -> Result<f64> {
    let mut batches = data.batches(&BatchOptions::default())?;
    let (mut sum, mut n) = (0.0, 0usize);
    while let Some(batch) = batches.next()? {
        let targets: usize = batch.iter().map(|e| e.targets()).sum();
        sum += trainer.evaluate(&batch)? * targets as f64;
        n += targets;
    }
    Ok(sum / n.max(1) as f64)
}

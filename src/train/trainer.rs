//! Training step by step.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::Example;
use super::examples::Examples;
use super::learner::{Learner, seq_in_range};
use super::optim::{Kept, Optimizer, Rates, norm};
use super::parameters::{Parameter, Parameters};
use super::schedule::Schedule;
use crate::error::{Error, ErrorKind, Result};
use crate::kernels::Precision;
use crate::rng::Rng;
use crate::runtime::{Adapter, Cancel, Model};

/// How to train. The defaults are those of PEFT's and TRL's examples.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// Steps in all: what the schedule runs over.
    pub steps: usize,
    /// The learning rate at its full height.
    pub lr: f32,
    /// How it goes.
    pub schedule: Schedule,
    /// Steps that lead up to it.
    pub warmup: usize,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// Share of itself that a number loses in a step of learning rate 1.
    pub weight_decay: f32,
    /// The gradients' norm is cut to this, if there is one.
    pub clip: Option<f32>,
    /// B of low-rank updates learns so many times faster (LoRA+: Hayou et al. 2024, arXiv:2402.12354).
    pub lora_plus: Option<f32>,
    /// The most tokens of an example.
    pub seq: usize,
    /// How exactly to compute.
    pub precision: Precision,
    /// Whether what attention makes is kept for the way back, where it otherwise runs again: faster by a tenth, for twice the activations.
    pub keep_attention: bool,
    /// For the random numbers of dropout.
    pub seed: u64,
}

impl Default for TrainOptions {
    fn default() -> Self {
        TrainOptions {
            steps: 100,
            lr: 2e-4,
            schedule: Schedule::default(),
            warmup: 0,
            optimizer: Optimizer::ADAMW,
            weight_decay: 0.0,
            clip: Some(1.0),
            lora_plus: None,
            seq: 512,
            precision: Precision::Fast,
            keep_attention: true,
            seed: 42,
        }
    }
}

impl TrainOptions {
    /// How many of `steps` lead up to the learning rate where nobody says it: 3 in 100.
    pub fn usual_warmup(steps: usize) -> usize {
        steps.saturating_mul(3).div_ceil(100)
    }

    /// That the options make sense for `model`.
    ///
    /// # Errors
    /// `Usage` for a number that is out of range.
    pub(crate) fn check(&self, model: &Model) -> Result<()> {
        let fault = |item: &str, expected: &str, found: f32| {
            let e = Error::usage("number out of range").item(item);
            Err(e.expected(expected).found(found))
        };
        if self.steps == 0 {
            return fault("steps", "1 or more", 0.0);
        }
        for (item, value) in [("lr", self.lr), ("weight_decay", self.weight_decay)] {
            if !(value.is_finite() && value >= 0.0) {
                return fault(item, "0 or more", value);
            }
        }
        for (item, value) in [("clip", self.clip), ("lora_plus", self.lora_plus)] {
            if let Some(value) = value.filter(|v| !(v.is_finite() && *v > 0.0)) {
                return fault(item, "a number above 0", value);
            }
        }
        seq_in_range(model, self.seq)
    }

    /// All that a resumed training must have alike.
    pub(super) fn facts(&self) -> Map<String, Value> {
        // As text: a number that was written and read again need not be the same in the last digit.
        let optimizer = format!("{:?}", self.optimizer);
        let precision = format!("{:?}", self.precision);
        let text = |v: Option<f32>| json!(v.map(|v| v.to_string()));
        let facts = [
            ("steps", json!(self.steps)),
            ("lr", text(Some(self.lr))),
            ("schedule", json!(self.schedule.name())),
            ("warmup", json!(self.warmup)),
            ("optimizer", json!(optimizer)),
            ("weight_decay", text(Some(self.weight_decay))),
            ("clip", text(self.clip)),
            ("lora_plus", text(self.lora_plus)),
            ("seq", json!(self.seq)),
            ("precision", json!(precision)),
            ("keep_attention", json!(self.keep_attention)),
            ("seed", json!(self.seed)),
        ];
        facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// Learning rate and decay of a tensor, as PEFT's `create_loraplus_optimizer` groups them.
    fn of(&self, p: &Parameter) -> (f32, f32) {
        let Some(ratio) = self.lora_plus else {
            return (self.lr, self.weight_decay);
        };
        if p.key.contains("lora_embedding_") {
            return (EMBEDDING_LR, self.weight_decay);
        }
        match (p.key.contains("lora_B"), p.shape.len()) {
            (true, 1) if p.key.ends_with("bias") => (self.lr * ratio, 0.0),
            (true, _) | (_, 1) => (self.lr * ratio, self.weight_decay),
            _ => (self.lr, self.weight_decay),
        }
    }
}

/// What LoRA+ gives an embedding's factors.
const EMBEDDING_LR: f32 = 1e-6;

/// Steps in a row without a finite loss, after which training ends.
const HOPELESS: usize = 10;

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepReport {
    /// Which, from 1.
    pub step: usize,
    /// Mean loss of a learnt token, before the step; with AdaLoRA and what it adds to that.
    pub loss: f64,
    /// Learnt tokens.
    pub targets: usize,
    /// All tokens.
    pub tokens: usize,
    /// Norm of the gradients, before it was cut.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f32,
    /// Loss or gradients were not finite: nothing was changed.
    pub skipped: bool,
    /// What it took.
    pub seconds: f64,
}

/// A training under way.
pub struct Trainer {
    learner: Learner,
    options: TrainOptions,
    /// By tensor; empty for one that is not trained.
    kept: Vec<Option<Kept>>,
    step: usize,
    /// Steps that were skipped: all of them, and the last ones in a row.
    skipped: (usize, usize),
}

impl Trainer {
    /// `parameters` to be trained on `model`.
    ///
    /// # Errors
    /// Options out of range; what [`Learner::new`] says.
    pub fn new(model: &Model, parameters: Parameters, options: TrainOptions) -> Result<Self> {
        options.check(model)?;
        let learner = Learner::with(
            model,
            parameters,
            options.seq,
            options.precision,
            options.keep_attention,
        )?;
        Ok(Trainer {
            kept: vec![None; learner.parameters().all().len()],
            learner,
            options,
            step: 0,
            skipped: (0, 0),
        })
    }

    /// One that has come as far as `step`.
    pub(super) fn at(
        model: &Model,
        parameters: Parameters,
        options: TrainOptions,
        kept: Vec<Option<Kept>>,
        step: usize,
        skipped: usize,
    ) -> Result<Self> {
        let new = Self::new(model, parameters, options)?;
        Ok(Trainer {
            kept,
            step,
            skipped: (skipped, 0),
            ..new
        })
    }

    /// What the optimizer keeps, by tensor.
    pub(super) fn kept(&self) -> &[Option<Kept>] {
        &self.kept
    }

    /// One step: the mean loss of all learnt tokens of `batch` goes down.
    ///
    /// # Errors
    /// An empty batch, one with nothing to learn, what [`Learner::gradients`] says; `Limit` behind the last step of a schedule that then is at
    /// 0, and after several steps in a row whose loss was not finite.
    pub fn step(&mut self, batch: &[Example]) -> Result<StepReport> {
        let start = Instant::now();
        let targets: usize = batch.iter().map(Example::targets).sum();
        if targets == 0 {
            return Err(Error::usage("the batch has nothing to learn").item("batch"));
        }
        self.check_left(1)?;
        // Each step loses other numbers; a step that is done again the same.
        let key = Rng::new(self.options.seed ^ (self.step as u64).rotate_left(32)).next();
        self.learner.drop_out(Some(key));
        let (sum, _) = self.learner.gradients(batch, 1.0 / targets as f32)?;
        let trained = |p: &&Parameter| p.trained && !p.twin;
        let all = self.learner.parameters().all();
        let grad_norm = norm(all.iter().filter(trained).map(|p| &p.grad[..]));
        let o = &self.options;
        let share = o.schedule.share(self.step, o.steps, o.warmup) as f32;
        let mut report = StepReport {
            step: self.step + 1,
            loss: sum / targets as f64 + self.learner.regulariser(),
            targets,
            tokens: batch.iter().map(|e| e.tokens().len()).sum(),
            grad_norm,
            lr: o.lr * share,
            skipped: !(sum.is_finite() && grad_norm.is_finite()),
            seconds: 0.0,
        };
        self.step += 1;
        if report.skipped {
            self.skipped = (self.skipped.0 + 1, self.skipped.1 + 1);
            if self.skipped.1 >= HOPELESS {
                let e = Error::limit(format!("no finite loss in {HOPELESS} steps in a row"));
                return Err(e
                    .expected("a lower learning rate, a longer warm-up, or clipping")
                    .found(format!("a loss of {}", report.loss)));
            }
        } else {
            self.skipped.1 = 0;
            let clip = match o.clip {
                Some(clip) => (f64::from(clip) / (grad_norm + 1e-6)).min(1.0) as f32,
                None => 1.0,
            };
            let kept = &mut self.kept;
            self.learner.change(|parameters| {
                for (p, kept) in parameters.all_mut().iter_mut().zip(kept) {
                    if !p.trained {
                        continue;
                    }
                    let (lr, weight_decay) = o.of(p);
                    let rates = Rates {
                        lr: lr * share,
                        weight_decay,
                        clip,
                    };
                    kept.get_or_insert_with(|| Kept::new(&o.optimizer, p.values.len()))
                        .step(&o.optimizer, rates, p);
                }
            })?;
        }
        report.seconds = start.elapsed().as_secs_f64();
        Ok(report)
    }

    /// `steps` steps over `examples`, in their order, from where the last run ended. `each` is told of every step, and may end the run behind it.
    ///
    /// # Errors
    /// No examples, or others than those of the place to go on from; those of [`Trainer::step`], also where fewer steps are left; `Cancelled`
    /// where `each` breaks. What was learnt until then stays, and the next run goes on behind the last step.
    pub fn run(
        &mut self,
        examples: &mut Examples,
        steps: usize,
        each: &mut dyn FnMut(&StepReport) -> ControlFlow<()>,
    ) -> Result<()> {
        self.check_left(steps)?;
        for _ in 0..steps {
            let (batch, behind) = examples.next_batch()?;
            let report = self.step(&batch)?;
            examples.go_to(behind);
            if each(&report).is_break() {
                return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
            }
        }
        Ok(())
    }

    /// Steps until the schedule is at its end; without one that ends (a constant one) there is no end.
    pub fn steps_left(&self) -> Option<usize> {
        let ends = self.options.schedule != Schedule::Constant;
        ends.then(|| self.options.steps.saturating_sub(self.step))
    }

    /// That so many steps are left.
    fn check_left(&self, steps: usize) -> Result<()> {
        match self.steps_left().filter(|left| *left < steps) {
            None => Ok(()),
            Some(left) => {
                let e = Error::limit("the schedule has no more steps").item("steps");
                let expected = format!("at most {left} of {}, or a constant schedule", self.options.steps);
                Err(e.expected(expected).found(steps))
            }
        }
    }

    /// While this flag is set, steps and evaluations end before their next example: `Cancelled`, and nothing is changed.
    pub fn cancel_by(&mut self, cancel: Option<Cancel>) {
        self.learner.cancel_by(cancel);
    }

    /// The mean loss of the learnt tokens of these examples, as the adapter is now.
    ///
    /// # Errors
    /// What [`Learner::loss`] says; nothing to learn.
    pub fn evaluate(&mut self, examples: &[Example]) -> Result<f64> {
        let (sum, n) = self.learner.loss(examples)?;
        match n {
            0 => Err(Error::usage("nothing to evaluate")),
            n => Ok(sum / n as f64),
        }
    }

    /// Steps done.
    pub fn steps_done(&self) -> usize {
        self.step
    }

    /// Steps whose loss was not finite.
    pub fn steps_skipped(&self) -> usize {
        self.skipped.0
    }

    /// The options.
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }

    /// The model, the tensors.
    pub fn learner(&self) -> &Learner {
        &self.learner
    }

    /// The adapter as it is now, for sessions of the same model.
    ///
    /// # Errors
    /// Memory.
    pub fn adapter(&self) -> Result<Adapter> {
        self.learner.adapter()
    }

    /// Writes the folder that PEFT's `from_pretrained` loads, whole or not at all.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn save(&self, dir: &Path) -> Result<()> {
        self.learner.parameters().save(dir)
    }
}

//! A model that an adapter is trained on: loss and gradients of examples, and the adapter after each step.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Example;
use super::parameters::Parameters;
use super::regulariser;
use super::running::Running;
use crate::adapter::trained::Trained;
use crate::error::{Error, ErrorKind, Result};
use crate::kernels::Precision;
use crate::model::Device;
use crate::model::backend::Backend;
use crate::model::backward::Way;
use crate::model::decoder::Pass;
use crate::model::dropout::Dropout;
use crate::model::state::State;
use crate::runtime::{Adapter, Cancel, Model};

/// An adapter and the model that it is trained on.
pub struct Learner {
    model: Model,
    parameters: Parameters,
    state: State<Device>,
    way: Way<Device>,
    /// Tokens of the longest example.
    longest: usize,
    /// The weight of what AdaLoRA adds to the loss.
    regulariser: f64,
    /// On the inputs of updates, where gradients are to be so.
    dropout: Option<Dropout>,
    /// What runs now, and the gradients that it has gathered; nothing after a change that failed.
    running: Option<Running>,
    /// Looked at before each example.
    cancel: Option<Cancel>,
}

impl Learner {
    /// `parameters` on `model`, for examples of at most `seq` tokens, or of as many as the model's context has room for behind what the
    /// adapter has before the text.
    ///
    /// # Errors
    /// An adapter that does not fit the model, or that Graft does not train; a length beyond the model's context, or one whose cache does
    /// not fit in memory.
    pub fn new(model: &Model, parameters: Parameters, seq: usize, precision: Precision) -> Result<Self> {
        Self::with(model, parameters, seq, precision, true)
    }

    /// The same; attention is kept for the way back or runs again there (see [`TrainOptions::keep_attention`](super::TrainOptions)).
    ///
    /// # Errors
    /// As [`Learner::new`].
    pub fn with(
        model: &Model,
        mut parameters: Parameters,
        seq: usize,
        precision: Precision,
        keep_attention: bool,
    ) -> Result<Self> {
        let (spec, precision) = (model.spec(), precision.for_training());
        seq_in_range(model, seq)?;
        parameters.check_dropout()?;
        let running = Running::new(model, &mut parameters)?;
        let capacity = (seq + running.before()).min(spec.context_length);
        let layers = &running.active.layers;
        let state = State::new(
            model.backend(),
            spec,
            model.weights(),
            layers,
            capacity,
            capacity,
            precision,
        )?;
        Ok(Learner {
            model: model.clone(),
            regulariser: regulariser::weight(&parameters),
            dropout: None,
            parameters,
            state,
            way: Way::new(
                model.backend(),
                spec,
                model.weights(),
                layers,
                capacity,
                keep_attention,
                precision,
            )?,
            longest: capacity - running.before(),
            running: Some(running),
            cancel: None,
        })
    }

    /// While this flag is set, [`Learner::loss`] and [`Learner::gradients`] end before the next example: `Cancelled`.
    pub fn cancel_by(&mut self, cancel: Option<Cancel>) {
        self.cancel = cancel;
    }

    /// The most tokens of an example.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The adapter's tensors, and their gradients as [`Learner::gradients`] left them.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Gives the tensors to `change`, then puts them on the model again.
    ///
    /// # Errors
    /// Numbers that are no longer finite; the learner then has nothing to run until another change makes them so.
    pub fn change(&mut self, change: impl FnOnce(&mut Parameters)) -> Result<()> {
        change(&mut self.parameters);
        // Memory holds one of them at a time.
        self.parameters.forget_gradients();
        self.running = None;
        self.running = Some(Running::new(&self.model, &mut self.parameters)?);
        Ok(())
    }

    /// Whether gradients hold those of what AdaLoRA adds to the loss, which keeps the rows of each A and the columns of each B orthonormal.
    /// From the start they do, as in PEFT, with the weight that the config has for it (`orth_reg_weight`); other methods have none.
    pub fn regularise(&mut self, on: bool) {
        self.regulariser = if on { regulariser::weight(&self.parameters) } else { 0.0 };
    }

    /// From now on [`Learner::gradients`] are those with the dropout that the config has (`lora_dropout`), of random numbers that belong to
    /// `key` and to the example's place among the examples; `None`, as at the beginning: without. [`Learner::loss`] never has any.
    pub fn drop_out(&mut self, key: Option<u64>) {
        self.dropout = key.and_then(|key| Dropout::new(self.parameters.dropout(), key));
    }

    /// What that adds to the loss of a step, as the tensors are now.
    pub fn regulariser(&self) -> f64 {
        match self.regulariser {
            0.0 => 0.0,
            weight => regulariser::value(&self.parameters, weight),
        }
    }

    /// The adapter as it is now, for sessions of the same model.
    ///
    /// # Errors
    /// As [`Learner::change`].
    pub fn adapter(&self) -> Result<Adapter> {
        self.model.attach(&self.parameters.file()?)
    }

    /// That an example can be learnt.
    ///
    /// # Errors
    /// One that is too long, has a token outside the vocabulary, or nothing to learn.
    pub fn check(&self, example: &Example) -> Result<()> {
        let (n, vocab) = (
            example.tokens().len(),
            self.running.as_ref().ok_or_else(nothing_runs)?.active.vocab.0,
        );
        if n > self.longest {
            let e = Error::limit("the example is too long").item("tokens");
            return Err(e.expected(format!("at most {}", self.longest)).found(n));
        }
        if let Some((i, id)) = example.tokens().iter().enumerate().find(|t| *t.1 as usize >= vocab) {
            return Err(Error::usage("token id outside the vocabulary")
                .item(format!("tokens[{i}]"))
                .expected(format!("0 to {}", vocab - 1))
                .found(id));
        }
        if example.targets() == 0 {
            return Err(Error::usage("the example has nothing to learn").item("learn"));
        }
        Ok(())
    }

    /// The sum of the losses -ln p of all learnt tokens of these examples, and how many they are.
    ///
    /// # Errors
    /// An example that is too long, has a token outside the vocabulary, or nothing to learn.
    pub fn loss(&mut self, examples: &[Example]) -> Result<(f64, usize)> {
        let (mut sum, mut n) = (0.0, 0);
        self.state.drop_out(None);
        for example in examples {
            self.check(example)?;
            let targets = targets(example);
            let tokens = example.tokens();
            sum += self.run(tokens, |pass, state, _, way| pass.loss(state, tokens, &targets, way))?;
            n += targets.len();
        }
        Ok((sum, n))
    }

    /// The same; besides, the gradients of that sum times `scale` are in the parameters' `grad`, and with them, once and whole, those of
    /// [`Learner::regulariser`].
    ///
    /// # Errors
    /// As [`Learner::loss`].
    pub fn gradients(&mut self, examples: &[Example], scale: f32) -> Result<(f64, usize)> {
        examples.iter().try_for_each(|e| self.check(e))?;
        let model = self.model.clone();
        let running = self.running.as_mut().ok_or_else(nothing_runs)?;
        running.trained.zero(model.backend());
        // What the last pass has left is not needed any more.
        self.parameters.forget_gradients();
        let (mut sum, mut n) = (0.0, 0);
        for (i, example) in examples.iter().enumerate() {
            self.state.drop_out(self.dropout.map(|d| d.part(i as u64)));
            let (tokens, targets) = (example.tokens(), targets(example));
            sum += self.run(tokens, |pass, state, trained, way| {
                pass.learn(state, tokens, &targets, scale, trained, way)
            })?;
            n += targets.len();
        }
        let running = self.running.as_mut().ok_or_else(nothing_runs)?;
        running.pull(&model, &mut self.parameters)?;
        if self.regulariser != 0.0 {
            regulariser::add(&mut self.parameters, self.regulariser);
        }
        Ok((sum, n))
    }

    /// Runs a pass over `tokens`; a panic (a defect, in whichever thread) becomes an error.
    fn run(
        &mut self,
        tokens: &[u32],
        f: impl FnOnce(&Pass<Device>, &mut State<Device>, &mut Trained<Device>, &mut Way<Device>) -> f64,
    ) -> Result<f64> {
        if self.cancel.as_ref().is_some_and(Cancel::is_set) {
            return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
        }
        let Learner {
            model,
            state,
            running,
            way,
            ..
        } = self;
        let Running { active, trained, .. } = running.as_mut().ok_or_else(nothing_runs)?;
        let gates = active.gates_from(&[], tokens);
        let pass = Pass {
            backend: model.backend(),
            spec: model.spec(),
            weights: model.weights(),
            active,
            gates: &gates,
        };
        let run = catch_unwind(AssertUnwindSafe(|| f(&pass, state, trained, way)))
            .map_err(|panic| Error::panicked("training panicked", &*panic));
        let left = pass.backend.check();
        run.and_then(|loss| left.map(|()| loss))
    }
}

/// That a sequence can be so long on `model`.
pub(super) fn seq_in_range(model: &Model, seq: usize) -> Result<()> {
    let most = model.spec().context_length;
    if (2..=most).contains(&seq) {
        return Ok(());
    }
    let e = Error::usage("length of a sequence out of range").item("seq");
    Err(e
        .expected(format!("2 to {most}, the model's context length"))
        .found(seq))
}

fn nothing_runs() -> Error {
    Error::usage("the last change of the adapter failed: there is nothing to run")
}

/// Each learnt token, and the row before it.
fn targets(example: &Example) -> Vec<(usize, u32)> {
    let learnt = example.learn().iter().zip(example.tokens()).enumerate();
    learnt
        .filter(|(_, (l, _))| **l)
        .map(|(i, (_, id))| (i - 1, *id))
        .collect()
}

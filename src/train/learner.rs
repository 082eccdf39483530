//! A model that an adapter is trained on: loss and gradients of examples, and the adapter after each step.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::Example;
use super::parameters::Parameters;
use super::pull::{self, Pulled};
use crate::adapter::attach::rows_to_hf_order;
use crate::adapter::forms::Form;
use crate::adapter::trained::{self, Trained};
use crate::adapter::{Active, AdapterFile, Attached};
use crate::error::{Error, Result};
use crate::kernels::{Cpu, Precision};
use crate::model::Site;
use crate::model::backward::Way;
use crate::model::decoder::{Pass, State};
use crate::runtime::{Adapter, Model};

/// An adapter and the model that it is trained on.
pub struct Learner {
    model: Model,
    parameters: Parameters,
    state: State<Cpu>,
    way: Way<Cpu>,
    /// Positions that the state holds.
    capacity: usize,
    /// What runs now, and the gradients that it has gathered.
    running: Running,
}

/// The parameters as they are put on the model.
struct Running {
    active: Arc<Active<Cpu>>,
    trained: Trained<Cpu>,
    /// The forms' sites, and the paths of their modules.
    sites: Vec<Site>,
    paths: HashMap<usize, String>,
    method: &'static str,
}

impl Running {
    fn new(model: &Model, file: &AdapterFile) -> Result<Self> {
        trained::check(file.lowered())?;
        let (backend, spec) = (model.backend(), model.spec());
        let mut paths = HashMap::new();
        for module in file.sites() {
            if let Some(site) = Site::from_hf_path(&module.path, spec.post_norms) {
                paths.insert(site.index(), module.path.clone());
            }
        }
        let mut trained = Trained::new(spec.n_layers);
        let (mut sites, mut failed) = (Vec::new(), None);
        let attached = Attached::new(backend, spec, model.weights(), file, &mut |site, form| {
            if let Err(e) = trained.add(backend, site, form) {
                failed.get_or_insert(e);
            }
            if sites.last() != Some(&site) {
                sites.push(site);
            }
        })?;
        if let Some(e) = failed {
            return Err(e);
        }
        let active = Active::new(backend, spec, &[(Arc::new(attached), 1.0)])?;
        Ok(Running {
            active: Arc::new(active),
            trained,
            sites,
            paths,
            method: file.method(),
        })
    }
}

impl Learner {
    /// `parameters` on `model`, for examples of at most `seq` tokens.
    ///
    /// # Errors
    /// An adapter that does not fit the model, or that Graft does not train; a length beyond the model's context, or one whose cache does
    /// not fit in memory.
    pub fn new(model: &Model, parameters: Parameters, seq: usize, precision: Precision) -> Result<Self> {
        let spec = model.spec();
        if seq < 2 || seq > spec.context_length {
            return Err(Error::usage("length of a sequence out of range")
                .item("seq")
                .expected(format!("2 to {}, the model's context length", spec.context_length))
                .found(seq));
        }
        let file = parameters.file()?;
        pull::of(file.method())?;
        let running = Running::new(model, &file)?;
        let state = State::new(model.backend(), spec, &running.active.layers, seq, seq, precision)?;
        Ok(Learner {
            model: model.clone(),
            parameters,
            state,
            way: Way::new(precision),
            capacity: seq,
            running,
        })
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
    /// Numbers that are no longer finite; the adapter that runs is then still the old one.
    pub fn change(&mut self, change: impl FnOnce(&mut Parameters)) -> Result<()> {
        change(&mut self.parameters);
        self.running = Running::new(&self.model, &self.parameters.file()?)?;
        Ok(())
    }

    /// The adapter as it is now, for sessions of the same model.
    ///
    /// # Errors
    /// As [`Learner::change`].
    pub fn adapter(&self) -> Result<Adapter> {
        self.model.attach(&self.parameters.file()?)
    }

    fn check(&self, example: &Example) -> Result<()> {
        let (n, vocab) = (example.tokens().len(), self.running.active.vocab.0);
        if n > self.capacity {
            let e = Error::limit("the example is too long").item("tokens");
            return Err(e.expected(format!("at most {}", self.capacity)).found(n));
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
        for example in examples {
            self.check(example)?;
            let targets = targets(example);
            sum += self.run(|pass, state, _, way| pass.loss(state, example.tokens(), &targets, way))?;
            n += targets.len();
        }
        Ok((sum, n))
    }

    /// The same; besides, the gradients of that sum times `scale` are in the parameters' `grad`.
    ///
    /// # Errors
    /// As [`Learner::loss`].
    pub fn gradients(&mut self, examples: &[Example], scale: f32) -> Result<(f64, usize)> {
        examples.iter().try_for_each(|e| self.check(e))?;
        self.running.trained.zero(self.model.backend());
        let (mut sum, mut n) = (0.0, 0);
        for example in examples {
            let targets = targets(example);
            sum += self
                .run(|pass, state, trained, way| pass.learn(state, example.tokens(), &targets, scale, trained, way))?;
            n += targets.len();
        }
        self.pull()?;
        Ok((sum, n))
    }

    /// Runs a pass; a panic (a defect, in whichever thread) becomes an error.
    fn run(
        &mut self,
        f: impl FnOnce(&Pass<Cpu>, &mut State<Cpu>, &mut Trained<Cpu>, &mut Way<Cpu>) -> f64,
    ) -> Result<f64> {
        let model = self.model.clone();
        let active = self.running.active.clone();
        let pass = Pass {
            backend: model.backend(),
            spec: model.spec(),
            weights: model.weights(),
            active: &active,
            gates: &[],
        };
        let (state, trained, way) = (&mut self.state, &mut self.running.trained, &mut self.way);
        catch_unwind(AssertUnwindSafe(|| f(&pass, state, trained, way)))
            .map_err(|panic| Error::panicked("training panicked", &*panic))
    }

    /// From the gradients of forms to those of tensors.
    fn pull(&mut self) -> Result<()> {
        let (spec, backend) = (self.model.spec(), self.model.backend());
        self.parameters.zero_gradients();
        let method = pull::of(self.running.method)?;
        for &site in &self.running.sites {
            let forms = self.running.trained.at(site);
            let scale = forms.iter().find_map(|f| match &f.form {
                Form::LowRank(l) | Form::Dora(l, _) => Some(l.scale),
                _ => None,
            });
            let Some(path) = self.running.paths.get(&site.index()) else {
                return Err(Error::internal("a form on a module without tensors").item(site.hf_path(spec.post_norms)));
            };
            for form in forms {
                let mut grads = Vec::with_capacity(form.tensors.len());
                for t in &form.tensors {
                    let mut grad = crate::model::backend::Backend::read(backend, &t.grad).into_owned();
                    if t.role.by_output() && !matches!(form.form, Form::InScale(_)) {
                        let rows = form.form.shape().1;
                        rows_to_hf_order(spec, site, rows, &mut grad);
                    }
                    grads.push((t.role, grad));
                }
                let pulled = Pulled {
                    path,
                    form: &form.form,
                    grads,
                    scale: scale.unwrap_or(1.0),
                };
                if !pull::replaced(&pulled, &mut self.parameters)? {
                    method(&pulled, &mut self.parameters)?;
                }
            }
        }
        Ok(())
    }
}

/// Each learnt token, and the row before it.
fn targets(example: &Example) -> Vec<(usize, u32)> {
    let learnt = example.learn().iter().zip(example.tokens()).enumerate();
    learnt
        .filter(|(_, (l, _))| **l)
        .map(|(i, (_, id))| (i - 1, *id))
        .collect()
}

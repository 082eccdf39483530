//! An adapter's tensors as they are put on the model, and their gradients from those that the model's passes gather.

use std::collections::HashMap;
use std::sync::Arc;

use super::parameters::Parameters;
use super::pull::{self, Method, Module, Pulled};
use crate::adapter::attach::base_weights;
use crate::adapter::forms::Form;
use crate::adapter::order::rows_to_hf_order;
use crate::adapter::trained::{Role, Trained, TrainedPrefix};
use crate::adapter::{Active, Attached};
use crate::error::{Error, Result};
use crate::model::backend::Backend;
use crate::model::backprop::Backprop;
use crate::model::{Device, Part, Site};
use crate::runtime::Model;

/// The parameters as they are put on the model.
pub(super) struct Running {
    pub active: Active<Device>,
    pub trained: Trained<Device>,
    /// The forms' sites.
    sites: Vec<Site>,
    /// The paths of the sites' modules; of a site that has its forms from the one that it shares a table with, none.
    paths: HashMap<Site, String>,
    /// Whether a trained table is that of the embedding and of the head.
    one_table: bool,
    method: &'static Method,
}

impl Running {
    pub fn new(model: &Model, parameters: &mut Parameters) -> Result<Self> {
        let (backend, spec) = (model.backend(), model.spec());
        // Of some that Graft does not train the file alone does not say enough.
        if let Some(method) = parameters.text("peft_type") {
            pull::of(method, parameters)?;
        }
        let mut file = parameters.file()?;
        let method = pull::of(file.method(), parameters)?;
        if method.settle(parameters) {
            file = parameters.file()?;
        }
        let mut paths = HashMap::new();
        for module in file.sites() {
            if let Some(site) = Site::from_hf_path(&module.path, spec.post_norms) {
                paths.insert(site, module.path.clone());
            }
        }
        let mut trained = Trained::new(file.lowered().layers.as_ref().map_or(spec.n_layers, Vec::len));
        trained.padding = padding(model)?;
        let own_table = file.sites().iter().any(|module| {
            let site = Site::from_hf_path(&module.path, spec.post_norms);
            let own = |form: &Form| matches!(form, Form::Weight(_, false));
            matches!(site, Some(Site::Embed | Site::Head)) && module.forms.iter().any(own)
        });
        let one_table = own_table && model.tied_head() && parameters.flag("ensure_weight_tying", false);
        let (mut sites, mut failed) = (Vec::new(), None);
        let attached = Attached::new(backend, spec, model.weights(), &file, &mut |site, form| {
            // The base's own table, which PEFT saves beside what it trains.
            let frozen = matches!(form, Form::Weight(_, true)) && !one_table;
            let wanted = |role| !frozen && method.wants(form, role);
            if let Err(e) = trained.add(backend, site, form, &wanted) {
                failed.get_or_insert(e);
            }
            if sites.last() != Some(&site) {
                sites.push(site);
            }
        })?;
        if let Some(e) = failed {
            return Err(e);
        }
        trained.runs_by(&attached);
        let active = Active::new(backend, spec, &[(Arc::new(attached), 1.0)])?;
        if let Some((_, prefix)) = active.prefix() {
            trained.add_prefix(backend, prefix);
        }
        Ok(Running {
            active,
            trained,
            sites,
            paths,
            one_table,
            method,
        })
    }

    /// Positions that stand before the text.
    pub fn before(&self) -> usize {
        self.active.prefix().map_or(0, |(n, _)| n)
    }

    /// From the gradients of forms to those of tensors, which have none yet.
    pub fn pull(&mut self, model: &Model, parameters: &mut Parameters) -> Result<()> {
        // Site by site, so that memory never holds all of them twice; tables that are one together.
        let tied = |site: &Site| model.tied_head() && matches!(site, Site::Embed | Site::Head);
        let (tables, others): (Vec<Site>, Vec<Site>) = self.sites.iter().partition(|site| tied(site));
        self.pull_sites(model, &tables, parameters)?;
        for site in others {
            self.pull_sites(model, &[site], parameters)?;
        }
        self.pull_prefix(model, parameters)
    }

    /// The same of these sites, whose gradients are gone then.
    fn pull_sites(&mut self, model: &Model, sites: &[Site], parameters: &mut Parameters) -> Result<()> {
        let mut grads: Vec<_> = sites.iter().map(|site| self.take(model, *site)).collect();
        let forms = sites.iter().zip(&mut grads).map(|(site, grads)| {
            let forms = self.trained.forms(*site).iter().zip(grads.drain(..));
            (
                *site,
                forms
                    .map(|(form, grads)| Pulled {
                        form: &form.form,
                        grads,
                    })
                    .collect(),
            )
        });
        let mut forms: Vec<(Site, Vec<Pulled>)> = forms.collect();
        let twins = self.join_tables(&mut forms, parameters);
        for (site, forms) in forms {
            if forms.iter().all(|form| form.grads.is_empty()) {
                continue;
            }
            let Some(path) = self.paths.get(&site) else {
                let e = Error::internal("a form on a module without tensors");
                return Err(e.item(site.hf_path(model.spec().post_norms)));
            };
            let base = || base_weights(model.backend(), model.spec(), model.weights(), site);
            let module = Module {
                path,
                forms,
                base: &base,
            };
            pull::replaced(&module, parameters)?;
            (self.method.pull)(&module, parameters)?;
        }
        for key in twins {
            parameters.set_twin(&key);
        }
        Ok(())
    }

    /// Takes the gradients of each form of a site, in the order of the Hugging Face module.
    fn take(&mut self, model: &Model, site: Site) -> Vec<Vec<(Role, Vec<f32>)>> {
        let (spec, backend) = (model.spec(), model.backend());
        let forms = self.trained.at(site).iter_mut().map(|form| {
            let by_output: Vec<bool> = form.tensors.iter().map(|t| form.by_output(t.role)).collect();
            let rows = form.form.shape().1;
            let tensors = form.tensors.iter_mut().zip(by_output).filter(|(t, _)| t.wanted);
            let grads = tensors.map(|(t, by_output)| {
                let mut grad = backend.take(&mut t.grad);
                if by_output {
                    rows_to_hf_order(spec, site, rows, &mut grad);
                }
                (t.role, grad)
            });
            grads.collect()
        });
        forms.collect()
    }

    /// What stands in place of a table, or of rows of it, that a tied head shares has the gradients of both uses, under each key that it
    /// has. The keys that are so the second of one tensor.
    fn join_tables(&self, forms: &mut [(Site, Vec<Pulled>)], parameters: &Parameters) -> Vec<String> {
        let mut twins = Vec::new();
        let at = |site: Site| forms.iter().position(|(s, _)| *s == site);
        let (Some(embed), Some(head)) = (at(Site::Embed), at(Site::Head)) else {
            return twins;
        };
        let Ok([(_, embed), (_, head)]) = forms.get_disjoint_mut([embed, head]) else {
            return twins;
        };
        let key = |site: Site, form: &Pulled| pull::replaced_key(self.paths.get(&site)?, form.form, parameters);
        for a in embed {
            for b in &mut *head {
                let one = match (a.form, b.form) {
                    (Form::Rows(x, _), Form::Rows(y, _)) => x == y,
                    (Form::Weight(..), Form::Weight(..)) => self.one_table,
                    _ => false,
                };
                let (Some((_, of_a)), Some((_, of_b)), true) = (a.grads.first_mut(), b.grads.first_mut(), one) else {
                    continue;
                };
                of_a.iter_mut().zip(&*of_b).for_each(|(a, b)| *a += b);
                of_b.clone_from(of_a);
                match (key(Site::Embed, a), key(Site::Head, b)) {
                    (Some(_), Some(second)) => twins.push(second),
                    (Some(_), None) => b.grads.clear(),
                    (None, _) => a.grads.clear(),
                }
            }
        }
        twins
    }

    /// The gradient of what stands before the text.
    fn pull_prefix(&self, model: &Model, parameters: &mut Parameters) -> Result<()> {
        let (spec, backend) = (model.spec(), model.backend());
        let grad = match &self.trained.prefix {
            TrainedPrefix::None => return Ok(()),
            TrainedPrefix::Embeddings(grad) => backend.read(grad).into_owned(),
            TrainedPrefix::KeysAndValues(layers) => {
                let (width, mut grad) = (spec.kv_width(), Vec::new());
                for position in 0..self.before() {
                    for (side, d) in layers.iter().flatten().enumerate() {
                        let mut row = backend.read(d)[position * width..][..width].to_vec();
                        if side % 2 == 0 {
                            rows_to_hf_order(spec, Site::Layer(0, Part::K), width, &mut row);
                        }
                        grad.extend(row);
                    }
                }
                grad
            }
        };
        let name = "prompt_embeddings";
        let key = parameters.all().iter().find(|p| p.key.ends_with(name));
        let key = key.map_or_else(|| name.to_owned(), |p| p.key.clone());
        parameters.add(&key, &grad)
    }
}

/// The token that fills up short sequences, if the file names one: see [`Trained::padding`].
fn padding(model: &Model) -> Result<Option<u32>> {
    let id = model.gguf().metadata().usize(PADDING)?;
    let id = id.filter(|id| *id < model.spec().vocab_size);
    Ok(id.and_then(|id| u32::try_from(id).ok()))
}

const PADDING: &str = "tokenizer.ggml.padding_token_id";

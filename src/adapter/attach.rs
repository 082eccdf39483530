//! Putting an adapter on a model: paths become sites, forms that need the base are made, rows take the model's order, and all of it goes to
//! the device.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::device::{On, Op, Uploads};
use super::forms::{Base, Form, SiteForms};
use super::order::{interleaved_row, rows_to_hf_order, to_file_order, to_hf_order};
use super::{AdapterFile, Each, Lowered, Prefix};
use crate::error::{Error, Result};
use crate::model::backend::Backend;
use crate::model::spec::Spec;
use crate::model::weights::{Linear, Weights};
use crate::model::{Part, Site};

/// What an adapter does at one site.
pub struct SiteOps<B: Backend> {
    /// In place of the base's matrix.
    pub weight: Option<Arc<B::Weight>>,
    /// In place of the base's bias.
    pub bias: Option<Arc<B::Vector>>,
    /// In place of a norm's weights.
    pub norm: Option<Arc<B::Vector>>,
    /// On the input, in their order.
    pub ins: Vec<Op<B>>,
    /// On the output, in their order.
    pub outs: Vec<Op<B>>,
}

impl<B: Backend> Default for SiteOps<B> {
    fn default() -> Self {
        SiteOps {
            weight: None,
            bias: None,
            norm: None,
            ins: Vec::new(),
            outs: Vec::new(),
        }
    }
}

/// A prefix on the device.
pub enum PrefixOn<B: Backend> {
    /// Input embeddings `[n][hidden_size]`.
    Embeddings(B::Buf),
    /// For each layer keys and values `[n][kv_width]`.
    KeysAndValues(Vec<(B::Buf, B::Buf)>),
}

/// An adapter on a model: immutable, shared by sessions.
pub struct Attached<B: Backend> {
    /// By [`Site::index`].
    pub(super) sites: Vec<SiteOps<B>>,
    /// The base layer of each layer.
    pub(super) layers: Option<Vec<usize>>,
    pub(super) invocation: Option<Vec<u32>>,
    pub(super) prefix: Option<(usize, PrefixOn<B>)>,
    /// Rows of the embedding and of the head.
    pub(super) vocab: (usize, usize),
    /// Whether weights other than 1 have a meaning.
    pub(super) scalable: bool,
    /// Adapters of the same method that stand side by side are one group (see [`super::active`]).
    pub(super) method: &'static str,
}

/// What the model is, while an adapter is put on it.
struct Model<'a, B: Backend> {
    backend: &'a B,
    spec: &'a Spec,
    weights: &'a Weights<B>,
    layers: Vec<usize>,
}

/// An adapter's forms on the sites of a model.
struct Placed {
    /// Some of them still to be made from the base; their order is that of errors and of memory.
    sites: BTreeMap<Site, Vec<Form>>,
    /// Rows of the embedding and of the head.
    vocab: (usize, usize),
    /// The most input and output features of any of the modules.
    widest: (usize, usize),
}

/// Calls `each` with every site of the model that `file` changes, in their order, and its forms there: rows as in the Hugging Face module,
/// shapes checked, those made that depend on the base. Nothing goes to the device.
///
/// # Errors
/// As [`Attached::new`], and those of `each`.
pub fn each_site<B: Backend>(
    backend: &B,
    spec: &Spec,
    weights: &Weights<B>,
    file: &AdapterFile,
    each: &mut dyn FnMut(Site, Vec<Form>) -> Result<()>,
) -> Result<()> {
    let mut run = || {
        let model = Model::new(backend, spec, weights, file.lowered())?;
        let mut placed = model.place(file.lowered())?;
        for (site, forms) in std::mem::take(&mut placed.sites) {
            let forms = model.forms(site, forms, &placed);
            let at = |e: Error| e.item(site.hf_path(spec.post_norms));
            forms.and_then(|forms| each(site, forms)).map_err(at)?;
        }
        Ok(())
    };
    run().map_err(|e: Error| e.file(file.path()))
}

/// The weights of the base's linear map at `site`, in the order of the Hugging Face module; nothing if there is no such map.
pub fn base_weights<B: Backend>(backend: &B, spec: &Spec, weights: &Weights<B>, site: Site) -> Vec<f32> {
    let model = Model {
        backend,
        spec,
        weights,
        layers: (0..spec.n_layers).collect(),
    };
    model.read_linear(site)
}

impl<B: Backend> Attached<B> {
    /// Puts `file` on the model that `spec` and `weights` describe. `each` is told every form and its site as they go to the device.
    ///
    /// # Errors
    /// A module that the model does not have, or one of another shape.
    pub fn new(backend: &B, spec: &Spec, weights: &Weights<B>, file: &AdapterFile, each: Each) -> Result<Self> {
        Self::build(backend, spec, weights, file, each).map_err(|e| e.file(file.path()))
    }

    fn build(backend: &B, spec: &Spec, weights: &Weights<B>, file: &AdapterFile, each: Each) -> Result<Self> {
        let lowered = file.lowered();
        let model = Model::new(backend, spec, weights, lowered)?;
        let mut placed = model.place(lowered)?;
        let mut attached = Attached {
            sites: std::iter::repeat_with(SiteOps::default)
                .take(Site::count(model.layers.len()))
                .collect(),
            layers: lowered.layers.clone(),
            invocation: lowered.invocation.clone(),
            prefix: lowered.prefix.as_ref().map(|p| model.prefix(p)).transpose()?,
            vocab: placed.vocab,
            scalable: true,
            method: file.method(),
        };
        let mut any = false;
        let mut uploads = Uploads::default();
        for (site, forms) in std::mem::take(&mut placed.sites) {
            let at = |e: Error| e.item(site.hf_path(spec.post_norms));
            let mut forms = model.forms(site, forms, &placed).map_err(at)?;
            for form in &mut forms {
                to_file_order(spec, site, form);
                each(site, form);
            }
            let (ops, scalable) = model.site(site, forms, &mut uploads).map_err(at)?;
            attached.scalable &= scalable != Some(false);
            any |= scalable.is_some();
            attached.sites[site.index()] = ops;
        }
        // Replaced parameters alone are there or not.
        attached.scalable &= any;
        Ok(attached)
    }
}

impl<'a, B: Backend> Model<'a, B> {
    /// The model as `lowered` sees it: of its architecture, with its layers and tokens.
    fn new(backend: &'a B, spec: &'a Spec, weights: &'a Weights<B>, lowered: &Lowered) -> Result<Self> {
        if let Some(architecture) = lowered.architecture.as_ref().filter(|name| *name != spec.arch) {
            let e = Error::mismatch("the adapter is for models of another architecture").item("general.architecture");
            return Err(e.expected(spec.arch).found(architecture));
        }
        let layers = match &lowered.layers {
            Some(layers) => layers.clone(),
            None => (0..spec.n_layers).collect(),
        };
        if let Some(layer) = layers.iter().find(|i| **i >= spec.n_layers) {
            let e = Error::mismatch("the model has no such layer").item("layer_replication");
            return Err(e
                .expected(format_args!("layers 0 to {}", spec.n_layers - 1))
                .found(layer));
        }
        if let Some(id) = lowered
            .invocation
            .iter()
            .flatten()
            .find(|id| **id as usize >= spec.vocab_size)
        {
            let e = Error::mismatch("token id outside the vocabulary").item("alora_invocation_tokens");
            return Err(e.expected(format_args!("0 to {}", spec.vocab_size - 1)).found(id));
        }
        Ok(Model {
            backend,
            spec,
            weights,
            layers,
        })
    }

    /// The forms on their sites, in Hugging Face's order.
    fn place(&self, lowered: &Lowered) -> Result<Placed> {
        let spec = self.spec;
        let mut sites = self.by_site(&lowered.sites)?;
        if lowered.architecture.is_some() {
            for (site, forms) in &mut sites {
                for form in forms {
                    // Of another shape it has no such rows.
                    check(*site, form, self.shape(*site, (spec.vocab_size, spec.vocab_size)))
                        .map_err(|e| e.item(site.gguf_name()))?;
                    to_hf_order(spec, *site, form);
                }
            }
        }
        self.share_with_tied_head(&mut sites);
        let rows_of = |site: Site| {
            let replaced = sites.get(&site).into_iter().flatten().find_map(|form| match form {
                Form::Weight(m, _) => Some(m.rows()),
                _ => None,
            });
            replaced.unwrap_or(spec.vocab_size)
        };
        let vocab = (rows_of(Site::Embed), rows_of(Site::Head));
        for (site, rows) in [(Site::Embed, vocab.0), (Site::Head, vocab.1)] {
            if rows < spec.vocab_size {
                let e =
                    Error::mismatch("the vocabulary is smaller than the model's").item(site.hf_path(spec.post_norms));
                return Err(e.expected(format_args!("{} rows or more", spec.vocab_size)).found(rows));
            }
        }
        let widest = sites
            .keys()
            .filter(|s| !s.is_norm())
            .map(|s| self.shape(*s, vocab))
            .fold((0, 0), |a, b| (a.0.max(b.0), a.1.max(b.1)));
        Ok(Placed { sites, vocab, widest })
    }

    /// Forms by site.
    fn by_site(&self, sites: &[SiteForms]) -> Result<BTreeMap<Site, Vec<Form>>> {
        let mut placed: BTreeMap<Site, (Vec<Form>, Option<&str>)> = BTreeMap::new();
        let n = self.layers.len();
        for module in sites {
            let fault = |message: &str| Error::mismatch(message).item(&module.path);
            let site = match Site::from_hf_path(&module.path, self.spec.post_norms) {
                Some(Site::Layer(i, _)) if i >= n => {
                    return Err(fault("the model has no such layer")
                        .expected(format_args!("layers 0 to {}", n - 1))
                        .found(i));
                }
                Some(site) if self.has(site) => site,
                _ => {
                    return Err(fault("the model has no such module").expected(
                        "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj or a norm of a layer, embed_tokens, norm or lm_head",
                    ));
                }
            };
            let (forms, method) = placed.entry(site).or_default();
            // Replaced parameters come one by one, the method's own forms once.
            let own = module
                .forms
                .iter()
                .any(|f| !matches!(f, Form::Weight(..) | Form::Bias(_) | Form::Rows(..)));
            if own && method.replace(&module.path).is_some() {
                return Err(fault("two modules of the adapter are the same module of the model"));
            }
            forms.extend(module.forms.iter().cloned());
        }
        Ok(placed.into_iter().map(|(site, (forms, _))| (site, forms)).collect())
    }

    fn has(&self, site: Site) -> bool {
        let Some(layer) = self.weights.layers.first() else {
            return !matches!(site, Site::Layer(..));
        };
        match site {
            Site::Layer(_, part) => layer.has(part),
            _ => true,
        }
    }

    /// A tied head is the embedding's own tensor: rows replaced there, and a table that stands in place of it, hold for the head too, and
    /// the other way round, unless the adapter has its own.
    fn share_with_tied_head(&self, placed: &mut BTreeMap<Site, Vec<Form>>) {
        if !self.weights.tied {
            return;
        }
        for (from, to) in [(Site::Embed, Site::Head), (Site::Head, Site::Embed)] {
            for kind in [
                |f: &Form| matches!(f, Form::Rows(..)),
                |f: &Form| matches!(f, Form::Weight(_, true)),
            ] {
                let there = placed
                    .get(&to)
                    .is_some_and(|forms| forms.iter().any(|f| kind(f) || matches!(f, Form::Weight(..))));
                let form = placed
                    .get(&from)
                    .and_then(|forms| forms.iter().find(|f| kind(f)))
                    .cloned();
                if let (false, Some(form)) = (there, form) {
                    placed.entry(to).or_default().insert(0, form);
                }
            }
        }
    }

    /// (input, output) features of a site.
    fn shape(&self, site: Site, vocab: (usize, usize)) -> (usize, usize) {
        let spec = self.spec;
        let (hidden, q, kv, ffn) = (spec.hidden_size, spec.q_width(), spec.kv_width(), spec.ffn_size);
        match site {
            Site::Embed => (vocab.0, hidden),
            Site::Layer(_, Part::Q) => (hidden, q),
            Site::Layer(_, Part::K | Part::V) => (hidden, kv),
            Site::Layer(_, Part::O) => (q, hidden),
            Site::Layer(_, Part::Gate | Part::Up) => (hidden, ffn),
            Site::Layer(_, Part::Down) => (ffn, hidden),
            Site::Layer(_, Part::QNorm | Part::KNorm) => (spec.head_dim, 1),
            Site::Layer(..) | Site::OutputNorm => (hidden, 1),
            Site::Head => (hidden, vocab.1),
        }
    }

    /// The base's linear map at a site of the adapter's layers.
    fn linear(&self, site: Site) -> Option<&Linear<B>> {
        self.weights.linear(match site {
            Site::Layer(i, part) => Site::Layer(self.layers[i], part),
            site => site,
        })
    }

    /// The forms of a site in their order and checked, those that depend on the base made.
    fn forms(&self, site: Site, mut forms: Vec<Form>, placed: &Placed) -> Result<Vec<Form>> {
        let shape = self.shape(site, placed.vocab);
        // A table comes before rows of it, and both before updates.
        forms.sort_by_key(|form| match form {
            Form::Weight(..) | Form::Bias(_) => 0,
            Form::Rows(..) => 1,
            _ => 2,
        });
        let forms = self.made_from_base(site, forms, shape, placed.widest)?;
        forms.iter().try_for_each(|form| check(site, form, shape))?;
        Ok(forms)
    }

    /// The forms of a site, in the file's order, on the device, and whether weights other than 1 have a meaning for them (see [`Form::scalable`]).
    fn site(&self, site: Site, forms: Vec<Form>, uploads: &mut Uploads<B>) -> Result<(SiteOps<B>, Option<bool>)> {
        let mut ops = SiteOps::default();
        let mut scalable = None;
        for form in forms {
            scalable = match (scalable, form.scalable()) {
                (a, None) => a,
                (None, b) => b,
                (Some(a), Some(b)) => Some(a && b),
            };
            self.add(site, form, &mut ops, uploads)?;
        }
        Ok((ops, scalable))
    }

    /// Makes the forms that need the base.
    fn made_from_base(
        &self,
        site: Site,
        forms: Vec<Form>,
        shape: (usize, usize),
        widest: (usize, usize),
    ) -> Result<Vec<Form>> {
        let mut made = Vec::new();
        for form in forms {
            check(site, &form, shape)?;
            let Form::FromBase(from) = &form else {
                made.push(form);
                continue;
            };
            let replaced = made.iter().find_map(|f| match f {
                Form::Weight(m, _) => Some(m.clone()),
                _ => None,
            });
            let read = || match &replaced {
                Some(m) => m.to_f32(),
                None => self.read_linear(site),
            };
            let base = Base {
                rows: shape.1,
                cols: shape.0,
                widest,
                read: &read,
            };
            made.extend((from.lower)(&base)?);
        }
        Ok(made)
    }

    /// The weights of a linear site in the order of the Hugging Face module.
    fn read_linear(&self, site: Site) -> Vec<f32> {
        let Some(linear) = self.linear(site) else {
            return Vec::new();
        };
        let mut w = vec![0.0; linear.rows * linear.cols];
        self.backend.read_rows(&linear.weight, 0, &mut w);
        rows_to_hf_order(self.spec, site, linear.rows, &mut w);
        w
    }

    fn add(&self, site: Site, form: Form, ops: &mut SiteOps<B>, uploads: &mut Uploads<B>) -> Result<()> {
        let b = self.backend;
        match form {
            Form::Weight(m, _) if site.is_norm() => {
                // The converter adds the 1 that Gemma's norms add when they run.
                let one = if self.spec.norms_plus_one { 1.0 } else { 0.0 };
                let values: Vec<f32> = m.to_f32().iter().map(|v| v + one).collect();
                ops.norm = Some(Arc::new(b.vector_of(&values)?));
            }
            Form::Weight(m, _) => ops.weight = Some(uploads.matrix(b, &m)?),
            Form::Bias(_) if self.linear(site).is_none_or(|l| l.bias.is_none()) => {
                return Err(Error::mismatch("a bias for a module that has none"));
            }
            Form::Bias(v) => ops.bias = Some(Arc::new(b.vector_of(&v)?)),
            Form::InScale(_) | Form::InBlocks(_) | Form::InLowRank(_) => ops.ins.push(Op::new(b, form, uploads, None)?),
            form => {
                let bias = match (&ops.bias, self.linear(site)) {
                    (Some(bias), _) => Some(b.read_vector(bias).to_vec()),
                    (None, Some(linear)) => linear.bias.as_ref().map(|v| b.read_vector(v).to_vec()),
                    (None, None) => None,
                };
                let embedding = site == Site::Embed;
                let own = if embedding {
                    Some(&self.weights.embed)
                } else {
                    self.linear(site).map(|l| &l.weight)
                };
                let base = On {
                    embedding,
                    bias,
                    weight: ops.weight.as_deref().or(own),
                };
                ops.outs.push(Op::new(b, form, uploads, Some(&base))?);
            }
        }
        Ok(())
    }

    fn prefix(&self, prefix: &Prefix) -> Result<(usize, PrefixOn<B>)> {
        let (spec, b) = (self.spec, self.backend);
        let fault = |expected: usize, found: usize| {
            let e = Error::mismatch("shape does not fit the model").item("prompt_embeddings");
            e.expected(format_args!("{expected} columns")).found(found)
        };
        let n = prefix.positions();
        if n >= spec.context_length {
            let e = Error::mismatch("the prompt is longer than the model's context").item("prompt_embeddings");
            return Err(e
                .expected(format_args!("less than {} rows", spec.context_length))
                .found(n));
        }
        let buf = |values: &[f32]| {
            let mut buf = B::Buf::default();
            b.write(values, &mut buf);
            buf
        };
        Ok((
            n,
            match prefix {
                Prefix::Embeddings(m) if m.cols() != spec.hidden_size => return Err(fault(spec.hidden_size, m.cols())),
                Prefix::Embeddings(m) => PrefixOn::Embeddings(buf(&m.to_f32())),
                Prefix::KeysAndValues(m) => {
                    let (width, layers) = (spec.kv_width(), self.layers.len());
                    if m.cols() != layers * 2 * width {
                        return Err(fault(layers * 2 * width, m.cols()));
                    }
                    let values = m.to_f32();
                    let slice = |index: usize, permute: bool| {
                        let mut out = Vec::with_capacity(n * width);
                        for row in values.chunks_exact(m.cols()) {
                            let at = out.len();
                            let row = &row[index * width..][..width];
                            out.extend_from_slice(row);
                            for (i, v) in row.iter().enumerate().filter(|_| permute) {
                                out[at + interleaved_row(i, spec.head_dim)] = *v;
                            }
                        }
                        buf(&out)
                    };
                    PrefixOn::KeysAndValues(
                        (0..layers)
                            .map(|l| (slice(2 * l, spec.permuted_qk), slice(2 * l + 1, false)))
                            .collect(),
                    )
                }
            },
        ))
    }
}

/// Whether the form can be on a module of (input, output) features.
fn check(site: Site, form: &Form, (cols, rows): (usize, usize)) -> Result<()> {
    let fits = match (site, form) {
        (s, Form::Weight(..)) if s.is_norm() => true,
        (s, _) if s.is_norm() => false,
        (Site::Embed, Form::LowRank(_) | Form::Dora(..) | Form::Weight(..) | Form::Rows(..) | Form::OutBlocks(_)) => {
            true
        }
        (Site::Embed, Form::FromBase(f)) => f.embedding,
        (Site::Embed, _) => false,
        (Site::Head, Form::Rows(..)) => true,
        (_, Form::Rows(..) | Form::OutBlocks(_)) => false,
        _ => true,
    };
    if !fits {
        return Err(Error::unsupported(format!("{} on this kind of module", form.name())));
    }
    if let Form::Rows(ids, m) = form {
        let (vocab, hidden) = if site == Site::Embed {
            (cols, rows)
        } else {
            (rows, cols)
        };
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
            let e = Error::mismatch("token id outside the vocabulary");
            return Err(e.expected(format_args!("0 to {}", vocab - 1)).found(id));
        }
        if m.cols() != hidden {
            let e = Error::mismatch("shape does not fit the model");
            return Err(e.expected(format_args!("rows of {hidden}")).found(m.cols()));
        }
        return Ok(());
    }
    let (found_cols, found_rows) = form.shape();
    // A table is stored with a row for each token, in both directions.
    let (cols, rows) = match (site, form) {
        (Site::Embed, Form::Weight(..)) => (rows, cols),
        _ => (cols, rows),
    };
    if [(found_cols, cols), (found_rows, rows)]
        .iter()
        .any(|(found, want)| *found != 0 && found != want)
    {
        let text = |cols: usize, rows: usize| match (cols, rows) {
            (0, rows) => format!("{rows} outputs"),
            (cols, 0) => format!("{cols} inputs"),
            (cols, rows) => format!("{cols} inputs, {rows} outputs"),
        };
        return Err(Error::mismatch("shape does not fit the model")
            .expected(text(cols, rows))
            .found(text(found_cols, found_rows)));
    }
    Ok(())
}

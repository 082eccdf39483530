//! Adapters merged into the base's weights: a model in memory, or a GGUF file that other programs load too.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::divergence::Divergence;
use super::model::{Adapter, Model};
use super::sample::Sample;
use super::session::{Session, SessionOptions};
use crate::adapter::{Active, merge};
use crate::error::{Error, ErrorKind, Result};
use crate::format::GgufPlan;
use crate::kernels::Precision;
use crate::model::backend::Backend;
use crate::model::cpu::CpuWeight;
use crate::model::moments::Moments;
use crate::model::weights::{Linear, Weights};
use crate::model::{Device, Part, Site};
use crate::quant::{BlockFormat, Feedback};

/// How to pack what was merged.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum MergeType {
    /// Each matrix as it is in the model, or the next larger type that Graft writes.
    #[default]
    Keep,
    /// All of them in this one; rows that are no whole blocks of it in the next larger type with smaller blocks.
    To(BlockFormat),
    /// As `Keep`, but where packing changes too much, larger types, until the merged model's predictions are within this mean divergence
    /// (in nats) of those of the adapters put on live.
    Within(f64),
}

/// How to merge.
#[derive(Clone, Debug)]
pub struct MergeOptions {
    /// How to pack what was merged.
    pub to: MergeType,
    /// Whether packing keeps what is lost small for the inputs that each matrix has when the model, with the adapters on, reads a text (see
    /// [`quant::feedback`](crate::quant::feedback)). Otherwise each block comes as near to its values as it gets.
    pub importance: bool,
    /// A text like those that the model will read; of at least 32 tokens, 1024 are used. One half tells how large inputs are, on the other
    /// divergences are measured. `None` for short texts of Graft's own.
    pub text: Option<String>,
}

impl Default for MergeOptions {
    fn default() -> Self {
        MergeOptions {
            to: MergeType::default(),
            importance: true,
            text: None,
        }
    }
}

/// What a merge did.
#[derive(Clone, Debug)]
pub struct MergeReport {
    /// The tensors that changed.
    pub tensors: Vec<MergedTensor>,
    /// How far the merged model's predictions of a text are from those of the adapters put on live, both in `Exact`; only of
    /// [`MergeType::Within`], which measures it.
    pub divergence: Option<Divergence>,
}

/// What became of one tensor.
#[derive(Clone, Debug)]
pub struct MergedTensor {
    /// Its name in GGUF.
    pub name: String,
    /// Its type in the model.
    pub from: &'static str,
    /// Its type now.
    pub to: &'static str,
    /// What packing changed: root of the mean squared difference, relative to that of the values.
    pub error: f64,
}

/// A tensor that is another under the adapters.
struct Change {
    name: String,
    what: What,
    /// Its format in the model and in the merged one.
    from: BlockFormat,
    to: BlockFormat,
    rows: usize,
    cols: usize,
}

/// Which.
enum What {
    Matrix(Site),
    Norm(Site),
    Bias(Site),
}

/// A merge that is prepared: what changes and how it is computed.
struct Merge<'a> {
    model: &'a Model,
    adapters: &'a [(Adapter, f32)],
    to: MergeType,
    active: Arc<Active<Device>>,
    /// What each matrix is given when the model with the adapters on reads a text.
    moments: Option<Moments>,
    sample: Sample,
    changes: Vec<Change>,
    /// The head gets a tensor of its own.
    untied: bool,
}

impl Model {
    /// This model with `adapters`, each with its weight, merged into its weights: a model of its own, which shares all unchanged tensors.
    /// `progress` is called with the share done; `false` ends the work.
    ///
    /// # Errors
    /// As [`Session::set_adapters`], and adapters that are not in the weights: prompts, aLoRA, repeated layers; a text that is too short;
    /// cancelled.
    pub fn merged(
        &self,
        adapters: &[(Adapter, f32)],
        options: &MergeOptions,
        progress: &mut dyn FnMut(f32) -> bool,
    ) -> Result<(Model, MergeReport)> {
        Merge::prepare(self, adapters, options, progress)?.in_memory(progress)
    }

    /// That `adapters` can be merged into this model.
    ///
    /// # Errors
    /// Those of [`Model::merged`] that need no number computed.
    pub fn check_merge(&self, adapters: &[(Adapter, f32)]) -> Result<()> {
        let options = MergeOptions {
            to: MergeType::Keep,
            importance: false,
            text: None,
        };
        Merge::prepare(self, adapters, &options, &mut |_| true).map(drop)
    }

    /// Writes this model with `adapters` merged into its weights as the GGUF file `path`: metadata and unchanged tensors as they are, one
    /// tensor in memory at a time ([`MergeType::Within`]: before that all that are merged, packed, to choose their types). The file appears
    /// when it is complete. `progress` is called with the share done; `false` ends the work.
    ///
    /// # Errors
    /// As [`Model::merged`]; writing fails; `path` is the model itself.
    pub fn merge_to(
        &self,
        adapters: &[(Adapter, f32)],
        options: &MergeOptions,
        path: &Path,
        progress: &mut dyn FnMut(f32) -> bool,
    ) -> Result<MergeReport> {
        let mut merge = Merge::prepare(self, adapters, options, progress)?;
        let divergence = match options.to {
            MergeType::Within(_) => merge.in_memory(progress)?.1.divergence,
            _ => None,
        };
        let gguf = self.gguf();
        let mut plan = GgufPlan::copy_of(gguf);
        for change in &merge.changes {
            match change.what {
                What::Matrix(_) => plan.put(&change.name, &[change.cols, change.rows], change.to),
                What::Norm(_) | What::Bias(_) => plan.put(&change.name, &[change.cols], change.to),
            };
        }
        let mut writer = plan.create(path)?;
        let mut tensors = Vec::new();
        let n = plan.tensors().len();
        for (i, tensor) in plan.tensors().iter().enumerate() {
            match (
                merge.changes.iter().find(|c| c.name == tensor.name),
                gguf.tensor(&tensor.name),
            ) {
                (Some(change), _) => {
                    let error = merge.pack(change, &mut |bytes| writer.write(&tensor.name, bytes))?;
                    tensors.push(change.report(error));
                }
                (None, Some(old)) => writer.write(&tensor.name, gguf.data(old))?,
                (None, None) => return Err(Error::internal("a planned tensor comes from nowhere").item(&tensor.name)),
            }
            go_on(progress((i + 1) as f32 / n as f32))?;
        }
        writer.finish()?;
        Ok(MergeReport { tensors, divergence })
    }

    /// How far this model's predictions are from those of `other` with `adapters` put on live, both in `Exact`: of the second half of
    /// `text`, as in [`MergeOptions::text`], or of a short text of Graft's own.
    ///
    /// # Errors
    /// As [`Session::set_adapters`] of `other`; vocabularies that differ; a text that is too short.
    pub fn divergence_from(
        &self,
        other: &Model,
        adapters: &[(Adapter, f32)],
        text: Option<&str>,
    ) -> Result<Divergence> {
        self.divergence_on(other, adapters, &Sample::new(other, text)?.measure)
    }

    fn divergence_on(&self, other: &Model, adapters: &[(Adapter, f32)], tokens: &[u32]) -> Result<Divergence> {
        let mut live = other.exact_session(adapters)?;
        let mut merged = self.exact_session(&[])?;
        if live.vocab_size() != merged.vocab_size() {
            let e = Error::mismatch("the models have different vocabularies");
            return Err(e.expected(live.vocab_size()).found(merged.vocab_size()));
        }
        Divergence::between(&mut live, &mut merged, tokens)
    }

    fn exact_session(&self, adapters: &[(Adapter, f32)]) -> Result<Session> {
        let mut session = self.session(&SessionOptions {
            precision: Precision::Exact,
            chunk: 32,
            ..Default::default()
        })?;
        session.set_adapters(adapters)?;
        Ok(session)
    }
}

impl<'a> Merge<'a> {
    fn prepare(
        model: &'a Model,
        adapters: &'a [(Adapter, f32)],
        options: &MergeOptions,
        progress: &mut dyn FnMut(f32) -> bool,
    ) -> Result<Self> {
        let to = options.to;
        if let MergeType::Within(bound) = to
            && !(bound.is_finite() && bound > 0.0)
        {
            return Err(Error::usage("bound of the divergence")
                .expected("a number above 0")
                .found(bound));
        }
        let active = model.activate(adapters)?;
        merge::check(&active, model.spec())?;
        let mut merge = Merge {
            untied: model.tied_head() && !merge::stay_tied(model.backend(), &active),
            sample: Sample::new(model, options.text.as_deref())?,
            moments: None,
            adapters,
            to,
            model,
            active,
            changes: Vec::new(),
        };
        let weights = model.weights();
        for (i, layer) in weights.layers.iter().enumerate() {
            for part in Part::ALL {
                match layer.linear(part) {
                    Some(linear) => merge.linear(Site::Layer(i, part), linear, to)?,
                    None => merge.norm(Site::Layer(i, part)),
                }
            }
        }
        merge.norm(Site::OutputNorm);
        let embed = &weights.embed;
        if merge::changes_matrix(merge.active.program(Site::Embed)) {
            merge.matrix(Site::Embed, model.backend().host(embed), to);
        }
        // A head that stays tied is merged with the embedding.
        if merge.untied || !weights.tied {
            let changed = merge::changes_matrix(merge.active.program(Site::Head));
            if changed || merge.untied {
                // Untied without a change of its own, it keeps what the embedding was.
                merge.matrix(
                    Site::Head,
                    model.backend().host(&weights.head.weight),
                    if changed { to } else { MergeType::Keep },
                );
            }
            merge.bias(Site::Head, &weights.head)?;
        }
        if options.importance && merge.changes.iter().any(|change| change.to.info().block_len > 1) {
            merge.read(progress)?;
        }
        Ok(merge)
    }

    /// Lets the model with the adapters on read a text, to see what each matrix is given.
    fn read(&mut self, progress: &mut dyn FnMut(f32) -> bool) -> Result<()> {
        let mut session = self.model.exact_session(self.adapters)?;
        session.record();
        let mut goes_on = true;
        session.eval_each(&self.sample.learn, &mut |_, _| {
            goes_on &= progress(0.0);
            match goes_on {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        self.moments = session.take_moments();
        go_on(goes_on)
    }

    /// How to pack a matrix so that least is lost for its inputs, where these are known.
    fn feedback(&self, change: &Change) -> Option<Feedback> {
        let site = match change.what {
            // A row of the embedding is read as it is; its columns are inputs where it is the head too.
            What::Matrix(Site::Embed) if self.model.tied_head() && !self.untied => Site::Head,
            What::Matrix(site) if site != Site::Embed => site,
            _ => return None,
        };
        let inputs = self.moments.as_ref()?.at(site)?;
        let (squares, directions): (Vec<_>, Vec<_>) = (inputs.squares().collect(), inputs.directions().collect());
        let packs = change.to.info().block_len > 1;
        packs.then(|| Feedback::new(change.to, &squares, &directions))?
    }

    /// The merged model. Of [`MergeType::Within`] the types are chosen first: what was packed too coarsely is packed again.
    fn in_memory(&mut self, progress: &mut dyn FnMut(f32) -> bool) -> Result<(Model, MergeReport)> {
        let mut weights = self.model.weights().clone();
        weights.tied &= !self.untied;
        let mut tensors: Vec<Option<MergedTensor>> = vec![None; self.changes.len()];
        let mut again: Vec<usize> = (0..self.changes.len()).collect();
        loop {
            for (n, &i) in again.iter().enumerate() {
                let change = &self.changes[i];
                let mut bytes = Vec::new();
                let error = self.pack(change, &mut |part| {
                    bytes.extend_from_slice(part);
                    Ok(())
                })?;
                tensors[i] = Some(change.report(error));
                change.put(self.model.backend(), &mut weights, bytes)?;
                go_on(progress((n + 1) as f32 / again.len() as f32))?;
            }
            let model = self.model.with_weights(weights.clone())?;
            let divergence = match self.to {
                MergeType::Within(_) => Some(model.divergence_on(self.model, self.adapters, &self.sample.measure)?),
                _ => None,
            };
            let error = |i: usize| tensors[i].as_ref().map_or(0.0, |t| t.error);
            again = (0..tensors.len()).filter(|i| error(*i) > 0.0).collect();
            let near = match (self.to, &divergence) {
                (MergeType::Within(bound), Some(measured)) => measured.mean() <= bound,
                _ => true,
            };
            if near || again.is_empty() {
                let tensors = tensors.into_iter().flatten().collect();
                return Ok((model, MergeReport { tensors, divergence }));
            }
            // The worst half of what can be finer gets a finer type.
            again.sort_by(|a, b| error(*b).total_cmp(&error(*a)));
            again.truncate(again.len().div_ceil(2));
            for &i in &again {
                let change = &mut self.changes[i];
                change.to = writable(finer(change.to), change.cols);
            }
        }
    }

    fn linear(&mut self, site: Site, linear: &Linear<Device>, to: MergeType) -> Result<()> {
        if merge::changes_matrix(self.active.program(site)) {
            self.matrix(site, self.model.backend().host(&linear.weight), to);
        }
        self.bias(site, linear)
    }

    fn matrix(&mut self, site: Site, base: &CpuWeight, to: MergeType) {
        let to = match to {
            MergeType::Keep | MergeType::Within(_) => base.format(),
            MergeType::To(format) => format,
        };
        self.changes.push(Change {
            name: format!("{}.weight", site.gguf_name()),
            what: What::Matrix(site),
            from: base.format(),
            to: writable(to, base.cols()),
            rows: base.rows(),
            cols: base.cols(),
        });
    }

    fn vector(&mut self, what: What, name: String, len: usize) {
        self.changes.push(Change {
            name,
            what,
            from: BlockFormat::F32,
            to: BlockFormat::F32,
            rows: 1,
            cols: len,
        });
    }

    fn norm(&mut self, site: Site) {
        if let Some(norm) = self.active.replaced_norm(site) {
            let len = self.model.backend().read_vector(norm).len();
            self.vector(What::Norm(site), format!("{}.weight", site.gguf_name()), len);
        }
    }

    fn bias(&mut self, site: Site, linear: &Linear<Device>) -> Result<()> {
        let backend = self.model.backend();
        let base = linear.bias.as_ref().map(|bias| backend.read_vector(bias));
        let new = merge::bias(backend, self.active.program(site), base, linear.rows);
        if new.as_deref() == base {
            return Ok(());
        }
        if base.is_none() && self.model.spec().arch != "llama" {
            let e = Error::unsupported("a bias cannot be merged into a model that has none here");
            return Err(e
                .item(site.gguf_name())
                .expected("the adapter put on when the model is loaded"));
        }
        self.vector(What::Bias(site), format!("{}.bias", site.gguf_name()), linear.rows);
        Ok(())
    }

    /// The values of a changed tensor.
    fn compute(&self, change: &Change) -> Result<Vec<f32>> {
        let (b, weights) = (self.model.backend(), self.model.weights());
        Ok(match change.what {
            What::Norm(site) => self
                .active
                .replaced_norm(site)
                .map_or_else(Vec::new, |norm| b.read_vector(norm).to_vec()),
            What::Bias(site) => {
                let linear = weights.linear(site);
                let base = linear.and_then(|l| l.bias.as_ref()).map(|bias| b.read_vector(bias));
                merge::bias(b, self.active.program(site), base, change.cols).unwrap_or_default()
            }
            What::Matrix(site) => {
                let program = self.active.program(site);
                let base = weights.linear(site).map_or(&weights.embed, |l| &l.weight);
                let mut w = merge::values(b, program.weight.as_deref().unwrap_or(base));
                match site {
                    Site::Embed => merge::embedding(b, program, &mut w, change.cols)?,
                    _ => merge::linear(b, program, &mut w, change.cols),
                }
                w
            }
        })
    }

    /// Gives `sink` the bytes of a changed tensor, in parts; returns what packing changed, see [`MergedTensor::error`].
    fn pack(&self, change: &Change, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<f64> {
        /// Elements of a part: bounds the memory for its bytes.
        const PART: usize = 1 << 22;
        if let What::Matrix(site @ Site::Head) = change.what
            && !merge::changes_matrix(self.active.program(site))
        {
            // Untied, not changed: the bytes that it shared with the embedding.
            sink(self.model.backend().host(&self.model.weights().head.weight).bytes())?;
            return Ok(0.0);
        }
        let values = self.compute(change)?;
        let feedback = self.feedback(change);
        let mut bytes = Vec::new();
        let (mut error, mut all) = (0.0, 0.0);
        for part in values.chunks((PART / change.cols).max(1) * change.cols) {
            let (e, a) = self.pack_rows(change, part, feedback.as_ref(), &mut bytes)?;
            (error, all) = (error + e, all + a);
            sink(&bytes)?;
        }
        Ok(if error == 0.0 { 0.0 } else { (error / all).sqrt() })
    }

    /// Packs some rows, on all threads; returns the squared error and the sum of squares.
    fn pack_rows(
        &self,
        change: &Change,
        values: &[f32],
        feedback: Option<&Feedback>,
        bytes: &mut Vec<u8>,
    ) -> Result<(f64, f64)> {
        /// Elements of a piece of work.
        const PIECE: usize = 1 << 16;
        let cols = change.cols;
        let fault = |e: Error| e.item(&change.name);
        let row_bytes = change
            .to
            .bytes_for(cols)
            .ok_or_else(|| fault(Error::internal("rows are not whole blocks")))?;
        bytes.resize(row_bytes * (values.len() / cols), 0);
        let rows = (PIECE / cols).max(1);
        let pieces: Vec<_> = values
            .chunks(rows * cols)
            .zip(bytes.chunks_mut(rows * row_bytes))
            .map(|(values, bytes)| Mutex::new((values, bytes, Ok((0.0, 0.0)))))
            .collect();
        self.model.cpu().team().run(pieces.len(), &|i| {
            let mut piece = pieces[i].lock().unwrap_or_else(PoisonError::into_inner);
            let (values, bytes, result) = &mut *piece;
            let packed = match feedback {
                Some(feedback) => feedback.quantize(values, bytes),
                None => change.to.quantize(values, None, bytes),
            };
            *result = packed.map(|()| {
                let mut back = vec![0.0; values.len()];
                change.to.dequantize(bytes, &mut back);
                let square = |v: f32| f64::from(v) * f64::from(v);
                let error: f64 = values.iter().zip(&back).map(|(a, b)| square(a - b)).sum();
                (error, values.iter().map(|v| square(*v)).sum())
            });
        });
        let (mut error, mut all) = (0.0, 0.0);
        for piece in pieces {
            let (.., result) = piece.into_inner().unwrap_or_else(PoisonError::into_inner);
            let (e, a) = result.map_err(fault)?;
            (error, all) = (error + e, all + a);
        }
        Ok((error, all))
    }
}

impl Change {
    fn report(&self, error: f64) -> MergedTensor {
        MergedTensor {
            name: self.name.clone(),
            from: self.from.name(),
            to: self.to.name(),
            error,
        }
    }

    /// Puts the packed tensor into `weights`.
    fn put(&self, b: &Device, weights: &mut Weights<Device>, bytes: Vec<u8>) -> Result<()> {
        let vector = |bytes: &[u8]| {
            let mut values = vec![0.0; self.cols];
            self.to.dequantize(bytes, &mut values);
            b.vector_of(&values)
        };
        match self.what {
            What::Norm(Site::Layer(i, part)) => {
                if let Some(norm) = weights.layers[i].norm_mut(part) {
                    *norm = vector(&bytes)?;
                }
            }
            What::Norm(_) => weights.output_norm = vector(&bytes)?,
            What::Bias(site) => {
                if let Some(linear) = weights.linear_mut(site) {
                    linear.bias = Some(vector(&bytes)?);
                }
            }
            What::Matrix(site) => {
                let weight = CpuWeight::in_memory(&self.name, self.to, self.rows, self.cols, Arc::from(bytes));
                match weights.linear_mut(site) {
                    Some(linear) => linear.weight = b.replacement(weight, &linear.weight)?,
                    None => {
                        let weight = b.replacement(weight, &weights.embed)?;
                        if weights.tied {
                            weights.head.weight = weight.clone();
                        }
                        weights.embed = weight;
                    }
                }
            }
        }
        Ok(())
    }
}

/// An error unless the work is to go on.
fn go_on(yes: bool) -> Result<()> {
    match yes {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Cancelled, "cancelled")),
    }
}

/// `format`, or what takes its place where Graft does not write it or rows of `cols` are no whole blocks of it: the next that is finer.
fn writable(mut format: BlockFormat, cols: usize) -> BlockFormat {
    use BlockFormat as F;
    loop {
        format = match format {
            _ if format.info().quantize.is_none() => finer(format),
            _ if format.bytes_for(cols).is_some() => return format,
            // Rows that are no whole blocks of 256, as ggml's tools choose.
            F::Q4_K => F::Q5_0,
            F::Q5_K => F::Q5_1,
            F::Q6_K => F::Q8_0,
            _ => F::F16,
        };
    }
}

/// The next type that loses less; F32 loses nothing.
fn finer(format: BlockFormat) -> BlockFormat {
    use BlockFormat as F;
    match format {
        F::MXFP4 | F::IQ4_NL | F::Q4_0 => F::Q5_0,
        F::Q4_1 => F::Q5_1,
        F::Q2_K | F::Q3_K | F::IQ4_XS => F::Q4_K,
        F::Q4_K => F::Q5_K,
        F::Q5_K => F::Q6_K,
        F::Q5_0 | F::Q5_1 | F::Q6_K => F::Q8_0,
        F::Q8_0 => F::F16,
        F::F16 | F::BF16 | F::F32 => F::F32,
    }
}

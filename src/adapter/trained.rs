//! An adapter's forms as training sees them: numbers in f32, each with its gradient.

use std::sync::Arc;

use super::attach::{Attached, PrefixOn};
use super::device::{Action, Op};
use super::forms::{Form, LowRank};
use crate::error::{Error, Result};
use crate::model::backend::Backend;
use crate::model::backprop::Backprop;
use crate::model::{Part, Site};

/// What a tensor is to its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A of a low-rank update, `[rank][in]`; on the embedding turned, `[tokens][rank]`.
    A,
    /// B, `[out][rank]`.
    B,
    /// The factors between them, `[rank]`.
    Mid,
    /// The factors behind them, `[out]`.
    Out,
    /// DoRA's magnitudes, `[out]`.
    Magnitude,
    /// Factors of inputs or outputs.
    Factors,
    /// Factors of outputs' partners.
    PartnerFactors,
    /// A bias, `[out]`: added, or in place of the module's.
    Bias,
    /// In place of the module's weight.
    Weight,
    /// Rows in place of those of single tokens.
    Rows,
    /// A whole update, `[out][in]`.
    Dense,
    /// The left factor of a Kronecker product.
    W1,
    /// The right one.
    W2,
    /// Blocks on a diagonal, `[blocks][size][size]`.
    Blocks,
}

impl Role {
    /// Whether it has a row for each output.
    fn by_output(self) -> bool {
        !matches!(
            self,
            Role::A | Role::Mid | Role::Rows | Role::W1 | Role::W2 | Role::Blocks
        )
    }
}

/// A tensor of a form.
pub struct Tensor<B: Backend> {
    /// What it is to the form.
    pub role: Role,
    /// Its numbers, where the way back reads them and the form does not hold them.
    pub values: Arc<B::Buf>,
    /// The gradient of the loss by them: a sum over all that was run since [`Trained::zero`]. Empty if nobody wants it, or has taken it.
    pub grad: B::Buf,
    /// Whether anybody wants it.
    pub wanted: bool,
    len: usize,
}

fn buf_of<B: Backend>(b: &B, values: &[f32]) -> Arc<B::Buf> {
    let mut buf = B::Buf::default();
    b.write(values, &mut buf);
    Arc::new(buf)
}

/// A form of one site, in the order of the model's file.
pub struct TrainedForm<B: Backend> {
    /// What. Factors of low-rank updates have no numbers here: what runs them has.
    pub form: Form,
    /// Its tensors.
    pub tensors: Vec<Tensor<B>>,
    /// A and B of a low-rank update as they run; on the embedding no A.
    pub factors: (Option<B::Factor>, Option<B::Factor>),
}

impl<B: Backend> TrainedForm<B> {
    /// `form` of `site`, with gradients of zero for the tensors that are `wanted`.
    fn new(b: &B, form: &Form, wanted: &dyn Fn(Role) -> bool) -> Result<Self> {
        let mut new = TrainedForm {
            form: form.clone(),
            tensors: Vec::new(),
            factors: (None, None),
        };
        match form {
            Form::LowRank(l) | Form::InLowRank(l) => new.low_rank(b, l, wanted),
            Form::Dora(l, magnitude) => {
                new.low_rank(b, l, wanted);
                new.add(b, Role::Magnitude, magnitude, wanted);
            }
            Form::InScale(v) | Form::OutScale(v) | Form::OutScaleNoBias(v) => new.add(b, Role::Factors, v, wanted),
            Form::OutBias(v) | Form::Bias(v) => new.add_empty(Role::Bias, v.len(), wanted),
            Form::Weight(m, _) => new.add_empty(Role::Weight, m.len(), wanted),
            Form::Rows(_, m) => new.add(b, Role::Rows, &m.to_f32(), wanted),
            Form::Dense(m, _) => new.add_empty(Role::Dense, m.len(), wanted),
            Form::Kron(k) => {
                new.add(b, Role::W1, &k.w1.to_f32(), wanted);
                new.add(b, Role::W2, &k.w2.to_f32(), wanted);
            }
            Form::InBlocks(blocks) | Form::OutBlocks(blocks) => {
                new.add_empty(Role::Blocks, blocks.blocks.len(), wanted);
            }
            Form::OutPairs(p) => {
                new.add_empty(Role::Factors, p.f.len(), wanted);
                new.add_empty(Role::PartnerFactors, p.h.len(), wanted);
            }
            Form::FromBase(_) => return Err(Error::internal("a form that was to be made from the base")),
        }
        Ok(new)
    }

    fn add(&mut self, b: &B, role: Role, values: &[f32], wanted: &dyn Fn(Role) -> bool) {
        self.add_numbers(role, values.len(), buf_of(b, values), wanted);
    }

    /// A tensor whose numbers the way back does not read here.
    fn add_empty(&mut self, role: Role, len: usize, wanted: &dyn Fn(Role) -> bool) {
        self.add_numbers(role, len, Arc::default(), wanted);
    }

    fn add_numbers(&mut self, role: Role, len: usize, values: Arc<B::Buf>, wanted: &dyn Fn(Role) -> bool) {
        let tensor = Tensor {
            role,
            values,
            grad: B::Buf::default(),
            wanted: wanted(role),
            len,
        };
        self.tensors.push(tensor);
    }

    fn low_rank(&mut self, b: &B, l: &LowRank, wanted: &dyn Fn(Role) -> bool) {
        self.add_empty(Role::A, l.a.len(), wanted);
        self.add_empty(Role::B, l.b.len(), wanted);
        l.mid.iter().for_each(|mid| self.add(b, Role::Mid, mid, wanted));
        l.out.iter().for_each(|out| self.add(b, Role::Out, out, wanted));
        if let Form::LowRank(l) | Form::InLowRank(l) | Form::Dora(l, _) = &mut self.form {
            (l.a, l.b) = (l.a.without_numbers(), l.b.without_numbers());
        }
    }

    /// Takes note of what runs it.
    fn runs_by(&mut self, op: &Op<B>) {
        match op.steps.first().map(|step| &*step.action) {
            Some(Action::LowRank(l)) => self.factors = (Some(l.a.clone()), Some(l.b.clone())),
            Some(Action::Gather(l)) => self.factors.1 = Some(l.b.clone()),
            _ => {}
        }
    }

    /// Whether it changes what goes into its module.
    pub fn is_input(&self) -> bool {
        matches!(self.form, Form::InScale(_) | Form::InBlocks(_) | Form::InLowRank(_))
    }

    /// Whether its way back reads what the module gave before it.
    pub fn reads_output(&self) -> bool {
        matches!(
            self.form,
            Form::OutScale(_) | Form::OutScaleNoBias(_) | Form::OutPairs(_) | Form::OutBlocks(_) | Form::Dora(..)
        )
    }

    /// Whether it changes what the module gives without its bias.
    pub fn leaves_bias(&self) -> bool {
        matches!(self.form, Form::OutScaleNoBias(_) | Form::Dora(..))
    }

    /// How many steps of its module's program on the output it is.
    pub fn output_steps(&self) -> usize {
        match self.form {
            Form::Weight(..) | Form::Bias(_) => 0,
            Form::Dora(..) => 2,
            _ if self.is_input() => 0,
            _ => 1,
        }
    }

    /// Whether the numbers of a tensor have the order of the module's outputs, which a model's file may have changed.
    pub fn by_output(&self, role: Role) -> bool {
        role.by_output() && !self.is_input()
    }

    /// Whether anything of it is to have a gradient.
    pub fn learns(&self) -> bool {
        self.tensors.iter().any(|t| t.wanted)
    }
}

/// The gradient by what stands before the first token.
pub enum TrainedPrefix<B: Backend> {
    /// Nothing does.
    None,
    /// Input embeddings, `[n][hidden_size]`.
    Embeddings(B::Buf),
    /// For each layer keys and values, `[n][kv_width]`, in the order of the model's file.
    KeysAndValues(Vec<[B::Buf; 2]>),
}

/// All that an adapter trains.
pub struct Trained<B: Backend> {
    /// By [`Site::index`].
    sites: Vec<Vec<TrainedForm<B>>>,
    /// Layers of the model under the adapter.
    n_layers: usize,
    /// What stands before the first token.
    pub prefix: TrainedPrefix<B>,
    /// The token whose embedding never learns: it only fills up short sequences. In transformers' models that is the `padding_idx` of the
    /// embedding, in PEFT's layers on it too (LoRA's A, saved tables, single rows); as an output the token learns as any other.
    pub padding: Option<u32>,
}

impl<B: Backend> Trained<B> {
    /// Nothing, of a model with so many layers.
    pub fn new(n_layers: usize) -> Self {
        Trained {
            sites: std::iter::repeat_with(Vec::new).take(Site::count(n_layers)).collect(),
            n_layers,
            prefix: TrainedPrefix::None,
            padding: None,
        }
    }

    /// Another form, of whose tensors those that are `wanted` have gradients.
    ///
    /// # Errors
    /// `Internal`: a form that the base was to make others of.
    pub fn add(&mut self, b: &B, site: Site, form: &Form, wanted: &dyn Fn(Role) -> bool) -> Result<()> {
        let form = TrainedForm::new(b, form, wanted).map_err(|e| e.item(site.gguf_name()))?;
        self.sites[site.index()].push(form);
        Ok(())
    }

    /// Takes note of what runs the forms: `attached` is of the same.
    pub fn runs_by(&mut self, attached: &Attached<B>) {
        for (forms, ops) in self.sites.iter_mut().zip(&attached.sites) {
            let (mut ins, mut outs) = (ops.ins.iter(), ops.outs.iter());
            for form in forms {
                let op = match form.form {
                    Form::Weight(..) | Form::Bias(_) => None,
                    _ if form.is_input() => ins.next(),
                    _ => outs.next(),
                };
                op.into_iter().for_each(|op| form.runs_by(op));
            }
        }
    }

    /// Trains what stands before the first token.
    pub fn add_prefix(&mut self, b: &B, prefix: &PrefixOn<B>) {
        let zeros = |like: &B::Buf| {
            let mut buf = B::Buf::default();
            b.write(&vec![0.0; b.read(like).len()], &mut buf);
            buf
        };
        self.prefix = match prefix {
            PrefixOn::Embeddings(rows) => TrainedPrefix::Embeddings(zeros(rows)),
            PrefixOn::KeysAndValues(layers) => {
                TrainedPrefix::KeysAndValues(layers.iter().map(|(k, v)| [zeros(k), zeros(v)]).collect())
            }
        };
    }

    /// Sets all gradients to zero.
    pub fn zero(&mut self, b: &B)
    where
        B: Backprop,
    {
        for t in self.sites.iter_mut().flatten().flat_map(|f| &mut f.tensors) {
            if t.wanted {
                b.zeros(&mut t.grad, t.len);
            }
        }
        let zero = |grad: &mut B::Buf| {
            let len = b.read(grad).len();
            b.zeros(grad, len);
        };
        match &mut self.prefix {
            TrainedPrefix::None => {}
            TrainedPrefix::Embeddings(grad) => zero(grad),
            TrainedPrefix::KeysAndValues(layers) => layers.iter_mut().flatten().for_each(zero),
        }
    }

    /// The forms at a site.
    pub fn at(&mut self, site: Site) -> &mut [TrainedForm<B>] {
        &mut self.sites[site.index()]
    }

    /// The same, to read.
    pub fn forms(&self, site: Site) -> &[TrainedForm<B>] {
        &self.sites[site.index()]
    }

    /// The lowest layer that anything of is trained in: below it gradients need not go. The number of layers if there is none; `None` where
    /// gradients go to the embeddings.
    pub fn lowest_layer(&self) -> Option<usize> {
        let learns = |site: Site| self.forms(site).iter().any(TrainedForm::learns);
        match self.prefix {
            TrainedPrefix::Embeddings(_) => return None,
            TrainedPrefix::KeysAndValues(_) => return Some(0),
            TrainedPrefix::None if learns(Site::Embed) => return None,
            TrainedPrefix::None => {}
        }
        let any = |layer: &usize| Part::ALL.iter().any(|part| learns(Site::Layer(*layer, *part)));
        Some((0..self.n_layers).find(any).unwrap_or(self.n_layers))
    }
}

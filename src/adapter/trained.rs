//! An adapter's forms as training sees them: numbers in f32, each with its gradient.

use super::Lowered;
use super::forms::{Form, LowRank};
use crate::error::{Error, Result};
use crate::model::Site;
use crate::model::backend::Backend;
use crate::model::backprop::Backprop;

/// What a tensor is to its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A of a low-rank update, `[rank][in]`.
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
    /// A bias, `[out]`: added, or in place of the module's.
    Bias,
    /// In place of the module's weight.
    Weight,
}

impl Role {
    /// Whether it has a row for each output.
    pub fn by_output(self) -> bool {
        matches!(self, Role::B | Role::Out | Role::Magnitude | Role::Factors | Role::Bias)
    }
}

/// A tensor of a form.
pub struct Tensor<B: Backend> {
    /// What it is to the form.
    pub role: Role,
    /// Its numbers.
    pub values: B::Buf,
    /// The gradient of the loss by them: a sum over all that was run since it was made.
    pub grad: B::Buf,
}

/// A form of one site, in the order of the model's file.
pub struct TrainedForm<B: Backend> {
    /// What.
    pub form: Form,
    /// Its tensors.
    pub tensors: Vec<Tensor<B>>,
    /// A^T of a low-rank update, `[in][rank]`.
    pub turned: B::Buf,
}

impl<B: Backend> TrainedForm<B> {
    /// `form` with gradients of zero.
    ///
    /// # Errors
    /// One that has no way back yet.
    pub fn new(b: &B, form: &Form) -> Result<Self> {
        let mut tensors = Vec::new();
        let mut turned = B::Buf::default();
        let mut add = |role: Role, values: &[f32]| {
            let mut tensor = Tensor {
                role,
                values: B::Buf::default(),
                grad: B::Buf::default(),
            };
            b.write(values, &mut tensor.values);
            b.write(&vec![0.0; values.len()], &mut tensor.grad);
            tensors.push(tensor);
        };
        let mut low_rank = |l: &LowRank, add: &mut dyn FnMut(Role, &[f32])| {
            add(Role::A, &l.a.to_f32());
            add(Role::B, &l.b.to_f32());
            l.mid.iter().for_each(|mid| add(Role::Mid, mid));
            l.out.iter().for_each(|out| add(Role::Out, out));
            b.write(&l.a.transposed().to_f32(), &mut turned);
        };
        match form {
            Form::LowRank(l) => low_rank(l, &mut add),
            Form::Dora(l, magnitude) => {
                low_rank(l, &mut add);
                add(Role::Magnitude, magnitude);
            }
            Form::InScale(v) | Form::OutScale(v) => add(Role::Factors, v),
            Form::OutBias(v) | Form::Bias(v) => add(Role::Bias, v),
            Form::Weight(m, _) => add(Role::Weight, &m.to_f32()),
            other => {
                let e = Error::unsupported("Graft does not train this yet");
                return Err(e.found(other.name()));
            }
        }
        Ok(TrainedForm {
            form: form.clone(),
            tensors,
            turned,
        })
    }

    /// The tensor that is `role` to the form, if it has one.
    pub fn tensor(&self, role: Role) -> Option<&Tensor<B>> {
        self.tensors.iter().find(|t| t.role == role)
    }

    /// Whether it adds to what its module gives, and no more.
    pub fn is_sum(&self) -> bool {
        matches!(
            self.form,
            Form::LowRank(_) | Form::OutBias(_) | Form::Bias(_) | Form::Weight(..)
        )
    }
}

/// All that an adapter trains.
pub struct Trained<B: Backend> {
    /// By [`Site::index`].
    sites: Vec<Vec<TrainedForm<B>>>,
    /// Layers of the model under the adapter.
    n_layers: usize,
}

impl<B: Backend> Trained<B> {
    /// Nothing, of a model with so many layers.
    pub fn new(n_layers: usize) -> Self {
        Trained {
            sites: std::iter::repeat_with(Vec::new).take(Site::count(n_layers)).collect(),
            n_layers,
        }
    }

    /// Another form.
    ///
    /// # Errors
    /// As [`TrainedForm::new`].
    pub fn add(&mut self, b: &B, site: Site, form: &Form) -> Result<()> {
        let form = TrainedForm::new(b, form).map_err(|e| e.item(site.gguf_name()))?;
        self.sites[site.index()].push(form);
        Ok(())
    }

    /// Sets all gradients to zero.
    pub fn zero(&mut self, b: &B)
    where
        B: Backprop,
    {
        for t in self.sites.iter_mut().flatten().flat_map(|f| &mut f.tensors) {
            let len = b.read(&t.values).len();
            b.zeros(&mut t.grad, len);
        }
    }

    /// The forms at a site.
    pub fn at(&mut self, site: Site) -> &mut [TrainedForm<B>] {
        &mut self.sites[site.index()]
    }

    /// The lowest layer that anything of is trained in: below it gradients need not go. The number of layers if there is none; `None` where
    /// gradients go to the embeddings.
    pub fn lowest_layer(&self) -> Option<usize> {
        if !self.sites[Site::Embed.index()].is_empty() {
            return None;
        }
        let any = |layer: &usize| {
            crate::model::Part::ALL
                .iter()
                .any(|part| !self.sites[Site::Layer(*layer, *part).index()].is_empty())
        };
        Some((0..self.n_layers).find(any).unwrap_or(self.n_layers))
    }
}

/// Whether an adapter can be trained as far as what is not a form says.
///
/// # Errors
/// What Graft does not train yet.
pub fn check(lowered: &Lowered) -> Result<()> {
    let not = |what: &str| Err(Error::unsupported(format!("Graft does not train {what} yet")));
    if lowered.prefix.is_some() {
        return not("what stands before the text");
    }
    if lowered.layers.is_some() {
        return not("repeated layers");
    }
    if lowered.invocation.is_some() {
        return not("updates that begin at invocation tokens");
    }
    Ok(())
}

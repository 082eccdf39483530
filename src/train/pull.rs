//! From the gradients of forms to those of the file's tensors: the way back through each method's lowering, which is in
//! [`crate::adapter::methods`]. To add a method: its function, and its line in [`METHODS`].

use super::parameters::Parameters;
use crate::adapter::forms::Form;
use crate::adapter::trained::Role;
use crate::error::{Error, Result};

/// A form at a module, and the gradients of its tensors, in the order of the Hugging Face module.
pub(super) struct Pulled<'a> {
    /// The module's path.
    pub path: &'a str,
    pub form: &'a Form,
    pub grads: Vec<(Role, Vec<f32>)>,
    /// What multiplies the module's low-rank update, if it has one.
    pub scale: f32,
}

impl Pulled<'_> {
    /// The gradient of what is `role` to the form.
    fn of(&self, role: Role) -> &[f32] {
        let found = self.grads.iter().find(|g| g.0 == role);
        found.map_or(&[], |g| &g.1)
    }

    fn key(&self, name: &str) -> String {
        format!("base_model.model.{}.{name}", self.path)
    }

    /// Hands the gradient of `role` to the tensor `name` of the module.
    fn hand(&self, role: Role, name: &str, parameters: &mut Parameters) -> Result<()> {
        parameters.add(&self.key(name), self.of(role))
    }

    /// The numbers of the tensor `name` of the module.
    fn values(&self, name: &str, parameters: &Parameters) -> Result<Vec<f32>> {
        let key = self.key(name);
        let p = parameters.get(&key);
        p.map(|p| p.values.clone())
            .ok_or_else(|| Error::internal("a form without its tensor").item(key))
    }
}

/// Adds what a form's gradients are to the tensors' own.
type Pull = fn(&Pulled, &mut Parameters) -> Result<()>;

/// By `peft_type`.
static METHODS: &[(&str, Pull)] = &[
    ("LORA", lora),
    ("IA3", |p, to| p.hand(Role::Factors, "ia3_l", to)),
    ("ADALORA", adalora),
    ("VERA", vera),
    ("LOHA", loha),
    ("MISS", miss),
    ("BEFT", |p, to| p.hand(Role::Bias, "beft_bias", to)),
    ("LN_TUNING", |p, to| p.hand(Role::Weight, "ln_tuning_layers.weight", to)),
];

/// The function of a method.
///
/// # Errors
/// One that Graft does not train yet.
pub(super) fn of(method: &str) -> Result<Pull> {
    METHODS.iter().find(|m| m.0 == method).map(|m| m.1).ok_or_else(|| {
        let names: Vec<_> = METHODS.iter().map(|m| m.0).collect();
        let e = Error::unsupported("Graft does not train this method yet").item("peft_type");
        e.expected(names.join(", ")).found(method)
    })
}

/// A replaced parameter of the base, whatever the method; `false` for any other form.
pub(super) fn replaced(p: &Pulled, to: &mut Parameters) -> Result<bool> {
    let (role, name) = match p.form {
        Form::Weight(..) => (Role::Weight, "weight"),
        Form::Bias(_) => (Role::Bias, "bias"),
        _ => return Ok(false),
    };
    for key in [name.to_owned(), format!("base_layer.{name}")] {
        if to.get(&p.key(&key)).is_some() {
            p.hand(role, &key, to)?;
            return Ok(true);
        }
    }
    Ok(false)
}

fn lora(p: &Pulled, to: &mut Parameters) -> Result<()> {
    match p.form {
        Form::LowRank(l) | Form::Dora(l, _) if !l.fixed => {
            p.hand(Role::A, "lora_A.weight", to)?;
            p.hand(Role::B, "lora_B.weight", to)?;
            if matches!(p.form, Form::Dora(..)) {
                let names = ["lora_magnitude_vector", "lora_magnitude_vector.weight"];
                let there = names.iter().find(|name| to.get(&p.key(name)).is_some());
                p.hand(Role::Magnitude, there.unwrap_or(&names[0]), to)?;
            }
            Ok(())
        }
        Form::OutBias(_) => {
            // It stands there times alpha / r, as the update of the same module.
            let bias: Vec<f32> = p.of(Role::Bias).iter().map(|g| g * p.scale).collect();
            to.add(&p.key("lora_B.bias"), &bias)
        }
        _ => Ok(()),
    }
}

/// a_k = E_k A_k.
fn adalora(p: &Pulled, to: &mut Parameters) -> Result<()> {
    let (a, e) = (p.values("lora_A", to)?, p.values("lora_E", to)?);
    let cols = a.len() / e.len().max(1);
    let (mut d_a, mut d_e) = (p.of(Role::A).to_vec(), Vec::with_capacity(e.len()));
    for ((d, a), e) in d_a.chunks_exact_mut(cols).zip(a.chunks_exact(cols)).zip(&e) {
        d_e.push(d.iter().zip(a).map(|(d, a)| d * a).sum());
        d.iter_mut().for_each(|d| *d *= e);
    }
    to.add(&p.key("lora_A"), &d_a)?;
    to.add(&p.key("lora_E"), &d_e)?;
    p.hand(Role::B, "lora_B", to)
}

/// The projections are not trained.
fn vera(p: &Pulled, to: &mut Parameters) -> Result<()> {
    p.hand(Role::Mid, "vera_lambda_d", to)?;
    p.hand(Role::Out, "vera_lambda_b", to)
}

/// Rows of a are products of rows of the two right factors, columns of b of columns of the two left ones.
fn loha(p: &Pulled, to: &mut Parameters) -> Result<()> {
    let names = ["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"];
    let [w1a, w1b, w2a, w2b] = names.map(|name| p.values(name, to));
    let (w1a, w1b, w2a, w2b) = (w1a?, w1b?, w2a?, w2b?);
    let Form::LowRank(l) = p.form else {
        return Err(Error::unsupported("Graft does not train LoHa of so high a rank yet").item(p.path));
    };
    let (rows, cols) = (l.b.rows(), l.a.cols());
    let r = w1b.len() / cols.max(1);
    let mut d = [&w1a, &w1b, &w2a, &w2b].map(|w| vec![0.0f32; w.len()]);
    for (kl, d_a) in p.of(Role::A).chunks_exact(cols).enumerate() {
        let (k, l) = (kl / r, kl % r);
        for (c, g) in d_a.iter().enumerate() {
            d[1][k * cols + c] += g * w2b[l * cols + c];
            d[3][l * cols + c] += g * w1b[k * cols + c];
        }
    }
    for (row, d_b) in p.of(Role::B).chunks_exact(r * r).enumerate().take(rows) {
        for (kl, g) in d_b.iter().enumerate() {
            let (k, l) = (kl / r, kl % r);
            d[0][row * r + k] += g * w2a[row * r + l];
            d[2][row * r + l] += g * w1a[row * r + k];
        }
    }
    for (name, d) in names.into_iter().zip(d) {
        to.add(&p.key(name), &d)?;
    }
    Ok(())
}

/// b is miss_block, turned and repeated.
fn miss(p: &Pulled, to: &mut Parameters) -> Result<()> {
    let Form::LowRank(l) = p.form else {
        return Err(Error::unsupported("Graft does not train MiSS of this kind yet").item(p.path));
    };
    let rank = l.rank();
    let n = to.get(&p.key("miss_block")).map_or(0, |t| t.values.len());
    let period = n / rank.max(1);
    let mut d = vec![0.0f32; n];
    for (row, d_b) in p.of(Role::B).chunks_exact(rank).enumerate() {
        for (k, g) in d_b.iter().enumerate() {
            d[k * period + row % period.max(1)] += g;
        }
    }
    to.add(&p.key("miss_block"), &d)
}

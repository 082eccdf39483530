//! From the gradients of forms to those of the file's tensors: the way back through each method's lowering, which is in
//! [`crate::adapter::methods`]. To add a method: its function, and its line in [`METHODS`].

mod factors;
mod low_rank;
mod turns;

use super::parameters::Parameters;
use crate::adapter::forms::Form;
use crate::adapter::trained::Role;
use crate::error::{Error, Result};

/// A form, and the gradients of its tensors, in the order of the Hugging Face module.
pub(super) struct Pulled<'a> {
    pub form: &'a Form,
    pub grads: Vec<(Role, Vec<f32>)>,
}

impl Pulled<'_> {
    /// The gradient of what is `role` to the form.
    fn of(&self, role: Role) -> &[f32] {
        let found = self.grads.iter().find(|g| g.0 == role);
        found.map_or(&[], |g| &g.1)
    }
}

/// A module's forms, in their order.
pub(super) struct Module<'a> {
    /// The module's path.
    pub path: &'a str,
    pub forms: Vec<Pulled<'a>>,
    /// Reads the base's weights, in the order of the Hugging Face module.
    pub base: &'a dyn Fn() -> Vec<f32>,
}

impl Module<'_> {
    fn key(&self, name: &str) -> String {
        format!("base_model.model.{}.{name}", self.path)
    }

    /// The first of these names of which the module has a tensor.
    fn first<'n>(&self, names: &[&'n str], parameters: &Parameters) -> Result<&'n str> {
        let there = |name: &&&str| parameters.get(&self.key(name)).is_some();
        let found = names.iter().find(there).copied();
        found.ok_or_else(|| Error::internal("a form without its tensor").item(self.key(names[0])))
    }

    /// The numbers of the tensor `name` of the module.
    fn values<'p>(&self, name: &str, parameters: &'p Parameters) -> Result<&'p [f32]> {
        let key = self.key(name);
        match parameters.get(&key) {
            Some(p) => Ok(&p.values),
            None => Err(Error::internal("a form without its tensor").item(key)),
        }
    }

    /// Adds to the gradient of the tensor `name` of the module.
    fn add(&self, name: &str, grad: &[f32], parameters: &mut Parameters) -> Result<()> {
        parameters.add(&self.key(name), grad)
    }

    /// Hands the gradient of `role`, which a form of the method's own has, to the tensor `name` of the module.
    fn hand(&self, role: Role, name: &str, parameters: &mut Parameters) -> Result<()> {
        let own = |form: &&Pulled| !is_replaced(form.form) && !form.of(role).is_empty();
        self.forms
            .iter()
            .filter(own)
            .try_for_each(|form| self.add(name, form.of(role), parameters))
    }
}

/// A method, as training sees it.
pub(super) struct Method {
    /// Its `peft_type`.
    name: &'static str,
    /// The gradients that it reads. Others are not computed.
    reads: &'static [Role],
    /// Adds what the gradients of a module's forms are to those of its tensors.
    pub pull: fn(&Module, &mut Parameters) -> Result<()>,
    /// What the method does to its tensors before each step; whether it may have changed them.
    settle: fn(&mut Parameters) -> bool,
}

/// One whose tensors stand in place of others: see [`replaced`].
const REPLACED: Method = method("", &[], |_, _| Ok(()));

const fn method(
    name: &'static str,
    reads: &'static [Role],
    pull: fn(&Module, &mut Parameters) -> Result<()>,
) -> Method {
    Method {
        name,
        reads,
        pull,
        settle: |_| false,
    }
}

static METHODS: &[Method] = &[
    method("LORA", &[Role::A, Role::B, Role::Magnitude, Role::Bias], low_rank::lora),
    method("IA3", &[Role::Factors], |m, to| m.hand(Role::Factors, "ia3_l", to)),
    method("ADALORA", &[Role::A, Role::B], low_rank::adalora),
    method("LOHA", &[Role::A, Role::B, Role::Dense], factors::loha),
    method("LOKR", &[Role::W1, Role::W2, Role::Dense], factors::lokr),
    method("VERA", &[Role::Mid, Role::Out], low_rank::vera),
    Method {
        settle: turns::settle_oft,
        ..method("OFT", &[Role::Blocks], turns::oft)
    },
    method("BOFT", &[Role::Blocks, Role::Factors], turns::boft),
    method("HRA", &[Role::A, Role::B], turns::hra),
    method("ROAD", &[Role::Factors, Role::PartnerFactors], turns::road),
    method("MISS", &[Role::B, Role::Dense], factors::miss),
    method("BEFT", &[Role::Bias], |m, to| m.hand(Role::Bias, "beft_bias", to)),
    Method {
        name: "LN_TUNING",
        ..REPLACED
    },
    Method {
        name: "TRAINABLE_TOKENS",
        ..REPLACED
    },
    Method {
        name: "PROMPT_TUNING",
        ..REPLACED
    },
    Method {
        name: "PREFIX_TUNING",
        ..REPLACED
    },
];

/// The method that is to be trained.
///
/// # Errors
/// One that Graft does not train, or not so.
pub(super) fn of(name: &str, parameters: &Parameters) -> Result<&'static Method> {
    let Some(method) = METHODS.iter().find(|m| m.name == name) else {
        let names: Vec<_> = METHODS.iter().map(|m| m.name).collect();
        let e = Error::unsupported("Graft does not train this method").item("peft_type");
        return Err(e.expected(names.join(", ")).found(name));
    };
    // The file has what came out of it, not its weights.
    let projection = parameters.flag("prefix_projection", false);
    if name == "PREFIX_TUNING" && projection {
        let e = Error::unsupported("Graft does not train the projection of prefixes").item("prefix_projection");
        return Err(e.expected(false).found(true));
    }
    Ok(method)
}

impl Method {
    /// Whether the gradient of what is `role` to `form` is read; that of a replaced parameter always is.
    pub fn wants(&self, form: &Form, role: Role) -> bool {
        match form {
            form if is_replaced(form) => true,
            Form::LowRank(l) if l.fixed => false,
            _ => self.reads.contains(&role),
        }
    }

    /// Puts the tensors into the state in which the method trains them; whether that may have changed them.
    pub fn settle(&self, parameters: &mut Parameters) -> bool {
        (self.settle)(parameters)
    }
}

/// Whether it stands in place of a parameter of the base.
fn is_replaced(form: &Form) -> bool {
    matches!(form, Form::Weight(..) | Form::Bias(_) | Form::Rows(..))
}

/// What a replaced parameter is, and the names that its tensor may have.
fn replaced_names(form: &Form) -> Option<(Role, &'static [&'static str])> {
    Some(match form {
        Form::Weight(..) => (
            Role::Weight,
            &["weight", "base_layer.weight", "ln_tuning_layers.weight"],
        ),
        Form::Bias(_) => (Role::Bias, &["bias", "base_layer.bias", "ln_tuning_layers.bias"]),
        Form::Rows(..) => (
            Role::Rows,
            &["token_adapter.trainable_tokens_delta", "trainable_tokens_delta"],
        ),
        _ => return None,
    })
}

/// The key of the tensor that stands in place of a parameter of the module at `path`, if there is one.
pub(super) fn replaced_key(path: &str, form: &Form, parameters: &Parameters) -> Option<String> {
    let (_, names) = replaced_names(form)?;
    let mut keys = names.iter().map(|name| format!("base_model.model.{path}.{name}"));
    keys.find(|key| parameters.get(key).is_some())
}

/// The gradients of what stands in place of the base's parameters, whatever the method.
pub(super) fn replaced(m: &Module, to: &mut Parameters) -> Result<()> {
    for form in &m.forms {
        let Some((role, names)) = replaced_names(form.form) else {
            continue;
        };
        if !form.of(role).is_empty() {
            m.add(m.first(names, to)?, form.of(role), to)?;
        }
    }
    Ok(())
}

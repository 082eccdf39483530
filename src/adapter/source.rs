//! The tensors of an adapter folder, sorted by module: every tensor is claimed by the method or by what all methods share
//! (replaced modules, biases, embeddings), and one that nobody claims is an error.

use std::collections::{HashMap, HashSet};

use super::forms::{Form, SiteForms};
use super::matrix::Matrix;
use super::options::{self, Rule};
use super::{Lowered, rows};
use crate::error::{Error, Result};
use crate::format::{PeftFolder, TensorView};

/// Before every path in the base model.
const PREFIX: &str = "base_model.model.";
/// Before tensors that all modules share.
const SHARED_PREFIX: &str = "base_model.";
/// In the path of a base parameter that was saved beside the adapter's tensors on the same module.
const BASE_LAYER: &str = ".base_layer";

/// What a method says about its files.
pub struct Method {
    /// As the config spells it.
    pub peft_type: &'static str,
    /// What becomes of each field of the config that only this method has; a field that nobody knows must be off.
    pub options: &'static [(&'static str, Rule)],
    /// The ends of its tensors' names behind the module's path, without the dot.
    pub tensors: &'static [&'static str],
    /// Names of tensors that all modules share (behind `base_model.`, or alone in the prompt family).
    pub shared: &'static [&'static str],
    /// Makes forms of them.
    pub lower: fn(&Source) -> Result<Lowered>,
}

/// The method's tensors of one module.
pub struct Module<'a> {
    /// Path such as `model.layers.0.self_attn.q_proj`.
    pub path: &'a str,
    folder: &'a PeftFolder,
    names: &'static [&'static str],
    tensors: Vec<Option<TensorView<'a>>>,
}

impl<'a> Module<'a> {
    /// The tensor whose name ends in `.{name}` (one of [`Method::tensors`]), if it is there.
    pub fn get(&self, name: &str) -> Option<&TensorView<'a>> {
        let at = self.names.iter().position(|n| *n == name)?;
        self.tensors[at].as_ref()
    }

    /// The same, which must be there.
    pub fn need(&self, name: &str) -> Result<&TensorView<'a>> {
        self.get(name).ok_or_else(|| {
            Error::invalid("tensor is missing")
                .file(self.folder.tensors_path())
                .item(format!("{PREFIX}{}.{name}", self.path))
        })
    }

    /// The matrix `name`, which must be there.
    pub fn matrix(&self, name: &str) -> Result<Matrix> {
        matrix(self.need(name)?)
    }

    /// The vector `name` in f32, which must be there: a tensor with at most one dimension above 1.
    pub fn vector(&self, name: &str) -> Result<Vec<f32>> {
        vector(self.need(name)?)
    }

    /// An error at this module.
    pub fn error(&self, e: Error) -> Error {
        e.file(self.folder.tensors_path()).item(self.path)
    }
}

/// A tensor of two dimensions, neither of them 0.
pub fn matrix(t: &TensorView) -> Result<Matrix> {
    match t.shape[..] {
        [rows, cols] if rows > 0 && cols > 0 => Matrix::from_tensor(t, rows, cols),
        _ => Err(bad_shape(t, "two dimensions, neither 0")),
    }
}

/// A tensor with at most one dimension above 1, in f32.
pub fn vector(t: &TensorView) -> Result<Vec<f32>> {
    if t.elements() == 0 || t.shape.iter().filter(|d| **d > 1).count() > 1 {
        return Err(bad_shape(t, "a vector"));
    }
    Ok(Matrix::from_tensor(t, 1, t.elements())?.to_f32())
}

/// The error for a tensor of the wrong shape.
pub fn bad_shape(t: &TensorView, expected: impl std::fmt::Display) -> Error {
    t.error(
        Error::invalid("shape does not fit")
            .expected(expected)
            .found(format_args!("{:?}", t.shape)),
    )
}

/// A folder's tensors by module.
pub struct Source<'a> {
    /// The folder.
    pub folder: &'a PeftFolder,
    /// Which task's prompt is wanted, where the folder holds several.
    pub task_id: Option<usize>,
    modules: Vec<Module<'a>>,
    shared: HashMap<&'a str, TensorView<'a>>,
    replaced: Vec<SiteForms>,
    numbers: usize,
    in_place: usize,
}

impl<'a> Source<'a> {
    /// Sorts the tensors of `folder` for `method`.
    ///
    /// # Errors
    /// An option that is not done, a tensor that would not be applied.
    pub fn new(folder: &'a PeftFolder, method: &'static Method, task_id: Option<usize>) -> Result<Self> {
        options::check(folder, method.options)?;
        let mut source = Source {
            folder,
            task_id,
            modules: Vec::new(),
            shared: HashMap::new(),
            replaced: Vec::new(),
            numbers: 0,
            in_place: 0,
        };
        let mut index = HashMap::new();
        let tensors: Vec<TensorView<'a>> = folder.tensors().collect();
        let mut others = Vec::new();
        for t in tensors {
            let bare = t.name.strip_prefix(SHARED_PREFIX).unwrap_or(t.name);
            if method.shared.contains(&bare) {
                source.shared.insert(bare, t);
                continue;
            }
            let Some(path) = t.name.strip_prefix(PREFIX) else {
                return Err(not_applied(&t, method));
            };
            // The longest end that fits: `lora_B.bias` is no `bias`.
            let ends = |(_, end): &(usize, &&str)| path.strip_suffix(**end).is_some_and(|p| p.ends_with('.'));
            let found = method
                .tensors
                .iter()
                .enumerate()
                .filter(ends)
                .max_by_key(|(_, end)| end.len());
            let Some((which, end)) = found else {
                others.push((path, t));
                continue;
            };
            let module = &path[..path.len() - end.len() - 1];
            let at = *index.entry(module).or_insert_with(|| {
                source.modules.push(Module {
                    path: module,
                    folder,
                    names: method.tensors,
                    tensors: vec![None; method.tensors.len()],
                });
                source.modules.len() - 1
            });
            source.modules[at].tensors[which] = Some(t);
            source.numbers += t.elements();
        }
        let adapted: HashSet<&str> = index.into_keys().collect();
        for (path, t) in others {
            source.numbers += t.elements();
            let (path, form, own) = replaced(folder, path, &t, &adapted)?.ok_or_else(|| not_applied(&t, method))?;
            if matches!((&form, own), (Form::Bias(_), false)) {
                source.in_place += t.elements();
            }
            source.replaced.push(SiteForms {
                path: path.to_owned(),
                forms: vec![form],
            });
        }
        Ok(source)
    }

    /// The shared tensor `name`, if it is there.
    pub fn shared(&self, name: &str) -> Option<&TensorView<'a>> {
        self.shared.get(name)
    }

    /// The shared tensor `name`, which must be there.
    pub fn need_shared(&self, name: &str) -> Result<&TensorView<'a>> {
        self.shared(name).ok_or_else(|| {
            Error::invalid("tensor is missing")
                .file(self.folder.tensors_path())
                .item(name)
        })
    }

    /// The modules that have tensors of the method, in the order of the file.
    pub fn modules(&self) -> &[Module<'a>] {
        &self.modules
    }

    /// Numbers in the tensors of modules.
    pub fn numbers(&self) -> usize {
        self.numbers
    }

    /// Those of them that are biases of the base.
    pub fn numbers_in_place(&self) -> usize {
        self.in_place
    }

    /// Numbers in the tensors that all modules share.
    pub fn shared_numbers(&self) -> usize {
        self.shared.values().map(TensorView::elements).sum()
    }

    /// That rows are there where the option `trainable_token_indices` says so.
    ///
    /// # Errors
    /// They are missing.
    pub fn need_rows(&self) -> Result<()> {
        let field = "trainable_token_indices";
        let wanted = self.folder.value(field).is_some_and(|v| !v.is_null());
        let there = self
            .replaced
            .iter()
            .flat_map(|s| &s.forms)
            .any(|f| matches!(f, Form::Rows(..)));
        if wanted && !there {
            let e = Error::invalid("the rows of these tokens are missing")
                .expected("a tensor token_adapter.trainable_tokens_delta");
            return Err(self.folder.error(e, field));
        }
        Ok(())
    }

    /// Replaced parameters, then the forms that `each` makes of each module.
    pub fn lower(&self, each: impl Fn(&Module<'a>) -> Result<Vec<Form>>) -> Result<Lowered> {
        let mut sites = self.replaced.clone();
        for module in &self.modules {
            let forms = each(module)?;
            if !forms.is_empty() {
                sites.push(SiteForms {
                    path: module.path.to_owned(),
                    forms,
                });
            }
        }
        Ok(Lowered::of_sites(sites))
    }
}

/// A tensor in place of a parameter of the base: a module of `modules_to_save`, a bias, an embedding, single rows of one; and whether it is
/// the adapter's own, not a changed one of the base. `None` if it is no such thing.
fn replaced<'p>(
    folder: &PeftFolder,
    path: &'p str,
    t: &TensorView,
    adapted: &HashSet<&str>,
) -> Result<Option<(&'p str, Form, bool)>> {
    if let Some(module) = path.strip_suffix(".token_adapter.trainable_tokens_delta") {
        return Ok(Some((module, rows::of_option(folder, module, t)?, true)));
    }
    let Some((module, parameter)) = path.rsplit_once('.') else {
        return Ok(None);
    };
    // On an adapted module PEFT writes the base's own parameter with an infix; elsewhere without.
    let module = match module.strip_suffix(BASE_LAYER) {
        Some(module) if adapted.contains(module) => module,
        Some(_) => return Ok(None),
        None => module,
    };
    // A module of `modules_to_save` (PEFT matches the ends of paths), or one within it, has tensors of its own; others are the base's.
    let saved = folder.list("modules_to_save")?.unwrap_or_default();
    let mut paths = std::iter::successors(Some(module), |path| path.rsplit_once('.').map(|(parent, _)| parent));
    let own = paths.any(|path| {
        saved
            .iter()
            .filter_map(|v| v.as_str())
            .any(|entry| path.ends_with(entry))
    });
    // What PEFT does not save by itself must be said: the base's own embeddings it may add, biases where the option says so.
    let is_table = ["embed_tokens", "lm_head"].iter().any(|name| module.ends_with(name));
    let biases = folder.str("bias")?.unwrap_or("none") != "none";
    let expected = match parameter {
        "weight" if !(own || is_table) => "its module in modules_to_save",
        "bias" if !(own || biases) => "its module in modules_to_save, or the option bias",
        _ => "",
    };
    if !expected.is_empty() {
        let e = Error::mismatch("parameter of the base that adapter_config.json does not speak of");
        return Err(t.error(e.expected(expected)));
    }
    let form = match (parameter, t.shape.len()) {
        ("weight", 1) => {
            let values = vector(t)?;
            Form::Weight(Matrix::from_f32(1, values.len(), &values), !own)
        }
        ("weight", _) => Form::Weight(matrix(t)?, !own),
        ("bias", _) => Form::Bias(vector(t)?),
        _ => return Ok(None),
    };
    Ok(Some((module, form, own)))
}

fn not_applied(t: &TensorView, method: &Method) -> Error {
    let names = |names: &[&str]| names.join(", ");
    let e = Error::unsupported("tensor that would not be applied");
    t.error(
        e.expected(match (method.tensors, method.shared) {
            ([], shared) => names(shared),
            (tensors, _) => format!("{PREFIX}<module>. and {}, or a parameter of the base", names(tensors)),
        })
        .found(format_args!("{:?}", t.shape)),
    )
}

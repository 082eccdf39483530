//! Which modules are adapted.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::model::{Part, Site};
use crate::runtime::Model;

/// Which modules are adapted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// All that the method is made for: every linear map of the layers, every norm, or the token embedding.
    AllLinear,
    /// Modules whose path is one of these, or ends with one behind a dot.
    Named(Vec<String>),
    /// Modules whose whole path matches.
    Matching(String),
}

impl Targets {
    /// `all-linear`, names separated by commas, or else a regular expression, as PEFT's `target_modules` reads a text.
    pub fn parse(text: &str) -> Self {
        let plain = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
        match text {
            "all-linear" => Targets::AllLinear,
            text if text.split(',').all(|name| plain(name.trim())) => {
                Targets::Named(text.split(',').map(|name| name.trim().to_owned()).collect())
            }
            text => Targets::Matching(text.to_owned()),
        }
    }

    /// The config's `target_modules`. For [`Targets::AllLinear`] PEFT saves the names that it found.
    pub(super) fn value(&self, model: &Model, sites: &[Site]) -> Value {
        match self {
            Targets::AllLinear if sites == [Site::Embed] => json!(Site::Embed.hf_path(model.spec().post_norms)),
            Targets::AllLinear => json!(names(model, sites)),
            Targets::Named(names) => json!(names),
            Targets::Matching(expression) => json!(expression),
        }
    }
}

/// What kind of module a method can stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// Linear maps: of the layers, and the head, where that is named.
    Linear,
    /// Norms.
    Norms,
    /// The token embedding, and a head of its own, where that is named.
    Tables,
    /// Norms and tables.
    Parameters,
}

/// All modules of the kind, in the order of the layers.
fn all(model: &Model, on: On) -> Vec<Site> {
    let spec = model.spec();
    let layer = model.weights().layers.first();
    let there = |part: &Part| layer.is_some_and(|l| l.has(*part));
    let of_layers = |norms: bool| {
        let parts = Part::ALL
            .into_iter()
            .filter(move |part| Site::Layer(0, *part).is_norm() == norms);
        let parts: Vec<Part> = parts.filter(there).collect();
        (0..spec.n_layers).flat_map(move |layer| parts.clone().into_iter().map(move |part| Site::Layer(layer, part)))
    };
    match on {
        On::Linear => of_layers(false).chain([Site::Head]).collect(),
        On::Norms => of_layers(true).chain([Site::OutputNorm]).collect(),
        On::Tables if model.tied_head() => vec![Site::Embed],
        On::Tables => vec![Site::Embed, Site::Head],
        On::Parameters => [Site::Embed]
            .into_iter()
            .chain(of_layers(true))
            .chain([Site::OutputNorm, Site::Head])
            .collect(),
    }
}

/// The last names of the modules' paths, each once.
fn names(model: &Model, sites: &[Site]) -> Vec<String> {
    let mut names: Vec<String> = sites
        .iter()
        .map(|s| s.hf_path(model.spec().post_norms))
        .filter_map(|path| path.rsplit('.').next().map(str::to_owned))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The norms and tables that these names of `modules_to_save` mean. PEFT takes all modules whose path ends so, in the middle of a word too:
/// `norm` means every norm.
///
/// # Errors
/// A name that is not the last of any.
pub(super) fn saved(model: &Model, named: &[String]) -> Result<Vec<Site>> {
    let all = all(model, On::Parameters);
    let path = |s: &Site| s.hf_path(model.spec().post_norms);
    let is = |s: &Site, name: &str| path(s) == name || path(s).ends_with(&format!(".{name}"));
    if let Some(name) = named.iter().find(|name| !all.iter().any(|s| is(s, name))) {
        let e = Error::usage("no module of the model matches").item("modules_to_save");
        return Err(e.expected(names(model, &all).join(", ")).found(name));
    }
    let ends = |s: &Site| named.iter().any(|name| path(s).ends_with(name.as_str()));
    Ok(all.iter().copied().filter(ends).collect())
}

/// The modules of the kind `on` that `targets` name, in the order of the layers.
///
/// # Errors
/// Targets that match nothing, with the names that there are; what is no regular expression.
pub(super) fn sites(model: &Model, targets: &Targets, on: On) -> Result<Vec<Site>> {
    const ITEM: &str = "targets";
    let all = all(model, on);
    let path = |s: &Site| s.hf_path(model.spec().post_norms);
    let nothing = |found: String| {
        let e = Error::usage("no module of the model matches").item(ITEM);
        Err(e.expected(names(model, &all).join(", ")).found(found))
    };
    let fits: Vec<Site> = match targets {
        Targets::AllLinear if on == On::Norms => all.clone(),
        Targets::AllLinear => all.iter().copied().filter(|s| *s != Site::Head).collect(),
        Targets::Named(names) => {
            let is = |path: &str, name: &str| path == name || path.strip_suffix(name).is_some_and(|p| p.ends_with('.'));
            if let Some(name) = names.iter().find(|name| !all.iter().any(|s| is(&path(s), name))) {
                return nothing(name.clone());
            }
            all.iter()
                .copied()
                .filter(|s| names.iter().any(|name| is(&path(s), name)))
                .collect()
        }
        Targets::Matching(expression) => {
            let re = regex::RegexBuilder::new(&format!("^(?:{expression})$"))
                .size_limit(1 << 20)
                .build();
            let re = re.map_err(|e| Error::usage(format!("not a regular expression: {e}")).item(ITEM))?;
            all.iter().copied().filter(|s| re.is_match(&path(s))).collect()
        }
    };
    match fits.is_empty() {
        true => nothing(format!("{targets:?}")),
        false => Ok(fits),
    }
}

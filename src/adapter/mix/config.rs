//! The config of a mix: that of the first adapter, with what the mix changes.

use serde_json::{Map, Value, json};

use crate::format::PeftFolder;

/// Fields that narrow down `target_modules`. Those of one adapter would be wrong for the modules of another.
const NARROWING: [&str; 3] = ["layers_to_transform", "layers_pattern", "exclude_modules"];

/// The first adapter's fields, with `target_modules` for the modules at `paths` (those of all adapters, as they are in the
/// file).
pub(super) fn of(folders: &[&PeftFolder], paths: &[&str]) -> Map<String, Value> {
    let mut config: Map<String, Value> = folders
        .first()
        .into_iter()
        .flat_map(|f| f.fields())
        .map(|(field, value)| (field.to_owned(), value.clone()))
        .collect();
    let targets = names(folders, "target_modules", paths, &|_| true);
    for field in NARROWING {
        if config.contains_key(field) {
            config.insert(field.into(), Value::Null);
        }
    }
    config.insert("target_modules".into(), targets);
    config.insert("inference_mode".into(), true.into());
    config
}

/// Sets what a mix of LoRA has: one rank for all modules, and a scale of 1.
///
/// PEFT leaves `use_rslora` as the first adapter has it, which would make the scale the root of the rank.
pub(super) fn set_rank(config: &mut Map<String, Value>, rank: usize) {
    for (field, value) in [
        ("r", json!(rank)),
        ("lora_alpha", json!(rank)),
        ("rank_pattern", json!({})),
        ("alpha_pattern", json!({})),
        ("use_rslora", json!(false)),
    ] {
        config.insert(field.into(), value);
    }
}

/// The names in the list `field` of all adapters, as PEFT unites them, where they say exactly which of `paths` have the
/// property `is`; otherwise (regular expressions, layers left out) those paths in full.
pub(super) fn names(folders: &[&PeftFolder], field: &str, paths: &[&str], is: &dyn Fn(&str) -> bool) -> Value {
    united(folders, field)
        .filter(|names| {
            let named = |path: &str| names.iter().any(|name| path == name || below(path, name));
            paths.iter().all(|path| named(path) == is(path))
        })
        .map_or_else(|| paths.iter().filter(|path| is(path)).copied().collect(), Value::from)
}

/// Whether `name` is the end of `path`.
fn below(path: &str, name: &str) -> bool {
    path.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
}

/// All names in the lists `field`, sorted, without those that the end of them names as well; `None` where one is not a list of names, or something narrows it down.
fn united(folders: &[&PeftFolder], field: &str) -> Option<Vec<String>> {
    let mut names = std::collections::BTreeSet::new();
    for folder in folders {
        // A bare 0 is a layer, not "off".
        let everywhere = |v: &Value| v.is_null() || v.as_array().is_some_and(Vec::is_empty);
        if NARROWING.iter().filter_map(|f| folder.value(f)).any(|v| !everywhere(v)) {
            return None;
        }
        for name in folder.list(field).ok()?? {
            names.insert(name.as_str()?.to_owned());
        }
    }
    Some(
        names
            .iter()
            .filter(|name| !names.iter().any(|end| below(name, end)))
            .cloned()
            .collect(),
    )
}

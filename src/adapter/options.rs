//! Refusing by name what is not understood: an option that changes the maths must never be passed over in silence.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::format::PeftFolder;

/// What a method does with one field of `adapter_config.json`.
#[derive(Clone, Copy)]
pub enum Rule {
    /// Read by the method, or without any effect on a saved adapter's result.
    Fine,
    /// Changes the maths in a way that is not done yet: only its "off" value passes.
    Off,
    /// A string that must be one of these (or absent).
    OneOf(&'static [&'static str]),
}

/// Whether a value says "not used": null, false, zero, or an empty list or text.
pub fn is_off(v: &Value) -> bool {
    match v {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty() || s == "none",
        Value::Array(a) => a.is_empty(),
        // PEFT takes an empty object for "on, with defaults" (kasa_config).
        Value::Object(_) => false,
    }
}

/// Fields that every PEFT config has and that say nothing about the maths.
const COMMON: &[&str] = &[
    "peft_type",
    "peft_version",
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "runtime_config",
];

/// Checks every field of the folder's config against `rules`; a field without a rule must be off.
pub fn check(folder: &PeftFolder, rules: &[(&str, Rule)]) -> Result<()> {
    for (field, value) in folder.fields() {
        let rule = match rules.iter().find(|r| r.0 == field) {
            Some(r) => r.1,
            None if COMMON.contains(&field) => Rule::Fine,
            None => Rule::Off,
        };
        let (ok, expected) = match rule {
            Rule::Fine => (true, String::new()),
            Rule::Off => (is_off(value), "it off (null or false)".to_owned()),
            Rule::OneOf(allowed) => (
                value.is_null() || value.as_str().is_some_and(|s| allowed.contains(&s)),
                allowed.join(", "),
            ),
        };
        if !ok {
            return Err(Error::unsupported("option that Graft does not do")
                .file(folder.config_path())
                .item(field)
                .expected(expected)
                .found(value));
        }
    }
    Ok(())
}

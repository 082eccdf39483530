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

/// Fields of every method's config.
const COMMON: &[(&str, Rule)] = &[
    // They say nothing about the maths.
    ("peft_type", Rule::Fine),
    ("peft_version", Rule::Fine),
    ("auto_mapping", Rule::Fine),
    ("base_model_name_or_path", Rule::Fine),
    ("revision", Rule::Fine),
    ("inference_mode", Rule::Fine),
    ("runtime_config", Rule::Fine),
    // The tensors' names tell which modules are adapted or replaced.
    ("target_modules", Rule::Fine),
    ("exclude_modules", Rule::Fine),
    ("modules_to_save", Rule::Fine),
    ("layers_to_transform", Rule::Fine),
    ("layers_pattern", Rule::Fine),
    (
        "bias",
        Rule::OneOf(&[
            "none",
            "all",
            "lora_only",
            "vera_only",
            "boft_only",
            "oft_only",
            "hra_only",
            "miss_only",
        ]),
    ),
    // Tensors are in logical orientation whatever this says (the module's type decides in PEFT).
    ("fan_in_fan_out", Rule::Fine),
    // How training began.
    ("init_weights", Rule::Fine),
    ("task_type", Rule::OneOf(&["CAUSAL_LM"])),
];

/// Checks every field of the folder's config against `rules`, then against those of all methods; a field without a rule must be off.
pub fn check(folder: &PeftFolder, rules: &[(&str, Rule)]) -> Result<()> {
    for (field, value) in folder.fields() {
        let rule = rules
            .iter()
            .chain(COMMON)
            .find(|r| r.0 == field)
            .map_or(Rule::Off, |r| r.1);
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

//! The folder that PEFT's `save_pretrained` writes: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Only what every method shares is checked here; what the fields and tensors mean belongs to [`crate::adapter`].

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::safetensors::{SafeTensors, TensorView};
use super::{LoadMode, Mapping};
use crate::error::{Error, ErrorKind, Result};

const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";
const PICKLE: &str = "adapter_model.bin";
/// Bytes of the config. The largest in use, with a rank for each expert of each layer, have a few hundred thousand.
const MAX_CONFIG_BYTES: usize = 4 << 20;
/// Entries of a folder to look at for a named adapter.
const MAX_LISTED: usize = 1000;

/// An opened adapter folder: the config and the tensors, checked as far as that needs no model.
pub struct PeftFolder {
    dir: PathBuf,
    config: PeftConfig,
    tensors: SafeTensors,
}

impl PeftFolder {
    /// Opens the folder `dir`. The tensors are mapped: keep the files as they are while this lives.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, LoadMode::Map)
    }

    /// As [`PeftFolder::open`], with a choice of how the tensors come into memory.
    pub fn open_with(dir: &Path, mode: LoadMode) -> Result<Self> {
        let meta = fs::metadata(dir).map_err(|e| Error::io(dir, "cannot open the adapter", &e))?;
        if !meta.is_dir() {
            let e = Error::invalid("an adapter is a folder").file(dir);
            return Err(e
                .expected(format_args!("a folder with {CONFIG} and {TENSORS}"))
                .found("a file"));
        }
        let config = dir.join(CONFIG);
        if !config.exists() {
            return Err(no_config(dir));
        }
        let tensors = dir.join(TENSORS);
        if !tensors.exists() && dir.join(PICKLE).exists() {
            return Err(Error::unsupported(
                "the adapter is saved as a pickle, which can run code; load it in PEFT and save it again with \
                 model.save_pretrained(dir, safe_serialization=True)",
            )
            .file(dir.join(PICKLE))
            .expected(TENSORS)
            .found(PICKLE));
        }
        Ok(PeftFolder {
            dir: dir.to_owned(),
            config: PeftConfig::parse(&Mapping::open(&config, LoadMode::Read)?)?,
            tensors: SafeTensors::open(&tensors, mode)?,
        })
    }

    /// The two files from memory, for fuzzing.
    #[doc(hidden)]
    pub fn from_bytes(config: Vec<u8>, tensors: Vec<u8>) -> Result<Self> {
        Ok(PeftFolder {
            dir: PathBuf::from("memory"),
            config: PeftConfig::parse(&Mapping::from_bytes(CONFIG, config))?,
            tensors: SafeTensors::from_mapping(Mapping::from_bytes(TENSORS, tensors))?,
        })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The fields of `adapter_config.json`.
    pub fn config(&self) -> &PeftConfig {
        &self.config
    }

    /// The file of tensors.
    pub fn file(&self) -> &SafeTensors {
        &self.tensors
    }

    /// All tensors, in file order.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.tensors.tensors()
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        self.tensors.tensor(name)
    }
}

/// The error for a folder without a config, which says where one is if PEFT saved a named adapter below it.
fn no_config(dir: &Path) -> Error {
    let mut named: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .take(MAX_LISTED)
        .flatten()
        .filter(|entry| entry.path().join(CONFIG).is_file())
        .map(|entry| entry.path().display().to_string())
        .collect();
    named.sort_unstable();
    let e = Error::new(ErrorKind::Io, "not an adapter folder")
        .file(dir)
        .expected(CONFIG);
    match named.as_slice() {
        [] => e.found("no such file"),
        [one] => e.found(format_args!("it in a folder below; open {one}")),
        [first, ..] => e.found(format_args!(
            "{} folders below that have one; open one of them, for example {first}",
            named.len()
        )),
    }
}

/// The fields of an `adapter_config.json`, in file order.
///
/// PEFT writes every field of a method, with `null` for "not set". The getters for bools, text, lists and objects take
/// `null` for absent; those for numbers refuse it, because PEFT has no use for `r: null`. A value of another type is an
/// error that names file, field, expected and found.
pub struct PeftConfig {
    path: PathBuf,
    fields: Map<String, Value>,
    peft_type: String,
}

impl PeftConfig {
    /// Parses and checks the file: an object with a `peft_type`.
    fn parse(file: &Mapping) -> Result<Self> {
        let path = file.path();
        let bytes = file.bytes();
        if bytes.len() > MAX_CONFIG_BYTES {
            let e = Error::limit("the config is too long").file(path);
            return Err(e
                .expected(format_args!("at most {MAX_CONFIG_BYTES} bytes"))
                .found(bytes.len()));
        }
        let fields = match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => fields,
            Ok(other) => {
                return Err(Error::invalid("not an adapter config")
                    .file(path)
                    .expected("an object")
                    .found(kind(&other)));
            }
            Err(e) => return Err(Error::invalid(format!("not valid JSON: {e}")).file(path)),
        };
        let mut config = PeftConfig {
            path: path.to_owned(),
            fields,
            peft_type: String::new(),
        };
        config.peft_type = match config.str("peft_type")? {
            Some(text) => text.to_owned(),
            None => {
                let e = Error::invalid("the field is missing").expected("the name of a method, such as LORA");
                return Err(config.error(e, "peft_type"));
            }
        };
        Ok(config)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The method, as PEFT spells it (`LORA`, `IA3`, …).
    pub fn peft_type(&self) -> &str {
        &self.peft_type
    }

    /// All fields, in file order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.fields.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// The field as it is; `None` only where it is absent.
    pub fn value(&self, field: &str) -> Option<&Value> {
        self.fields.get(field)
    }

    /// The field, unless it is absent or `null`.
    pub fn set(&self, field: &str) -> Option<&Value> {
        self.value(field).filter(|v| !v.is_null())
    }

    /// A bool; `default` where it is absent or `null`.
    pub fn bool(&self, field: &str, default: bool) -> Result<bool> {
        Ok(self
            .typed(self.set(field), field, "true or false", Value::as_bool)?
            .unwrap_or(default))
    }

    /// A non-negative integer. `null` is an error.
    pub fn usize(&self, field: &str) -> Result<Option<usize>> {
        let pick = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
        self.typed(self.value(field), field, "a non-negative integer", pick)
    }

    /// A number (JSON has no infinities). `null` is an error.
    pub fn f64(&self, field: &str) -> Result<Option<f64>> {
        self.typed(self.value(field), field, "a number", Value::as_f64)
    }

    /// Text; `None` where it is absent or `null`.
    pub fn str(&self, field: &str) -> Result<Option<&str>> {
        self.typed(self.set(field), field, "text", Value::as_str)
    }

    /// An object, in file order (the first key of a `rank_pattern` that fits wins); `None` where absent or `null`.
    pub fn object(&self, field: &str) -> Result<Option<&Map<String, Value>>> {
        self.typed(self.set(field), field, "an object", Value::as_object)
    }

    /// A list; `None` where it is absent or `null`.
    pub fn list(&self, field: &str) -> Result<Option<&[Value]>> {
        self.typed(self.set(field), field, "a list", |v| v.as_array().map(Vec::as_slice))
    }

    /// An error about `field`.
    pub fn error(&self, e: Error, field: &str) -> Error {
        e.file(&self.path).item(field)
    }

    fn typed<'a, R>(
        &self,
        value: Option<&'a Value>,
        field: &str,
        expected: &str,
        pick: impl FnOnce(&'a Value) -> Option<R>,
    ) -> Result<Option<R>> {
        let Some(value) = value else { return Ok(None) };
        pick(value).map(Some).ok_or_else(|| {
            let e = Error::invalid("the field has the wrong type or range")
                .expected(expected)
                .found(kind(value));
            self.error(e, field)
        })
    }
}

/// What a JSON value is, for error messages: scalars in full (errors cut long text), the others by name.
fn kind(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(fields) => format!("an object of {} fields", fields.len()),
        scalar => scalar.to_string(),
    }
}

//! The folder that PEFT's `save_pretrained` writes: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Only what every method shares is checked here; what the fields and tensors mean belongs to [`crate::adapter`].

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::safetensors::{SafeTensors, TensorView};
use super::{LoadMode, Mapping};
use crate::error::{Error, Result};

pub(super) const CONFIG: &str = "adapter_config.json";
pub(super) const TENSORS: &str = "adapter_model.safetensors";
const PICKLE: &str = "adapter_model.bin";
/// Bytes of the config. The largest in use, with a rank for each expert of each layer, have a few hundred thousand.
const MAX_CONFIG_BYTES: usize = 4 << 20;
/// Entries of a folder to look at for a named adapter.
const MAX_LISTED: usize = 1000;

/// An opened adapter folder: the fields of the config and the tensors, checked as far as that needs no model.
///
/// PEFT writes every field of a method, with `null` for "not set". The getters for bools, text, lists and objects take
/// `null` for absent; those for numbers refuse it, because PEFT has no use for `r: null`. A value of another type is an
/// error that names file, field, expected and found.
pub struct PeftFolder {
    dir: PathBuf,
    config: PathBuf,
    fields: Map<String, Value>,
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
        let (config, tensors, pickle) = (dir.join(CONFIG), dir.join(TENSORS), dir.join(PICKLE));
        // What cannot be asked (no permission) is left to the opening below, whose error says why.
        let missing = |path: &Path| matches!(path.try_exists(), Ok(false));
        if missing(&config) {
            return Err(no_config(dir));
        }
        if missing(&tensors) {
            return Err(no_tensors(dir, !missing(&pickle)));
        }
        let config = Mapping::open(&config, LoadMode::Read)?;
        Self::from_parts(dir, &config, Mapping::open(&tensors, mode)?)
    }

    /// The two files of the folder, `adapter_config.json` and `adapter_model.safetensors`, from memory. Errors call
    /// them by these names. They are kept, not copied.
    pub fn from_bytes(config: Vec<u8>, tensors: Vec<u8>) -> Result<Self> {
        let (dir, config_name, tensors_name) = (Path::new("memory"), Path::new(CONFIG), Path::new(TENSORS));
        let config = Mapping::from_bytes(config_name, config)?;
        Self::from_parts(dir, &config, Mapping::from_bytes(tensors_name, tensors)?)
    }

    fn from_parts(dir: &Path, config: &Mapping, tensors: Mapping) -> Result<Self> {
        let folder = PeftFolder {
            dir: dir.to_owned(),
            config: config.path().to_owned(),
            fields: parse_config(config.bytes()).map_err(|e| e.file(config.path()))?,
            tensors: SafeTensors::from_mapping(tensors)?,
        };
        folder.peft_type()?;
        Ok(folder)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of `adapter_config.json`.
    pub fn config_path(&self) -> &Path {
        &self.config
    }

    /// The path of the file of tensors.
    pub fn tensors_path(&self) -> &Path {
        self.tensors.path()
    }

    /// All tensors, in file order.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.tensors.tensors()
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        self.tensors.tensor(name)
    }

    /// The method, as PEFT spells it (`LORA`, `IA3`, …). Opening has checked that it is there.
    pub fn peft_type(&self) -> Result<&str> {
        self.str("peft_type")?.ok_or_else(|| {
            let e = Error::invalid("the field is missing").expected("the name of a method, such as LORA");
            self.error(e, "peft_type")
        })
    }

    /// All fields of the config, in file order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.fields.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// The field as it is; `None` only where it is absent.
    pub fn value(&self, field: &str) -> Option<&Value> {
        self.fields.get(field)
    }

    /// A bool; `default` where it is absent or `null`.
    pub fn bool(&self, field: &str, default: bool) -> Result<bool> {
        Ok(self
            .typed(self.set(field), field, "true or false", Value::as_bool)?
            .unwrap_or(default))
    }

    /// A non-negative integer; `default` where it is absent. `null` is an error.
    pub fn usize(&self, field: &str, default: usize) -> Result<usize> {
        let pick = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
        Ok(self
            .typed(self.value(field), field, "a non-negative integer", pick)?
            .unwrap_or(default))
    }

    /// A finite number; `default` where it is absent. `null` is an error.
    pub fn f64(&self, field: &str, default: f64) -> Result<f64> {
        let pick = |v: &Value| v.as_f64().filter(|n| n.is_finite());
        Ok(self
            .typed(self.value(field), field, "a finite number", pick)?
            .unwrap_or(default))
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

    /// An error about a field of the config.
    pub fn error(&self, e: Error, field: &str) -> Error {
        e.file(&self.config).item(field)
    }

    /// The field, unless it is absent or `null`.
    fn set(&self, field: &str) -> Option<&Value> {
        self.value(field).filter(|v| !v.is_null())
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

/// Parses `adapter_config.json`, which must be an object.
fn parse_config(bytes: &[u8]) -> Result<Map<String, Value>> {
    if bytes.len() > MAX_CONFIG_BYTES {
        let e = Error::limit("the config is too long").expected(format_args!("at most {MAX_CONFIG_BYTES} bytes"));
        return Err(e.found(bytes.len()));
    }
    match serde_json::from_slice::<Once>(bytes).map(|once| once.0) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(Error::invalid("not an adapter config")
            .expected("an object")
            .found(kind(&other))),
        Err(e) => Err(Error::invalid(format!("not valid JSON: {e}"))),
    }
}

/// A JSON value whose objects have each key once: of two, readers of JSON take one or the other.
struct Once(Value);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        struct Values;
        impl<'de> Visitor<'de> for Values {
            type Value = Once;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_unit<E>(self) -> std::result::Result<Once, E> {
                Ok(Once(Value::Null))
            }
            fn visit_bool<E>(self, v: bool) -> std::result::Result<Once, E> {
                Ok(Once(v.into()))
            }
            fn visit_i64<E>(self, v: i64) -> std::result::Result<Once, E> {
                Ok(Once(v.into()))
            }
            fn visit_u64<E>(self, v: u64) -> std::result::Result<Once, E> {
                Ok(Once(v.into()))
            }
            fn visit_f64<E>(self, v: f64) -> std::result::Result<Once, E> {
                Ok(Once(v.into()))
            }
            fn visit_str<E>(self, v: &str) -> std::result::Result<Once, E> {
                Ok(Once(v.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Once, A::Error> {
                let mut list = Vec::new();
                while let Some(Once(v)) = seq.next_element()? {
                    list.push(v);
                }
                Ok(Once(Value::Array(list)))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Once, A::Error> {
                let mut fields = Map::new();
                while let Some(key) = map.next_key::<String>()? {
                    let Once(v) = map.next_value()?;
                    if fields.contains_key(&key) {
                        return Err(A::Error::custom(format_args!("the field {key:?} is there twice")));
                    }
                    fields.insert(key, v);
                }
                Ok(Once(Value::Object(fields)))
            }
        }
        d.deserialize_any(Values)
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
    let e = Error::invalid("not an adapter folder").file(dir).expected(CONFIG);
    match named.as_slice() {
        [] => e.found("no such file"),
        [one] => e.found(format_args!("it in a folder below; open {one}")),
        [first, ..] => e.found(format_args!(
            "{} folders below that have one; open one of them, for example {first}",
            named.len()
        )),
    }
}

/// The error for a folder without readable tensors.
fn no_tensors(dir: &Path, pickled: bool) -> Error {
    if !pickled {
        return Error::invalid("the adapter has no tensors")
            .file(dir)
            .expected(TENSORS)
            .found("no such file");
    }
    Error::unsupported(
        "the adapter is saved as a pickle, which can run code; load it in PEFT and save it again with \
         model.save_pretrained(dir, safe_serialization=True)",
    )
    .file(dir)
    .expected(TENSORS)
    .found(PICKLE)
}

/// What a JSON value is, for error messages: scalars in full (errors cut long text), the others by name.
fn kind(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(fields) => format!("an object of {} fields", fields.len()),
        scalar => scalar.to_string(),
    }
}

//! An adapter under training: its config and its tensors in f32, by the keys of PEFT's file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use crate::adapter::{AdapterFile, AdapterOptions};
use crate::error::{Error, Result};
use crate::format::{AdapterTensor, Dtype, PeftFolder, adapter_bytes, write_peft_folder};

/// Tensors beside `lora_A.weight` and `lora_B.weight` that are not trained: what a module's update began with, B0 negative
/// ([`super::Init::Pissa`]). In the file both are one, further rows of A and further columns of B.
pub(super) const START: [&str; 2] = ["lora_A.start", "lora_B.start"];

const DROPOUT: &str = "lora_dropout";

/// A tensor of the file.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its key, such as `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`.
    pub key: String,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Its numbers, row by row.
    pub values: Vec<f32>,
    /// The gradient of the loss by them; empty where there is none: of what is not trained, before a pass, after a change.
    pub grad: Vec<f32>,
    /// Whether anything has asked for its gradient: what nothing does is not trained (VeRA's projections).
    pub trained: bool,
    /// Whether it is the tensor of another key too, which the file holds twice: a table, or rows of one, that a tied head shares. Both keys
    /// have the whole gradient, and it counts once, with the other key.
    pub twin: bool,
}

/// All of an adapter's tensors.
#[derive(Clone, Debug)]
pub struct Parameters {
    config: Map<String, Value>,
    all: Vec<Parameter>,
    by_key: HashMap<String, usize>,
}

impl Parameters {
    /// Those of the PEFT folder at `dir`.
    ///
    /// # Errors
    /// A folder that is missing or broken, a tensor that is not of floating point, one that no file has.
    pub fn open(dir: &Path) -> Result<Self> {
        let folder = PeftFolder::open(dir)?;
        let config = folder.fields().map(|(k, v)| (k.to_owned(), v.clone())).collect();
        let mut tensors = Vec::new();
        for t in folder.tensors() {
            if began(t.name).is_some() {
                return Err(t.error(Error::unsupported("no tensor of an adapter has such a name")));
            }
            tensors.push((t.name.to_owned(), t.shape.to_vec(), t.to_f32()?));
        }
        Self::new(config, tensors)
    }

    /// Those of a config and of tensors: key, shape, numbers.
    ///
    /// # Errors
    /// A key that stands twice, a shape that is not as long as the numbers.
    pub fn new(config: Map<String, Value>, tensors: Vec<(String, Vec<usize>, Vec<f32>)>) -> Result<Self> {
        let mut parameters = Parameters {
            config,
            all: Vec::new(),
            by_key: HashMap::new(),
        };
        for (key, shape, values) in tensors {
            if shape.iter().product::<usize>() != values.len() {
                let e = Error::usage("shape and number of values differ").item(key);
                return Err(e.expected(format!("{shape:?}")).found(values.len()));
            }
            if parameters.by_key.insert(key.clone(), parameters.all.len()).is_some() {
                return Err(Error::usage("the tensor stands twice").item(key));
            }
            parameters.all.push(Parameter {
                grad: Vec::new(),
                key,
                shape,
                values,
                trained: false,
                twin: false,
            });
        }
        for p in &parameters.all {
            let Some((key, _)) = began(&p.key) else { continue };
            let beside = parameters.get(&key).map(|other| &other.shape);
            if p.shape.len() != 2 || beside != Some(&p.shape) {
                let e = Error::usage("a beginning without its tensor").item(&p.key);
                return Err(e.expected(format!("{:?}", p.shape)).found(format!("{beside:?}")));
            }
        }
        Ok(parameters)
    }

    /// The probability with which updates lose a number of their input while they are trained: the config's `lora_dropout`.
    pub fn dropout(&self) -> f64 {
        match self.text("peft_type") {
            Some("LORA" | "ADALORA") => self.number(DROPOUT, 0.0),
            _ => 0.0,
        }
    }

    /// Has it so from now on.
    ///
    /// # Errors
    /// `Usage` for a method without dropout, a number below 0, or 1 or more.
    pub fn set_dropout(&mut self, p: f64) -> Result<()> {
        if !matches!(self.text("peft_type"), Some("LORA" | "ADALORA")) {
            let e = Error::usage("the method has no dropout").item(DROPOUT);
            return Err(e
                .expected("LORA or ADALORA")
                .found(self.text("peft_type").unwrap_or("none")));
        }
        dropout_in_range(p)?;
        self.config.insert(DROPOUT.into(), p.into());
        Ok(())
    }

    /// Whether Graft trains with the dropout that the config has.
    pub(super) fn check_dropout(&self) -> Result<()> {
        let p = self.dropout();
        dropout_in_range(p)?;
        // There PEFT's DoRA takes another product, and what PiSSA and OLoRA take from the weight is not dropped.
        let other = self.flag("use_dora", false) || self.all.iter().any(|p| began(&p.key).is_some());
        if p > 0.0 && other {
            let e = Error::unsupported("no dropout on an adapter of this kind").item(DROPOUT);
            return Err(e.expected("0 with DoRA, PiSSA and OLoRA").found(p));
        }
        Ok(())
    }

    /// The config's fields.
    pub fn config(&self) -> &Map<String, Value> {
        &self.config
    }

    /// A field of the config, which was checked when the file was read.
    pub(super) fn flag(&self, field: &str, default: bool) -> bool {
        self.config.get(field).and_then(Value::as_bool).unwrap_or(default)
    }

    /// The same, of a number.
    pub(super) fn number(&self, field: &str, default: f64) -> f64 {
        self.config.get(field).and_then(Value::as_f64).unwrap_or(default)
    }

    /// The same, of text.
    pub(super) fn text(&self, field: &str) -> Option<&str> {
        self.config.get(field).and_then(Value::as_str)
    }

    /// All tensors, in the order of the file.
    pub fn all(&self) -> &[Parameter] {
        &self.all
    }

    /// The same, to change them.
    pub fn all_mut(&mut self) -> &mut [Parameter] {
        &mut self.all
    }

    /// The tensor of a key.
    pub fn get(&self, key: &str) -> Option<&Parameter> {
        self.by_key.get(key).map(|i| &self.all[*i])
    }

    /// Adds `grad` to the gradient of the tensor of a key.
    ///
    /// # Errors
    /// `Internal` where there is none, or one of another size.
    pub(super) fn add(&mut self, key: &str, grad: &[f32]) -> Result<()> {
        let Some(at) = self.by_key.get(key) else {
            return Err(Error::internal("a gradient without its tensor").item(key));
        };
        let p = &mut self.all[*at];
        if p.values.len() != grad.len() {
            let e = Error::internal("a gradient of another size").item(key);
            return Err(e.expected(p.values.len()).found(grad.len()));
        }
        p.trained = true;
        match p.grad.is_empty() {
            true => p.grad = grad.to_vec(),
            false => p.grad.iter_mut().zip(grad).for_each(|(p, g)| *p += g),
        }
        Ok(())
    }

    /// Says that the tensor of a key is also that of another one.
    pub(super) fn set_twin(&mut self, key: &str) {
        if let Some(at) = self.by_key.get(key) {
            self.all[*at].twin = true;
        }
    }

    /// Forgets all gradients, and what they took in memory.
    pub(super) fn forget_gradients(&mut self) {
        self.all.iter_mut().for_each(|p| p.grad = Vec::new());
    }

    /// The adapter as it is now.
    ///
    /// # Errors
    /// What [`AdapterFile::from_bytes`] says.
    pub fn file(&self) -> Result<AdapterFile> {
        let joined = self.joined();
        let (config, tensors) = adapter_bytes(&self.config, &tensors(&joined))?;
        AdapterFile::from_bytes(config, tensors, &AdapterOptions::default())
    }

    /// Writes the folder `dir` as PEFT's `save_pretrained` does: see [`write_peft_folder`].
    ///
    /// # Errors
    /// What the system refuses, a value that is not finite.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let mut config = self.config.clone();
        config.insert("inference_mode".into(), true.into());
        write_peft_folder(dir, &config, &tensors(&self.joined()))
    }

    /// What the tensor of a key began with, if that stands beside it.
    pub(super) fn start_of(&self, key: &str) -> Option<&Parameter> {
        self.get(&format!("{}.start", key.strip_suffix(".weight")?))
    }

    /// The tensors as the file has them.
    fn joined(&self) -> Vec<Joined<'_>> {
        let of_file = self.all.iter().filter(|p| began(&p.key).is_none());
        of_file.map(|p| join(p, self.start_of(&p.key))).collect()
    }
}

/// Whether `p` is a share that can be lost.
pub(super) fn dropout_in_range(p: f64) -> Result<()> {
    if (0.0..1.0).contains(&p) {
        return Ok(());
    }
    let e = Error::usage("number out of range").item(DROPOUT);
    Err(e.expected("0 or more, below 1").found(p))
}

/// Key, shape, numbers.
type Joined<'a> = (&'a str, Cow<'a, [usize]>, Cow<'a, [f32]>);

/// Of the key of a [`START`] that of the tensor beside it, and which of the two it is.
fn began(key: &str) -> Option<(String, usize)> {
    let which = START.iter().position(|name| key.ends_with(&format!(".{name}")))?;
    Some((format!("{}.weight", key.strip_suffix(".start")?), which))
}

/// A tensor; A with the rows of its beginning behind it, or B with the columns.
fn join<'a>(p: &'a Parameter, start: Option<&Parameter>) -> Joined<'a> {
    let (Some(start), [rows, cols]) = (start, &p.shape[..]) else {
        return (&p.key, Cow::from(&p.shape), Cow::from(&p.values));
    };
    let (rows, cols) = (*rows, *cols);
    if p.key.ends_with("lora_A.weight") {
        let values = [&p.values[..], &start.values].concat();
        return (&p.key, vec![2 * rows, cols].into(), values.into());
    }
    let both = p.values.chunks_exact(cols).zip(start.values.chunks_exact(cols));
    let values: Vec<f32> = both.flat_map(|(row, start)| [row, start].concat()).collect();
    (&p.key, vec![rows, 2 * cols].into(), values.into())
}

fn tensors<'a>(joined: &'a [Joined]) -> Vec<AdapterTensor<'a>> {
    let tensors = joined.iter().map(|(name, shape, values)| AdapterTensor {
        name,
        dtype: Dtype::F32,
        shape,
        values,
    });
    tensors.collect()
}

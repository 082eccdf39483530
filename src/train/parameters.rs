//! An adapter under training: its config and its tensors in f32, by the keys of PEFT's file.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use crate::adapter::{AdapterFile, AdapterOptions};
use crate::error::{Error, Result};
use crate::format::{AdapterTensor, Dtype, PeftFolder, adapter_bytes, write_peft_folder};

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
    /// A folder that is missing or broken, a tensor that is not of floating point.
    pub fn open(dir: &Path) -> Result<Self> {
        let folder = PeftFolder::open(dir)?;
        let config = folder.fields().map(|(k, v)| (k.to_owned(), v.clone())).collect();
        let mut tensors = Vec::new();
        for t in folder.tensors() {
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
        Ok(parameters)
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
        let (config, tensors) = adapter_bytes(&self.config, &self.tensors())?;
        AdapterFile::from_bytes(config, tensors, &AdapterOptions::default())
    }

    /// Writes the folder `dir` as PEFT's `save_pretrained` does: see [`write_peft_folder`].
    ///
    /// # Errors
    /// What the system refuses, a value that is not finite.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let mut config = self.config.clone();
        config.insert("inference_mode".into(), true.into());
        write_peft_folder(dir, &config, &self.tensors())
    }

    fn tensors(&self) -> Vec<AdapterTensor<'_>> {
        let tensors = self.all.iter().map(|p| AdapterTensor {
            name: &p.key,
            dtype: Dtype::F32,
            shape: &p.shape,
            values: &p.values,
        });
        tensors.collect()
    }
}

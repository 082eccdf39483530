//! Adapters: what PEFT saved, put on a model.
//!
//! [`crate::format::PeftFolder`] reads and checks the folder, [`source`] sorts its tensors by module, one file a method in [`methods`]
//! lowers them to [`forms`] ([`gguf`] does all of this for llama.cpp's LoRA files), [`attach`] resolves each module's path to a site, fits
//! it to the [`order`] of the model's rows and gives it to the device, [`active`] makes the programs of the adapters that a session has
//! switched on, and [`crate::model::decoder`] runs these at the one seam, the linear map. Beside that way, [`merge`] puts programs into
//! weights, and [`mix`] makes one folder of several.
//!
//! Out again: [`export`] writes llama.cpp's file, [`to_lora`] PEFT's folder of a plain LoRA.

pub mod active;
pub mod attach;
pub mod count;
pub mod device;
pub mod export;
pub mod forms;
pub mod gguf;
pub mod matrix;
mod memory;
pub mod merge;
pub mod methods;
pub mod mix;
mod options;
pub mod order;
mod rows;
pub(crate) mod scaling;
pub mod source;
pub mod spec;
pub mod to_lora;
pub(crate) mod torch_rng;
pub mod trained;
pub mod update;

pub use active::Active;
pub use attach::Attached;
pub use count::Counts;
pub use spec::AdapterSpec;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::format::{Gguf, LoadMode, PeftFolder};
use crate::model::Site;

use forms::{Form, SiteForms};
use matrix::Matrix;
use source::Source;

/// Is told forms and where they are.
pub type Each<'a> = &'a mut dyn FnMut(Site, &Form);

/// What stands before the first token.
#[derive(Clone, Debug)]
pub enum Prefix {
    /// Input embeddings `[n][hidden_size]` of n positions, behind the embedding's own scale.
    Embeddings(Matrix),
    /// Keys (behind RoPE) and values of n positions, `[n][layers][2][kv_heads * head_dim]`.
    KeysAndValues(Matrix),
}

impl Prefix {
    /// Positions that it takes.
    pub fn positions(&self) -> usize {
        match self {
            Prefix::Embeddings(m) | Prefix::KeysAndValues(m) => m.rows(),
        }
    }
}

/// A method's tensors, as forms.
#[derive(Clone, Debug, Default)]
pub struct Lowered {
    /// Module by module.
    pub sites: Vec<SiteForms>,
    /// The base layer that each layer has, where layers are repeated.
    pub layers: Option<Vec<usize>>,
    /// The adapter's updates begin where these tokens last begin (aLoRA).
    pub invocation: Option<Vec<u32>>,
    /// What stands before the first token.
    pub prefix: Option<Prefix>,
    /// The adapter is a GGUF file for models of this architecture, and its rows have the order of their files
    /// (`None`: that of the Hugging Face modules).
    pub architecture: Option<String>,
}

impl Lowered {
    fn of_sites(sites: Vec<SiteForms>) -> Self {
        Lowered {
            sites,
            ..Default::default()
        }
    }
}

/// How to open an adapter.
#[derive(Clone, Debug, Default)]
pub struct AdapterOptions {
    /// Which task's prompt to take from a folder that holds several (multitask prompt tuning).
    pub task_id: Option<usize>,
}

/// An adapter as PEFT or llama.cpp's converter saved it, read and checked, not yet tied to a model.
#[derive(Clone, Debug)]
pub struct AdapterFile {
    path: PathBuf,
    method: &'static str,
    base_model: Option<String>,
    counts: Counts,
    lowered: Lowered,
}

impl AdapterFile {
    /// Opens the folder that PEFT's `save_pretrained` wrote, or the GGUF file that llama.cpp's `convert_lora_to_gguf.py` made of it.
    ///
    /// # Errors
    /// A file that is missing or broken, a method or option that Graft does not do, a tensor that would not be used.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, &AdapterOptions::default())
    }

    /// As [`AdapterFile::open`].
    ///
    /// # Errors
    /// As [`AdapterFile::open`]; a folder of several tasks without a choice.
    pub fn open_with(path: &Path, options: &AdapterOptions) -> Result<Self> {
        match Gguf::is_at(path) {
            true => Self::of_gguf(&Gguf::open(path, LoadMode::Map)?),
            false => Self::of_folder(&PeftFolder::open(path)?, options),
        }
    }

    /// An adapter in memory: the folder's `adapter_config.json` and `adapter_model.safetensors`. (A GGUF file in memory:
    /// [`Gguf::from_bytes`] and [`AdapterFile::of_gguf`].)
    ///
    /// # Errors
    /// As [`AdapterFile::open_with`]; the files are called by these names.
    pub fn from_bytes(config: Vec<u8>, tensors: Vec<u8>, options: &AdapterOptions) -> Result<Self> {
        Self::of_folder(&PeftFolder::from_bytes(config, tensors)?, options)
    }

    /// The adapter in an opened GGUF file.
    ///
    /// # Errors
    /// As [`AdapterFile::open`].
    pub fn of_gguf(file: &Gguf) -> Result<Self> {
        Ok(AdapterFile {
            path: file.path().to_owned(),
            method: methods::lora::METHOD.peft_type,
            base_model: file.metadata().str("general.base_model.0.name")?.map(str::to_owned),
            counts: Counts {
                trained: file.tensors().iter().map(|t| t.elements()).sum(),
                ..Default::default()
            },
            lowered: gguf::lower(file)?,
        })
    }

    /// The adapter in an opened folder.
    ///
    /// # Errors
    /// As [`AdapterFile::open`].
    pub fn of_folder(folder: &PeftFolder, options: &AdapterOptions) -> Result<Self> {
        let method = methods::of(folder)?;
        let source = Source::new(folder, method, options.task_id)?;
        let lowered = (method.lower)(&source)?;
        if lowered.sites.is_empty() && lowered.prefix.is_none() {
            return Err(Error::invalid("the adapter holds no tensors").file(folder.tensors_path()));
        }
        Ok(AdapterFile {
            path: folder.dir().to_owned(),
            method: method.peft_type,
            base_model: folder.str("base_model_name_or_path")?.map(str::to_owned),
            counts: Counts::of(&source, method.peft_type, &lowered)?,
            lowered,
        })
    }

    /// The folder or file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The `peft_type`.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// The base model that the adapter was trained on, as its config names it.
    pub fn base_model(&self) -> Option<&str> {
        self.base_model.as_deref()
    }

    /// The architecture that it is for, as GGUF calls it, if it is a GGUF file.
    pub fn architecture(&self) -> Option<&str> {
        self.lowered.architecture.as_deref()
    }

    /// What it does.
    pub fn lowered(&self) -> &Lowered {
        &self.lowered
    }

    /// What it does, module by module.
    pub fn sites(&self) -> &[SiteForms] {
        &self.lowered.sites
    }

    /// Trained numbers, as PEFT counts them.
    pub fn parameters(&self) -> usize {
        self.counts.trained
    }

    /// Its numbers by kind.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The ranks of its low-rank updates, each once, ascending.
    pub fn ranks(&self) -> Vec<usize> {
        let ranks = self
            .sites()
            .iter()
            .flat_map(|s| &s.forms)
            .filter_map(|form| match form {
                Form::LowRank(l) | Form::Dora(l, _) | Form::InLowRank(l) => Some(l.rank()),
                _ => None,
            });
        ranks.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }
}

//! Adapters: a PEFT folder becomes a few common forms, which are put on a model's sites.
//!
//! The way of a tensor: [`crate::format::PeftFolder`] finds its bytes, the method's file here ([`lora`]) lowers it to
//! [`forms`], [`attach`] resolves the module's path to a site, fits it to the order of the model's rows and gives it
//! to the device; [`crate::model::decoder`] applies it at the one seam, the linear map.
//!
//! Beside that way, [`mix`] makes one folder of several.
//!
//! To add a method: write its file with a `lower` function and add its line to [`METHODS`].

pub mod attach;
pub mod forms;
pub mod lora;
pub mod mix;
mod options;

pub use attach::Attached;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::format::PeftFolder;

use forms::SiteForms;

/// A method's `peft_type` and its lowering, which accounts for every tensor and every option of the folder.
type Method = (&'static str, fn(&PeftFolder) -> Result<Vec<SiteForms>>);

/// The methods that Graft applies.
static METHODS: &[Method] = &[("LORA", lora::lower)];

/// An adapter as PEFT saved it, read and checked, not yet tied to a model.
#[derive(Clone, Debug)]
pub struct AdapterFile {
    path: PathBuf,
    method: &'static str,
    base_model: Option<String>,
    sites: Vec<SiteForms>,
}

impl AdapterFile {
    /// Opens the folder that PEFT's `save_pretrained` wrote.
    ///
    /// # Errors
    /// A file that is missing or broken, a method or option that Graft does not do, a tensor that would not be used.
    pub fn open(dir: &Path) -> Result<Self> {
        let folder = PeftFolder::open(dir)?;
        let peft_type = folder.peft_type()?;
        let (method, lower) = METHODS.iter().find(|m| m.0 == peft_type).ok_or_else(|| {
            let known: Vec<_> = METHODS.iter().map(|m| m.0).collect();
            Error::unsupported("adapter method")
                .file(folder.config_path())
                .item("peft_type")
                .expected(known.join(", "))
                .found(peft_type)
        })?;
        let sites = lower(&folder)?;
        if sites.is_empty() {
            return Err(Error::invalid("the adapter holds no tensors").file(folder.tensors_path()));
        }
        let base_model = folder.str("base_model_name_or_path")?.map(str::to_owned);
        Ok(AdapterFile {
            path: dir.to_owned(),
            method,
            base_model,
            sites,
        })
    }

    /// The folder.
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

    /// What it does, module by module.
    pub fn sites(&self) -> &[SiteForms] {
        &self.sites
    }

    /// Trained numbers.
    pub fn parameters(&self) -> usize {
        self.sites
            .iter()
            .flat_map(|s| &s.forms)
            .map(forms::Form::parameters)
            .sum()
    }

    /// The ranks of its low-rank updates, each once, ascending.
    pub fn ranks(&self) -> Vec<usize> {
        let ranks = self
            .sites
            .iter()
            .flat_map(|s| &s.forms)
            .map(|forms::Form::LowRank(l)| l.rank);
        ranks.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }
}

//! A model: facts, weights and the one forward pass.
//!
//! The way of a weight: `format::gguf` finds its bytes, [`spec`] says what the model is, [`weights`] claims every
//! tensor by name, [`decoder`] runs them over a [`backend::Backend`].
//!
//! To add an architecture: write its file of facts beside [`llama`], declare it here and name it in [`ARCHS`].

pub mod arch;
pub mod backend;
pub mod backprop;
pub mod backward;
pub mod cache;
pub mod cpu;
pub mod decoder;
pub mod device;
pub mod dropout;
pub mod gemma2;
pub mod gemma3;
pub mod llama;
pub mod moments;
#[cfg(feature = "cuda")]
pub mod offload;
pub mod qwen2;
pub mod qwen3;
pub mod sites;
pub mod spec;
pub mod state;
pub mod weights;

pub use arch::Arch;
pub use device::{Device, DeviceChoice};
pub use sites::{Part, Site};
pub use spec::Spec;

use crate::error::{Error, Result};
use crate::format::Gguf;

/// The architectures that Graft runs.
pub static ARCHS: &[Arch] = &[llama::ARCH, qwen2::ARCH, qwen3::ARCH, gemma2::ARCH, gemma3::ARCH];

/// The architecture that the file names.
///
/// # Errors
/// No name, or one that is not in [`ARCHS`].
pub fn arch_of(gguf: &Gguf) -> Result<&'static Arch> {
    let key = "general.architecture";
    let name = gguf.metadata().need_str(key)?;
    ARCHS.iter().find(|a| a.name == name).ok_or_else(|| {
        let known: Vec<_> = ARCHS.iter().map(|a| a.name).collect();
        Error::unsupported("architecture")
            .file(gguf.path())
            .item(key)
            .expected(known.join(", "))
            .found(name)
    })
}

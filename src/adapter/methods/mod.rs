//! The adapter methods, one a file: each says which tensors and options it knows, and makes [`super::forms`] of them.
//!
//! To add one: write its file (start from [`beft`], the shortest) and name it in [`METHODS`].

pub mod adalora;
pub mod beft;
pub mod boft;
pub mod cayley;
pub mod hra;
pub mod ia3;
pub mod ln_tuning;
pub mod loha;
pub mod lokr;
pub mod lora;
pub mod miss;
pub mod oft;
pub mod prefix;
pub mod prompt;
pub mod road;
pub mod trainable_tokens;
pub mod vera;

use super::source::Method;
use crate::error::{Error, Result};
use crate::format::PeftFolder;

/// The methods that Graft applies.
pub static METHODS: &[Method] = &[
    lora::METHOD,
    ia3::METHOD,
    adalora::METHOD,
    loha::METHOD,
    lokr::METHOD,
    vera::METHOD,
    oft::METHOD,
    boft::METHOD,
    hra::METHOD,
    road::METHOD,
    miss::METHOD,
    ln_tuning::METHOD,
    trainable_tokens::METHOD,
    beft::METHOD,
    prompt::METHOD,
    prompt::P_TUNING,
    prompt::MULTITASK,
    prefix::METHOD,
];

/// What else PEFT has (`PeftType` of 0.21).
static KNOWN: &[&str] = &[
    "ADAMSS",
    "ADAPTION_PROMPT",
    "LILY",
    "POLY",
    "FROD",
    "PVERA",
    "FOURIERFT",
    "GLORA",
    "XLORA",
    "VBLORA",
    "UNILORA",
    "CPT",
    "RANDLORA",
    "HIRA",
    "SHIRA",
    "C3A",
    "WAVEFT",
    "OSF",
    "DELORA",
    "GRALORA",
    "CARTRIDGE",
    "TINYLORA",
    "PSOFT",
    "PEANUT",
    "SHADOW",
    "SUPERTUNING",
    "DEFT",
    "BONE",
];

/// The method that the folder names.
///
/// # Errors
/// One that PEFT has and Graft has not yet, or one that nobody knows.
pub fn of(folder: &PeftFolder) -> Result<&'static Method> {
    let peft_type = folder.peft_type()?;
    if let Some(method) = METHODS.iter().find(|m| m.peft_type == peft_type) {
        return Ok(method);
    }
    let all: Vec<_> = METHODS.iter().map(|m| m.peft_type).collect();
    let e = Error::unsupported(if KNOWN.contains(&peft_type) {
        "adapter method that PEFT has and Graft does not do yet"
    } else {
        "unknown adapter method"
    });
    Err(folder.error(e.expected(all.join(", ")).found(peft_type), "peft_type"))
}

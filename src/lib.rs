//! Graft: an embedded runtime for quantized language models with PEFT adapters.
//!
//! The map of the house; imports point downwards only:
//!
//! * [`runtime`]: a loaded [`Model`], its [`Session`]s (KV cache, active adapters), how the next token is chosen
//! * [`adapter`]: a PEFT folder, lowered to a few common forms and attached to a model's sites
//! * [`model`]: metadata to a [`model::Spec`]; the one forward pass ([`model::decoder`]); one file an architecture
//! * [`tokenizer`]: text to ids and back, chat templates
//! * [`kernels`]: speed; safe whole-tensor operations over per-ISA code
//! * [`quant`]: block formats: layout, ids, scalar truth
//! * [`format`](mod@format): bytes to checked typed views: memory map, GGUF, safetensors, PEFT folders
//! * [`pool`]: the thread team; [`error`]: the one error

pub mod adapter;
pub mod error;
pub mod format;
pub mod kernels;
pub mod model;
pub mod pool;
pub mod quant;
pub mod runtime;
pub mod tokenizer;

pub use error::{Error, ErrorKind, Result};
pub use runtime::{Adapter, LoadOptions, Model, Session, SessionOptions};

//! Graft: an embedded runtime for quantized language models with PEFT adapters.
//!
//! The map of the house; imports point downwards only:
//!
//! * `capi`: all of it for C, behind the feature `capi`
//! * [`train`]: data, loss, optimizer, checkpoints: a new adapter from examples
//! * [`runtime`]: a loaded [`Model`], its [`Session`]s (KV cache, active adapters), how the next token is chosen
//! * [`adapter`]: a PEFT folder, lowered to a few common forms and attached to a model's sites
//! * [`model`]: metadata to a [`model::Spec`]; the one forward pass ([`model::decoder`]); one file an architecture
//! * [`tokenizer`]: text to ids and back, chat templates
//! * [`kernels`]: speed; safe whole-tensor operations over per-ISA code
//! * [`quant`]: block formats: layout, ids, scalar truth
//! * [`format`](mod@format): bytes to checked typed views: memory map, GGUF, safetensors, PEFT folders
//! * `linalg`: singular values and QR, for what is computed once; [`rng`]: seeded random numbers
//! * [`pool`]: the thread team, or the application's threads; [`machine`]: what the system says about itself;
//!   [`error`]: the one error
//!
//! A model, an adapter as PEFT saved it, and text:
//!
//! ```
//! # fn main() -> graft::Result<()> {
//! # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny/llama-tied");
//! use std::ops::ControlFlow;
//!
//! use graft::runtime::{GenerateOptions, Sampler, SamplerOptions, generate};
//! use graft::tokenizer::EncodeOptions;
//! use graft::{Model, SessionOptions};
//!
//! let model = Model::open(format!("{folder}/model.gguf"))?; // mapped, shared by all sessions
//! let adapter = model.load_adapter(format!("{folder}/adapters/qv"))?; // what save_pretrained wrote
//! let mut session = model.session(&SessionOptions::default())?;
//! session.set_adapters(&[(adapter, 1.0)])?; // from the next token on; &[] is the base again
//!
//! let prompt = model.tokenizer()?.encode("Once upon a time", EncodeOptions::default())?;
//! let mut sampler = Sampler::new(SamplerOptions::default(), model.spec().vocab_size)?;
//! let options = GenerateOptions { max_tokens: Some(16), ..Default::default() };
//! let answer = generate(&mut session, model.tokenizer()?, &prompt, &mut sampler, &options, &mut |text, _id| {
//!     print!("{text}");
//!     ControlFlow::Continue(()) // or Break, to end here
//! })?;
//! println!("\n[{} tokens, ended by {}]", answer.tokens.len(), answer.finish);
//! # Ok(())
//! # }
//! ```

pub mod adapter;
#[cfg(feature = "capi")]
pub mod capi;
pub mod error;
pub mod format;
pub mod kernels;
#[doc(hidden)]
pub mod linalg;
pub mod machine;
pub mod model;
pub mod pool;
pub mod quant;
pub mod rng;
pub mod runtime;
pub mod tokenizer;
pub mod train;

pub use error::{Error, ErrorKind, Result};
pub use model::DeviceChoice;
pub use runtime::{Adapter, LoadOptions, Model, Session, SessionOptions};

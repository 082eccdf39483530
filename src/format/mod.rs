//! Bytes to checked typed views, and back to files that are whole or not there. No maths here, and nothing above this
//! folder looks at raw file bytes.
//!
//! Everything in a file is taken for hostile: a count, length, offset or product is checked against the real length of
//! the file before it is used, and memory is asked for only as far as the bytes that are there could justify.

// Narrowing a number from a file must be a decision, never an accident.
#![deny(clippy::as_conversions)]

pub mod atomic;
mod cursor;
pub mod gguf;
pub mod gguf_write;
pub mod lines;
pub mod mapping;
pub mod metadata;
pub mod peft;
pub mod safetensors;
pub mod safetensors_write;

pub use atomic::AtomicFile;
pub use gguf::{Gguf, TensorInfo};
pub use gguf_write::{GgufPlan, GgufWriter, MetaValue, TensorPlan};
pub use mapping::{LoadMode, Mapping};
pub use metadata::{Metadata, ValueRef, ValueType};
pub use peft::PeftFolder;
pub use safetensors::{Dtype, SafeTensors, TensorView};
pub use safetensors_write::{AdapterTensor, adapter_bytes, write_peft_folder};

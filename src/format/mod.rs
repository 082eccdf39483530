//! Bytes to checked typed views. No maths here, and nothing above this folder looks at raw file bytes.

pub mod gguf;
pub mod mapping;
pub mod peft;

pub use gguf::{Gguf, Metadata, TensorInfo};
pub use mapping::{LoadMode, Mapping};
pub use peft::{PeftFolder, TensorView};

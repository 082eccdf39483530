//! Speed: safe whole-tensor operations over per-ISA code.
//!
//! [`Cpu`] is what the model sees: every method checks lengths, splits the work over the thread team and calls the
//! function table (`Isa`) of the level chosen at start. ISA folders hold the same file names, so that they can be compared.

pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod draw;
pub mod op_times;

pub use cpu::{Cpu, Precision};
pub use draw::{Draw, Edit};

//! Training: a new adapter from the user's own data, on the quantized base as it runs.

pub mod data;
mod example;

pub use data::{Arrangement, BatchOptions, Batches, Data, DataOptions};
pub use example::Example;

//! Training: a new adapter from the user's own data, on the quantized base as it runs.

pub mod data;
mod eval;
mod example;

pub use data::{Arrangement, BatchOptions, Batches, Data, DataOptions};
pub use eval::{EvalOptions, Evaluation, Forms, evaluate};
pub use example::Example;

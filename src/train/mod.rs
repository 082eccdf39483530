//! Training: a new adapter from the user's own data, on the quantized base as it runs.

mod example;

pub use example::Example;

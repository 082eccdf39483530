//! Training: a new adapter from the user's own data, on the quantized base as it runs.

mod example;
mod learner;
mod parameters;
mod pull;

pub use example::Example;
pub use learner::Learner;
pub use parameters::{Parameter, Parameters};

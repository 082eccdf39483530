//! Training: a new adapter from the user's own data, on the quantized base as it runs.
//!
//! [`Parameters`] are an adapter's tensors. A [`Learner`] puts them on a model, by the same way as a saved adapter, and gives loss and
//! gradients of [`Example`]s ([`crate::model::backward`]; `pull`: from forms to tensors). A [`Trainer`] changes them step by step.

mod checkpoint;
pub mod data;
mod eval;
mod example;
mod examples;
mod learner;
mod optim;
mod parameters;
mod plan;
mod pull;
mod regulariser;
mod running;
mod schedule;
mod start;
mod trainer;

pub use data::{Arrangement, BatchOptions, Batches, Data, DataOptions};
pub use eval::{EvalOptions, Evaluation, Forms, evaluate};
pub use example::Example;
pub use examples::Examples;
pub use learner::Learner;
pub use optim::Optimizer;
pub use parameters::{Parameter, Parameters};
pub use plan::TrainPlan;
pub use schedule::Schedule;
pub use start::{Init, NewAdapter, Targets, methods};
pub use trainer::{StepReport, TrainOptions, Trainer};

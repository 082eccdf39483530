//! Conversations: a loaded [`Model`], the [`Session`]s that share it, how the next token is chosen, when to end.

pub mod batch;
pub mod cancel;
pub mod count;
pub mod divergence;
pub mod embed;
mod fingerprint;
pub mod generate;
pub mod likelihood;
pub mod merge;
pub mod model;
pub mod plan;
mod sample;
pub mod sampler;
mod scan;
pub mod session;
mod state;
pub mod stop;

pub use batch::{Batch, BatchFiles, BatchOptions, BatchReport};
pub use cancel::Cancel;
pub use count::ParameterCount;
pub use divergence::Divergence;
pub use embed::Pooling;
pub(crate) use fingerprint::Digest;
pub use generate::{Finish, GenerateOptions, Generated, Generation, Timings, generate};
pub use likelihood::Likelihood;
pub use merge::{MergeOptions, MergeReport, MergeType, MergedTensor};
pub use model::{Adapter, LoadOptions, Model};
pub use plan::MemoryPlan;
pub use sampler::{Sampler, SamplerOptions};
pub use session::{Session, SessionOptions};
pub use stop::StopMatcher;

//! A conversation and what drives it: sampling, stop strings, the generation loop.

pub mod sampler;
pub mod stop;

pub use sampler::{Sampler, SamplerOptions};
pub use stop::StopMatcher;

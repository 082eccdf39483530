//! Conversations: a loaded [`Model`], the [`Session`]s that share it, and how the next token is chosen.

pub mod model;
pub mod session;

pub use model::{Adapter, LoadOptions, Model};
pub use session::{Session, SessionOptions};

//! Llama 2 and 3.x, SmolLM2, Mistral and all who call themselves `llama` in GGUF.
//!
//! Pre-norm, SiLU gate, no biases unless the file has them. The converter permutes the rows of q and k so that RoPE
//! turns neighbouring pairs; Llama 3's frequency scaling comes as the tensor `rope_freqs.weight`. Mistral's early
//! checkpoints have a sliding window on all layers.

use super::arch::{Arch, Windows};

/// The facts.
pub const ARCH: Arch = Arch {
    name: "llama",
    interleaved_rope: true,
    permuted_qk: true,
    windows: Windows::All,
    ..Arch::PLAIN
};

//! Qwen2 and Qwen2.5, dense: as Llama, with biases on q, k and v, and RoPE on halves.

use super::arch::Arch;

/// The facts.
pub const ARCH: Arch = Arch {
    name: "qwen2",
    qkv_bias: true,
    ..Arch::PLAIN
};

//! Qwen3, dense: no biases, an RMSNorm on every q and k head before RoPE.

use super::arch::Arch;

/// The facts.
pub const ARCH: Arch = Arch {
    name: "qwen3",
    qk_norm: true,
    ..Arch::PLAIN
};

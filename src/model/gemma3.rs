//! Gemma 3 (text): as Gemma 2 without soft caps, with q/k norms, five sliding layers to a full one, and a RoPE theta of
//! their own for the sliding layers.

use super::arch::{Arch, Windows};
use crate::kernels::cpu::Act;

/// The facts.
pub const ARCH: Arch = Arch {
    name: "gemma3",
    act: Act::GeluTanh,
    qk_norm: true,
    post_norms: true,
    norms_plus_one: true,
    scale_embeddings: true,
    windows: Windows::AllButEvery(6),
    local_rope_theta: Some(10_000.0),
    attn_scale_dim,
    ..Arch::PLAIN
};

/// As in Gemma 2; here the 27B has 62 layers (config.json of google/gemma-3-27b-it).
fn attn_scale_dim(n_layers: usize, hidden_size: usize, n_heads: usize, head_dim: usize) -> usize {
    if n_layers == 62 {
        (hidden_size / n_heads).max(1)
    } else {
        head_dim
    }
}

//! Gemma 2: norms before and behind each block (stored with the +1 added), scaled embeddings, GELU gate, soft caps on
//! attention scores and logits, every second layer with full attention.

use super::arch::{Arch, Windows};
use crate::kernels::cpu::Act;

/// The facts.
pub const ARCH: Arch = Arch {
    name: "gemma2",
    act: Act::GeluTanh,
    post_norms: true,
    norms_plus_one: true,
    scale_embeddings: true,
    windows: Windows::AllButEvery(2),
    attn_scale_dim,
    ..Arch::PLAIN
};

/// `query_pre_attn_scalar` is not in the file; it is the head size but for the 27B (46 layers), where it is
/// hidden_size / n_heads (config.json of google/gemma-2-27b).
fn attn_scale_dim(n_layers: usize, hidden_size: usize, n_heads: usize, head_dim: usize) -> usize {
    if n_layers == 46 {
        (hidden_size / n_heads).max(1)
    } else {
        head_dim
    }
}

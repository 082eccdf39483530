//! What differs between architectures, as data.

use crate::kernels::cpu::Act;

/// Which layers have the sliding window that the file's metadata gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windows {
    /// None of them, whatever the file says.
    None,
    /// All of them.
    All,
    /// All but every n-th, counted from one; the file may give another pattern.
    AllButEvery(usize),
}

/// One architecture: a constant in a file of its own, and a line in [`super::ARCHS`].
#[derive(Clone, Copy)]
pub struct Arch {
    /// `general.architecture` in GGUF.
    pub name: &'static str,
    /// RoPE pairs (2i, 2i+1) instead of (i, i + dims/2).
    pub interleaved_rope: bool,
    /// The file's q/k rows are permuted from the Hugging Face order to make `interleaved_rope` work.
    pub permuted_qk: bool,
    /// Gate function of the MLP.
    pub act: Act,
    /// RMSNorm on each q and k head before RoPE.
    pub qk_norm: bool,
    /// Norms behind attention and MLP as well as before them.
    pub post_norms: bool,
    /// Norms multiply by 1 + weight, and the converter has added the 1.
    pub norms_plus_one: bool,
    /// Biases on q, k and v are required. (Others are used where the file has them.)
    pub qkv_bias: bool,
    /// Token embeddings are multiplied by sqrt(hidden_size).
    pub scale_embeddings: bool,
    /// Which layers slide.
    pub windows: Windows,
    /// RoPE theta of sliding layers, where it differs from the others'.
    pub local_rope_theta: Option<f32>,
    /// The attention scale is 1/sqrt of this: (n_layers, hidden_size, n_heads, head_dim) -> dimension.
    pub attn_scale_dim: fn(usize, usize, usize, usize) -> usize,
}

impl Arch {
    /// The most common choices; an architecture's file states only what differs.
    pub const PLAIN: Arch = Arch {
        name: "",
        interleaved_rope: false,
        permuted_qk: false,
        act: Act::Silu,
        qk_norm: false,
        post_norms: false,
        norms_plus_one: false,
        qkv_bias: false,
        scale_embeddings: false,
        windows: Windows::None,
        local_rope_theta: None,
        attn_scale_dim: |_, _, _, head_dim| head_dim,
    };
}

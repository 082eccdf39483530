//! CPU operations.
//!
//! Conventions: activations are row-major `[tokens][features]` f32; `m` = tokens, `k` = input features, `n` = output features.

mod kv_buf;

use std::ops::Range;

use crate::quant::BlockFormat;

/// A weight matrix as it lies in the file: `rows` (outputs) of `cols` (inputs) in blocks of `format`.
#[derive(Clone, Copy)]
pub struct Weight<'a> {
    /// Block format.
    pub format: BlockFormat,
    /// Output features n.
    pub rows: usize,
    /// Input features k; a multiple of the block length.
    pub cols: usize,
    /// `rows * bytes_for(cols)` bytes.
    pub data: &'a [u8],
}

/// How exactly to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Precision {
    /// Activations f32, weights dequantized exactly, f32 accumulation. The reference.
    Exact,
    /// Activations quantized to int8 in blocks where the weight format has an integer kernel. The default.
    #[default]
    Fast,
}

/// Input rows of one or more matmuls, with the quantized forms that their weights need, made once.
/// Buffers grow and are reused; no allocation once warm.
#[derive(Default)]
pub struct Acts {
    _todo: (),
}

/// cos/sin for RoPE at each position of a batch: `[m][dims/2]` each.
#[derive(Default)]
pub struct RopeTable {
    /// Rotated dimensions (<= head_dim), even.
    pub dims: usize,
    /// Pairing: true = (2i, 2i+1) (GGUF "normal", llama), false = (i, i + dims/2) (neox).
    pub interleaved: bool,
    /// `[m][dims/2]`
    pub cos: Vec<f32>,
    /// `[m][dims/2]`
    pub sin: Vec<f32>,
}

/// Gate function of the MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// x * sigmoid(x)
    Silu,
    /// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
    GeluTanh,
}

/// One layer's K or V: ring of `capacity` positions, `[capacity][kv_heads * head_dim]`, position p at slot p % capacity.
pub enum KvBuf {
    /// f16 bits (Fast)
    F16(Vec<u16>),
    /// f32 (Exact)
    F32(Vec<f32>),
}

/// Facts of an attention call.
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// K/V heads; divides `heads`; query head h reads kv head h / (heads/kv_heads).
    pub kv_heads: usize,
    /// Elements of a head (same for k and v).
    pub head_dim: usize,
    /// Multiplies q·k.
    pub scale: f32,
    /// cap * tanh(score / cap) before the softmax.
    pub softcap: Option<f32>,
    /// Query at p sees keys j with p - j < window.
    pub window: Option<usize>,
    /// Slots of the ring.
    pub capacity: usize,
    /// Position of the first query row; row t has position `pos + t`, whose K/V are already in the ring.
    pub pos: usize,
}

/// Low-rank update y += scale * B (A x) for f32 factors.
pub struct LowRank {
    /// r
    pub rank: usize,
    /// `[r][k]`
    pub a: Vec<f32>,
    /// `[n][r]`
    pub b: Vec<f32>,
}

/// The CPU backend: function table of the chosen ISA level plus the thread team.
pub struct Cpu {
    _todo: Range<usize>,
}

#[allow(unused_variables, clippy::too_many_arguments)]
impl Cpu {
    /// `threads`: None = physical cores.
    pub fn new(threads: Option<usize>) -> crate::Result<Self> {
        todo!()
    }
    /// Name of the level in use: `scalar`, `avx2`, …
    pub fn isa(&self) -> &'static str {
        todo!()
    }
    /// Threads of the team.
    pub fn threads(&self) -> usize {
        todo!()
    }
    /// out[t] = scale * row ids[t] of `w` (dequantized exactly). ids are < w.rows (checked: panics otherwise).
    pub fn embed(&self, w: Weight, ids: &[u32], scale: f32, out: &mut [f32]) {
        todo!()
    }
    /// Each row of `weight.len()`: x / sqrt(mean(x^2) + eps) * weight.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        todo!()
    }
    /// The same in place (q/k norm per head; post norms).
    pub fn rms_norm_inplace(&self, x: &mut [f32], weight: &[f32], eps: f32) {
        todo!()
    }
    /// Copies/quantizes `x` (`[m][k]`) into `acts` in every form that `formats` (of the weights that will read it) need.
    pub fn pack(&self, x: &[f32], k: usize, formats: &[BlockFormat], precision: Precision, acts: &mut Acts) {
        todo!()
    }
    /// y[m][n] = x w^T.
    pub fn matmul(&self, w: Weight, acts: &Acts, precision: Precision, y: &mut [f32]) {
        todo!()
    }
    /// y[m][n] += scale * (x a^T) b^T; x `[m][k]` f32.
    pub fn low_rank(&self, l: &LowRank, scale: f32, x: &[f32], tmp: &mut Vec<f32>, y: &mut [f32]) {
        todo!()
    }
    /// Each row of y += bias.
    pub fn add_bias(&self, y: &mut [f32], bias: &[f32]) {
        todo!()
    }
    /// y += x.
    pub fn add(&self, y: &mut [f32], x: &[f32]) {
        todo!()
    }
    /// Rotates `x` = `[m][heads][head_dim]` in place.
    pub fn rope(&self, x: &mut [f32], heads: usize, head_dim: usize, table: &RopeTable) {
        todo!()
    }
    /// gate = act(gate) * up.
    pub fn gated(&self, act: Act, gate: &mut [f32], up: &[f32]) {
        todo!()
    }
    /// Writes rows `x` (`[m][width]`) at positions pos.. of the ring.
    pub fn kv_write(&self, x: &[f32], width: usize, pos: usize, capacity: usize, kv: &mut KvBuf) {
        todo!()
    }
    /// Streaming-softmax attention: q `[m][heads*head_dim]` -> out the same shape; no n² buffer.
    pub fn attention(&self, a: &Attention, q: &[f32], k: &KvBuf, v: &KvBuf, out: &mut [f32]) {
        todo!()
    }
    /// x = cap * tanh(x / cap).
    pub fn softcap(&self, x: &mut [f32], cap: f32) {
        todo!()
    }
}

//! What the forward pass asks of a device: some twenty operations on whole tensors.
//!
//! A backend owns its buffers and weights; the decoder only passes them around. Activations are row-major
//! `[tokens][features]`. Lengths that do not belong together are defects of the caller and may panic.

use crate::adapter::forms::LowRank;
use crate::error::Result;
use crate::format::{Gguf, TensorInfo};
use crate::kernels::Precision;
use crate::kernels::cpu::{Act, Attention};

use super::spec::Rope;

/// A device that runs models.
pub trait Backend: Send + Sync + Sized + 'static {
    /// A weight matrix `[rows][cols]`.
    type Weight: Send + Sync;
    /// A vector of f32: norm weights, biases.
    type Vector: Send + Sync;
    /// Activations.
    type Buf: Default + Send;
    /// Activations made ready for the weights that read them.
    type Acts: Default + Send;
    /// The factors of a low-rank update.
    type LowRank: Send + Sync;
    /// One layer's ring of K or V rows.
    type Kv: Send;
    /// Rotations of a run of positions.
    type RopeTable: Default + Send;

    /// Takes a matrix from the file (in place, where the device can).
    fn weight(&self, gguf: &Gguf, t: &TensorInfo, rows: usize, cols: usize) -> Result<Self::Weight>;
    /// Takes a vector from the file.
    fn vector(&self, gguf: &Gguf, t: &TensorInfo) -> Result<Self::Vector>;
    /// Packs an adapter's factors.
    fn low_rank_factors(&self, factors: &LowRank) -> Result<Self::LowRank>;
    /// An empty ring of `capacity` rows of `width`; f32 for `Exact`, f16 for `Fast`.
    fn kv(&self, capacity: usize, width: usize, precision: Precision) -> Result<Self::Kv>;

    /// Makes `buf` hold `len` elements with unspecified contents.
    fn resize(&self, buf: &mut Self::Buf, len: usize);
    /// `out[t] = scale * row ids[t]` of w.
    fn embed(&self, w: &Self::Weight, ids: &[u32], scale: f32, out: &mut Self::Buf);
    /// RMSNorm of each row of the weight's length, out of place.
    fn rms_norm(&self, x: &Self::Buf, w: &Self::Vector, eps: f32, out: &mut Self::Buf);
    /// RMSNorm of each row of the weight's length, in place.
    fn rms_norm_inplace(&self, x: &mut Self::Buf, w: &Self::Vector, eps: f32);
    /// Makes rows `x` of width `cols` ready for `weights`.
    fn pack<const N: usize>(
        &self,
        x: &Self::Buf,
        cols: usize,
        weights: [&Self::Weight; N],
        precision: Precision,
        acts: &mut Self::Acts,
    );
    /// [`rms_norm`](Self::rms_norm) of x to `normed`, and [`pack`](Self::pack) of that.
    #[allow(clippy::too_many_arguments)] // those of two operations
    fn norm_pack<const N: usize>(
        &self,
        x: &Self::Buf,
        norm: &Self::Vector,
        eps: f32,
        normed: &mut Self::Buf,
        weights: [&Self::Weight; N],
        precision: Precision,
        acts: &mut Self::Acts,
    );
    /// y = x w^T for each (w, y): matrices that read the same activations are one step for the device.
    fn matmul<const N: usize>(&self, to: [(&Self::Weight, &mut Self::Buf); N], acts: &Self::Acts, precision: Precision);
    /// y += scale * (x a^T) b^T; x is packed in `acts` for the weights at least, `tmp` is room for x a^T.
    fn low_rank(
        &self,
        l: &Self::LowRank,
        scale: f32,
        x: &Self::Buf,
        acts: &mut Self::Acts,
        tmp: &mut Self::Acts,
        y: &mut Self::Buf,
    );
    /// Each row of y += bias.
    fn add_bias(&self, y: &mut Self::Buf, bias: &Self::Vector);
    /// y += x.
    fn add(&self, y: &mut Self::Buf, x: &Self::Buf);
    /// The rotations of positions `pos..pos + m`.
    fn rope_table(&self, rope: &Rope, pos: usize, m: usize, table: &mut Self::RopeTable);
    /// Rotates the heads of `x`, whose row t has the table's t-th rotation.
    fn rope(&self, x: &mut Self::Buf, heads: usize, head_dim: usize, table: &Self::RopeTable);
    /// gate = act(gate) * up.
    fn gated(&self, act: Act, gate: &mut Self::Buf, up: &Self::Buf);
    /// Writes rows `x` of `width` at position `pos` on.
    fn kv_write(&self, x: &Self::Buf, width: usize, pos: usize, capacity: usize, kv: &mut Self::Kv);
    /// Attention of `q` over the ring.
    fn attention(&self, a: &Attention, q: &Self::Buf, k: &Self::Kv, v: &Self::Kv, out: &mut Self::Buf);
    /// x = cap * tanh(x / cap).
    fn softcap(&self, x: &mut Self::Buf, cap: f32);
    /// Copies rows `first..first + n` of width `cols` into `out`.
    fn copy_rows(&self, x: &Self::Buf, cols: usize, first: usize, n: usize, out: &mut Self::Buf);
    /// Reads a buffer.
    fn read<'a>(&self, buf: &'a Self::Buf) -> std::borrow::Cow<'a, [f32]>;
}

//! What the forward pass asks of a device: some twenty operations on whole tensors.
//!
//! A backend owns its buffers and weights; the decoder only passes them around. Activations are row-major
//! `[tokens][features]`. Lengths that do not belong together are defects of the caller and may panic.

use std::ops::Range;
use std::sync::Arc;

use crate::adapter::forms::{Blocks, Pairs};
use crate::adapter::matrix::Matrix;
use crate::error::Result;
use crate::format::{Gguf, TensorInfo};
use crate::kernels::cpu::{Act, Attention, Panels};
use crate::kernels::{Draw, Precision};
use crate::model::dropout::Dropout;

use super::cpu::CpuWeight;
use super::spec::Rope;

/// A low-rank update on a device: out ⊙ B (mid ⊙ (A x)).
///
/// Cloning shares it: what a pass runs holds it by value, so that it finds the factors without a walk through memory that is cold by then.
pub struct LowRankOn<B: Backend> {
    /// A, `[rank][in]`.
    pub a: B::Factor,
    /// B, `[out][rank]`.
    pub b: B::Factor,
    /// `[rank]`
    pub mid: Option<Arc<B::Vector>>,
    /// `[out]`
    pub out: Option<Arc<B::Vector>>,
}

impl<B: Backend> Clone for LowRankOn<B> {
    fn clone(&self) -> Self {
        LowRankOn {
            a: self.a.clone(),
            b: self.b.clone(),
            mid: self.mid.clone(),
            out: self.out.clone(),
        }
    }
}

/// The same of an embedding: x is a token, and A^T has a row for each.
pub struct GatherOn<B: Backend> {
    /// A^T, `[tokens][rank]`.
    pub table: Arc<B::Weight>,
    /// B, `[out][rank]`.
    pub b: B::Factor,
    /// `[rank]`
    pub mid: Option<Arc<B::Vector>>,
    /// `[out]`
    pub out: Option<Arc<B::Vector>>,
}

/// An update as a pass runs it.
pub struct Update<B: Backend> {
    /// What.
    pub low_rank: LowRankOn<B>,
    /// Multiplies it.
    pub scale: f32,
    /// The gate that it waits for.
    pub gate: Option<usize>,
}

/// Factors, and what is added behind them: x := factors ⊙ x + shift.
pub type Affine<B> = (<B as Backend>::Vector, Option<<B as Backend>::Vector>);

/// What a product of the pass does with its columns while it has them: y := factors ⊙ (y + updates + bias) + shift.
pub struct Epilogue<'a, B: Backend> {
    /// Low-rank updates, of the input of the product.
    pub updates: &'a [Update<B>],
    /// The module's bias.
    pub bias: Option<&'a B::Vector>,
    /// What multiplies all that.
    pub affine: Option<&'a Affine<B>>,
}

impl<B: Backend> Epilogue<'_, B> {
    /// Nothing.
    pub const NONE: Self = Epilogue {
        updates: &[],
        bias: None,
        affine: None,
    };
}

/// A device that runs models.
pub trait Backend: Send + Sync + Sized + 'static {
    /// A weight matrix `[rows][cols]`.
    type Weight: Send + Sync;
    /// A vector of f32: norm weights, biases.
    type Vector: Send + Sync;
    /// Activations.
    type Buf: Default + Send + Sync;
    /// Activations made ready for the weights that read them.
    type Acts: Default + Send;
    /// A factor of a low-rank update. Cloning shares it.
    type Factor: Clone + Send + Sync;
    /// Rotations of pairs of features.
    type Pairs: Send + Sync;
    /// Blocks that features are multiplied with.
    type Blocks: Send + Sync;
    /// Ids of tokens.
    type Ids: Send + Sync;
    /// One layer's ring of K or V rows.
    type Kv: Send;
    /// Rotations of a run of positions.
    type RopeTable: Default + Send;

    /// Takes a matrix from the file (in place, where the device can).
    fn weight(&self, gguf: &Gguf, t: &TensorInfo, rows: usize, cols: usize) -> Result<Self::Weight>;
    /// Takes a vector from the file.
    fn vector(&self, gguf: &Gguf, t: &TensorInfo) -> Result<Self::Vector>;
    /// Takes a matrix of an adapter.
    fn matrix(&self, m: &Matrix) -> Result<Self::Weight>;
    /// Takes a factor of a low-rank update.
    fn factor(&self, m: &Matrix) -> Result<Self::Factor>;
    /// Takes a vector of an adapter.
    fn vector_of(&self, values: &[f32]) -> Result<Self::Vector>;
    /// Takes rotations of an adapter.
    fn pairs_of(&self, pairs: Pairs) -> Result<Self::Pairs>;
    /// Takes blocks of an adapter.
    fn blocks_of(&self, blocks: Blocks) -> Result<Self::Blocks>;
    /// Takes an adapter's list of tokens.
    fn ids_of(&self, ids: Vec<u32>) -> Result<Self::Ids>;
    /// Takes a matrix that is to stand in place of `old`.
    fn replacement(&self, w: CpuWeight, old: &Self::Weight) -> Result<Self::Weight>;
    /// The matrix as it lies in the CPU's memory.
    fn host<'a>(&self, w: &'a Self::Weight) -> &'a CpuWeight;
    /// The factor as it lies in the CPU's memory.
    fn host_factor<'a>(&self, f: &'a Self::Factor) -> &'a Panels;
    /// The rotations as they lie in the CPU's memory.
    fn host_pairs<'a>(&self, pairs: &'a Self::Pairs) -> &'a Pairs;
    /// The blocks as they lie in the CPU's memory.
    fn host_blocks<'a>(&self, blocks: &'a Self::Blocks) -> &'a Blocks;
    /// The ids as they lie in the CPU's memory.
    fn host_ids<'a>(&self, ids: &'a Self::Ids) -> &'a [u32];
    /// Reads rows from `first` on, as many as `out` holds.
    fn read_rows(&self, w: &Self::Weight, first: usize, out: &mut [f32]);
    /// The vector as it lies in the CPU's memory.
    fn read_vector<'a>(&self, v: &'a Self::Vector) -> &'a [f32];
    /// Makes `buf` hold `values`.
    fn write(&self, values: &[f32], buf: &mut Self::Buf);
    /// An empty ring of `capacity` rows of `width`, where what `near` gives is; f32 for `Exact`, f16 for `Fast`.
    fn kv(&self, near: &Self::Weight, capacity: usize, width: usize, precision: Precision) -> Result<Self::Kv>;
    /// What went wrong in operations of this thread since the last call: they return nothing themselves. What they were to compute, and
    /// all that was computed of it, is then worth nothing.
    fn check(&self) -> Result<()>;

    /// Makes `buf` hold `len` elements with unspecified contents.
    fn resize(&self, buf: &mut Self::Buf, len: usize);
    /// `out[t] = scale * row ids[t]` of w.
    fn embed(&self, w: &Self::Weight, ids: &[u32], scale: f32, out: &mut Self::Buf);
    /// RMSNorm of each row of the weight's length, out of place.
    fn rms_norm(&self, x: &Self::Buf, w: &Self::Vector, eps: f32, out: &mut Self::Buf);
    /// RMSNorm of each row of the weight's length, in place.
    fn rms_norm_inplace(&self, x: &mut Self::Buf, w: &Self::Vector, eps: f32);
    /// Makes rows `x` of width `cols` ready for `weights`, and for [`Update`]s if `updates`.
    fn pack<const N: usize>(
        &self,
        x: &Self::Buf,
        cols: usize,
        weights: [&Self::Weight; N],
        updates: bool,
        precision: Precision,
        acts: &mut Self::Acts,
    );
    /// [`pack`](Self::pack) of factors ⊙ x + shift for each row x.
    fn affine_pack<const N: usize>(
        &self,
        x: &Self::Buf,
        affine: &Affine<Self>,
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
        updates: bool,
        precision: Precision,
        acts: &mut Self::Acts,
    );
    /// y = x w^T for each (w, y): matrices that read the same activations are one step for the device.
    fn matmul<const N: usize>(&self, to: [(&Self::Weight, &mut Self::Buf); N], acts: &Self::Acts, precision: Precision);
    /// Adds the f32 form of x, which is packed in `acts` for other readers, unless it is there.
    fn pack_f32(&self, x: &Self::Buf, acts: &mut Self::Acts);
    /// As [`matmul`](Self::matmul), and what each [`Epilogue`] says; `acts` was packed for its updates too, if there are any. Of an update
    /// that waits for gate g rows before `gates[g]` have none. `next` are the A of updates that will be needed next.
    fn linear<const N: usize>(
        &self,
        to: [(&Self::Weight, &mut Self::Buf); N],
        acts: &Self::Acts,
        precision: Precision,
        epilogues: [Epilogue<Self>; N],
        gates: &[usize],
        next: &[Self::Factor],
    );
    /// y += scale * the update of x in rows from `from` on.
    fn low_rank(
        &self,
        l: &LowRankOn<Self>,
        scale: f32,
        from: usize,
        precision: Precision,
        x: &Self::Buf,
        y: &mut Self::Buf,
    );
    /// The same of tokens.
    fn gather_low_rank(&self, l: &GatherOn<Self>, scale: f32, from: usize, ids: &[u32], y: &mut Self::Buf);
    /// y += scale * x d^T; x is packed in `acts` in f32.
    fn dense(&self, d: &Self::Weight, scale: f32, acts: &Self::Acts, y: &mut Self::Buf);
    /// y += scale * (w1 ⊗ w2) x for rows x.
    fn kron(
        &self,
        w1: &Self::Weight,
        w2: &Self::Weight,
        scale: f32,
        x: &Self::Buf,
        tmp: &mut Self::Acts,
        y: &mut Self::Buf,
    );
    /// Each row of y := factors ⊙ y + shift.
    fn affine(&self, y: &mut Self::Buf, affine: &Affine<Self>);
    /// Each row of y, as [`Pairs`] says.
    fn pairs(&self, y: &mut Self::Buf, pairs: &Self::Pairs);
    /// Each row of x, as [`Blocks`] says.
    fn blocks(&self, x: &mut Self::Buf, blocks: &Self::Blocks);
    /// Row t of `out` := row of w with the place that `ids[t]` has in `of`, where it has one.
    fn replace_rows(&self, w: &Self::Weight, of: &Self::Ids, ids: &[u32], out: &mut Self::Buf);
    /// Columns `of` of each row of y := x w^T; x is packed in `acts` in f32.
    fn replace_products(&self, w: &Self::Weight, of: &Self::Ids, acts: &Self::Acts, y: &mut Self::Buf);
    /// Each row of x, as [`Dropout`] says.
    fn drop_out(&self, x: &mut Self::Buf, cols: usize, dropout: &Dropout);
    /// Copies x.
    fn copy(&self, x: &Self::Buf, out: &mut Self::Buf);
    /// x *= scale.
    fn scale(&self, x: &mut Self::Buf, scale: f32);
    /// Each row of y += scale * bias.
    fn add_bias(&self, y: &mut Self::Buf, bias: &Self::Vector, scale: f32);
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
    /// Appends these numbers of the ring to `out`, as little-endian bytes of its own type.
    fn kv_save(&self, kv: &Self::Kv, numbers: Range<usize>, out: &mut Vec<u8>);
    /// Takes these numbers of the ring from such bytes.
    fn kv_load(&self, bytes: &[u8], numbers: Range<usize>, kv: &mut Self::Kv);
    /// Attention of `q` over the ring.
    fn attention(&self, a: &Attention, q: &Self::Buf, k: &Self::Kv, v: &Self::Kv, out: &mut Self::Buf);
    /// x = cap * tanh(x / cap).
    fn softcap(&self, x: &mut Self::Buf, cap: f32);
    /// Copies rows `first..first + n` of width `cols` into `out`.
    fn copy_rows(&self, x: &Self::Buf, cols: usize, first: usize, n: usize, out: &mut Self::Buf);
    /// Reads a buffer.
    fn read<'a>(&self, buf: &'a Self::Buf) -> std::borrow::Cow<'a, [f32]>;
    /// Whether [`draw`](Self::draw) is for these logits: they are where it can choose without bringing them to the CPU.
    fn draws(&self, _logits: &Self::Buf) -> bool {
        false
    }
    /// The token that `draw` chooses by a row of logits. `None`: they are to be read, and the CPU chooses.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    fn draw(&self, _logits: &Self::Buf, _draw: &Draw) -> Result<Option<u32>> {
        Ok(None)
    }
}

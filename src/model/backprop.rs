//! What the backward pass asks of a device beside [`Backend`]: the way back through the operations that have one.
//!
//! `dy` is the gradient of the loss by y. Operations that say "+=" add to what is there: gradients of what several readers read are sums.

use crate::adapter::forms::{Blocks, Kron, Pairs};
use crate::kernels::Precision;
use crate::kernels::cpu::{Act, Attention};

use super::backend::Backend;

/// A device that trains.
pub trait Backprop: Backend {
    /// Makes `buf` hold `len` zeros.
    fn zeros(&self, buf: &mut Self::Buf, len: usize);
    /// y (`[rows][n]`) = or += x w for w `[depth][n]`; x is `[rows][depth]`, or `[depth][rows]` if `turned`.
    #[allow(clippy::too_many_arguments)] // a product's
    fn multiply(
        &self,
        x: &Self::Buf,
        turned: bool,
        depth: usize,
        w: &Self::Buf,
        n: usize,
        y: &mut Self::Buf,
        add: bool,
    );
    /// The numbers of a factor, or of it turned, row by row.
    fn factor_numbers(&self, f: &Self::Factor, turned: bool, out: &mut Self::Buf);
    /// Takes the numbers out of a buffer, which is empty then.
    fn take(&self, buf: &mut Self::Buf) -> Vec<f32>;
    /// The first `len` numbers of the rows that [`kv_write`](Backend::kv_write) wrote from position 0 on.
    fn kv_read(&self, kv: &Self::Kv, len: usize, out: &mut Self::Buf);
    /// Of y = x w^T: dx += dy w.
    fn matmul_back(&self, w: &Self::Weight, dy: &Self::Buf, dx: &mut Self::Buf, precision: Precision);
    /// Of y = [`rms_norm`](Backend::rms_norm)(x): dx +=, and dw += where it is asked for.
    #[allow(clippy::too_many_arguments)] // those of the operation and their gradients
    fn rms_norm_back(
        &self,
        x: &Self::Buf,
        w: &Self::Vector,
        eps: f32,
        dy: &Self::Buf,
        dx: &mut Self::Buf,
        dw: Option<&mut Self::Buf>,
    );
    /// Of [`rope`](Backend::rope): dy becomes dx.
    fn rope_back(&self, dy: &mut Self::Buf, heads: usize, head_dim: usize, table: &Self::RopeTable);
    /// Of h = act(gate) * up.
    fn gated_back(
        &self,
        act: Act,
        gate: &Self::Buf,
        up: &Self::Buf,
        dh: &Self::Buf,
        d_gate: &mut Self::Buf,
        d_up: &mut Self::Buf,
    );
    /// Of [`attention`](Backend::attention), whose ring holds all positions from 0 on: dq, and dk and dv of all positions up to the last.
    #[allow(clippy::too_many_arguments)] // those of the operation and their gradients
    fn attention_back(
        &self,
        a: &Attention,
        q: &Self::Buf,
        k: &Self::Kv,
        v: &Self::Kv,
        d_out: &Self::Buf,
        dq: &mut Self::Buf,
        dk: &mut Self::Buf,
        dv: &mut Self::Buf,
    );
    /// The loss -ln softmax(row)_target of each row of logits, which becomes the loss's gradient times `scale`, by the logits before
    /// their soft cap.
    fn cross_entropy(
        &self,
        logits: &mut Self::Buf,
        targets: &[u32],
        softcap: Option<f32>,
        scale: f32,
        losses: &mut Vec<f32>,
    );
    /// `d_factors` += the sum over rows of x dy.
    fn affine_back(&self, x: &Self::Buf, dy: &Self::Buf, d_factors: &mut Self::Buf);
    /// y += each row of x.
    fn sum_rows(&self, x: &Self::Buf, y: &mut Self::Buf);
    /// Each row of x is multiplied by `factors`.
    fn scale_columns(&self, x: &mut Self::Buf, factors: &Self::Buf);
    /// Row `to` of y += row `from` of x for each (from, to); rows of `width`.
    fn scatter_rows(&self, x: &Self::Buf, width: usize, rows: &[(usize, usize)], y: &mut Self::Buf);
    /// Rows `of` of x, which are of `width`, one after the other.
    fn take_rows(&self, x: &Self::Buf, width: usize, of: &[usize], out: &mut Self::Buf);
    /// These rows of x, of `width`, become 0.
    fn zero_rows(&self, x: &mut Self::Buf, width: usize, rows: impl Iterator<Item = usize>);
    /// Of [`replace_products`](Backend::replace_products): columns `of` of the rows y, of `width`, go to `out`, and leave zeros.
    fn take_columns(&self, y: &mut Self::Buf, width: usize, of: &[u32], out: &mut Self::Buf);
    /// Element j of d += the product of row j of x and row j of y.
    fn row_dots(&self, x: &Self::Buf, y: &Self::Buf, d: &mut Self::Buf);
    /// Of [`blocks`](Backend::blocks) of x: dy becomes dx, and `d_blocks` +=.
    fn blocks_back(&self, x: &Self::Buf, blocks: &Blocks, dy: &mut Self::Buf, d_blocks: &mut Self::Buf);
    /// Of [`pairs`](Backend::pairs) of y: dy becomes the gradient by that y, and those by the factors +=.
    fn pairs_back(&self, y: &Self::Buf, pairs: &Pairs, dy: &mut Self::Buf, d_f: &mut Self::Buf, d_h: &mut Self::Buf);
    /// Of y += what [`Kron`] says of x, whose factors hold `w1` and `w2`: dx, and those by the factors, +=.
    #[allow(clippy::too_many_arguments)] // those of the operation and their gradients
    fn kron_back(
        &self,
        kron: &Kron,
        w1: &Self::Buf,
        w2: &Self::Buf,
        x: &Self::Buf,
        dy: &Self::Buf,
        dx: &mut Self::Buf,
        d_w1: &mut Self::Buf,
        d_w2: &mut Self::Buf,
    );
}

//! What the backward pass asks of a device beside [`Backend`]: the way back through the operations that have one.
//!
//! `dy` is the gradient of the loss by y. Operations that say "+=" add to what is there: gradients of what several readers read are sums.

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
    /// Of [`rope`](Backend::rope): dy becomes dx. Rows before `first` are left alone; the table's first rotation is that of row `first`.
    fn rope_back(&self, dy: &mut Self::Buf, first: usize, heads: usize, head_dim: usize, table: &Self::RopeTable);
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
}

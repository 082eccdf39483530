//! The way back of an [`Offload`]: so far the CPU does all of it, with copies of what lies on the GPU; the forward pass of training runs where
//! its weights are.

use std::sync::Arc;

use crate::adapter::forms::{Blocks, Kron, Pairs};
use crate::kernels::Precision;
use crate::kernels::cpu::{Act, Attention, KvBuf};
use crate::kernels::cuda::Gpu;
use crate::model::backprop::Backprop;

use super::{Buf, Factor, Kv, Offload, RopeTable, Vector, Weight};

impl Offload {
    /// To read on the CPU.
    #[allow(clippy::owned_cow)] // the CPU's operations take its buffers
    fn read_buf<'a>(&self, buf: &'a Buf) -> std::borrow::Cow<'a, Vec<f32>> {
        buf.host(self.gpu())
    }

    /// To change on the CPU.
    fn change<'a>(&self, buf: &'a mut Buf) -> &'a mut Vec<f32> {
        buf.host_change(self.cpu(), self.gpu())
    }

    /// Changes a buffer on the CPU whose length the operation gives.
    fn refill(&self, buf: &mut Buf, f: impl FnOnce(&mut Vec<f32>)) {
        f(buf.host_any());
        buf.settle();
    }

    /// Calls `f` with the ring on the CPU.
    fn with_ring<T>(&self, kv: &Kv, f: impl FnOnce(&KvBuf) -> T) -> T {
        match (self.gpu(), kv) {
            (_, Kv::Cpu(kv)) => f(kv),
            (Some(gpu), Kv::Gpu(kv)) => f(&down(gpu, kv)),
            (None, Kv::Gpu(_)) => unreachable!("a ring on a GPU that is not there"),
        }
    }
}

/// A ring copied to the CPU.
fn down(gpu: &Arc<Gpu>, kv: &super::values::GpuKv) -> KvBuf {
    let mut bytes = vec![0; kv.len * kv.value_size()];
    gpu.run(|| gpu.get(kv.memory.at(), &mut bytes));
    match kv.precision {
        Precision::Fast | Precision::Fine => {
            KvBuf::F16(bytes.as_chunks().0.iter().map(|v| u16::from_le_bytes(*v)).collect())
        }
        Precision::Exact => KvBuf::F32(bytes.as_chunks().0.iter().map(|v| f32::from_le_bytes(*v)).collect()),
    }
}

impl Backprop for Offload {
    fn zeros(&self, buf: &mut Buf, len: usize) {
        self.refill(buf, |buf| Backprop::zeros(self.cpu(), buf, len));
    }

    fn multiply(&self, x: &Buf, turned: bool, depth: usize, w: &Buf, n: usize, y: &mut Buf, add: bool) {
        let (x, w, y) = (self.read_buf(x), self.read_buf(w), self.change(y));
        Backprop::multiply(self.cpu(), &x, turned, depth, &w, n, y, add);
    }

    fn factor_numbers(&self, f: &Factor, turned: bool, out: &mut Buf) {
        self.refill(out, |out| self.cpu().factor_numbers(&f.host, turned, out));
    }

    fn take(&self, buf: &mut Buf) -> Vec<f32> {
        let taken = std::mem::take(self.change(buf));
        buf.settle();
        taken
    }

    fn kv_read(&self, kv: &Kv, len: usize, out: &mut Buf) {
        self.with_ring(kv, |kv| {
            self.refill(out, |out| Backprop::kv_read(self.cpu(), kv, len, out));
        });
    }

    fn matmul_back(&self, w: &Weight, dy: &Buf, dx: &mut Buf, precision: Precision) {
        let (dy, dx) = (self.read_buf(dy), self.change(dx));
        Backprop::matmul_back(self.cpu(), &w.host, &dy, dx, precision);
    }

    fn rms_norm_back(&self, x: &Buf, w: &Vector, eps: f32, dy: &Buf, dx: &mut Buf, dw: Option<&mut Buf>) {
        let (x, dy, dx, dw) = (
            self.read_buf(x),
            self.read_buf(dy),
            self.change(dx),
            dw.map(|dw| self.change(dw)),
        );
        Backprop::rms_norm_back(self.cpu(), &x, &w.host, eps, &dy, dx, dw);
    }

    fn rope_back(&self, dy: &mut Buf, heads: usize, head_dim: usize, table: &RopeTable) {
        let dy = self.change(dy);
        if table.m == 0 {
            return Backprop::rope_back(self.cpu(), dy, heads, head_dim, &table.host);
        }
        // Only the GPU may have the table.
        let mut host = crate::kernels::cpu::RopeTable {
            dims: 2 * table.half,
            interleaved: table.interleaved,
            cos: vec![0.0; table.m * table.half],
            sin: vec![0.0; table.m * table.half],
        };
        if let (Some(gpu), Some(cos), Some(sin)) = (self.gpu(), &table.cos, &table.sin) {
            gpu.run(|| {
                gpu.get_f32(cos.at(), &mut host.cos)?;
                gpu.get_f32(sin.at(), &mut host.sin)
            });
        }
        Backprop::rope_back(self.cpu(), dy, heads, head_dim, &host);
    }

    fn gated_back(&self, act: Act, gate: &Buf, up: &Buf, dh: &Buf, d_gate: &mut Buf, d_up: &mut Buf) {
        let (gate, up, dh) = (self.read_buf(gate), self.read_buf(up), self.read_buf(dh));
        let (d_gate, d_up) = (self.change(d_gate), self.change(d_up));
        Backprop::gated_back(self.cpu(), act, &gate, &up, &dh, d_gate, d_up);
    }

    fn attention_back(
        &self,
        a: &Attention,
        q: &Buf,
        k: &Kv,
        v: &Kv,
        d_out: &Buf,
        dq: &mut Buf,
        dk: &mut Buf,
        dv: &mut Buf,
    ) {
        let (q, d_out) = (self.read_buf(q), self.read_buf(d_out));
        let (dq, dk, dv) = (self.change(dq), self.change(dk), self.change(dv));
        self.with_ring(k, |k| {
            self.with_ring(v, |v| {
                Backprop::attention_back(self.cpu(), a, &q, k, v, &d_out, dq, dk, dv);
            });
        });
    }

    fn cross_entropy(
        &self,
        logits: &mut Buf,
        targets: &[u32],
        softcap: Option<f32>,
        scale: f32,
        losses: &mut Vec<f32>,
    ) {
        Backprop::cross_entropy(self.cpu(), self.change(logits), targets, softcap, scale, losses);
    }

    fn affine_back(&self, x: &Buf, dy: &Buf, d_factors: &mut Buf) {
        let (x, dy, d_factors) = (self.read_buf(x), self.read_buf(dy), self.change(d_factors));
        Backprop::affine_back(self.cpu(), &x, &dy, d_factors);
    }

    fn sum_rows(&self, x: &Buf, y: &mut Buf) {
        Backprop::sum_rows(self.cpu(), &self.read_buf(x), self.change(y));
    }

    fn scale_columns(&self, x: &mut Buf, factors: &Buf) {
        self.cpu().scale_columns(self.change(x), &self.read_buf(factors));
    }

    fn scatter_rows(&self, x: &Buf, width: usize, rows: &[(usize, usize)], y: &mut Buf) {
        self.cpu().scatter_rows(&self.read_buf(x), width, rows, self.change(y));
    }

    fn zero_rows(&self, x: &mut Buf, width: usize, rows: impl Iterator<Item = usize>) {
        self.cpu().zero_rows(self.change(x), width, rows);
    }

    fn take_columns(&self, y: &mut Buf, width: usize, of: &[u32], out: &mut Buf) {
        let y = self.change(y);
        self.refill(out, |out| self.cpu().take_columns(y, width, of, out));
    }

    fn row_dots(&self, x: &Buf, y: &Buf, d: &mut Buf) {
        let (x, y, d) = (self.read_buf(x), self.read_buf(y), self.change(d));
        self.cpu().row_dots(&x, &y, d);
    }

    fn blocks_back(&self, x: &Buf, blocks: &Blocks, dy: &mut Buf, d_blocks: &mut Buf) {
        let (x, dy, d_blocks) = (self.read_buf(x), self.change(dy), self.change(d_blocks));
        Backprop::blocks_back(self.cpu(), &x, blocks, dy, d_blocks);
    }

    fn pairs_back(&self, y: &Buf, pairs: &Pairs, dy: &mut Buf, d_f: &mut Buf, d_h: &mut Buf) {
        let (y, dy, d_f, d_h) = (self.read_buf(y), self.change(dy), self.change(d_f), self.change(d_h));
        Backprop::pairs_back(self.cpu(), &y, pairs, dy, d_f, d_h);
    }

    fn kron_back(
        &self,
        kron: &Kron,
        w1: &Buf,
        w2: &Buf,
        x: &Buf,
        dy: &Buf,
        dx: &mut Buf,
        d_w1: &mut Buf,
        d_w2: &mut Buf,
    ) {
        let (w1, w2, x, dy) = (
            self.read_buf(w1),
            self.read_buf(w2),
            self.read_buf(x),
            self.read_buf(dy),
        );
        let (dx, d_w1, d_w2) = (self.change(dx), self.change(d_w1), self.change(d_w2));
        Backprop::kron_back(self.cpu(), kron, &w1, &w2, &x, &dy, dx, d_w1, d_w2);
    }
}

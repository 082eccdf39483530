//! The CPU's way back.

use crate::kernels::cpu::{Act, Attention, KvBuf, RopeTable, Strided};
use crate::kernels::op_times::Work;
use crate::kernels::{Cpu, Precision};

use super::backprop::Backprop;
use super::cpu::CpuWeight;

impl Backprop for Cpu {
    fn zeros(&self, buf: &mut Vec<f32>, len: usize) {
        buf.clear();
        buf.resize(len, 0.0);
    }

    fn multiply(&self, x: &Vec<f32>, turned: bool, depth: usize, w: &Vec<f32>, n: usize, y: &mut Vec<f32>, add: bool) {
        let strided = match turned {
            true => Strided::turned(x, x.len().checked_div(depth).unwrap_or(0)),
            false => Strided::rows(x, depth),
        };
        let work = Work {
            op: "multiply",
            macs: y.len() * depth,
            bytes: size_of_val(&w[..]),
            ..Work::default()
        };
        self.times()
            .time(work, || Cpu::multiply(self, strided, depth, w, n, y, add));
    }

    fn matmul_back(&self, w: &CpuWeight, dy: &Vec<f32>, dx: &mut Vec<f32>, precision: Precision) {
        let work = Work {
            op: "matmul_back",
            macs: dy.len() * w.cols(),
            bytes: w.bytes().len(),
            ..Work::default()
        };
        self.times().time(work, || match precision {
            Precision::Exact => Cpu::matmul_back(self, w.view(), dy, dx, true),
            Precision::Fast => Cpu::matmul_back_int(self, w.view(), dy, dx),
        });
    }

    fn rms_norm_back(
        &self,
        x: &Vec<f32>,
        w: &Vec<f32>,
        eps: f32,
        dy: &Vec<f32>,
        dx: &mut Vec<f32>,
        dw: Option<&mut Vec<f32>>,
    ) {
        let work = Work::elements("rms_norm_back", 4 * size_of_val(&x[..]));
        self.times().time(work, || {
            Cpu::rms_norm_back(self, x, w, eps, dy, dx, dw.map(|dw| &mut dw[..]))
        });
    }

    fn rope_back(&self, dy: &mut Vec<f32>, first: usize, heads: usize, head_dim: usize, table: &RopeTable) {
        let work = Work::elements("rope_back", 2 * size_of_val(&dy[..]));
        self.times().time(work, || {
            // A rotation's transpose is the rotation back; what multiplies both sine and cosine stays.
            let back = RopeTable {
                dims: table.dims,
                interleaved: table.interleaved,
                cos: table.cos.clone(),
                sin: table.sin.iter().map(|s| -s).collect(),
            };
            Cpu::rope(self, &mut dy[first * heads * head_dim..], heads, head_dim, &back);
        });
    }

    fn gated_back(
        &self,
        act: Act,
        gate: &Vec<f32>,
        up: &Vec<f32>,
        dh: &Vec<f32>,
        d_gate: &mut Vec<f32>,
        d_up: &mut Vec<f32>,
    ) {
        let work = Work::elements("gated_back", 5 * size_of_val(&gate[..]));
        self.times()
            .time(work, || Cpu::gated_back(self, act, gate, up, dh, d_gate, d_up));
    }

    fn attention_back(
        &self,
        a: &Attention,
        q: &Vec<f32>,
        k: &KvBuf,
        v: &KvBuf,
        d_out: &Vec<f32>,
        dq: &mut Vec<f32>,
        dk: &mut Vec<f32>,
        dv: &mut Vec<f32>,
    ) {
        let rows = q.len() / (a.heads * a.head_dim).max(1);
        let work = Work {
            op: "attention_back",
            macs: 5 * crate::kernels::cpu::pairs(a.pos, rows, a.window) * a.heads * a.head_dim,
            ..Work::default()
        };
        self.times()
            .time(work, || Cpu::attention_back(self, a, q, k, v, d_out, dq, dk, dv));
    }

    fn cross_entropy(
        &self,
        logits: &mut Vec<f32>,
        targets: &[u32],
        softcap: Option<f32>,
        scale: f32,
        losses: &mut Vec<f32>,
    ) {
        losses.clear();
        losses.resize(targets.len(), 0.0);
        let work = Work::elements("cross_entropy", 2 * size_of_val(&logits[..]));
        self.times().time(work, || {
            Cpu::cross_entropy(self, logits, targets, softcap, scale, losses)
        });
    }

    fn affine_back(&self, x: &Vec<f32>, dy: &Vec<f32>, d_factors: &mut Vec<f32>) {
        Cpu::affine_back(self, x, dy, d_factors);
    }

    fn sum_rows(&self, x: &Vec<f32>, y: &mut Vec<f32>) {
        Cpu::sum_rows(self, x, y);
    }

    fn scale_columns(&self, x: &mut Vec<f32>, factors: &Vec<f32>) {
        for row in x.chunks_exact_mut(factors.len().max(1)) {
            row.iter_mut().zip(factors).for_each(|(x, f)| *x *= f);
        }
    }
}

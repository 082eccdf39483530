//! The CPU's way back.

use crate::adapter::forms::{Blocks, Kron, Pairs};
use crate::kernels::cpu::{Act, Attention, KvBuf, Panels, RopeTable, Strided};
use crate::kernels::op_times::Work;
use crate::kernels::{Cpu, Precision};
use crate::model::backend::Backend;
use crate::model::backprop::Backprop;

use super::CpuWeight;

impl Backprop for Cpu {
    fn zeros(&self, buf: &mut Vec<f32>, len: usize) {
        self.resize(buf, len);
        let work = Work::elements("zeros", size_of_val(&buf[..]));
        self.times().time(work, || Cpu::zeros(self, buf));
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

    fn factor_numbers(&self, f: &Panels, turned: bool, out: &mut Vec<f32>) {
        self.resize(out, f.rows() * f.cols());
        let work = Work::elements("factor_numbers", 2 * size_of_val(&out[..]));
        self.times().time(work, || Cpu::panel_numbers(self, f, turned, out));
    }

    fn take(&self, buf: &mut Vec<f32>) -> Vec<f32> {
        std::mem::take(buf)
    }

    fn kv_read(&self, kv: &KvBuf, len: usize, out: &mut Vec<f32>) {
        self.resize(out, len);
        let work = Work::elements("kv_read", len * (size_of::<f32>() + kv.value_size()));
        self.times().time(work, || Cpu::kv_read(self, kv, out));
    }

    fn matmul_back(&self, w: &CpuWeight, dy: &Vec<f32>, dx: &mut Vec<f32>, precision: Precision) {
        let work = Work {
            op: "matmul_back",
            macs: dy.len() * w.cols(),
            bytes: w.bytes().len(),
            ..Work::default()
        };
        self.times().time(work, || match precision {
            Precision::Exact => Cpu::matmul_back(self, w.view(), dy, dx),
            Precision::Fast | Precision::Fine => Cpu::matmul_back_int(self, w.view(), dy, dx),
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

    fn rope_back(&self, dy: &mut Vec<f32>, heads: usize, head_dim: usize, table: &RopeTable) {
        let work = Work::elements("rope_back", 2 * size_of_val(&dy[..]));
        self.times().time(work, || {
            // A rotation's transpose is the rotation back; what multiplies both sine and cosine stays.
            let back = RopeTable {
                dims: table.dims,
                interleaved: table.interleaved,
                cos: table.cos.clone(),
                sin: table.sin.iter().map(|s| -s).collect(),
            };
            Cpu::rope(self, dy, heads, head_dim, &back);
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

    fn scatter_rows(&self, x: &Vec<f32>, width: usize, rows: &[(usize, usize)], y: &mut Vec<f32>) {
        for (from, to) in rows {
            let (x, y) = (&x[from * width..][..width], &mut y[to * width..][..width]);
            y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
        }
    }

    fn take_rows(&self, x: &Vec<f32>, width: usize, of: &[usize], out: &mut Vec<f32>) {
        out.clear();
        of.iter()
            .for_each(|row| out.extend_from_slice(&x[row * width..][..width]));
    }

    fn zero_rows(&self, x: &mut Vec<f32>, width: usize, rows: impl Iterator<Item = usize>) {
        rows.for_each(|row| x[row * width..][..width].fill(0.0));
    }

    fn take_columns(&self, y: &mut Vec<f32>, width: usize, of: &[u32], out: &mut Vec<f32>) {
        out.clear();
        for row in y.chunks_exact_mut(width) {
            out.extend(of.iter().map(|id| std::mem::take(&mut row[*id as usize])));
        }
    }

    fn row_dots(&self, x: &Vec<f32>, y: &Vec<f32>, d: &mut Vec<f32>) {
        let width = x.len() / d.len().max(1);
        for ((d, x), y) in d.iter_mut().zip(x.chunks_exact(width)).zip(y.chunks_exact(width)) {
            *d += x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
        }
    }

    fn blocks_back(&self, x: &Vec<f32>, blocks: &Blocks, dy: &mut Vec<f32>, d_blocks: &mut Vec<f32>) {
        let work = Work {
            op: "blocks_back",
            macs: 2 * x.len() * blocks.size,
            bytes: size_of_val(&blocks.blocks[..]),
            ..Work::default()
        };
        self.times().time(work, || {
            let order = blocks.order.as_deref();
            Cpu::blocks_back(self, x, blocks.size, &blocks.blocks, order, dy, d_blocks);
        });
    }

    fn pairs_back(&self, y: &Vec<f32>, p: &Pairs, dy: &mut Vec<f32>, d_f: &mut Vec<f32>, d_h: &mut Vec<f32>) {
        let work = Work::elements("pairs_back", 3 * size_of_val(&y[..]));
        self.times().time(work, || {
            Cpu::pairs_back(self, y, &p.f, &p.h, &p.partner, dy, d_f, d_h);
        });
    }

    fn kron_back(
        &self,
        kron: &Kron,
        w1: &Vec<f32>,
        w2: &Vec<f32>,
        x: &Vec<f32>,
        dy: &Vec<f32>,
        dx: &mut Vec<f32>,
        d_w1: &mut Vec<f32>,
        d_w2: &mut Vec<f32>,
    ) {
        let work = Work {
            op: "kron_back",
            macs: 3 * x.len() * kron.w2.rows() + 2 * dy.len() * kron.w1.cols(),
            bytes: size_of_val(&w1[..]) + size_of_val(&w2[..]),
            ..Work::default()
        };
        let (w1, w2) = ((&w1[..], kron.w1.cols()), (&w2[..], kron.w2.cols()));
        self.times()
            .time(work, || Cpu::kron_back(self, w1, w2, kron.scale, x, dy, dx, d_w1, d_w2));
    }
}

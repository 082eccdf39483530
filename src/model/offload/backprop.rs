//! The way back of an [`Offload`]: each operation runs where what it reads is, as on the way there.

use std::borrow::Cow;
use std::sync::Arc;

use crate::adapter::forms::{Blocks, Kron, Pairs};
use crate::error::{Error, Result};
use crate::kernels::Precision;
use crate::kernels::cpu::{Act, Attention};
use crate::kernels::cuda::{Gpu, Memory, Multiply};
use crate::model::backprop::Backprop;

use super::{Buf, Factor, Kv, Offload, RopeTable, Vector, Weight};

/// Bytes of a number.
const SIZE: usize = size_of::<f32>();

impl Offload {
    /// To read on the CPU.
    #[allow(clippy::owned_cow)] // the CPU's operations take its buffers
    fn read_buf<'a>(&self, buf: &'a Buf) -> Cow<'a, Vec<f32>> {
        match buf.factor() {
            None => buf.host(self.gpu()),
            Some((factor, turned)) => {
                let mut numbers = Vec::new();
                self.cpu().factor_numbers(&factor.host, turned, &mut numbers);
                Cow::Owned(numbers)
            }
        }
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
}

/// Lengths that do not belong together: a defect, which on a GPU must not become an access elsewhere.
fn check(right: bool, op: &str) -> Result<()> {
    match right {
        true => Ok(()),
        false => Err(Error::internal("lengths that do not belong together").item(op.to_owned())),
    }
}

/// y (`[rows][n]`) = or += x w, on the GPU.
#[allow(clippy::too_many_arguments)] // a product's
fn multiply_on(
    gpu: &Arc<Gpu>,
    x: &Buf,
    turned: bool,
    depth: usize,
    w: &Buf,
    n: usize,
    y: &mut Buf,
    add: bool,
) -> Result<()> {
    let rows = x.len().checked_div(depth).unwrap_or(0);
    check(
        x.len() == rows * depth && w.len() == depth * n && y.len() == rows * n,
        "multiply",
    )?;
    let (x, w) = (x.on(gpu)?, w.on(gpu)?);
    gpu.multiply(Multiply {
        x: x.at(),
        turned,
        depth,
        w: w.at(),
        n,
        y: if add { y.change_on(gpu)? } else { y.out_on(gpu)? },
        rows,
        add,
    })
}

/// The rows of a matrix as columns.
fn turned(w: &[f32], cols: usize) -> Vec<f32> {
    let rows = w.len() / cols.max(1);
    (0..w.len()).map(|i| w[i % rows * cols + i / rows]).collect()
}

impl Backprop for Offload {
    fn zeros(&self, buf: &mut Buf, len: usize) {
        match self.gpu() {
            // Where, says who adds to them.
            Some(_) => buf.set_zeros(len),
            None => self.refill(buf, |buf| Backprop::zeros(self.cpu(), buf, len)),
        }
    }

    fn multiply(&self, x: &Buf, turned: bool, depth: usize, w: &Buf, n: usize, y: &mut Buf, add: bool) {
        match self.with(x) {
            Some(gpu) => gpu.run(|| multiply_on(gpu, x, turned, depth, w, n, y, add)),
            None => {
                let (x, w, y) = (self.read_buf(x), self.read_buf(w), self.change(y));
                Backprop::multiply(self.cpu(), &x, turned, depth, &w, n, y, add);
            }
        }
    }

    fn factor_numbers(&self, f: &Factor, turned: bool, out: &mut Buf) {
        match &f.gpu {
            Some(_) => out.set_factor(f, turned),
            None => self.refill(out, |out| self.cpu().factor_numbers(&f.host, turned, out)),
        }
    }

    fn take(&self, buf: &mut Buf) -> Vec<f32> {
        let taken = std::mem::take(self.change(buf));
        buf.settle();
        taken
    }

    fn kv_read(&self, kv: &Kv, len: usize, out: &mut Buf) {
        match (self.gpu(), kv) {
            (Some(gpu), Kv::Gpu(kv)) => gpu.run(|| {
                check(len <= kv.len, "kv_read")?;
                out.resize(len);
                match kv.precision {
                    Precision::Fast | Precision::Fine => gpu.floats_of_halves(kv.memory.at(), len, out.out_on(gpu)?),
                    Precision::Exact => gpu.copy(out.out_on(gpu)?, kv.memory.at(), len * SIZE),
                }
            }),
            (_, Kv::Cpu(kv)) => self.refill(out, |out| Backprop::kv_read(self.cpu(), kv, len, out)),
            (None, Kv::Gpu(_)) => unreachable!("a ring on a GPU that is not there"),
        }
    }

    fn matmul_back(&self, w: &Weight, dy: &Buf, dx: &mut Buf, precision: Precision) {
        match (self.gpu(), &w.gpu) {
            (Some(gpu), Some(matrix)) => gpu.run(|| {
                let m = dy.len() / matrix.rows().max(1);
                check(
                    dy.len() == m * matrix.rows() && dx.len() == m * matrix.cols(),
                    "matmul_back",
                )?;
                let dy = dy.on(gpu)?;
                gpu.matmul_back(matrix, dy.at(), m, dx.change_on(gpu)?, precision)
            }),
            _ => {
                let (dy, dx) = (self.read_buf(dy), self.change(dx));
                Backprop::matmul_back(self.cpu(), &w.host, &dy, dx, precision);
            }
        }
    }

    fn rms_norm_back(&self, x: &Buf, w: &Vector, eps: f32, dy: &Buf, dx: &mut Buf, dw: Option<&mut Buf>) {
        if let Some(gpu) = self.with(x) {
            return gpu.run(|| {
                let n = w.host.len();
                let rows = x.len() / n.max(1);
                let dw_fits = dw.as_ref().is_none_or(|dw| dw.len() == n);
                check(
                    [dy.len(), dx.len(), x.len()] == [rows * n; 3] && dw_fits,
                    "rms_norm_back",
                )?;
                let dw = dw.map_or(Ok(0), |dw| dw.change_on(gpu))?;
                let (x, dy, dx) = (x.on(gpu)?, dy.on(gpu)?, dx.change_on(gpu)?);
                gpu.rms_norm_back(x.at(), w.at(), eps, dy.at(), dx, (rows, n), dw)
            });
        }
        let (x, dy, dx, dw) = (
            self.read_buf(x),
            self.read_buf(dy),
            self.change(dx),
            dw.map(|dw| self.change(dw)),
        );
        Backprop::rms_norm_back(self.cpu(), &x, &w.host, eps, &dy, dx, dw);
    }

    fn rope_back(&self, dy: &mut Buf, heads: usize, head_dim: usize, table: &RopeTable) {
        match self.with(dy) {
            Some(gpu) => gpu.run(|| {
                let (m, half) = (table.m, table.half);
                check(dy.len() == m * heads * head_dim && 2 * half <= head_dim, "rope_back")?;
                let at = |memory: &Option<Memory>| memory.as_ref().map_or(0, Memory::at);
                let (dy, cos, sin) = (dy.change_on(gpu)?, at(&table.cos), at(&table.sin));
                gpu.rope_back(dy, m, heads, head_dim, half, table.interleaved, cos, sin)
            }),
            None => Backprop::rope_back(self.cpu(), self.change(dy), heads, head_dim, &table.host),
        }
    }

    fn gated_back(&self, act: Act, gate: &Buf, up: &Buf, dh: &Buf, d_gate: &mut Buf, d_up: &mut Buf) {
        if let Some(gpu) = self.with(gate) {
            return gpu.run(|| {
                let len = gate.len();
                let lengths = [up.len(), dh.len(), d_gate.len(), d_up.len()];
                check(lengths == [len; 4], "gated_back")?;
                let (gate, up, dh) = (gate.on(gpu)?, up.on(gpu)?, dh.on(gpu)?);
                let out = [d_gate.out_on(gpu)?, d_up.out_on(gpu)?];
                gpu.gated_back(act, [gate.at(), up.at(), dh.at()], out, len)
            });
        }
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
        match (self.gpu(), k, v) {
            (Some(gpu), Kv::Gpu(k), Kv::Gpu(v)) => gpu.run(|| {
                let m = q.len() / (a.heads * a.head_dim).max(1);
                let keys = (a.pos + m) * a.kv_heads * a.head_dim;
                let rows = [q.len(), d_out.len(), dq.len()] == [m * a.heads * a.head_dim; 3];
                check(
                    rows && [dk.len(), dv.len()] == [keys; 2] && k.len >= keys && v.len >= keys,
                    "attention_back",
                )?;
                check(a.pos + m <= a.capacity, "attention_back")?;
                let (q, d_out) = (q.on(gpu)?, d_out.on(gpu)?);
                let out = [dq.out_on(gpu)?, dk.out_on(gpu)?, dv.out_on(gpu)?];
                let rings = [k.memory.at(), v.memory.at()];
                gpu.attention_back(a, m, q.at(), rings, k.precision, d_out.at(), out)
            }),
            (_, Kv::Cpu(k), Kv::Cpu(v)) => {
                let (q, d_out) = (self.read_buf(q), self.read_buf(d_out));
                let (dq, dk, dv) = (self.change(dq), self.change(dk), self.change(dv));
                Backprop::attention_back(self.cpu(), a, &q, k, v, &d_out, dq, dk, dv);
            }
            _ => unreachable!("the rings of a layer lie together, on a GPU that is there"),
        }
    }

    fn cross_entropy(
        &self,
        logits: &mut Buf,
        targets: &[u32],
        softcap: Option<f32>,
        scale: f32,
        losses: &mut Vec<f32>,
    ) {
        let Some(gpu) = self.with(logits) else {
            return Backprop::cross_entropy(self.cpu(), self.change(logits), targets, softcap, scale, losses);
        };
        losses.clear();
        losses.resize(targets.len(), 0.0);
        gpu.run(|| {
            let rows = targets.len();
            let vocab = logits.len() / rows.max(1);
            let inside = targets.iter().all(|t| (*t as usize) < vocab);
            check(logits.len() == rows * vocab && inside, "cross_entropy")?;
            let ids = gpu.temp_ids(targets.iter().map(|t| *t as i32))?;
            let out = gpu.temp(rows * SIZE)?;
            let at = logits.change_on(gpu)?;
            gpu.cross_entropy(at, ids.at(), (rows, vocab), softcap, scale, out.at())?;
            gpu.get_f32(out.at(), losses)
        });
    }

    fn affine_back(&self, x: &Buf, dy: &Buf, d_factors: &mut Buf) {
        match self.with(dy) {
            Some(gpu) => gpu.run(|| {
                let n = d_factors.len();
                let m = x.len() / n.max(1);
                check([x.len(), dy.len()] == [m * n; 2], "affine_back")?;
                let (x, dy) = (x.on(gpu)?, dy.on(gpu)?);
                gpu.column_sums([x.at(), dy.at(), 0], (m, n), d_factors.change_on(gpu)?)
            }),
            None => {
                let (x, dy, d_factors) = (self.read_buf(x), self.read_buf(dy), self.change(d_factors));
                Backprop::affine_back(self.cpu(), &x, &dy, d_factors);
            }
        }
    }

    fn sum_rows(&self, x: &Buf, y: &mut Buf) {
        match self.with(x) {
            Some(gpu) => gpu.run(|| {
                let n = y.len();
                let m = x.len() / n.max(1);
                check(x.len() == m * n, "sum_rows")?;
                gpu.column_sums([x.on(gpu)?.at(), 0, 0], (m, n), y.change_on(gpu)?)
            }),
            None => Backprop::sum_rows(self.cpu(), &self.read_buf(x), self.change(y)),
        }
    }

    fn scale_columns(&self, x: &mut Buf, factors: &Buf) {
        match self.with(x) {
            Some(gpu) => gpu.run(|| {
                let n = factors.len();
                let m = x.len() / n.max(1);
                check(x.len() == m * n, "scale_columns")?;
                let factors = factors.on(gpu)?;
                gpu.finish(x.change_on(gpu)?, (m, n), 0, factors.at(), 0)
            }),
            None => self.cpu().scale_columns(self.change(x), &self.read_buf(factors)),
        }
    }

    fn scatter_rows(&self, x: &Buf, width: usize, rows: &[(usize, usize)], y: &mut Buf) {
        match self.with(x) {
            Some(gpu) => gpu.run(|| {
                let (from, to) = (x.len() / width.max(1), y.len() / width.max(1));
                check(rows.iter().all(|(f, t)| *f < from && *t < to), "scatter_rows")?;
                let x = x.on(gpu)?;
                gpu.scatter_rows(x.at(), width, rows, y.change_on(gpu)?)
            }),
            None => {
                let (x, y) = (self.read_buf(x), self.change(y));
                self.cpu().scatter_rows(&x, width, rows, y);
            }
        }
    }

    fn take_rows(&self, x: &Buf, width: usize, of: &[usize], out: &mut Buf) {
        match self.with(x) {
            Some(gpu) => gpu.run(|| {
                let rows = x.len() / width.max(1);
                check(of.iter().all(|row| *row < rows), "take_rows")?;
                out.resize(of.len() * width);
                gpu.take_rows(x.on(gpu)?.at(), (rows, width), of, out.out_on(gpu)?)
            }),
            None => {
                let x = self.read_buf(x);
                self.refill(out, |out| self.cpu().take_rows(&x, width, of, out));
            }
        }
    }

    fn zero_rows(&self, x: &mut Buf, width: usize, rows: impl Iterator<Item = usize>) {
        if x.is_zeros() {
            return;
        }
        let Some(gpu) = self.with(x) else {
            return self.cpu().zero_rows(self.change(x), width, rows);
        };
        gpu.run(|| {
            let (all, at) = (x.len() / width.max(1), x.change_on(gpu)?);
            let rows: Vec<usize> = rows.collect();
            for run in rows.chunk_by(|a, b| a + 1 == *b) {
                check(run[run.len() - 1] < all, "zero_rows")?;
                gpu.zero(at + (run[0] * width * SIZE) as u64, run.len() * width * SIZE)?;
            }
            Ok(())
        });
    }

    fn take_columns(&self, y: &mut Buf, width: usize, of: &[u32], out: &mut Buf) {
        let mut sorted = of.to_vec();
        sorted.sort_unstable();
        let twice = sorted.windows(2).any(|w| w[0] == w[1]);
        match self.with(y).filter(|_| !twice) {
            Some(gpu) => gpu.run(|| {
                let m = y.len() / width.max(1);
                check(
                    sorted.last().is_none_or(|last| (*last as usize) < width),
                    "take_columns",
                )?;
                out.resize(m * of.len());
                let ids = gpu.temp_ids(of.iter().map(|id| *id as i32))?;
                let (at, out) = (y.change_on(gpu)?, out.out_on(gpu)?);
                gpu.take_columns(at, width, ids.at(), (m, of.len()), out)
            }),
            None => {
                if y.on_gpu() {
                    self.falls("take_columns");
                }
                let y = self.change(y);
                self.refill(out, |out| self.cpu().take_columns(y, width, of, out));
            }
        }
    }

    fn row_dots(&self, x: &Buf, y: &Buf, d: &mut Buf) {
        match self.with(y) {
            Some(gpu) => gpu.run(|| {
                let rows = d.len();
                let width = x.len() / rows.max(1);
                check([x.len(), y.len()] == [rows * width; 2], "row_dots")?;
                let (x, y) = (x.on(gpu)?, y.on(gpu)?);
                gpu.row_dots(x.at(), y.at(), width, rows, d.change_on(gpu)?)
            }),
            None => {
                let (x, y, d) = (self.read_buf(x), self.read_buf(y), self.change(d));
                self.cpu().row_dots(&x, &y, d);
            }
        }
    }

    fn blocks_back(&self, x: &Buf, blocks: &Blocks, dy: &mut Buf, d_blocks: &mut Buf) {
        match self.with(dy) {
            Some(gpu) => gpu.run(|| blocks_back_on(gpu, x, blocks, dy, d_blocks)),
            None => {
                let (x, dy, d_blocks) = (self.read_buf(x), self.change(dy), self.change(d_blocks));
                Backprop::blocks_back(self.cpu(), &x, blocks, dy, d_blocks);
            }
        }
    }

    fn pairs_back(&self, y: &Buf, pairs: &Pairs, dy: &mut Buf, d_f: &mut Buf, d_h: &mut Buf) {
        let on = self.with(dy).and_then(|gpu| Some((gpu, whose_partner(pairs)?)));
        match on {
            Some((gpu, whose)) => gpu.run(|| pairs_back_on(gpu, y, pairs, &whose, dy, d_f, d_h)),
            None => {
                if dy.on_gpu() {
                    self.falls("pairs_back");
                }
                let (y, dy, d_f, d_h) = (self.read_buf(y), self.change(dy), self.change(d_f), self.change(d_h));
                Backprop::pairs_back(self.cpu(), &y, pairs, dy, d_f, d_h);
            }
        }
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
        match self.with(dy) {
            Some(gpu) => gpu.run(|| kron_back_on(gpu, kron, w1, w2, x, dy, dx, d_w1, d_w2)),
            None => {
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
    }
}

fn blocks_back_on(gpu: &Arc<Gpu>, x: &Buf, blocks: &Blocks, dy: &mut Buf, d_blocks: &mut Buf) -> Result<()> {
    let size = blocks.size;
    let n = blocks.blocks.len() / size.max(1);
    let m = x.len() / n.max(1);
    let order_fits = blocks
        .order
        .as_ref()
        .is_none_or(|order| order.len() == n && order.iter().all(|p| (*p as usize) < n));
    check(
        size > 0 && n.is_multiple_of(size) && [x.len(), dy.len()] == [m * n; 2] && order_fits,
        "blocks_back",
    )?;
    check(d_blocks.len() == blocks.blocks.len(), "blocks_back")?;
    let up = |order: &Vec<u32>| gpu.temp_ids(order.iter().map(|place| *place as i32));
    let order = blocks.order.as_ref().map(up).transpose()?;
    let order = order.as_ref().map_or(0, |order| order.at());
    let (x, at) = (x.on(gpu)?, dy.change_on(gpu)?);
    gpu.blocks_back(x.at(), at, (m, n), size, order, d_blocks.change_on(gpu)?)?;
    // The same operation with each block turned.
    let back: Vec<f32> = blocks
        .blocks
        .chunks_exact(size * size)
        .flat_map(|block| turned(block, size))
        .collect();
    let (values, out) = (gpu.temp_f32(&back)?, gpu.temp(m * n * SIZE)?);
    gpu.blocks(at, out.at(), (m, n), size, values.at(), order)?;
    gpu.copy(at, out.at(), m * n * SIZE)
}

/// Whose partner each is, where all have one.
fn whose_partner(pairs: &Pairs) -> Option<Vec<u32>> {
    let mut whose = vec![u32::MAX; pairs.partner.len()];
    for (j, partner) in pairs.partner.iter().enumerate() {
        if let Some(whose) = whose.get_mut(*partner as usize) {
            *whose = j as u32;
        }
    }
    (!whose.contains(&u32::MAX)).then_some(whose)
}

fn pairs_back_on(
    gpu: &Arc<Gpu>,
    y: &Buf,
    pairs: &Pairs,
    whose: &[u32],
    dy: &mut Buf,
    d_f: &mut Buf,
    d_h: &mut Buf,
) -> Result<()> {
    let n = pairs.f.len();
    let m = y.len() / n.max(1);
    check(
        [pairs.h.len(), whose.len(), d_f.len(), d_h.len()] == [n; 4] && [y.len(), dy.len()] == [m * n; 2],
        "pairs_back",
    )?;
    let places = |ids: &[u32]| gpu.temp_ids(ids.iter().map(|p| *p as i32));
    let (y, at, out) = (y.on(gpu)?, dy.change_on(gpu)?, gpu.temp(m * n * SIZE)?);
    gpu.column_sums([y.at(), at, 0], (m, n), d_f.change_on(gpu)?)?;
    // Partners of y alone: the operation itself with factors 0 and 1.
    let (zeros, ones) = (gpu.temp_f32(&vec![0.0; n])?, gpu.temp_f32(&vec![1.0; n])?);
    let partner = places(&pairs.partner)?;
    gpu.pairs(y.at(), out.at(), (m, n), [zeros.at(), ones.at(), partner.at()])?;
    gpu.column_sums([out.at(), at, 0], (m, n), d_h.change_on(gpu)?)?;
    // What j's partner gets from j: the operation of those whose partner each is.
    let h: Vec<f32> = whose.iter().map(|j| pairs.h[*j as usize]).collect();
    let (f, h, whose) = (gpu.temp_f32(&pairs.f)?, gpu.temp_f32(&h)?, places(whose)?);
    gpu.pairs(at, out.at(), (m, n), [f.at(), h.at(), whose.at()])?;
    gpu.copy(at, out.at(), m * n * SIZE)
}

#[allow(clippy::too_many_arguments)] // those of the operation and their gradients
fn kron_back_on(
    gpu: &Arc<Gpu>,
    kron: &Kron,
    w1: &Buf,
    w2: &Buf,
    x: &Buf,
    dy: &Buf,
    dx: &mut Buf,
    d_w1: &mut Buf,
    d_w2: &mut Buf,
) -> Result<()> {
    let (o1, i1) = (kron.w1.rows(), kron.w1.cols());
    let (o2, i2) = (kron.w2.rows(), kron.w2.cols());
    let m = x.len() / (i1 * i2).max(1);
    check(
        [w1.len(), d_w1.len()] == [o1 * i1; 2] && [w2.len(), d_w2.len()] == [o2 * i2; 2],
        "kron_back",
    )?;
    check(
        [x.len(), dx.len()] == [m * i1 * i2; 2] && dy.len() == m * o1 * o2,
        "kron_back",
    )?;
    let (w1, w2, x, dy) = (w1.on(gpu)?, w2.on(gpu)?, x.on(gpu)?, dy.on(gpu)?);
    let z = gpu.temp(m * i1 * o2 * SIZE)?;
    let (w1_turned, w2_turned) = (gpu.temp(o1 * i1 * SIZE)?, gpu.temp(o2 * i2 * SIZE)?);
    gpu.turn(w1.at(), o1, i1, w1_turned.at())?;
    gpu.turn(w2.at(), o2, i2, w2_turned.at())?;
    let rows = m * i1;
    let product = Multiply {
        x: x.at(),
        turned: false,
        depth: i2,
        w: w2_turned.at(),
        n: o2,
        y: z.at(),
        rows,
        add: false,
    };
    // X w2^T of each row.
    gpu.multiply(product)?;
    gpu.kron_back(dy.at(), z.at(), m, [o1, i1, o2], kron.scale, d_w1.change_on(gpu)?)?;
    // Then in its place what comes back to it: scale w1^T G.
    gpu.zero(z.at(), rows * o2 * SIZE)?;
    gpu.kron(w1_turned.at(), dy.at(), m, [i1, o1, o2], kron.scale, z.at())?;
    gpu.multiply(Multiply {
        x: z.at(),
        turned: true,
        depth: rows,
        w: x.at(),
        n: i2,
        y: d_w2.change_on(gpu)?,
        rows: o2,
        add: true,
    })?;
    gpu.multiply(Multiply {
        x: z.at(),
        depth: o2,
        w: w2.at(),
        n: i2,
        y: dx.change_on(gpu)?,
        add: true,
        ..product
    })
}

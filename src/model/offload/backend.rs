//! The operations of an [`Offload`]: each is one of the CPU's or a few kernels of the GPU.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, PoisonError};

use crate::adapter::forms::{Blocks, Pairs};
use crate::adapter::matrix::Matrix;
use crate::error::Result;
use crate::format::{Gguf, TensorInfo};
use crate::kernels::cpu::{Act, Attention, KvBuf, Panels};
use crate::kernels::cuda::{self, Gpu, Memory};
use crate::kernels::{Cpu, Draw, Precision};
use crate::model::backend::{Affine, Backend, Epilogue, GatherOn, LowRankOn};
use crate::model::cpu::{CpuWeight, adapters};
use crate::model::dropout::Dropout;
use crate::model::spec::Rope;

use super::values::{Both, GpuKv};
use super::{Acts, Buf, Factor, Kv, Offload, RopeTable, Vector, Weight};

impl Offload {
    /// The GPU, if this is there.
    pub(super) fn with(&self, buf: &Buf) -> Option<&Arc<Gpu>> {
        self.gpu().filter(|_| buf.on_gpu())
    }

    fn up(gpu: &Arc<Gpu>, w: &CpuWeight) -> Result<Arc<cuda::Matrix>> {
        cuda::Matrix::new(gpu, w.format(), w.rows(), w.cols(), w.bytes()).map(Arc::new)
    }

    /// x := f(x) on the GPU, where f cannot do it in place, or the same on the CPU.
    fn apart(
        &self,
        x: &mut Buf,
        on_gpu: impl FnOnce(&Arc<Gpu>, u64, u64) -> Result<()>,
        on_cpu: impl FnOnce(&Cpu, &mut Vec<f32>),
    ) {
        match self.with(x) {
            Some(gpu) => gpu.run(|| {
                let (at, bytes) = (x.change_on(gpu)?, x.len() * size_of::<f32>());
                let out = gpu.temp(bytes)?;
                on_gpu(gpu, at, out.at())?;
                gpu.copy(at, out.at(), bytes)
            }),
            None => on_cpu(&self.cpu, x.host_change(&self.cpu, self.gpu())),
        }
    }
}

/// Numbers as kernels read them.
fn floats(values: &[f32]) -> Vec<[u8; 4]> {
    values.iter().map(|v| v.to_le_bytes()).collect()
}

/// The same of whole numbers.
fn words(values: &[u32]) -> Vec<[u8; 4]> {
    values.iter().map(|v| v.to_le_bytes()).collect()
}

impl Backend for Offload {
    type Weight = Weight;
    type Vector = Vector;
    type Buf = Buf;
    type Acts = Acts;
    type Factor = Factor;
    type Pairs = Both<Pairs>;
    type Blocks = Both<Blocks>;
    type Ids = Both<Vec<u32>>;
    type Kv = Kv;
    type RopeTable = RopeTable;

    fn weight(&self, gguf: &Gguf, t: &TensorInfo, rows: usize, cols: usize) -> Result<Weight> {
        let host = self.cpu.weight(gguf, t, rows, cols)?;
        let Some(on) = self.gpu.as_ref().filter(|on| on.plan.has(&t.name)) else {
            return Ok(Weight { host, gpu: None });
        };
        let mut embed = on.embed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_embed = t.name == "token_embd.weight";
        let there = embed.upgrade().filter(|_| is_embed);
        let matrix = match there {
            Some(there) => there,
            None => Self::up(&on.gpu, &host).map_err(|e| e.item(&t.name))?,
        };
        if is_embed {
            *embed = Arc::downgrade(&matrix);
        }
        Ok(Weight {
            host,
            gpu: Some(matrix),
        })
    }

    fn vector(&self, gguf: &Gguf, t: &TensorInfo) -> Result<Vector> {
        Vector::new(self.gpu(), self.cpu.vector(gguf, t)?)
    }

    fn matrix(&self, m: &Matrix) -> Result<Weight> {
        let host = self.cpu.matrix(m)?;
        Ok(Weight {
            gpu: self.gpu().map(|gpu| Self::up(gpu, &host)).transpose()?,
            host,
        })
    }

    fn factor(&self, m: &Matrix) -> Result<Factor> {
        let up = |gpu| cuda::Matrix::new(gpu, m.format(), m.rows(), m.cols(), m.bytes()).map(Arc::new);
        Ok(Factor {
            host: self.cpu.factor(m)?,
            gpu: self.gpu().map(up).transpose()?,
        })
    }

    fn vector_of(&self, values: &[f32]) -> Result<Vector> {
        Vector::new(self.gpu(), values.to_vec())
    }

    fn pairs_of(&self, pairs: Pairs) -> Result<Both<Pairs>> {
        Both::new(self.gpu(), pairs, |p| {
            vec![floats(&p.f), floats(&p.h), words(&p.partner)]
        })
    }

    fn blocks_of(&self, blocks: Blocks) -> Result<Both<Blocks>> {
        Both::new(self.gpu(), blocks, |b| {
            let order = b.order.iter().map(|order| words(order));
            [floats(&b.blocks)].into_iter().chain(order).collect()
        })
    }

    fn ids_of(&self, ids: Vec<u32>) -> Result<Both<Vec<u32>>> {
        Both::new(self.gpu(), ids, |ids| vec![words(ids)])
    }

    fn replacement(&self, w: CpuWeight, old: &Weight) -> Result<Weight> {
        let gpu = self.gpu().filter(|_| old.gpu.is_some());
        Ok(Weight {
            gpu: gpu.map(|gpu| Self::up(gpu, &w)).transpose()?,
            host: w,
        })
    }

    fn host<'a>(&self, w: &'a Weight) -> &'a CpuWeight {
        &w.host
    }

    fn host_factor<'a>(&self, f: &'a Factor) -> &'a Panels {
        &f.host
    }

    fn host_pairs<'a>(&self, pairs: &'a Both<Pairs>) -> &'a Pairs {
        &pairs.host
    }

    fn host_blocks<'a>(&self, blocks: &'a Both<Blocks>) -> &'a Blocks {
        &blocks.host
    }

    fn host_ids<'a>(&self, ids: &'a Both<Vec<u32>>) -> &'a [u32] {
        &ids.host
    }

    fn read_rows(&self, w: &Weight, first: usize, out: &mut [f32]) {
        self.cpu.read_rows(&w.host, first, out);
    }

    fn read_vector<'a>(&self, v: &'a Vector) -> &'a [f32] {
        &v.host
    }

    fn write(&self, values: &[f32], buf: &mut Buf) {
        self.cpu.write(values, buf.host_any());
        buf.settle();
    }

    fn kv(&self, near: &Weight, capacity: usize, width: usize, precision: Precision) -> Result<Kv> {
        let Some(gpu) = self.gpu().filter(|_| near.gpu.is_some()) else {
            return KvBuf::new(capacity, width, precision).map(Kv::Cpu);
        };
        let too_large = || crate::error::Error::limit("the KV cache is too large").item("context");
        let len = capacity.checked_mul(width).ok_or_else(too_large)?;
        let bytes = len.checked_mul(KvBuf::value_bytes(precision)).ok_or_else(too_large)?;
        let memory = Memory::new(gpu, bytes).map_err(|e| e.item("context"))?;
        gpu.zero(memory.at(), bytes)?;
        Ok(Kv::Gpu(GpuKv { memory, precision, len }))
    }

    fn check(&self) -> Result<()> {
        self.gpu().map_or(Ok(()), |gpu| gpu.check())
    }

    fn resize(&self, buf: &mut Buf, len: usize) {
        buf.resize(len);
    }

    fn embed(&self, w: &Weight, ids: &[u32], scale: f32, out: &mut Buf) {
        match (self.gpu(), &w.gpu) {
            (Some(gpu), Some(matrix)) => gpu.run(|| {
                let at = gpu.temp_ids(ids.iter().map(|id| *id as i32))?;
                gpu.embed(matrix, at.at(), ids.len(), scale, out.out_on(gpu)?)
            }),
            _ => Backend::embed(&self.cpu, &w.host, ids, scale, out.host_out(&self.cpu)),
        }
    }

    fn rms_norm(&self, x: &Buf, w: &Vector, eps: f32, out: &mut Buf) {
        match self.with(x) {
            Some(gpu) => gpu.run(|| {
                let n = w.host.len();
                gpu.rms_norm(x.on(gpu)?.at(), w.at(), eps, out.out_on(gpu)?, x.len() / n, n)
            }),
            None => Backend::rms_norm(&self.cpu, &x.host(self.gpu()), &w.host, eps, out.host_out(&self.cpu)),
        }
    }

    fn rms_norm_inplace(&self, x: &mut Buf, w: &Vector, eps: f32) {
        match self.with(x) {
            Some(gpu) => gpu.run(|| {
                let (n, at) = (w.host.len(), x.change_on(gpu)?);
                gpu.rms_norm(at, w.at(), eps, at, x.len() / n, n)
            }),
            None => Backend::rms_norm_inplace(&self.cpu, x.host_change(&self.cpu, self.gpu()), &w.host, eps),
        }
    }

    fn pack<const N: usize>(
        &self,
        x: &Buf,
        cols: usize,
        weights: [&Weight; N],
        updates: bool,
        precision: Precision,
        acts: &mut Acts,
    ) {
        self.pack_input(x, cols, weights, updates, precision, acts);
    }

    fn affine_pack<const N: usize>(
        &self,
        x: &Buf,
        affine: &Affine<Self>,
        weights: [&Weight; N],
        precision: Precision,
        acts: &mut Acts,
    ) {
        if self.is_for_gpu(x, weights) {
            let mut changed = Buf::default();
            self.copy(x, &mut changed);
            self.affine(&mut changed, affine);
            return self.pack_input(&changed, affine.0.host.len(), weights, false, precision, acts);
        }
        acts.on_gpu = false;
        let weights = weights.map(|w| &w.host);
        adapters::affine_pack(
            &self.cpu,
            self,
            &x.host(self.gpu()),
            affine,
            weights,
            precision,
            &mut acts.host,
        );
    }

    fn norm_pack<const N: usize>(
        &self,
        x: &Buf,
        norm: &Vector,
        eps: f32,
        normed: &mut Buf,
        weights: [&Weight; N],
        updates: bool,
        precision: Precision,
        acts: &mut Acts,
    ) {
        if let Some(gpu) = self.gpu().filter(|_| self.is_for_gpu(x, weights)) {
            return gpu.run(|| self.norm_pack_on(gpu, x, norm, eps, normed, weights, updates, precision, acts));
        }
        acts.on_gpu = false;
        let (x, normed) = (x.host(self.gpu()), normed.host_out(&self.cpu));
        let weights = weights.map(|w| &w.host);
        Backend::norm_pack(
            &self.cpu,
            &x,
            &norm.host,
            eps,
            normed,
            weights,
            updates,
            precision,
            &mut acts.host,
        );
    }

    fn matmul<const N: usize>(&self, to: [(&Weight, &mut Buf); N], acts: &Acts, precision: Precision) {
        let none = [const { Epilogue::NONE }; N];
        self.linear(to, acts, precision, none, &[], &[]);
    }

    fn pack_f32(&self, x: &Buf, acts: &mut Acts) {
        self.pack_floats(x, acts);
    }

    fn linear<const N: usize>(
        &self,
        to: [(&Weight, &mut Buf); N],
        acts: &Acts,
        precision: Precision,
        epilogues: [Epilogue<Self>; N],
        gates: &[usize],
        next: &[Factor],
    ) {
        match self.gpu().filter(|_| acts.on_gpu) {
            Some(gpu) => gpu.run(|| self.linear_on(gpu, to, acts, precision, epilogues, gates)),
            None => {
                let to = to.map(|(w, y)| (&w.host, y.host_out(&self.cpu)));
                adapters::linear(&self.cpu, self, to, &acts.host, precision, epilogues, gates, next);
            }
        }
    }

    fn low_rank(&self, l: &LowRankOn<Self>, scale: f32, from: usize, precision: Precision, x: &Buf, y: &mut Buf) {
        self.low_rank_at(l, scale, from, precision, x, y);
    }

    fn gather_low_rank(&self, l: &GatherOn<Self>, scale: f32, from: usize, ids: &[u32], y: &mut Buf) {
        match self.with(y) {
            Some(gpu) => gpu.run(|| self.gather_on(gpu, l, scale, from, ids, y)),
            None => {
                let y = y.host_change(&self.cpu, self.gpu());
                adapters::gather_low_rank(&self.cpu, self, l, scale, from, ids, y);
            }
        }
    }

    fn dense(&self, d: &Weight, scale: f32, acts: &Acts, y: &mut Buf) {
        match self.gpu().filter(|_| acts.on_gpu) {
            Some(gpu) => gpu.run(|| {
                let y = y.change_on(gpu)?;
                self.floats_product(gpu, d, acts, scale, true, y)
            }),
            None => Backend::dense(
                &self.cpu,
                &d.host,
                scale,
                &acts.host,
                y.host_change(&self.cpu, self.gpu()),
            ),
        }
    }

    fn kron(&self, w1: &Weight, w2: &Weight, scale: f32, x: &Buf, tmp: &mut Acts, y: &mut Buf) {
        match self.with(y) {
            Some(gpu) => gpu.run(|| self.kron_on(gpu, w1, w2, scale, x, y)),
            None => {
                let (x, y) = (x.host(self.gpu()), y.host_change(&self.cpu, self.gpu()));
                Backend::kron(&self.cpu, &w1.host, &w2.host, scale, &x, &mut tmp.host, y);
            }
        }
    }

    fn affine(&self, y: &mut Buf, affine: &Affine<Self>) {
        match self.with(y) {
            Some(gpu) => gpu.run(|| {
                let (factors, shift) = affine;
                let n = factors.host.len();
                let (at, m) = (y.change_on(gpu)?, y.len() / n.max(1));
                gpu.finish(at, (m, n), 0, factors.at(), shift.as_ref().map_or(0, Vector::at))
            }),
            None => adapters::affine(&self.cpu, self, y.host_change(&self.cpu, self.gpu()), affine),
        }
    }

    fn pairs(&self, y: &mut Buf, pairs: &Both<Pairs>) {
        let n = pairs.host.f.len();
        let m = y.len() / n.max(1);
        let on_gpu = |gpu: &Arc<Gpu>, x, out| gpu.pairs(x, out, (m, n), [0, 1, 2].map(|part| pairs.at(part)));
        self.apart(y, on_gpu, |cpu, y| Backend::pairs(cpu, y, &pairs.host));
    }

    fn blocks(&self, x: &mut Buf, blocks: &Both<Blocks>) {
        let Blocks { size, blocks: all, .. } = &blocks.host;
        let n = all.len() / size.max(&1);
        let m = x.len() / n.max(1);
        let on_gpu = |gpu: &Arc<Gpu>, x, out| gpu.blocks(x, out, (m, n), *size, blocks.at(0), blocks.at(1));
        self.apart(x, on_gpu, |cpu, x| Backend::blocks(cpu, x, &blocks.host));
    }

    fn replace_rows(&self, w: &Weight, of: &Both<Vec<u32>>, ids: &[u32], out: &mut Buf) {
        match (self.with(out), &w.gpu) {
            (Some(gpu), Some(matrix)) => gpu.run(|| {
                let place = |id: &u32| of.host.iter().position(|o| o == id).map_or(-1, |at| at as i32);
                let places = gpu.temp_ids(ids.iter().map(place))?;
                gpu.embed(matrix, places.at(), ids.len(), 1.0, out.change_on(gpu)?)
            }),
            _ => Backend::replace_rows(
                &self.cpu,
                &w.host,
                &of.host,
                ids,
                out.host_change(&self.cpu, self.gpu()),
            ),
        }
    }

    fn replace_products(&self, w: &Weight, of: &Both<Vec<u32>>, acts: &Acts, y: &mut Buf) {
        match self.gpu().filter(|_| acts.on_gpu) {
            Some(gpu) => gpu.run(|| {
                let (m, n) = (acts.m, of.host.len());
                let z = gpu.temp(m * n * size_of::<f32>())?;
                self.floats_product(gpu, w, acts, 1.0, false, z.at())?;
                let (at, width) = (y.change_on(gpu)?, y.len() / m.max(1));
                gpu.scatter_columns(z.at(), of.at(0), m, n, width, at)
            }),
            None => {
                let y = y.host_change(&self.cpu, self.gpu());
                Backend::replace_products(&self.cpu, &w.host, &of.host, &acts.host, y);
            }
        }
    }

    fn drop_out(&self, x: &mut Buf, cols: usize, dropout: &Dropout) {
        match self.with(x) {
            Some(gpu) => gpu.run(|| gpu.drop_out(x.change_on(gpu)?, x.len() / cols.max(1), cols, dropout)),
            None => Backend::drop_out(&self.cpu, x.host_change(&self.cpu, self.gpu()), cols, dropout),
        }
    }

    fn copy(&self, x: &Buf, out: &mut Buf) {
        out.resize(x.len());
        match self.with(x) {
            Some(gpu) => gpu.run(|| gpu.copy(out.out_on(gpu)?, x.on(gpu)?.at(), x.len() * size_of::<f32>())),
            None => Backend::copy(&self.cpu, &x.host(self.gpu()), out.host_out(&self.cpu)),
        }
    }

    fn scale(&self, x: &mut Buf, scale: f32) {
        match self.with(x) {
            Some(gpu) => gpu.run(|| gpu.scale(x.change_on(gpu)?, scale, x.len())),
            None => Backend::scale(&self.cpu, x.host_change(&self.cpu, self.gpu()), scale),
        }
    }

    fn add_bias(&self, y: &mut Buf, bias: &Vector, scale: f32) {
        match self.with(y) {
            Some(gpu) => gpu.run(|| {
                let (at, n) = (y.change_on(gpu)?, bias.host.len());
                gpu.add_bias(at, bias.at(), scale, y.len() / n.max(1), n)
            }),
            None => Backend::add_bias(&self.cpu, y.host_change(&self.cpu, self.gpu()), &bias.host, scale),
        }
    }

    fn add(&self, y: &mut Buf, x: &Buf) {
        // The sum goes on where the layer runs that made x.
        match self.with(x) {
            Some(gpu) => gpu.run(|| gpu.add(y.change_on(gpu)?, x.on(gpu)?.at(), x.len())),
            None => Backend::add(&self.cpu, y.host_change(&self.cpu, self.gpu()), &x.host(self.gpu())),
        }
    }

    fn rope_table(&self, rope: &Rope, pos: usize, m: usize, table: &mut RopeTable) {
        let (on_gpu, layers) = self.plan().map_or((0, 1), |plan| plan.layers());
        if on_gpu < layers {
            Backend::rope_table(&self.cpu, rope, pos, m, &mut table.host);
        }
        if let Some(gpu) = self.gpu().filter(|_| on_gpu > 0) {
            gpu.run(|| self.rope_table_on(gpu, rope, pos, m, table));
        }
    }

    fn rope(&self, x: &mut Buf, heads: usize, head_dim: usize, table: &RopeTable) {
        match self.with(x) {
            Some(gpu) => gpu.run(|| {
                let at = |memory: &Option<Memory>| memory.as_ref().map_or(0, Memory::at);
                let (x, cos, sin) = (x.change_on(gpu)?, at(&table.cos), at(&table.sin));
                gpu.rope(x, table.m, heads, head_dim, table.half, table.interleaved, cos, sin)
            }),
            None => Backend::rope(
                &self.cpu,
                x.host_change(&self.cpu, self.gpu()),
                heads,
                head_dim,
                &table.host,
            ),
        }
    }

    fn gated(&self, act: Act, gate: &mut Buf, up: &Buf) {
        match self.with(gate) {
            Some(gpu) => gpu.run(|| gpu.gated(act, gate.change_on(gpu)?, up.on(gpu)?.at(), up.len())),
            None => Backend::gated(
                &self.cpu,
                act,
                gate.host_change(&self.cpu, self.gpu()),
                &up.host(self.gpu()),
            ),
        }
    }

    fn kv_write(&self, x: &Buf, width: usize, pos: usize, capacity: usize, kv: &mut Kv) {
        match (self.gpu(), kv) {
            (Some(gpu), Kv::Gpu(kv)) => gpu.run(|| {
                let m = x.len() / width.max(1);
                gpu.kv_write(x.on(gpu)?.at(), width, m, pos, capacity, (kv.memory.at(), kv.precision))
            }),
            (_, Kv::Cpu(kv)) => Backend::kv_write(&self.cpu, &x.host(self.gpu()), width, pos, capacity, kv),
            (None, Kv::Gpu(_)) => unreachable!("a ring on a GPU that is not there"),
        }
    }

    fn kv_save(&self, kv: &Kv, numbers: Range<usize>, out: &mut Vec<u8>) {
        match (self.gpu(), kv) {
            (Some(gpu), Kv::Gpu(kv)) => {
                let (first, size) = (out.len(), kv.value_size());
                out.resize(first + numbers.len() * size, 0);
                gpu.run(|| gpu.get(kv.memory.at() + (numbers.start * size) as u64, &mut out[first..]));
            }
            (_, Kv::Cpu(kv)) => self.cpu.kv_save(kv, numbers, out),
            (None, Kv::Gpu(_)) => unreachable!("a ring on a GPU that is not there"),
        }
    }

    fn kv_load(&self, bytes: &[u8], numbers: Range<usize>, kv: &mut Kv) {
        match (self.gpu(), kv) {
            (Some(gpu), Kv::Gpu(kv)) => {
                let size = kv.value_size();
                assert!(
                    bytes.len() == numbers.len() * size && numbers.end <= kv.len,
                    "kv_load: lengths"
                );
                gpu.run(|| gpu.put(kv.memory.at() + (numbers.start * size) as u64, bytes));
            }
            (_, Kv::Cpu(kv)) => self.cpu.kv_load(bytes, numbers, kv),
            (None, Kv::Gpu(_)) => unreachable!("a ring on a GPU that is not there"),
        }
    }

    fn attention(&self, a: &Attention, q: &Buf, k: &Kv, v: &Kv, out: &mut Buf) {
        match (self.gpu(), k, v) {
            (Some(gpu), Kv::Gpu(k), Kv::Gpu(v)) => gpu.run(|| {
                let m = q.len() / (a.heads * a.head_dim).max(1);
                let rings = [k.memory.at(), v.memory.at()];
                gpu.attention(a, m, q.on(gpu)?.at(), rings, k.precision, out.out_on(gpu)?)
            }),
            (_, Kv::Cpu(k), Kv::Cpu(v)) => {
                Backend::attention(&self.cpu, a, &q.host(self.gpu()), k, v, out.host_out(&self.cpu));
            }
            _ => unreachable!("the rings of a layer lie together, on a GPU that is there"),
        }
    }

    fn softcap(&self, x: &mut Buf, cap: f32) {
        match self.with(x) {
            Some(gpu) => gpu.run(|| gpu.softcap(x.change_on(gpu)?, cap, x.len())),
            None => Backend::softcap(&self.cpu, x.host_change(&self.cpu, self.gpu()), cap),
        }
    }

    fn copy_rows(&self, x: &Buf, cols: usize, first: usize, n: usize, out: &mut Buf) {
        match self.with(x) {
            Some(gpu) => gpu.run(|| {
                let size = size_of::<f32>();
                out.resize(n * cols);
                let from = x.on(gpu)?.at() + (first * cols * size) as u64;
                gpu.copy(out.out_on(gpu)?, from, n * cols * size)
            }),
            None => {
                Backend::copy_rows(&self.cpu, &x.host(self.gpu()), cols, first, n, out.host_any());
                out.settle();
            }
        }
    }

    fn read<'a>(&self, buf: &'a Buf) -> Cow<'a, [f32]> {
        match buf.host(self.gpu()) {
            Cow::Borrowed(values) => Cow::Borrowed(values),
            Cow::Owned(values) => Cow::Owned(values),
        }
    }

    fn draws(&self, logits: &Buf) -> bool {
        self.with(logits).is_some()
    }

    fn draw(&self, logits: &Buf, draw: &Draw) -> Result<Option<u32>> {
        let Some(gpu) = self.with(logits) else { return Ok(None) };
        let mut chosen = None;
        gpu.run(|| {
            chosen = gpu.draw(logits.on(gpu)?.at(), logits.len(), draw)?;
            Ok(())
        });
        gpu.check().map(|()| chosen)
    }
}

//! Products, and the forms of activations that they read.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::kernels::Precision;
use crate::kernels::cuda::{Gpu, Memory, Product, Segment};
use crate::model::backend::{Backend, Epilogue, GatherOn, LowRankOn};
use crate::model::cpu::adapters;
use crate::model::spec::Rope;

use super::{Acts, Buf, Offload, RopeTable, Vector, Weight};

/// Which forms of activations are needed.
#[derive(Clone, Copy, Default)]
struct Forms {
    ints: bool,
    halves: bool,
    floats: bool,
}

impl Forms {
    fn of<const N: usize>(gpu: &Gpu, weights: [&Weight; N], updates: bool, m: usize, precision: Precision) -> Self {
        let mut forms = Forms {
            floats: updates,
            ..Forms::default()
        };
        for w in weights {
            match gpu.product(w.host.format(), m, precision) {
                Product::Ints => forms.ints = true,
                Product::Halves => forms.halves = true,
                Product::Floats => forms.floats = true,
            }
        }
        forms
    }
}

impl Acts {
    /// Where a form is.
    fn at(&self, product: Product) -> Result<u64> {
        let form = match product {
            Product::Ints => &self.ints,
            Product::Halves => &self.halves,
            Product::Floats => &self.floats,
        };
        form.at()
            .ok_or_else(|| Error::internal("activations were not made ready for this product"))
    }

    /// Those of rows of `k` on the GPU, in no form yet.
    fn begin(&mut self, m: usize, k: usize) {
        (self.on_gpu, self.m, self.k) = (true, m, k);
        for form in [&mut self.ints, &mut self.halves, &mut self.floats] {
            form.there = false;
        }
    }

    /// What is needed, of the rows at `x`.
    fn fill(&mut self, gpu: &Arc<Gpu>, x: u64, forms: Forms) -> Result<()> {
        let (m, k) = (self.m, self.k);
        if forms.ints {
            gpu.pack_ints(x, m, k, self.ints.make(gpu, Gpu::ints_bytes(m, k))?)?;
        }
        if forms.halves {
            gpu.pack_halves(x, m, k, self.halves.make(gpu, Gpu::halves_bytes(m, k))?)?;
        }
        if forms.floats {
            let bytes = m * k * size_of::<f32>();
            gpu.copy(self.floats.make(gpu, bytes)?, x, bytes)?;
        }
        Ok(())
    }
}

fn missing() -> Error {
    Error::internal("a matrix that is not on the GPU")
}

/// A segment of the table for `low_rank`, unless A and B are of two types or no row has it.
fn segment(l: &LowRankOn<Offload>, scale: f32, from: usize, m: usize) -> Result<Option<Segment>> {
    let (Some(a), Some(b)) = (&l.a.gpu, &l.b.gpu) else {
        return Err(missing());
    };
    let at = |v: &Option<Arc<Vector>>| v.as_ref().map_or(0, |v| v.at());
    Ok((a.format() == b.format()).then(|| Segment {
        factors: [a.at(), b.at(), at(&l.mid), at(&l.out)],
        rows: (from.min(m), m),
        format: a.format(),
        rank: a.rows(),
        scale,
    }))
}

impl Offload {
    /// Whether a product of x runs on the GPU: if all its matrices are there; without any, where x is.
    pub(super) fn is_for_gpu<const N: usize>(&self, x: &Buf, weights: [&Weight; N]) -> bool {
        self.gpu().is_some()
            && match N {
                0 => x.on_gpu(),
                _ => weights.iter().all(|w| w.gpu.is_some()),
            }
    }

    pub(super) fn pack_input<const N: usize>(
        &self,
        x: &Buf,
        cols: usize,
        weights: [&Weight; N],
        updates: bool,
        precision: Precision,
        acts: &mut Acts,
    ) {
        if let Some(gpu) = self.gpu().filter(|_| self.is_for_gpu(x, weights)) {
            let m = x.len() / cols.max(1);
            acts.begin(m, cols);
            return gpu.run(|| acts.fill(gpu, x.on(gpu)?.at(), Forms::of(gpu, weights, updates, m, precision)));
        }
        acts.on_gpu = false;
        let (x, weights) = (x.host(self.gpu()), weights.map(|w| &w.host));
        Backend::pack(&self.cpu, &x, cols, weights, updates, precision, &mut acts.host);
    }

    pub(super) fn pack_floats(&self, x: &Buf, acts: &mut Acts) {
        match self.gpu().filter(|_| acts.on_gpu) {
            Some(_) if acts.floats.there => {}
            Some(gpu) => gpu.run(|| {
                let floats = Forms {
                    floats: true,
                    ..Forms::default()
                };
                acts.fill(gpu, x.on(gpu)?.at(), floats)
            }),
            None => Backend::pack_f32(&self.cpu, &x.host(self.gpu()), &mut acts.host),
        }
    }

    #[allow(clippy::too_many_arguments)] // those of the operation
    pub(super) fn norm_pack_on<const N: usize>(
        &self,
        gpu: &Arc<Gpu>,
        x: &Buf,
        norm: &Vector,
        eps: f32,
        normed: &mut Buf,
        weights: [&Weight; N],
        updates: bool,
        precision: Precision,
        acts: &mut Acts,
    ) -> Result<()> {
        let n = norm.host.len();
        let m = x.len() / n.max(1);
        acts.begin(m, n);
        let mut forms = Forms::of(gpu, weights, updates, m, precision);
        let (x, out) = (x.on(gpu)?, normed.out_on(gpu)?);
        if std::mem::take(&mut forms.ints) {
            let ints = acts.ints.make(gpu, Gpu::ints_bytes(m, n))?;
            gpu.norm_pack_ints(x.at(), norm.at(), eps, out, (m, n), ints)?;
        } else {
            gpu.rms_norm(x.at(), norm.at(), eps, out, m, n)?;
        }
        acts.fill(gpu, out, forms)
    }

    pub(super) fn linear_on<const N: usize>(
        &self,
        gpu: &Arc<Gpu>,
        to: [(&Weight, &mut Buf); N],
        acts: &Acts,
        precision: Precision,
        epilogues: [Epilogue<Self>; N],
        gates: &[usize],
    ) -> Result<()> {
        let m = acts.m;
        let mut places = Vec::with_capacity(N);
        for (w, y) in to {
            let matrix = w.gpu.as_ref().ok_or_else(missing)?;
            y.resize(m * matrix.rows());
            places.push((&**matrix, y.out_on(gpu)?, y));
        }
        // Those of one format are one launch.
        let mut first = 0;
        while first < N {
            let format = places[first].0.format();
            let same = places[first..].iter().take_while(|p| p.0.format() == format);
            let group: Vec<_> = same.map(|(w, at, _)| (*w, *at)).collect();
            let product = gpu.product(format, m, precision);
            gpu.products(&group, product, acts.at(product)?, m, 1.0, false)?;
            first += group.len();
        }
        let from = |gate: Option<usize>| gate.map_or(0, |gate| gates[gate]);
        let (mut table, mut apart) = (Vec::new(), Vec::new());
        for (i, ((w, at, _), e)) in places.iter().zip(&epilogues).enumerate() {
            let mut segments = Vec::new();
            for u in e.updates {
                match segment(&u.low_rank, u.scale, from(u.gate), m)? {
                    Some(s) if s.rows.0 < m => segments.push(s),
                    Some(_) => {}
                    None => apart.push((i, u)),
                }
            }
            table.push((*at, w.rows(), segments));
        }
        if table.iter().any(|t| !t.2.is_empty()) {
            gpu.low_rank(acts.at(Product::Floats)?, (m, acts.k), &table)?;
        }
        for (i, u) in apart {
            self.falls("low_rank");
            let mut x = vec![0.0; m * acts.k];
            gpu.get_f32(acts.at(Product::Floats)?, &mut x)?;
            let y = places[i].2.host_change(&self.cpu, Some(gpu));
            adapters::low_rank(&self.cpu, self, &u.low_rank, u.scale, from(u.gate), precision, &x, y);
            places[i].1 = places[i].2.change_on(gpu)?;
        }
        for ((w, at, _), e) in places.iter().zip(&epilogues) {
            if e.bias.is_some() || e.affine.is_some() {
                let shift = e.affine.and_then(|(_, shift)| shift.as_ref());
                let at_of = |v: Option<&Vector>| v.map_or(0, Vector::at);
                let factors = at_of(e.affine.map(|(factors, _)| factors));
                gpu.finish(*at, (m, w.rows()), at_of(e.bias), factors, at_of(shift))?;
            }
        }
        Ok(())
    }

    pub(super) fn low_rank_at(
        &self,
        l: &LowRankOn<Self>,
        scale: f32,
        from: usize,
        precision: Precision,
        x: &Buf,
        y: &mut Buf,
    ) {
        let k = l.a.host.cols();
        let m = x.len() / k.max(1);
        // Factors of two types are a rarity that no kernel has.
        let same = matches!((&l.a.gpu, &l.b.gpu), (Some(a), Some(b)) if a.format() == b.format());
        let gpu = self.with(y).filter(|_| same);
        if let Some(gpu) = gpu {
            return gpu.run(|| match segment(l, scale, from, m)? {
                Some(s) if s.rows.0 < m => {
                    let table = [(y.change_on(gpu)?, l.b.host.rows(), vec![s])];
                    gpu.low_rank(x.on(gpu)?.at(), (m, k), &table)
                }
                _ => Ok(()),
            });
        }
        if y.on_gpu() {
            self.falls("low_rank");
        }
        let (x, y) = (x.host(self.gpu()), y.host_change(&self.cpu, self.gpu()));
        adapters::low_rank(&self.cpu, self, l, scale, from, precision, &x, y);
    }

    pub(super) fn gather_on(
        &self,
        gpu: &Arc<Gpu>,
        l: &GatherOn<Self>,
        scale: f32,
        from: usize,
        ids: &[u32],
        y: &mut Buf,
    ) -> Result<()> {
        let (Some(table), Some(b)) = (&l.table.gpu, &l.b.gpu) else {
            return Err(missing());
        };
        let (m, rank) = (ids.len(), table.cols());
        if from >= m {
            return Ok(());
        }
        let ids = gpu.temp_ids(ids.iter().map(|id| *id as i32))?;
        // Rows before the gate are not read.
        let u = gpu.temp(m * rank * size_of::<f32>())?;
        gpu.embed(table, ids.at(), m, scale, u.at())?;
        if let Some(mid) = &l.mid {
            gpu.finish(u.at(), (m, rank), 0, mid.at(), 0)?;
        }
        let segment = Segment {
            factors: [0, b.at(), 0, l.out.as_ref().map_or(0, |out| out.at())],
            rows: (from, m),
            format: b.format(),
            rank,
            scale: 1.0,
        };
        let to = [(y.change_on(gpu)?, b.rows(), vec![segment])];
        gpu.low_rank_of(u.at() + (from * rank * size_of::<f32>()) as u64, m, &to)
    }

    /// y (+)= scale * x d^T in f32.
    pub(super) fn floats_product(
        &self,
        gpu: &Arc<Gpu>,
        d: &Weight,
        acts: &Acts,
        scale: f32,
        add: bool,
        y: u64,
    ) -> Result<()> {
        let matrix = d.gpu.as_ref().ok_or_else(missing)?;
        gpu.products(
            &[(&**matrix, y)],
            Product::Floats,
            acts.at(Product::Floats)?,
            acts.m,
            scale,
            add,
        )
    }

    pub(super) fn kron_on(
        &self,
        gpu: &Arc<Gpu>,
        w1: &Weight,
        w2: &Weight,
        scale: f32,
        x: &Buf,
        y: &mut Buf,
    ) -> Result<()> {
        let (Some(w1), Some(w2)) = (&w1.gpu, &w2.gpu) else {
            return Err(missing());
        };
        let sizes = [w1.rows(), w1.cols(), w2.rows()];
        let [_, i1, o2] = sizes;
        let m = x.len() / (i1 * w2.cols()).max(1);
        let z = gpu.temp(m * i1 * o2 * size_of::<f32>())?;
        gpu.products(&[(&**w2, z.at())], Product::Floats, x.on(gpu)?.at(), m * i1, 1.0, false)?;
        // The kernel reads f32.
        let numbers = gpu.temp(w1.rows() * w1.cols() * size_of::<f32>())?;
        gpu.unpack(w1, 0, w1.rows(), numbers.at())?;
        gpu.kron(numbers.at(), z.at(), m, sizes, scale, y.change_on(gpu)?)
    }

    pub(super) fn rope_table_on(
        &self,
        gpu: &Arc<Gpu>,
        rope: &Rope,
        pos: usize,
        m: usize,
        table: &mut RopeTable,
    ) -> Result<()> {
        let (half, size) = (rope.inv_freq.len(), size_of::<f32>());
        if table.known != rope.inv_freq {
            table.known.clear();
            gpu.put_f32(Memory::grow(gpu, &mut table.inv_freq, half * size)?, &rope.inv_freq)?;
            table.known.clone_from(&rope.inv_freq);
        }
        let cos = Memory::grow(gpu, &mut table.cos, m * half * size)?;
        let sin = Memory::grow(gpu, &mut table.sin, m * half * size)?;
        (table.half, table.m, table.interleaved) = (half, m, rope.interleaved);
        let inv_freq = table.inv_freq.as_ref().map_or(0, Memory::at);
        gpu.rope_table(inv_freq, half, rope.magnitude, pos, m, cos, sin)
    }
}

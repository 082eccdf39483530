//! The CPU as a backend: weights stay in the mapped file, operations are those of [`crate::kernels`].

pub(super) mod adapters;
mod backprop;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::adapter::forms::{Blocks, Pairs};
use crate::adapter::matrix::Matrix;
use crate::error::{Error, Result};
use crate::format::{Gguf, Mapping, TensorInfo};
use crate::kernels::cpu::{Act, Acts, Attention, KvBuf, Panels, Partner, Readers, RopeTable, Weight, pairs, partner};
use crate::kernels::op_times::Work;
use crate::kernels::{Cpu, Precision};
use crate::model::dropout::Dropout;
use crate::quant::BlockFormat;

use super::backend::{Affine, Backend, Epilogue, GatherOn, LowRankOn};
use super::spec::Rope;
use adapters::{affine, affine_pack, gather_low_rank, linear, low_rank};

/// Where a matrix lies.
#[derive(Clone)]
enum Place {
    /// In the model's mapped file.
    Mapped(Mapping, Range<usize>),
    /// In memory, shared with the adapter that it belongs to.
    Shared(Arc<[u8]>),
}

/// A matrix in memory. Cloning shares it.
#[derive(Clone)]
pub struct CpuWeight {
    /// What it is called in every layer: `attn_q`.
    kind: String,
    place: Place,
    format: BlockFormat,
    rows: usize,
    cols: usize,
}

impl CpuWeight {
    /// A matrix of `format` that lies in memory, of the tensor called `name`.
    pub fn in_memory(name: &str, format: BlockFormat, rows: usize, cols: usize, bytes: Arc<[u8]>) -> Self {
        CpuWeight {
            kind: kind_of(name).to_string(),
            place: Place::Shared(bytes),
            format,
            rows,
            cols,
        }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// How its rows are packed.
    pub fn format(&self) -> BlockFormat {
        self.format
    }

    /// Whether it lies in the model's file.
    pub fn is_mapped(&self) -> bool {
        matches!(self.place, Place::Mapped(..))
    }

    pub(super) fn view(&self) -> Weight<'_> {
        Weight {
            format: self.format,
            rows: self.rows,
            cols: self.cols,
            data: self.bytes(),
        }
    }

    /// Its rows, as they lie.
    pub fn bytes(&self) -> &[u8] {
        match &self.place {
            Place::Mapped(mapping, range) => &mapping.bytes()[range.clone()],
            Place::Shared(bytes) => bytes,
        }
    }

    /// What operations that read it are told apart by.
    fn kind(&self) -> (&str, BlockFormat) {
        (&self.kind, self.format)
    }
}

/// `attn_q` of `blk.3.attn_q.weight`.
fn kind_of(tensor: &str) -> &str {
    let stem = tensor.strip_suffix(".weight").unwrap_or(tensor);
    let layer = stem.strip_prefix("blk.").and_then(|s| s.split_once('.'));
    layer.map_or(stem, |(_, kind)| kind)
}

/// Each operation says how much work it is: see [`OpTimes`](crate::kernels::op_times::OpTimes).
impl Backend for Cpu {
    type Weight = CpuWeight;
    type Vector = Vec<f32>;
    type Buf = Vec<f32>;
    type Acts = Acts;
    type Factor = Panels;
    type Pairs = Pairs;
    type Blocks = Blocks;
    type Ids = Vec<u32>;
    type Kv = KvBuf;
    type RopeTable = RopeTable;

    fn weight(&self, gguf: &Gguf, t: &TensorInfo, rows: usize, cols: usize) -> Result<CpuWeight> {
        let row = t.format.bytes_for(cols);
        if row.and_then(|r| r.checked_mul(rows)) != Some(t.range.len()) {
            return Err(Error::invalid("rows are not whole blocks")
                .item(&t.name)
                .expected(format!(
                    "a row length that is a multiple of {}",
                    t.format.info().block_len
                ))
                .found(cols));
        }
        Ok(CpuWeight {
            kind: kind_of(&t.name).to_string(),
            place: Place::Mapped(gguf.mapping(t).clone(), t.range.clone()),
            format: t.format,
            rows,
            cols,
        })
    }

    fn vector(&self, gguf: &Gguf, t: &TensorInfo) -> Result<Vec<f32>> {
        let mut v = vec![0.0; t.dims.iter().product()];
        t.format.dequantize(gguf.data(t), &mut v);
        Ok(v)
    }

    fn matrix(&self, m: &Matrix) -> Result<CpuWeight> {
        Ok(CpuWeight::in_memory(
            "adapter",
            m.format(),
            m.rows(),
            m.cols(),
            m.bytes().clone(),
        ))
    }

    fn factor(&self, m: &Matrix) -> Result<Panels> {
        Ok(Panels::new(m.rows(), m.cols(), m.format(), m.bytes()))
    }

    fn vector_of(&self, values: &[f32]) -> Result<Vec<f32>> {
        Ok(values.to_vec())
    }

    fn pairs_of(&self, pairs: Pairs) -> Result<Pairs> {
        Ok(pairs)
    }

    fn blocks_of(&self, blocks: Blocks) -> Result<Blocks> {
        Ok(blocks)
    }

    fn ids_of(&self, ids: Vec<u32>) -> Result<Vec<u32>> {
        Ok(ids)
    }

    fn replacement(&self, w: CpuWeight, _old: &CpuWeight) -> Result<CpuWeight> {
        Ok(w)
    }

    fn host<'a>(&self, w: &'a CpuWeight) -> &'a CpuWeight {
        w
    }

    fn host_factor<'a>(&self, f: &'a Panels) -> &'a Panels {
        f
    }

    fn host_pairs<'a>(&self, pairs: &'a Pairs) -> &'a Pairs {
        pairs
    }

    fn host_blocks<'a>(&self, blocks: &'a Blocks) -> &'a Blocks {
        blocks
    }

    fn host_ids<'a>(&self, ids: &'a Vec<u32>) -> &'a [u32] {
        ids
    }

    fn read_rows(&self, w: &CpuWeight, first: usize, out: &mut [f32]) {
        let row = w.view().row_bytes();
        let n = out.len().checked_div(w.cols).unwrap_or(0);
        w.format.dequantize(&w.bytes()[first * row..][..n * row], out);
    }

    fn read_vector<'a>(&self, v: &'a Vec<f32>) -> &'a [f32] {
        v
    }

    fn write(&self, values: &[f32], buf: &mut Vec<f32>) {
        buf.clear();
        buf.extend_from_slice(values);
    }

    fn kv(&self, _near: &CpuWeight, capacity: usize, width: usize, precision: Precision) -> Result<KvBuf> {
        KvBuf::new(capacity, width, precision)
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn resize(&self, buf: &mut Vec<f32>, len: usize) {
        if buf.capacity() < len {
            // Never two of them, and no larger than it must be: `MemoryPlan` says how much that is.
            *buf = Vec::new();
            *buf = vec![0.0; len];
        }
        buf.resize(len, 0.0);
    }

    fn embed(&self, w: &CpuWeight, ids: &[u32], scale: f32, out: &mut Vec<f32>) {
        let row = w.bytes().len().checked_div(w.rows).unwrap_or(0);
        let work = Work {
            weights: &[w.kind()],
            ..Work::elements("embed", ids.len() * row)
        };
        self.times().time(work, || Cpu::embed(self, w.view(), ids, scale, out));
    }

    fn rms_norm(&self, x: &Vec<f32>, w: &Vec<f32>, eps: f32, out: &mut Vec<f32>) {
        let work = Work::elements("rms_norm", 2 * size_of_val(&x[..]));
        self.times().time(work, || Cpu::rms_norm(self, x, w, eps, out));
    }

    fn rms_norm_inplace(&self, x: &mut Vec<f32>, w: &Vec<f32>, eps: f32) {
        let work = Work::elements("rms_norm", 2 * size_of_val(&x[..]));
        self.times().time(work, || Cpu::rms_norm_inplace(self, x, w, eps));
    }

    fn pack<const N: usize>(
        &self,
        x: &Vec<f32>,
        cols: usize,
        weights: [&CpuWeight; N],
        updates: bool,
        precision: Precision,
        acts: &mut Acts,
    ) {
        let readers = Readers {
            formats: &weights.map(|w| w.format),
            precision,
            updates,
        };
        let work = Work::elements("pack", size_of_val(&x[..]));
        self.times().time(work, || Cpu::pack(self, x, cols, readers, acts));
    }

    fn norm_pack<const N: usize>(
        &self,
        x: &Vec<f32>,
        norm: &Vec<f32>,
        eps: f32,
        normed: &mut Vec<f32>,
        weights: [&CpuWeight; N],
        updates: bool,
        precision: Precision,
        acts: &mut Acts,
    ) {
        let readers = Readers {
            formats: &weights.map(|w| w.format),
            precision,
            updates,
        };
        let work = Work::elements("norm_pack", 2 * size_of_val(&x[..]));
        self.times()
            .time(work, || Cpu::norm_pack(self, x, norm, eps, normed, readers, acts));
    }

    fn matmul<const N: usize>(&self, to: [(&CpuWeight, &mut Vec<f32>); N], acts: &Acts, precision: Precision) {
        let weights = to.each_ref().map(|(w, _)| w.kind());
        let work = product(&weights, to.each_ref().map(|(w, _)| *w), acts, precision);
        self.times().time(work, || {
            Cpu::matmul_all(self, to.map(|(w, y)| (w.view(), &mut y[..])), acts, precision);
        });
    }

    fn pack_f32(&self, x: &Vec<f32>, acts: &mut Acts) {
        let work = Work::elements("pack", size_of_val(&x[..]));
        self.times().time(work, || Cpu::pack_f32(self, x, acts));
    }

    fn affine_pack<const N: usize>(
        &self,
        x: &Vec<f32>,
        affine: &Affine<Cpu>,
        weights: [&CpuWeight; N],
        precision: Precision,
        acts: &mut Acts,
    ) {
        affine_pack(self, self, x, affine, weights, precision, acts);
    }

    fn linear<const N: usize>(
        &self,
        to: [(&CpuWeight, &mut Vec<f32>); N],
        acts: &Acts,
        precision: Precision,
        epilogues: [Epilogue<Cpu>; N],
        gates: &[usize],
        next: &[Panels],
    ) {
        linear(self, self, to, acts, precision, epilogues, gates, next);
    }

    fn low_rank(
        &self,
        l: &LowRankOn<Cpu>,
        scale: f32,
        from: usize,
        precision: Precision,
        x: &Vec<f32>,
        y: &mut Vec<f32>,
    ) {
        low_rank(self, self, l, scale, from, precision, x, y);
    }

    fn gather_low_rank(&self, l: &GatherOn<Cpu>, scale: f32, from: usize, ids: &[u32], y: &mut Vec<f32>) {
        gather_low_rank(self, self, l, scale, from, ids, y);
    }

    fn dense(&self, d: &CpuWeight, scale: f32, acts: &Acts, y: &mut Vec<f32>) {
        let work = Work {
            op: "dense",
            macs: acts.rows() * d.rows * d.cols,
            bytes: d.bytes().len(),
            ..Work::default()
        };
        self.times().time(work, || Cpu::dense(self, d.view(), scale, acts, y));
    }

    fn kron(&self, w1: &CpuWeight, w2: &CpuWeight, scale: f32, x: &Vec<f32>, tmp: &mut Acts, y: &mut Vec<f32>) {
        let work = Work {
            op: "kron",
            macs: x.len() * w2.rows + y.len() * w1.cols,
            bytes: w1.bytes().len() + w2.bytes().len(),
            ..Work::default()
        };
        self.times()
            .time(work, || Cpu::kron(self, w1.view(), w2.view(), scale, x, tmp, y));
    }

    fn affine(&self, y: &mut Vec<f32>, a: &Affine<Cpu>) {
        affine(self, self, y, a);
    }

    fn pairs(&self, y: &mut Vec<f32>, p: &Pairs) {
        let work = Work::elements("pairs", 2 * size_of_val(&y[..]));
        self.times().time(work, || Cpu::pairs(self, y, &p.f, &p.h, &p.partner));
    }

    fn blocks(&self, x: &mut Vec<f32>, blocks: &Blocks) {
        let work = Work {
            op: "blocks",
            macs: x.len() * blocks.size,
            bytes: size_of_val(&blocks.blocks[..]),
            ..Work::default()
        };
        self.times().time(work, || {
            Cpu::blocks(self, x, blocks.size, &blocks.blocks, blocks.order.as_deref())
        });
    }

    fn replace_rows(&self, w: &CpuWeight, of: &Vec<u32>, ids: &[u32], out: &mut Vec<f32>) {
        for (id, row) in ids.iter().zip(out.chunks_exact_mut(w.cols)) {
            if let Some(at) = of.iter().position(|o| o == id) {
                self.read_rows(w, at, row);
            }
        }
    }

    fn replace_products(&self, w: &CpuWeight, of: &Vec<u32>, acts: &Acts, y: &mut Vec<f32>) {
        Cpu::replace_products(self, w.view(), of, acts, y);
    }

    fn copy(&self, x: &Vec<f32>, out: &mut Vec<f32>) {
        self.resize(out, x.len());
        let work = Work::elements("copy", 2 * size_of_val(&x[..]));
        self.times().time(work, || Cpu::copy(self, x, out));
    }

    fn drop_out(&self, x: &mut Vec<f32>, cols: usize, dropout: &Dropout) {
        let work = Work::elements("drop_out", 2 * size_of_val(&x[..]));
        self.times().time(work, || Cpu::drop_out(self, x, cols, dropout));
    }

    fn scale(&self, x: &mut Vec<f32>, scale: f32) {
        Cpu::scale(self, x, scale);
    }

    fn add_bias(&self, y: &mut Vec<f32>, bias: &Vec<f32>, scale: f32) {
        let work = Work::elements("add_bias", 2 * size_of_val(&y[..]));
        self.times().time(work, || Cpu::add_bias(self, y, bias, scale));
    }

    fn add(&self, y: &mut Vec<f32>, x: &Vec<f32>) {
        let work = Work::elements("add", 3 * size_of_val(&x[..]));
        self.times().time(work, || Cpu::add(self, y, x));
    }

    fn rope_table(&self, rope: &Rope, pos: usize, m: usize, table: &mut RopeTable) {
        let work = Work::elements("rope_table", 2 * m * size_of_val(&rope.inv_freq[..]));
        self.times().time(work, || {
            table.dims = rope.dims;
            table.interleaved = rope.interleaved;
            table.cos.clear();
            table.sin.clear();
            for p in pos..pos + m {
                for f in &rope.inv_freq {
                    // The angle is rounded to f32, as in transformers, before its sine is taken.
                    let (sin, cos) = (p as f32 * f).sin_cos();
                    table.cos.push(cos * rope.magnitude);
                    table.sin.push(sin * rope.magnitude);
                }
            }
        });
    }

    fn rope(&self, x: &mut Vec<f32>, heads: usize, head_dim: usize, table: &RopeTable) {
        let work = Work::elements("rope", 2 * size_of_val(&x[..]));
        self.times().time(work, || Cpu::rope(self, x, heads, head_dim, table));
    }

    fn gated(&self, act: Act, gate: &mut Vec<f32>, up: &Vec<f32>) {
        let work = Work::elements("gated", 3 * size_of_val(&up[..]));
        self.times().time(work, || Cpu::gated(self, act, gate, up));
    }

    fn kv_write(&self, x: &Vec<f32>, width: usize, pos: usize, capacity: usize, kv: &mut KvBuf) {
        let work = Work::elements("kv_write", x.len() * (size_of::<f32>() + kv.value_size()));
        self.times()
            .time(work, || Cpu::kv_write(self, x, width, pos, capacity, kv));
    }

    fn kv_save(&self, kv: &KvBuf, numbers: Range<usize>, out: &mut Vec<u8>) {
        match kv {
            KvBuf::F16(kv) => out.extend(kv[numbers].iter().flat_map(|v| v.to_le_bytes())),
            KvBuf::F32(kv) => out.extend(kv[numbers].iter().flat_map(|v| v.to_le_bytes())),
        }
    }

    fn kv_load(&self, bytes: &[u8], numbers: Range<usize>, kv: &mut KvBuf) {
        assert_eq!(bytes.len(), numbers.len() * kv.value_size(), "kv_load: lengths");
        match kv {
            KvBuf::F16(kv) => {
                let values = bytes.as_chunks().0.iter().map(|v| u16::from_le_bytes(*v));
                kv[numbers].iter_mut().zip(values).for_each(|(to, v)| *to = v);
            }
            KvBuf::F32(kv) => {
                let values = bytes.as_chunks().0.iter().map(|v| f32::from_le_bytes(*v));
                kv[numbers].iter_mut().zip(values).for_each(|(to, v)| *to = v);
            }
        }
    }

    fn attention(&self, a: &Attention, q: &Vec<f32>, k: &KvBuf, v: &KvBuf, out: &mut Vec<f32>) {
        let rows = q.len() / (a.heads * a.head_dim).max(1);
        let seen = a.pos + rows - a.visible(0).start;
        let work = Work {
            op: "attention",
            macs: 2 * pairs(a.pos, rows, a.window) * a.heads * a.head_dim,
            bytes: seen * a.kv_heads * a.head_dim * (k.value_size() + v.value_size()),
            ..Work::default()
        };
        self.times().time(work, || Cpu::attention(self, a, q, k, v, out));
    }

    fn softcap(&self, x: &mut Vec<f32>, cap: f32) {
        let work = Work::elements("softcap", 2 * size_of_val(&x[..]));
        self.times().time(work, || Cpu::softcap(self, x, cap));
    }

    fn copy_rows(&self, x: &Vec<f32>, cols: usize, first: usize, n: usize, out: &mut Vec<f32>) {
        let rows = &x[first * cols..(first + n) * cols];
        let work = Work::elements("copy_rows", 2 * size_of_val(rows));
        self.times().time(work, || {
            out.clear();
            out.extend_from_slice(rows);
        });
    }

    fn read<'a>(&self, buf: &'a Vec<f32>) -> Cow<'a, [f32]> {
        Cow::Borrowed(buf)
    }
}

/// The work of a product.
fn product<'a, const N: usize>(
    kinds: &'a [(&'a str, BlockFormat)],
    weights: [&CpuWeight; N],
    acts: &Acts,
    precision: Precision,
) -> Work<'a> {
    let mut work = Work {
        op: "matmul",
        weights: kinds,
        ..Work::default()
    };
    for w in weights {
        let integer = precision != Precision::Exact && partner(w.format) != Partner::F32;
        let macs = if integer {
            &mut work.integer_macs
        } else {
            &mut work.macs
        };
        *macs += acts.rows() * w.rows * w.cols;
        work.bytes += w.bytes().len();
    }
    work
}

#[cfg(test)]
mod tests {
    use super::kind_of;

    #[test]
    fn kinds_are_names_without_the_layer() {
        for (tensor, kind) in [
            ("blk.3.attn_q.weight", "attn_q"),
            ("token_embd.weight", "token_embd"),
            ("blk.", "blk."),
            ("blk.x", "blk.x"),
        ] {
            assert_eq!(kind_of(tensor), kind);
        }
    }
}

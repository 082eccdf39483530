//! The CPU as a backend: weights stay in the mapped file, operations are those of [`crate::kernels`].

use std::borrow::Cow;
use std::ops::Range;

use crate::adapter::forms::LowRank;
use crate::error::{Error, Result};
use crate::format::{Gguf, Mapping, TensorInfo};
use crate::kernels::cpu::{self, Act, Acts, Attention, KvBuf, RopeTable, Weight};
use crate::kernels::{Cpu, Precision};
use crate::quant::BlockFormat;

use super::backend::Backend;
use super::spec::Rope;

/// A matrix in the mapped file.
pub struct MappedWeight {
    mapping: Mapping,
    range: Range<usize>,
    format: BlockFormat,
    rows: usize,
    cols: usize,
}

impl MappedWeight {
    fn view(&self) -> Weight<'_> {
        Weight {
            format: self.format,
            rows: self.rows,
            cols: self.cols,
            data: &self.mapping.bytes()[self.range.clone()],
        }
    }
}

impl Backend for Cpu {
    type Weight = MappedWeight;
    type Vector = Vec<f32>;
    type Buf = Vec<f32>;
    type Acts = Acts;
    type LowRank = cpu::LowRank;
    type Kv = KvBuf;
    type RopeTable = RopeTable;

    fn weight(&self, gguf: &Gguf, t: &TensorInfo, rows: usize, cols: usize) -> Result<MappedWeight> {
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
        Ok(MappedWeight {
            mapping: gguf.mapping(t).clone(),
            range: t.range.clone(),
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

    fn low_rank_factors(&self, f: &LowRank) -> Result<cpu::LowRank> {
        Ok(cpu::LowRank {
            rank: f.rank,
            a: f.a.clone(),
            b: f.b.clone(),
        })
    }

    fn kv(&self, capacity: usize, width: usize, precision: Precision) -> Result<KvBuf> {
        KvBuf::new(capacity, width, precision)
    }

    fn resize(&self, buf: &mut Vec<f32>, len: usize) {
        buf.resize(len, 0.0);
    }

    fn embed(&self, w: &MappedWeight, ids: &[u32], scale: f32, out: &mut Vec<f32>) {
        Cpu::embed(self, w.view(), ids, scale, out);
    }

    fn rms_norm(&self, x: &Vec<f32>, w: &Vec<f32>, eps: f32, out: &mut Vec<f32>) {
        Cpu::rms_norm(self, x, w, eps, out);
    }

    fn rms_norm_inplace(&self, x: &mut Vec<f32>, w: &Vec<f32>, eps: f32) {
        Cpu::rms_norm_inplace(self, x, w, eps);
    }

    fn pack<const N: usize>(
        &self,
        x: &Vec<f32>,
        cols: usize,
        weights: [&MappedWeight; N],
        precision: Precision,
        acts: &mut Acts,
    ) {
        Cpu::pack(self, x, cols, &weights.map(|w| w.format), precision, acts);
    }

    fn matmul<const N: usize>(&self, to: [(&MappedWeight, &mut Vec<f32>); N], acts: &Acts, precision: Precision) {
        Cpu::matmul_all(self, to.map(|(w, y)| (w.view(), &mut y[..])), acts, precision);
    }

    fn low_rank(&self, l: &cpu::LowRank, scale: f32, x: &Vec<f32>, tmp: &mut Vec<f32>, y: &mut Vec<f32>) {
        Cpu::low_rank(self, l, scale, x, tmp, y);
    }

    fn add_bias(&self, y: &mut Vec<f32>, bias: &Vec<f32>) {
        Cpu::add_bias(self, y, bias);
    }

    fn add(&self, y: &mut Vec<f32>, x: &Vec<f32>) {
        Cpu::add(self, y, x);
    }

    fn rope_table(&self, rope: &Rope, pos: usize, m: usize, table: &mut RopeTable) {
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
    }

    fn rope(&self, x: &mut Vec<f32>, heads: usize, head_dim: usize, table: &RopeTable) {
        Cpu::rope(self, x, heads, head_dim, table);
    }

    fn gated(&self, act: Act, gate: &mut Vec<f32>, up: &Vec<f32>) {
        Cpu::gated(self, act, gate, up);
    }

    fn kv_write(&self, x: &Vec<f32>, width: usize, pos: usize, capacity: usize, kv: &mut KvBuf) {
        Cpu::kv_write(self, x, width, pos, capacity, kv);
    }

    fn attention(&self, a: &Attention, q: &Vec<f32>, k: &KvBuf, v: &KvBuf, out: &mut Vec<f32>) {
        Cpu::attention(self, a, q, k, v, out);
    }

    fn softcap(&self, x: &mut Vec<f32>, cap: f32) {
        Cpu::softcap(self, x, cap);
    }

    fn copy_rows(&self, x: &Vec<f32>, cols: usize, first: usize, n: usize, out: &mut Vec<f32>) {
        out.clear();
        out.extend_from_slice(&x[first * cols..(first + n) * cols]);
    }

    fn read<'a>(&self, buf: &'a Vec<f32>) -> Cow<'a, [f32]> {
        Cow::Borrowed(buf)
    }
}

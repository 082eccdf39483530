//! The kernels' calls: shapes of launches and orders of arguments, as `docs/cuda.md` has them. Rows are f32 unless said otherwise.

use std::sync::Arc;

use super::driver::Address;
use super::matrix::{Matrix, name_of};
use super::{Arg, Gpu, Temp};
use crate::error::Result;
use crate::kernels::Precision;
use crate::kernels::cpu::{Act, Attention};
use crate::quant::BlockFormat;

use Arg::{At, Float, Int, Long};

/// In which form a product reads its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// Integers: few rows, in the blocks; many, on tensor cores that are faster at them.
    Ints,
    /// Halves: tensor cores.
    Halves,
    /// As it is.
    Floats,
}

/// Whether a GPU multiplies many rows as integers: where tensor cores add halves in f32 at half speed, which is what makes a GeForce of one, whatever
/// its generation. Before compute capability 8.0 there are no kernels. `docs/cuda.md` has the figures.
pub(super) fn multiplies_ints(name: &str, capability: i32) -> bool {
    capability >= 80 && name.contains("GeForce")
}

/// Rows that kernels of matrix and vector do together.
const FEW_FLOATS: usize = 4;
const FEW_INTS: usize = 4;
/// Rows for which tensor cores read the weights once.
const FEW_HALVES: usize = 16;

/// Matrices of one format that read the same input, at most three: each and where its product goes.
pub type Group<'a> = &'a [(&'a Matrix, Address)];

/// A low-rank update of rows `first..last`, see [`Gpu::low_rank`].
#[derive(Clone, Copy)]
pub struct Segment {
    /// A, B, and the factors behind them or 0.
    pub factors: [Address; 4],
    /// Rows that have it.
    pub rows: (usize, usize),
    /// Of A and B.
    pub format: BlockFormat,
    /// Rows of A.
    pub rank: usize,
    /// Multiplies it.
    pub scale: f32,
}

pub(super) fn per_element(len: usize) -> [usize; 3] {
    [len.div_ceil(256), 1, 1]
}

/// What kernels of attention of `m` rows are told; the position is the sum of a number in the device's memory, or none, and another.
pub(super) fn attention_facts(a: &Attention, m: usize, (at, pos): (Address, usize)) -> [Arg; 10] {
    [
        Int(m),
        Int(a.heads),
        Int(a.kv_heads),
        Int(a.head_dim),
        Float(a.scale),
        Float(a.softcap.unwrap_or(0.0)),
        Int(a.window.unwrap_or(0)),
        Int(a.capacity),
        At(at),
        Int(pos),
    ]
}

impl Gpu {
    /// The form of a product of `m` rows with a matrix of `format`.
    pub(crate) fn product(&self, format: BlockFormat, m: usize, precision: Precision) -> Product {
        use BlockFormat as F;
        match (precision, format) {
            (Precision::Exact, _) | (_, F::F32 | F::BF16) => Product::Floats,
            (_, F::F16) if m <= FEW_FLOATS => Product::Floats,
            (_, F::F16) => Product::Halves,
            _ if m <= FEW_INTS => Product::Ints,
            _ if m <= FEW_HALVES || !self.multiplies_ints => Product::Halves,
            // Two scales for 32 columns take more time than halves.
            (_, F::Q2_K | F::Q3_K | F::Q6_K) => Product::Halves,
            _ => Product::Ints,
        }
    }

    /// Packs `[m][k]` to integers, `acts` of [`Gpu::ints_bytes`].
    pub(crate) fn pack_ints(&self, x: Address, m: usize, k: usize, acts: Address) -> Result<()> {
        let args = [At(x), Int(m), Int(k), At(acts)];
        self.launch("pack_i", [(m * (k / 32)).div_ceil(8), 1, 1], 256, &args)
    }

    /// Bytes of `[m][k]` as integers.
    pub(crate) fn ints_bytes(m: usize, k: usize) -> usize {
        19 * m * k / 8
    }

    /// Packs `[m][k]` to halves, `acts` of [`Gpu::halves_bytes`].
    pub(crate) fn pack_halves(&self, x: Address, m: usize, k: usize, acts: Address) -> Result<()> {
        self.launch("pack_h", [m, 1, 1], 256, &[At(x), Int(m), Int(k), At(acts)])
    }

    /// Bytes of `[m][k]` as halves.
    pub(crate) fn halves_bytes(m: usize, k: usize) -> usize {
        2 * m * k.next_multiple_of(64) + 4 * m
    }

    /// y (+)= scale * x w^T for each of the group, x in the form `product`, m rows of it.
    pub(crate) fn products(
        &self,
        group: Group,
        product: Product,
        acts: Address,
        m: usize,
        scale: f32,
        add: bool,
    ) -> Result<()> {
        let Some((first, _)) = group.first() else { return Ok(()) };
        let (format, k) = (name_of(first.format()), first.cols());
        let few = match product {
            Product::Ints if m <= FEW_INTS => Some(format!("matvec_i_{format}_{}", m.next_power_of_two())),
            Product::Floats if m <= FEW_FLOATS => Some(format!("matvec_f_{format}")),
            _ => None,
        };
        let behind = [Int(k), Int(m), At(acts), Float(scale), Int(usize::from(add))];
        if let Some(name) = few {
            let lanes = match k {
                768.. => 32,
                384.. => 16,
                _ => 8,
            };
            let rows = 8 * 32 / lanes;
            let mut args = Vec::with_capacity(14);
            for i in 0..3 {
                match group.get(i) {
                    Some((w, y)) => args.extend([At(w.at()), At(*y), Int(w.rows())]),
                    None => args.extend([At(0), At(0), Int(0)]),
                }
            }
            args.extend(behind);
            let blocks = group.iter().map(|(w, _)| w.rows().div_ceil(rows)).sum();
            return self.launch(&name, [blocks, 1, 1], 128, &args);
        }
        for (w, y) in group {
            let [k, m_, acts, scale, add] = behind;
            let args = [At(w.at()), At(*y), Int(w.rows()), k, m_, acts, scale, add];
            let (name, (rows, rows_of_x), threads) = match product {
                Product::Floats => ("matmul_f", (64, 64), 256),
                Product::Ints => ("matmul_i", (128, 64), 128),
                Product::Halves if m <= FEW_HALVES => ("matmul_few", (32, FEW_HALVES), 128),
                Product::Halves => ("matmul_h", (128, 64), 128),
            };
            let grid = [w.rows().div_ceil(rows), m.div_ceil(rows_of_x), 1];
            self.launch(&format!("{name}_{format}"), grid, threads, &args)?;
        }
        Ok(())
    }

    /// Row t of out := scale * row `ids[t]` of w; ids are i32, those below 0 leave the row as it is.
    pub(crate) fn embed(&self, w: &Matrix, ids: Address, m: usize, scale: f32, out: Address) -> Result<()> {
        let args = [
            At(w.at()),
            Int(w.rows()),
            Int(w.cols()),
            At(ids),
            Int(m),
            Float(scale),
            At(out),
        ];
        self.launch(&format!("embed_{}", name_of(w.format())), [m, 1, 1], 128, &args)
    }

    /// RMSNorm of rows of `n`; out may be x.
    pub(crate) fn rms_norm(&self, x: Address, w: Address, eps: f32, out: Address, rows: usize, n: usize) -> Result<()> {
        let threads = if n <= 256 { 32 } else { 256 };
        let args = [At(x), At(w), Float(eps), At(out), Int(n)];
        self.launch("rms_norm", [rows, 1, 1], threads, &args)
    }

    /// [`Gpu::rms_norm`], and [`Gpu::pack_ints`] of what comes out.
    pub(crate) fn norm_pack_ints(
        &self,
        x: Address,
        w: Address,
        eps: f32,
        out: Address,
        (m, n): (usize, usize),
        acts: Address,
    ) -> Result<()> {
        let args = [At(x), At(w), Float(eps), At(out), Int(n), Int(m), At(acts)];
        self.launch("norm_pack_i", [m, 1, 1], 256, &args)
    }

    /// Cosines and sines, `[m][half]` each.
    #[allow(clippy::too_many_arguments)] // the kernel's
    pub(crate) fn rope_table(
        self: &Arc<Self>,
        inv_freq: Address,
        half: usize,
        magnitude: f32,
        pos: usize,
        m: usize,
        cos: Address,
        sin: Address,
    ) -> Result<()> {
        let (at, pos) = self.position(m, pos)?;
        let args = [
            At(inv_freq),
            Int(half),
            Float(magnitude),
            At(at),
            Int(pos),
            Int(m),
            At(cos),
            At(sin),
        ];
        self.launch("rope_table", per_element(m * half), 256, &args)
    }

    /// Rotates `[m][heads][head_dim]`.
    #[allow(clippy::too_many_arguments)] // the kernel's
    pub(crate) fn rope(
        &self,
        x: Address,
        m: usize,
        heads: usize,
        head_dim: usize,
        half: usize,
        interleaved: bool,
        cos: Address,
        sin: Address,
    ) -> Result<()> {
        let args = [
            At(x),
            Int(m),
            Int(heads),
            Int(head_dim),
            Int(half),
            Int(usize::from(interleaved)),
            At(cos),
            At(sin),
        ];
        self.launch("rope", per_element(m * heads * half), 256, &args)
    }

    /// gate := act(gate) * up.
    pub(crate) fn gated(&self, act: Act, gate: Address, up: Address, len: usize) -> Result<()> {
        let name = match act {
            Act::Silu => "gated_silu",
            Act::GeluTanh => "gated_gelu",
        };
        self.launch(name, per_element(len), 256, &[At(gate), At(up), Long(len as i64)])
    }

    /// y += x.
    pub(crate) fn add(&self, y: Address, x: Address, len: usize) -> Result<()> {
        self.launch("add", per_element(len), 256, &[At(y), At(x), Long(len as i64)])
    }

    /// x *= scale.
    pub(crate) fn scale(&self, x: Address, scale: f32, len: usize) -> Result<()> {
        self.launch("scale", per_element(len), 256, &[At(x), Float(scale), Long(len as i64)])
    }

    /// x := cap * tanh(x / cap).
    pub(crate) fn softcap(&self, x: Address, cap: f32, len: usize) -> Result<()> {
        self.launch("softcap", per_element(len), 256, &[At(x), Float(cap), Long(len as i64)])
    }

    /// Each row of y += scale * bias.
    pub(crate) fn add_bias(&self, y: Address, bias: Address, scale: f32, m: usize, n: usize) -> Result<()> {
        let args = [At(y), At(bias), Float(scale), Int(m), Int(n)];
        self.launch("add_bias", per_element(m * n), 256, &args)
    }

    /// y := factors ⊙ (y + bias) + shift; what is 0 is not there.
    pub(crate) fn finish(
        &self,
        y: Address,
        (m, n): (usize, usize),
        bias: Address,
        factors: Address,
        shift: Address,
    ) -> Result<()> {
        let args = [At(y), Int(m), Int(n), At(bias), At(factors), At(shift)];
        self.launch("finish", per_element(m * n), 256, &args)
    }

    /// `y_j := f_j x_j + h_j x_partner(j)`; y is not x.
    pub(crate) fn pairs(
        &self,
        x: Address,
        y: Address,
        (m, n): (usize, usize),
        [f, h, partner]: [Address; 3],
    ) -> Result<()> {
        let args = [At(x), At(y), Int(m), Int(n), At(f), At(h), At(partner)];
        self.launch("pairs", per_element(m * n), 256, &args)
    }

    /// y := x under blocks of `size`, in an order or 0; y is not x.
    pub(crate) fn blocks(
        &self,
        x: Address,
        y: Address,
        (m, n): (usize, usize),
        size: usize,
        blocks: Address,
        order: Address,
    ) -> Result<()> {
        let args = [At(x), At(y), Int(m), Int(n), Int(size), At(blocks), At(order)];
        self.launch("blocks", per_element(m * n), 256, &args)
    }

    /// y += scale * (w1 ⊗ w2) x, from z `[m][i1][o2]`, the products of x with w2; w1 is f32.
    pub(crate) fn kron(
        &self,
        w1: Address,
        z: Address,
        m: usize,
        [o1, i1, o2]: [usize; 3],
        scale: f32,
        y: Address,
    ) -> Result<()> {
        let args = [At(w1), At(z), Int(m), Int(o1), Int(i1), Int(o2), Float(scale), At(y)];
        self.launch("kron", per_element(m * o1 * o2), 256, &args)
    }

    /// Columns `of` (i32) of rows y of `width` := z `[m][n]`.
    pub(crate) fn scatter_columns(
        &self,
        z: Address,
        of: Address,
        m: usize,
        n: usize,
        width: usize,
        y: Address,
    ) -> Result<()> {
        let args = [At(z), At(of), Int(m), Int(n), Int(width), At(y)];
        self.launch("scatter_columns", per_element(m * n), 256, &args)
    }

    /// Rows `x` of `width` to a ring from position `pos` on.
    pub(crate) fn kv_write(
        self: &Arc<Self>,
        x: Address,
        width: usize,
        m: usize,
        pos: usize,
        capacity: usize,
        (kv, precision): (Address, Precision),
    ) -> Result<()> {
        let (at, pos) = self.position(m, pos)?;
        let args = [At(x), Int(width), Int(m), At(at), Int(pos), Int(capacity), At(kv)];
        let name = by_precision("kv_write_h", "kv_write_f", precision);
        self.launch(name, per_element(m * width), 256, &args)
    }

    /// Attention of `m` rows q over rings k and v.
    pub(crate) fn attention(
        self: &Arc<Self>,
        a: &Attention,
        m: usize,
        q: Address,
        [k, v]: [Address; 2],
        precision: Precision,
        out: Address,
    ) -> Result<()> {
        /// From so many rows on the rows of a head share the keys.
        const TILE: usize = 16;
        /// Keys that a part of attention has at least.
        const PART: usize = 256;
        let (at, pos) = self.position(m, a.pos)?;
        let facts = attention_facts(a, m, (at, pos));
        if m >= TILE {
            let mut args = vec![At(q), At(k), At(v), At(out)];
            args.extend(facts);
            let (name, rows, threads) = match (precision, a.head_dim) {
                (Precision::Exact, _) => ("attend_tile_f", TILE, 128),
                (_, 0..=64) => ("attend_mma_64", 64, 128),
                (_, 65..=128) => ("attend_mma_128", 64, 128),
                _ => ("attend_mma_256", 32, 64),
            };
            return self.launch(name, [m.div_ceil(rows), a.heads, 1], threads, &args);
        }
        let seen = a.visible(m.saturating_sub(1)).len();
        let splits = (seen / PART).clamp(1, 64);
        let part = self.temp(m * a.heads * splits * (a.head_dim + 2) * size_of::<f32>())?;
        let mut args = vec![At(q), At(k), At(v), At(part.at())];
        args.extend(facts);
        args.push(Int(splits));
        let name = by_precision("attend_h", "attend_f", precision);
        let group = a.heads / a.kv_heads;
        self.launch(name, [a.kv_heads * group.div_ceil(8), splits, m], 128, &args)?;
        let args = [
            At(part.at()),
            At(out),
            Int(m),
            Int(a.heads),
            Int(a.head_dim),
            Int(splits),
        ];
        self.launch("attend_join", [a.heads, m, 1], 64, &args)
    }

    /// Low-rank updates of m rows x of `k`: for each y, of so many columns, the updates that it has. All of them read x once.
    pub(crate) fn low_rank(
        &self,
        x: Address,
        (m, k): (usize, usize),
        to: &[(Address, usize, Vec<Segment>)],
    ) -> Result<()> {
        let all = || to.iter().flat_map(|(_, _, segments)| segments);
        let most = |f: fn(&Segment) -> usize| all().map(f).max().unwrap_or(0);
        let (rank, rows) = (most(|s| s.rank), most(|s| s.rows.1 - s.rows.0));
        if rows == 0 {
            return Ok(());
        }
        let (bytes, numbers) = segments_table(all());
        let u = self.temp(numbers * size_of::<f32>())?;
        let (table, _borrowed) = self.table(&bytes, m)?;
        let args = [At(table), At(x), Int(k), At(u.at())];
        self.launch(
            "low_rank_shrink",
            [rank.div_ceil(4), all().count(), rows.div_ceil(8)],
            128,
            &args,
        )?;
        self.expand(table, u.at(), m, to)
    }

    /// The second half, for u `[rows][rank]` of each segment: y += out ⊙ (B u).
    pub(crate) fn low_rank_of(&self, u: Address, m: usize, to: &[(Address, usize, Vec<Segment>)]) -> Result<()> {
        let (bytes, _) = segments_table(to.iter().flat_map(|(_, _, segments)| segments));
        let (table, _borrowed) = self.table(&bytes, m)?;
        self.expand(table, u, m, to)
    }

    /// A table in the GPU's memory; borrowed, unless it is for single rows: those come again with every token.
    fn table(&self, bytes: &[u8], m: usize) -> Result<(Address, Option<Temp<'_>>)> {
        let constant = if m == 1 { self.constant(bytes)? } else { None };
        if let Some(at) = constant {
            return Ok((at, None));
        }
        let temp = self.temp_of(bytes)?;
        Ok((temp.at(), Some(temp)))
    }

    fn expand(&self, table: Address, u: Address, m: usize, to: &[(Address, usize, Vec<Segment>)]) -> Result<()> {
        let mut at = table;
        for (y, n, segments) in to {
            if !segments.is_empty() {
                let args = [At(at), Int(segments.len()), At(u), Int(m), Int(*n), At(*y)];
                self.launch("low_rank_expand", [n.div_ceil(128), m.div_ceil(8), 1], 128, &args)?;
            }
            at += (segments.len() * SEGMENT_BYTES) as u64;
        }
        Ok(())
    }
}

const SEGMENT_BYTES: usize = 64;

/// The table of segments as kernels read it, and numbers that lie between their matrices.
pub(crate) fn segments_table<'a>(segments: impl Iterator<Item = &'a Segment>) -> (Vec<u8>, usize) {
    let (mut table, mut at) = (Vec::new(), 0);
    for s in segments {
        s.factors.iter().for_each(|f| table.extend(f.to_le_bytes()));
        let dtype = match s.format {
            BlockFormat::F32 => 0,
            BlockFormat::F16 => 1,
            _ => 2,
        };
        for v in [s.rows.0, s.rows.1, dtype, s.rank] {
            table.extend((v as u32).to_le_bytes());
        }
        table.extend(s.scale.to_le_bytes());
        table.extend((at as u32).to_le_bytes());
        table.extend([0; 8]);
        at += (s.rows.1 - s.rows.0) * s.rank;
    }
    (table, at)
}

fn by_precision(fast: &'static str, exact: &'static str, precision: Precision) -> &'static str {
    match precision {
        Precision::Fast | Precision::Fine => fast,
        Precision::Exact => exact,
    }
}

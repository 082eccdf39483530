//! The way back: kernels' calls, shapes of launches and orders of arguments, as `docs/cuda.md` has them. Rows are f32 unless said otherwise.

use super::driver::Address;
use super::matrix::{Matrix, name_of};
use super::ops::{attention_facts, per_element};
use super::{Arg, Gpu};
use crate::error::Result;
use crate::kernels::Precision;
use crate::kernels::cpu::{Act, Attention};
use crate::model::dropout::Dropout;
use crate::quant::BlockFormat;

use Arg::{At, Float, Int, Long};

/// Bytes of a number.
const SIZE: usize = size_of::<f32>();
/// Bytes of unpacked weights that are there at once: most matrices of a layer whole, and no large part of a GPU's memory.
fn unpacked_at_once(gpu: &Gpu) -> usize {
    (gpu.total / 64).min(64 << 20)
}

/// A product [`Gpu::multiply`]: y (`[rows][n]`) = or += x w for w `[depth][n]`.
#[derive(Clone, Copy)]
pub(crate) struct Multiply {
    /// `[rows][depth]`, or `[depth][rows]` if `turned`.
    pub x: Address,
    /// How x lies.
    pub turned: bool,
    /// Rows of w.
    pub depth: usize,
    /// `[depth][n]`
    pub w: Address,
    /// Columns of w.
    pub n: usize,
    /// `[rows][n]`
    pub y: Address,
    /// Rows of y.
    pub rows: usize,
    /// Whether y is added to.
    pub add: bool,
}

impl Gpu {
    /// A product of f32.
    pub(crate) fn multiply(&self, p: Multiply) -> Result<()> {
        /// Blocks that keep a GPU busy, and the least depth of one.
        const BLOCKS: usize = 256;
        const DEPTH: usize = 256;
        if p.rows == 0 || p.n == 0 {
            return Ok(());
        }
        let (name, rows, columns) = match (p.rows, p.n) {
            (_, ..=32) => ("multiply_128_16", 128, 16),
            (..=32, _) => ("multiply_16_128", 16, 128),
            _ => ("multiply_64_64", 64, 64),
        };
        let (across, down) = (p.n.div_ceil(columns), p.rows.div_ceil(rows));
        // Where y is small the depth is divided, too.
        let parts = (BLOCKS / (across * down)).min(p.depth / DEPTH).max(1);
        let part = match parts {
            1 => None,
            _ => Some(self.temp(parts * p.rows * p.n * SIZE)?),
        };
        let (y, add) = part.as_ref().map_or((p.y, p.add), |part| (part.at(), false));
        let args = [
            At(p.x),
            Int(usize::from(p.turned)),
            At(p.w),
            At(y),
            Int(p.rows),
            Int(p.depth),
            Int(p.n),
            Int(usize::from(add)),
        ];
        self.launch(name, [across, down, parts], rows * columns / 16, &args)?;
        let Some(part) = part else { return Ok(()) };
        let len = p.rows * p.n;
        let args = [
            At(part.at()),
            Int(parts),
            Long(len as i64),
            At(p.y),
            Int(usize::from(p.add)),
        ];
        self.launch("sum_parts", per_element(len), 256, &args)
    }

    /// x `[rows][cols]` turned.
    pub(crate) fn turn(&self, x: Address, rows: usize, cols: usize, out: Address) -> Result<()> {
        let grid = [cols.div_ceil(32), rows.div_ceil(32), 1];
        self.launch("turn", grid, 256, &[At(x), Int(rows), Int(cols), At(out)])
    }

    /// Rows `first..first + count` of a matrix as they are in f32.
    pub(crate) fn unpack(&self, w: &Matrix, first: usize, count: usize, out: Address) -> Result<()> {
        let ids = self.temp_ids((first..first + count).map(|row| row as i32))?;
        self.embed(w, ids.at(), count, 1.0, out)
    }

    /// Rows `of` of x, which has `rows` of `cols`, one after the other.
    pub(crate) fn take_rows(&self, x: Address, (rows, cols): (usize, usize), of: &[usize], out: Address) -> Result<()> {
        let ids = self.temp_ids(of.iter().map(|row| *row as i32))?;
        let args = [
            At(x),
            Int(rows),
            Int(cols),
            At(ids.at()),
            Int(of.len()),
            Float(1.0),
            At(out),
        ];
        self.launch("embed_f32", [of.len(), 1, 1], 128, &args)
    }

    /// Of y = x w^T: dx += dy w for `m` rows. In `Fast` on tensor cores, where the forward product runs on them.
    pub(crate) fn matmul_back(
        &self,
        w: &Matrix,
        dy: Address,
        m: usize,
        dx: Address,
        precision: Precision,
    ) -> Result<()> {
        let halves = precision != Precision::Exact && !matches!(w.format(), BlockFormat::F32 | BlockFormat::BF16);
        if m == 0 {
            return Ok(());
        }
        match halves {
            true => self.matmul_back_halves(w, dy, m, dx),
            false => self.matmul_back_floats(w, dy, m, dx),
        }
    }

    fn matmul_back_floats(&self, w: &Matrix, dy: Address, m: usize, dx: Address) -> Result<()> {
        let (n, k) = (w.rows(), w.cols());
        let whole = |depth, x, w| Multiply {
            x,
            turned: false,
            depth,
            w,
            n: k,
            y: dx,
            rows: m,
            add: true,
        };
        if w.format() == BlockFormat::F32 {
            return self.multiply(whole(n, dy, w.at()));
        }
        // dy's columns of some rows of w lie apart.
        let rows = (unpacked_at_once(self) / (k * SIZE).max(1)).clamp(1, n.max(1));
        let unpacked = self.temp(rows * k * SIZE)?;
        let some = match rows < n {
            true => Some(self.temp(m * rows * SIZE)?),
            false => None,
        };
        for first in (0..n).step_by(rows) {
            let count = rows.min(n - first);
            self.unpack(w, first, count, unpacked.at())?;
            let x = match &some {
                None => dy,
                Some(some) => {
                    let args = [
                        At(dy),
                        Int(n),
                        Int(first),
                        Int(count),
                        Long((m * count) as i64),
                        At(some.at()),
                    ];
                    self.launch("columns", per_element(m * count), 256, &args)?;
                    some.at()
                }
            };
            self.multiply(whole(count, x, unpacked.at()))?;
        }
        Ok(())
    }

    fn matmul_back_halves(&self, w: &Matrix, dy: Address, m: usize, dx: Address) -> Result<()> {
        let (n, k) = (w.rows(), w.cols());
        let acts = self.temp(Gpu::halves_bytes(m, n))?;
        self.pack_halves(dy, m, n, acts.at())?;
        let kp = k.next_multiple_of(64);
        // Whole steps of the product.
        let rows = (unpacked_at_once(self) / (2 * kp).max(1))
            .max(1)
            .next_multiple_of(64)
            .min(n.next_multiple_of(64));
        let unpacked = self.temp(2 * rows * kp)?;
        let name = format!("unpack_h_{}", name_of(w.format()));
        for first in (0..n).step_by(rows) {
            let count = rows.min(n - first);
            let args = [At(w.at()), Int(n), Int(k), Int(first), Int(count), At(unpacked.at())];
            self.launch(&name, per_element(count * kp / 32), 256, &args)?;
            let args = [
                At(unpacked.at()),
                At(dx),
                Int(k),
                Int(n),
                Int(first),
                Int(count),
                Int(m),
                At(acts.at()),
                Int(1),
            ];
            self.launch("multiply_h", [k.div_ceil(128), m.div_ceil(64), 1], 128, &args)?;
        }
        Ok(())
    }

    /// Of [`Gpu::rms_norm`] of `rows` of `n`: dx +=, and dw += if it is not 0.
    #[allow(clippy::too_many_arguments)] // the kernel's
    pub(crate) fn rms_norm_back(
        &self,
        x: Address,
        w: Address,
        eps: f32,
        dy: Address,
        dx: Address,
        (rows, n): (usize, usize),
        dw: Address,
    ) -> Result<()> {
        let factors = match dw {
            0 => None,
            _ => Some(self.temp(rows * SIZE)?),
        };
        let factors = factors.as_ref().map_or(0, |factors| factors.at());
        let threads = if n <= 256 { 32 } else { 256 };
        let args = [At(x), At(w), Float(eps), At(dy), At(dx), Int(n), At(factors)];
        self.launch("rms_norm_back", [rows, 1, 1], threads, &args)?;
        match dw {
            0 => Ok(()),
            _ => self.column_sums([x, dy, factors], (rows, n), dw),
        }
    }

    /// out += the sum over `m` rows of x, times y, times a factor of the row where they are not 0.
    pub(crate) fn column_sums(
        &self,
        [x, y, factors]: [Address; 3],
        (m, n): (usize, usize),
        out: Address,
    ) -> Result<()> {
        let args = [At(x), At(y), At(factors), Int(m), Int(n), At(out)];
        self.launch("column_sums", [n.div_ceil(32), 1, 1], 256, &args)
    }

    /// [`Gpu::rope`] back.
    #[allow(clippy::too_many_arguments)] // the kernel's
    pub(crate) fn rope_back(
        &self,
        dy: Address,
        m: usize,
        heads: usize,
        head_dim: usize,
        half: usize,
        interleaved: bool,
        cos: Address,
        sin: Address,
    ) -> Result<()> {
        let turns = usize::from(interleaved);
        let args = [
            At(dy),
            Int(m),
            Int(heads),
            Int(head_dim),
            Int(half),
            Int(turns),
            At(cos),
            At(sin),
        ];
        self.launch("rope_back", per_element(m * heads * half), 256, &args)
    }

    /// Of h = act(gate) * up from dh: `d_gate` and `d_up`.
    pub(crate) fn gated_back(
        &self,
        act: Act,
        [gate, up, dh]: [Address; 3],
        [d_gate, d_up]: [Address; 2],
        len: usize,
    ) -> Result<()> {
        let name = match act {
            Act::Silu => "gated_back_silu",
            Act::GeluTanh => "gated_back_gelu",
        };
        let args = [At(gate), At(up), At(dh), At(d_gate), At(d_up), Long(len as i64)];
        self.launch(name, per_element(len), 256, &args)
    }

    /// Of [`Gpu::attention`] of `m` rows q over rings that hold all positions from 0 on: dq, dk and dv. In `Fast` on tensor cores, for heads up
    /// to 128.
    #[allow(clippy::too_many_arguments)] // those of the operation and their gradients
    pub(crate) fn attention_back(
        &self,
        a: &Attention,
        m: usize,
        q: Address,
        rings: [Address; 2],
        precision: Precision,
        d_out: Address,
        out: [Address; 3],
    ) -> Result<()> {
        const SIDE: usize = 64;
        const COLUMNS: usize = 128;
        let n = a.pos + m;
        let (len, [dq, dk, dv]) = (n * a.kv_heads * a.head_dim, out);
        if m == 0 {
            self.zero(dk, len * SIZE)?;
            return self.zero(dv, len * SIZE);
        }
        // Three numbers of each row, which the first kernel finds.
        let rows = self.temp(3 * a.heads * m * SIZE)?;
        let args = |read: [Address; 4], between: &[Address]| {
            let mut args: Vec<Arg> = read.into_iter().chain([rows.at()]).map(At).collect();
            args.extend(between.iter().map(|at| At(*at)));
            args.extend(attention_facts(a, m, (0, a.pos)));
            args
        };
        let (row_tiles, key_tiles) = (m.div_ceil(SIDE), n.div_ceil(SIDE));
        if precision != Precision::Exact && a.head_dim <= COLUMNS {
            let of = if a.head_dim <= 64 { 64 } else { 128 };
            let numbers = m * a.heads * a.head_dim;
            let halves = self.temp(4 * numbers)?;
            let (q_at, d_at) = (halves.at(), halves.at() + 2 * numbers as u64);
            let by = self.temp(SIZE)?;
            self.scaled_halves(q, numbers, q_at, None)?;
            self.scaled_halves(d_out, numbers, d_at, Some(by.at()))?;
            let read = [q_at, d_at, rings[0], rings[1]];
            let (grid, by) = ([row_tiles, a.heads, 1], by.at());
            self.launch(&format!("attend_back_rows_{of}"), grid, 128, &args(read, &[]))?;
            self.launch(&format!("attend_back_q_{of}"), grid, 128, &args(read, &[by, dq]))?;
            let grid = [key_tiles, a.kv_heads, 1];
            return self.launch(&format!("attend_back_kv_{of}"), grid, 128, &args(read, &[by, dk, dv]));
        }
        // The kernels read f32.
        let floats = |ring: Address| match precision {
            Precision::Exact => Ok((ring, None)),
            Precision::Fast | Precision::Fine => {
                let temp = self.temp(len * SIZE)?;
                self.floats_of_halves(ring, len, temp.at())?;
                Ok((temp.at(), Some(temp)))
            }
        };
        let ((k, _k), (v, _v)) = (floats(rings[0])?, floats(rings[1])?);
        let (read, pieces) = ([q, d_out, k, v], a.head_dim.div_ceil(COLUMNS));
        self.launch("attend_back_rows", [row_tiles, a.heads, 1], 256, &args(read, &[]))?;
        self.launch("attend_back_q", [row_tiles, a.heads, pieces], 256, &args(read, &[dq]))?;
        let grid = [key_tiles, a.kv_heads, pieces];
        self.launch("attend_back_kv", grid, 256, &args(read, &[dk, dv]))
    }

    /// Numbers as halves; with `by` times a power of two, whose inverse goes there.
    fn scaled_halves(&self, x: Address, len: usize, out: Address, by: Option<Address>) -> Result<()> {
        const PARTS: usize = 256;
        let parts = by.map(|_| self.temp(PARTS * SIZE)).transpose()?;
        let parts = parts.as_ref().map_or(0, |parts| parts.at());
        if parts != 0 {
            self.launch("largest", [PARTS, 1, 1], 256, &[At(x), Long(len as i64), At(parts)])?;
        }
        let args = [At(x), Long(len as i64), At(parts), At(out), At(by.unwrap_or(0))];
        self.launch("scaled_halves", [len.div_ceil(2048), 1, 1], 256, &args)
    }

    /// Numbers of halves.
    pub(crate) fn floats_of_halves(&self, x: Address, len: usize, out: Address) -> Result<()> {
        let args = [At(x), At(out), Long(len as i64)];
        self.launch("floats_of_halves", per_element(len), 256, &args)
    }

    /// Rows of logits, of `vocab`, become their losses' gradients times `scale`; `targets` are i32.
    pub(crate) fn cross_entropy(
        &self,
        logits: Address,
        targets: Address,
        (rows, vocab): (usize, usize),
        softcap: Option<f32>,
        scale: f32,
        losses: Address,
    ) -> Result<()> {
        let args = [
            At(logits),
            At(targets),
            Int(vocab),
            Float(softcap.unwrap_or(0.0)),
            Float(scale),
            At(losses),
        ];
        self.launch("cross_entropy", [rows, 1, 1], 512, &args)
    }

    /// Row `to` of y += row `from` of x for each (from, to), in their order for each row of y.
    pub(crate) fn scatter_rows(&self, x: Address, width: usize, rows: &[(usize, usize)], y: Address) -> Result<()> {
        let mut sorted = rows.to_vec();
        sorted.sort_by_key(|(_, to)| *to);
        let mut groups = Vec::new();
        let mut at = 0;
        for same in sorted.chunk_by(|a, b| a.1 == b.1) {
            groups.extend([same[0].1, at, at + same.len()].map(|v| v as i32));
            at += same.len();
        }
        let count = groups.len() / 3;
        let groups = self.temp_ids(groups)?;
        let from = self.temp_ids(sorted.iter().map(|(from, _)| *from as i32))?;
        let args = [At(x), Int(width), At(groups.at()), At(from.at()), At(y)];
        self.launch("scatter_rows", [count, width.div_ceil(256), 1], 256, &args)
    }

    /// Columns `of` (i32, none twice) of `m` rows y of `width` go to out, and leave zeros.
    pub(crate) fn take_columns(
        &self,
        y: Address,
        width: usize,
        of: Address,
        (m, n): (usize, usize),
        out: Address,
    ) -> Result<()> {
        let args = [At(y), Int(width), At(of), Int(m), Int(n), At(out)];
        self.launch("take_columns", per_element(m * n), 256, &args)
    }

    /// Element j of d += the product of row j of x and row j of y, of `width`.
    pub(crate) fn row_dots(&self, x: Address, y: Address, width: usize, rows: usize, d: Address) -> Result<()> {
        let args = [At(x), At(y), Int(width), Int(rows), At(d)];
        self.launch("row_dots", [rows.div_ceil(8), 1, 1], 256, &args)
    }

    /// The gradient by blocks: see [`Gpu::blocks`].
    pub(crate) fn blocks_back(
        &self,
        x: Address,
        dy: Address,
        (m, n): (usize, usize),
        size: usize,
        order: Address,
        d: Address,
    ) -> Result<()> {
        let args = [At(x), At(dy), Int(m), Int(n), Int(size), At(order), At(d)];
        self.launch("blocks_back", per_element(n * size), 256, &args)
    }

    /// The gradient by w1 of [`Gpu::kron`], from the same z.
    pub(crate) fn kron_back(
        &self,
        dy: Address,
        z: Address,
        m: usize,
        [o1, i1, o2]: [usize; 3],
        scale: f32,
        d: Address,
    ) -> Result<()> {
        let args = [At(dy), At(z), Int(m), Int(o1), Int(i1), Int(o2), Float(scale), At(d)];
        self.launch("kron_back", [i1, o1, 1], 256, &args)
    }

    /// Loses numbers of `m` rows of `cols`.
    pub(crate) fn drop_out(&self, x: Address, m: usize, cols: usize, dropout: &Dropout) -> Result<()> {
        let (key, lost, scale) = dropout.parts();
        let args = [
            At(x),
            Int(m),
            Int(cols),
            Long(key as i64),
            Int(lost as usize),
            Float(scale),
        ];
        self.launch("drop_out", per_element(m * cols.div_ceil(4)), 256, &args)
    }
}

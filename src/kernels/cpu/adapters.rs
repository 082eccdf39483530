//! What adapters do to a site's input and output.

use std::ops::Range;

use super::acts::{f32_tile, interleave};
use super::panels::{self, How, Panels, View};
use super::types::{LowRank, Out, Precision, Weight};
use super::{Acts, Chunks, Cpu, GRAIN, scratch};

/// Bytes of A that are worth a second thread for one tile of tokens: a barrier costs about what reading this much does.
const WORTH_A_THREAD: usize = 256 << 10;

/// The low-rank updates of the matrices that meet the same input.
pub struct Updates<'a> {
    /// Matrices.
    pub parts: usize,
    /// The i-th update of a matrix; `None` behind the last.
    pub list: &'a (dyn Fn(usize, usize) -> Option<LowRank<'a>> + Sync),
}

impl<'a> Updates<'a> {
    /// All of them: the matrix, the ranks of those before, the update.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, usize, LowRank<'a>)> {
        let list = self.list;
        let one = move |part: usize| (0..).map_while(move |i| list(part, i)).map(move |l| (part, l));
        (0..self.parts).flat_map(one).scan(0, |ranks, (part, l)| {
            let at = *ranks;
            *ranks += l.a.rows();
            Some((part, at, l))
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl Cpu {
    /// Makes the f32 form of `x`, whose other forms `acts` has already; nothing if it is there.
    pub fn pack_f32(&self, x: &[f32], acts: &mut Acts) {
        if acts.has.x || x.is_empty() {
            return;
        }
        let (k, tile) = (acts.k, acts.f32_tile());
        assert_eq!(x.len(), acts.m * k, "pack: the rows are others than those packed");
        acts.reserve_f32();
        let tiles = Chunks::new(&mut acts.x, tile * k);
        self.split(acts.m.div_ceil(tile), (GRAIN / (tile * k)).max(1), &|range| {
            for index in range {
                let rows = &x[index * tile * k..x.len().min((index + 1) * tile * k)];
                // SAFETY: `split` gives each tile to one chunk.
                interleave(rows, k, tile, unsafe { tiles.get(index) });
            }
        });
    }

    /// y += the update of x, `[m][k]`.
    pub fn low_rank(&self, l: &LowRank, precision: Precision, x: &[f32], y: &mut [f32]) {
        let (k, rows) = (l.a.cols(), l.b.rows());
        let m = x.len() / k;
        let list = |_: usize, i: usize| (i == 0).then_some(*l);
        let updates = Updates { parts: 1, list: &list };
        self.with_products(&updates, precision, x, k, |u| {
            let y = Out::new(y, rows);
            self.split_rows(&[rows], k, m, &|_, rows| {
                // SAFETY: `split_rows` gives each column of y to one chunk.
                unsafe { self.add_updates(&updates, 0, u, precision, m, y, rows) };
            });
        });
    }

    /// Calls `then` with scale * mid ⊙ (x a^T) of all updates, one behind the other, each in tiles as f32 activations have: element c of row t
    /// of a tile at `c * tile + t`.
    pub(super) fn with_products<R>(
        &self,
        updates: &Updates,
        precision: Precision,
        x: &[f32],
        k: usize,
        then: impl FnOnce(&[f32]) -> R,
    ) -> R {
        let m = x.len() / k;
        let tile = f32_tile(m);
        let tiles = m.div_ceil(tile);
        let (mut n, mut ranks, mut bytes) = (0, 0, 0);
        for (.., l) in updates.iter() {
            assert_eq!(l.a.cols(), k, "low_rank: columns of A and of the input");
            (n, ranks, bytes) = (n + 1, ranks + l.a.rows(), bytes + l.a.bytes());
        }
        scratch::with_f32(tiles * tile * ranks, |room| {
            let len = room.len();
            let out = Out::new(room, len.max(1));
            let one_tile = |index: usize, which: Range<usize>| {
                let rows = &x[index * tile * k..x.len().min((index + 1) * tile * k)];
                let tokens = rows.len() / k;
                let product = |x: &[f32]| {
                    for (_, at, l) in updates.iter().skip(which.start).take(which.len()) {
                        let size = tile * l.a.rows();
                        // SAFETY: each tile of each update belongs to one unit of work.
                        let out = unsafe { out.at(0, at * tiles * tile + index * size, size) };
                        self.product(&l, precision, x, index * tile, tokens, tile, out);
                    }
                };
                match tile {
                    1 => product(rows),
                    _ => scratch::with_f32(tile * k, |x| {
                        interleave(rows, k, tile, x);
                        product(x);
                    }),
                }
            };
            if tiles >= self.threads() && tiles > 3 {
                self.split(tiles, 1, &|range| range.for_each(|index| one_tile(index, 0..n)));
            } else if bytes < WORTH_A_THREAD {
                (0..tiles).for_each(|index| one_tile(index, 0..n));
            } else {
                self.split(n, 1, &|which| {
                    (0..tiles).for_each(|index| one_tile(index, which.clone()))
                });
            }
            then(room)
        })
    }

    /// scale * mid ⊙ (x a^T) of one tile of x, whose first row is `first`.
    #[allow(clippy::too_many_arguments)] // what one tile is
    fn product(
        &self,
        l: &LowRank,
        precision: Precision,
        x: &[f32],
        first: usize,
        tokens: usize,
        tile: usize,
        out: &mut [f32],
    ) {
        let rank = l.a.rows();
        let ((a, scale_a), (_, scale_b)) = (l.a.at(precision, self.isa.halves), l.b.at(precision, self.isa.halves));
        let scale = l.scale * scale_a * scale_b;
        let factor = |c: usize| scale * l.mid.map_or(1.0, |mid| mid[c]);
        if tile == 1 {
            let y = Out::new(out, rank);
            // SAFETY: the level fits the CPU; x is a row of the matrix's columns; the output is ours.
            unsafe { (self.isa.panels)(a, 0..rank.div_ceil(panels::ROWS), x, 1, y, 0, How::Set) };
            let on = if first >= l.from { 1.0 } else { 0.0 };
            out.iter_mut().enumerate().for_each(|(c, v)| *v *= on * factor(c));
            return;
        }
        scratch::with_f32(tile * rank, |rows| {
            let y = Out::new(rows, rank);
            // SAFETY: as above; x is a tile.
            unsafe { (self.isa.panels)(a, 0..rank.div_ceil(panels::ROWS), x, tokens, y, 0, How::Set) };
            for (c, out) in out.chunks_exact_mut(tile).enumerate() {
                let factor = factor(c);
                for (t, v) in out.iter_mut().enumerate() {
                    *v = if t < tokens && first + t >= l.from {
                        factor * rows[t * rank + c]
                    } else {
                        0.0
                    };
                }
            }
        });
    }

    /// Columns `rows` of y += the updates of matrix `part`, whose products with A are in `u`.
    ///
    /// # Safety
    /// Nobody else uses these columns of y; they begin at a multiple of 16.
    #[allow(clippy::too_many_arguments)] // those of a product
    pub(super) unsafe fn add_updates(
        &self,
        updates: &Updates,
        part: usize,
        u: &[f32],
        precision: Precision,
        m: usize,
        y: Out,
        rows: Range<usize>,
    ) {
        let all = m.div_ceil(f32_tile(m)) * f32_tile(m);
        for (_, at, l) in updates.iter().filter(|(of, ..)| *of == part) {
            let (b, _) = l.b.at(precision, self.isa.halves);
            let u = &u[at * all..][..b.cols * all];
            // SAFETY: the caller's promise.
            unsafe { self.add_product(b, u, m, l.out, l.from, y, rows.clone()) };
        }
    }

    /// Columns `rows` of y += out ⊙ (u b^T) in the tiles that have rows from `from` on; `u` is in tiles, of `m` rows.
    ///
    /// # Safety
    /// As [`add_updates`](Self::add_updates).
    #[allow(clippy::too_many_arguments)] // those of a product
    unsafe fn add_product(
        &self,
        b: View,
        u: &[f32],
        m: usize,
        out: Option<&[f32]>,
        from: usize,
        y: Out,
        rows: Range<usize>,
    ) {
        let tile = f32_tile(m);
        let how = out.map_or(How::Add, How::Scaled);
        let which = rows.start / panels::ROWS..rows.end.div_ceil(panels::ROWS);
        for (index, u) in u.chunks_exact(tile * b.cols).enumerate() {
            let (first, tokens) = (index * tile, tile.min(m - index * tile));
            if first + tokens > from {
                // SAFETY: the caller's promise; the level fits the CPU; `u` is a tile of the matrix's columns.
                unsafe { (self.isa.panels)(b, which.clone(), u, tokens, y, first, how) };
            }
        }
    }

    /// y += scale * out ⊙ B (mid ⊙ row `ids[t]` of `table`) for rows t from `from` on.
    #[allow(clippy::too_many_arguments)] // those of the update, with another A
    pub fn gather_low_rank(
        &self,
        table: Weight,
        b: &Panels,
        mid: Option<&[f32]>,
        out: Option<&[f32]>,
        scale: f32,
        from: usize,
        ids: &[u32],
        y: &mut [f32],
    ) {
        let (rank, m) = (table.cols, ids.len());
        let tile = f32_tile(m);
        scratch::with_f32((m + tile) * rank * 2, |room| {
            let (u, tiles) = room.split_at_mut(m * rank);
            self.embed(table, ids, scale, u);
            u[..from.min(m) * rank].fill(0.0);
            for row in u.chunks_exact_mut(rank) {
                row.iter_mut().zip(mid.into_iter().flatten()).for_each(|(v, m)| *v *= m);
            }
            let tiles = &mut tiles[..m.div_ceil(tile) * tile * rank];
            for (rows, out) in u.chunks(tile * rank).zip(tiles.chunks_exact_mut(tile * rank)) {
                interleave(rows, rank, tile, out);
            }
            let y = Out::new(y, b.rows());
            let (view, _) = b.at(Precision::Exact, false);
            self.split_rows(&[b.rows()], rank, m, &|_, rows| {
                // SAFETY: `split_rows` gives each column of y to one chunk.
                unsafe { self.add_product(view, tiles, m, out, from, y, rows) };
            });
        });
    }

    /// `y += scale * x d^T`; x is packed in f32.
    pub fn dense(&self, d: Weight, scale: f32, acts: &Acts, y: &mut [f32]) {
        scratch::with_f32(y.len(), |z| {
            self.matmul_f32(d, acts, z, false);
            self.elements(y, |at, y| {
                for (y, z) in y.iter_mut().zip(&z[at..]) {
                    *y += scale * z;
                }
            });
        });
    }

    /// Each row y += scale * (w1 ⊗ w2) x: with x as X `[i1][i2]` and y as `[o1][o2]`, y += scale * w1 X w2^T.
    pub fn kron(&self, w1: Weight, w2: Weight, scale: f32, x: &[f32], tmp: &mut Acts, y: &mut [f32]) {
        let (o1, i1, o2, i2) = (w1.rows, w1.cols, w2.rows, w2.cols);
        let m = x.len() / (i1 * i2);
        assert_eq!((x.len(), y.len()), (m * i1 * i2, m * o1 * o2), "kron: lengths");
        scratch::with_f32(m * i1 * o2, |z| {
            self.pack(x, i2, &[w2.format], Precision::Exact, tmp);
            self.matmul_f32(w2, tmp, z, false);
            scratch::with_f32(o1 * i1, |factors| {
                w1.format.dequantize(w1.data, factors);
                self.rows(y, o1 * o2, 1, |t, row| {
                    let z = &z[t * i1 * o2..][..i1 * o2];
                    for (y, f) in row.chunks_exact_mut(o2).zip(factors.chunks_exact(i1)) {
                        for (f, z) in f.iter().zip(z.chunks_exact(o2)) {
                            let f = f * scale;
                            y.iter_mut().zip(z).for_each(|(y, z)| *y += f * z);
                        }
                    }
                });
            });
        });
    }

    /// Each row of y += scale * bias.
    pub fn add_bias(&self, y: &mut [f32], bias: &[f32], scale: f32) {
        self.rows(y, bias.len(), 1, |_, row| {
            if scale == 1.0 {
                // SAFETY: the level fits the CPU; equal lengths.
                unsafe { (self.isa.add)(row, bias) }
            } else {
                row.iter_mut().zip(bias).for_each(|(y, b)| *y += scale * b);
            }
        });
    }

    /// Each row of y := factors ⊙ y + shift.
    pub fn affine(&self, y: &mut [f32], factors: &[f32], shift: Option<&[f32]>) {
        assert!(shift.is_none_or(|s| s.len() == factors.len()), "affine: lengths");
        self.rows(y, factors.len(), 1, |_, row| match shift {
            None => row.iter_mut().zip(factors).for_each(|(y, f)| *y *= f),
            Some(shift) => {
                for ((y, f), s) in row.iter_mut().zip(factors).zip(shift) {
                    *y = *y * f + s;
                }
            }
        });
    }

    /// Element j of each row of y := f_j y_j + h_j y_partner(j).
    pub fn pairs(&self, y: &mut [f32], f: &[f32], h: &[f32], partner: &[u32]) {
        let n = f.len();
        assert!(h.len() == n && partner.len() == n, "pairs: lengths");
        self.rows(y, n, 1, |_, row| {
            scratch::with_f32(n, |old| {
                old.copy_from_slice(row);
                for (j, y) in row.iter_mut().enumerate() {
                    *y = f[j] * *y + h[j] * old[partner[j] as usize];
                }
            });
        });
    }

    /// Each row of x, in the order `order`, times the block-diagonal matrix, put back in place: element j of block b of the result is the
    /// sum over i of element i of the block times `blocks[b][i][j]`.
    pub fn blocks(&self, x: &mut [f32], size: usize, blocks: &[f32], order: Option<&[u32]>) {
        let n = blocks.len() / size;
        assert!(order.is_none_or(|o| o.len() == n), "blocks: order");
        self.rows(x, n, 1, |_, row| {
            scratch::with_f32(2 * n, |room| {
                let (old, new) = room.split_at_mut(n);
                match order {
                    None => old.copy_from_slice(row),
                    Some(order) => old.iter_mut().zip(order).for_each(|(v, at)| *v = row[*at as usize]),
                }
                new.fill(0.0);
                for ((new, old), block) in new
                    .chunks_exact_mut(size)
                    .zip(old.chunks_exact(size))
                    .zip(blocks.chunks_exact(size * size))
                {
                    for (f, row) in old.iter().zip(block.chunks_exact(size)) {
                        new.iter_mut().zip(row).for_each(|(n, r)| *n += f * r);
                    }
                }
                match order {
                    None => row.copy_from_slice(new),
                    Some(order) => new.iter().zip(order).for_each(|(v, at)| row[*at as usize] = *v),
                }
            });
        });
    }

    /// Columns `of` of each row of y := x w^T; x is packed in f32.
    pub fn replace_products(&self, w: Weight, of: &[u32], acts: &Acts, y: &mut [f32]) {
        let (m, n) = (acts.m, of.len());
        if m == 0 {
            return;
        }
        scratch::with_f32(m * n, |z| {
            self.matmul_f32(w, acts, z, false);
            let width = y.len() / m;
            for (row, z) in y.chunks_exact_mut(width).zip(z.chunks_exact(n)) {
                of.iter().zip(z).for_each(|(id, z)| row[*id as usize] = *z);
            }
        });
    }
}

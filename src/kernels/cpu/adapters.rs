//! What adapters do to a site's input and output.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::acts::{BLOCK, Has, f32_tile, interleave};
use super::panels::{How, Panels, ROWS, Records};
use super::types::{LowRank, Out, Precision, Weight};
use super::{Acts, Chunks, Cpu, GRAIN, Readers, scratch};

/// The low-rank updates of the matrices that meet the same input.
pub trait Updates: Sync {
    /// The i-th update of a matrix; `None` behind the last.
    fn get(&self, part: usize, i: usize) -> Option<LowRank<'_>>;

    /// The A of those that will be needed next; `None` behind the last.
    fn next(&self, i: usize) -> Option<&Panels>;
}

/// None.
impl Updates for () {
    fn get(&self, _: usize, _: usize) -> Option<LowRank<'_>> {
        None
    }

    fn next(&self, _: usize) -> Option<&Panels> {
        None
    }
}

/// One, of one matrix.
impl Updates for LowRank<'_> {
    fn get(&self, _: usize, i: usize) -> Option<LowRank<'_>> {
        (i == 0).then_some(*self)
    }

    fn next(&self, _: usize) -> Option<&Panels> {
        None
    }
}

/// The updates of a matrix, and the column from which on each has its products with A, `at` for the first.
fn of_part<U: Updates>(updates: &U, part: usize, mut at: usize) -> impl Iterator<Item = (usize, LowRank<'_>)> {
    (0..).map_while(move |i| {
        let l = updates.get(part, i)?;
        let start = at;
        at += l.a.rows().next_multiple_of(BLOCK);
        Some((start, l))
    })
}

/// The column from which on each of N matrices has its products with A, and behind them how many there are.
pub(super) fn starts<U: Updates, const N: usize>(updates: &U) -> ([usize; N], usize) {
    let (mut starts, mut at) = ([0; N], 0);
    for (part, start) in starts.iter_mut().enumerate() {
        *start = at;
        at += of_part(updates, part, 0)
            .map(|(_, l)| l.a.rows().next_multiple_of(BLOCK))
            .sum::<usize>();
    }
    (starts, at)
}

/// What finishes the columns of a product: y := factors ⊙ (y + bias) + shift.
#[derive(Clone, Copy, Default)]
pub struct Finish<'a> {
    /// One for each column.
    pub bias: Option<&'a [f32]>,
    /// One for each column.
    pub factors: Option<&'a [f32]>,
    /// One for each column; only with factors.
    pub shift: Option<&'a [f32]>,
}

/// How much of what comes next has been asked for.
pub(super) struct Fetched {
    /// Who will read it.
    caller: usize,
    /// For how many of the rows under way.
    rows: AtomicUsize,
}

impl Default for Fetched {
    fn default() -> Self {
        Fetched {
            caller: thread_mark(),
            rows: AtomicUsize::new(0),
        }
    }
}

/// A number that no other living thread has; an id of the standard library would cost more than the look at it is worth.
fn thread_mark() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.with(|mark| std::ptr::from_ref(mark) as usize)
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
        scratch::with_acts(|acts| {
            self.pack(x, k, Readers::updates(precision), acts);
            let (starts, width) = starts::<_, 1>(l);
            if acts.m == 0 || width == 0 {
                return;
            }
            scratch::with_acts(|u| {
                self.products(l, starts, width, acts, u);
                let y = Out::new(y, rows);
                self.split_rows(&[rows], u.k, u.m, &|_, rows| {
                    // SAFETY: `split_rows` gives each column of y to one chunk.
                    unsafe { self.add_updates(l, 0, 0, u, y, rows) };
                });
            });
        });
    }

    /// scale * mid ⊙ (x a^T) of all updates, beside each other, packed for their B.
    pub(super) fn products<U: Updates, const N: usize>(
        &self,
        updates: &U,
        starts: [usize; N],
        width: usize,
        acts: &Acts,
        u: &mut Acts,
    ) {
        scratch::with_f32(acts.m * width, |room| {
            let room = Out::new(room, width);
            let forms = Has {
                i8: acts.has.i8,
                x: !acts.has.i8,
                i16: false,
                words: false,
                // An outlier of these counts for as much in y as it stands out: what it takes from the others is not missed.
                whole: true,
            };
            self.pack_rows(acts.m, width, forms, acts.k + width, u, &|rows, pack| {
                for (part, start) in starts.into_iter().enumerate() {
                    for (at, l) in of_part(updates, part, start) {
                        // SAFETY: `pack_rows` asks for each row once.
                        unsafe { self.product(&l, acts, rows.clone(), room, at) };
                    }
                }
                // SAFETY: as above.
                pack(unsafe { room.rows(rows) });
            });
        });
    }

    /// Columns from `at` on of rows `rows`, whole tiles, of u: scale * mid ⊙ (x a^T), and zeros up to the next block.
    ///
    /// # Safety
    /// Nobody else uses these rows of u.
    unsafe fn product(&self, l: &LowRank, acts: &Acts, rows: Range<usize>, u: Out, at: usize) {
        let rank = l.a.rows();
        // SAFETY: the level fits the CPU; this part of u is ours.
        unsafe {
            if acts.has.i8 {
                let tile = acts.tile();
                let x = Records {
                    acts,
                    group: 0,
                    tiles: rows.start / tile..rows.end.div_ceil(tile),
                };
                (self.isa.codes)(l.a.codes(), 0..rank.div_ceil(ROWS), x, u, at, How::Set);
            } else {
                let tile = acts.f32_tile();
                let tiles = rows.start / tile..rows.end.div_ceil(tile);
                self.exact_product(l.a, 0..rank, tiles, |i| acts.f32_tile_at(i), u, at, How::Set);
            }
        }
        for t in rows {
            // SAFETY: as above.
            let u = unsafe { u.at(t, at, rank.next_multiple_of(BLOCK)) };
            u[rank..].fill(0.0);
            match l.mid {
                _ if t < l.from => u.fill(0.0),
                None => u.iter_mut().for_each(|u| *u *= l.scale),
                Some(mid) => u.iter_mut().zip(mid).for_each(|(u, mid)| *u *= l.scale * mid),
            }
        }
    }

    /// Rows `rows` of a matrix, which begin at a multiple of 16, in all its digits, times tiles of f32 activations: to or onto the columns of
    /// y that begin with `column` for row 0.
    ///
    /// # Safety
    /// Nobody else uses these columns of y in the tiles' rows.
    #[allow(clippy::too_many_arguments)] // those of a product
    unsafe fn exact_product<'x>(
        &self,
        w: &Panels,
        rows: Range<usize>,
        tiles: Range<usize>,
        x: impl Fn(usize) -> &'x [f32],
        y: Out,
        column: usize,
        how: How,
    ) {
        let tile = f32_tile(y.m());
        scratch::with_f32(ROWS * w.cols(), |panel| {
            for row in rows.clone().step_by(ROWS) {
                w.expand(row / ROWS, panel);
                for index in tiles.clone() {
                    let (first, n) = (index * tile, ROWS.min(rows.end - row));
                    let tokens = tile.min(y.m() - first);
                    // SAFETY: the caller's promise; the level fits the CPU.
                    unsafe { (self.isa.panel)(panel, n, x(index), tokens, y, (first, column + row), how.from(row)) };
                }
            }
        });
    }

    /// Asks for what a few tokens will wait for, while memory is busy with the weights: B of rows `rows` of matrix `part`, which its update
    /// needs when the product is there, and a share of the next A. Adapters are small, so that they come from memory in many short streams,
    /// each of which begins with a wait: on SmolLM2 with all linear layers adapted those were three quarters of an adapter's cost.
    pub(super) fn fetch(&self, updates: &impl Updates, part: usize, rows: Range<usize>, all: usize, fetched: &Fetched) {
        for (_, l) in of_part(updates, part, 0) {
            (self.isa.fetch)(l.b.codes().panels(rows.start / ROWS..rows.end.div_ceil(ROWS)), true);
        }
        // Into the cache of the thread that will read it: it does its share of the rows.
        if fetched.caller == thread_mark() {
            // Nobody else writes it, so that no locked instruction is needed, which would wait for memory.
            let from = fetched.rows.load(Ordering::Relaxed);
            let to = (from + rows.len() * self.threads()).min(all);
            fetched.rows.store(to, Ordering::Relaxed);
            for a in (0..).map_while(|i| updates.next(i)) {
                let data = a.codes().data;
                (self.isa.fetch)(&data[data.len() * from / all..data.len() * to / all], false);
            }
        }
    }

    /// Columns `rows` of y += the updates of matrix `part`, whose products with A are the columns of `u` from `start` on.
    ///
    /// # Safety
    /// Nobody else uses these columns of y; they begin at a multiple of 16.
    pub(super) unsafe fn add_updates(
        &self,
        updates: &impl Updates,
        part: usize,
        start: usize,
        u: &Acts,
        y: Out,
        rows: Range<usize>,
    ) {
        for (at, l) in of_part(updates, part, start) {
            assert_eq!(l.b.rows(), y.n(), "low_rank: rows of B and of the weight");
            // SAFETY: the caller's promise.
            unsafe { self.add_product(l.b, u, at, l.out, y, rows.clone()) };
        }
    }

    /// Finishes columns `rows` of the m rows of y.
    ///
    /// # Safety
    /// Nobody else uses these columns of y.
    pub(super) unsafe fn finish(&self, f: Finish, m: usize, y: Out, rows: Range<usize>) {
        let [bias, factors, shift] = [f.bias, f.factors, f.shift].map(|all| all.map(|all| &all[rows.clone()]));
        if bias.is_none() && factors.is_none() {
            return;
        }
        for t in 0..m {
            // SAFETY: the caller's promise.
            let y = unsafe { y.at(t, rows.start, rows.len()) };
            if let Some(bias) = bias {
                // SAFETY: the level fits the CPU; equal lengths.
                unsafe { (self.isa.add)(y, bias) };
            }
            if let Some(factors) = factors {
                scale(y, factors, shift);
            }
        }
    }

    /// Columns `rows` of y += out ⊙ (u b^T), of the columns of u from `at` on.
    ///
    /// # Safety
    /// As [`add_updates`](Self::add_updates).
    unsafe fn add_product(&self, b: &Panels, u: &Acts, at: usize, out: Option<&[f32]>, y: Out, rows: Range<usize>) {
        let how = out.map_or(How::Add, How::Scaled);
        // SAFETY: the caller's promise; the level fits the CPU.
        unsafe {
            if u.has.i8 {
                let x = Records {
                    acts: u,
                    group: at / BLOCK,
                    tiles: 0..u.m.div_ceil(u.tile()),
                };
                let panels = rows.start / ROWS..rows.end.div_ceil(ROWS);
                (self.isa.codes)(b.codes(), panels, x, y, 0, how);
            } else {
                let tile = u.f32_tile();
                let x = |i: usize| &u.f32_tile_at(i)[at * tile..][..b.cols() * tile];
                self.exact_product(b, rows, 0..u.m.div_ceil(tile), x, y, 0, how);
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
        scratch::with_f32(m * rank, |u| {
            self.embed(table, ids, scale, u);
            u[..from.min(m) * rank].fill(0.0);
            for row in u.chunks_exact_mut(rank) {
                row.iter_mut().zip(mid.into_iter().flatten()).for_each(|(v, m)| *v *= m);
            }
            scratch::with_acts(|acts| {
                self.pack(u, rank, Readers::updates(Precision::Exact), acts);
                let y = Out::new(y, b.rows());
                self.split_rows(&[b.rows()], rank, m, &|_, rows| {
                    // SAFETY: `split_rows` gives each column of y to one chunk.
                    unsafe { self.add_product(b, acts, 0, out, y, rows) };
                });
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
            self.pack(x, i2, Readers::weights(&[w2.format], Precision::Exact), tmp);
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
        self.rows(y, factors.len(), 1, |_, row| scale(row, factors, shift));
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

/// y := factors ⊙ y + shift.
pub(super) fn scale(y: &mut [f32], factors: &[f32], shift: Option<&[f32]>) {
    y.iter_mut().zip(factors).for_each(|(y, f)| *y *= f);
    y.iter_mut().zip(shift.into_iter().flatten()).for_each(|(y, s)| *y += s);
}

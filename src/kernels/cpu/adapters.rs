//! What adapters do to a site's input and output.

use super::acts::interleave;
use super::types::{LowRank, Precision, Weight};
use super::{Acts, Chunks, Cpu, GRAIN, scratch};
use crate::quant::BlockFormat;

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

    /// `y[m][n] += scale * out ⊙ ((mid ⊙ (x a^T)) b^T)` in rows from `from` on; x `[m][k]` is packed in f32. `tmp` is room for x a^T.
    pub fn low_rank(&self, l: &LowRank, scale: f32, from: usize, acts: &Acts, tmp: &mut Acts, y: &mut [f32]) {
        let rank = l.a.rows;
        if rank == 0 || from >= acts.m {
            return;
        }
        scratch::with_f32(acts.m * rank, |u| {
            self.matmul_f32(l.a, acts, u, false);
            self.expand(l, scale, from, u, tmp, y);
        });
    }

    /// As [`low_rank`](Self::low_rank), where the input is one-hot: row `ids[t]` of `a` is x a^T.
    pub fn gather_low_rank(&self, l: &LowRank, scale: f32, from: usize, ids: &[u32], tmp: &mut Acts, y: &mut [f32]) {
        let rank = l.a.cols;
        if rank == 0 || from >= ids.len() {
            return;
        }
        scratch::with_f32(ids.len() * rank, |u| {
            self.embed(l.a, ids, 1.0, u);
            self.expand(l, scale, from, u, tmp, y);
        });
    }

    /// `y += scale * out ⊙ ((mid ⊙ u) b^T)`; rows of `u` before `from` count as zero.
    fn expand(&self, l: &LowRank, scale: f32, from: usize, u: &mut [f32], tmp: &mut Acts, y: &mut [f32]) {
        let (rank, n) = (l.b.cols, l.b.rows);
        u[..from * rank].fill(0.0);
        match l.mid {
            None => u.iter_mut().for_each(|v| *v *= scale),
            Some(mid) => {
                for row in u.chunks_exact_mut(rank) {
                    row.iter_mut().zip(mid).for_each(|(v, m)| *v *= scale * m);
                }
            }
        }
        self.pack(u, rank, &[BlockFormat::F32], Precision::Exact, tmp);
        match l.out {
            None => self.matmul_f32(l.b, tmp, y, true),
            Some(out) => scratch::with_f32(y.len(), |z| {
                self.matmul_f32(l.b, tmp, z, false);
                self.rows(y, n, 1, |t, row| {
                    for ((y, z), out) in row.iter_mut().zip(&z[t * n..]).zip(out) {
                        *y += z * out;
                    }
                });
            }),
        }
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

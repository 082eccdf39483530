//! The way back through what adapters do to a site's input and output, beside plain products: see [`super::adapters`].

use super::backward::{Strided, lanes};
use super::panels::ROWS as PANEL_ROWS;
use super::types::Out;
use super::{Cpu, Panels, scratch};

impl Cpu {
    /// All digits of a packed matrix, or of it turned, row by row.
    ///
    /// # Panics
    /// If `out` has another length.
    pub fn panel_numbers(&self, p: &Panels, turned: bool, out: &mut [f32]) {
        let (rows, cols) = (p.rows(), p.cols());
        assert_eq!(out.len(), rows * cols, "panel_numbers: length");
        if out.is_empty() {
            return;
        }
        let out = Out::new(out, if turned { rows } else { cols });
        self.split(rows.div_ceil(PANEL_ROWS), 1, &|panels| {
            scratch::with_f32(cols * PANEL_ROWS, |panel| {
                for index in panels {
                    p.expand(index, panel);
                    let (first, n) = (index * PANEL_ROWS, PANEL_ROWS.min(rows - index * PANEL_ROWS));
                    if turned {
                        for (c, column) in panel.chunks_exact(PANEL_ROWS).enumerate() {
                            // SAFETY: these rows belong to this piece.
                            unsafe { out.at(c, first, n) }.copy_from_slice(&column[..n]);
                        }
                        continue;
                    }
                    for r in 0..n {
                        // SAFETY: as above.
                        let row = unsafe { out.at(first + r, 0, cols) };
                        row.iter_mut()
                            .zip(panel.chunks_exact(PANEL_ROWS))
                            .for_each(|(out, column)| *out = column[r]);
                    }
                }
            });
        });
    }

    /// Of [`blocks`](Self::blocks), which made rows y of rows x: dy becomes dx, and `d_blocks` += by the blocks.
    ///
    /// # Panics
    /// If lengths do not belong together, or `order` leads outside of a row.
    pub fn blocks_back(
        &self,
        x: &[f32],
        size: usize,
        blocks: &[f32],
        order: Option<&[u32]>,
        dy: &mut [f32],
        d_blocks: &mut [f32],
    ) {
        assert!(
            size > 0 && !blocks.is_empty() && blocks.len().is_multiple_of(size * size),
            "blocks_back: blocks"
        );
        let n = blocks.len() / size;
        assert!(
            x.len() == dy.len() && x.len().is_multiple_of(n) && d_blocks.len() == blocks.len(),
            "blocks_back: lengths"
        );
        assert!(order.is_none_or(|o| o.len() == n), "blocks_back: order");
        let place = |p: usize| order.map_or(p, |order| order[p] as usize);
        let gradient: &[f32] = dy;
        self.rows(d_blocks, size * size, (x.len() / n).max(1), |block, d| {
            scratch::with_f32(size, |g| {
                for (x, dy) in x.chunks_exact(n).zip(gradient.chunks_exact(n)) {
                    for (j, g) in g.iter_mut().enumerate() {
                        *g = dy[place(block * size + j)];
                    }
                    for (i, d) in d.chunks_exact_mut(size).enumerate() {
                        let f = x[place(block * size + i)];
                        d.iter_mut().zip(&*g).for_each(|(d, g)| *d += f * g);
                    }
                }
            });
        });
        self.rows(dy, n, size, |_, row| {
            scratch::with_f32(n, |g| {
                g.iter_mut().enumerate().for_each(|(p, g)| *g = row[place(p)]);
                for (b, (g, block)) in g.chunks_exact(size).zip(blocks.chunks_exact(size * size)).enumerate() {
                    for (i, r) in block.chunks_exact(size).enumerate() {
                        row[place(b * size + i)] = lanes(r, g);
                    }
                }
            });
        });
    }

    /// Of [`pairs`](Self::pairs), which made other rows of rows y: dy becomes the gradient by those before, and `d_f`, `d_h` += by the
    /// factors.
    ///
    /// # Panics
    /// If lengths do not belong together, or `partner` leads outside of a row.
    #[allow(clippy::too_many_arguments)] // those of the operation and their gradients
    pub fn pairs_back(
        &self,
        y: &[f32],
        f: &[f32],
        h: &[f32],
        partner: &[u32],
        dy: &mut [f32],
        d_f: &mut [f32],
        d_h: &mut [f32],
    ) {
        let n = f.len();
        assert!(
            n > 0 && [h.len(), partner.len(), d_f.len(), d_h.len()] == [n; 4],
            "pairs_back: factors"
        );
        assert!(y.len() == dy.len() && y.len().is_multiple_of(n), "pairs_back: lengths");
        for (y, dy) in y.chunks_exact(n).zip(dy.chunks_exact(n)) {
            for (j, dy) in dy.iter().enumerate() {
                d_f[j] += dy * y[j];
                d_h[j] += dy * y[partner[j] as usize];
            }
        }
        self.rows(dy, n, 2, |_, row| {
            scratch::with_f32(n, |g| {
                g.copy_from_slice(row);
                row.iter_mut().zip(f).for_each(|(d, f)| *d *= f);
                for (j, g) in g.iter().enumerate() {
                    row[partner[j] as usize] += h[j] * g;
                }
            });
        });
    }

    /// Of [`kron`](Self::kron) with w1 `[o1][i1]` and w2 `[o2][i2]`: dx, `d_w1` and `d_w2` +=. With a row x as X `[i1][i2]` and its dy as G
    /// `[o1][o2]` they are scale times w1^T G w2, G w2 X^T and G^T w1 X.
    ///
    /// # Panics
    /// If lengths do not belong together.
    #[allow(clippy::too_many_arguments)] // those of the operation and their gradients
    pub fn kron_back(
        &self,
        (w1, i1): (&[f32], usize),
        (w2, i2): (&[f32], usize),
        scale: f32,
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        d_w1: &mut [f32],
        d_w2: &mut [f32],
    ) {
        assert!(
            i1 > 0 && i2 > 0 && w1.len().is_multiple_of(i1) && w2.len().is_multiple_of(i2),
            "kron_back: factors"
        );
        let (o1, o2, m) = (w1.len() / i1, w2.len() / i2, x.len() / (i1 * i2));
        assert!(
            o1 > 0 && o2 > 0 && d_w1.len() == w1.len() && d_w2.len() == w2.len(),
            "kron_back: factors"
        );
        assert!(
            x.len() == m * i1 * i2 && dx.len() == x.len() && dy.len() == m * o1 * o2,
            "kron_back: lengths"
        );
        if m == 0 {
            return;
        }
        let turned: Vec<f32> = (0..w2.len()).map(|p| w2[(p % o2) * i2 + p / o2]).collect();
        scratch::with_f32(m * i1 * o2, |z| {
            // X w2^T of each row.
            self.multiply(Strided::rows(x, i2), i2, &turned, o2, z, false);
            self.rows(d_w1, i1, m * o2, |a, d| {
                for t in 0..m {
                    let g = &dy[(t * o1 + a) * o2..][..o2];
                    for (d, z) in d.iter_mut().zip(z[t * i1 * o2..].chunks_exact(o2)) {
                        *d += scale * lanes(g, z);
                    }
                }
            });
            // Then in its place what comes back to it: scale w1^T G.
            self.rows(z, i1 * o2, o1, |t, z| {
                z.fill(0.0);
                for (g, w) in dy[t * o1 * o2..].chunks_exact(o2).zip(w1.chunks_exact(i1)) {
                    for (z, w) in z.chunks_exact_mut(o2).zip(w) {
                        let w = w * scale;
                        z.iter_mut().zip(g).for_each(|(z, g)| *z += w * g);
                    }
                }
            });
            self.multiply(Strided::turned(z, o2), m * i1, x, i2, d_w2, true);
            self.multiply(Strided::rows(z, o2), o2, w2, i2, dx, true);
        });
    }
}

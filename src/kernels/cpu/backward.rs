//! The way back through the operations of the forward pass: gradients of what goes in from gradients of what comes out.
//!
//! Names: `dy` is the gradient of the loss by y. All in f32; each element of a result is summed by one thread in an order that depends on
//! shapes alone.

use super::isa::Product;
use super::types::{Act, Out, Weight};
use super::{Cpu, GRAIN, scratch};

/// Numbers of a matrix in any order: element c of row t at `t * row + c * col`.
#[derive(Clone, Copy)]
pub struct Strided<'a> {
    /// The numbers.
    pub x: &'a [f32],
    /// From a row to the next.
    pub row: usize,
    /// From a column to the next.
    pub col: usize,
}

impl<'a> Strided<'a> {
    /// Rows of `cols` as they lie.
    pub fn rows(x: &'a [f32], cols: usize) -> Self {
        Strided { x, row: cols, col: 1 }
    }

    /// The same matrix turned: its columns as rows.
    pub fn turned(x: &'a [f32], cols: usize) -> Self {
        Strided { x, row: 1, col: cols }
    }

    /// From column `first` on.
    fn columns_from(self, first: usize) -> Self {
        Strided {
            x: &self.x[(first * self.col).min(self.x.len())..],
            ..self
        }
    }

    /// From row `first` on.
    fn rows_from(self, first: usize) -> Self {
        Strided {
            x: &self.x[(first * self.row).min(self.x.len())..],
            ..self
        }
    }
}

/// Columns of y that are made together.
const COLUMNS: usize = 64;
/// Numbers of a piece of the right factor: half of a second-level cache at most.
const PIECE: usize = 1 << 14;
/// Rows of y that share a piece; the fewest that are worth making it for.
const FEWEST_ROWS: usize = 96;

impl Cpu {
    /// y (`[rows][n]`) = or += x w for w `[depth][n]`, as it lies.
    ///
    /// # Panics
    /// If lengths do not belong together.
    pub fn multiply(&self, x: Strided, depth: usize, w: &[f32], n: usize, y: &mut [f32], add: bool) {
        assert!(
            n > 0 && w.len() == depth * n && y.len().is_multiple_of(n),
            "multiply: lengths"
        );
        let (rows, y) = (y.len() / n, Out::new(y, n));
        /// Rows of a job: whole tiles of all levels.
        const ROWS: usize = 48;
        let (across, down) = (n.div_ceil(COLUMNS), rows.div_ceil(ROWS));
        // About a microsecond of work.
        let grain = ((1 << 16) / (ROWS * COLUMNS * depth.max(1))).max(1);
        self.split(across * down, grain, &|jobs| {
            for job in jobs {
                let (row, column) = (job / across * ROWS, job % across * COLUMNS);
                let step = (PIECE / COLUMNS).max(1);
                for c in (0..depth.max(1)).step_by(step) {
                    let p = Product {
                        x: x.rows_from(row).columns_from(c).x,
                        x_row: x.row,
                        x_col: x.col,
                        w: &w[(c * n + column).min(w.len())..],
                        pitch: n,
                        depth: step.min(depth - c),
                        rows: ROWS.min(rows - row),
                        columns: COLUMNS.min(n - column),
                        y,
                        at: (row, column),
                        add: add || c > 0,
                    };
                    // SAFETY: each part of y belongs to one job.
                    unsafe { self.matrix_product(p) };
                }
            }
        });
    }

    /// Runs `p`. A left factor that lies column by column goes through a copy of some rows: its own lines, often a multiple of 4096 bytes
    /// apart, would throw each other out of the first-level cache before the next tile of rows reads them.
    ///
    /// # Safety
    /// Nobody else uses this part of y.
    unsafe fn matrix_product(&self, p: Product) {
        const ROWS: usize = 48;
        const DEPTH: usize = 128;
        if p.x_row != 1 || p.x_col < ROWS {
            // SAFETY: the level fits the CPU; the caller's promise.
            return unsafe { (self.isa.product)(p) };
        }
        p.check();
        let mut copy = [0.0; ROWS * DEPTH];
        for row in (0..p.rows).step_by(ROWS) {
            let rows = ROWS.min(p.rows - row);
            for c in (0..p.depth.max(1)).step_by(DEPTH) {
                let depth = DEPTH.min(p.depth - c);
                for (i, copy) in copy.chunks_exact_mut(ROWS).enumerate().take(depth) {
                    copy[..rows].copy_from_slice(&p.x[(c + i) * p.x_col + row..][..rows]);
                }
                let p = Product {
                    x: &copy,
                    x_col: ROWS,
                    w: &p.w[(c * p.pitch).min(p.w.len())..],
                    depth,
                    rows,
                    at: (p.at.0 + row, p.at.1),
                    add: p.add || c > 0,
                    ..p
                };
                // SAFETY: as above.
                unsafe { (self.isa.product)(p) };
            }
        }
    }

    /// Of y = x w^T: dx (`[m][w.cols]`) += dy w, w unpacked piece by piece.
    ///
    /// # Panics
    /// If lengths do not belong together.
    pub fn matmul_back(&self, w: Weight, dy: &[f32], dx: &mut [f32]) {
        w.check();
        let (n, k) = (w.rows, w.cols);
        assert!(
            n > 0 && k > 0 && dy.len().is_multiple_of(n) && dx.len() == dy.len() / n * k,
            "matmul_back: lengths"
        );
        let m = dy.len() / n;
        let dx = Out::new(dx, k);
        // Whole blocks, half a cache line of weights or more at once; as many rows as fill a piece.
        let block = w.format.info().block_len;
        let wide = block.max(32).next_multiple_of(block).min(k);
        let deep = (PIECE / wide).max(1);
        let across = k.div_ceil(wide);
        // Tokens are divided where columns alone are too few for the threads.
        let down = (4 * self.threads())
            .div_ceil(across)
            .clamp(1, m.div_ceil(FEWEST_ROWS).max(1));
        let tall = m.div_ceil(down).next_multiple_of(12);
        let row_bytes = |columns: usize| w.format.bytes_for(columns).unwrap_or(0);
        self.split(across * down, 1, &|jobs| {
            scratch::with_f32(deep * wide, |piece| {
                for job in jobs {
                    let (first, column) = (job / across * tall, job % across * wide);
                    let (rows, columns) = (tall.min(m.saturating_sub(first)), wide.min(k - column));
                    if rows == 0 {
                        continue;
                    }
                    for from in (0..n).step_by(deep) {
                        let depth = deep.min(n - from);
                        for (r, out) in piece.chunks_exact_mut(columns).take(depth).enumerate() {
                            let blocks = &w.row(from + r)[row_bytes(column)..][..row_bytes(columns)];
                            w.format.dequantize(blocks, out);
                        }
                        let p = Product {
                            x: &dy[first * n + from..],
                            x_row: n,
                            x_col: 1,
                            w: piece,
                            pitch: columns,
                            depth,
                            rows,
                            columns,
                            y: dx,
                            at: (first, column),
                            add: true,
                        };
                        // SAFETY: the level fits the CPU; each part of dx belongs to one job.
                        unsafe { (self.isa.product)(p) };
                    }
                }
            });
        });
    }

    /// Of y = x r w with r = 1 / sqrt(mean(x²) + eps), for each row of `w.len()`: dx += r (w dy) - x r³ mean(x w dy), and, if it is asked
    /// for, dw += the sum over rows of x r dy.
    ///
    /// # Panics
    /// If lengths do not belong together.
    pub fn rms_norm_back(&self, x: &[f32], w: &[f32], eps: f32, dy: &[f32], dx: &mut [f32], dw: Option<&mut [f32]>) {
        let k = w.len();
        assert!(
            k > 0 && x.len().is_multiple_of(k) && dy.len() == x.len() && dx.len() == x.len(),
            "rms_norm_back: lengths"
        );
        let scale = |x: &[f32]| 1.0 / (lanes(x, x) / k as f32 + eps).sqrt();
        self.rows(dx, k, 1, |t, dx| {
            let (x, dy) = (&x[t * k..][..k], &dy[t * k..][..k]);
            let r = scale(x);
            scratch::with_f32(k, |g| {
                for ((g, w), dy) in g.iter_mut().zip(w).zip(dy) {
                    *g = w * dy;
                }
                let along = lanes(x, g) / k as f32 * r * r * r;
                for ((dx, g), x) in dx.iter_mut().zip(g).zip(x) {
                    *dx += r * *g - x * along;
                }
            });
        });
        if let Some(dw) = dw {
            assert_eq!(dw.len(), k, "rms_norm_back: lengths");
            for (x, dy) in x.chunks_exact(k).zip(dy.chunks_exact(k)) {
                let r = scale(x);
                for ((dw, x), dy) in dw.iter_mut().zip(x).zip(dy) {
                    *dw += x * r * dy;
                }
            }
        }
    }

    /// Of h = act(gate) * up: `d_gate` and `d_up`.
    ///
    /// # Panics
    /// If lengths differ.
    pub fn gated_back(&self, act: Act, gate: &[f32], up: &[f32], dh: &[f32], d_gate: &mut [f32], d_up: &mut [f32]) {
        let len = gate.len();
        assert!(
            [up.len(), dh.len(), d_gate.len(), d_up.len()] == [len; 4],
            "gated_back: lengths"
        );
        if len == 0 {
            return;
        }
        const UNIT: usize = 1024;
        let (d_gate, d_up) = (Out::new(d_gate, len), Out::new(d_up, len));
        self.split(len.div_ceil(UNIT), GRAIN / UNIT, &|units| {
            let at = units.start * UNIT;
            let n = (units.end * UNIT).min(len) - at;
            // SAFETY: the level fits the CPU; equal lengths; each unit belongs to one chunk.
            unsafe {
                let (d_gate, d_up) = (d_gate.at(0, at, n), d_up.at(0, at, n));
                (self.isa.gated_back)(act, &gate[at..][..n], &up[at..][..n], &dh[at..][..n], d_gate, d_up);
            }
        });
    }

    /// Of rows of logits, each with the token that should have followed: its loss -ln softmax(row)_target; the row becomes the loss's
    /// gradient times `scale`. `softcap` is what the logits have behind them, whose own input the gradient then is of.
    ///
    /// # Panics
    /// If lengths do not belong together, or a target is no entry of a row.
    pub fn cross_entropy(
        &self,
        logits: &mut [f32],
        targets: &[u32],
        softcap: Option<f32>,
        scale: f32,
        losses: &mut [f32],
    ) {
        let n = targets.len();
        assert!(
            losses.len() == n && logits.len().checked_rem(n).unwrap_or(logits.len()) == 0,
            "cross_entropy: lengths"
        );
        if n == 0 {
            return;
        }
        let vocab = logits.len() / n;
        assert!(targets.iter().all(|t| (*t as usize) < vocab), "cross_entropy: target");
        let losses = Out::new(losses, 1);
        self.rows(logits, vocab, 8, |t, row| {
            let target = targets[t] as usize;
            let said = row[target];
            // A NaN comes through in the sum.
            let highest = highest(row);
            // SAFETY: row t is this chunk's.
            let loss = unsafe { &mut losses.at(t, 0, 1)[0] };
            let mut finish = |row: &mut [f32], slope: &dyn Fn(usize) -> f32| {
                // SAFETY: the level fits the CPU.
                let sum = unsafe { (self.isa.exps)(row, highest) };
                *loss = sum.ln() + (highest - said);
                let factor = scale / sum;
                match softcap {
                    None => row.iter_mut().for_each(|p| *p *= factor),
                    Some(_) => row.iter_mut().enumerate().for_each(|(j, p)| *p *= factor * slope(j)),
                }
                row[target] -= scale * slope(target);
            };
            match softcap {
                None => finish(row, &|_| 1.0),
                Some(cap) => scratch::with_f32(vocab, |capped| {
                    capped.copy_from_slice(row);
                    finish(row, &|j| 1.0 - (capped[j] / cap) * (capped[j] / cap));
                }),
            }
        });
    }

    /// Of y = factors ⊙ x, each row of `factors.len()`: the sum over rows of x dy is added to `d_factors`.
    pub fn affine_back(&self, x: &[f32], dy: &[f32], d_factors: &mut [f32]) {
        let n = d_factors.len();
        assert!(
            n > 0 && x.len() == dy.len() && x.len().is_multiple_of(n),
            "affine_back: lengths"
        );
        for (x, dy) in x.chunks_exact(n).zip(dy.chunks_exact(n)) {
            for ((d, x), dy) in d_factors.iter_mut().zip(x).zip(dy) {
                *d += x * dy;
            }
        }
    }

    /// y += x for each row x of `y.len()`.
    pub fn sum_rows(&self, x: &[f32], y: &mut [f32]) {
        assert!(!y.is_empty() && x.len().is_multiple_of(y.len()), "sum_rows: lengths");
        for x in x.chunks_exact(y.len()) {
            y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
        }
    }
}

/// The largest number in eight chains; of NaN and numbers perhaps a number.
pub(super) fn highest(x: &[f32]) -> f32 {
    let mut most = [f32::NEG_INFINITY; 8];
    let (eights, rest) = x.as_chunks::<8>();
    for eight in eights {
        for (m, v) in most.iter_mut().zip(eight) {
            *m = if *v > *m { *v } else { *m };
        }
    }
    most.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// A sum of products in eight chains.
pub(super) fn lanes(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let ((a8, a_rest), (b8, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a8.iter().zip(b8) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

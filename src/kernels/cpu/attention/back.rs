//! The way back through attention: a head's queries in blocks against all keys that they see. Of a block P = softmax(q k^T) is made again,
//! then dP = do v^T, dS = P ⊙ (dP - sum(P ⊙ dP)), dq = dS k, dk += dS^T q, dv += P^T do (as in Dao et al. 2022, arXiv:2205.14135, with
//! whole rows): memory for 64 rows of scores, never for all.

use std::ops::Range;

use super::super::backward::{highest, lanes};
use super::super::isa::Product;
use super::super::types::{KvBuf, Out};
use super::super::{Attention, Cpu, scratch};

/// Query rows of a block.
const ROWS: usize = 64;

/// Bytes that the way back of attention of `m` rows needs for a moment: once, and in each thread.
pub fn back_scratch_bytes(a: &Attention, m: usize) -> (usize, usize) {
    let n = a.pos + m;
    let (once, each) = (2 * a.heads * n * a.head_dim, head_scratch(a, n));
    (once * size_of::<f32>(), each * size_of::<f32>())
}

/// Numbers of the buffers of a head.
fn head_scratch(a: &Attention, n: usize) -> usize {
    let capped = if a.softcap.is_some() { ROWS * n } else { 0 };
    2 * a.head_dim * ROWS + 4 * n * a.head_dim + 2 * ROWS * n + capped
}

/// A head's keys or values: as rows, and turned.
struct Side<'a> {
    rows: &'a mut [f32],
    turned: &'a mut [f32],
}

impl Side<'_> {
    /// Takes head `head` of `n` positions out of the cache.
    fn fill(&mut self, kv: &KvBuf, a: &Attention, head: usize, n: usize) {
        let (dim, width) = (a.head_dim, a.kv_heads * a.head_dim);
        for (j, row) in self.rows.chunks_exact_mut(dim).enumerate() {
            let at = j * width + head * dim;
            match kv {
                KvBuf::F32(kv) => row.copy_from_slice(&kv[at..][..dim]),
                KvBuf::F16(kv) => {
                    for (out, v) in row.iter_mut().zip(&kv[at..][..dim]) {
                        *out = half::f16::from_bits(*v).to_f32();
                    }
                }
            }
            for (i, v) in row.iter().enumerate() {
                self.turned[i * n + j] = *v;
            }
        }
    }
}

impl Cpu {
    /// Of [`attention`](Self::attention): dq like q, and dk, dv `[pos + m][kv_heads * head_dim]`.
    ///
    /// # Panics
    /// If lengths do not belong together, or the ring does not hold all positions from 0 on.
    #[allow(clippy::too_many_arguments)] // those of the operation and their gradients
    pub fn attention_back(
        &self,
        a: &Attention,
        q: &[f32],
        k: &KvBuf,
        v: &KvBuf,
        d_out: &[f32],
        dq: &mut [f32],
        dk: &mut [f32],
        dv: &mut [f32],
    ) {
        let (dim, width, kv_width) = (a.head_dim, a.heads * a.head_dim, a.kv_heads * a.head_dim);
        assert!(
            width > 0 && a.kv_heads > 0 && a.heads.is_multiple_of(a.kv_heads) && a.window != Some(0),
            "attention_back: heads"
        );
        assert!(
            q.len().is_multiple_of(width) && d_out.len() == q.len() && dq.len() == q.len(),
            "attention_back: lengths"
        );
        let m = q.len() / width;
        let n = a.pos + m;
        assert!(
            n <= a.capacity && k.len() >= n * kv_width && v.len() >= n * kv_width,
            "attention_back: the ring has lost keys"
        );
        assert!(
            dk.len() == n * kv_width && dv.len() == n * kv_width,
            "attention_back: lengths of keys"
        );
        if m == 0 {
            dk.fill(0.0);
            dv.fill(0.0);
            return;
        }
        let dq = Out::new(dq, width);
        // Heads that share keys have gradients of their own for them first, so that the sums do not depend on threads.
        scratch::with_f32(2 * a.heads * n * dim, |parts| {
            let all = Out::new(parts, n * dim);
            self.team.run(a.heads, &|head| {
                // SAFETY: each head is one chunk.
                let (dk, dv) = unsafe { (all.at(2 * head, 0, n * dim), all.at(2 * head + 1, 0, n * dim)) };
                self.head_back(a, head, q, k, v, d_out, dq, dk, dv);
            });
            let group = a.heads / a.kv_heads;
            for (side, out) in [(0, &mut *dk), (1, &mut *dv)] {
                for (j, out) in out.chunks_exact_mut(kv_width).enumerate() {
                    for (kv_head, out) in out.chunks_exact_mut(dim).enumerate() {
                        out.fill(0.0);
                        for head in kv_head * group..(kv_head + 1) * group {
                            let part = &parts[(2 * head + side) * n * dim + j * dim..][..dim];
                            out.iter_mut().zip(part).for_each(|(out, part)| *out += part);
                        }
                    }
                }
            }
        });
    }

    /// One query head; dk, dv `[n][head_dim]`.
    #[allow(clippy::too_many_arguments)] // those of the operation and their gradients
    fn head_back(
        &self,
        a: &Attention,
        head: usize,
        q: &[f32],
        k: &KvBuf,
        v: &KvBuf,
        d_out: &[f32],
        dq: Out,
        dk: &mut [f32],
        dv: &mut [f32],
    ) {
        let (dim, width) = (a.head_dim, a.heads * a.head_dim);
        let (m, n) = (q.len() / width, a.pos + q.len() / width);
        let kv_head = head / (a.heads / a.kv_heads);
        dk.fill(0.0);
        dv.fill(0.0);
        scratch::with_f32(head_scratch(a, n), |buffer| {
            let (turned_q, rest) = buffer.split_at_mut(dim * ROWS);
            let (turned_d, rest) = rest.split_at_mut(dim * ROWS);
            let (keys, rest) = rest.split_at_mut(2 * n * dim);
            let (values, rest) = rest.split_at_mut(2 * n * dim);
            let (p, rest) = rest.split_at_mut(ROWS * n);
            let (dp, slopes) = rest.split_at_mut(ROWS * n);
            let side = |buffer| {
                let (rows, turned) = <[f32]>::split_at_mut(buffer, n * dim);
                Side { rows, turned }
            };
            let (mut keys, mut values) = (side(keys), side(values));
            keys.fill(k, a, kv_head, n);
            values.fill(v, a, kv_head, n);
            for first in (0..m).step_by(ROWS) {
                let rows = ROWS.min(m - first);
                let seen = a.visible(first).start..a.visible(first + rows - 1).end;
                let count = seen.len();
                let (p, dp, slopes) = (&mut p[..rows * count], &mut dp[..rows * count], &mut *slopes);
                let (q, d_out) = (&q[first * width + head * dim..], &d_out[first * width + head * dim..]);
                // rows x count, over the head's elements.
                let scores = |x: &[f32], turned: &[f32], y: &mut [f32]| {
                    let p = Product {
                        x,
                        x_row: 1,
                        x_col: ROWS,
                        w: &turned[seen.start..],
                        pitch: n,
                        depth: dim,
                        rows,
                        columns: count,
                        y: Out::new(y, count),
                        at: (0, 0),
                        add: false,
                    };
                    // SAFETY: the level fits the CPU; y is ours.
                    unsafe { (self.isa.product)(p) };
                };
                for (x, turned) in [(q, &mut *turned_q), (d_out, &mut *turned_d)] {
                    for (t, row) in x.chunks(width).enumerate().take(rows) {
                        turned[t..]
                            .iter_mut()
                            .step_by(ROWS)
                            .zip(&row[..dim])
                            .for_each(|(out, v)| *out = *v);
                    }
                }
                scores(turned_q, keys.turned, p);
                for (t, p) in p.chunks_exact_mut(count).enumerate() {
                    let mine = within(a.visible(first + t), &seen);
                    if let Some(cap) = a.softcap {
                        let slopes = &mut slopes[t * count..][..count];
                        for (s, slope) in p.iter_mut().zip(slopes) {
                            let capped = (*s * a.scale / cap).tanh();
                            *slope = 1.0 - capped * capped;
                            *s = cap * capped;
                        }
                    } else {
                        p.iter_mut().for_each(|s| *s *= a.scale);
                    }
                    p[..mine.start].fill(0.0);
                    p[mine.end..].fill(0.0);
                    let p = &mut p[mine];
                    let highest = highest(p);
                    // SAFETY: the level fits the CPU.
                    let sum = unsafe { (self.isa.exps)(p, highest) };
                    let share = 1.0 / sum;
                    p.iter_mut().for_each(|p| *p *= share);
                }
                scores(turned_d, values.turned, dp);
                // dv += P^T do.
                self.keys_back(
                    p,
                    count,
                    rows,
                    (d_out, width),
                    &mut dv[seen.start * dim..seen.end * dim],
                    dim,
                );
                for (t, (p, dp)) in p.chunks_exact(count).zip(dp.chunks_exact_mut(count)).enumerate() {
                    let along = lanes(p, dp);
                    for (p, d) in p.iter().zip(dp.iter_mut()) {
                        *d = p * (*d - along) * a.scale;
                    }
                    if a.softcap.is_some() {
                        for (d, slope) in dp.iter_mut().zip(&slopes[t * count..][..count]) {
                            *d *= slope;
                        }
                    }
                }
                // dk += dS^T q.
                self.keys_back(
                    dp,
                    count,
                    rows,
                    (q, width),
                    &mut dk[seen.start * dim..seen.end * dim],
                    dim,
                );
                let p = Product {
                    x: dp,
                    x_row: count,
                    x_col: 1,
                    w: &keys.rows[seen.start * dim..],
                    pitch: dim,
                    depth: count,
                    rows,
                    columns: dim,
                    y: dq,
                    at: (first, head * dim),
                    add: false,
                };
                // SAFETY: the level fits the CPU; these columns of dq belong to this head.
                unsafe { (self.isa.product)(p) };
            }
        });
    }

    /// y (`[count][dim]`) += x^T w for x `[rows][count]` and rows of w with `pitch` between them.
    fn keys_back(&self, x: &[f32], count: usize, rows: usize, w: (&[f32], usize), y: &mut [f32], dim: usize) {
        let p = Product {
            x,
            x_row: 1,
            x_col: count,
            w: w.0,
            pitch: w.1,
            depth: rows,
            rows: count,
            columns: dim,
            y: Out::new(y, dim),
            at: (0, 0),
            add: true,
        };
        // SAFETY: the level fits the CPU; y is ours.
        unsafe { (self.isa.product)(p) };
    }
}

/// `range` counted from the start of `all`, which holds it.
fn within(range: Range<usize>, all: &Range<usize>) -> Range<usize> {
    range.start.max(all.start) - all.start..range.end.min(all.end) - all.start
}

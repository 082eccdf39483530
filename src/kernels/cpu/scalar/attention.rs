//! Softmax attention in one pass over the keys: the running maximum grows, older sums are scaled down.

use crate::kernels::cpu::isa::AttentionPart;
use crate::kernels::cpu::types::KvBuf;

pub(crate) fn attention(part: AttentionPart) {
    let AttentionPart {
        a,
        q,
        k,
        v,
        kv_heads,
        rows,
        keys,
        out,
    } = part;
    let (group, dim) = (a.heads / a.kv_heads, a.head_dim);
    let load = |buf: &KvBuf, kv_head: usize, pos: usize, i: usize| {
        let at = (pos % a.capacity) * a.kv_heads * dim + kv_head * dim + i;
        match buf {
            KvBuf::F16(v) => half::f16::from_bits(v[at]).to_f32(),
            KvBuf::F32(v) => v[at],
        }
    };
    let rows = |head: usize| rows.clone().map(move |row| (head, row));
    let units = kv_heads
        .flat_map(rows)
        .flat_map(|(head, row)| (0..group).map(move |g| (head, row, g)));
    for ((kv_head, row, g), out) in units.zip(out.chunks_exact_mut(dim + 2)) {
        let q = &q[row * a.heads * dim + (kv_head * group + g) * dim..][..dim];
        let (sums, stats) = out.split_at_mut(dim);
        let (mut max, mut total) = (f32::NEG_INFINITY, 0.0f32);
        sums.fill(0.0);
        let visible = a.visible(row);
        for pos in keys.start.max(visible.start)..keys.end.min(visible.end) {
            let mut score = a.scale
                * q.iter()
                    .enumerate()
                    .map(|(i, q)| q * load(k, kv_head, pos, i))
                    .sum::<f32>();
            if let Some(cap) = a.softcap {
                score = cap * (score / cap).tanh();
            }
            if score > max {
                let shrink = (max - score).exp();
                total *= shrink;
                sums.iter_mut().for_each(|s| *s *= shrink);
                max = score;
            }
            let p = (score - max).exp();
            total += p;
            for (i, s) in sums.iter_mut().enumerate() {
                *s += p * load(v, kv_head, pos, i);
            }
        }
        stats.copy_from_slice(&[max, total]);
    }
}

//! Attention of one kv head: blocks of 64 keys against all queries of the part, softmax as it goes.
//!
//! Keys and values are widened once a block and used by all heads of the group and all rows. Many queries: the block's keys
//! are transposed and both products are f32 tiles. Few (decode): scores are dot products along the head.

use std::arch::aarch64::*;

use super::dense::{columns, tile};
use super::lanes::{exp, load, store, sums, widen};
use crate::kernels::cpu::isa::AttentionPart;
use crate::kernels::cpu::scratch;
use crate::kernels::cpu::types::KvBuf;

/// Keys of a block.
const KEYS: usize = 64;
/// Queries of a tile.
const TILE: usize = 6;
/// Queries from which transposing the keys pays.
const MANY: usize = 8;

#[target_feature(enable = "neon")]
pub(super) fn attention(part: AttentionPart) {
    let AttentionPart {
        a,
        q,
        k,
        v,
        kv_head,
        rows,
        keys,
        out,
    } = part;
    let (group, dim) = (a.heads / a.kv_heads, a.head_dim);
    // Values are padded to whole tiles of 16.
    let wide = dim.next_multiple_of(16);
    let units = rows.len() * group;
    let many = units >= MANY;
    let sizes = [
        units * dim,
        KEYS * dim,
        KEYS * dim,
        KEYS * wide,
        units * KEYS,
        units * wide,
        units,
        units,
    ];
    scratch::with_f32(sizes.iter().sum(), |buffer| {
        let mut rest = buffer;
        let [queries, key, turned, value, p, acc, top, total] = sizes.map(|len| {
            let (first, tail) = std::mem::take(&mut rest).split_at_mut(len);
            rest = tail;
            first
        });
        for (i, out) in queries.chunks_exact_mut(dim).enumerate() {
            let (row, head) = (rows.start + i / group, kv_head * group + i % group);
            let q = &q[(row * a.heads + head) * dim..][..dim];
            out.chunks_mut(4)
                .zip(q.chunks(4))
                .for_each(|(out, q)| store(out, vmulq_n_f32(load(q), a.scale)));
        }
        acc.fill(0.0);
        value.fill(0.0);
        top.fill(f32::NEG_INFINITY);
        total.fill(0.0);
        for start in keys.clone().step_by(KEYS) {
            let count = KEYS.min(keys.end - start);
            for j in 0..count {
                let at = ((start + j) % a.capacity * a.kv_heads + kv_head) * dim;
                unpack(k, at, &mut key[j * dim..][..dim]);
                unpack(v, at, &mut value[j * wide..][..dim]);
            }
            key[count * dim..].fill(0.0);
            if many {
                for j in (0..KEYS).step_by(4) {
                    columns(&key[j * dim..], dim, dim, &mut turned[j..], KEYS);
                }
                scores_by_tiles(queries, turned, dim, p);
            } else {
                scores_by_dots(queries, key, dim, p);
            }
            for (i, p) in p.chunks_exact_mut(KEYS).enumerate() {
                let seen = a.visible(rows.start + i / group);
                let first = seen.start.clamp(start, start + count) - start;
                let last = seen.end.clamp(start, start + count) - start;
                let shrink = softmax(p, first.min(last)..last, a.softcap, &mut top[i], &mut total[i]);
                if shrink != 1.0 {
                    let acc = &mut acc[i * wide..][..wide];
                    acc.chunks_mut(4)
                        .for_each(|acc| store(acc, vmulq_n_f32(load(acc), shrink)));
                }
            }
            for at in (0..units).step_by(TILE) {
                let n = TILE.min(units - at);
                for c in (0..wide).step_by(16) {
                    let mut f = [[vdupq_n_f32(0.0); 4]; TILE];
                    for (t, f) in f.iter_mut().enumerate().take(n) {
                        let acc = &acc[(at + t) * wide + c..][..16];
                        f.iter_mut().zip(acc.chunks(4)).for_each(|(f, acc)| *f = load(acc));
                    }
                    tile(n, &p[at * KEYS..], KEYS, &value[c..], wide, count, &mut f);
                    for (t, f) in f.iter().enumerate().take(n) {
                        let acc = &mut acc[(at + t) * wide + c..][..16];
                        acc.chunks_mut(4).zip(f).for_each(|(acc, f)| store(acc, *f));
                    }
                }
            }
        }
        for (i, out) in out.chunks_exact_mut(dim + 2).enumerate() {
            out[..dim].copy_from_slice(&acc[i * wide..][..dim]);
            out[dim..].copy_from_slice(&[top[i], total[i]]);
        }
    });
}

/// Elements `at ..` of a cache as f32.
#[inline]
#[target_feature(enable = "neon")]
fn unpack(kv: &KvBuf, at: usize, out: &mut [f32]) {
    match kv {
        KvBuf::F32(kv) => out.copy_from_slice(&kv[at..][..out.len()]),
        KvBuf::F16(kv) => {
            let kv = &kv[at..][..out.len()];
            for (out, kv) in out.chunks_mut(4).zip(kv.chunks(4)) {
                let mut all = [0u16; 4];
                all[..kv.len()].copy_from_slice(kv);
                // SAFETY: 4 elements.
                store(out, widen(unsafe { vld1_u16(all.as_ptr()) }));
            }
        }
    }
}

/// p[i][j] = queries[i] . key j, keys as `[dim][KEYS]`.
#[inline]
#[target_feature(enable = "neon")]
fn scores_by_tiles(queries: &[f32], turned: &[f32], dim: usize, p: &mut [f32]) {
    for (q, p) in queries.chunks(TILE * dim).zip(p.chunks_mut(TILE * KEYS)) {
        for c in (0..KEYS).step_by(16) {
            let mut f = [[vdupq_n_f32(0.0); 4]; TILE];
            tile(q.len() / dim, q, dim, &turned[c..], KEYS, dim, &mut f);
            for (p, f) in p.chunks_exact_mut(KEYS).zip(f) {
                p[c..][..16].chunks_mut(4).zip(f).for_each(|(p, f)| store(p, f));
            }
        }
    }
}

/// The same from keys as `[KEYS][dim]`, eight at a time: as many chains.
#[inline]
#[target_feature(enable = "neon")]
fn scores_by_dots(queries: &[f32], key: &[f32], dim: usize, p: &mut [f32]) {
    for (q, p) in queries.chunks_exact(dim).zip(p.chunks_exact_mut(KEYS)) {
        for (key, p) in key.chunks_exact(8 * dim).zip(p.chunks_exact_mut(8)) {
            let mut f = [vdupq_n_f32(0.0); 8];
            for i in (0..dim).step_by(4) {
                let n = 4.min(dim - i);
                let q = load(&q[i..][..n]);
                for (j, f) in f.iter_mut().enumerate() {
                    *f = vfmaq_f32(*f, q, load(&key[j * dim + i..][..n]));
                }
            }
            let [a, b, c, d, e, g, h, i] = f;
            store(&mut p[..4], sums([a, b, c, d]));
            store(&mut p[4..], sums([e, g, h, i]));
        }
    }
}

/// Scores to exp(score - maximum) where `seen`, 0 elsewhere; updates maximum and total; returns what older sums are to be multiplied with.
#[inline]
#[target_feature(enable = "neon")]
fn softmax(p: &mut [f32], seen: std::ops::Range<usize>, softcap: Option<f32>, top: &mut f32, total: &mut f32) -> f32 {
    if seen.is_empty() {
        p.fill(0.0);
        return 1.0;
    }
    if let Some(cap) = softcap {
        super::elementwise::softcap(p, cap);
    }
    p[..seen.start].fill(f32::NEG_INFINITY);
    p[seen.end..].fill(f32::NEG_INFINITY);
    // The larger number; a NaN comes through in the sums.
    let mut highest = vdupq_n_f32(*top);
    for p in p.chunks(4) {
        highest = vmaxnmq_f32(load(p), highest);
    }
    let highest = vmaxnmvq_f32(highest);
    // Only if every score so far is -inf; any finite number then gives the zeros that are due.
    let highest = if highest == f32::NEG_INFINITY { 0.0 } else { highest };
    let shrink = if *top == highest { 1.0 } else { (*top - highest).exp() };
    let mut added = vdupq_n_f32(0.0);
    for p in p.chunks_mut(4) {
        let e = exp(vsubq_f32(load(p), vdupq_n_f32(highest)));
        added = vaddq_f32(added, e);
        store(p, e);
    }
    *top = highest;
    *total = *total * shrink + vaddvq_f32(added);
    shrink
}

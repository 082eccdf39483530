//! Attention of one kv head: blocks of 64 keys against all queries of the part, softmax as it goes.
//!
//! Keys and values are widened once a block and used by all heads of the group and all rows. Many queries: the block's keys
//! are transposed and both products are f32 tiles. Few (decode): scores are dot products along the head.

use std::arch::x86_64::*;

use super::dense::{TOKENS as TILE, columns, interleave, tile};
use super::lanes::{exp, load, max, store, sum, sums, tanh};
use crate::kernels::cpu::isa::AttentionPart;
use crate::kernels::cpu::scratch;
use crate::kernels::cpu::types::KvBuf;

/// Keys of a block.
const KEYS: usize = 64;
/// Queries from which transposing the keys pays.
const MANY: usize = 8;

#[target_feature(enable = "avx2,fma,f16c")]
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
    // Whole tiles of queries and of their scores.
    let padded = units.next_multiple_of(TILE);
    let sizes = [
        units * dim,
        if many { padded * dim } else { 0 },
        KEYS * dim,
        KEYS * dim,
        KEYS * wide,
        padded * KEYS,
        units * wide,
        units,
        units,
    ];
    scratch::with_f32(sizes.iter().sum(), |buffer| {
        let mut rest = buffer;
        let [queries, tiles, key, turned, value, p, acc, top, total] = sizes.map(|len| {
            let (first, tail) = std::mem::take(&mut rest).split_at_mut(len);
            rest = tail;
            first
        });
        let scale = _mm256_set1_ps(a.scale);
        for (i, out) in queries.chunks_exact_mut(dim).enumerate() {
            let (row, head) = (rows.start + i / group, kv_head * group + i % group);
            let q = &q[(row * a.heads + head) * dim..][..dim];
            out.chunks_mut(8)
                .zip(q.chunks(8))
                .for_each(|(out, q)| store(out, _mm256_mul_ps(scale, load(q))));
        }
        if many {
            interleave(queries, dim, tiles);
        }
        acc.fill(0.0);
        value.fill(0.0);
        top.fill(f32::NEG_INFINITY);
        total.fill(0.0);
        for start in keys.clone().step_by(KEYS) {
            let count = KEYS.min(keys.end - start);
            // Counted up, since a division a key would be felt.
            let mut slot = start % a.capacity;
            for j in 0..count {
                let at = (slot * a.kv_heads + kv_head) * dim;
                widen(k, at, &mut key[j * dim..][..dim]);
                widen(v, at, &mut value[j * wide..][..dim]);
                slot = if slot + 1 == a.capacity { 0 } else { slot + 1 };
            }
            key[count * dim..].fill(0.0);
            if many {
                for j in (0..KEYS).step_by(8) {
                    columns(&key[j * dim..], dim, dim, &mut turned[j..], KEYS);
                }
                scores_by_tiles(tiles, turned, dim, p);
            } else {
                scores_by_dots(queries, key, dim, p);
            }
            for (i, p) in p.chunks_exact_mut(KEYS).enumerate().take(units) {
                let seen = a.visible(rows.start + i / group);
                let first = seen.start.clamp(start, start + count) - start;
                let last = seen.end.clamp(start, start + count) - start;
                let shrink = softmax(p, first.min(last)..last, a.softcap, &mut top[i], &mut total[i]);
                if shrink != 1.0 {
                    let shrink = _mm256_set1_ps(shrink);
                    let acc = &mut acc[i * wide..][..wide];
                    acc.chunks_mut(8)
                        .for_each(|acc| store(acc, _mm256_mul_ps(load(acc), shrink)));
                }
            }
            for at in (0..units).step_by(TILE) {
                let p = &p[at * KEYS..];
                let acc = &mut acc[at * wide..];
                match units - at {
                    1 => add_values::<1>(p, value, wide, count, acc),
                    2 => add_values::<2>(p, value, wide, count, acc),
                    3 => add_values::<3>(p, value, wide, count, acc),
                    4 => add_values::<4>(p, value, wide, count, acc),
                    5 => add_values::<5>(p, value, wide, count, acc),
                    _ => add_values::<TILE>(p, value, wide, count, acc),
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
#[target_feature(enable = "avx2,fma,f16c")]
fn widen(kv: &KvBuf, at: usize, out: &mut [f32]) {
    match kv {
        KvBuf::F32(kv) => out.copy_from_slice(&kv[at..][..out.len()]),
        KvBuf::F16(kv) => {
            let kv = &kv[at..][..out.len()];
            let (eights, rest) = kv.as_chunks::<8>();
            let (wide, wide_rest) = out.as_chunks_mut::<8>();
            for (out, kv) in wide.iter_mut().zip(eights) {
                // SAFETY: 8 elements of 2 bytes, 8 of 4.
                unsafe { _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(kv.as_ptr().cast()))) };
            }
            if !rest.is_empty() {
                let mut all = [0u16; 8];
                all[..rest.len()].copy_from_slice(rest);
                // SAFETY: 8 elements of 2 bytes.
                store(
                    wide_rest,
                    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(all.as_ptr().cast()) }),
                );
            }
        }
    }
}

/// p[i][j] = query i . key j, queries interleaved by tiles, keys as `[dim][KEYS]`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn scores_by_tiles(tiles: &[f32], turned: &[f32], dim: usize, p: &mut [f32]) {
    for (q, p) in tiles.chunks_exact(TILE * dim).zip(p.chunks_exact_mut(TILE * KEYS)) {
        for c in (0..KEYS).step_by(16) {
            let mut f = [[_mm256_setzero_ps(); 2]; TILE];
            tile::<TILE, 1, TILE>(q, &turned[c..], KEYS, dim, &mut f);
            for (p, f) in p.chunks_exact_mut(KEYS).zip(f) {
                p[c..][..16].chunks_mut(8).zip(f).for_each(|(p, f)| store(p, f));
            }
        }
    }
}

/// acc[t] += sum over `count` keys j of p[t][j] value[j], for T queries; rows of `value` and `acc` are `wide`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_values<const T: usize>(p: &[f32], value: &[f32], wide: usize, count: usize, acc: &mut [f32]) {
    for c in (0..wide).step_by(16) {
        let mut f: [_; T] = std::array::from_fn(|t| {
            let acc = &acc[t * wide + c..][..16];
            [load(acc), load(&acc[8..])]
        });
        tile::<T, KEYS, 1>(p, &value[c..], wide, count, &mut f);
        for (t, f) in f.iter().enumerate() {
            let acc = &mut acc[t * wide + c..][..16];
            acc.chunks_mut(8).zip(f).for_each(|(acc, f)| store(acc, *f));
        }
    }
}

/// p[i][j] = query i . key j, keys as `[KEYS][dim]`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn scores_by_dots(queries: &[f32], key: &[f32], dim: usize, p: &mut [f32]) {
    let whole = dim / 8 * 8;
    for (q, p) in queries.chunks_exact(dim).zip(p.chunks_exact_mut(KEYS)) {
        for (key, p) in key.chunks_exact(8 * dim).zip(p.chunks_exact_mut(8)) {
            let mut f = [_mm256_setzero_ps(); 8];
            for i in (0..whole).step_by(8) {
                // SAFETY: elements i .. i + 8 of `dim` that the query and each of the 8 keys have.
                unsafe {
                    let q = _mm256_loadu_ps(q.as_ptr().add(i));
                    for (j, f) in f.iter_mut().enumerate() {
                        *f = _mm256_fmadd_ps(q, _mm256_loadu_ps(key.as_ptr().add(j * dim + i)), *f);
                    }
                }
            }
            if whole < dim {
                let q = load(&q[whole..]);
                for (j, f) in f.iter_mut().enumerate() {
                    *f = _mm256_fmadd_ps(q, load(&key[j * dim + whole..(j + 1) * dim]), *f);
                }
            }
            store(p, sums(f));
        }
    }
}

/// Scores to exp(score - maximum) where `seen`, 0 elsewhere; updates maximum and total; returns what older sums are to be multiplied with.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn softmax(p: &mut [f32], seen: std::ops::Range<usize>, softcap: Option<f32>, top: &mut f32, total: &mut f32) -> f32 {
    if seen.is_empty() {
        p.fill(0.0);
        return 1.0;
    }
    if let Some(cap) = softcap {
        let (cap, inverse) = (_mm256_set1_ps(cap), _mm256_set1_ps(1.0 / cap));
        p.chunks_mut(8)
            .for_each(|p| store(p, _mm256_mul_ps(cap, tanh(_mm256_mul_ps(load(p), inverse)))));
    }
    p[..seen.start].fill(f32::NEG_INFINITY);
    p[seen.end..].fill(f32::NEG_INFINITY);
    let mut highest = _mm256_set1_ps(*top);
    for p in p.chunks(8) {
        highest = _mm256_max_ps(load(p), highest);
    }
    let highest = max(highest);
    // Only if every score so far is -inf; any finite number then gives the zeros that are due.
    let highest = if highest == f32::NEG_INFINITY { 0.0 } else { highest };
    let shrink = if *top == highest { 1.0 } else { (*top - highest).exp() };
    let mut added = _mm256_setzero_ps();
    for p in p.chunks_mut(8) {
        let e = exp(_mm256_sub_ps(load(p), _mm256_set1_ps(highest)));
        added = _mm256_add_ps(added, e);
        store(p, e);
    }
    *top = highest;
    *total = *total * shrink + sum(added);
    shrink
}

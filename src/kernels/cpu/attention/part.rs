//! One part of attention: blocks of 64 keys against all queries of the part, softmax as it goes (Flash attention's one pass:
//! Dao et al. 2022, arXiv:2205.14135). One loop for all levels; what they do in vectors is [`Vectors`].
//!
//! A block is used by all heads of the group and all rows. Many queries: the block's keys are transposed, its values widened, and both
//! products are f32 tiles. Few (decode): scores are dot products along the head, and keys and values are widened in registers, from
//! where they lie: memory is the limit.

use std::ops::Range;
use std::ptr::null;

use super::super::acts::{F32_TILE as TILE, interleave};
use super::super::crossovers::TRANSPOSED_KEYS_FROM;
use super::super::isa::AttentionPart;
use super::super::scratch;
use super::super::types::KvBuf;

/// Keys of a block.
pub(in crate::kernels::cpu) const KEYS: usize = 64;
/// Columns of a tile; rows of values are padded to whole tiles.
pub(in crate::kernels::cpu) const COLUMNS: usize = 16;

/// Keys or values of a head: `count` rows, `pitch` bytes apart.
#[derive(Clone, Copy)]
pub(in crate::kernels::cpu) struct Rows {
    pub start: *const u8,
    pub pitch: usize,
    pub count: usize,
}

/// A level's vectors. `HALF`: elements of the cache are f16 bits, else f32.
///
/// # Safety
/// The methods are for CPUs with the level's features. Pointers are readable as far as the method says.
pub(in crate::kernels::cpu) unsafe trait Vectors {
    /// x *= by.
    unsafe fn scale(x: &mut [f32], by: f32);
    /// `out` = as many elements at `p`.
    unsafe fn widen<const HALF: bool>(p: *const u8, out: &mut [f32]);
    /// `out[c * KEYS + r]` = element c of row r, `count` elements each.
    unsafe fn turn<const HALF: bool>(rows: [*const u8; 8], count: usize, out: &mut [f32]);
    /// `p[t * KEYS + j]` = query t . column j, for the rows of one tile of queries, of `dim` elements, and the first `columns` columns of
    /// `keys`, `[dim][KEYS]`. `columns` are whole tiles.
    unsafe fn scores(queries: &[f32], keys: &[f32], dim: usize, columns: usize, p: &mut [f32]);
    /// The same for `queries`, rows of `dim` (whole tiles), and keys of `dim` elements. Fetches
    /// the values, which lie at `values` in the same way and are asked for next.
    unsafe fn dots<const HALF: bool>(queries: &[f32], dim: usize, keys: Rows, values: *const u8, p: &mut [f32]);
    /// `acc[t]` += sum over j of `p[t * KEYS + j]` value j, for `n` <= TILE rows of `acc`, of `wide` elements (whole tiles), and
    /// values of as many. Fetches as many keys of the next block, which lie in the same way at `keys`, if that is not
    /// null; they may reach past the ring.
    unsafe fn add_values<const HALF: bool>(
        n: usize,
        p: &[f32],
        values: Rows,
        wide: usize,
        keys: *const u8,
        acc: &mut [f32],
    );
    /// x = cap * tanh(x / cap).
    unsafe fn softcap(x: &mut [f32], cap: f32);
    /// The largest of `x`, whole vectors, and `least`; of a NaN and a number the number.
    unsafe fn highest(x: &[f32], least: f32) -> f32;
    /// x = exp(x - highest) for whole vectors; returns the sum.
    unsafe fn exps(x: &mut [f32], highest: f32) -> f32;
}

/// Scores to exp(score - maximum) where `seen`, 0 elsewhere, `p` being whole tiles; updates maximum and total; returns what older sums are
/// to be multiplied with.
///
/// # Safety
/// The CPU has V's features.
unsafe fn softmax<V: Vectors>(
    p: &mut [f32],
    seen: Range<usize>,
    softcap: Option<f32>,
    top: &mut f32,
    total: &mut f32,
) -> f32 {
    if seen.is_empty() {
        p.fill(0.0);
        return 1.0;
    }
    // SAFETY: the caller's promise, here and below.
    unsafe {
        if let Some(cap) = softcap {
            V::softcap(p, cap);
        }
        p[..seen.start].fill(f32::NEG_INFINITY);
        p[seen.end..].fill(f32::NEG_INFINITY);
        // A NaN comes through in the sums.
        let highest = V::highest(p, *top);
        // Only if every score so far is -inf; any finite number then gives the zeros that are due.
        let highest = if highest == f32::NEG_INFINITY { 0.0 } else { highest };
        let shrink = if *top == highest { 1.0 } else { (*top - highest).exp() };
        *top = highest;
        *total = *total * shrink + V::exps(p, highest);
        shrink
    }
}

/// Rows of `wide` that were widened.
fn copies(rows: &[f32], wide: usize, count: usize) -> Rows {
    Rows {
        start: rows.as_ptr().cast(),
        pitch: size_of::<f32>() * wide,
        count,
    }
}

/// Whether a part of so many units transposes its keys, and whether it copies its values: in place they are read only if they are whole
/// tiles.
fn forms(units: usize, dim: usize) -> (bool, bool) {
    let many = units >= TRANSPOSED_KEYS_FROM;
    (many, many || !dim.is_multiple_of(COLUMNS))
}

/// Floats of each buffer of a part with `units` query rows of each of `n` kv heads.
pub(super) fn buffers(units: usize, n: usize, dim: usize) -> [usize; 9] {
    let (wide, padded) = (dim.next_multiple_of(COLUMNS), units.next_multiple_of(TILE));
    let (many, copied) = forms(units, dim);
    [
        n * padded * wide,
        if many { n * padded * wide } else { 0 },
        if many { wide * KEYS } else { 0 },
        if copied && !many { KEYS * wide } else { 0 },
        if copied { KEYS * wide } else { 0 },
        padded * KEYS,
        n * units * wide,
        n * units,
        n * units,
    ]
}

/// One part with V's vectors.
///
/// # Safety
/// The CPU has V's features; lengths, types and the ring are as [`Cpu::attention`](super::super::Cpu::attention) checks.
pub(in crate::kernels::cpu) unsafe fn part<V: Vectors>(part: AttentionPart) {
    let heads = |kv: &KvBuf| match kv {
        KvBuf::F16(kv) => kv.as_ptr().cast::<u8>(),
        KvBuf::F32(kv) => kv.as_ptr().cast::<u8>(),
    };
    let (k, v) = (heads(part.k), heads(part.v));
    // SAFETY: the caller's promise.
    unsafe {
        match part.k {
            KvBuf::F16(_) => blocks::<V, true>(part, k, v),
            KvBuf::F32(_) => blocks::<V, false>(part, k, v),
        }
    }
}

/// See [`part`]; the rings begin at `k` and `v`.
unsafe fn blocks<V: Vectors, const HALF: bool>(part: AttentionPart, k: *const u8, v: *const u8) {
    let AttentionPart {
        a,
        q,
        kv_heads,
        rows,
        keys,
        out,
        ..
    } = part;
    let (group, dim) = (a.heads / a.kv_heads, a.head_dim);
    let wide = dim.next_multiple_of(COLUMNS);
    let units = rows.len() * group;
    let (many, copied) = forms(units, dim);
    let padded = units.next_multiple_of(TILE);
    let tile = if many {
        TILE
    } else {
        units.div_ceil(units.div_ceil(TILE))
    };
    // Bytes of an element, and between positions; slot s of the ring.
    let size = if HALF { 2 } else { 4 };
    let pitch = a.kv_heads * dim * size;
    let n = kv_heads.len();
    let sizes = buffers(units, n, dim);
    scratch::with_f32(sizes.iter().sum(), |buffer| {
        let mut rest = buffer;
        let [queries, tiles, turned, key, value, p, acc, top, total] = sizes.map(|len| {
            let (first, tail) = std::mem::take(&mut rest).split_at_mut(len);
            rest = tail;
            first
        });
        for zeros in [&mut *queries, acc, total] {
            zeros.fill(0.0);
        }
        if dim < wide {
            // Of keys and values only what no row overwrites has to be zero.
            [&mut *turned, key, value]
                .into_iter()
                .for_each(|padded| padded.fill(0.0));
        }
        top.fill(f32::NEG_INFINITY);
        for (queries, kv_head) in queries.chunks_exact_mut(padded * wide).zip(kv_heads.clone()) {
            for (i, out) in queries.chunks_exact_mut(wide).enumerate().take(units) {
                let (row, head) = (rows.start + i / group, kv_head * group + i % group);
                out[..dim].copy_from_slice(&q[(row * a.heads + head) * dim..][..dim]);
            }
        }
        // SAFETY: the caller's promise, here and below: slots are in the ring and hold `dim` elements of this head.
        unsafe { V::scale(queries, a.scale) };
        if many {
            let in_tiles = tiles.chunks_exact_mut(TILE * wide);
            for (tile, queries) in in_tiles.zip(queries.chunks_exact(TILE * wide)) {
                interleave(queries, wide, TILE, tile);
            }
        }
        for start in keys.clone().step_by(KEYS) {
            let count = KEYS.min(keys.end - start);
            let columns = count.next_multiple_of(COLUMNS);
            let first = start % a.capacity;
            let slot = |j: usize| {
                let slot = first + j.min(count - 1);
                if slot < a.capacity { slot } else { slot - a.capacity }
            };
            // The block is one run of slots, or two where the ring ends.
            let run = count.min(a.capacity - first);
            let runs = [(0, run), (run, count - run)];
            // All heads of these keys: they are neighbours in memory.
            for (h, kv_head) in kv_heads.clone().enumerate() {
                let at = |ring: *const u8, slot: usize| ring.wrapping_add(slot * pitch + kv_head * dim * size);
                let in_place = |ring: *const u8, from: usize, count: usize| Rows {
                    start: at(ring, slot(from)),
                    pitch,
                    count,
                };
                let queries = &queries[h * padded * wide..][..units * wide];
                let acc = &mut acc[h * units * wide..][..units * wide];
                let (top, total) = (&mut top[h * units..][..units], &mut total[h * units..][..units]);
                // SAFETY: as above.
                unsafe {
                    if many {
                        for j in (0..columns).step_by(8) {
                            let rows = std::array::from_fn(|r| at(k, slot(j + r)));
                            V::turn::<HALF>(rows, dim, &mut turned[j..]);
                        }
                        let tiles = &tiles[h * padded * wide..][..padded * wide];
                        for (q, p) in tiles.chunks_exact(TILE * wide).zip(p.chunks_exact_mut(TILE * KEYS)) {
                            V::scores(q, turned, wide, columns, p);
                        }
                    } else if copied {
                        for (j, key) in key.chunks_exact_mut(wide).enumerate().take(count) {
                            V::widen::<HALF>(at(k, slot(j)), &mut key[..dim]);
                        }
                        V::dots::<false>(queries, wide, copies(key, wide, count), value.as_ptr().cast(), p);
                    } else {
                        for (from, len) in runs.into_iter().filter(|run| run.1 > 0) {
                            let p = &mut p[from..];
                            V::dots::<HALF>(queries, wide, in_place(k, from, len), at(v, slot(from)), p);
                        }
                    }
                    for (i, p) in p.chunks_exact_mut(KEYS).enumerate().take(units) {
                        let seen = a.visible(rows.start + i / group);
                        let first = seen.start.clamp(start, start + count) - start;
                        let last = seen.end.clamp(start, start + count) - start;
                        let seen = first.min(last)..last;
                        let shrink = softmax::<V>(&mut p[..columns], seen, a.softcap, &mut top[i], &mut total[i]);
                        if shrink != 1.0 {
                            V::scale(&mut acc[i * wide..][..wide], shrink);
                        }
                    }
                    if copied {
                        for (j, value) in value.chunks_exact_mut(wide).enumerate().take(count) {
                            V::widen::<HALF>(at(v, slot(j)), &mut value[..dim]);
                        }
                    }
                    for (i, acc) in acc.chunks_mut(tile * wide).enumerate() {
                        let (n, p) = (acc.len() / wide, &p[i * tile * KEYS..]);
                        if copied {
                            V::add_values::<false>(n, p, copies(value, wide, count), wide, null(), acc);
                            continue;
                        }
                        for (from, len) in runs.into_iter().filter(|run| run.1 > 0) {
                            // Heads lie apart from each other, which the hardware does not follow.
                            let next = if i == 0 { at(k, slot(from) + KEYS) } else { null() };
                            V::add_values::<HALF>(n, &p[from..], in_place(v, from, len), wide, next, acc);
                        }
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

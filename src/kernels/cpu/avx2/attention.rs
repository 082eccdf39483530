//! What attention does in vectors of 8.

use std::arch::x86_64::*;
use std::ptr::null;

use super::dense::{Dense, F16, F32, tile, turn};
use super::lanes::{exp, first, load, max, store, sum, sum_each};
use crate::kernels::cpu::acts::F32_TILE as TILE;
use crate::kernels::cpu::attention::part::{self, COLUMNS, KEYS, Rows, Vectors};
use crate::kernels::cpu::isa::AttentionPart;

/// # Safety
/// As [`Isa::attention`](crate::kernels::cpu::isa::Isa::attention).
pub(super) unsafe fn attention(part: AttentionPart) {
    // SAFETY: the caller's promise.
    unsafe { part::part::<Avx2>(part) }
}

pub(in crate::kernels::cpu) struct Avx2;

// SAFETY: AVX2, FMA, F16C.
unsafe impl Vectors for Avx2 {
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn scale(x: &mut [f32], by: f32) {
        let by = _mm256_set1_ps(by);
        x.chunks_mut(8).for_each(|x| store(x, _mm256_mul_ps(by, load(x))));
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn widen<const HALF: bool>(p: *const u8, out: &mut [f32]) {
        // SAFETY: the caller's promise.
        unsafe {
            if HALF {
                widen::<F16>(p, out);
            } else {
                widen::<F32>(p, out);
            }
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn turn<const HALF: bool>(rows: [*const u8; 8], count: usize, out: &mut [f32]) {
        // SAFETY: the caller's promise.
        unsafe {
            if HALF {
                turn::<F16>(rows, count, out, KEYS);
            } else {
                turn::<F32>(rows, count, out, KEYS);
            }
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn scores(queries: &[f32], keys: &[f32], dim: usize, columns: usize, p: &mut [f32]) {
        for c in (0..columns).step_by(COLUMNS) {
            let mut f = [[_mm256_setzero_ps(); 2]; TILE];
            assert!(keys.len() >= dim * KEYS);
            // SAFETY: `dim` rows of KEYS columns, as just checked.
            unsafe { tile::<F32, TILE, 2, 1, TILE>(queries, keys.as_ptr().add(c).cast(), 4 * KEYS, dim, &mut f) };
            for (p, f) in p.chunks_exact_mut(KEYS).zip(f) {
                p[c..][..COLUMNS].chunks_mut(8).zip(f).for_each(|(p, f)| store(p, f));
            }
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn dots<const HALF: bool>(queries: &[f32], dim: usize, keys: Rows, values: *const u8, p: &mut [f32]) {
        for (i, (q, p)) in queries.chunks(3 * dim).zip(p.chunks_mut(3 * KEYS)).enumerate() {
            // Once is enough.
            let values = if i == 0 { values } else { null() };
            // SAFETY: the caller's promise.
            unsafe {
                match (q.len() / dim, HALF) {
                    (1, true) => dots::<F16, 1>(q, dim, keys, values, p),
                    (2, true) => dots::<F16, 2>(q, dim, keys, values, p),
                    (_, true) => dots::<F16, 3>(q, dim, keys, values, p),
                    (1, _) => dots::<F32, 1>(q, dim, keys, values, p),
                    (2, _) => dots::<F32, 2>(q, dim, keys, values, p),
                    (_, _) => dots::<F32, 3>(q, dim, keys, values, p),
                }
            }
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn add_values<const HALF: bool>(
        n: usize,
        p: &[f32],
        values: Rows,
        wide: usize,
        keys: *const u8,
        acc: &mut [f32],
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            if HALF {
                add_values::<F16>(n, p, values, wide, keys, acc);
            } else {
                add_values::<F32>(n, p, values, wide, keys, acc);
            }
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn softcap(x: &mut [f32], cap: f32) {
        super::elementwise::softcap(x, cap);
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn highest(x: &[f32], least: f32) -> f32 {
        let mut highest = _mm256_set1_ps(least);
        for x in x.chunks(8) {
            highest = _mm256_max_ps(load(x), highest);
        }
        max(highest)
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn exps(x: &mut [f32], highest: f32) -> f32 {
        let mut added = _mm256_setzero_ps();
        for x in x.chunks_mut(8) {
            let e = exp(_mm256_sub_ps(load(x), _mm256_set1_ps(highest)));
            added = _mm256_add_ps(added, e);
            store(x, e);
        }
        sum(added)
    }
}

/// As [`Vectors::widen`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn widen<D: Dense>(p: *const u8, out: &mut [f32]) {
    for (i, out) in out.chunks_mut(8).enumerate() {
        // SAFETY: the caller's promise: as many elements as `out`.
        unsafe {
            let p = p.add(8 * i * D::BYTES);
            let v = if out.len() == 8 {
                D::eight(p)
            } else {
                super::dense::eight::<D>(std::slice::from_raw_parts(p, out.len() * D::BYTES))
            };
            store(out, v);
        }
    }
}

/// As [`Vectors::dots`], for T queries, four keys at a time; fetches ahead unless `values` is null.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dots<D: Dense, const T: usize>(queries: &[f32], dim: usize, keys: Rows, values: *const u8, p: &mut [f32]) {
    let Rows { start, pitch, count } = keys;
    assert!(queries.len() >= T * dim && p.len() >= (T - 1) * KEYS + count);
    for j in (0..count).step_by(4) {
        let n = 4.min(count - j);
        let mut f = [[_mm256_setzero_ps(); 4]; T];
        // SAFETY: `dim` elements of keys below `count`, whole vectors, and of T queries; scores that exist.
        unsafe {
            let key = |i: usize| start.add((j + i.min(n - 1)) * pitch);
            let keys = [key(0), key(1), key(2), key(3)];
            if !values.is_null() {
                for i in 0..4 {
                    fetch(values.wrapping_add((j + i) * pitch), dim * D::BYTES);
                }
            }
            for c in (0..dim).step_by(8) {
                let mut k = [_mm256_setzero_ps(); 4];
                for (k, key) in k.iter_mut().zip(keys) {
                    *k = D::eight(key.add(c * D::BYTES));
                }
                for (t, f) in f.iter_mut().enumerate() {
                    let q = _mm256_loadu_ps(queries.as_ptr().add(t * dim + c));
                    for (f, k) in f.iter_mut().zip(k) {
                        *f = _mm256_fmadd_ps(q, k, *f);
                    }
                }
            }
            for (t, f) in f.into_iter().enumerate() {
                let p = p.as_mut_ptr().add(t * KEYS + j);
                if n == 4 {
                    _mm_storeu_ps(p, sum_each(f));
                } else {
                    _mm_maskstore_ps(p, _mm256_castsi256_si128(first(n)), sum_each(f));
                }
            }
        }
    }
}

/// Fetches `bytes` at `p`, which need not exist.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn fetch(p: *const u8, bytes: usize) {
    for line in (0..bytes).step_by(64) {
        _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(line).cast());
    }
}

/// As [`Vectors::add_values`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_values<D: Dense>(n: usize, p: &[f32], values: Rows, wide: usize, keys: *const u8, acc: &mut [f32]) {
    // As many sums as there are registers for: 12, of few rows wide tiles, so that a value is read in one go.
    // SAFETY: the caller's promise.
    unsafe {
        match n {
            1 => fixed::<D, 1, 8>(p, values, wide, keys, acc),
            2 => fixed::<D, 2, 4>(p, values, wide, keys, acc),
            3 => fixed::<D, 3, 4>(p, values, wide, keys, acc),
            4 => fixed::<D, 4, 2>(p, values, wide, keys, acc),
            5 => fixed::<D, 5, 2>(p, values, wide, keys, acc),
            _ => fixed::<D, TILE, 2>(p, values, wide, keys, acc),
        }
    }
}

/// [`add_values`] for T rows, V vectors at a time.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn fixed<D: Dense, const T: usize, const V: usize>(
    p: &[f32],
    values: Rows,
    wide: usize,
    keys: *const u8,
    acc: &mut [f32],
) {
    let whole = wide / (8 * V) * (8 * V);
    // SAFETY: the caller's promise: `count` values of `wide` elements.
    unsafe {
        for c in (0..whole).step_by(8 * V) {
            some::<D, T, V>(
                p,
                values,
                wide,
                c,
                if keys.is_null() {
                    keys
                } else {
                    keys.wrapping_add(c * D::BYTES)
                },
                acc,
            );
        }
        for c in (whole..wide).step_by(COLUMNS) {
            some::<D, T, 2>(p, values, wide, c, null(), acc);
        }
    }
}

/// [`fixed`], columns from `c` on.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn some<D: Dense, const T: usize, const V: usize>(
    p: &[f32],
    values: Rows,
    wide: usize,
    c: usize,
    keys: *const u8,
    acc: &mut [f32],
) {
    let mut f = [[_mm256_setzero_ps(); V]; T];
    for (f, acc) in f.iter_mut().zip(acc.chunks_exact(wide)) {
        for (f, acc) in f.iter_mut().zip(acc[c..].chunks_exact(8)) {
            *f = load(acc);
        }
    }
    // SAFETY: the caller's promise.
    unsafe {
        let Rows { start, pitch, count } = values;
        let values = start.add(c * D::BYTES);
        if keys.is_null() {
            tile::<D, T, V, KEYS, 1>(p, values, pitch, count, &mut f);
        } else {
            // Some at a time, fetching between.
            for from in (0..count).step_by(4) {
                for i in 0..4 {
                    fetch(keys.wrapping_add((from + i) * pitch), 8 * V * D::BYTES);
                }
                tile::<D, T, V, KEYS, 1>(&p[from..], values.add(from * pitch), pitch, 4.min(count - from), &mut f);
            }
        }
    }
    for (f, acc) in f.into_iter().zip(acc.chunks_exact_mut(wide)) {
        for (f, acc) in f.into_iter().zip(acc[c..].chunks_exact_mut(8)) {
            store(acc, f);
        }
    }
}

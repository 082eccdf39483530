//! What attention does in vectors of 4.

use std::arch::aarch64::*;

use super::dense::{Sums, four, tile};
use super::lanes::{exp, load, prefetch, store, sums, transpose, widen};
use crate::kernels::cpu::acts::F32_TILE as TILE;
use crate::kernels::cpu::attention::part::{self, COLUMNS, KEYS, Rows, Vectors};
use crate::kernels::cpu::isa::AttentionPart;

/// # Safety
/// As [`Isa::attention`](crate::kernels::cpu::isa::Isa::attention).
pub(super) unsafe fn attention(part: AttentionPart) {
    // SAFETY: the caller's promise.
    unsafe { part::part::<Neon>(part) }
}

struct Neon;

// SAFETY: NEON.
unsafe impl Vectors for Neon {
    #[target_feature(enable = "neon")]
    unsafe fn scale(x: &mut [f32], by: f32) {
        x.chunks_mut(4).for_each(|x| store(x, vmulq_n_f32(load(x), by)));
    }

    #[target_feature(enable = "neon")]
    unsafe fn widen<const HALF: bool>(p: *const u8, out: &mut [f32]) {
        for (i, out) in out.chunks_mut(4).enumerate() {
            // SAFETY: the caller's promise: as many elements as `out`.
            store(out, unsafe { some::<HALF>(p, 4 * i, out.len()) });
        }
    }

    #[target_feature(enable = "neon")]
    unsafe fn turn<const HALF: bool>(rows: [*const u8; 8], count: usize, out: &mut [f32]) {
        for c in (0..count).step_by(4) {
            let n = 4.min(count - c);
            for (half, rows) in rows.as_chunks::<4>().0.iter().enumerate() {
                // SAFETY: the caller's promise: `count` elements each.
                let v = rows.map(|row| unsafe { some::<HALF>(row, c, n) });
                for (i, v) in transpose(v).into_iter().enumerate().take(n) {
                    store(&mut out[(c + i) * KEYS + 4 * half..][..4], v);
                }
            }
        }
    }

    #[target_feature(enable = "neon")]
    unsafe fn scores(queries: &[f32], keys: &[f32], dim: usize, columns: usize, p: &mut [f32]) {
        for c in (0..columns).step_by(COLUMNS) {
            let mut f = [[vdupq_n_f32(0.0); 4]; TILE];
            assert!(keys.len() >= dim * KEYS);
            // SAFETY: `dim` rows of KEYS columns, as just checked.
            unsafe { tile::<false, TILE, 1, TILE>(queries, keys.as_ptr().add(c).cast(), 4 * KEYS, dim, &mut f) };
            for (p, f) in p.chunks_exact_mut(KEYS).zip(f) {
                p[c..][..COLUMNS].chunks_mut(4).zip(f).for_each(|(p, f)| store(p, f));
            }
        }
    }

    #[target_feature(enable = "neon")]
    unsafe fn dots<const HALF: bool>(queries: &[f32], dim: usize, keys: Rows, values: *const u8, p: &mut [f32]) {
        let rows = Rows { start: values, ..keys };
        fetch(rows, dim, HALF);
        for (q, p) in queries.chunks(4 * dim).zip(p.chunks_mut(4 * KEYS)) {
            // SAFETY: the caller's promise.
            unsafe {
                match q.len() / dim {
                    1 => dots::<HALF, 1>(q, dim, keys, p),
                    2 => dots::<HALF, 2>(q, dim, keys, p),
                    3 => dots::<HALF, 3>(q, dim, keys, p),
                    _ => dots::<HALF, 4>(q, dim, keys, p),
                }
            }
        }
    }

    #[target_feature(enable = "neon")]
    unsafe fn add_values<const HALF: bool>(
        n: usize,
        p: &[f32],
        values: Rows,
        wide: usize,
        keys: *const u8,
        acc: &mut [f32],
    ) {
        if !keys.is_null() {
            fetch(Rows { start: keys, ..values }, wide, HALF);
        }
        // SAFETY: the caller's promise.
        unsafe {
            match n {
                1 => fixed::<HALF, 1>(p, values, wide, acc),
                2 => fixed::<HALF, 2>(p, values, wide, acc),
                3 => fixed::<HALF, 3>(p, values, wide, acc),
                4 => fixed::<HALF, 4>(p, values, wide, acc),
                5 => fixed::<HALF, 5>(p, values, wide, acc),
                _ => fixed::<HALF, TILE>(p, values, wide, acc),
            }
        }
    }

    #[target_feature(enable = "neon")]
    unsafe fn softcap(x: &mut [f32], cap: f32) {
        super::elementwise::softcap(x, cap);
    }

    #[target_feature(enable = "neon")]
    unsafe fn highest(x: &[f32], least: f32) -> f32 {
        let mut highest = vdupq_n_f32(least);
        for x in x.chunks(4) {
            highest = vmaxnmq_f32(load(x), highest);
        }
        vmaxnmvq_f32(highest)
    }

    #[target_feature(enable = "neon")]
    unsafe fn exps(x: &mut [f32], highest: f32) -> f32 {
        let mut added = vdupq_n_f32(0.0);
        for x in x.chunks_mut(4) {
            let e = exp(vsubq_f32(load(x), vdupq_n_f32(highest)));
            added = vaddq_f32(added, e);
            store(x, e);
        }
        vaddvq_f32(added)
    }
}

/// Fetches rows of `dim` numbers, which need not exist.
#[target_feature(enable = "neon")]
fn fetch(rows: Rows, dim: usize, half: bool) {
    for row in 0..rows.count {
        for at in (0..dim * if half { 2 } else { 4 }).step_by(64) {
            prefetch(rows.start.wrapping_add(row * rows.pitch + at));
        }
    }
}

/// Numbers `at .. at + n` (n <= 4) of a row that begins at `p`, and zeros.
///
/// # Safety
/// They are readable.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn some<const HALF: bool>(p: *const u8, at: usize, n: usize) -> float32x4_t {
    // SAFETY: the caller's promise.
    unsafe {
        if n >= 4 {
            return four::<HALF>(p, at);
        }
        if HALF {
            let mut all = [0u16; 4];
            all[..n].copy_from_slice(std::slice::from_raw_parts(p.cast::<u16>().add(at), n));
            widen(vld1_u16(all.as_ptr()))
        } else {
            load(std::slice::from_raw_parts(p.cast::<f32>().add(at), n))
        }
    }
}

/// As [`Vectors::dots`], for T queries, four keys at a time.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn dots<const HALF: bool, const T: usize>(queries: &[f32], dim: usize, keys: Rows, p: &mut [f32]) {
    let Rows { start, pitch, count } = keys;
    assert!(queries.len() >= T * dim && p.len() >= (T - 1) * KEYS + count);
    for j in (0..count).step_by(4) {
        let n = 4.min(count - j);
        let mut f = [[vdupq_n_f32(0.0); 4]; T];
        // SAFETY: `dim` elements of keys below `count`, whole vectors, and of T queries.
        unsafe {
            let key = |i: usize| start.add((j + i.min(n - 1)) * pitch);
            let keys = [key(0), key(1), key(2), key(3)];
            for c in (0..dim).step_by(4) {
                let k = keys.map(|key| four::<HALF>(key, c));
                for (t, f) in f.iter_mut().enumerate() {
                    let q = vld1q_f32(queries.as_ptr().add(t * dim + c));
                    for (f, k) in f.iter_mut().zip(k) {
                        *f = vfmaq_f32(*f, q, k);
                    }
                }
            }
        }
        for (t, f) in f.into_iter().enumerate() {
            store(&mut p[t * KEYS + j..][..n], sums(f));
        }
    }
}

/// [`Vectors::add_values`] for T rows.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn fixed<const HALF: bool, const T: usize>(p: &[f32], values: Rows, wide: usize, acc: &mut [f32]) {
    let size = if HALF { 2 } else { 4 };
    for c in (0..wide).step_by(COLUMNS) {
        let mut f: [Sums; T] = [[vdupq_n_f32(0.0); 4]; T];
        for (f, acc) in f.iter_mut().zip(acc.chunks_exact(wide)) {
            f.iter_mut().zip(acc[c..].chunks(4)).for_each(|(f, acc)| *f = load(acc));
        }
        // SAFETY: the caller's promise: `count` values of `wide` elements.
        unsafe { tile::<HALF, T, KEYS, 1>(p, values.start.add(c * size), values.pitch, values.count, &mut f) };
        for (f, acc) in f.into_iter().zip(acc.chunks_exact_mut(wide)) {
            acc[c..][..COLUMNS]
                .chunks_mut(4)
                .zip(f)
                .for_each(|(acc, f)| store(acc, f));
        }
    }
}

//! Attention of many queries in vectors of 16; the rest is AVX2's.

use std::arch::x86_64::*;

use super::backward::exps;
use crate::kernels::cpu::acts::F32_TILE as TILE;
use crate::kernels::cpu::attention::part::{self, COLUMNS, KEYS, Rows, Vectors};
use crate::kernels::cpu::avx2::attention::Avx2;
use crate::kernels::cpu::isa::AttentionPart;

/// Vectors of a tile: with 6 rows 24 sums of the 32 registers.
const V: usize = 4;
/// Columns of them.
const WIDE: usize = 16 * V;
const _: () = assert!(COLUMNS == 16 && KEYS.is_multiple_of(WIDE));

/// # Safety
/// As [`Isa::attention`](crate::kernels::cpu::isa::Isa::attention).
pub(super) unsafe fn attention(part: AttentionPart) {
    // SAFETY: the caller's promise.
    unsafe { part::part::<Avx512>(part) }
}

struct Avx512;

// SAFETY: AVX2, FMA, F16C, AVX-512 F, BW, VL. The caller's promises are those of AVX2's functions.
unsafe impl Vectors for Avx512 {
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn scores(queries: &[f32], keys: &[f32], dim: usize, columns: usize, p: &mut [f32]) {
        assert!(
            queries.len() >= dim * TILE && keys.len() >= dim * KEYS && columns <= KEYS && columns.is_multiple_of(16)
        );
        let mut c = 0;
        while c < columns {
            // SAFETY: `dim` rows of the tile and of KEYS columns, as just checked.
            c += unsafe {
                let (x, w) = (queries.as_ptr(), keys.as_ptr().add(c));
                match columns - c {
                    WIDE.. => scores::<V>(x, w, dim, &mut p[c..]),
                    _ => scores::<1>(x, w, dim, &mut p[c..]),
                }
            };
        }
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn add_values<const HALF: bool>(
        n: usize,
        p: &[f32],
        values: Rows,
        wide: usize,
        keys: *const u8,
        acc: &mut [f32],
    ) {
        if HALF || !keys.is_null() {
            // SAFETY: the caller's promise.
            return unsafe { Avx2::add_values::<HALF>(n, p, values, wide, keys, acc) };
        }
        assert!(p.len() >= (n - 1) * KEYS + values.count && acc.len() >= n * wide && wide.is_multiple_of(16));
        let mut c = 0;
        while c < wide {
            let v = if wide - c >= WIDE { V } else { 1 };
            // SAFETY: the caller's promise: `count` values of `wide` elements; the rest was just checked.
            unsafe {
                match (n, v) {
                    (1, V) => add::<1, V>(p, values, wide, c, acc),
                    (2, V) => add::<2, V>(p, values, wide, c, acc),
                    (3, V) => add::<3, V>(p, values, wide, c, acc),
                    (4, V) => add::<4, V>(p, values, wide, c, acc),
                    (5, V) => add::<5, V>(p, values, wide, c, acc),
                    (_, V) => add::<TILE, V>(p, values, wide, c, acc),
                    (1, _) => add::<1, 1>(p, values, wide, c, acc),
                    (2, _) => add::<2, 1>(p, values, wide, c, acc),
                    (3, _) => add::<3, 1>(p, values, wide, c, acc),
                    (4, _) => add::<4, 1>(p, values, wide, c, acc),
                    (5, _) => add::<5, 1>(p, values, wide, c, acc),
                    (_, _) => add::<TILE, 1>(p, values, wide, c, acc),
                }
            }
            c += 16 * v;
        }
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn exps(x: &mut [f32], highest: f32) -> f32 {
        exps(x, highest)
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn scale(x: &mut [f32], by: f32) {
        // SAFETY: the caller's promise.
        unsafe { Avx2::scale(x, by) }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn widen<const HALF: bool>(p: *const u8, out: &mut [f32]) {
        // SAFETY: the caller's promise.
        unsafe { Avx2::widen::<HALF>(p, out) }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn turn<const HALF: bool>(rows: [*const u8; 8], count: usize, out: &mut [f32]) {
        // SAFETY: the caller's promise.
        unsafe { Avx2::turn::<HALF>(rows, count, out) }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn dots<const HALF: bool>(queries: &[f32], dim: usize, keys: Rows, values: *const u8, p: &mut [f32]) {
        // SAFETY: the caller's promise.
        unsafe { Avx2::dots::<HALF>(queries, dim, keys, values, p) }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn softcap(x: &mut [f32], cap: f32) {
        // SAFETY: the caller's promise.
        unsafe { Avx2::softcap(x, cap) }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn highest(x: &[f32], least: f32) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { Avx2::highest(x, least) }
    }
}

/// N vectors of columns of [`Vectors::scores`]: `p[t * KEYS ..]` for the rows that there are. Returns the columns.
///
/// # Safety
/// `dim` rows of TILE numbers at `x`, and of N vectors, KEYS apart, at `w`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn scores<const N: usize>(x: *const f32, w: *const f32, dim: usize, p: &mut [f32]) -> usize {
    let mut f = [[_mm512_setzero_ps(); N]; TILE];
    for c in 0..dim {
        // SAFETY: the caller's promise.
        unsafe {
            let w: [__m512; N] = std::array::from_fn(|v| _mm512_loadu_ps(w.add(c * KEYS + 16 * v)));
            for (t, f) in f.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*x.add(c * TILE + t));
                for (f, w) in f.iter_mut().zip(w) {
                    *f = _mm512_fmadd_ps(x, w, *f);
                }
            }
        }
    }
    for (p, f) in p.chunks_mut(KEYS).zip(f) {
        for (p, f) in p.chunks_exact_mut(16).zip(f) {
            // SAFETY: 16 numbers.
            unsafe { _mm512_storeu_ps(p.as_mut_ptr(), f) };
        }
    }
    16 * N
}

/// N vectors of columns from `c` on of [`Vectors::add_values`], of T rows.
///
/// # Safety
/// As there; p and acc are long enough.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn add<const T: usize, const N: usize>(p: &[f32], values: Rows, wide: usize, c: usize, acc: &mut [f32]) {
    let mut f = [[_mm512_setzero_ps(); N]; T];
    // SAFETY: the caller's promise.
    unsafe {
        let acc = acc.as_mut_ptr().add(c);
        for (t, f) in f.iter_mut().enumerate() {
            *f = std::array::from_fn(|v| _mm512_loadu_ps(acc.add(t * wide + 16 * v)));
        }
        for j in 0..values.count {
            let row = values.start.add(j * values.pitch).cast::<f32>().add(c);
            let w: [__m512; N] = std::array::from_fn(|v| _mm512_loadu_ps(row.add(16 * v)));
            for (t, f) in f.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*p.as_ptr().add(t * KEYS + j));
                for (f, w) in f.iter_mut().zip(w) {
                    *f = _mm512_fmadd_ps(x, w, *f);
                }
            }
        }
        for (t, f) in f.into_iter().enumerate() {
            for (v, f) in f.into_iter().enumerate() {
                _mm512_storeu_ps(acc.add(t * wide + 16 * v), f);
            }
        }
    }
}

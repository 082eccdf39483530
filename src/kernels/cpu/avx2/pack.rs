//! Activation quantisation, bit for bit as the scalar level: the same roundings of the same products.

use std::arch::x86_64::*;

use crate::kernels::cpu::acts::{BLOCK, I8_LINES, I16_LINES, OUTLIERS, OUTLYING, Outlier, TINY};

/// A block's magnitudes as integers, in which order a NaN is the largest.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn magnitudes(x: &[f32; BLOCK]) -> [__m256i; 4] {
    // SAFETY: 32 elements.
    let bits = |i: usize| unsafe { _mm256_loadu_si256(x.as_ptr().add(8 * i).cast()) };
    std::array::from_fn(|i| _mm256_and_si256(bits(i), _mm256_set1_epi32(i32::MAX)))
}

/// The largest of them.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn largest(v: [__m256i; 4]) -> f32 {
    let m = _mm256_max_epi32(_mm256_max_epi32(v[0], v[1]), _mm256_max_epi32(v[2], v[3]));
    let m = _mm_max_epi32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
    let m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0b01_00_11_10));
    let m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0b10_11_00_01));
    f32::from_bits(_mm_cvtsi128_si32(m) as u32)
}

/// A bit for each element of the block that is larger than `limit`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn above(v: [__m256i; 4], limit: f32) -> u32 {
    let limit = _mm256_set1_ps(limit);
    let bits = |i: usize| _mm256_movemask_ps(_mm256_cmp_ps(_mm256_castsi256_ps(v[i]), limit, _CMP_GT_OQ)) as u32;
    bits(0) | bits(1) << 8 | bits(2) << 16 | bits(3) << 24
}

/// 32 integers in four vectors of i32, in order, and their scale; `amax` is the largest magnitude.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn quantize(x: &[f32; BLOCK], amax: f32, top: f32) -> ([__m256i; 4], f32) {
    // SAFETY: 32 elements.
    let v: [__m256; 4] = std::array::from_fn(|i| unsafe { _mm256_loadu_ps(x.as_ptr().add(8 * i)) });
    if !amax.is_finite() {
        return ([_mm256_setzero_si256(); 4], f32::NAN);
    }
    if amax < TINY {
        return ([_mm256_setzero_si256(); 4], 0.0);
    }
    let inverse = _mm256_set1_ps(top / amax);
    // Rounds to nearest even, the mode that Rust programs run in.
    (v.map(|v| _mm256_cvtps_epi32(_mm256_mul_ps(v, inverse))), amax / top)
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn pack_i8(x: &[f32], k: usize, tile: usize, out: &mut [u32], outliers: &mut [Outlier]) -> usize {
    if x.len() < tile * k {
        out.fill(0);
    }
    let mut found = 0;
    for (t, row) in x.chunks_exact(k).enumerate() {
        let blocks = row.as_chunks::<BLOCK>().0;
        for (b, (mut x, record)) in blocks.iter().zip(out.chunks_exact_mut(I8_LINES * tile)).enumerate() {
            let v = magnitudes(x);
            let mut amax = largest(v);
            let mut rest;
            // Of a block with a NaN nothing is larger; of one with an infinity neither.
            let mut large = above(v, OUTLYING * amax);
            if (1..=OUTLIERS as u32).contains(&large.count_ones()) {
                rest = *x;
                while large != 0 {
                    let i = large.trailing_zeros() as usize;
                    outliers[found] = Outlier {
                        at: (b * BLOCK + i) as u32,
                        token: t as u32,
                        x: rest[i],
                    };
                    rest[i] = 0.0;
                    found += 1;
                    large &= large - 1;
                }
                x = &rest;
                amax = largest(magnitudes(x));
            }
            let (q, d) = quantize(x, amax, 127.0);
            let words = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
            // Packing works within halves: put the words of four in order again.
            let words = _mm256_permutevar8x32_epi32(words, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            // Sums of elements 0,1 and 2,3 of each word, then of the four words of each half.
            let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), words);
            let pairs = _mm256_add_epi16(pairs, _mm256_shuffle_epi32(pairs, 0b01_00_11_10));
            let pairs = _mm256_add_epi16(pairs, _mm256_shuffle_epi32(pairs, 0b10_11_00_01));
            let halves = [_mm256_extract_epi32(pairs, 0), _mm256_extract_epi32(pairs, 4)];
            let sum: i32 = halves.iter().map(|h| i32::from(*h as i16) + (h >> 16)).sum();
            let mut all = [0u32; I8_LINES];
            // SAFETY: the first 8 words.
            unsafe { _mm256_storeu_si256(all.as_mut_ptr().cast(), words) };
            all[8..].copy_from_slice(&[
                halves[0] as u32,
                halves[1] as u32,
                d.to_bits(),
                (d * sum as f32).to_bits(),
            ]);
            for (line, word) in record.chunks_exact_mut(tile).zip(all) {
                line[t] = word;
            }
        }
    }
    found
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn pack_i16(x: &[f32], k: usize, tile: usize, out: &mut [u32]) {
    if x.len() < tile * k {
        out.fill(0);
    }
    for (t, row) in x.chunks_exact(k).enumerate() {
        for (x, record) in row
            .as_chunks::<BLOCK>()
            .0
            .iter()
            .zip(out.chunks_exact_mut(I16_LINES * tile))
        {
            let (q, d) = quantize(x, largest(magnitudes(x)), 32767.0);
            // i16 in order, 16 to a vector: word pairs (4i, 4i+1), (4i+2, 4i+3) of which we want (4i, 4i+2), (4i+1, 4i+3).
            let low = _mm256_packs_epi32(q[0], q[1]);
            let high = _mm256_packs_epi32(q[2], q[3]);
            let swap = _mm256_setr_epi8(
                0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15, 0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14,
                15,
            );
            // Each half now has two even words, then two odd ones; `packs` left them as q0 q1 | q0 q1.
            let (low, high) = (_mm256_shuffle_epi8(low, swap), _mm256_shuffle_epi8(high, swap));
            let even = _mm256_unpacklo_epi64(low, high);
            let odd = _mm256_unpackhi_epi64(low, high);
            // Words 0 2 4 6 | 1 3 5 7 to 0..8.
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            let mut all = [0u32; I16_LINES];
            // SAFETY: the first 8 words, then the next 8.
            unsafe {
                _mm256_storeu_si256(all.as_mut_ptr().cast(), _mm256_permutevar8x32_epi32(even, order));
                _mm256_storeu_si256(all.as_mut_ptr().add(8).cast(), _mm256_permutevar8x32_epi32(odd, order));
            }
            all[16] = d.to_bits();
            for (line, word) in record.chunks_exact_mut(tile).zip(all) {
                line[t] = word;
            }
        }
    }
}

//! Activation quantisation, bit for bit as the scalar level: the same roundings of the same products.

use std::arch::x86_64::*;

use crate::kernels::cpu::acts::{BLOCK, I8_LINES, I16_LINES, OUTLIERS, OUTLYING, Outlier, TILE, TINY};

/// A block of 32 elements.
type Block = [__m256; 4];

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load(x: &[f32; BLOCK]) -> Block {
    // SAFETY: 32 elements.
    let eight = |i: usize| unsafe { _mm256_loadu_ps(x.as_ptr().add(8 * i)) };
    [eight(0), eight(1), eight(2), eight(3)]
}

/// Magnitudes as integers, in which order a NaN is the largest.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn magnitudes(x: Block) -> [__m256i; 4] {
    let bits = |i: usize| _mm256_and_si256(_mm256_castps_si256(x[i]), _mm256_set1_epi32(i32::MAX));
    [bits(0), bits(1), bits(2), bits(3)]
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

/// Which magnitudes are larger than `limit`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn above(v: [__m256i; 4], limit: f32) -> Block {
    let limit = _mm256_set1_ps(limit);
    let mask = |i: usize| _mm256_cmp_ps(_mm256_castsi256_ps(v[i]), limit, _CMP_GT_OQ);
    [mask(0), mask(1), mask(2), mask(3)]
}

/// 32 integers in four vectors of i32, in order, and their scale; `amax` is the largest magnitude.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn quantize(x: Block, amax: f32, top: f32) -> ([__m256i; 4], f32) {
    if !amax.is_finite() {
        return ([_mm256_setzero_si256(); 4], f32::NAN);
    }
    if amax < TINY {
        return ([_mm256_setzero_si256(); 4], 0.0);
    }
    let inverse = _mm256_set1_ps(top / amax);
    // Rounds to nearest even, the mode that Rust programs run in.
    let round = |i: usize| _mm256_cvtps_epi32(_mm256_mul_ps(x[i], inverse));
    ([round(0), round(1), round(2), round(3)], amax / top)
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn pack_i8(x: &[f32], k: usize, tile: usize, out: &mut [u32], outliers: &mut [Outlier]) -> usize {
    match tile {
        1 => bytes::<1>(x, k, out, outliers),
        _ => {
            assert_eq!(tile, TILE);
            bytes::<TILE>(x, k, out, outliers)
        }
    }
}

/// [`pack_i8`] for a tile of T.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn bytes<const T: usize>(x: &[f32], k: usize, out: &mut [u32], outliers: &mut [Outlier]) -> usize {
    if x.len() < T * k {
        out.fill(0);
    }
    let (mut found, take_out) = (0, !outliers.is_empty());
    let (records, _) = out.as_chunks_mut::<T>().0.as_chunks_mut::<I8_LINES>();
    for (t, row) in x.chunks_exact(k).enumerate().take(T) {
        for (b, (values, record)) in row.as_chunks::<BLOCK>().0.iter().zip(records.iter_mut()).enumerate() {
            let mut x = load(values);
            let v = magnitudes(x);
            let mut amax = largest(v);
            // Of a block with a NaN nothing is larger; of one with an infinity neither.
            let masks = above(v, OUTLYING * amax);
            let bits = |i: usize| _mm256_movemask_ps(masks[i]) as u32;
            let mut large = bits(0) | bits(1) << 8 | bits(2) << 16 | bits(3) << 24;
            if take_out && (1..=OUTLIERS as u32).contains(&large.count_ones()) {
                while large != 0 {
                    let i = large.trailing_zeros() as usize;
                    outliers[found] = Outlier {
                        at: (b * BLOCK + i) as u32,
                        token: t as u32,
                        x: values[i],
                    };
                    found += 1;
                    large &= large - 1;
                }
                for (x, mask) in x.iter_mut().zip(masks) {
                    *x = _mm256_andnot_ps(mask, *x);
                }
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
            let mut all = [0u32; 8];
            // SAFETY: 8 words.
            unsafe { _mm256_storeu_si256(all.as_mut_ptr().cast(), words) };
            for (line, word) in record.iter_mut().zip(all) {
                line[t] = word;
            }
            record[8][t] = halves[0] as u32;
            record[9][t] = halves[1] as u32;
            record[10][t] = d.to_bits();
            record[11][t] = (d * sum as f32).to_bits();
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
            let x = load(x);
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

//! Gradients and weights in words: see [`crate::kernels::cpu::words`].

use std::arch::x86_64::*;

use crate::kernels::cpu::isa::Words;
use crate::kernels::cpu::words::{self, COLUMNS, SPAN};

/// Rows of a tile: 12 x 2 sums, 2 vectors of the panel and a pair of gradients of the 32 registers.
const ROWS: usize = 12;

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn pack_words(x: &[f32], code: f32, out: &mut [i16]) -> f32 {
    let (sixteens, rest) = x.as_chunks::<16>();
    assert!(rest.is_empty() && out.len() >= x.len(), "pack_words: lengths");
    // SAFETY: 16 numbers.
    let load = |x: &[f32; 16]| unsafe { _mm512_loadu_ps(x.as_ptr()) };
    let (mut most, mut strange) = (_mm512_setzero_ps(), 0);
    for x in sixteens {
        let x = load(x);
        // In this order a NaN is passed over.
        most = _mm512_max_ps(_mm512_abs_ps(x), most);
        strange |= _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
    }
    let (steps, scale) = words::steps(_mm512_reduce_max_ps(most), code, strange == 0);
    let steps = _mm512_set1_ps(steps);
    for (x, out) in sixteens.iter().zip(out.as_chunks_mut::<16>().0) {
        let codes = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(_mm512_mul_ps(load(x), steps)));
        // SAFETY: 16 words.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), codes) };
    }
    scale
}

/// # Safety
/// As [`Isa::word_products`](crate::kernels::cpu::isa::Isa::word_products).
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn word_products(p: Words) {
    let depth = p.depth();
    let mut row = 0;
    while row < p.x_scales.len() {
        // SAFETY: the caller's promise.
        row += unsafe {
            match p.x_scales.len() - row {
                // Two tiles of 8 are faster than one of 12 and what is left.
                8 | 13..=16 => tile::<8>(&p, depth, row),
                ROWS.. => tile::<ROWS>(&p, depth, row),
                4.. => tile::<4>(&p, depth, row),
                _ => tile::<1>(&p, depth, row),
            }
        };
    }
}

/// Rows `row .. row + T`. Returns T.
///
/// # Safety
/// As [`word_products`], which has checked `p`; the rows exist.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tile<const T: usize>(p: &Words, depth: usize, row: usize) -> usize {
    let x = p.x[row * SPAN..][..T * SPAN].as_ptr();
    let mut sums = [[_mm512_setzero_si512(); 2]; T];
    // SAFETY: `depth` rows of the panel and T of x.
    unsafe {
        let mut panel = p.panel.as_ptr();
        for t in 0..T {
            // By the time that the sums are there.
            let y = p.y.at(row + t, p.column, COLUMNS).as_ptr();
            _mm_prefetch::<_MM_HINT_T0>(y.cast());
            _mm_prefetch::<_MM_HINT_T0>(y.add(16).cast());
        }
        for c in (0..depth).step_by(2) {
            // The next tile's rows: in 16 steps a line of each.
            let next = x.wrapping_add((T + c / 2 % 16) * SPAN + c / 32 * 32);
            _mm_prefetch::<_MM_HINT_T0>(next.cast());
            let codes = [
                _mm512_loadu_si512(panel.cast()),
                _mm512_loadu_si512(panel.add(32).cast()),
            ];
            for (t, sums) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_epi32(x.add(t * SPAN + c).cast::<i32>().read_unaligned());
                for (sum, codes) in sums.iter_mut().zip(codes) {
                    *sum = _mm512_dpwssd_epi32(*sum, codes, x);
                }
            }
            panel = panel.add(2 * COLUMNS);
        }
    }
    for (t, sums) in sums.iter().enumerate() {
        let x_scale = _mm512_set1_ps(p.x_scales[row + t]);
        // SAFETY: these columns are ours; a panel has 32 scales.
        unsafe {
            let y = p.y.at(row + t, p.column, COLUMNS).as_mut_ptr();
            for (v, sum) in sums.iter().enumerate() {
                let scale = _mm512_mul_ps(_mm512_loadu_ps(p.scales.as_ptr().add(16 * v)), x_scale);
                let old = if p.add {
                    _mm512_loadu_ps(y.add(16 * v))
                } else {
                    _mm512_setzero_ps()
                };
                _mm512_storeu_ps(y.add(16 * v), _mm512_fmadd_ps(_mm512_cvtepi32_ps(*sum), scale, old));
            }
        }
    }
    T
}

//! A few tokens: as [`avx2::decode`](crate::kernels::cpu::avx2::decode), four products to an instruction.
//!
//! Vectors of 16 rows were measured (Zen 4): 1.1 times as fast from cache, but half as fast from memory, at whatever distance the
//! prefetches run ahead. Sixteen rows are more streams than the hardware follows.

use std::arch::x86_64::*;
use std::ops::Range;

use crate::kernels::cpu::acts::Acts;
use crate::kernels::cpu::avx2::decode::{Dot, by_eight_rows};
use crate::kernels::cpu::avx2::unpack::{Unpack, plain_operations};
use crate::kernels::cpu::types::{Out, Weight};

/// T tokens.
///
/// # Safety
/// As [`Isa::matmul_int`](crate::kernels::cpu::isa::Isa::matmul_int), with `acts.m == T`, tiles of one token and F's format.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn blocks<F: Unpack, const T: usize>(w: Weight, acts: &Acts, y: Out, rows: Range<usize>) {
    // SAFETY: the caller's promise.
    unsafe { by_eight_rows::<F, Vnni, T>(w, acts, y, rows) }
}

/// Products of bytes in fours, added in 32 bits: no bound is near.
pub(in crate::kernels::cpu) struct Vnni;

// SAFETY: AVX-512 VNNI and VL.
unsafe impl Dot for Vnni {
    plain_operations! {
        start(half: __m256i, times: i16) -> __m256i {
            _mm256_dpwssd_epi32(_mm256_setzero_si256(), half, _mm256_set1_epi16(times))
        }
        step(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i { _mm256_dpbusd_epi32(sums, codes, x) }
        join(a: __m256i, b: __m256i) -> __m256i { _mm256_add_epi32(a, b) }
        finish(sums: __m256i) -> __m256 { _mm256_cvtepi32_ps(sums) }
        step_words(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i { _mm256_dpwssd_epi32(sums, codes, x) }
        start_wide(sums: __m256i) -> __m256i {
            _mm256_dpwssd_epi32(_mm256_setzero_si256(), sums, _mm256_set1_epi16(-128))
        }
        step_wide(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i { _mm256_dpbusd_epi32(sums, codes, x) }
    }
}

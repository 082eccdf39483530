//! Small vector helpers: sums across lanes, transposes, exp.

use std::arch::x86_64::*;

/// Sum of the eight lanes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn sum(v: __m256) -> f32 {
    let x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
}

/// Largest of the eight lanes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn max(v: __m256) -> f32 {
    let x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
}

/// Lane i = sum of the lanes of `v[i]`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn sum_each(v: [__m256; 4]) -> __m128 {
    // Sums of the low halves, then of the high ones.
    let sums = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1))
}

/// A mask of the first `n` lanes, for the masked loads and stores of a tail.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn first(n: usize) -> __m256i {
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(n.min(8) as i32), lanes)
}

/// The 8 floats at the start of `x`, or all of a shorter one and zeros.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn load(x: &[f32]) -> __m256 {
    if x.len() >= 8 {
        // SAFETY: 8 elements, as just checked.
        unsafe { _mm256_loadu_ps(x.as_ptr()) }
    } else {
        // SAFETY: the mask leaves out what is past the end.
        unsafe { _mm256_maskload_ps(x.as_ptr(), first(x.len())) }
    }
}

/// Stores to the first 8 elements of `x`, or to all of a shorter one.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn store(x: &mut [f32], v: __m256) {
    if x.len() >= 8 {
        // SAFETY: 8 elements, as just checked.
        unsafe { _mm256_storeu_ps(x.as_mut_ptr(), v) }
    } else {
        // SAFETY: the mask leaves out what is past the end.
        unsafe { _mm256_maskstore_ps(x.as_mut_ptr(), first(x.len()), v) }
    }
}

/// Row r of the 8 x 8 result is column r of `v`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn transpose(v: [__m256; 8]) -> [__m256; 8] {
    let mut a = [_mm256_setzero_ps(); 8];
    for i in 0..4 {
        a[2 * i] = _mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]);
    }
    let mut b = a;
    for i in 0..2 {
        b[4 * i] = _mm256_shuffle_ps(a[4 * i], a[4 * i + 2], 0x44);
        b[4 * i + 1] = _mm256_shuffle_ps(a[4 * i], a[4 * i + 2], 0xee);
        b[4 * i + 2] = _mm256_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0x44);
        b[4 * i + 3] = _mm256_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0xee);
    }
    let mut c = b;
    for i in 0..4 {
        c[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        c[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
    c
}

/// Below it e^x counts as 0, above [`HIGHEST`] as e to that.
pub(in crate::kernels::cpu) const LOWEST: f32 = -87.3;
/// See [`LOWEST`].
pub(in crate::kernels::cpu) const HIGHEST: f32 = 88.3;
/// ln 2 in two parts, the first with so few bits that an exponent times it is exact.
pub(in crate::kernels::cpu) const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// Of e^r for the r that is left, the highest power first.
pub(in crate::kernels::cpu) const TERMS: [f32; 8] = [
    1.0 / 5040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
    1.0,
    1.0,
];

/// e^x: x = n ln 2 + r with |r| <= ln 2 / 2, Taylor's sum to degree 7 for e^r (its next term is 5e-9), times 2^n.
///
/// Below -87.3 exactly 0, above 88.3 the value there (2.2e38); NaN stays NaN.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn exp(x: __m256) -> __m256 {
    let c = |v: f32| _mm256_set1_ps(v);
    let vanishes = _mm256_cmp_ps(x, c(LOWEST), _CMP_LT_OQ);
    // In this order a NaN in x comes through.
    let x = _mm256_min_ps(c(HIGHEST), _mm256_max_ps(c(LOWEST), x));
    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    let n = _mm256_round_ps(_mm256_mul_ps(x, c(std::f32::consts::LOG2_E)), NEAREST);
    let r = _mm256_fnmadd_ps(n, c(LN2[0]), x);
    let r = _mm256_fnmadd_ps(n, c(LN2[1]), r);
    let mut p = c(TERMS[0]);
    for term in &TERMS[1..] {
        p = _mm256_fmadd_ps(p, r, c(*term));
    }
    let power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    _mm256_andnot_ps(vanishes, _mm256_mul_ps(p, _mm256_castsi256_ps(power)))
}

/// 1 - 2 / (e^2x + 1).
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn tanh(x: __m256) -> __m256 {
    let one = _mm256_set1_ps(1.0);
    let e = exp(_mm256_add_ps(x, x));
    _mm256_sub_ps(one, _mm256_div_ps(_mm256_set1_ps(2.0), _mm256_add_ps(e, one)))
}

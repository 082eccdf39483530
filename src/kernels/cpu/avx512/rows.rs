//! Vectors of 16 rows for the unpackers: two strips.

use std::arch::x86_64::*;

use crate::kernels::cpu::avx2::unpack::{Rows, plain_operations};

// SAFETY: 16 rows, two strips; AVX-512 F and BW.
unsafe impl Rows for __m512i {
    type Real = __m512;

    #[inline(always)]
    unsafe fn transpose(p: *const u8, stride: usize) -> [Self; 4] {
        // SAFETY: the trait's contract.
        unsafe {
            // Quarter q of vector j is row 4 q + j: the unpacking below works within quarters.
            let x: [__m512i; 4] = std::array::from_fn(|j| {
                let row = |q: usize| _mm_loadu_si128(p.add((4 * q + j) * stride).cast());
                let v = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(row(0)), row(1));
                _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(v, row(2)), row(3))
            });
            let (a, b) = (_mm512_unpacklo_epi32(x[0], x[1]), _mm512_unpacklo_epi32(x[2], x[3]));
            let (c, d) = (_mm512_unpackhi_epi32(x[0], x[1]), _mm512_unpackhi_epi32(x[2], x[3]));
            [
                _mm512_unpacklo_epi64(a, b),
                _mm512_unpackhi_epi64(a, b),
                _mm512_unpacklo_epi64(c, d),
                _mm512_unpackhi_epi64(c, d),
            ]
        }
    }

    #[inline(always)]
    unsafe fn two_halfs(self) -> (__m512, __m512) {
        // SAFETY: the trait's contract.
        unsafe {
            (
                _mm512_cvtph_ps(_mm512_cvtepi32_epi16(self)),
                _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(self, 16))),
            )
        }
    }

    plain_operations! {
        put(self, p: *mut u8) { _mm512_storeu_si512(p.cast(), self) }
        put_real(v: __m512, p: *mut u8) { _mm512_storeu_ps(p.cast(), v) }
        splat(bits: i32) -> Self { _mm512_set1_epi32(bits) }
        and(self, other: Self) -> Self { _mm512_and_si512(self, other) }
        or(self, other: Self) -> Self { _mm512_or_si512(self, other) }
        xor(self, other: Self) -> Self { _mm512_xor_si512(self, other) }
        min_u8(self, other: Self) -> Self { _mm512_min_epu8(self, other) }
        add32(self, other: Self) -> Self { _mm512_add_epi32(self, other) }
        shl16(self, bits: i32) -> Self { _mm512_sll_epi16(self, _mm_cvtsi32_si128(bits)) }
        shr16(self, bits: i32) -> Self { _mm512_srl_epi16(self, _mm_cvtsi32_si128(bits)) }
        sar16(self, bits: i32) -> Self { _mm512_sra_epi16(self, _mm_cvtsi32_si128(bits)) }
        shl32(self, bits: i32) -> Self { _mm512_sll_epi32(self, _mm_cvtsi32_si128(bits)) }
        shr32(self, bits: i32) -> Self { _mm512_srl_epi32(self, _mm_cvtsi32_si128(bits)) }
        sar32(self, bits: i32) -> Self { _mm512_sra_epi32(self, _mm_cvtsi32_si128(bits)) }
        shuffle(self, index: Self) -> Self { _mm512_shuffle_epi8(self, index) }
        bytes(bytes: [i8; 16]) -> Self { _mm512_broadcast_i32x4(_mm_loadu_si128(bytes.as_ptr().cast())) }
        real(self) -> __m512 { _mm512_cvtepi32_ps(self) }
        as_real(self) -> __m512 { _mm512_castsi512_ps(self) }
        mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        mul_sub(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmsub_ps(a, b, c) }
    }
}

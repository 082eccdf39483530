//! The vectors that unpackers work on: a dword of each of 8 rows (AVX2) or of 16 (AVX-512), so that each format is written once.

use std::arch::x86_64::*;

/// Methods of one instruction.
macro_rules! plain_operations {
    ($($name:ident($($arg:tt)*) $(-> $out:ty)? { $body:expr })*) => {$(
        #[inline(always)]
        unsafe fn $name($($arg)*) $(-> $out)? {
            // SAFETY: the trait's contract.
            unsafe { $body }
        }
    )*};
}
pub(in crate::kernels::cpu) use plain_operations;

/// A vector of a dword for each of some rows.
///
/// # Safety
/// The methods are for CPUs with the level's features, and for functions that enable them: they are inlined there, and bare
/// calls would be slow. Pointers are to be readable (or writable) as far as the method says.
pub(in crate::kernels::cpu) unsafe trait Rows: Copy {
    /// An f32 for each row.
    type Real: Copy;

    /// 16 bytes of each row, row r's at `p + r * stride`, transposed: dword r of vector i = bytes 4i..4i+3 of row r. What the caller does
    /// not use of the result is not computed, so that this is also the cheapest way to one dword of each row.
    unsafe fn transpose(p: *const u8, stride: usize) -> [Self; 4];
    /// Stores all rows at `p`.
    unsafe fn put(self, p: *mut u8);
    /// Stores all rows at `p`.
    unsafe fn put_real(v: Self::Real, p: *mut u8);

    /// Each dword `bits`.
    unsafe fn splat(bits: i32) -> Self;
    unsafe fn and(self, other: Self) -> Self;
    unsafe fn or(self, other: Self) -> Self;
    unsafe fn xor(self, other: Self) -> Self;
    /// Smaller unsigned bytes.
    unsafe fn min_u8(self, other: Self) -> Self;
    /// Sums of dwords.
    unsafe fn add32(self, other: Self) -> Self;
    /// Words shifted left.
    unsafe fn shl16(self, bits: i32) -> Self;
    /// Words shifted right, zeros coming in.
    unsafe fn shr16(self, bits: i32) -> Self;
    /// Words shifted right, the sign coming in.
    unsafe fn sar16(self, bits: i32) -> Self;
    /// Dwords shifted left.
    unsafe fn shl32(self, bits: i32) -> Self;
    /// Dwords shifted right, zeros coming in.
    unsafe fn shr32(self, bits: i32) -> Self;
    /// Dwords shifted right, the sign coming in.
    unsafe fn sar32(self, bits: i32) -> Self;
    /// Byte i = byte `index_i` of the same 16 bytes of `self`.
    unsafe fn shuffle(self, index: Self) -> Self;
    /// The 16 bytes, again and again.
    unsafe fn bytes(bytes: [i8; 16]) -> Self;

    /// Signed dwords as f32.
    unsafe fn real(self) -> Self::Real;
    /// Dwords that are the bits of f32.
    unsafe fn as_real(self) -> Self::Real;
    /// The low and the high f16 of each dword.
    unsafe fn two_halfs(self) -> (Self::Real, Self::Real);
    unsafe fn mul(a: Self::Real, b: Self::Real) -> Self::Real;
    /// a * b - c.
    unsafe fn mul_sub(a: Self::Real, b: Self::Real, c: Self::Real) -> Self::Real;
}

// SAFETY: 8 rows, one strip; AVX2, FMA and F16C.
unsafe impl Rows for __m256i {
    type Real = __m256;

    #[inline(always)]
    unsafe fn transpose(p: *const u8, stride: usize) -> [Self; 4] {
        // SAFETY: the trait's contract.
        unsafe {
            let x: [__m256i; 4] = std::array::from_fn(|r| {
                let low = _mm_loadu_si128(p.add(r * stride).cast());
                let high = _mm_loadu_si128(p.add((r + 4) * stride).cast());
                _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1)
            });
            let (a, b) = (_mm256_unpacklo_epi32(x[0], x[1]), _mm256_unpacklo_epi32(x[2], x[3]));
            let (c, d) = (_mm256_unpackhi_epi32(x[0], x[1]), _mm256_unpackhi_epi32(x[2], x[3]));
            [
                _mm256_unpacklo_epi64(a, b),
                _mm256_unpackhi_epi64(a, b),
                _mm256_unpacklo_epi64(c, d),
                _mm256_unpackhi_epi64(c, d),
            ]
        }
    }

    #[inline(always)]
    unsafe fn two_halfs(self) -> (__m256, __m256) {
        // SAFETY: the trait's contract.
        unsafe {
            let narrow = |v| _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
            let low = _mm256_and_si256(self, _mm256_set1_epi32(0xffff));
            (
                _mm256_cvtph_ps(narrow(low)),
                _mm256_cvtph_ps(narrow(_mm256_srli_epi32(self, 16))),
            )
        }
    }

    plain_operations! {
        put(self, p: *mut u8) { _mm256_storeu_si256(p.cast(), self) }
        put_real(v: __m256, p: *mut u8) { _mm256_storeu_ps(p.cast(), v) }
        splat(bits: i32) -> Self { _mm256_set1_epi32(bits) }
        and(self, other: Self) -> Self { _mm256_and_si256(self, other) }
        or(self, other: Self) -> Self { _mm256_or_si256(self, other) }
        xor(self, other: Self) -> Self { _mm256_xor_si256(self, other) }
        min_u8(self, other: Self) -> Self { _mm256_min_epu8(self, other) }
        add32(self, other: Self) -> Self { _mm256_add_epi32(self, other) }
        shl16(self, bits: i32) -> Self { _mm256_sll_epi16(self, _mm_cvtsi32_si128(bits)) }
        shr16(self, bits: i32) -> Self { _mm256_srl_epi16(self, _mm_cvtsi32_si128(bits)) }
        sar16(self, bits: i32) -> Self { _mm256_sra_epi16(self, _mm_cvtsi32_si128(bits)) }
        shl32(self, bits: i32) -> Self { _mm256_sll_epi32(self, _mm_cvtsi32_si128(bits)) }
        shr32(self, bits: i32) -> Self { _mm256_srl_epi32(self, _mm_cvtsi32_si128(bits)) }
        sar32(self, bits: i32) -> Self { _mm256_sra_epi32(self, _mm_cvtsi32_si128(bits)) }
        shuffle(self, index: Self) -> Self { _mm256_shuffle_epi8(self, index) }
        bytes(bytes: [i8; 16]) -> Self { _mm256_broadcastsi128_si256(_mm_loadu_si128(bytes.as_ptr().cast())) }
        real(self) -> __m256 { _mm256_cvtepi32_ps(self) }
        as_real(self) -> __m256 { _mm256_castsi256_ps(self) }
        mul(a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
        mul_sub(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmsub_ps(a, b, c) }
    }
}

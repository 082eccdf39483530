//! Blocks to panels: the only code that knows a format.
//!
//! A **strip** is 8 weight rows; for each 32 columns (a group) it has some lines of 32 bytes, one dword or f32 a row:
//!
//! ```text
//! bytes:  8 lines   codes, unsigned: dword r of line i = codes 4i..4i+3 of row r
//!         1 line    f32 scale of each row     (2 lines with HALVES = 2: of columns 0..16 and 16..32)
//!         1 line    f32 minimum of each row, with MIN   (likewise 2 lines with HALVES = 2)
//! words:  8 lines   dword r = codes 4i, 4i+2 of row r as i16;  8 lines: codes 4i+1, 4i+3
//!         1 line    f32 scale
//! ```
//! so that weight = scale * (code - ZERO) + minimum. Words are signed and have no ZERO, halves or minimum: they are for formats
//! of 8-bit values (Q8_0, and IQ4, whose 4-bit codes stand for such). A panel has R strips with their lines interleaved: line l
//! of strip r is at `(l * R + r) * 32`. Decode uses R = 1 and one block at a time, prefill R = 2 and as many columns as the
//! cache holds.
//!
//! Unpacking is nearly free because the *packed* codes are transposed (8 rows x 16 bytes at a time), then split by shifts.
//!
//! To add a format: its `Unpack` in the file of its family, its line in [`matmul`](super::matmul) and in the tests here, its line in
//! [`PARTNERS`](crate::kernels::cpu::PARTNERS).

mod k;
mod plain;
mod table;
#[cfg(test)]
mod tests;

pub(in crate::kernels::cpu) use k::{Q2_K, Q3_K, Q4_K, Q5_K, Q6_K};
pub(in crate::kernels::cpu) use plain::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
pub(in crate::kernels::cpu) use table::{IQ4_NL, IQ4_XS, MXFP4};

use std::arch::x86_64::*;

/// Bytes of a line.
pub(in crate::kernels::cpu) const LINE: usize = 32;

/// How a format gets into a strip.
///
/// # Safety
/// The constants describe what `unpack` reads and writes; kernels rely on them.
pub(in crate::kernels::cpu) unsafe trait Unpack {
    /// Bytes of a block in the file.
    const BYTES: usize;
    /// 32-column groups in a block.
    const GROUPS: usize;
    /// Codes are 16-bit words, multiplied with int16 activations.
    const WORDS: bool = false;
    /// What is subtracted from a code; see the bounds in [`prefill`](super::prefill).
    const ZERO: i16 = 0;
    /// Scales a group and row: 1 or 2.
    const HALVES: usize = 1;
    /// Whether there are minima, one for each scale.
    const MIN: bool = false;
    /// Lines of codes; the first scale's line.
    const CODES: usize = if Self::WORDS { 16 } else { 8 };
    /// The first minimum's line.
    const MINS: usize = Self::CODES + Self::HALVES;
    /// Lines of a group.
    const LINES: usize = if Self::MIN {
        Self::MINS + Self::HALVES
    } else {
        Self::MINS
    };

    /// Unpacks one block of 8 rows: row r's is at `p + r * stride`.
    ///
    /// # Safety
    /// The CPU has AVX2, FMA and F16C; the 8 blocks are readable; `out` is strip r of a panel of R strips that has room for
    /// GROUPS groups.
    unsafe fn unpack<const R: usize>(p: *const u8, stride: usize, out: *mut u8);
}

/// sum + x * (8 weights of column `at` (< 32) of a group: strip r of R).
///
/// # Safety
/// The CPU has AVX2, FMA and F16C; `group` is a group of strip r of a panel of R strips that F (bytes) has written.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn column<F: Unpack, const R: usize>(group: *const u8, at: usize, x: __m256, sum: __m256) -> __m256 {
    // SAFETY: lines of the group.
    let line = |l: usize| unsafe { _mm256_loadu_si256(group.add(l * R * LINE).cast()) };
    // Byte at % 4 of each dword, the others zero (0x80 in the index).
    let dword = |i: u32| (0x8080_8000 + i * 4) as i32;
    let first = _mm256_broadcastsi128_si256(_mm_setr_epi32(dword(0), dword(1), dword(2), dword(3)));
    let byte = _mm256_add_epi32(first, _mm256_set1_epi32(at as i32 % 4));
    let code = _mm256_cvtepi32_ps(_mm256_shuffle_epi8(line(at / 4), byte));
    let code = _mm256_sub_ps(code, _mm256_set1_ps(f32::from(F::ZERO)));
    let half = if F::HALVES == 2 { at / 16 } else { 0 };
    let mut weight = _mm256_mul_ps(code, _mm256_castsi256_ps(line(F::CODES + half)));
    if F::MIN {
        weight = _mm256_add_ps(weight, _mm256_castsi256_ps(line(F::MINS + half)));
    }
    _mm256_fmadd_ps(weight, x, sum)
}

/// Where a strip's lines are written.
#[derive(Clone, Copy)]
struct Strip<const R: usize>(*mut u8);

impl<const R: usize> Strip<R> {
    /// # Safety
    /// Line `l` is within the strip.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn put(self, l: usize, v: __m256i) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_si256(self.0.add(l * R * LINE).cast(), v) }
    }

    /// # Safety
    /// As `put`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn put_ps(self, l: usize, v: __m256) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_ps(self.0.add(l * R * LINE).cast(), v) }
    }
}

/// 16 bytes of 8 rows, transposed as dwords: dword r of vector i = bytes 4i..4i+3 of row r.
///
/// # Safety
/// Readable.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn transpose(p: *const u8, stride: usize) -> [__m256i; 4] {
    let row = |r: usize| {
        // SAFETY: the caller's promise, for rows r and r + 4.
        unsafe {
            let low = _mm_loadu_si128(p.add(r * stride).cast());
            let high = _mm_loadu_si128(p.add((r + 4) * stride).cast());
            _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1)
        }
    };
    let (x0, x1, x2, x3) = (row(0), row(1), row(2), row(3));
    let (a, b) = (_mm256_unpacklo_epi32(x0, x1), _mm256_unpacklo_epi32(x2, x3));
    let (c, d) = (_mm256_unpackhi_epi32(x0, x1), _mm256_unpackhi_epi32(x2, x3));
    [
        _mm256_unpacklo_epi64(a, b),
        _mm256_unpackhi_epi64(a, b),
        _mm256_unpacklo_epi64(c, d),
        _mm256_unpackhi_epi64(c, d),
    ]
}

/// One dword of each of 8 rows.
///
/// # Safety
/// Readable.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dwords(p: *const u8, stride: usize) -> __m256i {
    // SAFETY: the caller's promise.
    let d = |r: usize| unsafe { p.add(r * stride).cast::<i32>().read_unaligned() };
    _mm256_setr_epi32(d(0), d(1), d(2), d(3), d(4), d(5), d(6), d(7))
}

/// One f16 of each of 8 rows.
///
/// # Safety
/// Readable.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn halfs(p: *const u8, stride: usize) -> __m256 {
    // SAFETY: the caller's promise.
    let h = |r: usize| unsafe { p.add(r * stride).cast::<i16>().read_unaligned() };
    _mm256_cvtph_ps(_mm_setr_epi16(h(0), h(1), h(2), h(3), h(4), h(5), h(6), h(7)))
}

/// The low and the high f16 of each dword.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn two_halfs(v: __m256i) -> (__m256, __m256) {
    let narrow = |v| _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    let low = _mm256_and_si256(v, _mm256_set1_epi32(0xffff));
    (
        _mm256_cvtph_ps(narrow(low)),
        _mm256_cvtph_ps(narrow(_mm256_srli_epi32(v, 16))),
    )
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn and(v: __m256i, byte: i8) -> __m256i {
    _mm256_and_si256(v, _mm256_set1_epi8(byte))
}

/// 16 packed bytes of 4-bit codes of 8 rows as lines: low halves are columns 0..16 (lines 0..4), high halves columns 16..32
/// (lines 4..8).
///
/// # Safety
/// Readable.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn nibbles(p: *const u8, stride: usize) -> [__m256i; 8] {
    // SAFETY: the caller's promise.
    let v = unsafe { transpose(p, stride) };
    std::array::from_fn(|l| {
        if l < 4 {
            and(v[l], 15)
        } else {
            and(_mm256_srli_epi16(v[l - 4], 4), 15)
        }
    })
}

/// One line of signed bytes as two lines of words: those of line `l` of the byte layout.
///
/// # Safety
/// As [`Unpack::unpack`], with WORDS.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn put_words<const R: usize>(out: Strip<R>, l: usize, v: __m256i) {
    // SAFETY: the caller's promise.
    unsafe {
        out.put(l, _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8));
        out.put(8 + l, _mm256_srai_epi16(v, 8));
    }
}

//! Blocks to panels: the only code that knows a format.
//!
//! A **strip** is 8 weight rows; for each 32 columns it has some lines of 32 bytes, one dword or f32 a row:
//!
//! ```text
//! bytes (Q4 to Q6):  8 lines   codes, unsigned: dword r of line i = codes 4i..4i+3 of row r
//!                    1 line    f32 scale of each row   (2 lines with HALVES = 2: of columns 0..16 and 16..32)
//!                    1 line    f32 minimum of each row, with MIN
//! words (Q8_0):      8 lines   dword r = codes 4i, 4i+2 of row r as i16;  8 lines: codes 4i+1, 4i+3
//!                    1 line    f32 scale
//! ```
//! so that weight = scale * (code - ZERO) + minimum. A panel has R strips with their lines interleaved: line l of strip r is at
//! `(l * R + r) * 32`. Decode uses R = 1 and one block at a time, prefill R = 2 and as many columns as the cache holds.
//!
//! Unpacking is nearly free because the *packed* codes are transposed (8 rows x 16 bytes at a time), then split by shifts.
//!
//! To add a format: its `Unpack` here, its line in [`matmul`](super::matmul), its line in [`PARTNERS`](crate::kernels::cpu::PARTNERS).

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
    /// Whether there is a minimum.
    const MIN: bool = false;
    /// Lines of codes.
    const CODES: usize = if Self::WORDS { 16 } else { 8 };
    /// Lines of a group.
    const LINES: usize = Self::CODES + Self::HALVES + Self::MIN as usize;

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
pub(in crate::kernels::cpu) unsafe fn column<F: Unpack, const R: usize>(
    group: *const u8,
    at: usize,
    x: __m256,
    sum: __m256,
) -> __m256 {
    // SAFETY: lines of the group.
    let line = |l: usize| unsafe { _mm256_loadu_si256(group.add(l * R * LINE).cast()) };
    // Byte at % 4 of each dword, the others zero (0x80 in the index).
    let dword = |i: u32| (0x8080_8000 + i * 4) as i32;
    let first = _mm256_broadcastsi128_si256(_mm_setr_epi32(dword(0), dword(1), dword(2), dword(3)));
    let byte = _mm256_add_epi32(first, _mm256_set1_epi32(at as i32 % 4));
    let code = _mm256_cvtepi32_ps(_mm256_shuffle_epi8(line(at / 4), byte));
    let code = _mm256_sub_ps(code, _mm256_set1_ps(f32::from(F::ZERO)));
    let half = if F::HALVES == 2 { at / 16 } else { 0 };
    let mut weight = _mm256_mul_ps(code, _mm256_castsi256_ps(line(8 + half)));
    if F::MIN {
        weight = _mm256_add_ps(weight, _mm256_castsi256_ps(line(8 + F::HALVES)));
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

/// 16 packed bytes of 4-bit codes: low halves are columns 0..16 (lines 0..4), high halves columns 16..32 (lines 4..8).
///
/// # Safety
/// As [`Unpack::unpack`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn nibbles<const R: usize>(p: *const u8, stride: usize, out: Strip<R>) {
    // SAFETY: the caller's promise.
    unsafe {
        for (i, v) in transpose(p, stride).into_iter().enumerate() {
            out.put(i, and(v, 15));
            out.put(4 + i, and(_mm256_srli_epi16(v, 4), 15));
        }
    }
}

/// The same with a fifth bit: bit c of `bits` (a dword a row) belongs to column c.
///
/// # Safety
/// As [`Unpack::unpack`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn nibbles_and_bits<const R: usize>(p: *const u8, bits: __m256i, stride: usize, out: Strip<R>) {
    // Byte b of each dword copied to all four: the bits of lines 2b and 2b + 1.
    let copy = |b: i32| {
        let word = b * 0x0101_0101;
        let low = _mm_setr_epi32(word, word + 0x0404_0404, word + 0x0808_0808, word + 0x0c0c_0c0c);
        _mm256_shuffle_epi8(bits, _mm256_broadcastsi128_si256(low))
    };
    // Byte j keeps bit 4 + j, which is at least 16 if set: the minimum with 16 moves it to bit 4.
    let select = _mm256_set1_epi32(0x8040_2010u32 as i32);
    let fifth = |v| _mm256_min_epu8(_mm256_and_si256(v, select), _mm256_set1_epi8(16));
    // SAFETY: the caller's promise.
    unsafe {
        let v = transpose(p, stride);
        for b in 0..2 {
            let (low, high) = (copy(b as i32), copy(b as i32 + 2));
            for odd in 0..2 {
                let i = 2 * b + odd;
                // Even lines use the low half of the copied byte: shift it up.
                let shift = |v| if odd == 0 { _mm256_slli_epi16(v, 4) } else { v };
                out.put(i, _mm256_or_si256(and(v[i], 15), fifth(shift(low))));
                out.put(
                    4 + i,
                    _mm256_or_si256(and(_mm256_srli_epi16(v[i], 4), 15), fifth(shift(high))),
                );
            }
        }
    }
}

pub(in crate::kernels::cpu) struct Q4_0;

// SAFETY: reads 2 + 16 bytes a row, writes 9 lines.
unsafe impl Unpack for Q4_0 {
    const BYTES: usize = 18;
    const GROUPS: usize = 1;
    const ZERO: i16 = 8;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn unpack<const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise.
        unsafe {
            nibbles(p.add(2), stride, out);
            out.put_ps(8, halfs(p, stride));
        }
    }
}

pub(in crate::kernels::cpu) struct Q4_1;

// SAFETY: reads 4 + 16 bytes a row, writes 10 lines.
unsafe impl Unpack for Q4_1 {
    const BYTES: usize = 20;
    const GROUPS: usize = 1;
    const MIN: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn unpack<const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise.
        unsafe {
            nibbles(p.add(4), stride, out);
            let (d, m) = two_halfs(dwords(p, stride));
            out.put_ps(8, d);
            out.put_ps(9, m);
        }
    }
}

pub(in crate::kernels::cpu) struct Q5_0;

// SAFETY: reads 2 + 4 + 16 bytes a row, writes 9 lines.
unsafe impl Unpack for Q5_0 {
    const BYTES: usize = 22;
    const GROUPS: usize = 1;
    const ZERO: i16 = 16;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn unpack<const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise.
        unsafe {
            nibbles_and_bits(p.add(6), dwords(p.add(2), stride), stride, out);
            out.put_ps(8, halfs(p, stride));
        }
    }
}

pub(in crate::kernels::cpu) struct Q5_1;

// SAFETY: reads 4 + 4 + 16 bytes a row, writes 10 lines.
unsafe impl Unpack for Q5_1 {
    const BYTES: usize = 24;
    const GROUPS: usize = 1;
    // Unsigned sums of 16 products of 31 * 127 would not fit an i16 lane: d q + m = d (q - 16) + (m + 16 d).
    const ZERO: i16 = 16;
    const MIN: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn unpack<const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise.
        unsafe {
            nibbles_and_bits(p.add(8), dwords(p.add(4), stride), stride, out);
            let (d, m) = two_halfs(dwords(p, stride));
            out.put_ps(8, d);
            out.put_ps(9, _mm256_fmadd_ps(d, _mm256_set1_ps(16.0), m));
        }
    }
}

pub(in crate::kernels::cpu) struct Q8_0;

// SAFETY: reads 2 + 32 bytes a row, writes 17 lines.
unsafe impl Unpack for Q8_0 {
    const BYTES: usize = 34;
    const GROUPS: usize = 1;
    const WORDS: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn unpack<const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise.
        unsafe {
            for half in 0..2 {
                for (i, v) in transpose(p.add(2 + 16 * half), stride).into_iter().enumerate() {
                    let i = 4 * half + i;
                    out.put(i, _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8));
                    out.put(8 + i, _mm256_srai_epi16(v, 8));
                }
            }
            out.put_ps(16, halfs(p, stride));
        }
    }
}

/// Byte `i` of each dword, unsigned, as f32.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn byte_ps(v: __m256i, i: usize) -> __m256 {
    let byte = _mm256_srl_epi32(v, _mm_cvtsi32_si128(8 * i as i32));
    _mm256_cvtepi32_ps(_mm256_and_si256(byte, _mm256_set1_epi32(255)))
}

/// The 16-byte head of Q4_K and Q5_K: writes scale d * s and minimum -dmin * m + shift * d * s of all 8 groups.
///
/// # Safety
/// As [`Unpack::unpack`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn k_head<const R: usize, const LINES: usize>(p: *const u8, stride: usize, shift: f32, out: Strip<R>) {
    // SAFETY: the caller's promise.
    let [ds, a, b, c] = unsafe { transpose(p, stride) };
    let (d, dmin) = two_halfs(ds);
    // Six bits: four groups lie in the low bits of a (scales) and b (minima), four are put together from c and the top bits.
    let top = |v| and(_mm256_srli_epi16(v, 2), 0x30);
    let scales = [and(a, 63), _mm256_or_si256(and(c, 15), top(a))];
    let mins = [and(b, 63), _mm256_or_si256(and(_mm256_srli_epi16(c, 4), 15), top(b))];
    for g in 0..8 {
        let scale = _mm256_mul_ps(d, byte_ps(scales[g / 4], g % 4));
        let min = _mm256_mul_ps(dmin, byte_ps(mins[g / 4], g % 4));
        // SAFETY: the caller's promise.
        unsafe {
            out.put_ps(g * LINES + 8, scale);
            out.put_ps(g * LINES + 9, _mm256_fmsub_ps(scale, _mm256_set1_ps(shift), min));
        }
    }
}

#[allow(non_camel_case_types)]
pub(in crate::kernels::cpu) struct Q4_K;

// SAFETY: reads 16 + 128 bytes a row, writes 8 groups of 10 lines.
unsafe impl Unpack for Q4_K {
    const BYTES: usize = 144;
    const GROUPS: usize = 8;
    const MIN: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn unpack<const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise; pair j of groups has 32 bytes, low halves for the first, high for the second.
        unsafe {
            k_head::<R, { Q4_K::LINES }>(p, stride, 0.0, out);
            for j in 0..4 {
                for half in 0..2 {
                    let v = transpose(p.add(16 + 32 * j + 16 * half), stride);
                    for (i, v) in v.into_iter().enumerate() {
                        out.put(2 * j * Self::LINES + 4 * half + i, and(v, 15));
                        out.put(
                            (2 * j + 1) * Self::LINES + 4 * half + i,
                            and(_mm256_srli_epi16(v, 4), 15),
                        );
                    }
                }
            }
        }
    }
}

#[allow(non_camel_case_types)]
pub(in crate::kernels::cpu) struct Q5_K;

// SAFETY: reads 16 + 32 + 128 bytes a row, writes 8 groups of 10 lines.
unsafe impl Unpack for Q5_K {
    const BYTES: usize = 176;
    const GROUPS: usize = 8;
    // As for Q5_1.
    const ZERO: i16 = 16;
    const MIN: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn unpack<const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise; bit g of byte c of the 32 high bytes belongs to column c of group g.
        unsafe {
            k_head::<R, { Q5_K::LINES }>(p, stride, 16.0, out);
            for half in 0..2 {
                let high = transpose(p.add(16 + 16 * half), stride);
                for j in 0..4 {
                    let v = transpose(p.add(48 + 32 * j + 16 * half), stride);
                    for (i, v) in v.into_iter().enumerate() {
                        // Bits 2j and 2j + 1 to bit 4.
                        let bits = _mm256_srl_epi16(high[i], _mm_cvtsi32_si128(2 * j as i32));
                        let first = and(_mm256_slli_epi16(bits, 4), 16);
                        let second = and(_mm256_slli_epi16(bits, 3), 16);
                        out.put(2 * j * Self::LINES + 4 * half + i, _mm256_or_si256(and(v, 15), first));
                        let v = and(_mm256_srli_epi16(v, 4), 15);
                        out.put((2 * j + 1) * Self::LINES + 4 * half + i, _mm256_or_si256(v, second));
                    }
                }
            }
        }
    }
}

#[allow(non_camel_case_types)]
pub(in crate::kernels::cpu) struct Q6_K;

// SAFETY: reads 128 + 64 + 16 + 2 bytes a row, writes 8 groups of 10 lines.
unsafe impl Unpack for Q6_K {
    const BYTES: usize = 210;
    const GROUPS: usize = 8;
    const ZERO: i16 = 32;
    const HALVES: usize = 2;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn unpack<const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise. For each 128 columns there are 64 bytes of low and 32 of high bits; columns c of
        // its four groups (c < 32) have their low bits in the halves of bytes c and 32 + c and their high bits in byte c.
        unsafe {
            for n in 0..2 {
                for half in 0..2 {
                    let a = transpose(p.add(64 * n + 16 * half), stride);
                    let b = transpose(p.add(64 * n + 32 + 16 * half), stride);
                    let high = transpose(p.add(128 + 32 * n + 16 * half), stride);
                    for i in 0..4 {
                        let at = |group: usize| (4 * n + group) * Self::LINES + 4 * half + i;
                        let or = |low, high| _mm256_or_si256(low, and(high, 0x30));
                        let upper = |v| and(_mm256_srli_epi16(v, 4), 15);
                        out.put(at(0), or(and(a[i], 15), _mm256_slli_epi16(high[i], 4)));
                        out.put(at(1), or(and(b[i], 15), _mm256_slli_epi16(high[i], 2)));
                        out.put(at(2), or(upper(a[i]), high[i]));
                        out.put(at(3), or(upper(b[i]), _mm256_srli_epi16(high[i], 2)));
                    }
                }
            }
            let d = halfs(p.add(208), stride);
            for (j, v) in transpose(p.add(192), stride).into_iter().enumerate() {
                for i in 0..4 {
                    let byte = _mm256_sll_epi32(v, _mm_cvtsi32_si128(24 - 8 * i as i32));
                    let scale = _mm256_cvtepi32_ps(_mm256_srai_epi32(byte, 24));
                    // Scale 4j + i: group 2j + i/2, half i%2.
                    out.put_ps((2 * j + i / 2) * Self::LINES + 8 + i % 2, _mm256_mul_ps(d, scale));
                }
            }
        }
    }
}

//! Blocks of 32 with codes in equal steps: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.

use std::arch::x86_64::*;

use super::{Strip, Unpack, and, dwords, halfs, nibbles, put_words, transpose, two_halfs};

/// [`nibbles`] with a fifth bit: bit c of `bits` (a dword a row) belongs to column c.
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

pub(crate) struct Q4_0;

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
            for (l, v) in nibbles(p.add(2), stride).into_iter().enumerate() {
                out.put(l, v);
            }
            out.put_ps(8, halfs(p, stride));
        }
    }
}

pub(crate) struct Q4_1;

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
            for (l, v) in nibbles(p.add(4), stride).into_iter().enumerate() {
                out.put(l, v);
            }
            let (d, m) = two_halfs(dwords(p, stride));
            out.put_ps(8, d);
            out.put_ps(9, m);
        }
    }
}

pub(crate) struct Q5_0;

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

pub(crate) struct Q5_1;

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

pub(crate) struct Q8_0;

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
                    put_words(out, 4 * half + i, v);
                }
            }
            out.put_ps(16, halfs(p, stride));
        }
    }
}

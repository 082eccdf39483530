//! Codes of 4 bits that stand for the values of a table: IQ4_NL, IQ4_XS, MXFP4.
//!
//! A byte shuffle looks up 32 codes at once. MXFP4's values (-12..=12) become unsigned bytes around 12. Those of IQ4 (-127..=113)
//! span 240: no `maddubs` pair of such bytes fits (2 * 240 * 127 > 32767), and moved into the sign they would have to be
//! widened after every step. As words with int16 activations they cost the same and are 256 times as accurate.

use std::arch::x86_64::*;

use super::{Strip, Unpack, dwords, halfs, nibbles, put_words, two_halfs};
use crate::quant::{iq4_nl, mxfp4};

/// The table's value of each code.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn look_up(table: &[i8; 16], codes: __m256i) -> __m256i {
    // SAFETY: 16 bytes.
    let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
    _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), codes)
}

#[allow(non_camel_case_types)]
pub(crate) struct IQ4_NL;

// SAFETY: reads 2 + 16 bytes a row, writes 17 lines.
unsafe impl Unpack for IQ4_NL {
    const BYTES: usize = 18;
    const GROUPS: usize = 1;
    const WORDS: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn unpack<const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise.
        unsafe {
            for (l, v) in nibbles(p.add(2), stride).into_iter().enumerate() {
                put_words(out, l, look_up(&iq4_nl::VALUES, v));
            }
            out.put_ps(Self::CODES, halfs(p, stride));
        }
    }
}

#[allow(non_camel_case_types)]
pub(crate) struct IQ4_XS;

// SAFETY: reads 8 + 128 bytes a row, writes 8 groups of 17 lines.
unsafe impl Unpack for IQ4_XS {
    const BYTES: usize = 136;
    const GROUPS: usize = 8;
    const WORDS: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn unpack<const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise; 2 bytes of d, then bits 2g of a u16 over bits 4g of a u32 are the sub-scale of group g.
        unsafe {
            let (head, low) = (dwords(p, stride), dwords(p.add(4), stride));
            let (d, _) = two_halfs(head);
            let dword_and = |v, bits| _mm256_and_si256(v, _mm256_set1_epi32(bits));
            for g in 0..Self::GROUPS {
                for (l, v) in nibbles(p.add(8 + 16 * g), stride).into_iter().enumerate() {
                    put_words(out, g * Self::LINES + l, look_up(&iq4_nl::VALUES, v));
                }
                let low = _mm256_srl_epi32(low, _mm_cvtsi32_si128(4 * g as i32));
                let high = _mm256_srl_epi32(head, _mm_cvtsi32_si128(12 + 2 * g as i32));
                let scale = _mm256_or_si256(dword_and(low, 15), dword_and(high, 0x30));
                let scale = _mm256_cvtepi32_ps(_mm256_sub_epi32(scale, _mm256_set1_epi32(32)));
                out.put_ps(g * Self::LINES + Self::CODES, _mm256_mul_ps(d, scale));
            }
        }
    }
}

pub(crate) struct MXFP4;

impl MXFP4 {
    /// The values, each plus ZERO.
    const VALUES: [i8; 16] = {
        let (mut values, mut i) = (mxfp4::VALUES, 0);
        while i < 16 {
            values[i] += Self::ZERO as i8;
            i += 1;
        }
        values
    };
}

// SAFETY: reads 1 + 16 bytes a row, writes 9 lines.
unsafe impl Unpack for MXFP4 {
    const BYTES: usize = 17;
    const GROUPS: usize = 1;
    const ZERO: i16 = 12;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn unpack<const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise.
        unsafe {
            for (l, v) in nibbles(p.add(1), stride).into_iter().enumerate() {
                out.put(l, look_up(&Self::VALUES, v));
            }
            let e = |r: usize| i32::from(*p.add(r * stride));
            let e = _mm256_setr_epi32(e(0), e(1), e(2), e(3), e(4), e(5), e(6), e(7));
            // 2^(e - 128): from e = 2 on normal, its exponent is e - 1; below a denormal.
            let normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
            let denormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x0020_0000), e);
            let small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e);
            let scale = _mm256_blendv_epi8(normal, denormal, small);
            out.put(Self::CODES, scale);
        }
    }
}

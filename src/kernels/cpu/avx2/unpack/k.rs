//! K-quants, blocks of 256 with sub-scales: Q2_K to Q6_K.

use std::arch::x86_64::*;

use super::{Strip, Unpack, and, dwords, halfs, transpose, two_halfs};

/// Byte `i` of each dword, unsigned, as f32.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn byte_ps(v: __m256i, i: usize) -> __m256 {
    let byte = _mm256_srl_epi32(v, _mm_cvtsi32_si128(8 * i as i32));
    _mm256_cvtepi32_ps(_mm256_and_si256(byte, _mm256_set1_epi32(255)))
}

/// Words moved up by so many bits, or down.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn up(v: __m256i, bits: i32) -> __m256i {
    if bits < 0 {
        _mm256_srl_epi16(v, _mm_cvtsi32_si128(-bits))
    } else {
        _mm256_sll_epi16(v, _mm_cvtsi32_si128(bits))
    }
}

/// The 64 bytes of 2-bit codes of Q2_K and Q3_K: each 32 bytes are four groups, bits 2k and 2k + 1 of byte c are column c of the
/// k-th. Writes what `also(group, half of it, line in the half, codes)` makes of them.
///
/// # Safety
/// As [`Unpack::unpack`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn two_bits<const R: usize, const LINES: usize>(
    p: *const u8,
    stride: usize,
    out: Strip<R>,
    also: impl Fn(usize, usize, usize, __m256i) -> __m256i,
) {
    for n in 0..2 {
        for half in 0..2 {
            // SAFETY: the caller's promise.
            let v = unsafe { transpose(p.add(32 * n + 16 * half), stride) };
            for k in 0..4 {
                let group = 4 * n + k;
                for (i, v) in v.into_iter().enumerate() {
                    let codes = and(up(v, -2 * k as i32), 3);
                    // SAFETY: the caller's promise.
                    unsafe { out.put(group * LINES + 4 * half + i, also(group, half, i, codes)) };
                }
            }
        }
    }
}

#[allow(non_camel_case_types)]
pub(crate) struct Q2_K;

// SAFETY: reads 16 + 64 + 4 bytes a row, writes 8 groups of 12 lines.
unsafe impl Unpack for Q2_K {
    const BYTES: usize = 84;
    const GROUPS: usize = 8;
    const HALVES: usize = 2;
    const MIN: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn unpack<const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise; byte s of the first 16 belongs to half s % 2 of group s / 2.
        unsafe {
            two_bits::<R, { Q2_K::LINES }>(p.add(16), stride, out, |_, _, _, v| v);
            let (d, dmin) = two_halfs(dwords(p.add(80), stride));
            let dmin = _mm256_sub_ps(_mm256_setzero_ps(), dmin);
            for (j, v) in transpose(p, stride).into_iter().enumerate() {
                let (scales, mins) = (and(v, 15), and(_mm256_srli_epi16(v, 4), 15));
                for i in 0..4 {
                    let line = (2 * j + i / 2) * Self::LINES + i % 2;
                    out.put_ps(line + Self::CODES, _mm256_mul_ps(d, byte_ps(scales, i)));
                    out.put_ps(line + Self::MINS, _mm256_mul_ps(dmin, byte_ps(mins, i)));
                }
            }
        }
    }
}

#[allow(non_camel_case_types)]
pub(crate) struct Q3_K;

// SAFETY: reads 32 + 64 + 12 + 2 bytes a row, writes 8 groups of 10 lines.
unsafe impl Unpack for Q3_K {
    const BYTES: usize = 110;
    const GROUPS: usize = 8;
    const ZERO: i16 = 4;
    const HALVES: usize = 2;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn unpack<const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise; bit g of byte c of the first 32 is the third of column c of group g.
        unsafe {
            let third = [transpose(p, stride), transpose(p.add(16), stride)];
            two_bits::<R, { Q3_K::LINES }>(p.add(32), stride, out, |group, half, i, v| {
                _mm256_or_si256(v, and(up(third[half][i], 2 - group as i32), 4))
            });
            // The last 16 bytes: two of codes, 12 of sub-scales, d. Sub-scale s = 4 j + i has its low bits in half j / 2 of byte
            // 4 (j % 2) + i, its upper two at bit 2 j of byte 8 + i.
            let v = transpose(p.add(94), stride);
            let dword = |i: usize| _mm256_or_si256(_mm256_srli_epi32(v[i], 16), _mm256_slli_epi32(v[i + 1], 16));
            let (low, high) = ([dword(0), dword(1)], dword(2));
            let (_, d) = two_halfs(v[3]);
            for j in 0..4 {
                let low = up(low[j % 2], -4 * (j as i32 / 2));
                let scales = _mm256_or_si256(and(low, 15), and(up(high, 4 - 2 * j as i32), 0x30));
                for i in 0..4 {
                    let scale = _mm256_sub_ps(byte_ps(scales, i), _mm256_set1_ps(32.0));
                    let line = (2 * j + i / 2) * Self::LINES + Self::CODES + i % 2;
                    out.put_ps(line, _mm256_mul_ps(d, scale));
                }
            }
        }
    }
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
pub(crate) struct Q4_K;

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
pub(crate) struct Q5_K;

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
pub(crate) struct Q6_K;

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

//! K-quants, blocks of 256 with sub-scales: Q2_K to Q6_K.

use std::arch::aarch64::*;

use super::{Half, SCALES, Unpack, and, dwords, halfs, less, signed_byte, transpose, two_halfs};

/// Byte `i` of each dword unsigned, as f32.
#[inline]
#[target_feature(enable = "neon")]
fn byte(v: uint8x16_t, i: usize) -> float32x4_t {
    let byte = vshlq_u32(vreinterpretq_u32_u8(v), vdupq_n_s32(-8 * i as i32));
    vcvtq_f32_u32(vandq_u32(byte, vdupq_n_u32(255)))
}

/// Bytes moved up by so many bits, or down.
#[inline]
#[target_feature(enable = "neon")]
fn up(v: uint8x16_t, bits: i8) -> uint8x16_t {
    vshlq_u8(v, vdupq_n_s8(bits))
}

/// The 64 bytes of 2-bit codes of Q2_K and Q3_K: each 32 bytes are four groups, bits 2k and 2k + 1 of byte c are column c of the
/// k-th. Writes what `also(group, half of it, line in the half, codes)` makes of them.
///
/// # Safety
/// As [`Unpack::unpack`].
#[inline]
#[target_feature(enable = "neon")]
unsafe fn two_bits<const LINES: usize>(
    p: *const u8,
    stride: usize,
    out: Half,
    also: impl Fn(usize, usize, usize, uint8x16_t) -> uint8x16_t,
) {
    for n in 0..2 {
        for half in 0..2 {
            // SAFETY: the caller's promise.
            let v = unsafe { transpose(p.add(32 * n + 16 * half), stride) };
            for k in 0..4 {
                let group = 4 * n + k;
                for (i, v) in v.into_iter().enumerate() {
                    let codes = and(up(v, -2 * k as i8), 3);
                    // SAFETY: the caller's promise.
                    unsafe { out.put(group * LINES + 4 * half + i, also(group, half, i, codes)) };
                }
            }
        }
    }
}

#[allow(non_camel_case_types)]
pub(in super::super) struct Q2_K;

// SAFETY: reads 16 + 64 + 4 bytes a row, writes 8 groups of 12 lines; codes 0..=3.
unsafe impl Unpack for Q2_K {
    const BYTES: usize = 84;
    const GROUPS: usize = 8;
    const HALVES: usize = 2;
    const MIN: bool = true;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn unpack(p: *const u8, stride: usize, out: Half) {
        // SAFETY: the caller's promise; byte s of the first 16 belongs to half s % 2 of group s / 2.
        unsafe {
            two_bits::<{ Q2_K::LINES }>(p.add(16), stride, out, |_, _, _, v| v);
            let (d, dmin) = two_halfs(dwords(p.add(80), stride));
            for (j, v) in transpose(p, stride).into_iter().enumerate() {
                let (scales, mins) = (and(v, 15), vshrq_n_u8::<4>(v));
                for i in 0..4 {
                    let line = (2 * j + i / 2) * Self::LINES + i % 2;
                    out.put_f32(line + SCALES, vmulq_f32(d, byte(scales, i)));
                    out.put_f32(line + Self::MINS, vnegq_f32(vmulq_f32(dmin, byte(mins, i))));
                }
            }
        }
    }
}

#[allow(non_camel_case_types)]
pub(in super::super) struct Q3_K;

// SAFETY: reads 32 + 64 + 12 + 2 bytes a row, writes 8 groups of 10 lines; codes -4..=3.
unsafe impl Unpack for Q3_K {
    const BYTES: usize = 110;
    const GROUPS: usize = 8;
    const HALVES: usize = 2;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn unpack(p: *const u8, stride: usize, out: Half) {
        // SAFETY: the caller's promise; bit g of byte c of the first 32 is the third of column c of group g.
        unsafe {
            let third = [transpose(p, stride), transpose(p.add(16), stride)];
            two_bits::<{ Q3_K::LINES }>(p.add(32), stride, out, |group, half, i, v| {
                less(vorrq_u8(v, and(up(third[half][i], 2 - group as i8), 4)), 4)
            });
            // Sub-scale s = 4j + i has its low bits in half j / 2 of byte 4 (j % 2) + i of 12, its upper two at bit 2j of byte 8 + i.
            let dword = |i: usize| vreinterpretq_u8_u32(dwords(p.add(96 + 4 * i), stride));
            let (low, high, d) = ([dword(0), dword(1)], dword(2), halfs(p.add(108), stride));
            for j in 0..4 {
                let low = up(low[j % 2], -4 * (j as i8 / 2));
                let scales = vorrq_u8(and(low, 15), and(up(high, 4 - 2 * j as i8), 0x30));
                for i in 0..4 {
                    let scale = vsubq_f32(byte(scales, i), vdupq_n_f32(32.0));
                    let line = (2 * j + i / 2) * Self::LINES + SCALES + i % 2;
                    out.put_f32(line, vmulq_f32(d, scale));
                }
            }
        }
    }
}

/// The 16-byte head of Q4_K and Q5_K: writes scale d * s and minimum -dmin * m of all 8 groups.
///
/// # Safety
/// As [`Unpack::unpack`].
#[inline]
#[target_feature(enable = "neon")]
unsafe fn k_head<F: Unpack>(p: *const u8, stride: usize, out: Half) {
    // SAFETY: the caller's promise.
    let [ds, a, b, c] = unsafe { transpose(p, stride) };
    let (d, dmin) = two_halfs(vreinterpretq_u32_u8(ds));
    // Six bits: four groups lie in the low bits of a (scales) and b (minima), four are put together from c and the top bits.
    let top = |v| and(vshrq_n_u8::<2>(v), 0x30);
    let scales = [and(a, 63), vorrq_u8(and(c, 15), top(a))];
    let mins = [and(b, 63), vorrq_u8(vshrq_n_u8::<4>(c), top(b))];
    for g in 0..8 {
        // SAFETY: the caller's promise.
        unsafe {
            out.put_f32(g * F::LINES + SCALES, vmulq_f32(d, byte(scales[g / 4], g % 4)));
            out.put_f32(
                g * F::LINES + F::MINS,
                vnegq_f32(vmulq_f32(dmin, byte(mins[g / 4], g % 4))),
            );
        }
    }
}

#[allow(non_camel_case_types)]
pub(in super::super) struct Q4_K;

// SAFETY: reads 16 + 128 bytes a row, writes 8 groups of 10 lines; codes 0..=15.
unsafe impl Unpack for Q4_K {
    const BYTES: usize = 144;
    const GROUPS: usize = 8;
    const MIN: bool = true;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn unpack(p: *const u8, stride: usize, out: Half) {
        // SAFETY: the caller's promise; pair j of groups has 32 bytes, low halves for the first, high for the second.
        unsafe {
            k_head::<Self>(p, stride, out);
            for j in 0..4 {
                for half in 0..2 {
                    let v = transpose(p.add(16 + 32 * j + 16 * half), stride);
                    for (i, v) in v.into_iter().enumerate() {
                        let line = 2 * j * Self::LINES + 4 * half + i;
                        out.put(line, and(v, 15));
                        out.put(line + Self::LINES, vshrq_n_u8::<4>(v));
                    }
                }
            }
        }
    }
}

#[allow(non_camel_case_types)]
pub(in super::super) struct Q5_K;

// SAFETY: reads 16 + 32 + 128 bytes a row, writes 8 groups of 10 lines; codes 0..=31.
unsafe impl Unpack for Q5_K {
    const BYTES: usize = 176;
    const GROUPS: usize = 8;
    const MIN: bool = true;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn unpack(p: *const u8, stride: usize, out: Half) {
        // SAFETY: the caller's promise; bit g of byte c of the 32 high bytes belongs to column c of group g.
        unsafe {
            k_head::<Self>(p, stride, out);
            for half in 0..2 {
                let high = transpose(p.add(16 + 16 * half), stride);
                for j in 0..4 {
                    let v = transpose(p.add(48 + 32 * j + 16 * half), stride);
                    for (i, v) in v.into_iter().enumerate() {
                        let fifth = |bit: usize| and(vtstq_u8(high[i], vdupq_n_u8(1 << bit)), 16);
                        let line = 2 * j * Self::LINES + 4 * half + i;
                        out.put(line, vorrq_u8(and(v, 15), fifth(2 * j)));
                        out.put(line + Self::LINES, vorrq_u8(vshrq_n_u8::<4>(v), fifth(2 * j + 1)));
                    }
                }
            }
        }
    }
}

#[allow(non_camel_case_types)]
pub(in super::super) struct Q6_K;

// SAFETY: reads 128 + 64 + 16 + 2 bytes a row, writes 8 groups of 10 lines; codes -32..=31.
unsafe impl Unpack for Q6_K {
    const BYTES: usize = 210;
    const GROUPS: usize = 8;
    const HALVES: usize = 2;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn unpack(p: *const u8, stride: usize, out: Half) {
        // SAFETY: the caller's promise. For each 128 columns there are 64 bytes of low and 32 of high bits; columns c of
        // its four groups (c < 32) have their low bits in the halves of bytes c and 32 + c and their high bits in byte c.
        unsafe {
            for n in 0..2 {
                for half in 0..2 {
                    let a = transpose(p.add(64 * n + 16 * half), stride);
                    let b = transpose(p.add(64 * n + 32 + 16 * half), stride);
                    let high = transpose(p.add(128 + 32 * n + 16 * half), stride);
                    for i in 0..4 {
                        let put = |group: usize, low, high| {
                            let line = (4 * n + group) * Self::LINES + 4 * half + i;
                            out.put(line, less(vorrq_u8(low, and(high, 0x30)), 32));
                        };
                        put(0, and(a[i], 15), vshlq_n_u8::<4>(high[i]));
                        put(1, and(b[i], 15), vshlq_n_u8::<2>(high[i]));
                        put(2, vshrq_n_u8::<4>(a[i]), high[i]);
                        put(3, vshrq_n_u8::<4>(b[i]), vshrq_n_u8::<2>(high[i]));
                    }
                }
            }
            let d = halfs(p.add(208), stride);
            for (j, v) in transpose(p.add(192), stride).into_iter().enumerate() {
                for i in 0..4 {
                    let scale = signed_byte(vreinterpretq_s32_u8(v), i);
                    // Scale 4j + i: group 2j + i/2, half i%2.
                    out.put_f32((2 * j + i / 2) * Self::LINES + SCALES + i % 2, vmulq_f32(d, scale));
                }
            }
        }
    }
}

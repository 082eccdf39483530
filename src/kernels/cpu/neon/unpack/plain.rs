//! Blocks of 32 with one scale: Q4_0 to Q8_0.

use std::arch::aarch64::*;

use super::{Half, SCALES, Unpack, and, dwords, halfs, less, nibbles, put_wide, transpose, two_halfs};

/// Writes 4-bit codes less `zero`.
///
/// # Safety
/// As [`Unpack::unpack`].
#[inline]
#[target_feature(enable = "neon")]
unsafe fn four_bits(p: *const u8, stride: usize, zero: u8, out: Half) {
    // SAFETY: the caller's promise.
    unsafe {
        for (i, v) in nibbles(p, stride).into_iter().enumerate() {
            out.put(i, less(v, zero));
        }
    }
}

/// The same with a fifth bit: bit c of `bits` (a dword a row) belongs to column c.
///
/// # Safety
/// As [`Unpack::unpack`].
#[inline]
#[target_feature(enable = "neon")]
unsafe fn five_bits(p: *const u8, bits: uint32x4_t, stride: usize, zero: u8, out: Half) {
    let bits = vreinterpretq_u8_u32(bits);
    // Line i = columns 4i..4i+3: byte i / 2 of each dword copied to all four, of which each tests one bit.
    const FIRST: [u8; 16] = [0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12];
    // SAFETY: 16 bytes.
    let first = unsafe { vld1q_u8(FIRST.as_ptr()) };
    let select = [0x0804_0201, 0x8040_2010].map(|select| vreinterpretq_u8_u32(vdupq_n_u32(select)));
    // SAFETY: the caller's promise.
    unsafe {
        for (i, v) in nibbles(p, stride).into_iter().enumerate() {
            let copy = vqtbl1q_u8(bits, vaddq_u8(first, vdupq_n_u8(i as u8 / 2)));
            let fifth = and(vtstq_u8(copy, select[i % 2]), 16);
            out.put(i, less(vorrq_u8(v, fifth), zero));
        }
    }
}

pub(in super::super) struct Q4_0;

// SAFETY: reads 2 + 16 bytes a row, writes 9 lines; codes -8..=7.
unsafe impl Unpack for Q4_0 {
    const BYTES: usize = 18;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn unpack(p: *const u8, stride: usize, out: Half) {
        // SAFETY: the caller's promise.
        unsafe {
            four_bits(p.add(2), stride, 8, out);
            out.put_f32(SCALES, halfs(p, stride));
        }
    }
}

pub(in super::super) struct Q4_1;

// SAFETY: reads 4 + 16 bytes a row, writes 10 lines; codes 0..=15.
unsafe impl Unpack for Q4_1 {
    const BYTES: usize = 20;
    const MIN: bool = true;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn unpack(p: *const u8, stride: usize, out: Half) {
        // SAFETY: the caller's promise.
        unsafe {
            four_bits(p.add(4), stride, 0, out);
            let (d, m) = two_halfs(dwords(p, stride));
            out.put_f32(SCALES, d);
            out.put_f32(Self::MINS, m);
        }
    }
}

pub(in super::super) struct Q5_0;

// SAFETY: reads 2 + 4 + 16 bytes a row, writes 9 lines; codes -16..=15.
unsafe impl Unpack for Q5_0 {
    const BYTES: usize = 22;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn unpack(p: *const u8, stride: usize, out: Half) {
        // SAFETY: the caller's promise.
        unsafe {
            five_bits(p.add(6), dwords(p.add(2), stride), stride, 16, out);
            out.put_f32(SCALES, halfs(p, stride));
        }
    }
}

pub(in super::super) struct Q5_1;

// SAFETY: reads 4 + 4 + 16 bytes a row, writes 10 lines; codes 0..=31.
unsafe impl Unpack for Q5_1 {
    const BYTES: usize = 24;
    const MIN: bool = true;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn unpack(p: *const u8, stride: usize, out: Half) {
        // SAFETY: the caller's promise.
        unsafe {
            five_bits(p.add(8), dwords(p.add(4), stride), stride, 0, out);
            let (d, m) = two_halfs(dwords(p, stride));
            out.put_f32(SCALES, d);
            out.put_f32(Self::MINS, m);
        }
    }
}

pub(in super::super) struct Q8_0;

// SAFETY: reads 2 + 32 bytes a row, writes 10 lines; any code.
unsafe impl Unpack for Q8_0 {
    const BYTES: usize = 34;
    const WIDE: bool = true;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn unpack(p: *const u8, stride: usize, out: Half) {
        // SAFETY: the caller's promise.
        unsafe {
            let ([a, b, c, d], [e, f, g, h]) = (transpose(p.add(2), stride), transpose(p.add(18), stride));
            put_wide(out, 0, [a, b, c, d, e, f, g, h]);
            out.put_f32(SCALES, halfs(p, stride));
        }
    }
}

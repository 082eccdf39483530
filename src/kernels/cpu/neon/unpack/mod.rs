//! Blocks to panels: the only code that knows a format.
//!
//! A **strip** is 8 weight rows; for each 32 columns it has some lines of 32 bytes, one dword a row, so rows 0..4 are the first
//! half of each line and rows 4..8 the second:
//!
//! ```text
//! 8 lines   codes, signed: dword r of line i = codes 4i..4i+3 of row r
//! 1 line    f32 scale of each row     (2 lines with HALVES = 2: of columns 0..16 and 16..32)
//! 1 line    f32 minimum of each row, with MIN   (likewise 2 lines with HALVES = 2)
//! 1 line    i32 128 * (sum of the codes of each row), with WIDE
//! ```
//! so that weight = scale * code + minimum: zero points are taken off here, where it costs one instruction for 16 weights. WIDE
//! formats have no halves and no minimum.
//!
//! Unpacking is nearly free because the *packed* codes are transposed (4 rows x 16 bytes at a time), then split by shifts.
//!
//! To add a format: its `Unpack` in the file of its family, its line in [`matmul`](super::matmul) and in the tests here, its line in
//! [`PARTNERS`](crate::kernels::cpu::PARTNERS).

mod k;
mod plain;
mod table;
#[cfg(test)]
mod tests;

pub(super) use k::{Q2_K, Q3_K, Q4_K, Q5_K, Q6_K};
pub(super) use plain::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
pub(super) use table::{IQ4_NL, IQ4_XS, MXFP4};

use std::arch::aarch64::*;

use super::lanes::{transpose_u32, widen};

/// Bytes of a line.
pub(super) const LINE: usize = 32;
/// The first scale's line.
pub(super) const SCALES: usize = 8;
/// With WIDE: the line of the sums of the codes.
pub(super) const TOTALS: usize = 9;

/// How a format gets into a strip.
///
/// # Safety
/// The constants describe what `unpack` reads and writes, and its codes keep the bounds of [`dot`](super::dot); kernels rely on both.
pub(super) unsafe trait Unpack {
    /// Bytes of a block in the file.
    const BYTES: usize;
    /// 32-column groups in a block.
    const GROUPS: usize = 1;
    /// Scales a group and row: 1 or 2.
    const HALVES: usize = 1;
    /// Whether there are minima, one for each scale.
    const MIN: bool = false;
    /// Codes of 8 bits, multiplied with int16 activations.
    const WIDE: bool = false;
    /// The first minimum's line.
    const MINS: usize = SCALES + Self::HALVES;
    /// Lines of a group.
    const LINES: usize = Self::MINS + Self::MIN as usize * Self::HALVES + Self::WIDE as usize;

    /// Unpacks one block of 4 rows: row r's is at `p + r * stride`.
    ///
    /// # Safety
    /// The 4 blocks are readable; `out` is the start of a strip, or its second half, that has room for GROUPS groups.
    unsafe fn unpack(p: *const u8, stride: usize, out: Half);
}

/// Unpacks one block of 8 rows to a strip.
///
/// # Safety
/// The 8 blocks are readable; `strip` has room for GROUPS groups.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn eight<F: Unpack>(p: *const u8, stride: usize, strip: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe {
        F::unpack(p, stride, Half(strip));
        F::unpack(p.add(4 * stride), stride, Half(strip.add(LINE / 2)));
    }
}

/// sum + x * (8 weights of column `at` (< 32) of a group), whose line of codes `at / 4` is `codes`.
///
/// # Safety
/// `group` is a group that F has written.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn column<F: Unpack>(
    group: *const u8,
    codes: [int8x16_t; 2],
    at: usize,
    x: f32,
    mut sum: [float32x4_t; 2],
) -> [float32x4_t; 2] {
    for (h, (sum, codes)) in sum.iter_mut().zip(codes).enumerate() {
        // SAFETY: lines of the group.
        let line = |l: usize| unsafe { vld1q_f32(group.add(l * LINE + 16 * h).cast()) };
        let code = signed_byte(vreinterpretq_s32_s8(codes), at % 4);
        let half = if F::HALVES == 2 { at / 16 } else { 0 };
        let mut weight = vmulq_f32(code, line(SCALES + half));
        if F::MIN {
            weight = vaddq_f32(weight, line(F::MINS + half));
        }
        *sum = vfmaq_n_f32(*sum, weight, x);
    }
    sum
}

/// Where 4 rows of a strip are written.
#[derive(Clone, Copy)]
pub(super) struct Half(*mut u8);

impl Half {
    /// # Safety
    /// Line `l` is within the strip.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn put(self, l: usize, v: uint8x16_t) {
        // SAFETY: the caller's promise.
        unsafe { vst1q_u8(self.0.add(l * LINE), v) }
    }

    /// # Safety
    /// As `put`.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn put_f32(self, l: usize, v: float32x4_t) {
        // SAFETY: the caller's promise.
        unsafe { vst1q_f32(self.0.add(l * LINE).cast(), v) }
    }
}

/// 16 bytes of 4 rows, transposed as dwords: dword r of vector i = bytes 4i..4i+3 of row r.
///
/// # Safety
/// Readable.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn transpose(p: *const u8, stride: usize) -> [uint8x16_t; 4] {
    // SAFETY: the caller's promise.
    let row = |r: usize| vreinterpretq_u32_u8(unsafe { vld1q_u8(p.add(r * stride)) });
    transpose_u32([row(0), row(1), row(2), row(3)]).map(|v| vreinterpretq_u8_u32(v))
}

/// One dword of each of 4 rows.
///
/// # Safety
/// Readable.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn dwords(p: *const u8, stride: usize) -> uint32x4_t {
    // SAFETY: the caller's promise; then 4 elements.
    unsafe {
        let d: [u32; 4] = std::array::from_fn(|r| p.add(r * stride).cast::<u32>().read_unaligned());
        vld1q_u32(d.as_ptr())
    }
}

/// One f16 of each of 4 rows.
///
/// # Safety
/// Readable.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn halfs(p: *const u8, stride: usize) -> float32x4_t {
    // SAFETY: the caller's promise; then 4 elements.
    unsafe {
        let h: [u16; 4] = std::array::from_fn(|r| p.add(r * stride).cast::<u16>().read_unaligned());
        widen(vld1_u16(h.as_ptr()))
    }
}

/// The low and the high f16 of each dword.
#[inline]
#[target_feature(enable = "neon")]
fn two_halfs(v: uint32x4_t) -> (float32x4_t, float32x4_t) {
    (widen(vmovn_u32(v)), widen(vshrn_n_u32::<16>(v)))
}

/// Byte `i` of each dword, signed, as f32.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn signed_byte(v: int32x4_t, i: usize) -> float32x4_t {
    let byte = vshlq_s32(v, vdupq_n_s32(24 - 8 * i as i32));
    vcvtq_f32_s32(vshrq_n_s32::<24>(byte))
}

#[inline]
#[target_feature(enable = "neon")]
fn and(v: uint8x16_t, byte: u8) -> uint8x16_t {
    vandq_u8(v, vdupq_n_u8(byte))
}

/// v - zero, wrapping: a signed byte.
#[inline]
#[target_feature(enable = "neon")]
fn less(v: uint8x16_t, zero: u8) -> uint8x16_t {
    vsubq_u8(v, vdupq_n_u8(zero))
}

/// 16 packed bytes of 4-bit codes, by lines: low halves are columns 0..16 (lines 0..4), high halves columns 16..32 (lines 4..8).
///
/// # Safety
/// Readable.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn nibbles(p: *const u8, stride: usize) -> [uint8x16_t; 8] {
    // SAFETY: the caller's promise.
    let [a, b, c, d] = unsafe { transpose(p, stride) };
    let (low, high) = (|v| and(v, 15), |v| vshrq_n_u8::<4>(v));
    [low(a), low(b), low(c), low(d), high(a), high(b), high(c), high(d)]
}

/// Writes the codes of a group of a WIDE format and their sums.
///
/// # Safety
/// As [`Unpack::unpack`], for the group's lines.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn put_wide(out: Half, group_line: usize, codes: [uint8x16_t; 8]) {
    let mut sum = vdupq_n_s32(0);
    // SAFETY: the caller's promise.
    unsafe {
        for (i, v) in codes.into_iter().enumerate() {
            out.put(group_line + i, v);
            sum = vpadalq_s16(sum, vpaddlq_s8(vreinterpretq_s8_u8(v)));
        }
        out.put(group_line + TOTALS, vreinterpretq_u8_s32(vshlq_n_s32::<7>(sum)));
    }
}

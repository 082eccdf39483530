//! Codes of 4 bits that stand for the values of a table: IQ4_NL, IQ4_XS, MXFP4.
//!
//! A `tbl` looks up 16 codes at once. The values of IQ4 (-127..=113) are 8-bit codes with int16 activations.

use std::arch::aarch64::*;

use super::{Half, SCALES, Unpack, dwords, halfs, nibbles, put_wide, two_halfs};
use crate::quant::{iq4_nl, mxfp4};

/// The table's value of each code.
#[inline]
#[target_feature(enable = "neon")]
fn look_up(table: &[i8; 16], codes: [uint8x16_t; 8]) -> [uint8x16_t; 8] {
    // SAFETY: 16 bytes.
    let table = unsafe { vld1q_u8(table.as_ptr().cast()) };
    codes.map(|v| vqtbl1q_u8(table, v))
}

#[allow(non_camel_case_types)]
pub(in super::super) struct IQ4_NL;

// SAFETY: reads 2 + 16 bytes a row, writes 10 lines; any code.
unsafe impl Unpack for IQ4_NL {
    const BYTES: usize = 18;
    const WIDE: bool = true;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn unpack(p: *const u8, stride: usize, out: Half) {
        // SAFETY: the caller's promise.
        unsafe {
            put_wide(out, 0, look_up(&iq4_nl::VALUES, nibbles(p.add(2), stride)));
            out.put_f32(SCALES, halfs(p, stride));
        }
    }
}

#[allow(non_camel_case_types)]
pub(in super::super) struct IQ4_XS;

// SAFETY: reads 8 + 128 bytes a row, writes 8 groups of 10 lines; any code.
unsafe impl Unpack for IQ4_XS {
    const BYTES: usize = 136;
    const GROUPS: usize = 8;
    const WIDE: bool = true;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn unpack(p: *const u8, stride: usize, out: Half) {
        // SAFETY: the caller's promise; 2 bytes of d, then bits 2g of a u16 over bits 4g of a u32 are the sub-scale of group g.
        unsafe {
            let (head, low) = (dwords(p, stride), dwords(p.add(4), stride));
            let (d, _) = two_halfs(head);
            // Bits of each dword, moved down first.
            let bits = |v, down: i32, bits| vandq_u32(vshlq_u32(v, vdupq_n_s32(-down)), vdupq_n_u32(bits));
            for g in 0..Self::GROUPS {
                let line = g * Self::LINES;
                put_wide(out, line, look_up(&iq4_nl::VALUES, nibbles(p.add(8 + 16 * g), stride)));
                let scale = vorrq_u32(bits(low, 4 * g as i32, 15), bits(head, 12 + 2 * g as i32, 0x30));
                let scale = vsubq_f32(vcvtq_f32_u32(scale), vdupq_n_f32(32.0));
                out.put_f32(line + SCALES, vmulq_f32(d, scale));
            }
        }
    }
}

pub(in super::super) struct MXFP4;

// SAFETY: reads 1 + 16 bytes a row, writes 9 lines; codes -12..=12.
unsafe impl Unpack for MXFP4 {
    const BYTES: usize = 17;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn unpack(p: *const u8, stride: usize, out: Half) {
        // SAFETY: the caller's promise; then 4 elements.
        unsafe {
            for (i, v) in look_up(&mxfp4::VALUES, nibbles(p.add(1), stride))
                .into_iter()
                .enumerate()
            {
                out.put(i, v);
            }
            let scales: [f32; 4] = std::array::from_fn(|r| mxfp4::half_scale(*p.add(r * stride)));
            out.put_f32(SCALES, vld1q_f32(scales.as_ptr()));
        }
    }
}

//! Codes of 4 bits that stand for the values of a table: IQ4_NL, IQ4_XS, MXFP4.
//!
//! A byte shuffle looks up 32 codes at once. MXFP4's values (-12..=12) become unsigned bytes around 12. Those of IQ4 (-127..=113)
//! span 240: no `maddubs` pair of such bytes fits (2 * 240 * 127 > 32767), and moved into the sign they would have to be
//! widened after every step. As words with int16 activations they cost the same and are 256 times as accurate.

use super::{Rows, Strip, Unpack, nibbles, put_words};
use crate::quant::{iq4_nl, mxfp4};

/// The table's value of each code.
///
/// # Safety
/// What [`Rows`] asks for.
#[inline(always)]
unsafe fn look_up<W: Rows>(table: &[i8; 16], codes: W) -> W {
    // SAFETY: the caller's promise.
    unsafe { W::bytes(*table).shuffle(codes) }
}

#[allow(non_camel_case_types)]
pub(crate) struct IQ4_NL;

// SAFETY: reads 2 + 16 bytes a row, writes 17 lines.
unsafe impl Unpack for IQ4_NL {
    const BYTES: usize = 18;
    const GROUPS: usize = 1;
    const BITS: u32 = 8;
    const WORDS: bool = true;

    #[inline(always)]
    unsafe fn unpack<W: Rows, const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise.
        unsafe {
            for (l, v) in nibbles::<W>(p.add(2), stride).into_iter().enumerate() {
                put_words(out, l, look_up(&iq4_nl::VALUES, v));
            }
            out.put_real::<W>(Self::CODES, W::transpose(p, stride)[0].two_halfs().0);
        }
    }
}

#[allow(non_camel_case_types)]
pub(crate) struct IQ4_XS;

// SAFETY: reads 8 + 128 bytes a row, writes 8 groups of 17 lines.
unsafe impl Unpack for IQ4_XS {
    const BYTES: usize = 136;
    const GROUPS: usize = 8;
    const BITS: u32 = 8;
    const WORDS: bool = true;

    #[inline(always)]
    unsafe fn unpack<W: Rows, const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise; 2 bytes of d, then bits 2g of a u16 over bits 4g of a u32 are the sub-scale of group g.
        unsafe {
            let [head, low, ..] = W::transpose(p, stride);
            let (d, _) = head.two_halfs();
            for g in 0..Self::GROUPS {
                for (l, v) in nibbles::<W>(p.add(8 + 16 * g), stride).into_iter().enumerate() {
                    put_words(out, g * Self::LINES + l, look_up(&iq4_nl::VALUES, v));
                }
                let low = low.shr32(4 * g as i32).and(W::splat(15));
                let high = head.shr32(12 + 2 * g as i32).and(W::splat(0x30));
                let scale = low.or(high).add32(W::splat(-32)).real();
                out.put_real::<W>(g * Self::LINES + Self::CODES, W::mul(d, scale));
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
    const BITS: u32 = 5;
    const ZERO: i16 = 12;

    #[inline(always)]
    unsafe fn unpack<W: Rows, const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise.
        unsafe {
            for (l, v) in nibbles::<W>(p.add(1), stride).into_iter().enumerate() {
                out.put(l, look_up(&Self::VALUES, v));
            }
            // 2^(e - 128), as a product of two powers that are normal for every e; where it is a denormal, exactly that.
            let e = W::transpose(p, stride)[0].and(W::splat(255));
            let half = e.shr32(1);
            let rest = half.add32(e.and(W::splat(1)));
            let power = |e: W| e.add32(W::splat(127 - 64)).shl32(23).as_real();
            out.put_real::<W>(Self::CODES, W::mul(power(half), power(rest)));
        }
    }
}

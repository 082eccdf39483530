//! Blocks of 32 with codes in equal steps: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.

use super::{Rows, Strip, Unpack, nibbles, put_words};

/// [`nibbles`] with a fifth bit: bit c of `bits` (a dword a row) belongs to column c.
///
/// # Safety
/// As [`Unpack::unpack`].
#[inline(always)]
unsafe fn nibbles_and_bits<W: Rows, const R: usize>(p: *const u8, bits: W, stride: usize, out: Strip<R>) {
    // SAFETY: the caller's promise.
    unsafe {
        // Byte b of each dword copied to all four: the bits of lines 2b and 2b + 1.
        let copy = |b: i8| bits.shuffle(W::bytes(std::array::from_fn(|i| i as i8 / 4 * 4 + b)));
        // Byte j keeps bit 4 + j, which is at least 16 if set: the minimum with 16 moves it to bit 4.
        let select = W::splat(0x8040_2010u32 as i32);
        let fifth = |v: W| v.and(select).min_u8(W::splat(0x1010_1010));
        let codes = nibbles::<W>(p, stride);
        for (l, code) in codes.into_iter().enumerate() {
            // Even lines use the low half of the copied byte: shift it up.
            let bits = copy(l as i8 / 2);
            let bits = if l % 2 == 0 { bits.shl16(4) } else { bits };
            out.put(l, code.or(fifth(bits)));
        }
    }
}

pub(crate) struct Q4_0;

// SAFETY: reads 2 + 16 bytes a row (the scale with the 14 bytes behind it), writes 9 lines.
unsafe impl Unpack for Q4_0 {
    const BYTES: usize = 18;
    const GROUPS: usize = 1;
    const BITS: u32 = 4;
    const ZERO: i16 = 8;

    #[inline(always)]
    unsafe fn unpack<W: Rows, const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise.
        unsafe {
            for (l, v) in nibbles::<W>(p.add(2), stride).into_iter().enumerate() {
                out.put(l, v);
            }
            out.put_real::<W>(8, W::transpose(p, stride)[0].two_halfs().0);
        }
    }
}

pub(crate) struct Q4_1;

// SAFETY: reads 4 + 16 bytes a row, writes 10 lines.
unsafe impl Unpack for Q4_1 {
    const BYTES: usize = 20;
    const GROUPS: usize = 1;
    const BITS: u32 = 4;
    const MIN: bool = true;

    #[inline(always)]
    unsafe fn unpack<W: Rows, const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise.
        unsafe {
            for (l, v) in nibbles::<W>(p.add(4), stride).into_iter().enumerate() {
                out.put(l, v);
            }
            let (d, m) = W::transpose(p, stride)[0].two_halfs();
            out.put_real::<W>(8, d);
            out.put_real::<W>(9, m);
        }
    }
}

pub(crate) struct Q5_0;

// SAFETY: reads 2 + 4 + 16 bytes a row, writes 9 lines.
unsafe impl Unpack for Q5_0 {
    const BYTES: usize = 22;
    const GROUPS: usize = 1;
    const BITS: u32 = 5;
    const ZERO: i16 = 16;

    #[inline(always)]
    unsafe fn unpack<W: Rows, const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise.
        unsafe {
            let [first, second, ..] = W::transpose(p, stride);
            nibbles_and_bits(p.add(6), first.shr32(16).or(second.shl32(16)), stride, out);
            out.put_real::<W>(8, first.two_halfs().0);
        }
    }
}

pub(crate) struct Q5_1;

// SAFETY: reads 4 + 4 + 16 bytes a row, writes 10 lines.
unsafe impl Unpack for Q5_1 {
    const BYTES: usize = 24;
    const GROUPS: usize = 1;
    const BITS: u32 = 5;
    // Unsigned sums of 16 products of 31 * 127 would not fit an i16 lane: d q + m = d (q - 16) + (m + 16 d).
    const ZERO: i16 = 16;
    const MIN: bool = true;

    #[inline(always)]
    unsafe fn unpack<W: Rows, const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise.
        unsafe {
            let [scales, bits, ..] = W::transpose(p, stride);
            nibbles_and_bits(p.add(8), bits, stride, out);
            let (d, m) = scales.two_halfs();
            out.put_real::<W>(8, d);
            out.put_real::<W>(9, W::mul_sub(d, W::splat(16).real(), W::mul(m, W::splat(-1).real())));
        }
    }
}

pub(crate) struct Q8_0;

// SAFETY: reads 2 + 32 bytes a row, writes 17 lines.
unsafe impl Unpack for Q8_0 {
    const BYTES: usize = 34;
    const GROUPS: usize = 1;
    const BITS: u32 = 8;
    const WORDS: bool = true;

    #[inline(always)]
    unsafe fn unpack<W: Rows, const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise.
        unsafe {
            for half in 0..2 {
                for (i, v) in W::transpose(p.add(2 + 16 * half), stride).into_iter().enumerate() {
                    put_words(out, 4 * half + i, v);
                }
            }
            out.put_real::<W>(16, W::transpose(p, stride)[0].two_halfs().0);
        }
    }
}

//! K-quants, blocks of 256 with sub-scales: Q2_K to Q6_K.

use super::{Rows, Strip, Unpack, and};

/// Byte `i` of each dword, unsigned, as f32.
///
/// # Safety
/// What [`Rows`] asks for.
#[inline(always)]
unsafe fn byte_real<W: Rows>(v: W, i: usize) -> W::Real {
    // SAFETY: the caller's promise.
    unsafe { v.shr32(8 * i as i32).and(W::splat(255)).real() }
}

/// Words moved up by so many bits, or down.
///
/// # Safety
/// What [`Rows`] asks for.
#[inline(always)]
unsafe fn up<W: Rows>(v: W, bits: i32) -> W {
    // SAFETY: the caller's promise.
    unsafe { if bits < 0 { v.shr16(-bits) } else { v.shl16(bits) } }
}

/// The 64 bytes of 2-bit codes of Q2_K and Q3_K: each 32 bytes are four groups, bits 2k and 2k + 1 of byte c are column c of the
/// k-th. Writes what `also(group, half of it, line in the half, codes)` makes of them.
///
/// # Safety
/// As [`Unpack::unpack`].
#[inline(always)]
unsafe fn two_bits<W: Rows, const R: usize, const LINES: usize>(
    p: *const u8,
    stride: usize,
    out: Strip<R>,
    also: impl Fn(usize, usize, usize, W) -> W,
) {
    for n in 0..2 {
        for half in 0..2 {
            // SAFETY: the caller's promise.
            let v = unsafe { W::transpose(p.add(32 * n + 16 * half), stride) };
            for k in 0..4 {
                let group = 4 * n + k as usize;
                for (i, v) in v.into_iter().enumerate() {
                    // SAFETY: the caller's promise.
                    unsafe {
                        let codes = and(up(v, -2 * k), 3);
                        out.put(group * LINES + 4 * half + i, also(group, half, i, codes));
                    }
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
    const BITS: u32 = 2;
    const HALVES: usize = 2;
    const MIN: bool = true;

    #[inline(always)]
    unsafe fn unpack<W: Rows, const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise; byte s of the first 16 belongs to half s % 2 of group s / 2.
        unsafe {
            two_bits::<W, R, { Q2_K::LINES }>(p.add(16), stride, out, |_, _, _, v| v);
            let (d, dmin) = W::transpose(p.add(68), stride)[3].two_halfs();
            let dmin = W::mul(dmin, W::splat(-1).real());
            for (j, v) in W::transpose(p, stride).into_iter().enumerate() {
                let (scales, mins) = (and(v, 15), and(v.shr16(4), 15));
                for i in 0..4 {
                    let line = (2 * j + i / 2) * Self::LINES + i % 2;
                    out.put_real::<W>(line + Self::CODES, W::mul(d, byte_real(scales, i)));
                    out.put_real::<W>(line + Self::MINS, W::mul(dmin, byte_real(mins, i)));
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
    const BITS: u32 = 3;
    const ZERO: i16 = 4;
    const HALVES: usize = 2;

    #[inline(always)]
    unsafe fn unpack<W: Rows, const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise; bit g of byte c of the first 32 is the third of column c of group g.
        unsafe {
            let third = [W::transpose(p, stride), W::transpose(p.add(16), stride)];
            two_bits::<W, R, { Q3_K::LINES }>(p.add(32), stride, out, |group, half, i, v| {
                v.or(and(up(third[half][i], 2 - group as i32), 4))
            });
            // The last 16 bytes: two of codes, 12 of sub-scales, d. Sub-scale s = 4 j + i has its low bits in half j / 2 of byte
            // 4 (j % 2) + i, its upper two at bit 2 j of byte 8 + i.
            let v = W::transpose(p.add(94), stride);
            let dword = |i: usize| v[i].shr32(16).or(v[i + 1].shl32(16));
            let (low, high) = ([dword(0), dword(1)], dword(2));
            let (_, d) = v[3].two_halfs();
            for j in 0..4 {
                let low = up(low[j % 2], -4 * (j as i32 / 2));
                let scales = and(low, 15).or(and(up(high, 4 - 2 * j as i32), 0x30));
                for i in 0..4 {
                    let scale = scales
                        .shr32(8 * i as i32)
                        .and(W::splat(255))
                        .add32(W::splat(-32))
                        .real();
                    let line = (2 * j + i / 2) * Self::LINES + Self::CODES + i % 2;
                    out.put_real::<W>(line, W::mul(d, scale));
                }
            }
        }
    }
}

/// The 16-byte head of Q4_K and Q5_K: writes scale d * s and minimum -dmin * m + shift * d * s of all 8 groups.
///
/// # Safety
/// As [`Unpack::unpack`].
#[inline(always)]
unsafe fn k_head<W: Rows, const R: usize, const LINES: usize>(p: *const u8, stride: usize, shift: i32, out: Strip<R>) {
    // SAFETY: the caller's promise.
    unsafe {
        let [ds, a, b, c] = W::transpose(p, stride);
        let (d, dmin) = ds.two_halfs();
        // Six bits: four groups lie in the low bits of a (scales) and b (minima), four are put together from c and the top bits.
        let top = |v: W| and(v.shr16(2), 0x30);
        let scales = [and(a, 63), and(c, 15).or(top(a))];
        let mins = [and(b, 63), and(c.shr16(4), 15).or(top(b))];
        for g in 0..8 {
            let scale = W::mul(d, byte_real(scales[g / 4], g % 4));
            let min = W::mul(dmin, byte_real(mins[g / 4], g % 4));
            out.put_real::<W>(g * LINES + 8, scale);
            out.put_real::<W>(g * LINES + 9, W::mul_sub(scale, W::splat(shift).real(), min));
        }
    }
}

#[allow(non_camel_case_types)]
pub(crate) struct Q4_K;

// SAFETY: reads 16 + 128 bytes a row, writes 8 groups of 10 lines.
unsafe impl Unpack for Q4_K {
    const BYTES: usize = 144;
    const GROUPS: usize = 8;
    const BITS: u32 = 4;
    const MIN: bool = true;

    #[inline(always)]
    unsafe fn unpack<W: Rows, const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise; pair j of groups has 32 bytes, low halves for the first, high for the second.
        unsafe {
            k_head::<W, R, { Q4_K::LINES }>(p, stride, 0, out);
            for j in 0..4 {
                for half in 0..2 {
                    let v = W::transpose(p.add(16 + 32 * j + 16 * half), stride);
                    for (i, v) in v.into_iter().enumerate() {
                        out.put(2 * j * Self::LINES + 4 * half + i, and(v, 15));
                        out.put((2 * j + 1) * Self::LINES + 4 * half + i, and(v.shr16(4), 15));
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
    const BITS: u32 = 5;
    // As for Q5_1.
    const ZERO: i16 = 16;
    const MIN: bool = true;

    #[inline(always)]
    unsafe fn unpack<W: Rows, const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise; bit g of byte c of the 32 high bytes belongs to column c of group g.
        unsafe {
            k_head::<W, R, { Q5_K::LINES }>(p, stride, 16, out);
            for half in 0..2 {
                let high = W::transpose(p.add(16 + 16 * half), stride);
                for j in 0..4 {
                    let v = W::transpose(p.add(48 + 32 * j + 16 * half), stride);
                    for (i, v) in v.into_iter().enumerate() {
                        // Bits 2j and 2j + 1 to bit 4.
                        let bits = high[i].shr16(2 * j as i32);
                        let first = and(bits.shl16(4), 16);
                        let second = and(bits.shl16(3), 16);
                        out.put(2 * j * Self::LINES + 4 * half + i, and(v, 15).or(first));
                        let v = and(v.shr16(4), 15);
                        out.put((2 * j + 1) * Self::LINES + 4 * half + i, v.or(second));
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
    const BITS: u32 = 6;
    const ZERO: i16 = 32;
    const HALVES: usize = 2;

    #[inline(always)]
    unsafe fn unpack<W: Rows, const R: usize>(p: *const u8, stride: usize, out: *mut u8) {
        let out = Strip::<R>(out);
        // SAFETY: the caller's promise. For each 128 columns there are 64 bytes of low and 32 of high bits; columns c of
        // its four groups (c < 32) have their low bits in the halves of bytes c and 32 + c and their high bits in byte c.
        unsafe {
            for n in 0..2 {
                for half in 0..2 {
                    let a = W::transpose(p.add(64 * n + 16 * half), stride);
                    let b = W::transpose(p.add(64 * n + 32 + 16 * half), stride);
                    let high = W::transpose(p.add(128 + 32 * n + 16 * half), stride);
                    for i in 0..4 {
                        let at = |group: usize| (4 * n + group) * Self::LINES + 4 * half + i;
                        let or = |low: W, high: W| low.or(and(high, 0x30));
                        let upper = |v: W| and(v.shr16(4), 15);
                        out.put(at(0), or(and(a[i], 15), high[i].shl16(4)));
                        out.put(at(1), or(and(b[i], 15), high[i].shl16(2)));
                        out.put(at(2), or(upper(a[i]), high[i]));
                        out.put(at(3), or(upper(b[i]), high[i].shr16(2)));
                    }
                }
            }
            let (_, d) = W::transpose(p.add(194), stride)[3].two_halfs();
            for (j, v) in W::transpose(p.add(192), stride).into_iter().enumerate() {
                for i in 0..4 {
                    let scale = v.shl32(24 - 8 * i as i32).sar32(24).real();
                    // Scale 4j + i: group 2j + i/2, half i%2.
                    out.put_real::<W>((2 * j + i / 2) * Self::LINES + 8 + i % 2, W::mul(d, scale));
                }
            }
        }
    }
}

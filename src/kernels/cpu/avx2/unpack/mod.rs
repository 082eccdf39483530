//! Blocks to panels: the only code that knows a format.
//!
//! A **strip** is 8 weight rows; for each 32 columns (a group) it has some lines of 32 bytes, one dword or f32 a row:
//!
//! ```text
//! bytes:  8 lines   codes, unsigned: dword r of line i = codes 4i..4i+3 of row r
//!         1 line    f32 scale of each row     (2 lines with HALVES = 2: of columns 0..16 and 16..32)
//!         1 line    f32 minimum of each row, with MIN   (likewise 2 lines with HALVES = 2)
//! words:  8 lines   dword r = codes 4i, 4i+2 of row r as i16;  8 lines: codes 4i+1, 4i+3
//!         1 line    f32 scale
//! ```
//! so that weight = scale * (code - ZERO) + minimum. Words are signed and have no ZERO, halves or minimum: they are for formats
//! of 8-bit values (Q8_0, and IQ4, whose 4-bit codes stand for such). A panel has R strips with their lines interleaved: line l
//! of strip r is at `(l * R + r) * 32`, so that two strips beside each other are one strip of 16 rows for AVX-512. Decode uses the
//! strips of one vector and one block at a time, prefill several and as many columns as the cache holds.
//!
//! Unpacking is nearly free because the *packed* codes are transposed (8 or 16 rows x 16 bytes at a time), then split by shifts.
//! Scales come by the same loads and transposition: picking them row by row takes twice the instructions.
//!
//! To add a format: its `Unpack` in the file of its family, its name in [`formats`], its line in
//! [`PARTNERS`](crate::kernels::cpu::PARTNERS).

mod k;
mod plain;
mod rows;
mod table;
#[cfg(test)]
mod tests;

pub(in crate::kernels::cpu) use k::{Q2_K, Q3_K, Q4_K, Q5_K, Q6_K};
pub(in crate::kernels::cpu) use plain::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
pub(in crate::kernels::cpu) use rows::{Rows, plain_operations};
pub(in crate::kernels::cpu) use table::{IQ4_NL, IQ4_XS, MXFP4};

use std::arch::x86_64::*;

/// Gives the names of all formats that have an `Unpack`, but Q8_0, to a macro.
macro_rules! formats {
    ($to:ident) => {
        $to!(Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4)
    };
}
pub(in crate::kernels::cpu) use formats;

/// Bytes of a line.
pub(in crate::kernels::cpu) const LINE: usize = 32;

/// How a format gets into a strip.
///
/// # Safety
/// The constants describe what `unpack` reads and writes; kernels rely on them.
pub(in crate::kernels::cpu) unsafe trait Unpack {
    /// Bytes of a block in the file.
    const BYTES: usize;
    /// 32-column groups in a block.
    const GROUPS: usize;
    /// Codes are below 2 to so many, as numbers without a sign; as words they have one.
    const BITS: u32;
    /// Codes are 16-bit words, multiplied with int16 activations.
    const WORDS: bool = false;
    /// What is subtracted from a code; see the bounds in [`prefill`](super::prefill).
    const ZERO: i16 = 0;
    /// Scales a group and row: 1 or 2.
    const HALVES: usize = 1;
    /// Whether there are minima, one for each scale.
    const MIN: bool = false;
    /// Lines of codes; the first scale's line.
    const CODES: usize = if Self::WORDS { 16 } else { 8 };
    /// The first minimum's line.
    const MINS: usize = Self::CODES + Self::HALVES;
    /// Lines of a group.
    const LINES: usize = if Self::MIN {
        Self::MINS + Self::HALVES
    } else {
        Self::MINS
    };

    /// Unpacks one block of each of W's rows: row r's is at `p + r * stride`.
    ///
    /// # Safety
    /// What [`Rows`] asks for; the blocks are readable; `out` is the first of W's strips of a panel of R strips that has room for
    /// GROUPS groups.
    unsafe fn unpack<W: Rows, const R: usize>(p: *const u8, stride: usize, out: *mut u8);
}

/// sum + x * (8 weights of column `at` (< 32) of a group: strip r of R).
///
/// # Safety
/// The CPU has AVX2, FMA and F16C; `group` is a group of strip r of a panel of R strips that F (bytes) has written.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn column<F: Unpack, const R: usize>(group: *const u8, at: usize, x: __m256, sum: __m256) -> __m256 {
    // SAFETY: lines of the group.
    let line = |l: usize| unsafe { _mm256_loadu_si256(group.add(l * R * LINE).cast()) };
    // Byte at % 4 of each dword, the others zero (0x80 in the index).
    let dword = |i: u32| (0x8080_8000 + i * 4) as i32;
    let first = _mm256_broadcastsi128_si256(_mm_setr_epi32(dword(0), dword(1), dword(2), dword(3)));
    let byte = _mm256_add_epi32(first, _mm256_set1_epi32(at as i32 % 4));
    let code = _mm256_cvtepi32_ps(_mm256_shuffle_epi8(line(at / 4), byte));
    let code = _mm256_sub_ps(code, _mm256_set1_ps(f32::from(F::ZERO)));
    let half = if F::HALVES == 2 { at / 16 } else { 0 };
    let mut weight = _mm256_mul_ps(code, _mm256_castsi256_ps(line(F::CODES + half)));
    if F::MIN {
        weight = _mm256_add_ps(weight, _mm256_castsi256_ps(line(F::MINS + half)));
    }
    _mm256_fmadd_ps(weight, x, sum)
}

/// Where the lines of a vector's strips are written.
#[derive(Clone, Copy)]
struct Strip<const R: usize>(*mut u8);

impl<const R: usize> Strip<R> {
    /// # Safety
    /// Line `l` is within the strip; what [`Rows`] asks for.
    #[inline(always)]
    unsafe fn put<W: Rows>(self, l: usize, v: W) {
        // SAFETY: the caller's promise.
        unsafe { v.put(self.0.add(l * R * LINE)) }
    }

    /// # Safety
    /// As `put`.
    #[inline(always)]
    unsafe fn put_real<W: Rows>(self, l: usize, v: W::Real) {
        // SAFETY: the caller's promise.
        unsafe { W::put_real(v, self.0.add(l * R * LINE)) }
    }
}

/// The bits `byte` of each byte.
///
/// # Safety
/// What [`Rows`] asks for, as in all functions here.
#[inline(always)]
unsafe fn and<W: Rows>(v: W, byte: u8) -> W {
    // SAFETY: the caller's promise.
    unsafe { v.and(W::splat(i32::from_le_bytes([byte; 4]))) }
}

/// 16 packed bytes of 4-bit codes of each row as lines: low halves are columns 0..16 (lines 0..4), high halves columns 16..32
/// (lines 4..8).
///
/// # Safety
/// They are readable.
#[inline(always)]
unsafe fn nibbles<W: Rows>(p: *const u8, stride: usize) -> [W; 8] {
    // SAFETY: the caller's promise.
    unsafe {
        let [a, b, c, d] = W::transpose(p, stride);
        // Not `from_fn`: where it is not inlined, its closure calls each instruction as a function.
        let high = [a.shr16(4), b.shr16(4), c.shr16(4), d.shr16(4)];
        let [e, f, g, h] = high;
        [
            and(a, 15),
            and(b, 15),
            and(c, 15),
            and(d, 15),
            and(e, 15),
            and(f, 15),
            and(g, 15),
            and(h, 15),
        ]
    }
}

/// One line of signed bytes as two lines of words: those of line `l` of the byte layout.
///
/// # Safety
/// As [`Unpack::unpack`], with WORDS.
#[inline(always)]
unsafe fn put_words<W: Rows, const R: usize>(out: Strip<R>, l: usize, v: W) {
    // SAFETY: the caller's promise.
    unsafe {
        out.put(l, v.shl16(8).sar16(8));
        out.put(8 + l, v.sar16(8));
    }
}

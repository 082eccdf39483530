//! How the three levels multiply signed bytes and add the products up in i32, exactly.
//!
//! Codes come in lines of 8 rows x 4 columns ([`unpack`](super::unpack)), activations as dwords of 4 columns. For 4 tokens a
//! vector has a dword of each ([`acts`](crate::kernels::cpu::acts)).
//!
//! * [`Sdot`]: one `sdot` by lane multiplies 4 rows x 4 columns with the dword of one token.
//! * [`I8mm`]: one `smmla` multiplies 2 tokens x 8 columns with 2 rows x 8 columns; a panel's lines are zipped for it once.
//! * [`Widening`]: products are added up in i16 and widened once for N <= 8 lines, which holds N products a lane. With |a| <= 127
//!   (the packer never makes -128):
//!
//!   | format           | codes      | largest lane value (<= 32767) |
//!   |------------------|------------|-------------------------------|
//!   | Q4_0             | -8..=7     | 8*8*127 = 8128                |
//!   | Q4_1, Q4_K       | 0..=15     | 8*15*127 = 15240              |
//!   | Q5_0             | -16..=15   | 8*16*127 = 16256              |
//!   | Q5_1, Q5_K       | 0..=31     | 8*31*127 = 31496              |
//!   | Q6_K, N = 4      | -32..=31   | 4*32*127 = 16256              |
//!   | Q2_K, Q3_K       | -4..=3     | less than Q4_0                |
//!   | MXFP4            | -12..=12   | 8*12*127 = 12192              |
//!
//!   Codes of 8 bits (WIDE) meet bytes down to -128: two products may be 32768, so each is widened.

use std::arch::aarch64::*;
use std::arch::asm;
use std::array::from_fn;

use super::unpack::LINE;
use crate::kernels::cpu::acts::TILE;

/// Element [h] = rows 4h..4h+4.
pub(super) type Rows = [int32x4_t; 2];

/// One level's products.
///
/// # Safety
/// The methods may be called only on a CPU that has the level's instructions, with codes that keep the bounds above.
pub(super) unsafe trait Dot {
    /// 8 rows x 4 tokens: N lines of codes, arranged, and as many vectors with a dword of each token.
    ///
    /// # Safety
    /// N lines are readable.
    unsafe fn tile<const N: usize, const WIDE: bool>(codes: *const u8, x: [int8x16_t; N]) -> [Rows; TILE];

    /// 8 rows x 1 token: N (a multiple of 4) lines of codes, not arranged, and as many dwords.
    ///
    /// # Safety
    /// N lines and N dwords are readable.
    unsafe fn token<const N: usize, const WIDE: bool>(codes: *const u8, x: *const u32) -> Rows;

    /// Puts the 8 lines of a group's codes in the order that `tile` reads.
    ///
    /// # Safety
    /// 8 lines are writable.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn arrange(_codes: *mut u8) {}

    /// Line `i` of a group's arranged codes.
    ///
    /// # Safety
    /// 8 lines are readable.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn line(codes: *const u8, i: usize) -> [int8x16_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { line(codes, i) }
    }
}

/// Line `i` as it was unpacked.
///
/// # Safety
/// It is readable.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn line(codes: *const u8, i: usize) -> [int8x16_t; 2] {
    // SAFETY: the caller's promise.
    from_fn(|h| unsafe { vld1q_s8(codes.add(i * LINE + 16 * h).cast()) })
}

/// ARMv8.0: `smull`, `smlal` and pairwise sums.
pub(super) struct Widening;

/// 8 rows x N lines . the dwords `x`, each already in all lanes.
///
/// # Safety
/// N lines are readable; their codes keep the bounds.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn widening<const N: usize, const WIDE: bool>(codes: *const u8, x: impl Fn(usize) -> int8x16_t) -> Rows {
    const { assert!(N <= 8) };
    // Rows 2i and 2i + 1, products or their sums still in several lanes.
    let (mut short, mut long) = ([vdupq_n_s16(0); 4], [vdupq_n_s32(0); 4]);
    for i in 0..N {
        let x = x(i);
        // SAFETY: the caller's promise.
        let codes = unsafe { line(codes, i) };
        for (h, w) in codes.into_iter().enumerate() {
            if WIDE {
                long[2 * h] = vpadalq_s16(long[2 * h], vmull_s8(vget_low_s8(w), vget_low_s8(x)));
                long[2 * h + 1] = vpadalq_s16(long[2 * h + 1], vmull_high_s8(w, x));
            } else {
                short[2 * h] = vmlal_s8(short[2 * h], vget_low_s8(w), vget_low_s8(x));
                short[2 * h + 1] = vmlal_high_s8(short[2 * h + 1], w, x);
            }
        }
    }
    if !WIDE {
        long = short.map(|v| vpaddlq_s16(v));
    }
    from_fn(|h| vpaddq_s32(long[2 * h], long[2 * h + 1]))
}

/// Dword T of `x` in all lanes.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn spread<const T: i32>(x: int8x16_t) -> int8x16_t {
    vreinterpretq_s8_s32(vdupq_laneq_s32::<T>(vreinterpretq_s32_s8(x)))
}

// SAFETY: every CPU of the target has these instructions.
unsafe impl Dot for Widening {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn tile<const N: usize, const WIDE: bool>(codes: *const u8, x: [int8x16_t; N]) -> [Rows; TILE] {
        // SAFETY: the caller's promise.
        unsafe {
            [
                widening::<N, WIDE>(codes, |i| spread::<0>(x[i])),
                widening::<N, WIDE>(codes, |i| spread::<1>(x[i])),
                widening::<N, WIDE>(codes, |i| spread::<2>(x[i])),
                widening::<N, WIDE>(codes, |i| spread::<3>(x[i])),
            ]
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn token<const N: usize, const WIDE: bool>(codes: *const u8, x: *const u32) -> Rows {
        // SAFETY: the caller's promise.
        unsafe { widening::<N, WIDE>(codes, |i| vreinterpretq_s8_u32(vdupq_n_u32(x.add(i).read()))) }
    }
}

/// With the dot product extension (ARMv8.2).
pub(super) struct Sdot;

/// Lane r += the 4 codes of row r . dword T of `x`.
///
/// # Safety
/// The CPU has `sdot`.
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::kernels::cpu) unsafe fn sdot<const T: usize>(
    mut sum: int32x4_t,
    codes: int8x16_t,
    x: int8x16_t,
) -> int32x4_t {
    // SAFETY: registers alone; the directive holds for this statement.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sum:v}.4s, {codes:v}.16b, {x:v}.4b[{t}]",
            sum = inout(vreg) sum,
            codes = in(vreg) codes,
            x = in(vreg) x,
            t = const T,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

// SAFETY: `isa::choose` hands out this level only where `sdot` is detected.
unsafe impl Dot for Sdot {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn tile<const N: usize, const WIDE: bool>(codes: *const u8, x: [int8x16_t; N]) -> [Rows; TILE] {
        let mut sums = [[vdupq_n_s32(0); 2]; TILE];
        for (i, x) in x.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                for (h, w) in line(codes, i).into_iter().enumerate() {
                    sums[0][h] = sdot::<0>(sums[0][h], w, x);
                    sums[1][h] = sdot::<1>(sums[1][h], w, x);
                    sums[2][h] = sdot::<2>(sums[2][h], w, x);
                    sums[3][h] = sdot::<3>(sums[3][h], w, x);
                }
            }
        }
        sums
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn token<const N: usize, const WIDE: bool>(codes: *const u8, x: *const u32) -> Rows {
        let mut sums = [vdupq_n_s32(0); 2];
        for i in (0..N).step_by(4) {
            // SAFETY: the caller's promise.
            unsafe {
                let x = vld1q_s8(x.add(i).cast());
                let w: [[int8x16_t; 2]; 4] = from_fn(|j| line(codes, i + j));
                for (h, sum) in sums.iter_mut().enumerate() {
                    *sum = sdot::<0>(*sum, w[0][h], x);
                    *sum = sdot::<1>(*sum, w[1][h], x);
                    *sum = sdot::<2>(*sum, w[2][h], x);
                    *sum = sdot::<3>(*sum, w[3][h], x);
                }
            }
        }
        sums
    }
}

/// With the int8 matrix extension (ARMv8.6).
pub(super) struct I8mm;

/// Lane 2a + b += row a of `x` (2 x 8 bytes) . row b of `codes` (2 x 8 bytes).
///
/// # Safety
/// The CPU has `smmla`.
#[inline]
#[target_feature(enable = "neon")]
pub(in crate::kernels::cpu) unsafe fn smmla(mut sum: int32x4_t, x: int8x16_t, codes: int8x16_t) -> int32x4_t {
    // SAFETY: registers alone; the directive holds for this statement.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "smmla {sum:v}.4s, {x:v}.16b, {codes:v}.16b",
            sum = inout(vreg) sum,
            x = in(vreg) x,
            codes = in(vreg) codes,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Dwords a0 b0 a1 b1 and a2 b2 a3 b3.
#[inline]
#[target_feature(enable = "neon")]
fn zip(a: int8x16_t, b: int8x16_t) -> [int8x16_t; 2] {
    let (a, b) = (vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b));
    [vzip1q_s32(a, b), vzip2q_s32(a, b)].map(|v| vreinterpretq_s8_s32(v))
}

// SAFETY: `isa::choose` hands out this level only where `sdot` and `smmla` are detected.
unsafe impl Dot for I8mm {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn tile<const N: usize, const WIDE: bool>(codes: *const u8, x: [int8x16_t; N]) -> [Rows; TILE] {
        // [p][q] = tokens 2p, 2p + 1 x rows 2q, 2q + 1.
        let mut sums = [[vdupq_n_s32(0); 4]; 2];
        for j in 0..N / 2 {
            let x = zip(x[2 * j], x[2 * j + 1]);
            // SAFETY: the caller's promise; lines 2j and 2j + 1, zipped.
            unsafe {
                let w: [int8x16_t; 4] = from_fn(|q| vld1q_s8(codes.add(2 * j * LINE + 16 * q).cast()));
                for (sums, x) in sums.iter_mut().zip(x) {
                    for (sum, w) in sums.iter_mut().zip(w) {
                        *sum = smmla(*sum, x, w);
                    }
                }
            }
        }
        from_fn(|t| {
            from_fn(|h| {
                let [a, b] = [0, 1].map(|i| vreinterpretq_s64_s32(sums[t / 2][2 * h + i]));
                vreinterpretq_s32_s64(if t % 2 == 0 { vtrn1q_s64(a, b) } else { vtrn2q_s64(a, b) })
            })
        })
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn token<const N: usize, const WIDE: bool>(codes: *const u8, x: *const u32) -> Rows {
        // SAFETY: the caller's promise; the level has `sdot`.
        unsafe { Sdot::token::<N, WIDE>(codes, x) }
    }

    /// Of each two lines: rows 0, 1 of both, then rows 2, 3, …, each row's 8 columns together.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn arrange(codes: *mut u8) {
        for j in (0..8).step_by(2) {
            // SAFETY: the caller's promise.
            unsafe {
                let (first, second) = (line(codes, j), line(codes, j + 1));
                for h in 0..2 {
                    for (i, v) in zip(first[h], second[h]).into_iter().enumerate() {
                        vst1q_s8(codes.add(j * LINE + 32 * h + 16 * i).cast(), v);
                    }
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn line(codes: *const u8, i: usize) -> [int8x16_t; 2] {
        from_fn(|h| {
            // SAFETY: the caller's promise.
            let [a, b] = [0, 16].map(|at| unsafe { vld1q_s32(codes.add(i / 2 * 2 * LINE + 32 * h + at).cast()) });
            vreinterpretq_s8_s32(if i.is_multiple_of(2) {
                vuzp1q_s32(a, b)
            } else {
                vuzp2q_s32(a, b)
            })
        })
    }
}

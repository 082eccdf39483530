//! Small vector helpers: loads and stores of tails, sums across lanes, transposes, f16, exp.

use std::arch::aarch64::*;
use std::arch::asm;

/// The 4 floats at the start of `x`, or all of a shorter one and zeros.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load(x: &[f32]) -> float32x4_t {
    if let Some(x) = x.first_chunk::<4>() {
        // SAFETY: 4 elements.
        unsafe { vld1q_f32(x.as_ptr()) }
    } else {
        let mut all = [0.0; 4];
        all[..x.len()].copy_from_slice(x);
        // SAFETY: 4 elements.
        unsafe { vld1q_f32(all.as_ptr()) }
    }
}

/// Stores to the first 4 elements of `x`, or to all of a shorter one.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store(x: &mut [f32], v: float32x4_t) {
    if let Some(x) = x.first_chunk_mut::<4>() {
        // SAFETY: 4 elements.
        unsafe { vst1q_f32(x.as_mut_ptr(), v) }
    } else {
        let mut all = [0.0; 4];
        // SAFETY: 4 elements.
        unsafe { vst1q_f32(all.as_mut_ptr(), v) }
        x.copy_from_slice(&all[..x.len()]);
    }
}

/// Lane i = sum of the lanes of `v[i]`.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn sums(v: [float32x4_t; 4]) -> float32x4_t {
    vpaddq_f32(vpaddq_f32(v[0], v[1]), vpaddq_f32(v[2], v[3]))
}

/// Row r of the 4 x 4 result is column r of `v`.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn transpose(v: [float32x4_t; 4]) -> [float32x4_t; 4] {
    transpose_u32(v.map(|v| vreinterpretq_u32_f32(v))).map(|v| vreinterpretq_f32_u32(v))
}

/// The same for words.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn transpose_u32(v: [uint32x4_t; 4]) -> [uint32x4_t; 4] {
    // Rows 0 and 1 of columns 0 and 2, of columns 1 and 3; the same of rows 2 and 3.
    let pairs = |i: usize| [vtrn1q_u32(v[i], v[i + 1]), vtrn2q_u32(v[i], v[i + 1])];
    let ([a, b], [c, d]) = (pairs(0), pairs(2));
    let halves = |a, c| {
        let (a, c) = (vreinterpretq_u64_u32(a), vreinterpretq_u64_u32(c));
        [vtrn1q_u64(a, c), vtrn2q_u64(a, c)].map(|v| vreinterpretq_u32_u64(v))
    };
    let ([first, third], [second, fourth]) = (halves(a, c), halves(b, d));
    [first, second, third, fourth]
}

/// Four f16 as f32.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn widen(half: uint16x4_t) -> float32x4_t {
    let out: float32x4_t;
    // SAFETY: a baseline instruction on registers alone. (It may set floating-point status flags.)
    unsafe {
        asm!("fcvtl {out:v}.4s, {half:v}.4h", out = lateout(vreg) out, half = in(vreg) half, options(pure, nomem, nostack))
    };
    out
}

/// Four f32 as f16, rounded to nearest even, the mode that Rust programs run in.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn narrow(x: float32x4_t) -> uint16x4_t {
    let out: uint16x4_t;
    // SAFETY: as `widen`.
    unsafe {
        asm!("fcvtn {out:v}.4h, {x:v}.4s", out = lateout(vreg) out, x = in(vreg) x, options(pure, nomem, nostack))
    };
    out
}

/// Of words of two i16, the even and the odd elements of four: dwords of their high bytes, in order.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn high_bytes(even: int8x16_t, odd: int8x16_t) -> int8x16_t {
    vtrn2q_s8(even, odd)
}

/// The same of their low bytes, which are 0..=255, less 128: the top bit flipped.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn low_bytes(even: int8x16_t, odd: int8x16_t) -> int8x16_t {
    veorq_s8(vtrn1q_s8(even, odd), vdupq_n_s8(i8::MIN))
}

/// Fetches the cache line at `p`, which is read once. Any address: where nothing is mapped nothing happens.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn prefetch(p: *const u8) {
    // SAFETY: a hint that does not fault.
    unsafe { asm!("prfm pldl1strm, [{p}]", p = in(reg) p, options(readonly, nostack, preserves_flags)) }
}

/// See [`Isa::fetch`](crate::kernels::cpu::isa::Isa::fetch).
pub(super) fn fetch(bytes: &[u8], soon: bool) {
    for line in bytes.chunks(64) {
        // SAFETY: a hint that does not fault.
        unsafe {
            if soon {
                asm!("prfm pldl1keep, [{p}]", p = in(reg) line.as_ptr(), options(readonly, nostack, preserves_flags));
            } else {
                asm!("prfm pldl2keep, [{p}]", p = in(reg) line.as_ptr(), options(readonly, nostack, preserves_flags));
            }
        }
    }
}

/// e^x: x = n ln 2 + r with |r| <= ln 2 / 2, Taylor's sum to degree 7 for e^r (its next term is 5e-9), times 2^n.
///
/// Below -87.3 exactly 0, above 88.3 the value there (2.2e38); NaN stays NaN.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn exp(x: float32x4_t) -> float32x4_t {
    const LOWEST: f32 = -87.3;
    let c = |v: f32| vdupq_n_f32(v);
    let vanishes = vcltq_f32(x, c(LOWEST));
    let x = vminq_f32(c(88.3), vmaxq_f32(c(LOWEST), x));
    let n = vrndnq_f32(vmulq_f32(x, c(std::f32::consts::LOG2_E)));
    // ln 2 in two parts, the first with so few bits that n times it is exact.
    let r = vfmsq_f32(x, n, c(0.693_359_4));
    let r = vfmsq_f32(r, n, c(-2.121_944_4e-4));
    let mut p = c(1.0 / 5040.0);
    for term in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = vfmaq_f32(c(term), p, r);
    }
    let power = vshlq_n_s32::<23>(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)));
    let e = vmulq_f32(p, vreinterpretq_f32_s32(power));
    vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(e), vanishes))
}

/// 1 - 2 / (e^2x + 1).
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn tanh(x: float32x4_t) -> float32x4_t {
    let one = vdupq_n_f32(1.0);
    let e = exp(vaddq_f32(x, x));
    vsubq_f32(one, vdivq_f32(vdupq_n_f32(2.0), vaddq_f32(e, one)))
}

//! Element by element: gate functions, sums, soft cap, conversion.

use std::arch::x86_64::*;

use super::lanes::{exp, load, store, tanh};
use crate::kernels::cpu::types::Act;

/// Both gates are x / (1 + e^-z) with z = x for SiLU and, since (1 + tanh t)/2 = 1 / (1 + e^-2t), z = 2t for GELU.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn gated(act: Act, gate: &mut [f32], up: &[f32]) {
    let one = _mm256_set1_ps(1.0);
    let zero = _mm256_setzero_ps();
    let linear = _mm256_set1_ps(2.0 * std::f32::consts::FRAC_2_PI.sqrt());
    let cubic = _mm256_set1_ps(0.044715);
    for (g, u) in gate.chunks_mut(8).zip(up.chunks(8)) {
        let (x, u) = (load(g), load(u));
        let z = match act {
            Act::Silu => x,
            Act::GeluTanh => {
                let inner = _mm256_fmadd_ps(cubic, _mm256_mul_ps(x, x), one);
                _mm256_mul_ps(linear, _mm256_mul_ps(x, inner))
            }
        };
        let gated = _mm256_div_ps(x, _mm256_add_ps(one, exp(_mm256_sub_ps(zero, z))));
        store(g, _mm256_mul_ps(gated, u));
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn add(y: &mut [f32], x: &[f32]) {
    for (y, x) in y.chunks_mut(8).zip(x.chunks(8)) {
        let v = _mm256_add_ps(load(y), load(x));
        store(y, v);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn softcap(x: &mut [f32], cap: f32) {
    let (cap, inverse) = (_mm256_set1_ps(cap), _mm256_set1_ps(1.0 / cap));
    for x in x.chunks_mut(8) {
        let v = _mm256_mul_ps(cap, tanh(_mm256_mul_ps(load(x), inverse)));
        store(x, v);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn to_f16(x: &[f32], out: &mut [u16]) {
    for (x, out) in x.chunks(8).zip(out.chunks_mut(8)) {
        let half = _mm256_cvtps_ph(load(x), _MM_FROUND_TO_NEAREST_INT);
        if out.len() == 8 {
            // SAFETY: 8 elements of 2 bytes.
            unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), half) };
        } else {
            let mut all = [0u16; 8];
            // SAFETY: 8 elements of 2 bytes.
            unsafe { _mm_storeu_si128(all.as_mut_ptr().cast(), half) };
            out.copy_from_slice(&all[..out.len()]);
        }
    }
}

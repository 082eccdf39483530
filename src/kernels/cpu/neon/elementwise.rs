//! Element by element: gate functions, sums, soft cap, conversion.

use std::arch::aarch64::*;

use super::lanes::{exp, load, narrow, store, tanh};
use crate::kernels::cpu::types::Act;

/// Both gates are x / (1 + e^-z) with z = x for SiLU and, since (1 + tanh t)/2 = 1 / (1 + e^-2t), z = 2t for GELU.
#[target_feature(enable = "neon")]
pub(super) fn gated(act: Act, gate: &mut [f32], up: &[f32]) {
    let one = vdupq_n_f32(1.0);
    let linear = vdupq_n_f32(2.0 * std::f32::consts::FRAC_2_PI.sqrt());
    let cubic = vdupq_n_f32(0.044715);
    for (g, u) in gate.chunks_mut(4).zip(up.chunks(4)) {
        let (x, u) = (load(g), load(u));
        let z = match act {
            Act::Silu => x,
            Act::GeluTanh => {
                let inner = vfmaq_f32(one, cubic, vmulq_f32(x, x));
                vmulq_f32(linear, vmulq_f32(x, inner))
            }
        };
        let gated = vdivq_f32(x, vaddq_f32(one, exp(vnegq_f32(z))));
        store(g, vmulq_f32(gated, u));
    }
}

#[target_feature(enable = "neon")]
pub(super) fn add(y: &mut [f32], x: &[f32]) {
    for (y, x) in y.chunks_mut(4).zip(x.chunks(4)) {
        let v = vaddq_f32(load(y), load(x));
        store(y, v);
    }
}

#[target_feature(enable = "neon")]
pub(super) fn softcap(x: &mut [f32], cap: f32) {
    let (cap, inverse) = (vdupq_n_f32(cap), vdupq_n_f32(1.0 / cap));
    for x in x.chunks_mut(4) {
        let v = vmulq_f32(cap, tanh(vmulq_f32(load(x), inverse)));
        store(x, v);
    }
}

#[target_feature(enable = "neon")]
pub(super) fn to_f16(x: &[f32], out: &mut [u16]) {
    for (x, out) in x.chunks(4).zip(out.chunks_mut(4)) {
        let mut all = [0u16; 4];
        // SAFETY: 4 elements.
        unsafe { vst1_u16(all.as_mut_ptr(), narrow(load(x))) };
        out.copy_from_slice(&all[..out.len()]);
    }
}

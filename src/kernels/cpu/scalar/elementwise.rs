//! Element by element: gate functions, sums, soft cap, conversion.

use crate::kernels::cpu::types::Act;

pub(crate) fn gated(act: Act, gate: &mut [f32], up: &[f32]) {
    match act {
        Act::Silu => {
            for (g, u) in gate.iter_mut().zip(up) {
                *g = *g / (1.0 + (-*g).exp()) * u;
            }
        }
        Act::GeluTanh => {
            for (g, u) in gate.iter_mut().zip(up) {
                let x = *g;
                let inner = std::f32::consts::FRAC_2_PI.sqrt() * (x + 0.044715 * x * x * x);
                *g = 0.5 * x * (1.0 + inner.tanh()) * u;
            }
        }
    }
}

pub(crate) fn add(y: &mut [f32], x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

pub(crate) fn softcap(x: &mut [f32], cap: f32) {
    for x in x {
        *x = cap * (*x / cap).tanh();
    }
}

pub(crate) fn to_f16(x: &[f32], out: &mut [u16]) {
    for (o, x) in out.iter_mut().zip(x) {
        *o = half::f16::from_f32(*x).to_bits();
    }
}

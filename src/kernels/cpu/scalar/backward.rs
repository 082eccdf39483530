//! What gradients need: products whose right factor lies as it is summed, the gate's derivative, exponentials.

use crate::kernels::cpu::isa::Product;
use crate::kernels::cpu::types::Act;

/// # Safety
/// As [`Isa::product`](crate::kernels::cpu::isa::Isa::product).
pub(crate) unsafe fn product(p: Product) {
    p.check();
    for t in 0..p.rows {
        // SAFETY: this part of y is ours.
        let y = unsafe { p.y.at(p.at.0 + t, p.at.1, p.columns) };
        if !p.add {
            y.fill(0.0);
        }
        for c in 0..p.depth {
            let x = p.x[t * p.x_row + c * p.x_col];
            let w = &p.w[c * p.pitch..][..p.columns];
            y.iter_mut().zip(w).for_each(|(y, w)| *y += x * w);
        }
    }
}

pub(crate) fn gated_back(act: Act, gate: &[f32], up: &[f32], dh: &[f32], d_gate: &mut [f32], d_up: &mut [f32]) {
    for (i, (&x, &u)) in gate.iter().zip(up).enumerate() {
        let (value, slope) = match act {
            Act::Silu => {
                let s = 1.0 / (1.0 + (-x).exp());
                (x * s, s * (1.0 + x * (1.0 - s)))
            }
            Act::GeluTanh => {
                let linear = std::f32::consts::FRAC_2_PI.sqrt();
                let t = (linear * (x + 0.044715 * x * x * x)).tanh();
                let inner = linear * (1.0 + 3.0 * 0.044715 * x * x);
                (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner)
            }
        };
        d_gate[i] = dh[i] * u * slope;
        d_up[i] = dh[i] * value;
    }
}

pub(crate) fn exps(x: &mut [f32], highest: f32) -> f32 {
    let mut sum = 0.0;
    for x in x {
        *x = (*x - highest).exp();
        sum += *x;
    }
    sum
}

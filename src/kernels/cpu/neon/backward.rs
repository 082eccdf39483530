//! What gradients need: products whose right factor lies as it is summed, the gate's derivative, exponentials.

use std::arch::aarch64::*;

use super::lanes::{exp, load, store};
use crate::kernels::cpu::isa::Product;
use crate::kernels::cpu::types::Act;

/// Rows of a tile: 6 x 16 sums, 4 vectors of the right factor and 1 element of the left of the 32 registers.
const ROWS: usize = 6;

/// # Safety
/// As [`Isa::product`](crate::kernels::cpu::isa::Isa::product).
#[target_feature(enable = "neon")]
pub(super) unsafe fn product(p: Product) {
    p.check();
    let mut row = 0;
    while row < p.rows {
        let n = ROWS.min(p.rows - row);
        // SAFETY: the caller's promise.
        unsafe {
            match n {
                1 => rows::<1>(&p, row),
                2 => rows::<2>(&p, row),
                3 => rows::<3>(&p, row),
                4 => rows::<4>(&p, row),
                5 => rows::<5>(&p, row),
                _ => rows::<ROWS>(&p, row),
            }
        }
        row += n;
    }
}

/// Rows `row .. row + T`.
///
/// # Safety
/// As [`product`], which has checked `p`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn rows<const T: usize>(p: &Product, row: usize) {
    let x = p.x[(row * p.x_row).min(p.x.len())..].as_ptr();
    for column in (0..p.columns).step_by(16) {
        let n = 16.min(p.columns - column);
        let mut f = [[vdupq_n_f32(0.0); 4]; T];
        if p.add {
            for (t, f) in f.iter_mut().enumerate() {
                // SAFETY: this part of y is ours.
                let old = unsafe { p.y.at(p.at.0 + row + t, p.at.1 + column, n) };
                f.iter_mut().zip(old.chunks(4)).for_each(|(f, old)| *f = load(old));
            }
        }
        if n == 16 {
            // SAFETY: `check` has seen that the last row of w holds these columns, and x the last term of the last row.
            unsafe {
                let (mut x, mut w) = (x, p.w.as_ptr().wrapping_add(column));
                for _ in 0..p.depth {
                    let right = [
                        vld1q_f32(w),
                        vld1q_f32(w.add(4)),
                        vld1q_f32(w.add(8)),
                        vld1q_f32(w.add(12)),
                    ];
                    for (t, f) in f.iter_mut().enumerate() {
                        let x = x.add(t * p.x_row).read();
                        for (f, w) in f.iter_mut().zip(right) {
                            *f = vfmaq_n_f32(*f, w, x);
                        }
                    }
                    x = x.wrapping_add(p.x_col);
                    w = w.wrapping_add(p.pitch);
                }
            }
        } else {
            for c in 0..p.depth {
                let w = &p.w[c * p.pitch + column..][..n];
                for (t, f) in f.iter_mut().enumerate() {
                    let x = p.x[(row + t) * p.x_row + c * p.x_col];
                    for (f, w) in f.iter_mut().zip(w.chunks(4)) {
                        *f = vfmaq_n_f32(*f, load(w), x);
                    }
                }
            }
        }
        for (t, f) in f.into_iter().enumerate() {
            // SAFETY: as above.
            let out = unsafe { p.y.at(p.at.0 + row + t, p.at.1 + column, n) };
            out.chunks_mut(4).zip(f).for_each(|(out, f)| store(out, f));
        }
    }
}

/// Both gates are x s with s = 1 / (1 + e^-z), z = x or 2t (see `gated`): the slope is s + x s (1 - s) dz/dx.
#[target_feature(enable = "neon")]
pub(super) fn gated_back(act: Act, gate: &[f32], up: &[f32], dh: &[f32], d_gate: &mut [f32], d_up: &mut [f32]) {
    let one = vdupq_n_f32(1.0);
    let linear = vdupq_n_f32(2.0 * std::f32::consts::FRAC_2_PI.sqrt());
    let (cubic, cubic3) = (vdupq_n_f32(0.044715), vdupq_n_f32(3.0 * 0.044715));
    let all = gate
        .chunks(4)
        .zip(up.chunks(4))
        .zip(dh.chunks(4))
        .zip(d_gate.chunks_mut(4).zip(d_up.chunks_mut(4)));
    for (((g, u), dh), (d_gate, d_up)) in all {
        let (x, u, dh) = (load(g), load(u), load(dh));
        let square = vmulq_f32(x, x);
        let (z, dz) = match act {
            Act::Silu => (x, one),
            Act::GeluTanh => {
                let inner = vfmaq_f32(one, cubic, square);
                let slope = vmulq_f32(linear, vfmaq_f32(one, cubic3, square));
                (vmulq_f32(linear, vmulq_f32(x, inner)), slope)
            }
        };
        let s = vdivq_f32(one, vaddq_f32(one, exp(vnegq_f32(z))));
        let value = vmulq_f32(x, s);
        let bend = vmulq_f32(vmulq_f32(value, vsubq_f32(one, s)), dz);
        store(d_gate, vmulq_f32(vmulq_f32(dh, u), vaddq_f32(s, bend)));
        store(d_up, vmulq_f32(dh, value));
    }
}

#[target_feature(enable = "neon")]
pub(super) fn exps(x: &mut [f32], highest: f32) -> f32 {
    let highest = vdupq_n_f32(highest);
    let (whole, rest) = x.as_chunks_mut::<4>();
    let mut added = vdupq_n_f32(0.0);
    for x in whole {
        let e = exp(vsubq_f32(load(x), highest));
        added = vaddq_f32(added, e);
        store(x, e);
    }
    let mut tail = [0.0; 4];
    tail[..rest.len()].copy_from_slice(rest);
    let last = exp(vsubq_f32(load(&tail), highest));
    store(&mut tail, last);
    rest.copy_from_slice(&tail[..rest.len()]);
    vaddvq_f32(added) + rest.iter().sum::<f32>()
}

//! What gradients need: products whose right factor lies as it is summed, the gate's derivative, exponentials.

use std::arch::x86_64::*;

use super::lanes::{exp, load, store, sum};
use crate::kernels::cpu::isa::Product;
use crate::kernels::cpu::types::Act;

/// Rows of a tile: 6 x 16 sums, 2 vectors of the right factor and 1 element of the left fill the 16 registers.
const ROWS: usize = 6;

/// # Safety
/// As [`Isa::product`](crate::kernels::cpu::isa::Isa::product).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn product(p: Product) {
    p.check();
    // SAFETY: the caller's promise.
    unsafe {
        match p.x_row {
            1 => tiles::<1>(&p),
            _ => tiles::<0>(&p),
        }
    }
}

/// All tiles, for rows of x that lie S numbers apart, or any if that is 0: known distances are parts of instructions.
///
/// # Safety
/// As [`product`], which has checked `p`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tiles<const S: usize>(p: &Product) {
    for row in (0..p.rows).step_by(ROWS) {
        // SAFETY: the caller's promise.
        unsafe {
            match p.rows - row {
                1 => rows::<1, S>(p, row),
                2 => rows::<2, S>(p, row),
                3 => rows::<3, S>(p, row),
                4 => rows::<4, S>(p, row),
                5 => rows::<5, S>(p, row),
                _ => rows::<ROWS, S>(p, row),
            }
        }
    }
}

/// Rows `row .. row + T`.
///
/// # Safety
/// As [`product`], which has checked `p`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn rows<const T: usize, const S: usize>(p: &Product, row: usize) {
    let apart = if S == 0 { p.x_row } else { S };
    let x = p.x[(row * p.x_row).min(p.x.len())..].as_ptr();
    for column in (0..p.columns).step_by(16) {
        let n = 16.min(p.columns - column);
        let mut f = [[_mm256_setzero_ps(); 2]; T];
        if p.add {
            for (t, f) in f.iter_mut().enumerate() {
                // SAFETY: this part of y is ours.
                let old = unsafe { p.y.at(p.at.0 + row + t, p.at.1 + column, n) };
                *f = [load(old), load(old.get(8..).unwrap_or_default())];
            }
        }
        if n == 16 {
            // SAFETY: `check` has seen that the last row of w holds these columns, and x the last term of the last row.
            unsafe {
                let (mut x, mut w) = (x, p.w.as_ptr().wrapping_add(column));
                for _ in 0..p.depth {
                    let (a, b) = (_mm256_loadu_ps(w), _mm256_loadu_ps(w.add(8)));
                    for (t, f) in f.iter_mut().enumerate() {
                        let x = _mm256_broadcast_ss(&*x.add(t * apart));
                        f[0] = _mm256_fmadd_ps(a, x, f[0]);
                        f[1] = _mm256_fmadd_ps(b, x, f[1]);
                    }
                    x = x.wrapping_add(p.x_col);
                    w = w.wrapping_add(p.pitch);
                }
            }
        } else {
            for c in 0..p.depth {
                let w = &p.w[c * p.pitch + column..][..n];
                let (a, b) = (load(w), load(w.get(8..).unwrap_or_default()));
                for (t, f) in f.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(p.x[(row + t) * p.x_row + c * p.x_col]);
                    f[0] = _mm256_fmadd_ps(a, x, f[0]);
                    f[1] = _mm256_fmadd_ps(b, x, f[1]);
                }
            }
        }
        for (t, f) in f.into_iter().enumerate() {
            // SAFETY: as above.
            let out = unsafe { p.y.at(p.at.0 + row + t, p.at.1 + column, n) };
            out.chunks_mut(8).zip(f).for_each(|(out, f)| store(out, f));
        }
    }
}

/// Both gates are x s with s = 1 / (1 + e^-z), z = x or 2t (see `gated`): the slope is s + x s (1 - s) dz/dx.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn gated_back(act: Act, gate: &[f32], up: &[f32], dh: &[f32], d_gate: &mut [f32], d_up: &mut [f32]) {
    let one = _mm256_set1_ps(1.0);
    let linear = _mm256_set1_ps(2.0 * std::f32::consts::FRAC_2_PI.sqrt());
    let (cubic, cubic3) = (_mm256_set1_ps(0.044715), _mm256_set1_ps(3.0 * 0.044715));
    let all = gate
        .chunks(8)
        .zip(up.chunks(8))
        .zip(dh.chunks(8))
        .zip(d_gate.chunks_mut(8).zip(d_up.chunks_mut(8)));
    for (((g, u), dh), (d_gate, d_up)) in all {
        let (x, u, dh) = (load(g), load(u), load(dh));
        let square = _mm256_mul_ps(x, x);
        let (z, dz) = match act {
            Act::Silu => (x, one),
            Act::GeluTanh => {
                let inner = _mm256_fmadd_ps(cubic, square, one);
                let slope = _mm256_mul_ps(linear, _mm256_fmadd_ps(cubic3, square, one));
                (_mm256_mul_ps(linear, _mm256_mul_ps(x, inner)), slope)
            }
        };
        let s = _mm256_div_ps(one, _mm256_add_ps(one, exp(_mm256_sub_ps(_mm256_setzero_ps(), z))));
        let value = _mm256_mul_ps(x, s);
        let bend = _mm256_mul_ps(_mm256_mul_ps(value, _mm256_sub_ps(one, s)), dz);
        store(d_gate, _mm256_mul_ps(_mm256_mul_ps(dh, u), _mm256_add_ps(s, bend)));
        store(d_up, _mm256_mul_ps(dh, value));
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn exps(x: &mut [f32], highest: f32) -> f32 {
    let highest = _mm256_set1_ps(highest);
    let (whole, rest) = x.as_chunks_mut::<8>();
    let mut added = _mm256_setzero_ps();
    for x in whole {
        let e = exp(_mm256_sub_ps(load(x), highest));
        added = _mm256_add_ps(added, e);
        store(x, e);
    }
    let mut tail = [0.0; 8];
    tail[..rest.len()].copy_from_slice(rest);
    let last = exp(_mm256_sub_ps(load(&tail), highest));
    store(&mut tail, last);
    rest.copy_from_slice(&tail[..rest.len()]);
    sum(added) + rest.iter().sum::<f32>()
}

//! Rotary position embedding.

use std::arch::aarch64::*;

use super::lanes::{load, store};

#[target_feature(enable = "neon")]
pub(super) fn rope(x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32], interleaved: bool) {
    for head in x.chunks_exact_mut(head_dim) {
        if interleaved {
            pairs(&mut head[..2 * cos.len()], cos, sin);
        } else {
            let (a, b) = head[..2 * cos.len()].split_at_mut(cos.len());
            halves(a, b, cos, sin);
        }
    }
}

/// Pairs (i, i + dims/2).
#[inline]
#[target_feature(enable = "neon")]
fn halves(a: &mut [f32], b: &mut [f32], cos: &[f32], sin: &[f32]) {
    for ((a, b), (c, s)) in a
        .chunks_mut(4)
        .zip(b.chunks_mut(4))
        .zip(cos.chunks(4).zip(sin.chunks(4)))
    {
        let (va, vb) = rotate(load(a), load(b), load(c), load(s));
        store(a, va);
        store(b, vb);
    }
}

/// Pairs (2i, 2i + 1): `ld2` takes them apart, `st2` puts them together.
#[inline]
#[target_feature(enable = "neon")]
fn pairs(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    for (x, (c, s)) in x.chunks_mut(8).zip(cos.chunks(4).zip(sin.chunks(4))) {
        let mut all = [0.0f32; 8];
        all[..x.len()].copy_from_slice(x);
        // SAFETY: 8 elements.
        let float32x4x2_t(a, b) = unsafe { vld2q_f32(all.as_ptr()) };
        let (a, b) = rotate(a, b, load(c), load(s));
        // SAFETY: 8 elements.
        unsafe { vst2q_f32(all.as_mut_ptr(), float32x4x2_t(a, b)) };
        x.copy_from_slice(&all[..x.len()]);
    }
}

/// (a c - b s, a s + b c).
#[inline]
#[target_feature(enable = "neon")]
fn rotate(a: float32x4_t, b: float32x4_t, c: float32x4_t, s: float32x4_t) -> (float32x4_t, float32x4_t) {
    (vfmsq_f32(vmulq_f32(a, c), b, s), vfmaq_f32(vmulq_f32(b, c), a, s))
}

//! Rotary position embedding.

use std::arch::x86_64::*;

use super::lanes::{load, store};

#[target_feature(enable = "avx2,fma,f16c")]
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
#[target_feature(enable = "avx2,fma,f16c")]
fn halves(a: &mut [f32], b: &mut [f32], cos: &[f32], sin: &[f32]) {
    for ((a, b), (c, s)) in a
        .chunks_mut(8)
        .zip(b.chunks_mut(8))
        .zip(cos.chunks(8).zip(sin.chunks(8)))
    {
        let (va, vb, c, s) = (load(a), load(b), load(c), load(s));
        store(a, _mm256_fmsub_ps(va, c, _mm256_mul_ps(vb, s)));
        store(b, _mm256_fmadd_ps(va, s, _mm256_mul_ps(vb, c)));
    }
}

/// Pairs (2i, 2i + 1): even lanes become a c - b s, odd lanes b c + a s, which is one fmaddsub.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn pairs(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    for (x, (c, s)) in x.chunks_mut(8).zip(cos.chunks(4).zip(sin.chunks(4))) {
        let v = load(x);
        let c = _mm256_permutevar8x32_ps(load(c), twice);
        let s = _mm256_permutevar8x32_ps(load(s), twice);
        let swapped = _mm256_permute_ps(v, 0b10_11_00_01);
        store(x, _mm256_fmaddsub_ps(v, c, _mm256_mul_ps(swapped, s)));
    }
}

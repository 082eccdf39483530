//! Root mean square norm.

use std::arch::x86_64::*;

use super::lanes::{load, store, sum};

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn rms_norm(x: &mut [f32], weight: &[f32], eps: f32) {
    let mut squares = [_mm256_setzero_ps(); 4];
    for (i, x) in x.chunks(8).enumerate() {
        let v = load(x);
        squares[i % 4] = _mm256_fmadd_ps(v, v, squares[i % 4]);
    }
    let [a, b, c, d] = squares;
    let mean = sum(_mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d))) / x.len() as f32;
    let scale = _mm256_set1_ps(1.0 / (mean + eps).sqrt());
    for (x, w) in x.chunks_mut(8).zip(weight.chunks(8)) {
        let v = _mm256_mul_ps(_mm256_mul_ps(load(x), scale), load(w));
        store(x, v);
    }
}

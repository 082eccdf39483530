//! Root mean square norm.

use std::arch::aarch64::*;

use super::lanes::{load, store};

#[target_feature(enable = "neon")]
pub(super) fn rms_norm(x: &mut [f32], weight: &[f32], eps: f32) {
    let mut squares = [vdupq_n_f32(0.0); 4];
    for x in x.chunks(16) {
        for (x, squares) in x.chunks(4).zip(&mut squares) {
            let v = load(x);
            *squares = vfmaq_f32(*squares, v, v);
        }
    }
    let [a, b, c, d] = squares;
    let mean = vaddvq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d))) / x.len() as f32;
    let scale = vdupq_n_f32(1.0 / (mean + eps).sqrt());
    for (x, w) in x.chunks_mut(4).zip(weight.chunks(4)) {
        let v = vmulq_f32(vmulq_f32(load(x), scale), load(w));
        store(x, v);
    }
}

//! Root mean square norm: x_i / sqrt(mean_j(x_j^2) + eps) * w_i.

pub(crate) fn rms_norm(x: &mut [f32], weight: &[f32], eps: f32) {
    // Summed in f64: this is the reference, and a row may have a few elements a thousand times larger than the rest.
    let sum: f64 = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    let scale = (1.0 / (sum / x.len() as f64 + f64::from(eps)).sqrt()) as f32;
    for (v, w) in x.iter_mut().zip(weight) {
        *v = *v * scale * w;
    }
}

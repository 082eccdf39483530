//! Random numbers as torch's initialisations have them distributed.

use std::f32::consts::TAU;

use crate::rng::Rng;

/// `kaiming_uniform_(a=√5)` of `[rows][cols]`: uniform in ±√(6 / ((1 + 5) cols)) = ±1/√cols.
pub(super) fn uniform(rng: &mut Rng, rows: usize, cols: usize) -> Vec<f32> {
    let bound = 1.0 / (cols as f32).sqrt();
    (0..rows * cols)
        .map(|_| (2.0 * rng.unit() as f32 - 1.0) * bound)
        .collect()
}

/// A normal number (Box and Muller 1958).
fn normal(rng: &mut Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.unit()).ln()).sqrt() as f32;
    radius * (TAU * rng.unit() as f32).cos()
}

/// So many of them, of this deviation.
pub(super) fn normals(rng: &mut Rng, n: usize, deviation: f32) -> Vec<f32> {
    (0..n).map(|_| normal(rng) * deviation).collect()
}

//! What AdaLoRA adds to the loss: `orth_reg_weight` times the mean over all A and B of |A A^T - 1| and |B^T B - 1|. Frobenius norms, not
//! their squares as in the paper: what PEFT 0.21 does (peft/tuners/adalora/model.py).

use super::parameters::{Parameter, Parameters};

/// The weight that PEFT takes for this config; 0 for any other method.
pub(super) fn weight(parameters: &Parameters) -> f64 {
    match parameters.text("peft_type") {
        Some("ADALORA") => parameters.number("orth_reg_weight", 0.5).max(0.0),
        _ => 0.0,
    }
}

/// A tensor of vectors that are to be orthonormal: how many, how long, and the distance between the numbers of one and between two of them.
struct Vectors {
    n: usize,
    len: usize,
    step: usize,
    next: usize,
}

impl Vectors {
    fn of(p: &Parameter) -> Option<Self> {
        let [rows, cols] = p.shape[..] else { return None };
        if p.key.ends_with(".lora_A") {
            return Some(Vectors {
                n: rows,
                len: cols,
                step: 1,
                next: cols,
            });
        }
        p.key.ends_with(".lora_B").then_some(Vectors {
            n: cols,
            len: rows,
            step: cols,
            next: 1,
        })
    }

    /// Their products less the unit matrix, and its norm.
    fn apart(&self, values: &[f32]) -> (Vec<f64>, f64) {
        let number = |i: usize, k: usize| f64::from(values[i * self.next + k * self.step]);
        let product = |i: usize, j: usize| (0..self.len).map(|k| number(i, k) * number(j, k)).sum::<f64>();
        let c: Vec<f64> = (0..self.n * self.n)
            .map(|p| product(p / self.n, p % self.n) - f64::from(u8::from(p / self.n == p % self.n)))
            .collect();
        let norm = c.iter().map(|c| c * c).sum::<f64>().sqrt();
        (c, norm)
    }
}

/// The term, as it counts in the loss.
pub(super) fn value(parameters: &Parameters, weight: f64) -> f64 {
    let norms: Vec<f64> = parameters
        .all()
        .iter()
        .filter_map(|p| Some(Vectors::of(p)?.apart(&p.values).1))
        .collect();
    weight * norms.iter().sum::<f64>() / norms.len().max(1) as f64
}

/// Adds its gradients.
pub(super) fn add(parameters: &mut Parameters, weight: f64) {
    let n = parameters.all().iter().filter_map(Vectors::of).count();
    let weight = weight / n.max(1) as f64;
    for p in parameters.all_mut() {
        let Some(vectors) = Vectors::of(p) else { continue };
        let (c, norm) = vectors.apart(&p.values);
        if norm <= 0.0 {
            continue;
        }
        p.grad.resize(p.values.len(), 0.0);
        // Of |C| by C it is C / |C|, and C is symmetric.
        for i in 0..vectors.n {
            for k in 0..vectors.len {
                let along: f64 = (0..vectors.n)
                    .map(|j| c[i * vectors.n + j] * f64::from(p.values[j * vectors.next + k * vectors.step]))
                    .sum();
                p.grad[i * vectors.next + k * vectors.step] += (2.0 * weight / norm * along) as f32;
            }
        }
    }
}

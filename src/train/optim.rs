//! Optimizers: what a gradient does to a tensor. Formulas are those of torch (AdamW, SGD) and of lion-pytorch.

use super::parameters::Parameter;
use crate::error::{Error, Result};
use crate::quant::f32::append;

/// Which one, with its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101).
    AdamW {
        /// How slowly the means of gradients and of their squares follow.
        betas: (f32, f32),
        /// Added to the root of the second.
        eps: f32,
        /// Whether both means are kept in 8 bits, in blocks of 256 with a scale each (Dettmers et al. 2022, arXiv:2110.02861, with linear
        /// codes for the first, and codes of the root for the second).
        eight_bits: bool,
    },
    /// Stochastic gradient descent.
    Sgd {
        /// How much of the last step is in the next.
        momentum: f32,
    },
    /// Lion (Chen et al. 2023, arXiv:2302.06675).
    Lion {
        /// How much of the mean is in the step's sign, and how slowly it follows.
        betas: (f32, f32),
    },
}

impl Optimizer {
    /// AdamW as torch has it by default.
    pub const ADAMW: Optimizer = Optimizer::AdamW {
        betas: (0.9, 0.999),
        eps: 1e-8,
        eight_bits: false,
    };

    /// All, by name.
    pub const ALL: [(&'static str, Optimizer); 4] = [
        ("adamw", Self::ADAMW),
        (
            "adamw8bit",
            Optimizer::AdamW {
                betas: (0.9, 0.999),
                eps: 1e-8,
                eight_bits: true,
            },
        ),
        ("sgd", Optimizer::Sgd { momentum: 0.9 }),
        ("lion", Optimizer::Lion { betas: (0.9, 0.99) }),
    ];

    /// The one called `name`, with its usual constants.
    ///
    /// # Errors
    /// `Usage` for another name.
    pub fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|o| o.0 == name).map(|o| o.1);
        found.ok_or_else(|| {
            let e = Error::usage("unknown optimizer").item("optimizer");
            e.expected("adamw, adamw8bit, sgd or lion").found(name)
        })
    }

    /// Means that it keeps of each number.
    fn means(&self) -> usize {
        match self {
            Optimizer::AdamW { .. } => 2,
            _ => 1,
        }
    }
}

impl Optimizer {
    /// Bytes that it keeps of `n` numbers.
    pub(super) fn bytes(&self, n: usize) -> usize {
        match self {
            Optimizer::AdamW { eight_bits: true, .. } => 2 * (n + 4 * n.div_ceil(BLOCK)),
            _ => 4 * self.means() * n,
        }
    }
}

/// Numbers of a block of 8-bit means.
const BLOCK: usize = 256;

/// A mean of each number of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Mean {
    /// As it is.
    Whole(Vec<f32>),
    /// Codes from -127 to 127, times a scale for each block.
    Signed(Vec<i8>, Vec<f32>),
    /// The square of codes from 0 to 255, times a scale for each block.
    Squares(Vec<u8>, Vec<f32>),
}

impl Mean {
    fn zeros(n: usize) -> Self {
        Mean::Whole(vec![0.0; n])
    }

    /// Numbers `at .. at + out.len()`, which are one block or a part of one.
    fn read(&self, at: usize, out: &mut [f32]) {
        match self {
            Mean::Whole(all) => out.copy_from_slice(&all[at..][..out.len()]),
            Mean::Signed(codes, scales) => {
                let scale = scales[at / BLOCK];
                out.iter_mut()
                    .zip(&codes[at..])
                    .for_each(|(o, c)| *o = f32::from(*c) * scale);
            }
            Mean::Squares(codes, scales) => {
                let scale = scales[at / BLOCK];
                for (o, c) in out.iter_mut().zip(&codes[at..]) {
                    let root = f32::from(*c) * scale;
                    *o = root * root;
                }
            }
        }
    }

    /// Stores numbers `at ..`, a whole block or the last one.
    fn write(&mut self, at: usize, values: &[f32]) {
        match self {
            Mean::Whole(all) => all[at..][..values.len()].copy_from_slice(values),
            Mean::Signed(codes, scales) => {
                let most = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                let scale = most / 127.0;
                scales[at / BLOCK] = scale;
                let steps = if scale > 0.0 { 1.0 / scale } else { 0.0 };
                for (c, v) in codes[at..].iter_mut().zip(values) {
                    *c = (v * steps).round().clamp(-127.0, 127.0) as i8;
                }
            }
            Mean::Squares(codes, scales) => {
                let most = values.iter().fold(0.0f32, |m, v| m.max(*v)).sqrt();
                let scale = most / 255.0;
                scales[at / BLOCK] = scale;
                let steps = if scale > 0.0 { 1.0 / scale } else { 0.0 };
                for (c, v) in codes[at..].iter_mut().zip(values) {
                    // Never down to 0, by which the step would be divided.
                    *c = (v.sqrt() * steps).ceil().clamp(0.0, 255.0) as u8;
                }
            }
        }
    }

    /// Its bytes, as a checkpoint has them.
    pub fn save(&self, out: &mut Vec<u8>) {
        match self {
            Mean::Whole(all) => append(all, out),
            Mean::Signed(codes, scales) => {
                out.extend(codes.iter().map(|c| *c as u8));
                append(scales, out);
            }
            Mean::Squares(codes, scales) => {
                out.extend_from_slice(codes);
                append(scales, out);
            }
        }
    }

    /// Takes what [`Mean::save`] appended; `None` if there is less.
    pub fn load(&mut self, bytes: &mut &[u8]) -> Option<()> {
        let floats = |all: &mut [f32], bytes: &mut &[u8]| -> Option<()> {
            let (own, rest) = bytes.split_at_checked(4 * all.len())?;
            *bytes = rest;
            for (v, b) in all.iter_mut().zip(own.as_chunks().0) {
                *v = f32::from_le_bytes(*b);
            }
            Some(())
        };
        match self {
            Mean::Whole(all) => floats(all, bytes),
            Mean::Signed(codes, scales) => {
                let (own, rest) = bytes.split_at_checked(codes.len())?;
                *bytes = rest;
                codes.iter_mut().zip(own).for_each(|(c, b)| *c = *b as i8);
                floats(scales, bytes)
            }
            Mean::Squares(codes, scales) => {
                let (own, rest) = bytes.split_at_checked(codes.len())?;
                *bytes = rest;
                codes.copy_from_slice(own);
                floats(scales, bytes)
            }
        }
    }
}

/// How one tensor is changed in a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    /// Learning rate.
    pub lr: f32,
    /// Share of itself that a number loses for a learning rate of 1.
    pub weight_decay: f32,
    /// Multiplies the gradient first.
    pub clip: f32,
}

/// What an optimizer keeps of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kept {
    pub means: Vec<Mean>,
    /// Steps so far.
    pub steps: u64,
}

impl Kept {
    /// Of a tensor of `n` numbers that no step has changed yet.
    pub fn new(optimizer: &Optimizer, n: usize) -> Self {
        let means = match optimizer {
            Optimizer::AdamW { eight_bits: true, .. } => {
                let scales = vec![0.0; n.div_ceil(BLOCK)];
                vec![
                    Mean::Signed(vec![0; n], scales.clone()),
                    Mean::Squares(vec![0; n], scales),
                ]
            }
            _ => vec![Mean::zeros(n); optimizer.means()],
        };
        Kept { means, steps: 0 }
    }

    /// One step.
    pub fn step(&mut self, optimizer: &Optimizer, rates: Rates, p: &mut Parameter) {
        self.steps += 1;
        let (mut m, mut v) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
        let Rates { lr, weight_decay, clip } = rates;
        let blocks = p.values.chunks_mut(BLOCK).zip(p.grad.chunks(BLOCK)).enumerate();
        let grads = |grad: &[f32]| -> [f32; BLOCK] {
            let mut g = [0.0; BLOCK];
            g.iter_mut().zip(grad).for_each(|(g, v)| *g = v * clip);
            g
        };
        match *optimizer {
            Optimizer::AdamW { betas, eps, .. } => {
                let correct = |beta: f32| 1.0 - f64::from(beta).powi(self.steps.min(1 << 30) as i32);
                let step = (f64::from(lr) / correct(betas.0)) as f32;
                let root = correct(betas.1).sqrt() as f32;
                for (i, (values, grad)) in blocks {
                    let (at, g) = (i * BLOCK, grads(grad));
                    let (m, v) = (&mut m[..values.len()], &mut v[..values.len()]);
                    self.means[0].read(at, m);
                    self.means[1].read(at, v);
                    for (((p, g), m), v) in values.iter_mut().zip(&g).zip(&mut *m).zip(&mut *v) {
                        *p *= 1.0 - lr * weight_decay;
                        *m += (g - *m) * (1.0 - betas.0);
                        *v = betas.1 * *v + (1.0 - betas.1) * g * g;
                        *p -= step * *m / (v.sqrt() / root + eps);
                    }
                    self.means[0].write(at, m);
                    self.means[1].write(at, v);
                }
            }
            Optimizer::Sgd { momentum } => {
                let first = self.steps == 1;
                for (i, (values, grad)) in blocks {
                    let (at, g) = (i * BLOCK, grads(grad));
                    let m = &mut m[..values.len()];
                    self.means[0].read(at, m);
                    for ((p, g), m) in values.iter_mut().zip(&g).zip(&mut *m) {
                        let g = g + weight_decay * *p;
                        *m = if first { g } else { momentum * *m + g };
                        *p -= lr * *m;
                    }
                    self.means[0].write(at, m);
                }
            }
            Optimizer::Lion { betas } => {
                for (i, (values, grad)) in blocks {
                    let (at, g) = (i * BLOCK, grads(grad));
                    let m = &mut m[..values.len()];
                    self.means[0].read(at, m);
                    for ((p, g), m) in values.iter_mut().zip(&g).zip(&mut *m) {
                        *p *= 1.0 - lr * weight_decay;
                        let way = betas.0 * *m + (1.0 - betas.0) * g;
                        if way != 0.0 {
                            *p -= lr * way.signum();
                        }
                        *m = betas.1 * *m + (1.0 - betas.1) * g;
                    }
                    self.means[0].write(at, m);
                }
            }
        }
    }
}

/// The norm of all gradients together, as `clip_grad_norm_` takes it.
pub(super) fn norm<'a>(grads: impl Iterator<Item = &'a [f32]>) -> f64 {
    let squares = |g: &[f32]| g.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>();
    grads.map(squares).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bits_are_within_half_a_step_and_come_back_from_bytes() {
        let values: Vec<f32> = (0..600).map(|i| (i as f32 * 0.37).sin() * (i % 5) as f32).collect();
        let n = values.len();
        let mut signed = Mean::Signed(vec![0; n], vec![0.0; n.div_ceil(BLOCK)]);
        let mut squares = Mean::Squares(vec![0; n], vec![0.0; n.div_ceil(BLOCK)]);
        for at in (0..n).step_by(BLOCK) {
            let part = &values[at..n.min(at + BLOCK)];
            signed.write(at, part);
            let positive: Vec<f32> = part.iter().map(|v| v * v).collect();
            squares.write(at, &positive);
            let (mut m, mut v) = (vec![0.0; part.len()], vec![0.0; part.len()]);
            signed.read(at, &mut m);
            squares.read(at, &mut v);
            let most = part.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            for ((m, v), x) in m.iter().zip(&v).zip(part) {
                assert!((m - x).abs() <= 0.5001 * most / 127.0);
                // Roots are rounded up.
                let over = v.sqrt() - x.abs();
                assert!((-1e-5..=1.0001 * most / 255.0).contains(&over), "{over}");
            }
        }
        for mean in [signed, squares, Mean::Whole(values)] {
            let mut bytes = Vec::new();
            mean.save(&mut bytes);
            let mut again = match &mean {
                Mean::Whole(v) => Mean::zeros(v.len()),
                Mean::Signed(c, s) => Mean::Signed(vec![0; c.len()], vec![0.0; s.len()]),
                Mean::Squares(c, s) => Mean::Squares(vec![0; c.len()], vec![0.0; s.len()]),
            };
            assert!(again.load(&mut &bytes[..bytes.len() - 1]).is_none());
            let mut rest = &bytes[..];
            assert!(again.load(&mut rest).is_some() && rest.is_empty());
            assert_eq!(again, mean);
        }
    }
}

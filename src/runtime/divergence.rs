//! How far one model's predictions are from another's: the Kullback-Leibler divergence of next-token distributions, in nats.

use std::ops::ControlFlow;

use super::Session;
use crate::error::Result;

/// log(sum(exp(logits))), in f64.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    max + logits.iter().map(|&l| (f64::from(l) - max).exp()).sum::<f64>().ln()
}

/// Divergences of many predictions.
#[derive(Clone, Debug, Default)]
pub struct Divergence {
    sum: f64,
    max: f64,
    count: usize,
    same_top: usize,
}

impl Divergence {
    /// Counts KL(reference || other) of one prediction.
    pub fn add(&mut self, reference: &[f32], other: &[f32]) {
        let (zr, zo) = (log_sum_exp(reference), log_sum_exp(other));
        let term = |(&r, &o): (&f32, &f32)| {
            let (lr, lo) = (f64::from(r) - zr, f64::from(o) - zo);
            lr.exp() * (lr - lo)
        };
        let kl: f64 = reference.iter().zip(other).map(term).sum();
        self.sum += kl;
        self.max = self.max.max(kl);
        self.count += 1;
        self.same_top += usize::from(highest(reference) == highest(other));
    }

    /// Of all predictions.
    pub fn mean(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }

    /// The largest.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// Predictions.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The share of predictions with the same most likely token.
    pub fn same_top(&self) -> f64 {
        self.same_top as f64 / self.count.max(1) as f64
    }

    /// Of every prediction of `other` over `tokens` from that of `reference`; both sessions start afresh.
    ///
    /// # Errors
    /// As [`Session::eval`].
    pub fn between(reference: &mut Session, other: &mut Session, tokens: &[u32]) -> Result<Self> {
        /// Tokens that both read before they are compared: bounds the memory for their logits.
        const PIECE: usize = 32;
        let mut divergence = Self::default();
        reference.reset();
        other.reset();
        for piece in tokens.chunks(PIECE) {
            let mut rows = Vec::with_capacity(piece.len());
            reference.eval_each(piece, &mut |_, logits| {
                rows.push(logits.to_vec());
                ControlFlow::Continue(())
            })?;
            other.eval_each(piece, &mut |i, logits| {
                divergence.add(&rows[i], logits);
                ControlFlow::Continue(())
            })?;
        }
        Ok(divergence)
    }
}

fn highest(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
}

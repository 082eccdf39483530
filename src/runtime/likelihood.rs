//! How well a model predicts tokens: log-probabilities, in nats, and their mean.

use super::divergence::log_sum_exp;

/// log softmax(logits)_id, in f64; minus infinity for an id that has no logit.
pub fn log_probability(logits: &[f32], id: u32) -> f64 {
    f64::from(logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY)) - log_sum_exp(logits)
}

/// Predictions of many tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Likelihood {
    /// Sums of negative log-probabilities and of their squares.
    nll: f64,
    squares: f64,
    count: u64,
}

impl Likelihood {
    /// Counts a token that was predicted with this log-probability.
    pub fn add(&mut self, log_probability: f64) {
        self.nll -= log_probability;
        self.squares += log_probability * log_probability;
        self.count += 1;
    }

    /// Tokens.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of their log-probabilities.
    pub fn sum(&self) -> f64 {
        -self.nll
    }

    /// The mean negative log-probability: the loss. NaN without tokens.
    pub fn mean(&self) -> f64 {
        self.nll / self.count as f64
    }

    /// exp of the mean. NaN without tokens.
    pub fn perplexity(&self) -> f64 {
        self.mean().exp()
    }

    /// The standard error of the mean, carried to the perplexity. NaN for less than two tokens.
    pub fn error(&self) -> f64 {
        let variance = self.squares / self.count as f64 - self.mean().powi(2);
        match self.count {
            0 | 1 => f64::NAN,
            n => (variance.max(0.0) / (n - 1) as f64).sqrt() * self.perplexity(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_match_by_hand() {
        let p = log_probability(&[0.0, 2f32.ln()], 1).exp();
        assert!((p - 2.0 / 3.0).abs() < 1e-7, "{p}");
        assert_eq!(log_probability(&[0.0], 1), f64::NEG_INFINITY);
        let mut of = Likelihood::default();
        assert!(of.perplexity().is_nan() && of.error().is_nan());
        [-1.0, -3.0].into_iter().for_each(|l| of.add(l));
        assert_eq!((of.count(), of.sum(), of.mean()), (2, -4.0, 2.0));
        assert_eq!(of.perplexity(), 2f64.exp());
        // The variance of 1 and 3 about 2 is 1, over n - 1 = 1.
        assert_eq!(of.error(), 2f64.exp());
    }
}

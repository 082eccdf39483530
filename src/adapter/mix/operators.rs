//! What is done to matching tensors of several adapters, entry by entry: pruning, the election of a sign, the weighted sum.
//!
//! The rules are those of `peft/utils/merge_utils.py` (0.21.2): TIES (Yadav et al. 2023, arXiv 2306.01708), DARE (Yu et al.
//! 2023, arXiv 2311.03099) and magnitude pruning. All in f32, as there.

use super::MajoritySign;
use crate::rng::Rng;

/// How entries are dropped before the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pruning {
    /// The smallest go.
    Magnitude,
    /// Each stays with the probability `density`; what stays is divided by it.
    Random,
}

/// A weighted sum of tensors, with what is done before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operator {
    pub(super) pruning: Option<Pruning>,
    /// The share of entries to keep, in (0, 1].
    pub(super) density: f64,
    /// For each entry only the tensors count that have the elected sign, and their mean takes the place of the sum.
    pub(super) election: Option<MajoritySign>,
}

impl Operator {
    /// The mix of `tensors`, all of one length, with `weights`. Random numbers are drawn tensor by tensor, one an entry.
    pub(super) fn mix(&self, mut tensors: Vec<Vec<f32>>, weights: &[f32], rng: &mut Rng) -> Vec<f32> {
        // As in PEFT, a density of 1 draws no random numbers.
        if self.density < 1.0 {
            for t in &mut tensors {
                match self.pruning {
                    Some(Pruning::Magnitude) => keep_largest(t, self.density),
                    Some(Pruning::Random) => keep_some(t, self.density, rng),
                    None => {}
                }
            }
        }
        let entries = tensors.first().map_or(0, Vec::len);
        let column = |i: usize| tensors.iter().zip(weights).map(move |(t, &w)| (t[i], w));
        (0..entries)
            .map(|i| match self.election {
                None => column(i).map(|(x, w)| x * w).sum(),
                Some(by) => elected_mean(column(i), by),
            })
            .collect()
    }
}

/// The weighted sum of the entries that have the elected sign, divided by their number. The sign is elected before the
/// weights come in; a tie elects +, and a zero never counts.
fn elected_mean(entries: impl Iterator<Item = (f32, f32)> + Clone, by: MajoritySign) -> f32 {
    let vote: f32 = entries.clone().map(|(x, _)| by.vote(x)).sum();
    let counts = |x: f32| if vote >= 0.0 { x > 0.0 } else { x < 0.0 };
    let (sum, count) = entries
        .filter(|e| counts(e.0))
        .fold((0.0f32, 0u32), |(sum, count), (x, w)| (sum + x * w, count + 1));
    sum / count.max(1) as f32
}

impl MajoritySign {
    fn vote(self, x: f32) -> f32 {
        match self {
            MajoritySign::Total => x,
            MajoritySign::Frequency if x == 0.0 => 0.0,
            MajoritySign::Frequency => x.signum(),
        }
    }
}

/// Zeroes all but the `density * len` (rounded down) entries of the largest magnitude; of equals the first stay.
fn keep_largest(t: &mut [f32], density: f64) {
    let keep = (density * t.len() as f64) as usize;
    if keep == 0 {
        return t.fill(0.0);
    }
    // Magnitudes that are not negative are in the order of their bits.
    let bits = |x: f32| x.abs().to_bits();
    let mut sorted: Vec<u32> = t.iter().map(|&x| bits(x)).collect();
    let at = sorted.len() - keep;
    let (_, &mut least, above) = sorted.select_nth_unstable(at);
    let mut equals = keep - above.iter().filter(|&&b| b > least).count();
    for x in t {
        let b = bits(*x);
        if b < least || (b == least && equals == 0) {
            *x = 0.0;
        } else if b == least {
            equals -= 1;
        }
    }
}

fn keep_some(t: &mut [f32], density: f64, rng: &mut Rng) {
    for x in t {
        *x = if rng.unit() < density { *x / density as f32 } else { 0.0 };
    }
}

/// The `q` quantile of `values`, which are not empty, with linear interpolation, as `torch.quantile` computes it.
pub(super) fn quantile(mut values: Vec<f32>, q: f64) -> f32 {
    let at = q * (values.len() - 1) as f64;
    let (_, &mut below, above) = values.select_nth_unstable_by(at as usize, f32::total_cmp);
    let next = above.iter().copied().min_by(f32::total_cmp).unwrap_or(below);
    below + (next - below) * at.fract() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Operator = Operator {
        pruning: None,
        density: 1.0,
        election: None,
    };

    #[test]
    fn the_largest_stay_and_of_equals_the_first() {
        let mut t = [1.0, -3.0, 2.0, -2.0, 0.5, 2.0];
        keep_largest(&mut t, 0.5);
        assert_eq!(t, [0.0, -3.0, 2.0, -2.0, 0.0, 0.0]);
        keep_largest(&mut t, 0.1);
        assert_eq!(t, [0.0; 6]);
    }

    #[test]
    fn signs_are_elected_before_the_weights() {
        let tensors = || {
            vec![
                vec![3.0, 0.0, 1.0, -1.0],
                vec![-1.0, 0.0, -1.0, -2.0],
                vec![-1.0, 5.0, 0.0, 4.0],
            ]
        };
        let weights = [10.0, 1.0, 2.0];
        let mix = |by| {
            let ties = Operator {
                election: Some(by),
                ..PLAIN
            };
            ties.mix(tensors(), &weights, &mut Rng::new(0))
        };
        // Sums 1, 5, 0 (elects +), 1; by number of signs -1, 1, 0, -1.
        assert_eq!(mix(MajoritySign::Total), [30.0, 10.0, 10.0, 8.0]);
        assert_eq!(mix(MajoritySign::Frequency), [-1.5, 10.0, 10.0, -6.0]);
    }

    #[test]
    fn random_pruning_keeps_the_share_and_the_mean() {
        let dare = Operator {
            pruning: Some(Pruning::Random),
            density: 0.3,
            ..PLAIN
        };
        let n = 100_000;
        let mixed = dare.mix(vec![vec![1.0; n]], &[1.0], &mut Rng::new(7));
        let kept = mixed.iter().filter(|&&x| x != 0.0).count() as f64 / n as f64;
        // Five standard deviations.
        assert!((kept - 0.3).abs() < 5.0 * (0.3f64 * 0.7 / n as f64).sqrt(), "{kept}");
        assert!(mixed.iter().all(|&x| x == 0.0 || (x - 1.0 / 0.3).abs() < 1e-6));
        assert_eq!(mixed, dare.mix(vec![vec![1.0; n]], &[1.0], &mut Rng::new(7)));
        assert_ne!(mixed, dare.mix(vec![vec![1.0; n]], &[1.0], &mut Rng::new(8)));
    }

    #[test]
    fn quantiles_lie_between_the_values() {
        let values = vec![4.0, 1.0, 3.0, 2.0];
        for (q, expected) in [(0.0, 1.0), (1.0, 4.0), (0.5, 2.5), (0.9, 3.7)] {
            assert!((quantile(values.clone(), q) - expected).abs() < 1e-6, "{q}");
        }
    }
}

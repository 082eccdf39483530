//! In which order rows are taken: shuffled anew in every epoch, without a list of them.
//!
//! A Feistel network permutes the numbers below a power of four; what falls outside of the rows is put in again until it
//! falls inside ("cycle walking"), which leaves a permutation of the rows. So the row at any position of any epoch can be
//! computed, and (epoch, position) says all about where a run was.
//!
//! Rows of a large file are shuffled in two steps, because its index knows the place of every `step`-th row only: first
//! whole groups of `step` rows, then the rows of [`WINDOW`] / `step` such groups among each other. Each part of the file is
//! then read once, and not once for every row in it. Where `step` is 1 every order of the rows can come out.

use crate::rng::Rng;

/// Rows that are shuffled among each other where their groups are more than one row.
pub(super) const WINDOW: u64 = 1 << 14;

/// Rounds of the network: four make it pseudo-random, more make up for halves of a few bits.
const ROUNDS: usize = 8;

/// One number from several, each of which changes all of it.
pub(in crate::train) fn mix(numbers: &[u64]) -> u64 {
    numbers.iter().fold(0x6a09_e667_f3bc_c908, |h, n| scramble(h ^ *n))
}

/// The last steps of SplitMix64.
fn scramble(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A permutation of the numbers 0 to `n` - 1.
struct Permutation {
    n: u64,
    /// Bits of half a number.
    half: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    fn new(n: u64, seed: u64) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        let mut rng = Rng::new(seed);
        Permutation {
            n,
            half: bits.div_ceil(2).max(1),
            keys: std::array::from_fn(|_| rng.next()),
        }
    }

    /// Where `i`, which is below n, goes.
    fn at(&self, mut i: u64) -> u64 {
        let mask = (1 << self.half) - 1;
        // The cycle that `i` lies on comes back to `i` itself, which is below n: this ends. It takes four rounds at most on average.
        loop {
            let (mut left, mut right) = (i >> self.half, i & mask);
            for key in self.keys {
                (left, right) = (right, left ^ (scramble(right ^ key) & mask));
            }
            i = left << self.half | right;
            if i < self.n {
                return i;
            }
        }
    }
}

/// The order of the rows of a file in every epoch.
#[derive(Clone, Debug)]
pub(in crate::train) struct Order {
    rows: u64,
    /// Rows of a group.
    step: u64,
    /// `None`: as in the file.
    seed: Option<u64>,
}

impl Order {
    pub fn new(rows: u64, step: u64, seed: Option<u64>) -> Self {
        Order { rows, step, seed }
    }

    /// Positions of an epoch: the rows, and what is missing of the last group.
    pub fn positions(&self) -> u64 {
        self.rows.next_multiple_of(self.step)
    }

    /// The row at a position (below [`Order::positions`]) of an epoch; `None` where the last group has none.
    pub fn row(&self, epoch: u64, position: u64) -> Option<u64> {
        let row = match self.seed {
            None => position,
            Some(seed) => {
                let groups = self.positions() / self.step;
                let of_window = (WINDOW / self.step).max(1);
                let window = position / (of_window * self.step);
                let first = window * of_window;
                let rows = of_window.min(groups - first) * self.step;
                let within = Permutation::new(rows, mix(&[seed, epoch, 1, window]));
                let at = within.at(position - first * self.step);
                let between = Permutation::new(groups, mix(&[seed, epoch, 0]));
                between.at(first + at / self.step) * self.step + at % self.step
            }
        };
        (row < self.rows).then_some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn epoch(order: &Order, epoch: u64) -> Vec<u64> {
        (0..order.positions()).filter_map(|p| order.row(epoch, p)).collect()
    }

    proptest! {
        #[test]
        fn every_number_comes_once(n in 1u64..5000, seed in any::<u64>()) {
            let permutation = Permutation::new(n, seed);
            let mut all: Vec<_> = (0..n).map(|i| permutation.at(i)).collect();
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(0..n));
        }

        #[test]
        fn large_numbers_stay_in_range(n in 1u64..=1 << 62, seed in any::<u64>(), i in any::<u64>()) {
            let permutation = Permutation::new(n, seed);
            prop_assert!(permutation.at(i % n) < n);
        }

        #[test]
        fn every_row_comes_once_an_epoch(
            rows in 1u64..40_000,
            step in prop_oneof![Just(1u64), Just(2), Just(16), Just(1024), Just(1 << 15)],
            seed in any::<u64>(),
            number in any::<u64>(),
        ) {
            let mut all = epoch(&Order::new(rows, step, Some(seed)), number);
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(0..rows));
        }
    }

    #[test]
    fn epochs_and_seeds_differ_and_repeat() {
        let order = |seed| Order::new(1000, 1, Some(seed));
        let first = epoch(&order(1), 0);
        assert_eq!(first, epoch(&order(1), 0));
        assert_ne!(first, epoch(&order(1), 1));
        assert_ne!(first, epoch(&order(2), 0));
        assert!(epoch(&Order::new(1000, 1, None), 3).into_iter().eq(0..1000));
    }

    /// Shuffled rows are about a third of the file away from where they were, as random ones are (1/3 of n on average), and few
    /// neighbours stay neighbours; for groups the same holds between them.
    #[test]
    fn shuffled_rows_are_spread() {
        for (rows, step) in [(3000u64, 1u64), (100_000, 16)] {
            for number in 0..4 {
                let order = Order::new(rows, step, Some(7));
                let all = epoch(&order, number);
                let away: f64 = (0..).zip(&all).map(|(i, row)| (i as f64 - *row as f64).abs()).sum();
                let share = away / (rows as f64).powi(2);
                assert!((share - 1.0 / 3.0).abs() < 0.03, "{share}");
                let close = all.windows(2).filter(|w| w[0].abs_diff(w[1]) <= step).count();
                assert!(close < all.len() / 50, "{close} of {}", all.len());
            }
        }
    }

    /// What is permuted is not only moved: for a few rows every order comes out, about equally often.
    #[test]
    fn all_orders_of_four_rows_come_out() {
        let mut seen = std::collections::HashMap::new();
        for seed in 0..2400 {
            *seen.entry(epoch(&Order::new(4, 1, Some(seed)), 0)).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 24);
        assert!(seen.values().all(|n| (40..200).contains(n)), "{seen:?}");
    }
}

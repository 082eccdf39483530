//! Dropout on the inputs of low-rank updates, while they are trained: which numbers are lost is a function of a key and of the number's place
//! alone. A layer that runs again on the way back so loses the same ones, and so does a training that was stopped and goes on.

use super::sites::Site;

/// Numbers of one hash.
const LANES: usize = 4;
/// Bits of a hash for each of them, which probabilities are rounded to.
const BITS: u32 = 16;

/// Loses numbers with a probability, and makes the others larger, so that sums stay as they are on average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Of `1 << BITS`.
    lost: u64,
    /// What the others are multiplied by: 1 / (1 - p).
    scale: f32,
    key: u64,
}

impl Dropout {
    /// Loses numbers with the probability `p`, 0 to below 1; `None` where that is so little that it is nothing.
    pub fn new(p: f64, key: u64) -> Option<Self> {
        let all = 1u64 << BITS;
        let lost = ((p * all as f64).round() as u64).min(all - 1);
        (lost > 0).then(|| Dropout {
            lost,
            scale: (all as f64 / (all - lost) as f64) as f32,
            key,
        })
    }

    /// Another one, for part `i` of what this one is for.
    pub fn part(self, i: u64) -> Self {
        Dropout {
            key: mix(self.key ^ mix(i)),
            ..self
        }
    }

    /// The one for the inputs of a site.
    pub fn at(self, site: Site) -> Self {
        self.part(site.index() as u64)
    }

    /// The key, of how many of 65536 draws a number is lost, and what the others are multiplied by.
    pub fn parts(&self) -> (u64, u64, f32) {
        (self.key, self.lost, self.scale)
    }

    /// Loses numbers of row `index`.
    pub fn row(&self, index: usize, row: &mut [f32]) {
        let key = self.part(index as u64).key;
        for (i, lanes) in row.chunks_mut(LANES).enumerate() {
            let hash = mix(key.wrapping_add(i as u64));
            for (lane, v) in lanes.iter_mut().enumerate() {
                let drawn = (hash >> (lane as u32 * BITS)) & ((1 << BITS) - 1);
                *v = if drawn < self.lost { 0.0 } else { *v * self.scale };
            }
        }
    }
}

/// SplitMix64's output for one state (Steele, Lea and Flood 2014).
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Part;

    #[test]
    fn as_many_are_lost_as_is_said_and_means_stay() {
        for p in [0.05, 0.3, 0.9] {
            let dropout = Dropout::new(p, 7).unwrap();
            let (rows, cols) = (200, 501);
            let (mut lost, mut by_column) = (0usize, vec![0usize; cols]);
            let mut sum = 0.0;
            for row in 0..rows {
                let mut x = vec![1.0f32; cols];
                dropout.row(row, &mut x);
                for (v, n) in x.iter().zip(&mut by_column) {
                    lost += usize::from(*v == 0.0);
                    *n += usize::from(*v == 0.0);
                    sum += f64::from(*v);
                }
            }
            let n = (rows * cols) as f64;
            // Five deviations of a binomial number, of all and of each column.
            let near = |p: f64, n: f64| 5.0 * (p * (1.0 - p) / n).sqrt();
            assert!((lost as f64 / n - p).abs() < near(p, n), "{lost} of {n}, {p}");
            assert!((sum / n - 1.0).abs() < near(p, n) / (1.0 - p));
            let far = by_column
                .iter()
                .filter(|c| (**c as f64 / rows as f64 - p).abs() > near(p, rows as f64));
            assert_eq!(far.count(), 0);
        }
        assert_eq!(Dropout::new(0.0, 1), None);
    }

    #[test]
    fn places_lose_different_numbers_and_the_same_place_the_same() {
        let dropout = Dropout::new(0.5, 1).unwrap();
        let of = |dropout: Dropout, row: usize| {
            let mut x = vec![1.0f32; 64];
            dropout.row(row, &mut x);
            x.iter().map(|v| *v == 0.0).collect::<Vec<bool>>()
        };
        let q = dropout.at(Site::Layer(0, Part::Q));
        let all = [
            of(q, 0),
            of(q, 1),
            of(dropout.at(Site::Layer(0, Part::K)), 0),
            of(dropout.at(Site::Layer(1, Part::Q)), 0),
            of(dropout.part(1).at(Site::Layer(0, Part::Q)), 0),
            of(Dropout::new(0.5, 2).unwrap().at(Site::Layer(0, Part::Q)), 0),
        ];
        for (i, a) in all.iter().enumerate() {
            for b in &all[..i] {
                // Half of 64 are alike by chance.
                let alike = a.iter().zip(b).filter(|(a, b)| a == b).count();
                assert!((12..=52).contains(&alike), "{alike}");
            }
        }
        assert_eq!(of(q, 0), all[0]);
    }
}

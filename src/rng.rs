//! Random numbers that are the same for a seed on every machine.

/// xoshiro256++ 1.0 (Blackman and Vigna), its state filled by SplitMix64. Integer arithmetic only: the same everywhere.
#[derive(Clone, Debug)]
pub struct Rng([u64; 4]);

impl Rng {
    /// The numbers that belong to `seed`.
    pub fn new(mut seed: u64) -> Self {
        Rng(std::array::from_fn(|_| {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = seed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }))
    }

    /// 64 random bits.
    #[allow(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in [0, 1): 53 random bits.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Oracle: the first numbers of the published implementations.
    #[test]
    fn random_numbers_match_the_published_ones() {
        assert_eq!(Rng::new(0).0[0], 0xe220_a839_7b1d_cdaf);
        let mut r = Rng([1, 2, 3, 4]);
        assert_eq!(
            [r.next(), r.next(), r.next()],
            [41_943_041, 58_720_359, 3_588_806_011_781_223]
        );
        assert!((0..1000).all(|_| (0.0..1.0).contains(&r.unit())));
    }
}

//! torch's CPU generator, as far as adapters need it that do not save their random matrices: MT19937 (Matsumoto and Nishimura 1998) and
//! `Tensor.uniform_` in f32.

const N: usize = 624;
const M: usize = 397;

/// The stream that `torch.Generator().manual_seed(seed)` begins.
pub struct TorchRng {
    state: [u32; N],
    next: usize,
}

impl TorchRng {
    /// Only the lower 32 bits of the seed count, as in torch.
    pub fn new(seed: u64) -> Self {
        let mut state = [0u32; N];
        state[0] = seed as u32;
        for j in 1..N {
            let before = state[j - 1];
            state[j] = 1_812_433_253u32
                .wrapping_mul(before ^ (before >> 30))
                .wrapping_add(j as u32);
        }
        TorchRng { state, next: N }
    }

    fn next_u32(&mut self) -> u32 {
        if self.next == N {
            for i in 0..N {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ odd;
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// `tensor.uniform_(low, high)`: 24 bits of one number each, one rounding (as torch's vector kernels do).
    fn uniform(&mut self, low: f32, high: f32) -> f32 {
        let unit = (self.next_u32() & 0x00ff_ffff) as f32 / (1 << 24) as f32;
        let value = unit.mul_add(high - low, low);
        if value == high { low } else { value }
    }

    /// `n` numbers of `torch.nn.init.kaiming_uniform_` with gain √2: uniform within ±√(6 / fan_in).
    pub fn kaiming_uniform(&mut self, n: usize, fan_in: usize) -> Vec<f32> {
        let bound = (3f64.sqrt() * (2f64.sqrt() / (fan_in as f64).sqrt())) as f32;
        (0..n).map(|_| self.uniform(-bound, bound)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Oracle: torch 2.15.0, `torch.Generator().manual_seed(42)`.
    #[test]
    fn the_stream_is_torchs() {
        let mut rng = TorchRng::new(42);
        assert_eq!(
            [(); 3].map(|()| rng.next_u32()),
            [1_608_637_542, 3_421_126_067, 4_083_286_876]
        );
        let mut rng = TorchRng::new(42);
        assert_eq!(
            [(); 3].map(|()| rng.uniform(0.0, 1.0).to_bits()),
            [0x3f61_dc66, 0x3f6a_3db3, 0x3ec4_06b8]
        );
        let kaiming: Vec<u32> = TorchRng::new(0)
            .kaiming_uniform(3, 1024)
            .iter()
            .map(|v| v.to_bits())
            .collect();
        assert_eq!(kaiming, [0xba16_3b71, 0x3d28_3195, 0xbd81_06d0]);
    }
}

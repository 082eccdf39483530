//! Every level that this CPU has, against f64 formulas written out here and against the scalar level.

use std::cell::RefCell;
use std::collections::HashMap;

use super::*;

mod attention;
mod backward;
mod elementwise;
mod matmul;

/// A small generator (xorshift64*), so that failures repeat.
pub(super) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Uniform in (-1, 1).
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// Nearly normal, with now and then an outlier, as activations are.
    pub fn activations(&mut self, len: usize) -> Vec<f32> {
        (0..len)
            .map(|_| {
                let v = (0..4).map(|_| self.unit()).sum::<f32>();
                if self.bits().is_multiple_of(97) { 20.0 * v } else { v }
            })
            .collect()
    }
}

thread_local! {
    /// The backends of a test, by threads: starting threads for each product would cost more than the products. They are never dropped:
    /// a thread-local's destructor that joins threads waits for ever on Windows.
    static LEVELS: RefCell<HashMap<usize, &'static [Cpu]>> = RefCell::default();
}

/// One backend a level, on a team of `threads`.
pub(super) fn levels(threads: usize) -> &'static [Cpu] {
    let start = || -> &'static [Cpu] {
        let start = |isa| Cpu::with_isa(Some(threads), isa).unwrap();
        Vec::leak(Cpu::levels().into_iter().map(start).collect())
    };
    LEVELS.with_borrow_mut(|levels| *levels.entry(threads).or_insert_with(start))
}

/// Largest |a - b| / scale, and panics with `what` if it is above `bound`.
pub(super) fn close(what: &str, found: &[f32], expected: &[f64], scale: impl Fn(usize) -> f64, bound: f64) -> f64 {
    assert_eq!(found.len(), expected.len());
    let mut worst = 0.0f64;
    for (i, (&f, &e)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(f) - e).abs() / scale(i).max(1e-30);
        assert!(
            error <= bound,
            "{what}: element {i}: found {f}, expected {e}, relative error {error:.3e} > {bound:.1e}"
        );
        worst = worst.max(error);
    }
    worst
}

#[test]
fn a_level_is_known_by_name() {
    assert!(Cpu::levels().contains(&"scalar"));
    assert!(Cpu::with_isa(Some(1), "mmx").is_err_and(|e| e.to_string().contains("scalar")));
    println!("levels: {:?}", Cpu::levels());
}

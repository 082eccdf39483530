//! Values to quantize, and how much of them is lost. Shared by `tests/vs_ggml.rs` and `peers blocks`, which records what ggml
//! loses of the same values: no function of the system's mathematics is used, so that they are the same everywhere.

use graft::quant::BlockFormat;

/// Columns of a row.
pub const COLUMNS: usize = 512;
/// Rows of a case.
pub const ROWS: usize = 64;

/// Rows of values of one kind.
pub struct Case {
    pub name: &'static str,
    pub values: Vec<f32>,
    /// Of the columns.
    pub importance: Vec<f32>,
}

/// Makes the next value of a kind.
type Value = fn(&mut Random) -> f32;

/// All kinds.
pub fn cases() -> Vec<Case> {
    const KINDS: [(&str, Value); 11] = [
        ("normal", |r| 0.02 * r.normal()),
        ("heavy-tailed", |r| 0.02 * r.normal() * r.normal() * r.normal()),
        ("outliers", |r| r.normal() * if r.below(64) == 0 { 12.0 } else { 1.0 }),
        ("uniform", |r| r.uniform() - 0.5),
        ("positive", |r| 0.02 * r.normal().abs()),
        ("negative", |r| -0.02 * r.normal().abs()),
        ("around-one", |r| 1.0 + 0.05 * r.normal()),
        ("tiny", |r| 1e-7 * r.normal()),
        ("huge", |r| 1e4 * r.normal()),
        ("half-zeros", |r| if r.below(2) == 0 { 0.0 } else { r.normal() }),
        ("zeros", |_| 0.0),
    ];
    let mut random = Random(1);
    let mut cases: Vec<Case> = KINDS
        .iter()
        .map(|(name, value)| Case {
            name,
            values: (0..COLUMNS * ROWS).map(|_| value(&mut random)).collect(),
            importance: importance(&mut random),
        })
        .collect();
    cases.push(Case {
        name: "constant",
        values: (0..COLUMNS * ROWS / 256).flat_map(|_| [random.normal(); 256]).collect(),
        importance: importance(&mut random),
    });
    cases
}

/// As mean squares of activations are: of very different sizes.
fn importance(random: &mut Random) -> Vec<f32> {
    let mut weight = || random.normal() * random.normal();
    (0..COLUMNS).map(|_| weight() * weight()).map(|w| w * w).collect()
}

/// The root of the mean squared error of what `bytes` hold, each column weighted if there is an importance.
pub fn rms_error(format: BlockFormat, bytes: &[u8], values: &[f32], importance: Option<&[f32]>) -> f64 {
    let mut back = vec![0.0; values.len()];
    format.dequantize(bytes, &mut back);
    rms_difference(&back, values, importance)
}

/// The same between two lists of values.
pub fn rms_difference(a: &[f32], b: &[f32], importance: Option<&[f32]>) -> f64 {
    let weight = |i: usize| importance.map_or(1.0, |w| f64::from(w[i % w.len()]));
    let square = |i: usize| (f64::from(a[i]) - f64::from(b[i])).powi(2);
    let sum: f64 = (0..a.len()).map(|i| weight(i) * square(i)).sum();
    (sum / (0..a.len()).map(weight).sum::<f64>()).sqrt()
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ x >> 31
    }

    pub fn u32(&mut self) -> u32 {
        (self.next() >> 32) as u32
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }

    /// About normal: a sum of uniform numbers.
    fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum: f32 = (0..4).map(|k| (bits >> (16 * k) & 0xFFFF) as f32 / 65536.0 - 0.5).sum();
        sum * 1.7
    }
}

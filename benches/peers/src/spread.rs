//! Many measurements as three figures.

use serde_json::{Value, json};

/// The middle of some measurements, and how far they scatter.
pub struct Spread {
    pub p10: f64,
    pub median: f64,
    pub p90: f64,
}

impl Spread {
    /// Of any measurements.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |q: f64| {
            let last = sorted.len().saturating_sub(1);
            let x = q * last as f64;
            let (low, high) = (x.floor() as usize, x.ceil() as usize);
            match (sorted.get(low), sorted.get(high)) {
                (Some(a), Some(b)) => a + (b - a) * x.fract(),
                _ => f64::NAN,
            }
        };
        Spread {
            p10: at(0.1),
            median: at(0.5),
            p90: at(0.9),
        }
    }

    /// The three figures.
    pub fn json(&self) -> Value {
        json!({ "median": self.median, "p10": self.p10, "p90": self.p90 })
    }
}

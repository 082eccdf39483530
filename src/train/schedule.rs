//! How the learning rate goes: up over the first steps, then as the schedule says (transformers' `get_scheduler`).

use crate::error::{Error, Result};

/// What follows the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    /// Half a cosine down to 0 at the last step (Loshchilov and Hutter 2017, arXiv:1608.03983).
    #[default]
    Cosine,
    /// A straight line down to 0.
    Linear,
    /// Stays.
    Constant,
}

impl Schedule {
    /// All, by name.
    pub const ALL: [(&'static str, Schedule); 3] = [
        ("cosine", Schedule::Cosine),
        ("linear", Schedule::Linear),
        ("constant", Schedule::Constant),
    ];

    /// The one called `name`.
    ///
    /// # Errors
    /// `Usage` for another name.
    pub fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|s| s.0 == name).map(|s| s.1);
        found.ok_or_else(|| {
            let e = Error::usage("unknown schedule").item("schedule");
            e.expected("cosine, linear or constant").found(name)
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|s| s.1 == self).map_or("", |s| s.0)
    }

    /// The share of the full learning rate in step `step` of `steps`, both counted from 0, of which the first `warmup` lead up to it.
    pub fn share(self, step: usize, steps: usize, warmup: usize) -> f64 {
        if step < warmup {
            return step as f64 / warmup as f64;
        }
        let left = steps.saturating_sub(step) as f64;
        let all = steps.saturating_sub(warmup).max(1) as f64;
        match self {
            Schedule::Constant => 1.0,
            Schedule::Linear => left / all,
            Schedule::Cosine => {
                let done = (step - warmup) as f64 / all;
                (0.5 * (1.0 + (std::f64::consts::PI * done).cos())).max(0.0)
            }
        }
    }
}

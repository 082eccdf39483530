//! What to combine how, and which options belong to which type.

use super::operators::{Operator, Pruning};
use crate::adapter::scaling::MAX_RANK;
use crate::error::{Error, Result};

/// How adapters are combined; see the [module](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are PEFT's; the module's table says what they do")]
pub enum CombinationType {
    Linear,
    Svd,
    Cat,
    Ties,
    TiesSvd,
    DareLinear,
    DareTies,
    DareLinearSvd,
    DareTiesSvd,
    MagnitudePrune,
    MagnitudePruneSvd,
}

impl CombinationType {
    /// All of them, with PEFT's names.
    pub const ALL: [(&str, CombinationType); 11] = [
        ("linear", Self::Linear),
        ("svd", Self::Svd),
        ("cat", Self::Cat),
        ("ties", Self::Ties),
        ("ties_svd", Self::TiesSvd),
        ("dare_linear", Self::DareLinear),
        ("dare_ties", Self::DareTies),
        ("dare_linear_svd", Self::DareLinearSvd),
        ("dare_ties_svd", Self::DareTiesSvd),
        ("magnitude_prune", Self::MagnitudePrune),
        ("magnitude_prune_svd", Self::MagnitudePruneSvd),
    ];

    /// PEFT's name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|t| t.1 == self).map_or("", |t| t.0)
    }

    /// Whether it approximates a sum of updates.
    pub fn is_svd(self) -> bool {
        self.name().ends_with("svd")
    }

    /// Whether it drops entries, so that it needs a density.
    pub fn prunes(self) -> bool {
        self.pruning().is_some()
    }

    /// Whether it draws random numbers.
    pub fn is_random(self) -> bool {
        self.pruning() == Some(Pruning::Random)
    }

    /// Whether it elects a sign.
    pub fn elects(self) -> bool {
        use CombinationType as T;
        matches!(self, T::Ties | T::TiesSvd | T::DareTies | T::DareTiesSvd)
    }

    fn pruning(self) -> Option<Pruning> {
        use CombinationType as T;
        match self {
            T::Linear | T::Svd | T::Cat => None,
            T::Ties | T::TiesSvd | T::MagnitudePrune | T::MagnitudePruneSvd => Some(Pruning::Magnitude),
            T::DareLinear | T::DareTies | T::DareLinearSvd | T::DareTiesSvd => Some(Pruning::Random),
        }
    }
}

/// Which sign an entry's election by `ties` finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MajoritySign {
    /// That of the sum.
    #[default]
    Total,
    /// That of most adapters.
    Frequency,
}

/// What [`combine`](super::combine) is to do. An option that the type has no use for must be left out.
#[derive(Clone, Debug)]
pub struct Combine {
    /// How.
    pub kind: CombinationType,
    /// The share of entries that pruning keeps, above 0 to 1. Types that prune need it.
    pub density: Option<f64>,
    /// For types that elect a sign.
    pub majority_sign: Option<MajoritySign>,
    /// The rank of the result, for types with `svd`; the largest of the adapters' where it is left out.
    pub svd_rank: Option<usize>,
    /// Limits the result's entries to plus or minus this quantile of them (with their signs), above 0.5 to 1, for types with
    /// `svd`.
    pub svd_clamp: Option<f64>,
    /// Of the random numbers, for the `dare` types: xoshiro256++ from this seed, one number in [0, 1) for each entry in turn:
    /// modules in the order of their paths, A before B, adapters in the given order. An entry stays if its number is below
    /// the density. 0 where it is left out.
    pub seed: Option<u64>,
}

impl Combine {
    /// A combination without options.
    pub fn new(kind: CombinationType) -> Self {
        Combine {
            kind,
            density: None,
            majority_sign: None,
            svd_rank: None,
            svd_clamp: None,
            seed: None,
        }
    }

    /// Checks that every option belongs to the type and is in range.
    ///
    /// # Errors
    /// Of kind `Usage`, naming the option.
    pub fn validate(&self) -> Result<()> {
        let kind = self.kind;
        let unused = [
            ("density", self.density.is_some() && !kind.prunes()),
            ("majority-sign", self.majority_sign.is_some() && !kind.elects()),
            ("rank", self.svd_rank.is_some() && !kind.is_svd()),
            ("svd-clamp", self.svd_clamp.is_some() && !kind.is_svd()),
            ("seed", self.seed.is_some() && !kind.is_random()),
        ];
        if let Some((option, _)) = unused.iter().find(|u| u.1) {
            let e = Error::usage("this type of combination has no use for the option").item(*option);
            return Err(e.found(kind.name()));
        }
        let range = |option: &str, ok: bool, expected: &str, found: String| match ok {
            true => Ok(()),
            false => Err(Error::usage("value out of range")
                .item(option)
                .expected(expected)
                .found(found)),
        };
        if kind.prunes() {
            let d = self.density;
            let found = d.map_or("none".into(), |d| d.to_string());
            let ok = d.is_some_and(|d| d > 0.0 && d <= 1.0);
            range("density", ok, "the share of entries to keep, above 0 to 1", found)?;
        }
        if let Some(q) = self.svd_clamp {
            range(
                "svd-clamp",
                q > 0.5 && q <= 1.0,
                "a quantile above 0.5 to 1",
                q.to_string(),
            )?;
        }
        if let Some(r) = self.svd_rank {
            range(
                "rank",
                (1..=MAX_RANK).contains(&r),
                &format!("1 to {MAX_RANK}"),
                r.to_string(),
            )?;
        }
        Ok(())
    }

    pub(super) fn operator(&self) -> Operator {
        Operator {
            pruning: self.kind.pruning(),
            density: self.density.unwrap_or(1.0),
            election: self.kind.elects().then(|| self.majority_sign.unwrap_or_default()),
        }
    }
}

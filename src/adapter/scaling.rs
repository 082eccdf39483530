//! Ranks and alphas: one for all modules, or by patterns of the module's path (`get_pattern_key` in peft/utils/other.py).

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::format::PeftFolder;

/// A rank beyond this is a broken file.
pub const MAX_RANK: usize = 1 << 16;
/// PEFT's default for `r` and alpha where an old file lacks them.
const DEFAULT: usize = 8;

/// How a module's path leads to its rank and alpha.
pub struct Scaling {
    rank: usize,
    alpha: f64,
    rank_pattern: Vec<(regex::Regex, usize)>,
    alpha_pattern: Vec<(regex::Regex, f64)>,
    rslora: bool,
}

impl Scaling {
    /// Reads `r`, the field called `alpha`, `rank_pattern`, `alpha_pattern` and `use_rslora`.
    ///
    /// # Errors
    /// A value out of range, a pattern that is no regular expression.
    pub fn read(folder: &PeftFolder, alpha: &str) -> Result<Self> {
        let rank = folder.usize("r", DEFAULT)?;
        if rank == 0 || rank > MAX_RANK {
            return Err(Error::invalid("value out of range")
                .file(folder.config_path())
                .item("r")
                .expected(format_args!("1 to {MAX_RANK}"))
                .found(rank));
        }
        let in_range = |n: &usize| (1..=MAX_RANK).contains(n);
        Ok(Scaling {
            rank,
            alpha: folder.f64(alpha, DEFAULT as f64)?,
            rank_pattern: patterns(folder, "rank_pattern", |v| {
                v.as_u64().and_then(|n| usize::try_from(n).ok()).filter(in_range)
            })?,
            alpha_pattern: patterns(folder, "alpha_pattern", |v| v.as_f64().filter(|a| a.is_finite()))?,
            rslora: folder.bool("use_rslora", false)?,
        })
    }

    /// The module's rank, as the config says.
    pub fn rank(&self, path: &str) -> usize {
        first_match(&self.rank_pattern, path).unwrap_or(self.rank)
    }

    /// What multiplies the module's update: alpha / rank, or alpha / sqrt(rank) with `use_rslora` (Kalajdzievski 2023, arXiv 2312.03732).
    pub fn scale(&self, path: &str, rank: usize) -> f32 {
        let alpha = first_match(&self.alpha_pattern, path).unwrap_or(self.alpha);
        let rank = rank as f64;
        (alpha / if self.rslora { rank.sqrt() } else { rank }) as f32
    }
}

fn first_match<T: Copy>(patterns: &[(regex::Regex, T)], path: &str) -> Option<T> {
    patterns.iter().find(|(re, _)| re.is_match(path)).map(|p| p.1)
}

/// A pattern field: an object from regular expressions to values, in the file's order.
fn patterns<T>(
    folder: &PeftFolder,
    field: &str,
    value: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<(regex::Regex, T)>> {
    let empty = Map::new();
    let object = folder.object(field)?.unwrap_or(&empty);
    object
        .iter()
        .map(|(key, v)| {
            let wrong = |message: String, found: String| {
                Error::invalid(message)
                    .file(folder.config_path())
                    .item(format!("{field}.{key}"))
                    .found(found)
            };
            let re = regex::RegexBuilder::new(&format!(r"^(?:.*\.)?(?:{key})$"))
                .size_limit(1 << 20)
                .build()
                .map_err(|e| wrong("not a regular expression that Graft reads".into(), e.to_string()))?;
            let v = value(v).ok_or_else(|| wrong("value out of range".into(), v.to_string()))?;
            Ok((re, v))
        })
        .collect()
}

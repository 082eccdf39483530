//! Ranks and alphas: one for all modules, or by patterns of the module's path (`get_pattern_key` in peft/utils/other.py).

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::format::PeftFolder;

/// A rank beyond this is a broken file.
pub const MAX_RANK: usize = 1 << 16;
/// Patterns of one field that are more than a path, and bytes that one may take when it is compiled: together they bound memory and time.
const MAX_EXPRESSIONS: usize = 100;
const MAX_EXPRESSION_BYTES: usize = 1 << 18;
/// PEFT's default for `r` and alpha where an old file lacks them.
const DEFAULT: usize = 8;

/// How a module's path leads to its rank and alpha.
pub struct Scaling {
    rank: usize,
    alpha: f64,
    rank_pattern: Vec<(Pattern, usize)>,
    alpha_pattern: Vec<(Pattern, f64)>,
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

/// What a path, or the end of one behind a dot, must match.
enum Pattern {
    /// Only dots could mean more than themselves: any character. The usual kind; a file may have one for each module.
    Plain(String),
    Expression(regex::Regex),
}

impl Pattern {
    fn matches(&self, path: &str) -> bool {
        let key = match self {
            Pattern::Plain(key) => key,
            Pattern::Expression(re) => return re.is_match(path),
        };
        let mut rest = path.chars().rev();
        let same = |c: char, k: char| c == k || (k == '.' && c != '\n');
        key.chars().rev().all(|k| rest.next().is_some_and(|c| same(c, k))) && rest.next().is_none_or(|c| c == '.')
    }
}

fn first_match<T: Copy>(patterns: &[(Pattern, T)], path: &str) -> Option<T> {
    patterns.iter().find(|(p, _)| p.matches(path)).map(|p| p.1)
}

/// A pattern field: an object from regular expressions to values, in the file's order.
fn patterns<T>(folder: &PeftFolder, field: &str, value: impl Fn(&Value) -> Option<T>) -> Result<Vec<(Pattern, T)>> {
    let empty = Map::new();
    let mut expressions = 0;
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
            let v = value(v).ok_or_else(|| wrong("value out of range".into(), v.to_string()))?;
            if key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.')) {
                return Ok((Pattern::Plain(key.clone()), v));
            }
            expressions += 1;
            if expressions > MAX_EXPRESSIONS {
                let e =
                    Error::limit("too many regular expressions").expected(format_args!("at most {MAX_EXPRESSIONS}"));
                return Err(folder.error(e, field));
            }
            let re = regex::RegexBuilder::new(&format!(r"^(?:.*\.)?(?:{key})$"))
                .size_limit(MAX_EXPRESSION_BYTES)
                .build()
                .map_err(|e| wrong("not a regular expression that Graft reads".into(), e.to_string()))?;
            Ok((Pattern::Expression(re), v))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_pattern_matches_what_its_expression_matches() {
        let paths = [
            "q_proj",
            "a.q_proj",
            "aq_proj",
            "a.b.q_proj",
            "a.b_q_proj",
            "q_proj.x",
            "xq.proj",
            "ü.proj",
            "",
            "a.",
        ];
        for key in [
            "q_proj",
            "b.q_proj",
            "q.proj",
            ".q_proj",
            "..proj",
            ".",
            "",
            "a.b.q_proj",
            "ü.proj",
        ] {
            let re = regex::Regex::new(&format!(r"^(?:.*\.)?(?:{key})$")).unwrap();
            let plain = Pattern::Plain(key.to_owned());
            for path in paths {
                assert_eq!(plain.matches(path), re.is_match(path), "{key:?} on {path:?}");
            }
        }
    }
}

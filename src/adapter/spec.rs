//! How a text names an adapter: `[NAME=]DIR[@WEIGHT]`.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// `[NAME=]DIR[@WEIGHT]`, taken apart: a folder, what to call it, how much of it to apply.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterSpec {
    /// What stands before `=`.
    pub name: Option<String>,
    /// The folder.
    pub dir: PathBuf,
    /// The number behind `@`, finite; 1 where there is none.
    pub weight: f32,
}

impl AdapterSpec {
    /// Takes `text` apart. A path that exists is never taken apart further, so folders may have `=` and `@` in their names.
    ///
    /// # Errors
    /// `Usage` for an empty name or folder, or a weight that is not finite.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_with(text, |p| p.exists())
    }

    /// As [`AdapterSpec::parse`]; `exists` says which paths there are.
    ///
    /// # Errors
    /// As [`AdapterSpec::parse`].
    pub fn parse_with(text: &str, exists: impl Fn(&Path) -> bool) -> Result<Self> {
        let (mut name, mut dir, mut weight) = (None, text, 1.0f32);
        let weighted = |s: &str| {
            let (dir, weight) = s.rsplit_once('@')?;
            Some((dir.len(), weight.parse::<f32>().ok()?))
        };
        if !exists(Path::new(dir)) {
            // NAME= is there unless what stands before the first '=' is part of a path that exists.
            let bare = weighted(dir).is_some_and(|(end, _)| exists(Path::new(&dir[..end])));
            let named = dir.split_once('=').filter(|(n, _)| !bare && !n.contains(['/', '\\']));
            if let Some((n, rest)) = named {
                (name, dir) = (Some(n), rest);
            }
            if let Some((end, w)) = weighted(dir).filter(|_| !exists(Path::new(dir))) {
                (dir, weight) = (&dir[..end], w);
            }
        }
        let bad = |what: &str| Err(Error::usage(what).item(text).expected("[NAME=]DIR[@WEIGHT]"));
        match () {
            _ if name == Some("") => bad("the adapter's name is empty"),
            _ if dir.is_empty() => bad("the adapter's folder is empty"),
            _ if !weight.is_finite() => bad("the adapter's weight is not finite"),
            _ => Ok(AdapterSpec {
                name: name.map(str::to_string),
                dir: dir.into(),
                weight,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapter_specs_are_taken_apart() {
        let there = ["d", "a@2", "x=y", "n=v@0.5", "at@home/d"];
        let exists = |p: &Path| there.iter().any(|t| Path::new(t) == p);
        for (text, name, dir, weight) in [
            ("d", None, "d", 1.0),
            ("d@0.5", None, "d", 0.5),
            ("d@-2", None, "d", -2.0),
            ("n=d", Some("n"), "d", 1.0),
            ("n=d@0.25", Some("n"), "d", 0.25),
            ("a@2", None, "a@2", 1.0),
            ("a@2@3", None, "a@2", 3.0),
            ("n=a@2", Some("n"), "a@2", 1.0),
            ("n=a@2@3", Some("n"), "a@2", 3.0),
            ("x=y", None, "x=y", 1.0),
            ("x=y@2", None, "x=y", 2.0),
            ("n=x=y", Some("n"), "x=y", 1.0),
            ("n=v@0.5", None, "n=v@0.5", 1.0),
            ("at@home/d", None, "at@home/d", 1.0),
            ("gone", None, "gone", 1.0),
            ("n=gone@2", Some("n"), "gone", 2.0),
            ("gone@home", None, "gone@home", 1.0),
            ("a/b=c", None, "a/b=c", 1.0),
        ] {
            let spec = AdapterSpec::parse_with(text, exists).unwrap();
            assert_eq!(
                spec,
                AdapterSpec {
                    name: name.map(str::to_string),
                    dir: dir.into(),
                    weight
                },
                "{text}"
            );
        }
        for bad in ["", "=d", "n=", "d@nan", "d@inf", "@1"] {
            assert!(AdapterSpec::parse_with(bad, exists).is_err(), "{bad}");
        }
    }
}

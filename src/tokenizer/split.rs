//! Splitting a text into the pieces that byte-level BPE works on.

use regex::Regex;

use super::pre::Pattern;
use crate::error::{Error, Result};

/// The patterns of one pre-tokenizer, compiled. Each is applied to every piece that the ones before it left; matches
/// and the stretches between them are pieces.
pub(super) struct Splitter(Vec<(Regex, Pattern)>);

impl Splitter {
    pub fn new(patterns: &[Pattern]) -> Result<Self> {
        let compile = |p: &Pattern| {
            let regex = Regex::new(p.regex).map_err(|e| Error::internal(format!("a pre-tokenizer's pattern: {e}")))?;
            Ok((regex, *p))
        };
        Ok(Splitter(patterns.iter().map(compile).collect::<Result<_>>()?))
    }

    /// Calls `piece` with the pieces of `text`, in order; together they are the text.
    pub fn split<'t>(&self, text: &'t str, piece: &mut impl FnMut(&'t str)) {
        apply(&self.0, text, piece);
    }
}

fn apply<'t>(patterns: &[(Regex, Pattern)], text: &'t str, piece: &mut impl FnMut(&'t str)) {
    let Some(((regex, pattern), rest)) = patterns.split_first() else {
        if !text.is_empty() {
            piece(text);
        }
        return;
    };
    let mut done = 0;
    while let Some(found) = regex.find_at(text, done) {
        let mut end = found.end();
        if let Some(run) = pattern.space_run {
            end = run.end(found.as_str(), end, text.len());
        }
        if end <= done {
            break;
        }
        apply_to(rest, text, done, found.start(), piece);
        apply_to(rest, text, found.start(), end, piece);
        done = end;
    }
    apply_to(rest, text, done, text.len(), piece);
}

fn apply_to<'t>(
    patterns: &[(Regex, Pattern)],
    text: &'t str,
    start: usize,
    end: usize,
    piece: &mut impl FnMut(&'t str),
) {
    if let Some(part) = text.get(start..end).filter(|p| !p.is_empty()) {
        apply(patterns, part, piece);
    }
}

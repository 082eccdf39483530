//! Stop strings in streamed text.

use crate::error::{Error, Result};

/// Finds the first stop string in text that arrives in pieces, and holds back what might become one.
///
/// The first to be *completed* counts (of several completed by the same character, the longest), so the result does not
/// depend on how the text is cut into pieces. The stop string itself is not part of the text.
#[derive(Clone, Debug, Default)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
}

impl StopMatcher {
    /// A matcher for `stops`; with none, all text passes at once.
    ///
    /// # Errors
    /// `Usage` where a stop string is empty: it would end every text before its first character.
    pub fn new(stops: Vec<String>) -> Result<Self> {
        match stops.iter().any(String::is_empty) {
            true => Err(Error::usage("a stop string is empty")),
            false => Ok(StopMatcher {
                stops,
                held: String::new(),
            }),
        }
    }

    /// Takes the next piece and appends to `out` what can no longer be part of a stop string.
    /// `true`: a stop string is complete, the text ends with what was appended.
    pub fn push(&mut self, piece: &str, out: &mut String) -> bool {
        self.held.push_str(piece);
        let found = self
            .stops
            .iter()
            .filter_map(|s| self.held.find(s.as_str()).map(|at| (at + s.len(), at)))
            .min();
        if let Some((_, at)) = found {
            out.push_str(&self.held[..at]);
            self.held.clear();
            return true;
        }
        let keep = self.stops.iter().map(|s| overlap(&self.held, s)).max().unwrap_or(0);
        out.extend(self.held.drain(..self.held.len() - keep));
        false
    }

    /// The text ended otherwise: appends what was held back.
    pub fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
    }
}

/// Length of the longest end of `text` that is a beginning of `stop`, not all of it.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    (1..=longest)
        .rev()
        .find(|&n| stop.as_bytes()[..n] == text.as_bytes()[text.len() - n..])
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Oracle: looks at every prefix of the whole text and takes the first that ends with a stop string.
    fn naive(text: &str, stops: &[String]) -> (String, bool) {
        for end in (0..=text.len()).filter(|&i| text.is_char_boundary(i)) {
            let ends = stops
                .iter()
                .filter(|s| text[..end].ends_with(s.as_str()))
                .map(|s| end - s.len());
            if let Some(start) = ends.min() {
                return (text[..start].to_string(), true);
            }
        }
        (text.to_string(), false)
    }

    proptest! {
        #[test]
        fn streamed_matches_whole_text(
            text in "[abé]{0,30}", stops in prop::collection::vec("[abé]{1,4}", 0..4), cuts in prop::collection::vec(1usize..5, 31),
        ) {
            let mut m = StopMatcher::new(stops.clone()).unwrap();
            let (mut out, mut stopped) = (String::new(), false);
            let mut chars = text.chars();
            for n in cuts {
                let piece: String = chars.by_ref().take(n).collect();
                stopped = m.push(&piece, &mut out);
                if stopped {
                    break;
                }
            }
            if !stopped {
                m.finish(&mut out);
            }
            prop_assert_eq!((out, stopped), naive(&text, &stops));
        }
    }

    #[test]
    fn text_is_not_held_longer_than_needed() {
        let mut m = StopMatcher::new(vec!["\nUser:".into()]).unwrap();
        let mut out = String::new();
        assert!(!m.push("Hello\n", &mut out));
        assert_eq!(out, "Hello");
        assert!(!m.push("Us", &mut out));
        assert!(!m.push("a", &mut out));
        assert_eq!(out, "Hello\nUsa");
        assert!(m.push("\nUser: x", &mut out));
        assert_eq!(out, "Hello\nUsa");
        assert!(StopMatcher::new(vec![String::new()]).is_err());
    }
}

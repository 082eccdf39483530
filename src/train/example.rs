//! What one step of training learns from.

use crate::error::{Error, Result};

/// A sequence of tokens, and which of them the model is to learn to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    tokens: Vec<u32>,
    learn: Vec<bool>,
}

impl Example {
    /// `learn[i]`: whether token i is to be learnt from those before it. The first never is: nothing stands before it.
    ///
    /// # Errors
    /// `Usage` where the two are not of one length.
    pub fn new(tokens: Vec<u32>, mut learn: Vec<bool>) -> Result<Self> {
        if tokens.len() != learn.len() {
            let e = Error::usage("tokens and what to learn are not of one length").item("learn");
            return Err(e.expected(tokens.len()).found(learn.len()));
        }
        if let Some(first) = learn.first_mut() {
            *first = false;
        }
        Ok(Example { tokens, learn })
    }

    /// All tokens behind the first are learnt.
    pub fn all(tokens: Vec<u32>) -> Self {
        let learn = (0..tokens.len()).map(|i| i > 0).collect();
        Example { tokens, learn }
    }

    /// Its first `seq` tokens, up to the last that is learnt: nothing depends on those behind; and whether there were more.
    ///
    /// # Errors
    /// `Invalid` where that leaves nothing to learn.
    pub fn cut(mut self, seq: usize) -> Result<(Self, bool)> {
        let learnt = |learn: &[bool]| learn.iter().rposition(|l| *l).map_or(0, |last| last + 1);
        let all = learnt(&self.learn);
        self.learn.truncate(seq);
        let kept = learnt(&self.learn);
        match (all, kept) {
            (0, _) => Err(Error::invalid("nothing to learn")),
            (_, 0) => Err(Error::invalid(format!(
                "nothing to learn in the first {seq} tokens: what stands before is too long"
            ))),
            _ => {
                self.tokens.truncate(kept);
                self.learn.truncate(kept);
                Ok((self, all > seq))
            }
        }
    }

    /// The tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// By token, whether it is learnt.
    pub fn learn(&self) -> &[bool] {
        &self.learn
    }

    /// How many tokens are learnt.
    pub fn targets(&self) -> usize {
        self.learn.iter().filter(|l| **l).count()
    }
}

//! Text as a vector: the final hidden states, which transformers calls `last_hidden_state`.

use std::ops::ControlFlow;

use crate::error::{Error, Result};

use super::session::Session;

/// How one vector is made of the hidden states of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// That of the last token, which has seen all others.
    #[default]
    Last,
    /// Their mean.
    Mean,
    /// That of the first token.
    First,
}

impl Session {
    /// Appends `tokens` and returns one vector of `hidden_size` numbers for them: of their hidden states behind the last
    /// norm, under the active adapters, as `pooling` says. It is not normalized. No logits are computed:
    /// [`Session::logits`] is then empty.
    ///
    /// They are read after what the session holds already. For a text of its own call [`Session::reset`] before.
    ///
    /// # Errors
    /// As [`Session::eval`].
    pub fn embed(&mut self, tokens: &[u32], pooling: Pooling) -> Result<Vec<f32>> {
        let count = tokens.len();
        let mut sum = vec![0f64; self.model.spec().hidden_size];
        self.hidden_each(tokens, &mut |index, row| {
            let wanted = match pooling {
                Pooling::Last => index + 1 == count,
                Pooling::Mean => true,
                Pooling::First => index == 0,
            };
            if wanted {
                sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
            }
            ControlFlow::Continue(())
        })?;
        let n = if pooling == Pooling::Mean { count as f64 } else { 1.0 };
        Ok(sum.iter().map(|sum| (sum / n) as f32).collect())
    }

    /// Appends `tokens` and calls `each(index, hidden_state)` for every one of them, index 0 being the first of this call;
    /// a hidden state has `hidden_size` numbers. When `each` breaks, the chunk that was under way is still part of the
    /// session. No logits are computed.
    ///
    /// # Errors
    /// As [`Session::eval`].
    pub fn hidden_each(
        &mut self,
        tokens: &[u32],
        each: &mut dyn FnMut(usize, &[f32]) -> ControlFlow<()>,
    ) -> Result<()> {
        self.check(tokens)?;
        if tokens.is_empty() {
            return Err(Error::usage("no tokens to evaluate").item("tokens"));
        }
        let width = self.model.spec().hidden_size;
        self.run(tokens, &mut |first, _, pass, state, logits| {
            logits.clear();
            let hidden = pass.hidden(state)?;
            let mut rows = hidden.chunks_exact(width).enumerate();
            Ok(rows.try_for_each(|(i, row)| each(first + i, row)))
        })
    }
}

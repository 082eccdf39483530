//! One conversation: its tokens, its cache, its active adapters.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Error, Result};
use crate::kernels::{Cpu, Precision};
use crate::model::decoder::{Active, Pass, State, ring_capacity};

use super::model::{Adapter, Model};

/// What a session is made with.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Positions that it can hold; `None` for the model's own context length. The cache takes memory as it fills.
    pub context: Option<usize>,
    /// How exactly to compute.
    pub precision: Precision,
    /// Prompt tokens that run through the layers together. More need more memory for activations.
    pub chunk: usize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            context: None,
            precision: Precision::default(),
            chunk: 512,
        }
    }
}

/// Rows of logits that are computed together when all are asked for: bounds their memory at a large vocabulary.
const LOGIT_ROWS: usize = 8;

/// One conversation with a model. It is used by one thread at a time; sessions of one model share everything but this.
pub struct Session {
    model: Model,
    state: State<Cpu>,
    adapters: Vec<(std::sync::Arc<crate::adapter::Attached<Cpu>>, f32)>,
    tokens: Vec<u32>,
    context: usize,
    chunk: usize,
    precision: Precision,
    logits: Vec<f32>,
}

impl Session {
    pub(super) fn new(model: Model, options: &SessionOptions) -> Result<Self> {
        let spec = model.spec();
        let context = options.context.unwrap_or(spec.context_length);
        if context == 0 || context > spec.context_length {
            return Err(Error::usage("context size out of range")
                .item("context")
                .expected(format!("1 to {}, the model's context length", spec.context_length))
                .found(context));
        }
        let chunk = options.chunk.clamp(1, context);
        let state = State::new(model.backend(), spec, context, chunk, options.precision)?;
        Ok(Session {
            state,
            adapters: Vec::new(),
            tokens: Vec::new(),
            context,
            chunk,
            precision: options.precision,
            logits: Vec::new(),
            model,
        })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Makes these adapters, each times its weight, the active ones from the next token on; their updates add up. The
    /// cache of earlier tokens is kept: [`Session::reset`] clears it.
    ///
    /// # Errors
    /// An adapter of another model, a weight that is no finite number.
    pub fn set_adapters(&mut self, adapters: &[(Adapter, f32)]) -> Result<()> {
        for (adapter, weight) in adapters {
            if !adapter.is_for(&self.model) {
                return Err(Error::mismatch("the adapter was loaded for another model"));
            }
            if !weight.is_finite() {
                return Err(Error::usage("adapter weight").expected("a finite number").found(weight));
            }
        }
        self.adapters.clear();
        self.adapters.extend(
            adapters
                .iter()
                .filter(|a| a.1 != 0.0)
                .map(|(a, w)| (a.attached.clone(), *w)),
        );
        Ok(())
    }

    /// Appends `tokens` and returns the logits (one a vocabulary entry) that follow the last of them.
    ///
    /// # Errors
    /// No tokens, an id outside the vocabulary, more tokens than the context holds; the session is then unchanged.
    pub fn eval(&mut self, tokens: &[u32]) -> Result<&[f32]> {
        self.check(tokens)?;
        let Some(last) = tokens.len().checked_sub(1) else {
            return Err(Error::usage("no tokens to evaluate").item("tokens"));
        };
        self.run(tokens, &mut |first, n, pass, state, logits| {
            if first + n > last {
                logits.clear();
                logits.extend_from_slice(&pass.logits(state, last - first, 1));
            }
            ControlFlow::Continue(())
        })?;
        Ok(&self.logits)
    }

    /// Appends `tokens` and calls `each(index, logits)` for every one of them, index 0 being the first of this call.
    /// When `each` breaks, the chunk that was under way is still part of the session.
    ///
    /// # Errors
    /// As [`Session::eval`].
    pub fn eval_each(&mut self, tokens: &[u32], each: &mut dyn FnMut(usize, &[f32]) -> ControlFlow<()>) -> Result<()> {
        self.check(tokens)?;
        let vocab = self.model.spec().vocab_size;
        self.run(tokens, &mut |first, n, pass, state, logits| {
            for row in (0..n).step_by(LOGIT_ROWS) {
                let rows = LOGIT_ROWS.min(n - row);
                let all = pass.logits(state, row, rows);
                for (i, one) in all.chunks_exact(vocab).enumerate() {
                    each(first + row + i, one)?;
                }
                logits.clear();
                logits.extend_from_slice(&all[(rows - 1) * vocab..]);
            }
            ControlFlow::Continue(())
        })
    }

    fn check(&self, tokens: &[u32]) -> Result<()> {
        let vocab = self.model.spec().vocab_size;
        if let Some((i, id)) = tokens.iter().enumerate().find(|(_, id)| **id as usize >= vocab) {
            return Err(Error::usage("token id outside the vocabulary")
                .item(format!("tokens[{i}]"))
                .expected(format!("0 to {}", vocab - 1))
                .found(id));
        }
        if tokens.len() > self.context - self.tokens.len() {
            return Err(Error::limit("the context is full")
                .item("context")
                .expected(format!("at most {} tokens", self.context))
                .found(format!("{} and {} more", self.tokens.len(), tokens.len())));
        }
        Ok(())
    }

    /// Runs checked tokens chunk by chunk; `after` gets each chunk's first index and length. A panic (a defect, in
    /// whichever thread) becomes an error; tokens of chunks that were done stay part of the session.
    #[allow(clippy::type_complexity)]
    fn run(
        &mut self,
        tokens: &[u32],
        after: &mut dyn FnMut(usize, usize, &Pass<Cpu>, &mut State<Cpu>, &mut Vec<f32>) -> ControlFlow<()>,
    ) -> Result<()> {
        // A pass that did not end leaves rows behind `tokens` in the cache, where the next pass writes again: no
        // invariant is broken.
        catch_unwind(AssertUnwindSafe(|| self.run_chunks(tokens, after))).map_err(|panic| {
            self.logits.clear();
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            Error::internal("evaluation panicked").found(text.unwrap_or("an unknown cause"))
        })
    }

    #[allow(clippy::type_complexity)]
    fn run_chunks(
        &mut self,
        tokens: &[u32],
        after: &mut dyn FnMut(usize, usize, &Pass<Cpu>, &mut State<Cpu>, &mut Vec<f32>) -> ControlFlow<()>,
    ) {
        let model = self.model.clone();
        let active: &Active<Cpu> = &self.adapters;
        let pass = Pass {
            backend: model.backend(),
            spec: model.spec(),
            weights: model.weights(),
            active,
        };
        let mut first = 0;
        for chunk in tokens.chunks(self.chunk) {
            pass.forward(&mut self.state, chunk, self.tokens.len());
            self.tokens.extend_from_slice(chunk);
            if after(first, chunk.len(), &pass, &mut self.state, &mut self.logits).is_break() {
                return;
            }
            first += chunk.len();
        }
    }

    /// The logits of the last evaluation; empty before the first.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Tokens evaluated so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Number of tokens evaluated so far: the position of the next one.
    pub fn position(&self) -> usize {
        self.tokens.len()
    }

    /// Positions that the session can hold.
    pub fn context(&self) -> usize {
        self.context
    }

    /// How exactly it computes.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Forgets all tokens. Adapters stay active.
    pub fn reset(&mut self) {
        self.tokens.clear();
        self.logits.clear();
    }

    /// Forgets all but the first `n` tokens. Where a sliding window's ring no longer holds what stood before them, they
    /// are evaluated again (under the adapters that are active now).
    ///
    /// # Errors
    /// `n` is larger than [`Session::position`].
    pub fn truncate(&mut self, n: usize) -> Result<()> {
        let had = self.tokens.len();
        if n > had {
            return Err(Error::usage("cannot keep more tokens than there are")
                .expected(format!("at most {had}"))
                .found(n));
        }
        let lost = self.model.spec().windows.iter().flatten().any(|&window| {
            let capacity = ring_capacity(Some(window), self.context, self.chunk);
            // The next token, at n, reads from n - window + 1 on; the ring holds the last `capacity` positions.
            had > capacity && n + 1 < (had - capacity) + window
        });
        if lost && n < had {
            let tokens = self.tokens[..n].to_vec();
            self.reset();
            if !tokens.is_empty() {
                self.eval(&tokens)?;
            }
        } else if n < had {
            self.tokens.truncate(n);
            self.logits.clear();
        }
        Ok(())
    }

    /// Makes room in a full context: keeps the first `keep` tokens and the later half of the others, and evaluates
    /// them again from position 0, so that what follows is exactly what it would be after that shorter text.
    ///
    /// # Errors
    /// `keep` leaves no room.
    pub fn slide(&mut self, keep: usize) -> Result<()> {
        let had = self.tokens.len();
        if keep + 2 > self.context {
            return Err(Error::usage("keep leaves no room in the context")
                .item("keep")
                .expected(format!("below {}", self.context.saturating_sub(1)))
                .found(keep));
        }
        let keep = keep.min(had);
        let dropped = (had - keep).div_ceil(2);
        let mut tokens = self.tokens[..keep].to_vec();
        tokens.extend_from_slice(&self.tokens[keep + dropped..]);
        self.reset();
        if !tokens.is_empty() {
            self.eval(&tokens)?;
        }
        Ok(())
    }
}

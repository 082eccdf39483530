//! One conversation: its tokens, its cache, its active adapters.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use crate::adapter::Active;
use crate::error::{Error, Result};
use crate::kernels::{Draw, Precision};
use crate::model::Device;
use crate::model::backend::Backend;
use crate::model::cache::ring_capacity;
use crate::model::decoder::Pass;
use crate::model::moments::Moments;
use crate::model::spec::Spec;
use crate::model::state::State;

use super::Sampler;
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

impl SessionOptions {
    /// Positions of a session with a model of `spec`.
    pub(super) fn context_of(&self, spec: &Spec) -> Result<usize> {
        let context = self.context.unwrap_or(spec.context_length);
        if context == 0 || context > spec.context_length {
            return Err(Error::usage("context size out of range")
                .item("context")
                .expected(format!("1 to {}, the model's context length", spec.context_length))
                .found(context));
        }
        Ok(context)
    }
}

/// Rows of logits that are computed together when all are asked for: bounds their memory at a large vocabulary.
const LOGIT_ROWS: usize = 8;

/// One conversation with a model. It is used by one thread at a time; sessions of one model share everything but this.
pub struct Session {
    pub(super) model: Model,
    pub(super) state: State<Device>,
    pub(super) active: Arc<Active<Device>>,
    pub(super) tokens: Vec<u32>,
    /// Positions of the cache that an adapter's prompt or prefix takes, before the first token.
    pub(super) before: usize,
    /// Rings of sliding windows have nothing from before this position: what was forgotten took its place, or it was not
    /// restored.
    pub(super) held_from: usize,
    /// Positions of the cache.
    pub(super) capacity: usize,
    pub(super) context: usize,
    chunk: usize,
    pub(super) precision: Precision,
    pub(super) logits: Logits,
}

/// The logits of the last token: in the state, where they were computed, until somebody reads them.
#[derive(Default)]
pub(super) struct Logits {
    /// How many: 0 or the vocabulary.
    len: usize,
    /// Those that were read, or that never were in the state.
    host: OnceLock<Vec<f32>>,
}

impl Logits {
    /// How many there are: 0 or the vocabulary.
    pub fn len(&self) -> usize {
        self.len
    }

    /// None, from now on.
    pub fn clear(&mut self) {
        *self = Logits::default();
    }

    /// From now on a single row of so many that the state has.
    fn leave(&mut self, len: usize) {
        *self = Logits {
            len,
            host: OnceLock::new(),
        };
    }

    /// From now on these.
    pub fn set(&mut self, logits: impl IntoIterator<Item = f32>) {
        let mut host = self.host.take().unwrap_or_default();
        host.clear();
        host.extend(logits);
        *self = Logits {
            len: host.len(),
            host: host.into(),
        };
    }
}

/// Is given a chunk's first index and length, the pass that has run it, what it left, and the session's logits.
type After<'a> =
    dyn FnMut(usize, usize, &Pass<Device>, &mut State<Device>, &mut Logits) -> Result<ControlFlow<()>> + 'a;

impl Session {
    pub(super) fn new(model: Model, options: &SessionOptions) -> Result<Self> {
        let spec = model.spec();
        let context = options.context_of(spec)?;
        let chunk = options.chunk.clamp(1, context);
        let active = Arc::new(Active::none(spec));
        let state = State::new(
            model.backend(),
            spec,
            model.weights(),
            &active.layers,
            context,
            chunk,
            options.precision,
        )?;
        Ok(Session {
            state,
            active,
            tokens: Vec::new(),
            before: 0,
            held_from: 0,
            capacity: context,
            context,
            chunk,
            precision: options.precision,
            logits: Logits::default(),
            model,
        })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Makes these adapters, each with its weight, the active ones from the next token on. Updates add up; what does not add up (factors,
    /// rotations) applies in the order of the list. The cache of earlier tokens is kept: [`Session::reset`] clears it.
    ///
    /// # Errors
    /// An adapter of another model, a weight that is no finite number or that the method has no meaning for, adapters that cannot be on
    /// together, and one that must be on before the first token (a prompt, repeated layers) when there are tokens. The active adapters are
    /// then those from before.
    pub fn set_adapters(&mut self, adapters: &[(Adapter, f32)]) -> Result<()> {
        let (backend, spec) = (self.model.backend(), self.model.spec());
        let active = self.model.activate(adapters)?;
        let first = |what: &str| {
            let e = Error::usage(format!(
                "an adapter that {what} must be on before the first token: reset the session first"
            ));
            Err(e.expected("no tokens").found(self.tokens.len()))
        };
        if !self.tokens.is_empty() && active.prefix().is_some() && !active.same_prefix(&self.active) {
            return first("stands before the text");
        }
        if active.layers != self.active.layers && !self.tokens.is_empty() {
            return first("repeats layers");
        }
        // What stands before the text takes nothing from the room for tokens, as long as the model has positions for both.
        let prefix = active.prefix().map_or(0, |(n, _)| n);
        let capacity = (self.context + prefix).min(spec.context_length).max(self.capacity);
        if self.tokens.is_empty() && (active.layers != self.active.layers || capacity != self.capacity) {
            self.state = State::new(
                backend,
                spec,
                self.model.weights(),
                &active.layers,
                capacity,
                self.chunk,
                self.precision,
            )?;
            self.capacity = capacity;
        }
        self.active = active;
        if self.tokens.is_empty() {
            self.before = 0;
        }
        Ok(())
    }

    /// Entries of the vocabulary: the model's, or those of an adapter with an embedding and a head of its own.
    pub fn vocab_size(&self) -> usize {
        self.active.vocab.1
    }

    /// Appends `tokens` and returns the logits (one a vocabulary entry) that follow the last of them.
    ///
    /// # Errors
    /// No tokens, an id outside the vocabulary, more tokens than the context holds; the session is then unchanged.
    pub fn eval(&mut self, tokens: &[u32]) -> Result<&[f32]> {
        self.append(tokens)?;
        self.read_logits()
    }

    /// As [`Session::eval`], but the logits stay where they were computed, perhaps on a GPU, until [`Session::logits`] asks for them;
    /// [`Session::sample`] may not need to. A GPU may still be at work when this returns.
    ///
    /// # Errors
    /// As [`Session::eval`].
    pub fn append(&mut self, tokens: &[u32]) -> Result<()> {
        self.check(tokens)?;
        let vocab = self.vocab_size();
        let Some(last) = tokens.len().checked_sub(1) else {
            return Err(Error::usage("no tokens to evaluate").item("tokens"));
        };
        self.run(tokens, &mut |first, n, pass, state, logits| {
            if first + n > last {
                pass.head(state, last - first, 1);
                logits.leave(vocab);
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Chooses the token that is to follow: on the GPU, if its logits are there, so that only the token comes from it. It is the token that
    /// [`Sampler::sample`] takes of [`Session::logits`] and [`Session::tokens`], where none is so near to the next that rounding decides.
    ///
    /// # Errors
    /// `Usage` where there are no logits yet; those of [`Sampler::sample`].
    pub fn sample(&mut self, sampler: &mut Sampler) -> Result<u32> {
        if !self.has_logits() {
            return Err(Error::usage("there are no logits yet").expected("an evaluated token"));
        }
        let backend = self.model.backend();
        if self.logits.host.get().is_none() && self.state.draws(backend) {
            let device = |draw: &Draw<'_>| self.state.draw(backend, draw);
            if let Some(id) = sampler.sample_by(self.logits.len(), &self.tokens, device)? {
                return Ok(id);
            }
        }
        sampler.sample(self.read_logits()?, &self.tokens)
    }

    /// Appends `tokens` and calls `each(index, logits)` for every one of them, index 0 being the first of this call.
    /// When `each` breaks, the chunk that was under way is still part of the session.
    ///
    /// # Errors
    /// As [`Session::eval`].
    pub fn eval_each(&mut self, tokens: &[u32], each: &mut dyn FnMut(usize, &[f32]) -> ControlFlow<()>) -> Result<()> {
        self.check(tokens)?;
        let vocab = self.vocab_size();
        self.run(tokens, &mut |first, n, pass, state, logits| {
            for row in (0..n).step_by(LOGIT_ROWS) {
                let rows = LOGIT_ROWS.min(n - row);
                let all = pass.logits(state, row, rows)?;
                for (i, one) in all.chunks_exact(vocab).enumerate() {
                    if each(first + row + i, one).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                logits.set(all[(rows - 1) * vocab..].iter().copied());
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    pub(super) fn check(&self, tokens: &[u32]) -> Result<()> {
        let vocab = self.active.vocab.0;
        if let Some((i, id)) = tokens.iter().enumerate().find(|(_, id)| **id as usize >= vocab) {
            return Err(Error::usage("token id outside the vocabulary")
                .item(format!("tokens[{i}]"))
                .expected(format!("0 to {}", vocab - 1))
                .found(id));
        }
        let room = self.context();
        if tokens.len() > room.saturating_sub(self.tokens.len()) {
            return Err(Error::limit("the context is full")
                .item("context")
                .expected(format!("at most {room} tokens"))
                .found(format!("{} and {} more", self.tokens.len(), tokens.len())));
        }
        Ok(())
    }

    /// Runs checked tokens chunk by chunk; `after` is told of each chunk. A panic (a defect, in
    /// whichever thread) becomes an error, and so does what the device says; tokens of chunks that were done stay part of the session.
    pub(super) fn run(&mut self, tokens: &[u32], after: &mut After) -> Result<()> {
        // A pass that did not end leaves rows behind `tokens` in the cache, where the next pass writes again: no
        // invariant is broken.
        let run = catch_unwind(AssertUnwindSafe(|| self.run_chunks(tokens, after)));
        let run = run.unwrap_or_else(|panic| Err(Error::panicked("evaluation panicked", &*panic)));
        // What a pass that ended so has left there is not the next one's.
        let left = self.model.backend().check();
        run.and(left).inspect_err(|_| self.logits.clear())
    }

    fn run_chunks(&mut self, tokens: &[u32], after: &mut After) -> Result<()> {
        let model = self.model.clone();
        let from = self.active.gates_from(&self.tokens, tokens);
        let mut gates = vec![0; from.len()];
        let pass = Pass {
            backend: model.backend(),
            spec: model.spec(),
            weights: model.weights(),
            active: &self.active,
            gates: &[],
        };
        if let (true, Some((n, _))) = (self.tokens.is_empty(), pass.active.prefix()) {
            for at in (0..n).step_by(self.chunk) {
                pass.prefix(&mut self.state, at, self.chunk.min(n - at));
            }
            self.before = n;
        }
        let mut first = 0;
        for chunk in tokens.chunks(self.chunk) {
            gates
                .iter_mut()
                .zip(&from)
                .for_each(|(gate, from)| *gate = from.saturating_sub(self.tokens.len()));
            let pass = Pass { gates: &gates, ..pass };
            let had = self.tokens.len();
            pass.forward(&mut self.state, chunk, self.before + had);
            pass.backend.check()?;
            self.tokens.extend_from_slice(chunk);
            let done = after(first, chunk.len(), &pass, &mut self.state, &mut self.logits);
            if done.inspect_err(|_| self.tokens.truncate(had))?.is_break() {
                return Ok(());
            }
            first += chunk.len();
        }
        Ok(())
    }

    /// From now on records what the model's linear maps are given, until adapters change.
    pub(super) fn record(&mut self) {
        self.state.record(self.model.spec().n_layers);
    }

    /// What was recorded; nothing more is.
    pub(super) fn take_moments(&mut self) -> Option<Moments> {
        self.state.take_moments()
    }

    /// The logits of the last evaluation; empty before the first, after one that computed none, and where the device fails.
    pub fn logits(&self) -> &[f32] {
        self.read_logits().unwrap_or_default()
    }

    /// The same, with what the device says.
    pub(crate) fn read_logits(&self) -> Result<&[f32]> {
        let Logits { len, host } = &self.logits;
        match host.get() {
            Some(host) => return Ok(host),
            None if *len == 0 => return Ok(&[]),
            None => (),
        }
        let backend = self.model.backend();
        let read = self.state.logits(backend);
        backend.check()?;
        Ok(match read {
            Cow::Borrowed(there) => there,
            Cow::Owned(brought) => host.get_or_init(|| brought),
        })
    }

    /// Whether there are logits, wherever they are.
    pub(crate) fn has_logits(&self) -> bool {
        self.logits.len() > 0
    }

    /// Tokens evaluated so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Number of tokens evaluated so far: the position of the next one.
    pub fn position(&self) -> usize {
        self.tokens.len()
    }

    /// Tokens that the session can hold.
    pub fn context(&self) -> usize {
        let before = match self.active.prefix() {
            Some((n, _)) if self.tokens.is_empty() => n,
            _ => self.before,
        };
        self.context.min(self.capacity - before)
    }

    /// How exactly it computes.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Forgets all tokens. Adapters stay active.
    pub fn reset(&mut self) {
        self.tokens.clear();
        self.logits.clear();
        (self.before, self.held_from) = (0, 0);
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
        let (first, end) = (self.before + n, self.before + had);
        // The ring of a window holds the last `capacity` positions, or less where something was forgotten or restored.
        let held = |window| {
            let capacity = ring_capacity(Some(window), self.capacity, self.chunk);
            end.saturating_sub(capacity).max(self.held_from)
        };
        let windows = || self.model.spec().windows.iter().flatten().copied();
        // The next token, at `first`, reads from first - window + 1 on.
        let lost = windows().any(|window| held(window) > 0 && first + 1 < held(window) + window);
        if (lost || n == 0) && n < had {
            let tokens = self.tokens[..n].to_vec();
            self.reset();
            if !tokens.is_empty() {
                self.eval(&tokens)?;
            }
        } else if n < had {
            self.held_from = windows().map(held).max().unwrap_or(0);
            self.tokens.truncate(n);
            self.logits.clear();
        }
        Ok(())
    }

    /// Keeps what the session's tokens share with the beginning of `tokens`, and forgets the rest, so that only `tokens[n..]` is left to be
    /// evaluated, n being what is returned. At least one token is left, to have logits.
    pub fn keep_common(&mut self, tokens: &[u32]) -> usize {
        let same = tokens.iter().zip(&self.tokens).take_while(|(a, b)| a == b).count();
        let same = same.min(tokens.len().saturating_sub(1));
        if self.truncate(same).is_err() {
            self.reset();
        }
        self.tokens.len()
    }

    /// Makes room in a full context: keeps the first `keep` tokens and the later half of the others, and evaluates
    /// them again from position 0, so that what follows is exactly what it would be after that shorter text.
    ///
    /// # Errors
    /// `keep` leaves no room.
    pub fn slide(&mut self, keep: usize) -> Result<()> {
        let had = self.tokens.len();
        if keep.saturating_add(2) > self.context() {
            return Err(Error::usage("keep leaves no room in the context")
                .item("keep")
                .expected(format!("below {}", self.context().saturating_sub(1)))
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

//! The generation loop: prompt in, tokens and streamed text out.

use std::fmt;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::{Cancel, Sampler, Session, StopMatcher};
use crate::error::{Error, Result};
use crate::tokenizer::{DecodeStream, Tokenizer};

/// When to end, and what to do when the context is full.
#[derive(Clone, Debug, Default)]
pub struct GenerateOptions {
    /// The most tokens to generate; `None` goes on until the model or the context ends.
    pub max_tokens: Option<usize>,
    /// Ends where the text holds one of these; the text ends before it.
    pub stop: Vec<String>,
    /// Go on after the model's end-of-generation tokens.
    pub ignore_eos: bool,
    /// When the context is full, drop half of the tokens after the first `keep` and go on ([`Session::slide`]);
    /// `None` ends with [`Finish::Context`].
    pub keep: Option<usize>,
    /// Show the text of control tokens (`<|im_end|>`), which is otherwise left out.
    pub show_special: bool,
    /// Ends with [`Finish::Cancelled`] once one of these is set, by another thread or a signal handler.
    pub cancel: Vec<Cancel>,
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finish {
    /// The model said so: an end-of-generation token.
    Eos,
    /// A stop string was reached.
    Stop,
    /// `max_tokens` were generated.
    Length,
    /// The callback or the cancel flag said so.
    Cancelled,
    /// The context is full.
    Context,
}

impl Finish {
    /// Its name in JSON: `eos`, `stop`, `length`, `cancelled`, `context`.
    pub fn name(self) -> &'static str {
        match self {
            Finish::Eos => "eos",
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::Cancelled => "cancelled",
            Finish::Context => "context",
        }
    }
}

impl fmt::Display for Finish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What was done and how long it took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// Tokens of the prompt that were evaluated.
    pub prompt_tokens: usize,
    /// Time for them, up to the logits of the first new token.
    pub prompt: Duration,
    /// New tokens.
    pub tokens: usize,
    /// How many of them were evaluated to get the next: all but, mostly, the last.
    pub evaluations: usize,
    /// Time for them: sampling, decoding and evaluating, without the caller's.
    pub generation: Duration,
}

/// What [`generate`] gives back.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The new tokens, without an end-of-generation token that ended it.
    pub tokens: Vec<u32>,
    /// Their text, without a stop string that ended it.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// Counts and times.
    pub timings: Timings,
}

/// Tokens of a prompt evaluated between two looks at the cancel flag.
const PROMPT_STEP: usize = 512;

/// A generation under way, for callers that take its tokens one at a time; [`generate`] runs one to its end.
///
/// The session, tokenizer and sampler are the same in every call. In between the session may be looked at; tokens that were
/// added to it stand before the next new one.
pub struct Generation {
    options: GenerateOptions,
    stops: StopMatcher,
    /// `None` once what it held back was put out.
    stream: Option<DecodeStream>,
    out: Generated,
    /// Set when it has ended: [`Generated::finish`] holds from then on.
    ended: bool,
    /// Tokens of the prompt that are still to be evaluated.
    prompt: Vec<u32>,
    /// Where in the text what was not yet given out begins.
    given: usize,
    /// The last new token, which nothing has followed yet.
    last: Option<u32>,
}

impl Generation {
    /// One that will append `prompt` to `session` and go on from there; nothing is evaluated yet.
    ///
    /// # Errors
    /// `Usage` for an empty prompt where the session has no logits to go on from, or an empty stop string; `Limit` for a prompt that does
    /// not fit the context.
    pub fn new(session: &Session, tokenizer: &Tokenizer, prompt: Vec<u32>, options: GenerateOptions) -> Result<Self> {
        if prompt.is_empty() && !session.has_logits() {
            return Err(Error::usage("the prompt is empty").expected("at least one token"));
        }
        let room = session.context().saturating_sub(session.position());
        if prompt.len() > room {
            let e = Error::limit("the prompt does not fit the context").item("prompt");
            return Err(e.expected(format!("at most {room} tokens")).found(prompt.len()));
        }
        Ok(Generation {
            stops: StopMatcher::new(options.stop.clone())?,
            stream: Some(tokenizer.stream(!options.show_special)),
            options,
            out: Generated {
                tokens: Vec::new(),
                text: String::new(),
                finish: Finish::Length,
                timings: Timings::default(),
            },
            ended: false,
            prompt,
            given: 0,
            last: None,
        })
    }

    /// The next token and the text that is certain with it: whole characters that cannot be the beginning of a stop string, often none.
    /// The first call evaluates the prompt. `None` at the end; text that was held back until then comes before, once more with the last
    /// token.
    ///
    /// # Errors
    /// What [`Session::eval`] and [`Sampler::sample`] say.
    pub fn next(
        &mut self,
        session: &mut Session,
        tokenizer: &Tokenizer,
        sampler: &mut Sampler,
    ) -> Result<Option<(&str, u32)>> {
        if !self.ended {
            let finish = match self.read_prompt(session)? {
                Some(finish) => Some(finish),
                None => {
                    let start = Instant::now();
                    let finish = self.step(session, tokenizer, sampler)?;
                    self.out.timings.generation += start.elapsed();
                    finish
                }
            };
            match finish {
                Some(finish) => self.end(finish),
                None => return Ok(self.piece()),
            }
        }
        Ok(if self.given < self.out.text.len() {
            self.piece()
        } else {
            None
        })
    }

    /// Ends it before its time, as [`Finish::Cancelled`].
    pub fn cancel(&mut self) {
        if !self.ended {
            self.end(Finish::Cancelled);
        }
    }

    /// What it has generated so far; [`Generated::finish`] holds once [`Generation::ended`].
    pub fn generated(&self) -> &Generated {
        &self.out
    }

    /// Whether it has come to its end.
    pub fn ended(&self) -> bool {
        self.ended
    }

    fn cancelled(&self) -> bool {
        self.options.cancel.iter().any(Cancel::is_set)
    }

    /// What was not yet given out.
    fn piece(&mut self) -> Option<(&str, u32)> {
        let from = std::mem::replace(&mut self.given, self.out.text.len());
        self.last.map(|id| (&self.out.text[from..], id))
    }

    /// Evaluates what is left of the prompt.
    fn read_prompt(&mut self, session: &mut Session) -> Result<Option<Finish>> {
        while !self.prompt.is_empty() {
            if self.cancelled() {
                return Ok(Some(Finish::Cancelled));
            }
            let start = Instant::now();
            let n = PROMPT_STEP.min(self.prompt.len());
            session.eval(&self.prompt[..n])?;
            self.prompt.drain(..n);
            self.out.timings.prompt_tokens += n;
            self.out.timings.prompt += start.elapsed();
        }
        Ok(None)
    }

    /// One more token; why it ended, if it did.
    fn step(&mut self, session: &mut Session, tokenizer: &Tokenizer, sampler: &mut Sampler) -> Result<Option<Finish>> {
        if self.options.max_tokens.is_some_and(|n| self.out.tokens.len() >= n) {
            return Ok(Some(Finish::Length));
        }
        if self.cancelled() {
            return Ok(Some(Finish::Cancelled));
        }
        if let Some(id) = self.last {
            // The token sampled before is evaluated only now: the last one of all never needs to be.
            if session.position() >= session.context() {
                match self.options.keep {
                    Some(keep) => session.slide(keep)?,
                    None => return Ok(Some(Finish::Context)),
                }
            }
            session.append(&[id])?;
            self.out.timings.evaluations += 1;
        }
        let id = session.sample(sampler)?;
        if !self.options.ignore_eos && tokenizer.is_end_of_generation(id) {
            return Ok(Some(Finish::Eos));
        }
        self.out.tokens.push(id);
        self.out.timings.tokens += 1;
        self.last = Some(id);
        let text = match &mut self.stream {
            Some(stream) => stream.push(id)?,
            None => "",
        };
        let stopped = self.stops.push(text, &mut self.out.text);
        Ok(stopped.then_some(Finish::Stop))
    }

    /// Ends; what was held back becomes text.
    fn end(&mut self, finish: Finish) {
        self.ended = true;
        self.out.finish = finish;
        let Some(stream) = self.stream.take() else { return };
        if finish != Finish::Stop && !self.stops.push(&stream.finish(), &mut self.out.text) {
            self.stops.finish(&mut self.out.text);
        }
    }
}

/// Appends `prompt` to the session and generates.
///
/// `on_text` gets each piece of text as soon as it is certain (whole characters that cannot be the beginning of a stop string;
/// often empty) with the token that brought it, and may end the generation. The concatenated pieces are
/// [`Generated::text`]; text that is still held back at the end comes with the last token.
/// Afterwards the session holds the prompt and all new tokens but the last, which nothing has followed yet.
///
/// # Errors
/// Those of [`Generation::new`] and [`Generation::next`].
pub fn generate(
    session: &mut Session,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    sampler: &mut Sampler,
    options: &GenerateOptions,
    on_text: &mut dyn FnMut(&str, u32) -> ControlFlow<()>,
) -> Result<Generated> {
    let mut generation = Generation::new(session, tokenizer, prompt.to_vec(), options.clone())?;
    while let Some((text, id)) = generation.next(session, tokenizer, sampler)? {
        if on_text(text, id).is_break() {
            generation.cancel();
        }
    }
    Ok(generation.out)
}

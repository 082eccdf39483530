//! The generation loop: prompt in, tokens and streamed text out.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Sampler, Session, StopMatcher};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// When to end, and what to do when the context is full.
#[derive(Clone, Debug, Default)]
pub struct GenerateOptions<'a> {
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
    /// Another thread (or a signal handler) sets this to end with [`Finish::Cancelled`].
    pub cancel: Option<&'a AtomicBool>,
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
    /// Time for them: sampling, decoding and evaluating.
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

/// Appends `prompt` to the session and generates.
///
/// `on_text` gets each piece of text as soon as it is certain (whole characters that cannot be the beginning of a stop string;
/// often empty) with the token that brought it, and may end the generation. The concatenated pieces are
/// [`Generated::text`]; text that is still held back at the end comes with the last token.
/// Afterwards the session holds the prompt and all new tokens but the last, which nothing has followed yet.
///
/// # Errors
/// `Usage` for an empty prompt where the session has no logits to go on from, or an empty stop string; `Limit` for a prompt that does not
/// fit the context; what [`Session::eval`] and [`Sampler::sample`] say.
pub fn generate(
    session: &mut Session,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    sampler: &mut Sampler,
    options: &GenerateOptions,
    on_text: &mut dyn FnMut(&str, u32) -> ControlFlow<()>,
) -> Result<Generated> {
    if prompt.is_empty() && session.logits().is_empty() {
        return Err(Error::usage("the prompt is empty").expected("at least one token"));
    }
    let mut stops = StopMatcher::new(options.stop.clone())?;
    let mut stream = tokenizer.stream(!options.show_special);
    let cancelled = || options.cancel.is_some_and(|c| c.load(Ordering::Relaxed));
    let mut out = Generated {
        tokens: Vec::new(),
        text: String::new(),
        finish: Finish::Length,
        timings: Timings::default(),
    };

    let room = session.context().saturating_sub(session.position());
    if prompt.len() > room {
        let e = Error::limit("the prompt does not fit the context").item("prompt");
        return Err(e.expected(format!("at most {room} tokens")).found(prompt.len()));
    }
    let start = Instant::now();
    for piece in prompt.chunks(PROMPT_STEP) {
        if cancelled() {
            out.finish = Finish::Cancelled;
            return Ok(out);
        }
        session.eval(piece)?;
        out.timings.prompt_tokens += piece.len();
    }
    out.timings.prompt = start.elapsed();

    let start = Instant::now();
    // Where the text not yet given to the callback begins, and the token it belongs to.
    let (mut given, mut last) = (0, None);
    out.finish = loop {
        if options.max_tokens.is_some_and(|n| out.tokens.len() >= n) {
            break Finish::Length;
        }
        if cancelled() {
            break Finish::Cancelled;
        }
        if let Some(id) = last {
            // The token sampled before is evaluated only now: the last one of all never needs to be.
            if session.position() >= session.context() {
                match options.keep {
                    Some(keep) => session.slide(keep)?,
                    None => break Finish::Context,
                }
            }
            session.eval(&[id])?;
            out.timings.evaluations += 1;
        }
        let id = sampler.sample(session.logits(), session.tokens())?;
        if !options.ignore_eos && tokenizer.is_end_of_generation(id) {
            break Finish::Eos;
        }
        out.tokens.push(id);
        last = Some(id);
        if stops.push(stream.push(id)?, &mut out.text) {
            break Finish::Stop;
        }
        let said = on_text(&out.text[given..], id);
        given = out.text.len();
        if said.is_break() {
            break Finish::Cancelled;
        }
    };
    if out.finish != Finish::Stop && !stops.push(&stream.finish(), &mut out.text) {
        stops.finish(&mut out.text);
    }
    if let (Some(id), true) = (last, given < out.text.len()) {
        // The end is reached whatever the callback says.
        let _ = on_text(&out.text[given..], id);
    }
    out.timings.generation = start.elapsed();
    out.timings.tokens = out.tokens.len();
    Ok(out)
}

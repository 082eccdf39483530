//! Generating: a prompt in, text out through a callback. The prompt is appended to what the session holds; afterwards it holds the prompt and
//! all new tokens but the last.

use std::ffi::{c_char, c_void};
use std::ptr::null;

use super::cancel::{flag, graft_cancel};
use super::chat::{self, graft_chat_options, graft_message};
use super::error::graft_error;
use super::handle::{self, Exclusive};
use super::input::{self, Extensible, maybe_facts};
use super::sampling::graft_sampler;
use super::session::graft_session;
use super::status::graft_status;
use super::{Outcome, call};
use crate::Session;
use crate::error::Error;
use crate::runtime::{Cancel, Finish, GenerateOptions, Generation, Sampler, SamplerOptions};
use crate::tokenizer::EncodeOptions;

/// A text that stays the caller's. This struct never changes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_text {
    /// Its bytes.
    pub data: *const c_char,
    /// How many, or `GRAFT_NUL`.
    pub len: usize,
}

/// When to end, and how to choose tokens.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_generate_options {
    /// `sizeof(graft_generate_options)`.
    pub struct_size: usize,
    /// The most tokens to generate; 0 goes on until the model or the context ends.
    pub max_tokens: u64,
    /// `n_stop` texts: generation ends before the first of them to appear. Or NULL.
    pub stop: *const graft_text,
    /// How many.
    pub n_stop: usize,
    /// How to choose tokens; NULL for the most likely ones.
    pub sampler: *mut graft_sampler,
    /// Ends the work when it is set, or NULL.
    pub cancel: *const graft_cancel,
    /// When the context is full: drop half of the tokens after the first `keep` and go on; -1, the default, ends there.
    pub keep: i64,
    /// Not 0: go on after the model's end tokens.
    pub ignore_eos: i32,
    /// Not 0: show the text of control tokens.
    pub show_special: i32,
}

// SAFETY: numbers and pointers; `struct_size` is first.
unsafe impl Extensible for graft_generate_options {
    const NAME: &'static str = "graft_generate_options";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        graft_generate_options {
            struct_size: size_of::<Self>(),
            max_tokens: 0,
            stop: null(),
            n_stop: 0,
            sampler: std::ptr::null_mut(),
            cancel: null(),
            keep: -1,
            ignore_eos: 0,
            show_special: 0,
        }
    }
}

/// Sets the defaults; `struct_size` is `sizeof(graft_generate_options)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_generate_options_init(options: *mut graft_generate_options, struct_size: usize) {
    // SAFETY: as the caller promises.
    unsafe { input::init(options, struct_size) };
}

/// Is given each piece of text as soon as it is certain, whole characters, often none, with the token that brought it: once a token. Text that
/// was held back until the end (a character or stop text that did not become whole) comes in one more call, with the last token again. `text` is
/// not NUL-terminated and valid during the call. Not 0 ends the generation. The session and the sampler are busy meanwhile; all other handles may
/// be used.
pub type graft_text_callback =
    Option<unsafe extern "C" fn(text: *const c_char, len: usize, token: u32, user_data: *mut c_void) -> i32>;

/// Why a generation ended.
pub type graft_finish = i32;
/// It has not ended.
pub const GRAFT_FINISH_NONE: graft_finish = 0;
/// The model said so.
pub const GRAFT_FINISH_EOS: graft_finish = 1;
/// A stop text was reached.
pub const GRAFT_FINISH_STOP: graft_finish = 2;
/// `max_tokens` were generated.
pub const GRAFT_FINISH_LENGTH: graft_finish = 3;
/// The callback, a `graft_cancel` or `graft_session_cancel` said so.
pub const GRAFT_FINISH_CANCELLED: graft_finish = 4;
/// The context is full.
pub const GRAFT_FINISH_CONTEXT: graft_finish = 5;

/// What a generation did.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_report {
    /// `sizeof(graft_report)`, set by the caller.
    pub struct_size: usize,
    /// Tokens of the prompt that were evaluated.
    pub prompt_tokens: u64,
    /// Tokens of the prompt that the session had already (of messages only).
    pub reused_tokens: u64,
    /// New tokens.
    pub tokens: u64,
    /// Time for the prompt.
    pub prompt_seconds: f64,
    /// Time for the new tokens.
    pub generation_seconds: f64,
    /// Why it ended: `GRAFT_FINISH_...`.
    pub finish: graft_finish,
    /// 0.
    pub reserved: u32,
}

// SAFETY: numbers; `struct_size` is first.
unsafe impl Extensible for graft_report {
    const NAME: &'static str = "graft_report";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        graft_report {
            struct_size: size_of::<Self>(),
            prompt_tokens: 0,
            reused_tokens: 0,
            tokens: 0,
            prompt_seconds: 0.0,
            generation_seconds: 0.0,
            finish: GRAFT_FINISH_NONE,
            reserved: 0,
        }
    }
}

pub(super) fn report(generation: &Generation, reused: usize) -> graft_report {
    let made = generation.generated();
    graft_report {
        prompt_tokens: made.timings.prompt_tokens as u64,
        reused_tokens: reused as u64,
        tokens: made.timings.tokens as u64,
        prompt_seconds: made.timings.prompt.as_secs_f64(),
        generation_seconds: made.timings.generation.as_secs_f64(),
        finish: match (generation.ended(), made.finish) {
            (false, _) => GRAFT_FINISH_NONE,
            (_, Finish::Eos) => GRAFT_FINISH_EOS,
            (_, Finish::Stop) => GRAFT_FINISH_STOP,
            (_, Finish::Length) => GRAFT_FINISH_LENGTH,
            (_, Finish::Cancelled) => GRAFT_FINISH_CANCELLED,
            (_, Finish::Context) => GRAFT_FINISH_CONTEXT,
        },
        ..Extensible::defaults()
    }
}

/// A prompt in one of its forms.
#[derive(Clone, Copy)]
pub(super) enum Prompt {
    Text(*const c_char, usize),
    Tokens(*const u32, usize),
    Messages(*const graft_message, usize, *const graft_chat_options),
}

/// The options, without the sampler.
pub(super) unsafe fn generate_options(o: &graft_generate_options) -> Outcome<GenerateOptions> {
    // SAFETY: as the caller promises.
    let (stop, cancel) = unsafe {
        let stop = input::slice(o.stop, o.n_stop, "stop")?;
        let stop = stop.iter().map(|s| Ok(input::text(s.data, s.len, "stop")?.to_owned()));
        (stop.collect::<Outcome<_>>()?, flag(o.cancel)?)
    };
    Ok(GenerateOptions {
        max_tokens: match o.max_tokens {
            0 => None,
            n => Some(usize::try_from(n).unwrap_or(usize::MAX)),
        },
        stop,
        ignore_eos: o.ignore_eos != 0,
        keep: match o.keep {
            -1 => None,
            n => Some(usize::try_from(n).map_err(|_| {
                let e = Error::usage("no such number of tokens").item("keep");
                e.expected("0 or more, or -1").found(n)
            })?),
        },
        show_special: o.show_special != 0,
        cancel: cancel.into_iter().collect(),
    })
}

/// A generation that is prepared, and how many tokens of its prompt the session had.
pub(super) unsafe fn prepare(
    session: &mut Exclusive<graft_session>,
    prompt: Prompt,
    o: &graft_generate_options,
) -> Outcome<(Generation, usize)> {
    let session_cancel: Cancel = session.shared().clone();
    let model = session.model().clone();
    let tokenizer = model.tokenizer()?;
    // SAFETY: as the caller promises.
    let mut options = unsafe { generate_options(o) }?;
    options.cancel.push(session_cancel.clone());
    let mut reused = 0;
    // SAFETY: as the caller promises.
    let prompt = unsafe {
        match prompt {
            Prompt::Text(text, len) => {
                let encode = EncodeOptions {
                    add_bos_eos: session.position() == 0,
                    parse_special: true,
                };
                tokenizer.encode(input::text(text, len, "text")?, encode)?
            }
            Prompt::Tokens(tokens, n) => input::slice(tokens, n, "tokens")?.to_vec(),
            Prompt::Messages(messages, n, options) => {
                let mut tokens = chat::tokens(&model, messages, n, options)?;
                // Before anything is forgotten: on failure the session is as it was.
                let room = session.context();
                if tokens.len() > room {
                    let e = Error::limit("the conversation does not fit the context").item("messages");
                    return Err(e.expected(format!("at most {room} tokens")).found(tokens.len()).into());
                }
                reused = session.keep_common(&tokens);
                tokens.drain(..reused);
                tokens
            }
        }
    };
    session_cancel.clear();
    Ok((Generation::new(session, tokenizer, prompt, options)?, reused))
}

/// The sampler where none was given.
pub(super) fn greedy(session: &Session) -> Outcome<Sampler> {
    Ok(Sampler::new(SamplerOptions::default(), session.vocab_size())?)
}

/// Generates to the end.
unsafe fn generate(
    session: *mut graft_session,
    prompt: Prompt,
    options: *const graft_generate_options,
    callback: graft_text_callback,
    user_data: *mut c_void,
    to: *mut graft_report,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let to = maybe_facts(to)?;
            let o = input::options(options)?;
            let mut session = handle::exclusive(session)?;
            let mut given = match o.sampler.is_null() {
                true => None,
                false => Some(handle::exclusive(o.sampler)?),
            };
            let mut own = greedy(&session)?;
            let sampler = given.as_deref_mut().unwrap_or(&mut own);
            let (mut generation, reused) = prepare(&mut session, prompt, &o)?;
            let model = session.model().clone();
            let tokenizer = model.tokenizer()?;
            let mut piece = String::new();
            while let Some((text, token)) = generation.next(&mut session, tokenizer, sampler)? {
                let Some(callback) = callback else { continue };
                piece.clear();
                piece.push_str(text);
                piece.push('\0');
                if callback(piece.as_ptr().cast(), piece.len() - 1, token, user_data) != 0 {
                    generation.cancel();
                }
            }
            if let Some(to) = to {
                to.put(report(&generation, reused));
            }
            Ok(())
        })
    }
}

/// Appends a text and generates. Control tokens written out in the text, such as `<|im_end|>`, are read as such (`graft_tokenize` and
/// `graft_generate_tokens` can do without). At the beginning of a session the model's begin token is put before it. `callback` and `report` may be
/// NULL. Being cancelled is no error: `finish` says it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_generate_text(
    session: *mut graft_session,
    text: *const c_char,
    text_len: usize,
    options: *const graft_generate_options,
    callback: graft_text_callback,
    user_data: *mut c_void,
    report: *mut graft_report,
    error: *mut *mut graft_error,
) -> graft_status {
    let prompt = Prompt::Text(text, text_len);
    // SAFETY: as the caller promises.
    unsafe { generate(session, prompt, options, callback, user_data, report, error) }
}

/// Appends tokens (none: goes on from the logits that are there) and generates, as `graft_generate_text`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_generate_tokens(
    session: *mut graft_session,
    tokens: *const u32,
    n_tokens: usize,
    options: *const graft_generate_options,
    callback: graft_text_callback,
    user_data: *mut c_void,
    report: *mut graft_report,
    error: *mut *mut graft_error,
) -> graft_status {
    let prompt = Prompt::Tokens(tokens, n_tokens);
    // SAFETY: as the caller promises.
    unsafe { generate(session, prompt, options, callback, user_data, report, error) }
}

/// Makes the session hold a whole conversation, written by the model's chat template, and generates the answer, as `graft_generate_text`.
/// What the session holds already is kept as far as it is the beginning of the conversation, and not evaluated again; the rest of it is
/// forgotten. `chat` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_generate_messages(
    session: *mut graft_session,
    messages: *const graft_message,
    n_messages: usize,
    chat: *const graft_chat_options,
    options: *const graft_generate_options,
    callback: graft_text_callback,
    user_data: *mut c_void,
    report: *mut graft_report,
    error: *mut *mut graft_error,
) -> graft_status {
    let prompt = Prompt::Messages(messages, n_messages, chat);
    // SAFETY: as the caller promises.
    unsafe { generate(session, prompt, options, callback, user_data, report, error) }
}

//! Generating a token at a time, for callers that rather ask than be called.

use std::ffi::c_char;

use super::chat::{graft_chat_options, graft_message};
use super::error::graft_error;
use super::generate::{Prompt, graft_generate_options, graft_report, greedy, prepare, report};
use super::handle::{self, Handle, Link};
use super::input::{self, facts, maybe_out, out};
use super::sampling::graft_sampler;
use super::session::graft_session;
use super::status::graft_status;
use super::{call, quiet};
use crate::runtime::{Generation, Sampler};

/// A generation under way. One thread at a time; each call uses its session, which must not have been freed.
pub struct graft_generation {
    _opaque: (),
}

/// A generation, and what it works with.
pub(super) struct Running {
    session: Link<graft_session>,
    sampler: Option<Link<graft_sampler>>,
    greedy: Sampler,
    generation: Generation,
    reused: usize,
    /// The piece of text that was given out last.
    text: String,
}

impl Handle for graft_generation {
    type Shared = ();
    type Own = Running;
    const KIND: u8 = 8;
    const NAME: &'static str = "graft_generation";
}

unsafe fn new(
    session: *mut graft_session,
    prompt: Prompt,
    options: *const graft_generate_options,
    generation: *mut *mut graft_generation,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let to = out(generation, "generation")?;
            let o = input::options(options)?;
            let link = Link::new(session)?;
            let sampler = match o.sampler.is_null() {
                true => None,
                false => Some(Link::new(o.sampler)?),
            };
            let mut session = link.exclusive()?;
            let greedy = greedy(&session)?;
            let (generation, reused) = prepare(&mut session, prompt, &o)?;
            drop(session);
            to.put(handle::create(
                (),
                Running {
                    session: link,
                    sampler,
                    greedy,
                    generation,
                    reused,
                    text: String::new(),
                },
            ));
            Ok(())
        })
    }
}

/// A generation that appends a text, as `graft_generate_text` does; nothing is evaluated yet. It goes on from what the session then holds: what is
/// done with the session in between, a reset or another generation too, stands before its next token. Its session and sampler must outlive it:
/// once one of them is freed, the next piece is `GRAFT_ERROR_HANDLE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_generation_of_text(
    session: *mut graft_session,
    text: *const c_char,
    text_len: usize,
    options: *const graft_generate_options,
    generation: *mut *mut graft_generation,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe { new(session, Prompt::Text(text, text_len), options, generation, error) }
}

/// A generation that appends tokens, as `graft_generate_tokens` does; nothing is evaluated yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_generation_of_tokens(
    session: *mut graft_session,
    tokens: *const u32,
    n_tokens: usize,
    options: *const graft_generate_options,
    generation: *mut *mut graft_generation,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe { new(session, Prompt::Tokens(tokens, n_tokens), options, generation, error) }
}

/// A generation of the answer to a conversation, as `graft_generate_messages` does; nothing is evaluated yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_generation_of_messages(
    session: *mut graft_session,
    messages: *const graft_message,
    n_messages: usize,
    chat: *const graft_chat_options,
    options: *const graft_generate_options,
    generation: *mut *mut graft_generation,
    error: *mut *mut graft_error,
) -> graft_status {
    let prompt = Prompt::Messages(messages, n_messages, chat);
    // SAFETY: as the caller promises.
    unsafe { new(session, prompt, options, generation, error) }
}

/// The next piece of text, as a `graft_text_callback` is given it; `*more` is 0 where there is none any more, else 1. `*text` is
/// NUL-terminated and valid until the next call; `text_len` and `token` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_generation_next(
    generation: *mut graft_generation,
    text: *mut *const c_char,
    text_len: *mut usize,
    token: *mut u32,
    more: *mut i32,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let (text, more) = (out(text, "text")?, out(more, "more")?);
            let (text_len, token) = (maybe_out(text_len, "text_len")?, maybe_out(token, "token")?);
            let mut running = handle::exclusive(generation)?;
            let running = &mut *running;
            let mut session = running.session.exclusive()?;
            let mut given = running.sampler.as_ref().map(Link::exclusive).transpose()?;
            let sampler = given.as_deref_mut().unwrap_or(&mut running.greedy);
            let model = session.model().clone();
            let next = running.generation.next(&mut session, model.tokenizer()?, sampler)?;
            more.put(next.is_some().into());
            running.text.clear();
            if let Some((piece, id)) = next {
                running.text.push_str(piece);
                token.into_iter().for_each(|to| to.put(id));
            }
            text_len.into_iter().for_each(|to| to.put(running.text.len()));
            running.text.push('\0');
            text.put(running.text.as_ptr().cast());
            Ok(())
        })
    }
}

/// Ends it before its time; text that was held back still comes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_generation_cancel(
    generation: *mut graft_generation,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            handle::exclusive(generation)?.generation.cancel();
            Ok(())
        })
    }
}

/// Writes what it has done so far to `*report`, whose `struct_size` is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_generation_report(
    generation: *mut graft_generation,
    report: *mut graft_report,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let to = facts(report)?;
            let running = handle::exclusive(generation)?;
            to.put(self::report(&running.generation, running.reused));
            Ok(())
        })
    }
}

/// Frees a generation. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_generation_free(generation: *mut graft_generation) {
    // SAFETY: as the caller promises.
    quiet(|| unsafe { handle::free(generation) });
}

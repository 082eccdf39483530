//! Sessions: conversations with a model: tokens, cache, active adapters. One thread at a time may use a session: a second one gets
//! `GRAFT_ERROR_BUSY`. Sessions of one model run side by side.

use std::ffi::c_void;
use std::ops::ControlFlow;

use super::adapter::{graft_adapter, weighted};
use super::error::graft_error;
use super::handle::{self, Handle};
use super::input::{self, Extensible, out};
use super::model::graft_model;
use super::status::graft_status;
use super::{Outcome, call, quiet};
use crate::error::{Error, ErrorKind};
use crate::kernels::Precision;
use crate::runtime::Cancel;
use crate::{Session, SessionOptions};

/// A conversation with a model.
pub struct graft_session {
    _opaque: (),
}

impl Handle for graft_session {
    /// Ends the generation that is under way.
    type Shared = Cancel;
    type Own = Session;
    const KIND: u8 = 6;
    const NAME: &'static str = "graft_session";
}

/// How exactly to compute.
pub type graft_precision = i32;
/// With 8-bit activations: the default.
pub const GRAFT_PRECISION_FAST: graft_precision = 0;
/// With f32 activations: for comparisons.
pub const GRAFT_PRECISION_EXACT: graft_precision = 1;

/// What a session is made with.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_session_options {
    /// `sizeof(graft_session_options)`.
    pub struct_size: usize,
    /// The most tokens that it can hold; 0 for the model's own context length. The cache takes memory as it fills.
    pub context: u64,
    /// Tokens of a prompt that run through the layers together; 512 by default. More need more memory.
    pub chunk: u32,
    /// `GRAFT_PRECISION_FAST` or `GRAFT_PRECISION_EXACT`.
    pub precision: graft_precision,
}

// SAFETY: numbers; `struct_size` is first.
unsafe impl Extensible for graft_session_options {
    const NAME: &'static str = "graft_session_options";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        graft_session_options {
            struct_size: size_of::<Self>(),
            context: 0,
            chunk: 512,
            precision: GRAFT_PRECISION_FAST,
        }
    }
}

/// Sets the defaults; `struct_size` is `sizeof(graft_session_options)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_session_options_init(options: *mut graft_session_options, struct_size: usize) {
    // SAFETY: as the caller promises.
    unsafe { input::init(options, struct_size) };
}

pub(super) unsafe fn session_options(options: *const graft_session_options) -> Outcome<SessionOptions> {
    // SAFETY: as the caller promises.
    let o = unsafe { input::options(options) }?;
    let precisions = [
        (GRAFT_PRECISION_FAST, Precision::Fast),
        (GRAFT_PRECISION_EXACT, Precision::Exact),
    ];
    if o.chunk == 0 {
        return Err(Error::usage("no tokens at a time")
            .item("chunk")
            .expected("1 or more")
            .found(0)
            .into());
    }
    Ok(SessionOptions {
        context: match o.context {
            0 => None,
            n => Some(input::size(n, "context")?),
        },
        precision: input::one_of(o.precision, "precision", &precisions)?,
        chunk: o.chunk as usize,
    })
}

/// Starts a conversation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_session_new(
    model: *const graft_model,
    options: *const graft_session_options,
    session: *mut *mut graft_session,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let session = out(session, "session")?;
            let options = session_options(options)?;
            let made = handle::shared(model)?.model.session(&options)?;
            session.put(handle::create(Cancel::new(), made));
            Ok(())
        })
    }
}

/// Ends a conversation and frees its memory. NULL is allowed. While a call on this session is under way, here from its callback or in another
/// thread: when that call, which goes on, returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_session_free(session: *mut graft_session) {
    // SAFETY: as the caller promises.
    quiet(|| unsafe { handle::free(session) });
}

/// Makes these `n` adapters, each with its weight (`weights` NULL: 1 each), the active ones from the next token on; none for the model
/// alone. Takes well under a microsecond for one adapter at weight 1. The cache of earlier tokens is kept. On failure the adapters from
/// before stay: `GRAFT_ERROR_MISMATCH` for one of another model, `GRAFT_ERROR_USAGE` for weights or adapters that cannot be used so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_session_set_adapters(
    session: *mut graft_session,
    adapters: *const *const graft_adapter,
    weights: *const f32,
    n: usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let mut session = handle::exclusive(session)?;
            let adapters = weighted(adapters, weights, n)?;
            Ok(session.set_adapters(&adapters)?)
        })
    }
}

/// Appends tokens, at least one, and computes the logits that follow the last of them. `GRAFT_ERROR_LIMIT` where the context has no room:
/// nothing is then changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_session_eval(
    session: *mut graft_session,
    tokens: *const u32,
    n_tokens: usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let mut session = handle::exclusive(session)?;
            Ok(session.append(input::slice(tokens, n_tokens, "tokens")?)?)
        })
    }
}

/// Is given the logits that follow the token number `index` of the call: `n_logits` of them, valid during the call. Not 0 ends the work: the
/// call then fails with `GRAFT_ERROR_CANCELLED`, and the session holds the tokens up to the end of the chunk that was under way.
pub type graft_logits_callback =
    Option<unsafe extern "C" fn(index: usize, logits: *const f32, n_logits: usize, user_data: *mut c_void) -> i32>;

/// As `graft_session_eval`; `callback` is given the logits behind each token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_session_eval_each(
    session: *mut graft_session,
    tokens: *const u32,
    n_tokens: usize,
    callback: graft_logits_callback,
    user_data: *mut c_void,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let mut session = handle::exclusive(session)?;
            let tokens = input::slice(tokens, n_tokens, "tokens")?;
            let Some(callback) = callback else {
                return Err(Error::usage("a callback is missing").item("callback").into());
            };
            let mut stopped = false;
            session.eval_each(tokens, &mut |index, logits| {
                stopped = callback(index, logits.as_ptr(), logits.len(), user_data) != 0;
                if stopped {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })?;
            match stopped {
                true => Err(Error::new(ErrorKind::Cancelled, "cancelled").into()),
                false => Ok(()),
            }
        })
    }
}

/// The logits that follow the last token, one an entry of the vocabulary; none (`*n_logits` 0) before the first evaluation. `*logits` is
/// valid until the next call on the session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_session_logits(
    session: *mut graft_session,
    logits: *mut *const f32,
    n_logits: *mut usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let (logits, n_logits) = (out(logits, "logits")?, out(n_logits, "n_logits")?);
            let session = handle::exclusive(session)?;
            let read = session.read_logits()?;
            logits.put(read.as_ptr());
            n_logits.put(read.len());
            Ok(())
        })
    }
}

/// The tokens that the session holds. `*tokens` is valid until the next call on the session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_session_tokens(
    session: *mut graft_session,
    tokens: *mut *const u32,
    n_tokens: *mut usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let (tokens, n_tokens) = (out(tokens, "tokens")?, out(n_tokens, "n_tokens")?);
            let session = handle::exclusive(session)?;
            tokens.put(session.tokens().as_ptr());
            n_tokens.put(session.tokens().len());
            Ok(())
        })
    }
}

/// Facts about a session.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_session_info {
    /// `sizeof(graft_session_info)`, set by the caller.
    pub struct_size: usize,
    /// Tokens that it holds.
    pub position: u64,
    /// Tokens that it can hold.
    pub context: u64,
    /// Entries of the vocabulary: the model's, or those of an adapter with an embedding and a head of its own.
    pub vocab_size: u32,
    /// How exactly it computes.
    pub precision: graft_precision,
    /// Numbers in a hidden state: the length of the vectors of `graft_session_embed`.
    pub hidden_size: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: numbers; `struct_size` is first.
unsafe impl Extensible for graft_session_info {
    const NAME: &'static str = "graft_session_info";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        graft_session_info {
            struct_size: size_of::<Self>(),
            position: 0,
            context: 0,
            vocab_size: 0,
            precision: GRAFT_PRECISION_FAST,
            hidden_size: 0,
            reserved: 0,
        }
    }
}

/// Writes the facts about a session to `*info`, whose `struct_size` is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_session_get_info(
    session: *mut graft_session,
    info: *mut graft_session_info,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let info = input::facts(info)?;
            let session = handle::exclusive(session)?;
            info.put(graft_session_info {
                position: session.position() as u64,
                context: session.context() as u64,
                vocab_size: super::facts::u32_of(session.vocab_size()),
                hidden_size: super::facts::u32_of(session.model().spec().hidden_size),
                precision: match session.precision() {
                    // Nobody here can ask for `Fine`.
                    Precision::Fast | Precision::Fine => GRAFT_PRECISION_FAST,
                    Precision::Exact => GRAFT_PRECISION_EXACT,
                },
                ..Extensible::defaults()
            });
            Ok(())
        })
    }
}

/// Forgets all but the first `n` tokens; `GRAFT_ERROR_USAGE` where it holds less. Evaluate a token to have logits again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_session_truncate(
    session: *mut graft_session,
    n: u64,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let mut session = handle::exclusive(session)?;
            Ok(session.truncate(input::size(n, "n")?)?)
        })
    }
}

/// Makes room in a full context: keeps the first `keep` tokens and the later half of the others, and evaluates them again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_session_slide(
    session: *mut graft_session,
    keep: u64,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let mut session = handle::exclusive(session)?;
            Ok(session.slide(input::size(keep, "keep")?)?)
        })
    }
}

/// Forgets all tokens; adapters stay active.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_session_reset(
    session: *mut graft_session,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            handle::exclusive(session)?.reset();
            Ok(())
        })
    }
}

/// Ends the generation that is under way in this session, within a token (in a prompt: within 512); where none is, nothing happens, also not to
/// a later one. Other calls (`graft_session_eval`, ...) go on. Any thread at any time; also a signal handler, while nobody frees the session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_session_cancel(session: *const graft_session) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(std::ptr::null_mut(), || {
            handle::shared(session)?.set();
            Ok(())
        })
    }
}

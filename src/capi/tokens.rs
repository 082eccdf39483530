//! Tokens: text to numbers and back. Any thread.

use std::ffi::c_char;

use super::call;
use super::error::graft_error;
use super::handle;
use super::input::{self, maybe_out, out};
use super::memory::{give_all, give_text};
use super::model::graft_model;
use super::status::graft_status;
use crate::error::Error;
use crate::tokenizer::EncodeOptions;

/// For `graft_tokenize`: add the begin and end tokens that the model's own rules ask for.
pub const GRAFT_TOKENIZE_BOS_EOS: u32 = 1;
/// For `graft_tokenize`: recognise control tokens written out in the text, such as `<|im_start|>`; without it they are plain text.
pub const GRAFT_TOKENIZE_SPECIAL: u32 = 2;

/// The tokens of a text. `*tokens` is to be freed with `graft_free`. `flags`: `GRAFT_TOKENIZE_...`, added up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_tokenize(
    model: *const graft_model,
    text: *const c_char,
    text_len: usize,
    flags: u32,
    tokens: *mut *mut u32,
    n_tokens: *mut usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let (tokens, n_tokens) = (out(tokens, "tokens")?, out(n_tokens, "n_tokens")?);
            let text = input::text(text, text_len, "text")?;
            let loaded = handle::shared(model)?;
            if flags & !(GRAFT_TOKENIZE_BOS_EOS | GRAFT_TOKENIZE_SPECIAL) != 0 {
                let e = Error::usage("unknown flags").item("flags");
                return Err(e.expected("GRAFT_TOKENIZE_..., added up").found(flags).into());
            }
            let options = EncodeOptions {
                add_bos_eos: flags & GRAFT_TOKENIZE_BOS_EOS != 0,
                parse_special: flags & GRAFT_TOKENIZE_SPECIAL != 0,
            };
            give_all(loaded.model.tokenizer()?.encode(text, options)?, tokens, n_tokens);
            Ok(())
        })
    }
}

/// The text of tokens; `skip_special` not 0 leaves control tokens out. `*text` is NUL-terminated and to be freed with `graft_free`;
/// `text_len` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_detokenize(
    model: *const graft_model,
    tokens: *const u32,
    n_tokens: usize,
    skip_special: i32,
    text: *mut *mut c_char,
    text_len: *mut usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let (text, text_len) = (out(text, "text")?, maybe_out(text_len, "text_len")?);
            let tokens = input::slice(tokens, n_tokens, "tokens")?;
            let loaded = handle::shared(model)?;
            let decoded = loaded.model.tokenizer()?.decode(tokens, skip_special != 0)?;
            give_text(decoded, text, text_len)
        })
    }
}

/// The bytes of one token: perhaps the middle of a character. `*bytes` is not NUL-terminated and valid until the model is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_token_bytes(
    model: *const graft_model,
    token: u32,
    bytes: *mut *const c_char,
    n_bytes: *mut usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let (bytes, n_bytes) = (out(bytes, "bytes")?, out(n_bytes, "n_bytes")?);
            let loaded = handle::shared(model)?;
            let Some(found) = loaded.model.tokenizer()?.token_bytes(token) else {
                return Err(Error::usage("no such token").item("token").found(token).into());
            };
            bytes.put(found.as_ptr().cast());
            n_bytes.put(found.len());
            Ok(())
        })
    }
}

/// The number of the token that is written so, control tokens too; `*token` is -1 where there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_token_find(
    model: *const graft_model,
    text: *const c_char,
    text_len: usize,
    token: *mut i64,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let token = out(token, "token")?;
            let text = input::text(text, text_len, "text")?;
            let loaded = handle::shared(model)?;
            token.put(loaded.model.tokenizer()?.id_of(text).map_or(-1, i64::from));
            Ok(())
        })
    }
}

/// Whether the model says by this token that it is done: `*ends` is 1 or 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_token_ends(
    model: *const graft_model,
    token: u32,
    ends: *mut i32,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let ends = out(ends, "ends")?;
            let loaded = handle::shared(model)?;
            ends.put(loaded.model.tokenizer()?.is_end_of_generation(token).into());
            Ok(())
        })
    }
}

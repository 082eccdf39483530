//! What a session knows, saved and restored; a text as a vector.

use std::ffi::c_char;

use super::call;
use super::error::graft_error;
use super::handle;
use super::input::{self, out};
use super::memory::give_all;
use super::session::graft_session;
use super::status::graft_status;
use crate::error::Error;
use crate::runtime::Pooling;

/// Writes what the session holds (tokens, cache and the last logits, not adapters) to a file, whole or not at all, so that a conversation goes on
/// after the app was ended, in any process and on any model opened from the same file. On Unix a new file can be read by its owner alone; one that is
/// replaced hands on its permissions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_session_save(
    session: *mut graft_session,
    path: *const c_char,
    path_len: usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let path = input::path(path, path_len, "path")?;
            Ok(handle::exclusive(session)?.save_state_to(path)?)
        })
    }
}

/// Makes the session hold what `graft_session_save` wrote, from any session of the same model, of any size that has room for it.
/// `GRAFT_ERROR_MISMATCH` for a file of another model or precision, `GRAFT_ERROR_INVALID` for a broken one; the session is then as before.
/// Adapters are not switched: those that were on when the state was made should be on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_session_restore(
    session: *mut graft_session,
    path: *const c_char,
    path_len: usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let path = input::path(path, path_len, "path")?;
            Ok(handle::exclusive(session)?.restore_state_from(path)?)
        })
    }
}

/// As `graft_session_save`, to memory. `*bytes` is to be freed with `graft_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_session_save_memory(
    session: *mut graft_session,
    bytes: *mut *mut u8,
    n_bytes: *mut usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let (bytes, n_bytes) = (out(bytes, "bytes")?, out(n_bytes, "n_bytes")?);
            give_all(handle::exclusive(session)?.state_bytes()?, bytes, n_bytes);
            Ok(())
        })
    }
}

/// As `graft_session_restore`, from memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_session_restore_memory(
    session: *mut graft_session,
    bytes: *const u8,
    n_bytes: usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let bytes = input::slice(bytes, n_bytes, "bytes")?;
            Ok(handle::exclusive(session)?.restore_state(bytes)?)
        })
    }
}

/// Which hidden states make the vector of a text.
pub type graft_pooling = i32;
/// That of the last token.
pub const GRAFT_POOLING_LAST: graft_pooling = 0;
/// The mean of all.
pub const GRAFT_POOLING_MEAN: graft_pooling = 1;
/// That of the first token.
pub const GRAFT_POOLING_FIRST: graft_pooling = 2;

/// Evaluates tokens and writes their vector to `vector`: `n_vector` numbers, which must be the model's `hidden_size`. Hidden states are
/// those behind the last norm, with the active adapters; they are not scaled to length 1. The tokens are read after what the session holds
/// already, and added to it: reset it before, for a text of its own. There are no logits afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_session_embed(
    session: *mut graft_session,
    tokens: *const u32,
    n_tokens: usize,
    pooling: graft_pooling,
    vector: *mut f32,
    n_vector: usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let tokens = input::slice(tokens, n_tokens, "tokens")?;
            let vector = input::slice_mut(vector, n_vector, "vector")?;
            let kinds = [
                (GRAFT_POOLING_LAST, Pooling::Last),
                (GRAFT_POOLING_MEAN, Pooling::Mean),
                (GRAFT_POOLING_FIRST, Pooling::First),
            ];
            let pooling = input::one_of(pooling, "pooling", &kinds)?;
            let mut session = handle::exclusive(session)?;
            let hidden = session.model().spec().hidden_size;
            if vector.len() != hidden {
                let e = Error::usage("the vector has another size").item("n_vector");
                return Err(e.expected(hidden).found(n_vector).into());
            }
            vector.copy_from_slice(&session.embed(tokens, pooling)?);
            Ok(())
        })
    }
}

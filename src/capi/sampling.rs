//! Sampling: how the next token is chosen. One thread at a time may use a sampler.

use std::ptr::null;

use super::error::graft_error;
use super::handle::{self, Handle};
use super::input::{self, Extensible, out};
use super::session::graft_session;
use super::status::graft_status;
use super::{Outcome, call, quiet};
use crate::runtime::{Sampler, SamplerOptions};

/// Chooses tokens; has the random numbers.
pub struct graft_sampler {
    _opaque: (),
}

impl Handle for graft_sampler {
    type Shared = ();
    type Own = Sampler;
    const KIND: u8 = 7;
    const NAME: &'static str = "graft_sampler";
}

/// Is added to the logit of a token; `-INFINITY` bans it. This struct never changes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_logit_bias {
    /// The token.
    pub token: u32,
    /// What is added.
    pub bias: f32,
}

/// How to choose the next token. The default is greedy: always the most likely one.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_sampler_options {
    /// `sizeof(graft_sampler_options)`.
    pub struct_size: usize,
    /// 0 takes the most likely token; 1 is the model's own distribution; above 1 flattens it.
    pub temperature: f32,
    /// Keeps the most likely tokens whose mass reaches this; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this times as likely as the most likely one; 0 keeps all.
    pub min_p: f32,
    /// Keeps so many of the most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Divides positive and multiplies negative logits of tokens seen before; 1 is off.
    pub repeat_penalty: f32,
    /// How many of the last tokens count as seen; 64 by default, `UINT32_MAX` for all.
    pub repeat_last_n: u32,
    /// Subtracted from a seen token's logit once per occurrence.
    pub frequency_penalty: f32,
    /// Subtracted from a seen token's logit once.
    pub presence_penalty: f32,
    /// Starts the random numbers: the same seed, 0 by default, gives the same tokens.
    pub seed: u64,
    /// `n_logit_bias` of them, or NULL.
    pub logit_bias: *const graft_logit_bias,
    /// How many.
    pub n_logit_bias: usize,
}

// SAFETY: numbers and pointers; `struct_size` is first.
unsafe impl Extensible for graft_sampler_options {
    const NAME: &'static str = "graft_sampler_options";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        let d = SamplerOptions::default();
        graft_sampler_options {
            struct_size: size_of::<Self>(),
            temperature: d.temperature,
            top_p: d.top_p,
            min_p: d.min_p,
            top_k: 0,
            repeat_penalty: d.repeat_penalty,
            repeat_last_n: 64,
            frequency_penalty: d.frequency_penalty,
            presence_penalty: d.presence_penalty,
            seed: d.seed,
            logit_bias: null(),
            n_logit_bias: 0,
        }
    }
}

/// Sets the defaults; `struct_size` is `sizeof(graft_sampler_options)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_sampler_options_init(options: *mut graft_sampler_options, struct_size: usize) {
    // SAFETY: as the caller promises.
    unsafe { input::init(options, struct_size) };
}

pub(super) unsafe fn sampler_options(options: *const graft_sampler_options) -> Outcome<SamplerOptions> {
    // SAFETY: as the caller promises.
    let (o, bias) = unsafe {
        let o = input::options(options)?;
        (o, input::slice(o.logit_bias, o.n_logit_bias, "logit_bias")?)
    };
    Ok(SamplerOptions {
        temperature: o.temperature,
        top_k: o.top_k as usize,
        top_p: o.top_p,
        min_p: o.min_p,
        repeat_penalty: o.repeat_penalty,
        repeat_last_n: if o.repeat_last_n == u32::MAX {
            usize::MAX
        } else {
            o.repeat_last_n as usize
        },
        frequency_penalty: o.frequency_penalty,
        presence_penalty: o.presence_penalty,
        seed: o.seed,
        logit_bias: bias.iter().map(|b| (b.token, b.bias)).collect(),
    })
}

/// A sampler for the vocabulary that `session` has now. Sessions of the same vocabulary may use it too, one after the other.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_sampler_new(
    session: *mut graft_session,
    options: *const graft_sampler_options,
    sampler: *mut *mut graft_sampler,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let sampler = out(sampler, "sampler")?;
            let options = sampler_options(options)?;
            let vocab = handle::exclusive(session)?.vocab_size();
            sampler.put(handle::create((), Sampler::new(options, vocab)?));
            Ok(())
        })
    }
}

/// Starts the random numbers again from the seed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_sampler_reset(
    sampler: *mut graft_sampler,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            handle::exclusive(sampler)?.reset();
            Ok(())
        })
    }
}

/// Chooses the next token from the logits; the session is not changed: `graft_session_eval` appends it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_session_sample(
    session: *mut graft_session,
    sampler: *mut graft_sampler,
    token: *mut u32,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let token = out(token, "token")?;
            let (mut session, mut sampler) = (handle::exclusive(session)?, handle::exclusive(sampler)?);
            token.put(session.sample(&mut sampler)?);
            Ok(())
        })
    }
}

/// Frees a sampler. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_sampler_free(sampler: *mut graft_sampler) {
    // SAFETY: as the caller promises.
    quiet(|| unsafe { handle::free(sampler) });
}

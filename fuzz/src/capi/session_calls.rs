//! Calls on sessions, samplers and generations.

use std::ffi::{c_char, c_void};
use std::ptr::{null, null_mut};

use graft::capi::adapter::graft_adapter;
use graft::capi::generate::*;
use graft::capi::generation::*;
use graft::capi::model::graft_model;
use graft::capi::sampling::*;
use graft::capi::session::*;
use graft::capi::state::*;

use super::calls::{Conversation, call, made, plain_call, zeroed};
use super::data::TEXTS;
use super::pool::{Kind, SCRATCH};
use super::world::{Out, Sized, Text, World, read_text};

/// How to make a session.
pub fn session_options(w: &World) -> Sized<graft_session_options> {
    w.options(graft_session_options {
        struct_size: 0,
        context: w.number(32),
        chunk: if w.rarely() {
            w.one(&[0, 4096, 512])
        } else {
            u32::from(w.byte() % 16) + 1
        },
        precision: if w.rarely() {
            w.one(&[-1, 2, i32::MAX])
        } else {
            i32::from(w.byte() % 2)
        },
    })
}

pub fn new(w: &World) {
    let model = w.handle::<graft_model>(Kind::Model);
    let mut options = session_options(w);
    let mut session = Out::new(null_mut());
    let options = options.options_at(w);
    let ok = call!(w, graft_session_new(model, options, session.at(w)));
    made(w, Kind::Session, session.get(ok), Vec::new());
}

/// Some adapters and their weights.
pub fn adapters(w: &World) -> (Vec<*const graft_adapter>, Vec<f32>) {
    let n = w.one(&[1, 0, 2, 3]);
    (0..n)
        .map(|_| (w.handle::<graft_adapter>(Kind::Adapter).cast_const(), w.float()))
        .unzip()
}

/// Where weights are: NULL for 1 each.
pub fn weights(w: &World, weights: &[f32]) -> *const f32 {
    let at = weights.as_ptr();
    match w.byte() {
        0..128 => null(),
        255 if !weights.is_empty() => {
            w.must_fail();
            at.wrapping_byte_add(1)
        }
        _ => at,
    }
}

pub fn set_adapters(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    let (list, values) = adapters(w);
    let at = w.start(list.as_ptr(), list.len());
    call!(
        w,
        graft_session_set_adapters(session, at, weights(w, &values), list.len())
    );
}

/// The tokens that a session holds, where that can be asked.
fn held(w: &World, session: *mut graft_session) -> Option<Vec<u32>> {
    let (mut tokens, mut n) = (null(), 0);
    // SAFETY: room for both; what they say is true until the next call.
    unsafe {
        let status = graft_session_tokens(session, &raw mut tokens, &raw mut n, null_mut());
        (status == 0 && w.alone).then(|| std::slice::from_raw_parts(tokens, n).to_vec())
    }
}

pub fn eval(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    let tokens = w.tokens();
    let before = held(w, session);
    let at = w.start(tokens.as_ptr(), tokens.len());
    let ok = call!(w, graft_session_eval(session, at, tokens.len()));
    if let (Some(mut expected), Some(now)) = (before, held(w, session)) {
        expected.extend(tokens.iter().filter(|_| ok));
        assert!(now == expected, "{now:?} instead of {expected:?}");
    }
}

unsafe extern "C" fn each(_: usize, logits: *const f32, n: usize, world: *mut c_void) -> i32 {
    // SAFETY: so many numbers, and a world that was given as `user_data`.
    unsafe {
        std::hint::black_box(std::slice::from_raw_parts(logits, n).iter().sum::<f32>());
        World::called_back(world)
    }
}

pub fn eval_each(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    let tokens = w.tokens();
    let at = w.start(tokens.as_ptr(), tokens.len());
    let callback: graft_logits_callback = if w.rarely() { None } else { Some(each) };
    if callback.is_none() {
        w.must_fail();
    }
    call!(
        w,
        graft_session_eval_each(session, at, tokens.len(), callback, w.user_data())
    );
}

pub fn logits(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    let (mut logits, mut n) = (Out::new(null()), Out::new(usize::MAX));
    let ok = call!(w, graft_session_logits(session, logits.at(w), n.at(w)));
    if let (Some(logits), Some(n), true) = (logits.get(ok), n.get(ok), w.alone) {
        // SAFETY: so many numbers, until the next call.
        std::hint::black_box(unsafe { std::slice::from_raw_parts(logits, n) }.iter().sum::<f32>());
    }
}

pub fn tokens(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    let (mut tokens, mut n) = (Out::new(null()), Out::new(usize::MAX));
    let ok = call!(w, graft_session_tokens(session, tokens.at(w), n.at(w)));
    (tokens.get(ok), n.get(ok));
}

pub fn info(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    let mut info = w.facts(zeroed::<graft_session_info>());
    let ok = call!(w, graft_session_get_info(session, info.at(w)));
    let info = info.value();
    assert!(info.position <= info.context && ok == (info.vocab_size > 0));
}

pub fn truncate(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    call!(w, graft_session_truncate(session, w.number(16)));
}

pub fn slide(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    let keep = w.number(8);
    if keep > 1 << 31 {
        w.must_fail(); // no context has room for so many
    }
    call!(w, graft_session_slide(session, keep));
}

pub fn reset(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    call!(w, graft_session_reset(session));
}

pub fn cancel(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    plain_call!(w, graft_session_cancel(session));
}

pub fn save_memory(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    let (mut bytes, mut n) = (Out::new(null_mut()), Out::new(usize::MAX));
    let ok = call!(w, graft_session_save_memory(session, bytes.at(w), n.at(w)));
    if let (Some(bytes), Some(n)) = (bytes.get(ok), n.get(ok)) {
        if w.alone {
            // SAFETY: so many bytes.
            w.pool.keep(unsafe { std::slice::from_raw_parts(bytes, n) }.to_vec());
        }
        w.pool.give(bytes.cast());
    }
}

/// Changes bytes, mostly few.
pub fn mutate(w: &World, bytes: &mut Vec<u8>) {
    let kind = w.byte();
    if kind < 96 || bytes.is_empty() {
        return;
    }
    let at = |n: usize| {
        let place = usize::from(u16::from_le_bytes([w.byte(), w.byte()]));
        // Mostly where the head is.
        if w.byte() < 192 {
            place % n.min(256)
        } else {
            place * (n / 65536 + 1) % n
        }
    };
    match kind {
        96..200 => (0..=w.below(3)).for_each(|_| {
            let n = bytes.len();
            bytes[at(n)] = w.byte();
        }),
        200..230 => bytes.truncate(at(bytes.len())),
        _ => bytes.extend([0; 7]),
    }
}

pub fn restore_memory(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    let mut state = w.pool.state(|n| w.below(n));
    mutate(w, &mut state);
    let before = held(w, session);
    let at = w.start(state.as_ptr(), state.len());
    let ok = call!(w, graft_session_restore_memory(session, at, state.len()));
    assert!(
        ok || before == held(w, session),
        "a state that was refused changed the session"
    );
}

/// A path to write to, perhaps.
pub fn scratch(w: &World, name: &str) -> Vec<u8> {
    let path = match w.byte() {
        0..224 => SCRATCH.join(name),
        224..240 => SCRATCH.join("no folder").join(name),
        _ => SCRATCH.clone(),
    };
    path.into_os_string().into_encoded_bytes()
}

pub fn save(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    let path = scratch(w, "state");
    call!(w, graft_session_save(session, path.as_ptr().cast(), path.len()));
}

pub fn restore(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    let path = scratch(w, "state");
    call!(w, graft_session_restore(session, path.as_ptr().cast(), path.len()));
}

pub fn embed(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    let tokens = w.tokens();
    let size = if w.rarely() { w.one(&[0, 1, 63, 65, 128]) } else { 64 };
    let pooling = if w.rarely() {
        w.one(&[-1, 3])
    } else {
        i32::from(w.byte() % 3)
    };
    let mut vector = vec![7.25; size];
    let at = w.start(tokens.as_ptr(), tokens.len());
    let to = w.start(vector.as_mut_ptr(), size).cast_mut();
    let ok = call!(w, graft_session_embed(session, at, tokens.len(), pooling, to, size));
    assert!(
        ok || vector.iter().all(|v| *v == 7.25),
        "a vector was written by a call that failed"
    );
}

/// What is added to logits.
pub struct Bias(Vec<graft_logit_bias>);

impl Bias {
    pub fn new(w: &World) -> Self {
        let one = |_| graft_logit_bias {
            token: w.byte().into(),
            bias: w.float(),
        };
        Bias((0..w.below(3)).map(one).collect())
    }

    /// How to choose tokens, with it.
    pub fn options(&self, w: &World) -> Sized<graft_sampler_options> {
        w.options(graft_sampler_options {
            struct_size: 0,
            temperature: w.float(),
            top_p: w.float(),
            min_p: if w.below(2) == 0 { 0.0 } else { w.float() },
            top_k: if w.rarely() { u32::MAX } else { w.below(8) as u32 },
            repeat_penalty: w.float(),
            repeat_last_n: w.one(&[64, 0, 1, u32::MAX]),
            frequency_penalty: w.float(),
            presence_penalty: w.float(),
            seed: w.number(256),
            logit_bias: w.start(self.0.as_ptr(), self.0.len()),
            n_logit_bias: self.0.len(),
        })
    }
}

pub fn sampler(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    let bias = Bias::new(w);
    let mut options = bias.options(w);
    let mut sampler = Out::new(null_mut());
    let options = options.options_at(w);
    let ok = call!(w, graft_sampler_new(session, options, sampler.at(w)));
    made(w, Kind::Sampler, sampler.get(ok), Vec::new());
}

pub fn sampler_reset(w: &World) {
    let sampler = w.handle::<graft_sampler>(Kind::Sampler);
    call!(w, graft_sampler_reset(sampler));
}

pub fn sample(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    let sampler = w.handle::<graft_sampler>(Kind::Sampler);
    let mut token = Out::new(u32::MAX);
    let ok = call!(w, graft_session_sample(session, sampler, token.at(w)));
    let token = token.get(ok);
    assert!(token.is_none_or(|t| t < 1 << 20), "{token:?}");
}

/// How to generate: what the options point to, and them.
pub struct Generate {
    texts: Vec<Text>,
    stop: Vec<graft_text>,
    pub sampler: *mut graft_sampler,
}

impl Generate {
    pub fn new(w: &World) -> Self {
        let texts: Vec<_> = (0..w.below(3)).map(|_| w.text(TEXTS)).collect();
        let stop = texts
            .iter()
            .map(|text| graft_text {
                data: text.at(),
                len: text.len,
            })
            .collect();
        Generate {
            stop,
            sampler: w.maybe(Kind::Sampler),
            texts,
        }
    }

    /// `endless` where something else ends it.
    pub fn options(&self, w: &World, endless: bool) -> Sized<graft_generate_options> {
        w.options(graft_generate_options {
            struct_size: 0,
            max_tokens: if endless { w.number(6) } else { w.below(6) as u64 + 1 },
            stop: w.start(self.stop.as_ptr(), self.stop.len()),
            n_stop: self.texts.len(),
            sampler: self.sampler,
            cancel: w.maybe(Kind::Cancel),
            keep: w.one(&[-1, 0, 1, 3, 8, -2, i64::MAX, i64::MIN]),
            ignore_eos: i32::from(w.byte() % 2),
            show_special: i32::from(w.byte() % 2),
        })
    }
}

unsafe extern "C" fn piece(text: *const c_char, len: usize, _: u32, world: *mut c_void) -> i32 {
    // SAFETY: so many bytes, and a world that was given as `user_data`.
    unsafe {
        assert!(std::str::from_utf8(std::slice::from_raw_parts(text.cast(), len)).is_ok());
        World::called_back(world)
    }
}

fn callback(w: &World) -> graft_text_callback {
    if w.byte() < 64 { None } else { Some(piece) }
}

fn check_report(report: &Sized<graft_report>, ok: bool) {
    let report = report.value();
    let known = (GRAFT_FINISH_NONE..=GRAFT_FINISH_CONTEXT).contains(&report.finish);
    assert!(
        known && (ok || report.tokens == 0),
        "a report of {} tokens",
        report.tokens
    );
}

pub fn generate_text(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    let (text, callback, how) = (w.text(TEXTS), callback(w), Generate::new(w));
    let mut options = how.options(w, callback.is_some());
    let options = options.options_at(w);
    let mut report = w.facts(zeroed::<graft_report>());
    let to = report.options_at(w);
    let user = w.user_data();
    let ok = call!(
        w,
        graft_generate_text(session, text.at(), text.len, options, callback, user, to)
    );
    check_report(&report, ok);
}

pub fn generate_tokens(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    let (tokens, callback, how) = (w.tokens(), callback(w), Generate::new(w));
    let mut options = how.options(w, callback.is_some());
    let options = options.options_at(w);
    let mut report = w.facts(zeroed::<graft_report>());
    let to = report.options_at(w);
    let (at, user) = (w.start(tokens.as_ptr(), tokens.len()), w.user_data());
    let ok = call!(
        w,
        graft_generate_tokens(session, at, tokens.len(), options, callback, user, to)
    );
    check_report(&report, ok);
}

pub fn generate_messages(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    let (chat, callback, how) = (Conversation::new(w), callback(w), Generate::new(w));
    let mut chat_options = w.options(chat.options(w));
    let mut options = how.options(w, callback.is_some());
    let (chat_options, options) = (chat_options.options_at(w), options.options_at(w));
    let mut report = w.facts(zeroed::<graft_report>());
    let to = report.options_at(w);
    let (at, n, user) = (w.start(chat.messages.as_ptr(), chat.len()), chat.len(), w.user_data());
    let ok = call!(
        w,
        graft_generate_messages(session, at, n, chat_options, options, callback, user, to)
    );
    check_report(&report, ok);
}

/// Keeps a generation, which cannot go on without its session and sampler.
fn made_generation(
    w: &World,
    generation: Option<*mut graft_generation>,
    session: *mut graft_session,
    sampler: Option<*mut graft_sampler>,
) {
    let mut needs = vec![session.cast()];
    needs.extend(sampler.filter(|s| !s.is_null()).map(<*mut graft_sampler>::cast));
    made(w, Kind::Generation, generation, needs);
}

pub fn generation_of_text(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    let (text, how) = (w.text(TEXTS), Generate::new(w));
    let mut options = how.options(w, true);
    let options = options.options_at(w);
    let mut made = Out::new(null_mut());
    let ok = call!(
        w,
        graft_generation_of_text(session, text.at(), text.len, options, made.at(w))
    );
    made_generation(w, made.get(ok), session, (!options.is_null()).then_some(how.sampler));
}

pub fn generation_of_tokens(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    let (tokens, how) = (w.tokens(), Generate::new(w));
    let mut options = how.options(w, true);
    let options = options.options_at(w);
    let mut made = Out::new(null_mut());
    let at = w.start(tokens.as_ptr(), tokens.len());
    let ok = call!(
        w,
        graft_generation_of_tokens(session, at, tokens.len(), options, made.at(w))
    );
    made_generation(w, made.get(ok), session, (!options.is_null()).then_some(how.sampler));
}

pub fn generation_of_messages(w: &World) {
    let session = w.handle::<graft_session>(Kind::Session);
    let (chat, how) = (Conversation::new(w), Generate::new(w));
    let mut chat_options = w.options(chat.options(w));
    let mut options = how.options(w, true);
    let (chat_options, options) = (chat_options.options_at(w), options.options_at(w));
    let mut made = Out::new(null_mut());
    let (at, n) = (w.start(chat.messages.as_ptr(), chat.len()), chat.len());
    let ok = call!(
        w,
        graft_generation_of_messages(session, at, n, chat_options, options, made.at(w))
    );
    made_generation(w, made.get(ok), session, (!options.is_null()).then_some(how.sampler));
}

pub fn generation_next(w: &World) {
    // Else there is seldom one.
    if w.below(2) == 0 {
        generation_of_tokens(w);
    }
    for _ in 0..=w.below(4) {
        let generation = w.handle_that::<graft_generation>(Kind::Generation, true);
        let (mut text, mut len) = (Out::new(null()), Out::new(usize::MAX));
        let (mut token, mut more) = (Out::new(u32::MAX), Out::new(i32::MIN));
        let (text_at, len_at, token_at) = (text.at(w), len.maybe_at(w), token.maybe_at(w));
        let ok = call!(
            w,
            graft_generation_next(generation, text_at, len_at, token_at, more.at(w))
        );
        if let (Some(text), true) = (text.get(ok), w.alone) {
            // SAFETY: a text, until the next call.
            unsafe { read_text(text) };
        }
        let (_, _, more) = (len.get(ok), token.get(ok), more.get(ok));
        assert!(more.is_none_or(|m| m == 0 || m == 1));
    }
}

pub fn generation_cancel(w: &World) {
    let generation = w.handle::<graft_generation>(Kind::Generation);
    call!(w, graft_generation_cancel(generation));
}

pub fn generation_report(w: &World) {
    let generation = w.handle::<graft_generation>(Kind::Generation);
    let mut report = w.facts(zeroed::<graft_report>());
    let ok = call!(w, graft_generation_report(generation, report.at(w)));
    check_report(&report, ok);
}

//! Calls on models, adapters and what stands beside them.

use std::ffi::{c_char, c_void};
use std::ptr::{null, null_mut};

use graft::capi::adapter::*;
use graft::capi::batch::{graft_batch_options, graft_batch_options_init};
use graft::capi::cancel::*;
use graft::capi::chat::*;
use graft::capi::error::*;
use graft::capi::facts::*;
use graft::capi::generate::*;
use graft::capi::library::*;
use graft::capi::log::*;
use graft::capi::memory::*;
use graft::capi::mix::*;
use graft::capi::model::*;
use graft::capi::sampling::graft_sampler_options_init;
use graft::capi::session::graft_session_options_init;
use graft::capi::status::*;
use graft::capi::team::*;
use graft::capi::tokens::*;
use graft::capi::train_options::{graft_train_options, graft_train_options_init};

use super::batch_calls as b;
use super::data::{JSON, NAMES, ROLES, TEMPLATES, TEXTS};
use super::pool::Kind;
use super::session_calls as s;
use super::slow_calls as slow;
use super::tally::count;
use super::train_calls as t;
use super::world::{Out, Text, World, read_text};

/// A call with an error for its last argument, checked; whether it succeeded.
macro_rules! call {
    ($world:expr, $function:ident($($argument:expr),* $(,)?)) => {{
        let mut error = $crate::capi::world::ErrorOut::new();
        // SAFETY: arguments are wrong only in ways that the header says are found out.
        let status = unsafe { $function($($argument,)* error.at($world)) };
        error.judge($world, stringify!($function), status)
    }};
}
/// As `call!`, of a function that only returns a status; the arguments are names.
macro_rules! plain_call {
    ($world:expr, $function:ident($($argument:ident),*)) => {{
        let wrong = $world.take_wrong();
        // SAFETY: as in `call!`.
        let status = unsafe { $function($($argument),*) };
        $world.judge(stringify!($function), status, wrong)
    }};
}
pub(super) use {call, plain_call};

type Call = fn(&World);

/// What is quick.
pub const OFTEN: &[Call] = &[
    s::new,
    s::new,
    s::new,
    s::set_adapters,
    s::set_adapters,
    s::eval,
    s::eval,
    s::eval,
    s::eval_each,
    s::eval_each,
    s::logits,
    s::tokens,
    s::info,
    s::truncate,
    s::slide,
    s::reset,
    s::cancel,
    s::save_memory,
    s::restore_memory,
    s::restore_memory,
    s::embed,
    s::sampler,
    s::sampler,
    s::sampler_reset,
    s::sample,
    s::sample,
    s::generate_text,
    s::generate_text,
    s::generate_tokens,
    s::generate_messages,
    s::generation_of_text,
    s::generation_of_tokens,
    s::generation_of_messages,
    s::generation_next,
    s::generation_next,
    s::generation_next,
    s::generation_cancel,
    s::generation_report,
    b::new,
    b::adapter,
    b::line,
    b::line,
    b::run,
    names,
    error_texts,
    free_memory,
    free_handle,
    free_handle,
    free_handle,
    log,
    cancel_new,
    cancel_set,
    cancel_clear,
    team_of_callback,
    inits,
    model_info,
    metadata,
    tensors,
    tokenize,
    detokenize,
    token_facts,
    chat_render,
    adapter_info,
];

/// What opens, computes for long, or writes.
pub const SELDOM: &[Call] = &[
    team_new,
    slow::model_open,
    slow::plan_memory,
    slow::model_open_fd,
    slow::model_open_memory,
    slow::adapter_open,
    slow::adapter_open_memory,
    s::save,
    s::restore,
    slow::merge,
    slow::merge_to,
    slow::combine,
    slow::export_lora,
    slow::to_lora,
    t::plan,
    t::new,
    t::open,
    t::resume,
    t::add,
    t::pull,
    t::clear,
    t::step,
    t::run,
    t::run,
    t::evaluate,
    t::adapter,
    t::save,
    t::checkpoint,
    t::info,
];

fn names(w: &World) {
    // SAFETY: texts that are always there.
    unsafe {
        read_text(graft_status_name(i32::from(w.byte()) - 3));
        read_text(graft_version());
    }
    assert_eq!(graft_abi_version(), GRAFT_ABI_VERSION);
    for name in ["graft_status_name", "graft_version", "graft_abi_version"] {
        count(name, GRAFT_OK);
    }
}

fn error_texts(w: &World) {
    let error = w.handle::<graft_error>(Kind::Error);
    w.take_wrong();
    let good = w.pool.usable(error.cast(), Kind::Error, false);
    // SAFETY: any handle is allowed.
    let (status, message) = unsafe { (graft_error_status(error), graft_error_message(error)) };
    assert_ne!(status, GRAFT_OK);
    assert!(!w.alone || good == !message.is_null());
    // SAFETY: as above.
    let others = unsafe {
        [
            graft_error_file(error),
            graft_error_item(error),
            graft_error_expected(error),
            graft_error_found(error),
        ]
    };
    assert!(!w.alone || good || others.iter().all(|text| text.is_null()));
    let all = [
        "graft_error_status",
        "graft_error_message",
        "graft_error_file",
        "graft_error_item",
        "graft_error_expected",
        "graft_error_found",
    ];
    all.into_iter().for_each(|name| count(name, GRAFT_OK));
}

fn free_memory(w: &World) {
    let memory = match w.below(4) {
        0 => w.user_data(),
        1 => null_mut(),
        _ => w.pool.given(|n| w.below(n)),
    };
    graft_free(memory);
    count("graft_free", GRAFT_OK);
}

fn free_handle(w: &World) {
    let kinds = [
        Kind::Session,
        Kind::Generation,
        Kind::Sampler,
        Kind::Cancel,
        Kind::Error,
        Kind::Team,
        Kind::Session,
        Kind::Generation,
        Kind::Batch,
        Kind::Trainer,
    ];
    // What takes long to make again seldom.
    let kind = match w.byte() {
        0..250 => w.one(&kinds),
        250..254 => Kind::Adapter,
        _ => Kind::Model,
    };
    let at = w.handle::<c_void>(kind);
    w.take_wrong();
    w.pool.free(kind, at);
}

unsafe extern "C" fn line(level: graft_log_level, message: *const c_char, len: usize, _: *mut c_void) {
    assert!((GRAFT_LOG_ERROR..=GRAFT_LOG_INFO).contains(&level));
    // SAFETY: a line of this length.
    let message = unsafe { std::slice::from_raw_parts(message.cast::<u8>(), len) };
    assert!(level != GRAFT_LOG_ERROR, "{}", String::from_utf8_lossy(message));
    assert!(std::str::from_utf8(message).is_ok());
}

fn log(w: &World) {
    graft_log_set(
        (w.below(2) == 0).then_some(line as _),
        null_mut(),
        i32::from(w.byte() % 8) - 2,
    );
    count("graft_log_set", GRAFT_OK);
}

fn cancel_new(w: &World) {
    let mut cancel = Out::new(null_mut());
    let ok = call!(w, graft_cancel_new(cancel.at(w)));
    made(w, Kind::Cancel, cancel.get(ok), Vec::new());
}

fn cancel_set(w: &World) {
    // Else there is seldom one.
    if w.below(2) == 0 {
        cancel_new(w);
    }
    let cancel = w.handle::<graft_cancel>(Kind::Cancel);
    plain_call!(w, graft_cancel_set(cancel));
}

fn cancel_clear(w: &World) {
    let cancel = w.handle::<graft_cancel>(Kind::Cancel);
    plain_call!(w, graft_cancel_clear(cancel));
}

fn team_new(w: &World) {
    let mut team = Out::new(null_mut());
    let threads = w.one(&[1, 2, 3, 0, 1025, u32::MAX]);
    let ok = call!(w, graft_team_new(threads, team.at(w)));
    made(w, Kind::Team, team.get(ok), Vec::new());
}

/// All of it in this thread, from behind.
unsafe extern "C" fn run(n: usize, work: graft_work, data: *mut c_void, _: *mut c_void) {
    // SAFETY: each number once.
    (0..n).rev().for_each(|number| unsafe { work(data, number) });
}

fn team_of_callback(w: &World) {
    let mut team = Out::new(null_mut());
    let threads = w.one(&[1, 2, 7, 0, 1024, 1025]);
    let callback: graft_run_callback = if w.rarely() { None } else { Some(run) };
    let ok = call!(
        w,
        graft_team_of_callback(threads, callback, null_mut(), None, team.at(w))
    );
    made(w, Kind::Team, team.get(ok), Vec::new());
}

/// Calls an `_init` with a size below, at or above its own.
macro_rules! init {
    ($world:expr, $function:ident, $options:ty) => {{
        let mut room = [0x55_u64; 600];
        let known = size_of::<$options>();
        let size = $world.one(&[known, 0, 1, 7, 8, known - 8, known + 16, 4096]);
        let at = $world.start(room.as_mut_ptr(), 1).cast_mut();
        $world.take_wrong();
        // SAFETY: as many bytes.
        unsafe { $function(at.cast::<$options>(), size) };
        assert!(room[512..] == [0x55; 88], "written behind the struct");
        let at = &raw const room;
        // SAFETY: bytes of an array.
        let behind = unsafe { std::slice::from_raw_parts(at.cast::<u8>().add(size), 8) };
        assert!(behind == [0x55, 0, 0, 0, 0, 0, 0, 0] || size % 8 != 0);
        count(stringify!($function), GRAFT_OK);
    }};
}

fn inits(w: &World) {
    match w.below(10) {
        0 => init!(w, graft_model_options_init, graft_model_options),
        1 => init!(w, graft_adapter_options_init, graft_adapter_options),
        2 => init!(w, graft_chat_options_init, graft_chat_options),
        3 => init!(
            w,
            graft_session_options_init,
            graft::capi::session::graft_session_options
        ),
        4 => init!(
            w,
            graft_sampler_options_init,
            graft::capi::sampling::graft_sampler_options
        ),
        5 => init!(w, graft_generate_options_init, graft_generate_options),
        6 => init!(w, graft_batch_options_init, graft_batch_options),
        7 => init!(w, graft_train_options_init, graft_train_options),
        8 => init!(w, graft_merge_options_init, graft_merge_options),
        _ => init!(w, graft_combine_options_init, graft_combine_options),
    }
}

/// Keeps a handle that a call gave.
pub fn made<H>(w: &World, kind: Kind, handle: Option<*mut H>, needs: Vec<*mut c_void>) {
    if let Some(handle) = handle {
        w.pool.add(kind, handle.cast(), needs);
    }
}

/// A struct of zeros.
pub fn zeroed<T: Copy>() -> T {
    // SAFETY: only used for structs of numbers and pointers, callbacks among them optional.
    unsafe { std::mem::zeroed() }
}

fn model_info(w: &World) {
    let model = w.handle::<graft_model>(Kind::Model);
    let mut info = w.facts_since(
        zeroed::<graft_model_info>(),
        std::mem::offset_of!(graft_model_info, device),
    );
    let ok = call!(w, graft_model_get_info(model, info.at(w)));
    let info = info.value();
    assert!(ok == !info.architecture.is_null());
    if ok && w.alone {
        // SAFETY: texts of a model that is there.
        unsafe {
            [info.architecture, info.isa]
                .into_iter()
                .for_each(|text| read_text(text));
            if !info.device.is_null() {
                read_text(info.device);
            }
        };
    }
}

fn metadata(w: &World) {
    let model = w.handle::<graft_model>(Kind::Model);
    let mut n = Out::new(usize::MAX);
    let ok = call!(w, graft_model_metadata_count(model, n.at(w)));
    let n = n.get(ok).unwrap_or(3);
    let model = w.handle::<graft_model>(Kind::Model);
    let mut key = Out::new(null());
    let index = w.below(n.min(200) + 1);
    let ok = call!(w, graft_model_metadata_key(model, index, key.at(w)));
    if let (Some(key), true) = (key.get(ok), w.alone) {
        // SAFETY: a text of a model that is there.
        unsafe { read_text(key) };
        let (mut json, mut len) = (Out::new(null_mut()), Out::new(usize::MAX));
        let json_at = json.at(w);
        // The model may be another one than that of the key.
        let ok = call!(w, graft_model_metadata(model, key, GRAFT_NUL, json_at, len.maybe_at(w)));
        given_text(w, json.get(ok), len.get(ok));
    }
    let model = w.handle::<graft_model>(Kind::Model);
    let key = w.text(NAMES);
    let (mut json, mut len) = (Out::new(null_mut()), Out::new(usize::MAX));
    let ok = call!(
        w,
        graft_model_metadata(model, key.at(), key.len, json.at(w), len.maybe_at(w))
    );
    given_text(w, json.get(ok), len.get(ok));
}

/// A text that was given out.
pub fn given_text(w: &World, text: Option<*mut c_char>, len: Option<usize>) {
    let Some(text) = text else { return };
    if w.alone {
        // SAFETY: a text with a NUL behind it, of this length.
        unsafe {
            read_to_end(text, len);
        }
    }
    w.pool.give(text.cast());
}

unsafe fn read_to_end(text: *const c_char, len: Option<usize>) {
    // SAFETY: as the caller promises.
    unsafe {
        match len {
            Some(len) => {
                let bytes = std::slice::from_raw_parts(text.cast::<u8>(), len + 1);
                assert!(bytes[len] == 0 && std::str::from_utf8(&bytes[..len]).is_ok());
            }
            None => read_text(text),
        }
    }
}

fn tensors(w: &World) {
    let model = w.handle::<graft_model>(Kind::Model);
    let mut n = Out::new(usize::MAX);
    let ok = call!(w, graft_model_tensor_count(model, n.at(w)));
    let n = n.get(ok).unwrap_or(3);
    let model = w.handle::<graft_model>(Kind::Model);
    let mut info = w.facts(zeroed::<graft_tensor_info>());
    let index = if w.rarely() {
        usize::MAX
    } else {
        w.below(n.min(200) + 1)
    };
    let ok = call!(w, graft_model_tensor(model, index, info.at(w)));
    if ok && w.alone {
        // SAFETY: texts of a model that is there.
        unsafe {
            [info.value().name, info.value().format]
                .into_iter()
                .for_each(|text| read_text(text))
        };
    }
}

fn tokenize(w: &World) {
    let model = w.handle::<graft_model>(Kind::Model);
    let text = w.text(TEXTS);
    let flags = if w.rarely() { 4 } else { u32::from(w.byte() % 4) };
    let (mut tokens, mut n) = (Out::new(null_mut()), Out::new(usize::MAX));
    let ok = call!(
        w,
        graft_tokenize(model, text.at(), text.len, flags, tokens.at(w), n.at(w))
    );
    if let (Some(tokens), Some(n)) = (tokens.get(ok), n.get(ok)) {
        if w.alone {
            // SAFETY: so many tokens.
            assert!(
                unsafe { std::slice::from_raw_parts(tokens, n) }
                    .iter()
                    .all(|t| *t < 1 << 20)
            );
        }
        w.pool.give(tokens.cast());
    }
}

fn detokenize(w: &World) {
    let model = w.handle::<graft_model>(Kind::Model);
    let tokens = w.tokens();
    let (mut text, mut len) = (Out::new(null_mut()), Out::new(usize::MAX));
    let at = w.start(tokens.as_ptr(), tokens.len());
    let skip = i32::from(w.byte() % 2);
    let ok = call!(
        w,
        graft_detokenize(model, at, tokens.len(), skip, text.at(w), len.maybe_at(w))
    );
    given_text(w, text.get(ok), len.get(ok));
}

fn token_facts(w: &World) {
    let model = w.handle::<graft_model>(Kind::Model);
    let token = w.tokens().first().copied().unwrap_or(0);
    let (mut bytes, mut n) = (Out::new(null()), Out::new(usize::MAX));
    let ok = call!(w, graft_token_bytes(model, token, bytes.at(w), n.at(w)));
    if let (Some(bytes), Some(n), true) = (bytes.get(ok), n.get(ok), w.alone) {
        // SAFETY: so many bytes of a model that is there.
        std::hint::black_box(unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), n) }.to_vec());
    }
    let model = w.handle::<graft_model>(Kind::Model);
    let text = w.text(TEXTS);
    let mut found = Out::new(i64::MIN);
    let ok = call!(w, graft_token_find(model, text.at(), text.len, found.at(w)));
    assert!(found.get(ok).is_none_or(|t| t >= -1));
    let model = w.handle::<graft_model>(Kind::Model);
    let mut ends = Out::new(i32::MIN);
    let ok = call!(w, graft_token_ends(model, token, ends.at(w)));
    assert!(ends.get(ok).is_none_or(|e| e == 0 || e == 1));
}

/// A conversation and how to write it.
pub struct Conversation {
    texts: Vec<[Text; 3]>,
    pub messages: Vec<graft_message>,
    template: Text,
    tools: Text,
}

impl Conversation {
    pub fn new(w: &World) -> Self {
        let texts: Vec<_> = (0..w.below(4))
            .map(|_| [w.text(ROLES), w.text(TEXTS), w.text(JSON)])
            .collect();
        let messages = texts
            .iter()
            .map(|[role, content, extra]| {
                let with = w.byte() % 4 == 3;
                graft_message {
                    role: role.at(),
                    role_len: role.len,
                    content: content.at(),
                    content_len: content.len,
                    extra: if with { extra.at() } else { null() },
                    extra_len: extra.len,
                }
            })
            .collect();
        Conversation {
            messages,
            texts,
            template: w.text(TEMPLATES),
            tools: w.text(JSON),
        }
    }

    pub fn options(&self, w: &World) -> graft_chat_options {
        graft_chat_options {
            struct_size: 0,
            reserved: 0,
            template_source: if w.rarely() { null() } else { self.template.at() },
            template_source_len: self.template.len,
            tools: if w.below(4) < 3 { null() } else { self.tools.at() },
            tools_len: self.tools.len,
            add_generation_prompt: i32::from(w.byte() % 2),
        }
    }

    pub fn len(&self) -> usize {
        self.texts.len()
    }
}

fn chat_render(w: &World) {
    let model = w.handle::<graft_model>(Kind::Model);
    let chat = Conversation::new(w);
    let mut options = w.options(chat.options(w));
    let (mut text, mut len) = (Out::new(null_mut()), Out::new(usize::MAX));
    let messages = w.start(chat.messages.as_ptr(), chat.len());
    let text_at = text.at(w);
    let options = options.options_at(w);
    let ok = call!(
        w,
        graft_chat_render(model, messages, chat.len(), options, text_at, len.maybe_at(w))
    );
    given_text(w, text.get(ok), len.get(ok));
}

fn adapter_info(w: &World) {
    let adapter = w.handle::<graft_adapter>(Kind::Adapter);
    let mut info = w.facts(zeroed::<graft_adapter_info>());
    let ok = call!(w, graft_adapter_get_info(adapter, info.at(w)));
    if ok && w.alone {
        // SAFETY: a text of an adapter that is there.
        unsafe { read_text(info.value().method) };
    }
}

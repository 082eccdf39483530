//! Chat: messages to the text that the model was trained on. Any thread.

use std::ffi::c_char;
use std::ptr::null;

use serde_json::{Map, Value};

use super::error::graft_error;
use super::handle;
use super::input::{self, Extensible, maybe_out, out};
use super::memory::give_text;
use super::model::graft_model;
use super::status::graft_status;
use super::{Outcome, call};
use crate::Model;
use crate::error::Error;
use crate::tokenizer::{ChatTemplate, EncodeOptions, Message};

/// One message of a conversation. This struct never changes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_message {
    /// "system", "user", "assistant", "tool", ...
    pub role: *const c_char,
    /// Its length.
    pub role_len: usize,
    /// What it says.
    pub content: *const c_char,
    /// Its length.
    pub content_len: usize,
    /// What else the template is to see (`tool_calls`, `name`, ...): a JSON object, or NULL.
    pub extra: *const c_char,
    /// Its length.
    pub extra_len: usize,
}

/// How to write a conversation.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct graft_chat_options {
    /// `sizeof(graft_chat_options)`.
    pub struct_size: usize,
    /// A Jinja template to use instead of the model's, or NULL.
    pub template_source: *const c_char,
    /// Its length.
    pub template_source_len: usize,
    /// The tools that the model may call: a JSON list, or NULL.
    pub tools: *const c_char,
    /// Its length.
    pub tools_len: usize,
    /// Not 0: the text ends where the assistant's answer begins. 1 by default.
    pub add_generation_prompt: i32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: numbers and pointers; `struct_size` is first.
unsafe impl Extensible for graft_chat_options {
    const NAME: &'static str = "graft_chat_options";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        graft_chat_options {
            struct_size: size_of::<Self>(),
            template_source: null(),
            template_source_len: 0,
            tools: null(),
            tools_len: 0,
            add_generation_prompt: 1,
            reserved: 0,
        }
    }
}

/// Sets the defaults; `struct_size` is `sizeof(graft_chat_options)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_chat_options_init(options: *mut graft_chat_options, struct_size: usize) {
    // SAFETY: as the caller promises.
    unsafe { input::init(options, struct_size) };
}

pub(super) fn json<T: serde::de::DeserializeOwned>(text: &str, item: &str, expected: &str) -> Outcome<T> {
    serde_json::from_str(text).map_err(|e| {
        let fault = Error::usage("the JSON is wrong").item(item);
        fault.expected(expected).found(e).into()
    })
}

unsafe fn message(m: &graft_message) -> Outcome<Message> {
    // SAFETY: as the caller promises.
    let (role, content, extra) = unsafe {
        (
            input::text(m.role, m.role_len, "messages.role")?,
            input::text(m.content, m.content_len, "messages.content")?,
            input::maybe_text(m.extra, m.extra_len, "messages.extra")?,
        )
    };
    let mut message = Message::new(role, content);
    if let Some(extra) = extra {
        message.extra = json::<Map<String, Value>>(extra, "messages.extra", "an object")?;
    }
    Ok(message)
}

/// A conversation.
pub(super) unsafe fn messages(messages: *const graft_message, n_messages: usize) -> Outcome<Vec<Message>> {
    // SAFETY: as the caller promises.
    unsafe {
        let messages = input::slice(messages, n_messages, "messages")?;
        messages.iter().map(|m| message(m)).collect()
    }
}

/// The conversation as the model reads it.
pub(super) unsafe fn render(
    model: &Model,
    list: *const graft_message,
    n_messages: usize,
    options: *const graft_chat_options,
) -> Outcome<String> {
    // SAFETY: as the caller promises.
    let (options, messages, source, tools) = unsafe {
        let options = input::options(options)?;
        let messages = messages(list, n_messages)?;
        let source = input::maybe_text(options.template_source, options.template_source_len, "template_source")?;
        let tools = input::maybe_text(options.tools, options.tools_len, "tools")?;
        (options, messages, source, tools)
    };
    let tools = tools.map(|text| json::<Value>(text, "tools", "a list")).transpose()?;
    let own;
    let template = match source {
        Some(source) => {
            own = ChatTemplate::for_tokenizer(source, model.tokenizer()?)?;
            &own
        }
        None => model.need_chat_template()?,
    };
    Ok(template.render(&messages, options.add_generation_prompt != 0, tools.as_ref())?)
}

/// The tokens of the conversation.
pub(super) unsafe fn tokens(
    model: &Model,
    messages: *const graft_message,
    n_messages: usize,
    options: *const graft_chat_options,
) -> Outcome<Vec<u32>> {
    // SAFETY: as the caller promises.
    let text = unsafe { render(model, messages, n_messages, options) }?;
    // The template writes the begin token where the model wants one.
    let encode = EncodeOptions {
        add_bos_eos: false,
        parse_special: true,
    };
    Ok(model.tokenizer()?.encode(&text, encode)?)
}

/// A conversation as the model's chat template writes it. `*text` is NUL-terminated and to be freed with `graft_free`; `text_len` may be
/// NULL. `GRAFT_ERROR_UNSUPPORTED` where the model has no template, `GRAFT_ERROR_INVALID` for messages that it refuses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graft_chat_render(
    model: *const graft_model,
    messages: *const graft_message,
    n_messages: usize,
    options: *const graft_chat_options,
    text: *mut *mut c_char,
    text_len: *mut usize,
    error: *mut *mut graft_error,
) -> graft_status {
    // SAFETY: as the caller promises.
    unsafe {
        call(error, || {
            let (text, text_len) = (out(text, "text")?, maybe_out(text_len, "text_len")?);
            let loaded = handle::shared(model)?;
            give_text(render(&loaded.model, messages, n_messages, options)?, text, text_len)
        })
    }
}

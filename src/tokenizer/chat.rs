//! Chat templates: the Jinja dialect that transformers gives them, on minijinja.
//!
//! Beside standard Jinja that is: `trim_blocks` and `lstrip_blocks`, `{% break %}` and `{% continue %}`, the tag
//! `{% generation %}` (marks the assistant's text for training; here it changes nothing), `raise_exception`,
//! `strftime_now` (in UTC), `tojson` as `json.dumps` writes it, and Python's methods and way of printing.
//!
//! A template comes with the model file and is not trusted: steps, recursion and the memory that it may take are
//! limited. One thing minijinja does not charge for: it joins lists lazily, so a template that doubles a list by `x + x`
//! some forty times over has it walk for hours. Such a rendering is given up after [`PATIENCE`]; its thread is
//! left behind. A platform without threads (WASI) renders where it is called: there the limits on time and stack
//! are those of the WebAssembly runtime, which the embedder sets.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use minijinja::value::{Kwargs, Rest, Serde};
use minijinja::{AutoEscape, Environment, ErrorKind as JinjaKind, State, Value, context};
use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Tokenizer, clock, python};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Metadata;

/// The largest template: the longest in use have some 20 kB.
const MAX_SOURCE: usize = 1 << 17;
/// Units of work of one rendering: an instruction, or 64 bytes of text, each. A real template takes some hundred per message.
const FUEL: u64 = 1 << 20;
/// Words and signs between two brackets of a tag: the most in use are some hundred. `1+1+1+…` is a tree as deep as the chain is long; the engine
/// goes down it again for each link, and its own limit on nesting does not count it.
const MAX_TAG: usize = 4096;
/// Stack of the thread that compiles, or renders: a link of a chain takes some 400 bytes, and a list in a list in a list … is dropped
/// recursively, as deep as the fuel lets a template build it.
const STACK: usize = 128 << 20;
/// How long a rendering may take: a thousand times what the longest conversations need.
const PATIENCE: Duration = Duration::from_secs(5);
/// Depth of nested macros and loops.
const MAX_DEPTH: usize = 100;

const NAME: &str = "chat_template";
const KEY: &str = "tokenizer.chat_template";

/// One turn of a conversation, as a template sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, …
    pub role: String,
    /// The text. A missing or null content is read as the empty text.
    #[serde(default, deserialize_with = "text_or_null")]
    pub content: String,
    /// Everything else (`tool_calls`, `name`, …), handed to the template as it is.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

fn text_or_null<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(d)?.unwrap_or_default())
}

impl Message {
    /// A message of `role` that says `content`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message {
            role: role.into(),
            content: content.into(),
            extra: serde_json::Map::new(),
        }
    }
}

/// A compiled chat template.
pub struct ChatTemplate {
    env: Arc<Environment<'static>>,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// The template in `tokenizer.chat_template`; `None` where the file has none.
    pub fn from_gguf(meta: &Metadata, tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let Some(source) = meta.str(KEY)? else { return Ok(None) };
        let template = Self::for_tokenizer(source, tokenizer);
        template.map(Some).map_err(|e| meta.error(e, KEY))
    }

    /// Compiles `source` for the model that `tokenizer` belongs to.
    pub fn for_tokenizer(source: &str, tokenizer: &Tokenizer) -> Result<Self> {
        let text = |id: Option<u32>| {
            let bytes = id.and_then(|id| tokenizer.token_bytes(id)).unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        Self::new(source, &text(tokenizer.bos()), &text(tokenizer.eos()))
    }

    /// Compiles `source`; `bos` and `eos` are the texts of the model's `bos_token` and `eos_token` (empty where it has none).
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self> {
        if source.len() > MAX_SOURCE {
            let e = Error::limit("the chat template is too long").item(KEY);
            let found = format_args!("{} bytes", source.len());
            return Err(e.expected(format_args!("at most {MAX_SOURCE} bytes")).found(found));
        }
        let longest = longest_tag(source);
        if longest > MAX_TAG {
            let e = Error::limit("a tag of the chat template is too long").item(KEY);
            let found = format_args!("{longest}");
            return Err(e
                .expected(format_args!("at most {MAX_TAG} words and signs"))
                .found(found));
        }
        let source = without_generation_tags(source);
        let compile = move || {
            let mut env = environment()?;
            env.add_template_owned(NAME, source)
                .map_err(|e| jinja("the chat template does not compile", &e))?;
            Ok(env)
        };
        let in_thread = compile.clone();
        let env = match std::thread::Builder::new().stack_size(STACK).spawn(in_thread) {
            Ok(thread) => thread
                .join()
                .map_err(|panic| Error::panicked("the template engine panicked", &*panic).item(KEY))?,
            Err(e) if e.kind() == io::ErrorKind::Unsupported => compile(),
            Err(e) => return Err(no_thread(&e)),
        };
        Ok(ChatTemplate {
            env: Arc::new(env?),
            bos: bos.to_owned(),
            eos: eos.to_owned(),
        })
    }

    /// The prompt for `messages`. With `add_generation_prompt` it ends where the assistant's answer begins. `tools` is
    /// the list of tools that the model may call, as JSON. What the template itself rejects (`raise_exception`), and
    /// messages that it cannot handle, are errors.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        tools: Option<&serde_json::Value>,
    ) -> Result<String> {
        let context = context! {
            messages => Value::from(Serde(messages)),
            tools => tools.map(|t| Value::from(Serde(t))),
            documents => (),
            add_generation_prompt,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        };
        let env = self.env.clone();
        // The engine's error may hold the template's values: it ends in the thread, too.
        let render = move || {
            let template = env.get_template(NAME).map_err(|e| jinja("no chat template", &e))?;
            let rendered = template.render(context);
            rendered.map_err(|e| jinja("the chat template cannot render these messages", &e))
        };
        let (give, take) = mpsc::channel();
        let in_thread = render.clone();
        let thread = std::thread::Builder::new().stack_size(STACK);
        let thread = match thread.spawn(move || {
            let _ = give.send(in_thread());
        }) {
            Ok(thread) => thread,
            Err(e) if e.kind() == io::ErrorKind::Unsupported => return render(),
            Err(e) => return Err(no_thread(&e)),
        };
        let rendered = match take.recv_timeout(PATIENCE) {
            Ok(rendered) => rendered,
            Err(RecvTimeoutError::Timeout) => {
                return Err(Error::limit("the chat template does not end").item(KEY));
            }
            Err(RecvTimeoutError::Disconnected) => Err(Error::internal("the template engine panicked").item(KEY)),
        };
        // It has nothing left to do: no thread outlives a rendering that ended. A panic was reported above.
        let _ = thread.join();
        rendered
    }
}

/// The most words and signs in a tag.
fn longest_tag(source: &str) -> usize {
    let mut bytes = source.bytes().peekable();
    let (mut longest, mut count, mut braces) = (0, None::<usize>, 0usize);
    let mut in_word = false;
    while let Some(b) = bytes.next() {
        let Some(n) = &mut count else {
            // Outside: text, until a tag begins. A comment is not one.
            if b == b'{' && bytes.next_if(|b| matches!(b, b'{' | b'%')).is_some() {
                (count, braces, in_word) = (Some(0), 0, false);
            }
            continue;
        };
        let word = b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
        if b.is_ascii_whitespace() {
            in_word = false;
            continue;
        }
        *n += usize::from(!(word && in_word));
        in_word = word;
        longest = longest.max(*n);
        match b {
            b'\'' | b'"' => {
                while let Some(inner) = bytes.next() {
                    match inner {
                        b'\\' => drop(bytes.next()),
                        end if end == b => break,
                        _ => {}
                    }
                }
            }
            b'{' => braces += 1,
            b'}' if braces > 0 => braces -= 1,
            b'}' | b'%' if bytes.next_if_eq(&b'}').is_some() => count = None,
            _ => {}
        }
    }
    longest
}

fn no_thread(e: &io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot start a thread: {e}"))
}

/// A Jinja error with its cause, in one line.
fn jinja(what: &str, e: &minijinja::Error) -> Error {
    let mut message = format!("{what}: {e}");
    let mut source = std::error::Error::source(e);
    while let Some(cause) = source {
        message.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    match e.kind() {
        JinjaKind::OutOfFuel => Error::limit(message),
        _ => Error::invalid(message),
    }
    .item(KEY)
}

fn environment() -> Result<Environment<'static>> {
    let mut env = Environment::new();
    let syntax = minijinja::syntax::SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .map_err(|e| Error::internal(format!("the template syntax: {e}")))?;
    env.set_syntax(syntax);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(MAX_DEPTH);
    env.set_unknown_method_callback(|state, value, method, args| match (value.as_str(), method, args) {
        (Some(text), "title", []) => Ok(python::title(text).into()),
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    });
    env.set_formatter(|out, _state, value| {
        if let Some(text) = value.as_str() {
            out.write_str(text)?;
        } else if !value.is_undefined() {
            out.write_str(&python::display(value)?)?;
        }
        Ok(())
    });
    env.add_filter("string", |value: &Value| python::display(value));
    env.add_filter("tojson", to_json);
    env.add_function(
        "raise_exception",
        |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(JinjaKind::InvalidOperation, message))
        },
    );
    env.add_function("strftime_now", |format: String| clock::format(&format, clock::now()));
    Ok(env)
}

/// transformers' `tojson`: `json.dumps(x, ensure_ascii=False, indent=…)`, with nothing escaped for HTML.
fn to_json(_state: &mut State, value: &Value, args: Rest<Value>, kwargs: Kwargs) -> Result<String, minijinja::Error> {
    let mut style = python::JsonStyle::default();
    let named = |name: &str, position: usize| -> Result<Option<Value>, minijinja::Error> {
        let value: Option<Value> = kwargs.get(name)?;
        Ok(value.or_else(|| args.get(position).cloned()).filter(|v| !v.is_none()))
    };
    if let Some(v) = named("ensure_ascii", 0)? {
        style.ascii = v.is_true();
    }
    if let Some(v) = named("indent", 1)? {
        style.indent = v.as_usize().filter(|&n| n <= 64);
    }
    if let Some(v) = named("separators", 2)? {
        let mut parts = v.try_iter()?.map(|p| p.as_str().unwrap_or_default().to_owned());
        style.separators = parts.next().zip(parts.next());
    }
    if let Some(v) = named("sort_keys", 3)? {
        style.sort = v.is_true();
    }
    kwargs.assert_all_used()?;
    python::json(value, &style)
}

/// `{% generation %}` … `{% endgeneration %}` as a block that always runs, with the tags' white-space marks.
fn without_generation_tags(source: &str) -> String {
    static TAG: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").ok());
    let Some(tag) = &*TAG else { return source.to_owned() };
    tag.replace_all(source, |c: &regex::Captures<'_>| {
        let block = if c.get(2).is_some() { "endif" } else { "if true" };
        format!("{{%{} {block} {}%}}", &c[1], &c[3])
    })
    .into_owned()
}

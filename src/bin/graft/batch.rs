//! `graft batch`: a file of prompts, one JSON object a line, to a file of answers, one a line in the same order.
//!
//! The output file is the only state: a line is written whole and at once, so after a stop the complete lines in it say
//! where to go on.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::Path;

use graft::adapter::AdapterOptions;
use graft::runtime::{Finish, GenerateOptions, Sampler, SamplerOptions, generate};
use graft::tokenizer::{EncodeOptions, Message};
use graft::{Adapter, Error, Model, Result, Session};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::args::BatchArgs;
use crate::interrupt::Catch;
use crate::load::{self, AdapterSpec, Named};
use crate::output::{Done, Fail, json_line, say};
use crate::progress::Progress;

/// The longest line that is looked at.
const LONGEST_LINE: usize = 16 << 20;

/// A line of the input. Unknown fields are errors: a misspelt option that is silently ignored gives wrong answers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Task {
    #[serde(default)]
    #[allow(dead_code, reason = "read from the raw object, so that a bad line keeps its id")]
    id: Value,
    prompt: Option<String>,
    messages: Option<Vec<Message>>,
    tokens: Option<Vec<u32>>,
    #[serde(default, deserialize_with = "present")]
    adapter: Option<Choice>,
    #[serde(alias = "n")]
    max_tokens: Option<usize>,
    #[serde(alias = "temp")]
    temperature: Option<f32>,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repeat_penalty: Option<f32>,
    repeat_last_n: Option<usize>,
    frequency_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    seed: Option<u64>,
    stop: Option<OneOrMore>,
    logit_bias: Option<HashMap<u32, f32>>,
    ignore_eos: Option<bool>,
}

/// `"adapter": null` says "none"; leaving it out says "as on the command line".
fn present<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Choice>, D::Error> {
    let choice = Option::<OneOrMore>::deserialize(d)?;
    Ok(Some(Choice(choice.map_or_else(Vec::new, OneOrMore::all))))
}

struct Choice(Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn all(self) -> Vec<String> {
        match self {
            OneOrMore::One(text) => vec![text],
            OneOrMore::More(texts) => texts,
        }
    }
}

#[derive(Serialize)]
struct Answer {
    id: Value,
    text: String,
    tokens: Vec<u32>,
    finish_reason: &'static str,
    prompt_tokens: usize,
}

#[derive(Serialize)]
struct Failure<'a> {
    id: &'a Value,
    error: String,
}

pub fn run(args: &BatchArgs) -> Done {
    load::max_tokens(args.n)?;
    args.sampling.options(0.0, || 0)?;
    let mut input = Input::open(&args.input)?;
    if same_file(&args.input, &args.output) {
        Err(Error::usage("input and output are the same file").file(&args.output))?;
    }
    let mut output = Output::open(&args.output)?;
    let done = output.resume(&mut input)?;
    if done > 0 {
        say(&format!(
            "{}: {done} lines are there already; going on after them",
            args.output.display()
        ));
    }
    let (model, named) = load::model_and_adapters(&args.model)?;
    let mut worker = Worker {
        args,
        model,
        named,
        loaded: HashMap::new(),
        session: None,
    };

    let catch = Catch::begin();
    let progress = Progress::new("batch");
    let (mut answered, mut failed) = (0u64, 0u64);
    while let Some(line) = input.next()? {
        let id = line.id();
        let record = match worker.answer(&line, id.clone(), &catch) {
            Ok(answer) => json_line(&answer)?,
            Err(Fail::Error(e)) => {
                failed += 1;
                json_line(&Failure {
                    id: &id,
                    error: e.to_string(),
                })?
            }
            Err(Fail::Interrupted) => {
                progress.finish();
                say(&format!(
                    "stopped; the same command goes on after line {}",
                    line.number - 1
                ));
                return Err(Fail::Interrupted);
            }
            Err(closed) => return Err(closed),
        };
        output.write(&record)?;
        answered += 1;
        progress.set(input.share());
    }
    progress.finish();
    if failed > 0 {
        say(&format!("{failed} of {answered} lines have an error record"));
    }
    Ok(())
}

/// The input, line by line.
struct Input {
    path: std::path::PathBuf,
    reader: Box<dyn BufRead>,
    number: u64,
    /// For the progress bar: bytes of the file and bytes read.
    size: u64,
    read: u64,
}

/// One line, or what is wrong with it.
struct Line {
    /// From 1.
    number: u64,
    object: Result<Map<String, Value>>,
}

impl Line {
    /// What the output is recognised by: the line's id, or its number.
    fn id(&self) -> Value {
        let given = self
            .object
            .as_ref()
            .ok()
            .and_then(|o| o.get("id"))
            .filter(|id| !id.is_null());
        given.cloned().unwrap_or_else(|| self.number.into())
    }
}

impl Input {
    fn open(path: &Path) -> Result<Self> {
        let (reader, size): (Box<dyn BufRead>, _) = if path == Path::new("-") {
            (Box::new(BufReader::new(io::stdin())), 0)
        } else {
            let io = |e| Error::io(path, "cannot read", &e);
            let file = File::open(path).map_err(io)?;
            let meta = file.metadata().map_err(io)?;
            if meta.is_dir() {
                return Err(Error::invalid("is a folder")
                    .file(path)
                    .expected("a file with a JSON object on each line"));
            }
            (Box::new(BufReader::new(file)), meta.len())
        };
        Ok(Input {
            path: path.into(),
            reader,
            number: 0,
            size,
            read: 0,
        })
    }

    /// The next line that is not blank.
    fn next(&mut self) -> Result<Option<Line>> {
        loop {
            let mut bytes = Vec::new();
            let io = |e| Error::io(&self.path, "cannot read", &e);
            let n = (&mut self.reader)
                .take(LONGEST_LINE as u64 + 1)
                .read_until(b'\n', &mut bytes)
                .map_err(io)?;
            if n == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.read += n as u64;
            let too_long = n > LONGEST_LINE && bytes.last() != Some(&b'\n');
            if too_long {
                self.read += skip_line(&mut self.reader).map_err(io)?;
            } else if bytes.trim_ascii().is_empty() {
                continue;
            }
            let object = match too_long {
                true => Err(Error::limit("the line is too long").expected(format!("at most {LONGEST_LINE} bytes"))),
                false => serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("not a JSON object: {e}"))),
            };
            return Ok(Some(Line {
                number: self.number,
                object,
            }));
        }
    }

    fn share(&self) -> f32 {
        if self.size == 0 {
            0.0
        } else {
            (self.read as f64 / self.size as f64) as f32
        }
    }
}

/// Reads to the end of the line without keeping it; returns how much that was.
fn skip_line(reader: &mut dyn BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(skipped);
        }
        let end = buffer.iter().position(|b| *b == b'\n');
        let n = end.map_or(buffer.len(), |at| at + 1);
        skipped += n as u64;
        reader.consume(n);
        if end.is_some() {
            return Ok(skipped);
        }
    }
}

/// The output: a file that can be gone on with, or a stream.
struct Output<'a> {
    path: &'a Path,
    file: Option<File>,
}

impl<'a> Output<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let file = match path == Path::new("-") {
            true => None,
            false => {
                let mut options = OpenOptions::new();
                let file = options.read(true).write(true).create(true).truncate(false).open(path);
                Some(file.map_err(|e| Error::io(path, "cannot open for writing", &e))?)
            }
        };
        Ok(Output { path, file })
    }

    /// Skips the input lines that are answered already, cuts off a half-written line, returns how many were skipped.
    fn resume(&mut self, input: &mut Input) -> Result<u64> {
        let path = self.path;
        let io = |e| Error::io(path, "cannot read", &e);
        let Some(file) = &mut self.file else { return Ok(0) };
        // A pipe or a device has no past.
        if !file.metadata().map_err(io)?.is_file() {
            return Ok(0);
        }
        let (mut done, mut end, mut line) = (0, 0, Vec::new());
        let mut reader = BufReader::new(&mut *file);
        loop {
            line.clear();
            let n = reader.read_until(b'\n', &mut line).map_err(io)?;
            if line.last() != Some(&b'\n') {
                break;
            }
            done += 1;
            let wrong = |what: &str| Error::mismatch(what).file(path).item(format!("line {done}"));
            let record: Map<String, Value> = serde_json::from_slice(&line)
                .map_err(|_| wrong("this is no output of graft batch; choose another file or remove it"))?;
            let Some(task) = input.next()? else {
                return Err(wrong(
                    "the output has more lines than the input; choose another file or remove it",
                ));
            };
            if record.get("id") != Some(&task.id()) {
                let e =
                    wrong("the output belongs to another input; choose another file or remove it").expected(task.id());
                return Err(e.found(record.get("id").unwrap_or(&Value::Null)));
            }
            end += n as u64;
        }
        file.set_len(end)
            .and_then(|()| file.seek(SeekFrom::Start(end)))
            .map_err(io)?;
        Ok(done)
    }

    /// Writes a line, whole and at once.
    fn write(&mut self, line: &str) -> Done {
        match &mut self.file {
            None => crate::output::print(line),
            Some(file) => file.write_all(line.as_bytes()).map_err(|e| Fail::write(self.path, &e)),
        }
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    // The first also where the system has no canonical names (WASI).
    a == b && a.exists() || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The model at work.
struct Worker<'a> {
    args: &'a BatchArgs,
    model: Model,
    /// From the command line.
    named: Vec<Named>,
    /// Loaded because a line named the folder; kept for the next line that does.
    loaded: HashMap<String, (Adapter, f32)>,
    session: Option<Session>,
}

impl Worker<'_> {
    fn answer(&mut self, line: &Line, id: Value, catch: &Catch) -> Done<Answer> {
        let at = |e: Error| e.item(format!("line {}", line.number));
        let task = match &line.object {
            Ok(object) => serde_json::from_value::<Task>(Value::Object(object.clone()))
                .map_err(|e| at(Error::invalid(e.to_string())))?,
            Err(e) => return Err(at(Error::new(e.kind(), e.to_string())).into()),
        };
        let prompt = self.prompt(&task)?;
        let prompt_tokens = prompt.len();
        let adapters = self.adapters(&task)?;
        let sampling = self.sampling(&task, line.number)?;
        let max_tokens = match task.max_tokens {
            Some(n) => Some(n),
            None => load::max_tokens(self.args.n)?,
        };
        let options = GenerateOptions {
            max_tokens,
            stop: task.stop.map_or_else(|| self.args.end.stop.clone(), OneOrMore::all),
            ignore_eos: task.ignore_eos.unwrap_or(self.args.end.ignore_eos),
            keep: self.args.end.keep,
            show_special: false,
            cancel: vec![catch.flag()],
        };
        let tokenizer = self.model.tokenizer()?.clone();
        let session = self.session(max_tokens.map(|n| n.saturating_add(prompt.len())))?;
        session.set_adapters(&adapters)?;
        let mut sampler = Sampler::new(sampling, session.vocab_size())?;
        let go_on = &mut |_: &str, _| ControlFlow::Continue(());
        let made = generate(session, &tokenizer, &prompt, &mut sampler, &options, go_on)?;
        if made.finish == Finish::Cancelled {
            return Err(Fail::Interrupted);
        }
        Ok(Answer {
            id,
            text: made.text,
            tokens: made.tokens,
            finish_reason: made.finish.name(),
            prompt_tokens,
        })
    }

    fn prompt(&self, task: &Task) -> Result<Vec<u32>> {
        match (&task.prompt, &task.messages, &task.tokens) {
            (Some(text), None, None) => self.model.tokenizer()?.encode(text, EncodeOptions::default()),
            (None, Some(messages), None) => load::chat_prompt(&self.model, messages),
            (None, None, Some(ids)) => Ok(ids.clone()),
            _ => Err(Error::invalid("the line needs exactly one of prompt, messages, tokens")),
        }
    }

    /// What the line names, or else the adapters that the command line gave without a name.
    fn adapters(&mut self, task: &Task) -> Result<Vec<(Adapter, f32)>> {
        let Some(Choice(names)) = &task.adapter else {
            let unnamed = self.named.iter().filter(|a| a.name.is_none());
            return Ok(unnamed.map(|a| (a.adapter.clone(), a.weight)).collect());
        };
        let mut chosen = Vec::new();
        for name in names.iter().filter(|n| !n.is_empty()) {
            let known = |name: &str| self.named.iter().find(|a| a.name.as_deref() == Some(name));
            if let Some(a) = known(name) {
                chosen.push((a.adapter.clone(), a.weight));
                continue;
            }
            if let Some(a) = self.loaded.get(name) {
                chosen.push(a.clone());
                continue;
            }
            let spec = AdapterSpec::parse(name).map_err(|e| e.item("adapter"))?;
            let weight = spec.weight;
            let adapter = match spec.dir.to_str().and_then(known) {
                Some(a) => a.adapter.clone(),
                None => {
                    let options = AdapterOptions {
                        task_id: self.args.model.task_id,
                    };
                    self.model.load_adapter_with(&spec.dir, &options)?
                }
            };
            self.loaded.insert(name.clone(), (adapter.clone(), weight));
            chosen.push((adapter, weight));
        }
        Ok(chosen)
    }

    /// The command line's options with the line's own in their place. The seed differs from line to line and stays the
    /// same from run to run, also after a restart.
    fn sampling(&self, task: &Task, number: u64) -> Result<SamplerOptions> {
        let mut o = self.args.sampling.options(0.0, || 0)?;
        o.seed = task.seed.unwrap_or(o.seed.wrapping_add(number));
        o.temperature = task.temperature.unwrap_or(o.temperature);
        o.top_k = task.top_k.unwrap_or(o.top_k);
        o.top_p = task.top_p.unwrap_or(o.top_p);
        o.min_p = task.min_p.unwrap_or(o.min_p);
        o.repeat_penalty = task.repeat_penalty.unwrap_or(o.repeat_penalty);
        o.repeat_last_n = task.repeat_last_n.unwrap_or(o.repeat_last_n);
        o.frequency_penalty = task.frequency_penalty.unwrap_or(o.frequency_penalty);
        o.presence_penalty = task.presence_penalty.unwrap_or(o.presence_penalty);
        if let Some(bias) = &task.logit_bias {
            o.logit_bias = bias.iter().map(|(id, b)| (*id, *b)).collect();
        }
        Ok(o)
    }

    /// An empty session with room for `needed` tokens; the old one if it is large enough.
    fn session(&mut self, needed: Option<usize>) -> Result<&mut Session> {
        let context = load::context(&self.model, self.args.end.ctx, needed);
        if self.session.as_ref().is_none_or(|s| s.context() < context) {
            // Grows by doubling; the old one goes first, so that two never exist.
            self.session = None;
            let grown = load::context(&self.model, self.args.end.ctx, Some(context.next_power_of_two()));
            self.session = Some(load::session(&self.model, &self.args.model, grown, &[])?);
        }
        let session = self
            .session
            .as_mut()
            .ok_or_else(|| Error::internal("the session is gone"))?;
        session.reset();
        Ok(session)
    }
}

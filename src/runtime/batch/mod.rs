//! Many prompts, one after the other: lines of JSON in, a record for each out; a file of them restartable.
//!
//! A line is a JSON object with exactly one of `"prompt"` (text as it is), `"messages"` (`[{"role", "content"}]`, through the chat template)
//! and `"tokens"`, and optionally `id`, `adapter` (a name, a list of them, or null for none), `max_tokens`, `temperature`, `top_k`, `top_p`,
//! `min_p`, `repeat_penalty`, `repeat_last_n`, `frequency_penalty`, `presence_penalty`, `seed`, `stop`, `logit_bias` (`{"42": -1}`) and
//! `ignore_eos`. Another field is an error: a misspelt option that is silently ignored gives wrong answers.
//!
//! Its record is `{"id", "text", "tokens", "finish_reason", "prompt_tokens"}`, or `{"id", "error"}`; a missing id is the line's number.

mod files;
mod task;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::{Adapter, Finish, GenerateOptions, Generated, Model, Sampler, SamplerOptions, Session, SessionOptions};
use super::{StopMatcher, generate};
use crate::adapter::{AdapterOptions, AdapterSpec};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::Cancel;
use crate::tokenizer::EncodeOptions;

pub use files::BatchFiles;
use task::{Line, Record, Task};

/// The most adapters of one line.
const MOST_ADAPTERS: usize = 256;

/// What lines are answered with that do not say it themselves.
#[derive(Clone, Debug, Default)]
pub struct BatchOptions {
    /// How to choose tokens. To the seed the line's number is added.
    pub sampling: SamplerOptions,
    /// When to end. `keep`, `show_special` and `cancel` hold for all lines.
    pub generate: GenerateOptions,
    /// How to compute. Where `context` is `None`, there is as much room as each line needs, up to what the model was made for.
    pub session: SessionOptions,
    /// How to load the folders that lines name.
    pub adapter: AdapterOptions,
    /// Whether a line may name a folder (or a GGUF file), which is then loaded and kept for later lines: `"adapter": "DIR"` or `"DIR@WEIGHT"`.
    /// Off, only adapters that were added have names, and no line makes the batch look at a file.
    pub folders: bool,
}

/// What [`Batch::run`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchReport {
    /// Lines that had a record already.
    pub before: u64,
    /// Lines that this run wrote a record for.
    pub answered: u64,
    /// How many of these records say what is wrong with their line.
    pub failed: u64,
}

/// A model that answers lines.
///
/// An answer depends on the line, its number and the options alone: not on the lines before, nor on which are answered beside it. (It has one
/// session now, which begins anew with each line: what is kept of a shared beginning was evaluated in other pieces, and rounds otherwise.)
///
/// ```
/// # fn main() -> graft::Result<()> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny/llama-tied");
/// use graft::runtime::{Batch, BatchOptions};
///
/// let model = graft::Model::open(format!("{folder}/model.gguf"))?;
/// let mut batch = Batch::new(&model, BatchOptions::default())?;
/// batch.add_adapter("mine", model.load_adapter(format!("{folder}/adapters/qv"))?, 1.0)?;
/// let record = batch.answer(r#"{"id": "a", "prompt": "Hello", "adapter": "mine", "max_tokens": 4}"#, 1)?;
/// assert!(record.starts_with(r#"{"id":"a","text":"#)); // or {"id":"a","error":
/// # Ok(())
/// # }
/// ```
pub struct Batch {
    model: Model,
    options: BatchOptions,
    named: HashMap<String, (Adapter, f32)>,
    /// For lines that name none.
    unnamed: Vec<(Adapter, f32)>,
    /// Loaded because a line named the folder; kept for the next line that does.
    loaded: HashMap<PathBuf, Adapter>,
    session: Option<Session>,
}

impl Batch {
    /// A batch of `model`'s answers.
    ///
    /// # Errors
    /// `Usage` for options that no line could be answered with: a sampling option or a context out of range, an empty stop string.
    pub fn new(model: &Model, options: BatchOptions) -> Result<Self> {
        options.sampling.validate()?;
        options.session.context_of(model.spec())?;
        StopMatcher::new(options.generate.stop.clone())?;
        Ok(Batch {
            model: model.clone(),
            options,
            named: HashMap::new(),
            unnamed: Vec::new(),
            loaded: HashMap::new(),
            session: None,
        })
    }

    /// From now on lines may have this adapter by its name: `"adapter": "NAME"`, or `"NAME@WEIGHT"` with a weight of their own. It takes the
    /// place of another one of that name.
    ///
    /// # Errors
    /// `Usage` for an empty name or a weight that is not finite, `Mismatch` for an adapter of another model.
    pub fn add_adapter(&mut self, name: &str, adapter: Adapter, weight: f32) -> Result<()> {
        if name.is_empty() {
            return Err(Error::usage("the adapter's name is empty").item("name"));
        }
        self.model.check_adapter(&adapter, weight)?;
        self.named.insert(name.to_owned(), (adapter, weight));
        Ok(())
    }

    /// From now on this adapter is on for lines that have no `"adapter"`, with the others that were added so.
    ///
    /// # Errors
    /// `Usage` for a weight that is not finite, `Mismatch` for an adapter of another model.
    pub fn add_default_adapter(&mut self, adapter: Adapter, weight: f32) -> Result<()> {
        self.model.check_adapter(&adapter, weight)?;
        self.unnamed.push((adapter, weight));
        Ok(())
    }

    /// The record of one line, without a line break. `number` is the line's id where it has none, and is added to the seed.
    ///
    /// # Errors
    /// `Cancelled` when a flag of the options is set before the answer is whole. What is wrong with the line, or cannot be computed, is no
    /// error: the record says it.
    pub fn answer(&mut self, line: impl AsRef<[u8]>, number: u64) -> Result<String> {
        Ok(self.record(Line::new(line.as_ref(), number))?.json)
    }

    /// Answers the lines of the file `input` that have no record in the file `output` yet, in order. `progress` is told after each line how
    /// much of the input is read, 0 to 1; `false` ends the work.
    ///
    /// # Errors
    /// Those of [`BatchFiles::open`], and of [`Batch::run_files`].
    pub fn run(
        &mut self,
        input: impl AsRef<Path>,
        output: impl AsRef<Path>,
        progress: &mut dyn FnMut(f32) -> bool,
    ) -> Result<BatchReport> {
        let mut files = BatchFiles::open(Some(input.as_ref()), Some(output.as_ref()))?;
        self.run_files(&mut files, progress)
    }

    /// As [`Batch::run`], of files that are opened already.
    ///
    /// # Errors
    /// A file that cannot be read or written; `Cancelled` when a flag of the options is set or `progress` says so. What was written stays, and
    /// running the same files again goes on after it.
    pub fn run_files(&mut self, files: &mut BatchFiles, progress: &mut dyn FnMut(f32) -> bool) -> Result<BatchReport> {
        let mut report = BatchReport {
            before: files.before(),
            ..Default::default()
        };
        while let Some(line) = files.input.next()? {
            let number = line.number;
            let record = self.record(line).map_err(|e| e.file(&files.input.path))?;
            files.output.write(record.json)?;
            report.answered += 1;
            report.failed += u64::from(record.failed);
            if !progress(files.input.share()) {
                return Err(cancelled(number).file(&files.input.path));
            }
        }
        Ok(report)
    }

    fn record(&mut self, line: Line) -> Result<Record> {
        let (number, id) = (line.number, line.id());
        if self.options.generate.cancel.iter().any(Cancel::is_set) {
            return Err(cancelled(number));
        }
        match line.task().and_then(|task| self.made(task, number)) {
            Ok((made, _)) if made.finish == Finish::Cancelled => Err(cancelled(number)),
            Ok((made, prompt_tokens)) => Record::answer(id, made, prompt_tokens),
            Err(e) => Record::failure(id, &e),
        }
    }

    /// The answer, and the number of tokens of its prompt.
    fn made(&mut self, task: Task, number: u64) -> Result<(Generated, usize)> {
        let prompt = self.prompt(&task)?;
        let adapters = self.adapters(&task)?;
        let sampling = task.sampling(self.options.sampling.clone(), number);
        let options = task.generate(self.options.generate.clone());
        let model = self.model.clone();
        let session = self.session(options.max_tokens.map(|n| n.saturating_add(prompt.len())))?;
        session.set_adapters(&adapters)?;
        let mut sampler = Sampler::new(sampling, session.vocab_size())?;
        let go_on = &mut |_: &str, _| std::ops::ControlFlow::Continue(());
        let made = generate(session, model.tokenizer()?, &prompt, &mut sampler, &options, go_on)?;
        Ok((made, prompt.len()))
    }

    fn prompt(&self, task: &Task) -> Result<Vec<u32>> {
        match (&task.prompt, &task.messages, &task.tokens) {
            (Some(text), None, None) => self.model.tokenizer()?.encode(text, EncodeOptions::default()),
            (None, Some(messages), None) => self.model.chat_tokens(messages),
            (None, None, Some(ids)) => Ok(ids.clone()),
            _ => Err(Error::invalid("the line needs exactly one of prompt, messages, tokens")),
        }
    }

    /// What the line names, or else the default adapters.
    fn adapters(&mut self, task: &Task) -> Result<Vec<(Adapter, f32)>> {
        let Some(names) = &task.adapter else {
            return Ok(self.unnamed.clone());
        };
        if names.len() > MOST_ADAPTERS {
            let e = Error::limit("too many adapters").item("adapter");
            return Err(e.expected(format!("at most {MOST_ADAPTERS}")).found(names.len()));
        }
        let named = names.iter().filter(|name| !name.is_empty());
        named.map(|name| self.adapter(name)).collect()
    }

    fn adapter(&mut self, name: &str) -> Result<(Adapter, f32)> {
        if let Some(adapter) = self.named.get(name) {
            return Ok(adapter.clone());
        }
        let folders = self.options.folders;
        let spec = AdapterSpec::parse_with(name, |path| folders && path.exists()).map_err(|e| e.item("adapter"))?;
        if let Some((adapter, _)) = spec.dir.to_str().and_then(|name| self.named.get(name)) {
            return Ok((adapter.clone(), spec.weight));
        }
        if !folders {
            let e = Error::usage("no such adapter").item("adapter");
            return Err(e.expected("the name of one that was added").found(name));
        }
        let adapter = match self.loaded.get(&spec.dir) {
            Some(adapter) => adapter.clone(),
            None => {
                let adapter = self.model.load_adapter_with(&spec.dir, &self.options.adapter)?;
                self.loaded.insert(spec.dir, adapter.clone());
                adapter
            }
        };
        Ok((adapter, spec.weight))
    }

    /// An empty session with room for `needed` tokens; the old one if it is large enough.
    fn session(&mut self, needed: Option<usize>) -> Result<&mut Session> {
        let most = self.model.spec().context_length;
        let asked = self.options.session.context;
        let context = asked.unwrap_or_else(|| needed.map_or(most, |n| n.clamp(1, most)));
        if self.session.as_ref().is_none_or(|s| s.context() < context) {
            // Grows by doubling; the old one goes first, so that two never exist.
            self.session = None;
            let doubled = context.checked_next_power_of_two().map_or(most, |n| n.min(most));
            let options = SessionOptions {
                context: Some(asked.unwrap_or(doubled)),
                ..self.options.session.clone()
            };
            self.session = Some(self.model.session(&options)?);
        }
        let session = self.session.as_mut();
        let session = session.ok_or_else(|| Error::internal("the session is gone"))?;
        session.reset();
        Ok(session)
    }
}

fn cancelled(number: u64) -> Error {
    Error::new(ErrorKind::Cancelled, "cancelled").item(format!("line {number}"))
}

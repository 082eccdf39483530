//! `graft chat`: a conversation on a terminal, or from a pipe.

use std::io::{BufRead, IsTerminal, Write, stdin};
use std::ops::ControlFlow;

use graft::adapter::AdapterSpec;
use graft::runtime::{GenerateOptions, Sampler, SamplerOptions, generate};
use graft::tokenizer::Message;
use graft::{Error, Model, Result, Session};

use crate::args::ChatArgs;
use crate::interrupt::Catch;
use crate::load::{self, Named};
use crate::output::{Done, Fail, print, say};

const HELP: &str = "\
/adapter NAME...            put these adapters on, instead of those that are on, from the next answer
/adapter NAME=DIR[@WEIGHT]  load one and put it on
/mix A=0.7,B=0.3            put these on together, each with its weight
/adapter                    list them
/off                        take all adapters off
/reset                      forget the conversation
/exit                       leave (or Ctrl-D)
Ctrl-C stops an answer. After a switch the model still remembers what was said; /reset starts afresh.";

/// Context where none was asked for: a conversation rarely needs more, and memory is taken for all of it.
const CONTEXT: usize = 4096;

struct Chat<'a> {
    args: &'a ChatArgs,
    model: Model,
    session: Session,
    sampler: Sampler,
    sampling: SamplerOptions,
    vocab: usize,
    known: Vec<Named>,
    /// Indices in `known`, with weights.
    active: Vec<(usize, f32)>,
    history: Vec<Message>,
    max_tokens: Option<usize>,
}

pub fn run(args: &ChatArgs) -> Done {
    let max_tokens = load::max_tokens(args.n)?;
    let sampling = args.sampling.options(0.7, load::any_seed)?;
    let (model, known) = load::model_and_adapters(&args.model)?;
    // Before the first question: a model that cannot chat says so at once.
    load::chat_prompt(&model, &[Message::new("user", "Hello")])?;
    let context = load::context(&model, args.ctx, Some(CONTEXT));
    let session = load::session(&model, &args.model, context, &[])?;
    let vocab = session.vocab_size();
    let sampler = Sampler::new(sampling.clone(), vocab)?;
    let unnamed = (0..known.len())
        .filter(|&i| known[i].name.is_none())
        .map(|i| (i, known[i].weight))
        .collect();
    let mut chat = Chat {
        args,
        model,
        session,
        sampler,
        sampling,
        vocab,
        known,
        active: Vec::new(),
        history: Vec::new(),
        max_tokens,
    };
    chat.reset();
    chat.apply(unnamed)?;

    let terminal = stdin().is_terminal();
    if terminal {
        say("/help shows the commands");
    }
    let mut line = Vec::new();
    loop {
        if terminal {
            let _ = write!(std::io::stderr(), "> ");
        }
        line.clear();
        let n = stdin()
            .lock()
            .read_until(b'\n', &mut line)
            .map_err(|e| Error::io("stdin".as_ref(), "cannot read", &e))?;
        if n == 0 {
            return Ok(());
        }
        let Ok(text) = std::str::from_utf8(&line) else {
            say("error: that line is not UTF-8");
            continue;
        };
        let done = match text.trim() {
            "" => Ok(()),
            "/exit" | "/quit" => return Ok(()),
            command if command.starts_with('/') => chat.command(command).map_err(Fail::from),
            said => chat.answer(said),
        };
        match done {
            // What is wrong with one line is no reason to end the conversation.
            Err(Fail::Error(e)) => say(&format!("error: {e}")),
            done => done?,
        }
    }
}

impl Chat<'_> {
    fn reset(&mut self) {
        self.session.reset();
        self.history.clear();
        self.history
            .extend(self.args.system.iter().map(|text| Message::new("system", text)));
    }

    fn command(&mut self, text: &str) -> Result<()> {
        let mut words = text.split_whitespace();
        match (words.next(), words.collect::<Vec<_>>()) {
            (Some("/help"), _) => say(HELP),
            (Some("/reset"), _) => self.reset(),
            (Some("/off"), _) => {
                self.apply(Vec::new())?;
            }
            (Some("/mix"), parts) => {
                let mixed = parts.join("");
                let parts = mixed.split(',').map(|part| self.weighted(part));
                let wanted = parts.collect::<Result<_>>()?;
                self.apply(wanted)?;
            }
            (Some("/adapter"), names) if names.is_empty() => self.list(),
            (Some("/adapter"), names) => {
                let wanted = names.into_iter().map(|name| self.find(name)).collect::<Result<_>>()?;
                self.apply(wanted)?;
            }
            (command, _) => {
                let e = Error::usage("no such command").item(command.unwrap_or_default());
                return Err(e.expected("/adapter, /mix, /off, /reset, /help or /exit"));
            }
        }
        Ok(())
    }

    /// Puts `wanted` on; those from before stay if that is not possible.
    fn apply(&mut self, wanted: Vec<(usize, f32)>) -> Result<()> {
        let on: Vec<_> = wanted
            .iter()
            .map(|&(i, w)| (self.known[i].adapter.clone(), w))
            .collect();
        self.session.set_adapters(&on)?;
        self.active = wanted;
        if self.session.vocab_size() != self.vocab {
            self.vocab = self.session.vocab_size();
            self.sampler = Sampler::new(self.sampling.clone(), self.vocab)?;
        }
        Ok(())
    }

    fn list(&self) {
        if self.known.is_empty() {
            say("no adapter was given with -a; /adapter NAME=DIR loads one");
        }
        for (i, a) in self.known.iter().enumerate() {
            let on = self
                .active
                .iter()
                .find(|(j, _)| *j == i)
                .map_or("off".to_string(), |(_, w)| format!("on, weight {w}"));
            say(&format!("{} ({}): {on}", label(a), a.dir.display()));
        }
    }

    /// `NAME=WEIGHT` of a known adapter.
    fn weighted(&self, text: &str) -> Result<(usize, f32)> {
        let wrong = || {
            let names: Vec<_> = self.known.iter().map(label).collect();
            let e = Error::usage("no such mix").item(text);
            e.expected(format!("NAME=WEIGHT,NAME=WEIGHT with names of: {}", names.join(", ")))
        };
        let (name, weight) = text.split_once('=').ok_or_else(wrong)?;
        let i = self.known.iter().position(|a| label(a) == name).ok_or_else(wrong)?;
        Ok((i, weight.parse().map_err(|_| wrong())?))
    }

    /// The adapter that `text` names, with its weight: one of the known, or one to load now.
    fn find(&mut self, text: &str) -> Result<(usize, f32)> {
        let known = |name: &str| self.known.iter().position(|a| label(a) == name);
        if let Some(i) = known(text) {
            return Ok((i, self.known[i].weight));
        }
        let spec = AdapterSpec::parse(text)?;
        if spec.name.is_none() {
            if let Some(i) = spec.dir.to_str().and_then(known) {
                return Ok((i, spec.weight));
            }
            if !spec.dir.exists() {
                let names: Vec<_> = self.known.iter().map(label).collect();
                return Err(Error::usage("no such adapter")
                    .item(text)
                    .expected(format!("NAME=DIR, or one of: {}", names.join(", "))));
            }
        }
        let named = Named::load(spec, &self.model, self.args.model.task_id)?;
        let weight = named.weight;
        match named.name.as_deref().and_then(known) {
            // The name is taken: it means the new folder from now on.
            Some(i) => {
                self.known[i] = named;
                Ok((i, weight))
            }
            None => {
                self.known.push(named);
                Ok((self.known.len() - 1, weight))
            }
        }
    }

    fn answer(&mut self, said: &str) -> Done {
        self.history.push(Message::new("user", said));
        let made = self.generate();
        match &made {
            Ok(text) => self.history.push(Message::new("assistant", text)),
            Err(_) => {
                self.history.pop();
            }
        }
        made.map(|_| ())
    }

    fn generate(&mut self) -> Done<String> {
        let prompt = self.prompt()?;
        let catch = Catch::begin();
        let options = GenerateOptions {
            max_tokens: self.max_tokens,
            stop: self.args.stop.clone(),
            cancel: vec![catch.flag()],
            ..Default::default()
        };
        let mut printed = Ok(());
        let mut on_text = |text: &str, _| {
            printed = print(text);
            if printed.is_ok() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        let tokenizer = self.model.tokenizer()?.clone();
        let made = generate(
            &mut self.session,
            &tokenizer,
            &prompt,
            &mut self.sampler,
            &options,
            &mut on_text,
        )?;
        printed?;
        print("\n")?;
        Ok(made.text)
    }

    /// The ids that the session has not seen yet; drops the oldest turns until question and answer fit.
    fn prompt(&mut self) -> Result<Vec<u32>> {
        let context = self.session.context();
        let answer = self.max_tokens.unwrap_or(context).min(context / 4);
        let first = usize::from(self.args.system.is_some());
        let mut dropped = 0;
        let ids = loop {
            let ids = load::chat_prompt(&self.model, &self.history)?;
            if ids.len() + answer <= context {
                break ids;
            }
            // A turn is a question and its answer; the last message is the question at hand.
            if self.history.len() < first + 3 {
                let e = Error::limit("the message does not fit the context").item("--ctx");
                return Err(e
                    .expected(format!("at most {} tokens", context - answer))
                    .found(ids.len()));
            }
            self.history.drain(first..first + 2);
            dropped += 1;
        };
        if dropped > 0 {
            say(&format!(
                "the context is full: the oldest turns were dropped ({dropped})"
            ));
        }
        let kept = self.session.keep_common(&ids);
        Ok(ids[kept..].to_vec())
    }
}

/// What an adapter answers to: its name, or else its folder's.
fn label(a: &Named) -> String {
    match &a.name {
        Some(name) => name.clone(),
        None => a
            .dir
            .file_name()
            .map_or_else(|| a.dir.display().to_string(), |n| n.to_string_lossy().into_owned()),
    }
}

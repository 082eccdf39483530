//! Opening what the command line names: models, adapters, prompts.

use std::io::Read;
use std::path::{Path, PathBuf};

use graft::adapter::{AdapterOptions, AdapterSpec};
use graft::tokenizer::{EncodeOptions, Message};
use graft::{Adapter, DeviceChoice, Error, ErrorKind, LoadOptions, Model, Result, Session, SessionOptions};

use crate::args::{ModelArgs, PromptArgs};
use crate::progress::Progress;

/// An adapter on the command line, loaded.
#[derive(Clone)]
pub struct Named {
    /// The name before `=`.
    pub name: Option<String>,
    /// The folder.
    pub dir: PathBuf,
    pub weight: f32,
    pub adapter: Adapter,
}

impl Named {
    /// Opens what the command line names, for `model`; `task_id` chooses among the prompts of several tasks.
    pub fn load(spec: AdapterSpec, model: &Model, task_id: Option<usize>) -> Result<Self> {
        let adapter = model.load_adapter_with(&spec.dir, &AdapterOptions { task_id })?;
        Ok(Named {
            name: spec.name,
            dir: spec.dir,
            weight: spec.weight,
            adapter,
        })
    }
}

/// Opens the model.
pub fn model(args: &ModelArgs) -> Result<Model> {
    let options = LoadOptions {
        mode: args.mode(),
        threads: args.threads.map(usize::from),
        device: args.device,
        gpu_layers: args.gpu_layers,
        tokenizer: args.tokenizer.clone(),
        ..Default::default()
    };
    model_at(&args.model, options)
}

/// To look at weights alone, which the CPU does.
pub fn without_gpu() -> LoadOptions {
    LoadOptions {
        device: DeviceChoice::Cpu,
        ..Default::default()
    }
}

/// Opens the model at `path` and shows how far it is.
pub fn model_at(path: &Path, options: LoadOptions) -> Result<Model> {
    let progress = Progress::new("loading");
    let bar = progress.clone();
    let options = LoadOptions {
        progress: Some(Box::new(move |share| bar.set(share))),
        ..options
    };
    let model = Model::open_with(path, &options);
    progress.finish();
    // With a GPU in question, where it went.
    if let Some(said) = model.as_ref().ok().and_then(Model::device) {
        crate::output::say(said);
    }
    model
}

/// Opens the model and its adapters; merges them where `--merge` says so.
pub fn model_and_adapters(args: &ModelArgs) -> Result<(Model, Vec<Named>)> {
    let (model, adapters) = model_and_adapters_live(args)?;
    match args.merge {
        false => Ok((model, adapters)),
        true => Ok((crate::merge::in_memory(args, &model, &adapters)?, Vec::new())),
    }
}

/// Opens the model and its adapters.
pub fn model_and_adapters_live(args: &ModelArgs) -> Result<(Model, Vec<Named>)> {
    // Before the model: a wrong option should not wait for a big file.
    let specs = args
        .adapters
        .iter()
        .map(|a| AdapterSpec::parse(a))
        .collect::<Result<Vec<_>>>()?;
    let model = model(args)?;
    let adapters = specs
        .into_iter()
        .map(|s| Named::load(s, &model, args.task_id))
        .collect::<Result<Vec<_>>>()?;
    Ok((model, adapters))
}

/// What the command line says about sessions.
pub fn session_options(args: &ModelArgs, context: usize) -> SessionOptions {
    SessionOptions {
        context: Some(context),
        precision: args.precision(),
        ..Default::default()
    }
}

/// A session with `adapters` on.
pub fn session(model: &Model, args: &ModelArgs, context: usize, adapters: &[Named]) -> Result<Session> {
    let mut session = model.session(&session_options(args, context))?;
    session.set_adapters(&active(adapters))?;
    Ok(session)
}

/// Adapters with their weights, as a session takes them.
pub fn active(adapters: &[Named]) -> Vec<(Adapter, f32)> {
    adapters.iter().map(|a| (a.adapter.clone(), a.weight)).collect()
}

/// How many tokens the context needs: what was asked for, else `needed` up to what the model was made for.
pub fn context(model: &Model, asked: Option<usize>, needed: Option<usize>) -> usize {
    let most = model.spec().context_length;
    asked.unwrap_or_else(|| needed.map_or(most, |n| n.clamp(1, most)))
}

/// `-n`: -1 is no limit.
pub fn max_tokens(n: i64) -> Result<Option<usize>> {
    match n {
        -1 => Ok(None),
        n => match usize::try_from(n) {
            Ok(n) => Ok(Some(n)),
            Err(_) => Err(Error::usage("wrong number of tokens")
                .item("-n")
                .expected("0 or more, or -1")
                .found(n)),
        },
    }
}

/// The prompt's ids.
pub fn prompt(model: &Model, args: &PromptArgs, chat: bool) -> Result<Vec<u32>> {
    if let Some(tokens) = &args.tokens {
        return Ok(tokens.clone());
    }
    let from_file;
    let text = match (&args.prompt, &args.file) {
        (Some(text), _) => text,
        (None, Some(file)) => {
            from_file = text_of(file)?;
            &from_file
        }
        (None, None) => return Err(Error::usage("no prompt: -p, -f or --tokens is needed")),
    };
    match chat {
        false => model.tokenizer()?.encode(text, EncodeOptions::default()),
        true => chat_prompt(model, &[Message::new("user", text)]),
    }
}

/// The ids of a conversation in the model's chat template, ready for the assistant's answer.
pub fn chat_prompt(model: &Model, messages: &[Message]) -> Result<Vec<u32>> {
    model.chat_tokens(messages).map_err(|e| {
        if e.kind() == ErrorKind::Unsupported {
            e.expected("a model tuned for chat; or: graft run -p TEXT")
        } else {
            e
        }
    })
}

/// The text in `file`; `-` is stdin. Anything but UTF-8 is an error.
pub fn text_of(file: &Path) -> Result<String> {
    let io = |e: &std::io::Error| Error::io(file, "cannot read", e);
    let bytes = if file == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map_err(|e| io(&e))?;
        bytes
    } else {
        std::fs::read(file).map_err(|e| io(&e))?
    };
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::invalid("the text is not UTF-8")
            .file(file)
            .item(format!("byte {at}"))
    })
}

/// A seed that nobody chose.
pub fn any_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library's only source of randomness. 53 bits, so that JSON readers keep it exact.
    std::collections::hash_map::RandomState::new().build_hasher().finish() >> 11
}

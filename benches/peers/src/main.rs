//! llama.cpp beside Graft: the same file, the same threads, alternating in one process. See README.md.

mod bench;
mod blocks;
mod check;
mod crowd;
mod engine;
mod greedy;
mod kl;
mod lora;
mod merge;
mod record;
mod spread;

use std::path::PathBuf;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "\
usage: peers bench  [options] MODEL.gguf…   speed: prompt (pp) and generation (tg), alternating rounds, and the ratio
       peers crowd  [options] MODEL.gguf…   speed of Graft beside busy cores, and of two instances at once
       peers logits [options] MODEL.gguf…   logits of every position: Graft exact and fast against llama.cpp
       peers lora   [options] -a ADAPTER.gguf MODEL.gguf…   a GGUF LoRA in both engines: logits, and greedy text side by side
       peers merge  [options] -a ADAPTER -f TEXT MODEL.gguf…   an adapter merged: what packing costs, by Graft and by ggml
       peers greedy [options] MODEL.gguf…   greedy text in both engines (of a file that graft merge wrote, say)
       peers kl     [options] MODEL.gguf…   divergence of Graft fast and of llama.cpp from Graft exact, on a text
       peers tokens [options] MODEL.gguf…   token ids of a text against llama.cpp's tokenizer
       peers blocks [FILE.json]             every block format against ggml, both directions; ggml's losses to FILE.json

  -t, --threads N   threads of each engine (default: physical cores)
  -p, --prompt N    prompt tokens (bench: 512, crowd: 128, logits, greedy: 64, merge: 256)
  -n, --gen N       generated tokens (64)
  -a, --adapter F   `lora`, `bench` (with and without it): a GGUF file (graft export-lora writes one); `merge`: also a folder
  -r, --rounds N    rounds (5), of `kl` chunks of 256 tokens
  -f, --file TEXT   text for `kl`, `tokens` (default: this crate's README), `logits` (default: random tokens), `lora`, `greedy` and `merge`
      --type T,T…   `merge`: these types alone
      --llama-only  bench llama.cpp alone
      --json        bench, crowd: the figures as JSON on stdout, the table on stderr
      --record DIR  bench: also write DIR/YYYY-MM-DD-<cpu>-<level>.md and .json";

/// The command line.
struct Options {
    command: String,
    models: Vec<PathBuf>,
    threads: usize,
    prompt: Option<usize>,
    gen_tokens: usize,
    rounds: usize,
    file: Option<PathBuf>,
    adapter: Option<PathBuf>,
    types: Option<Vec<String>>,
    llama_only: bool,
    json: bool,
    record: Option<PathBuf>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Options {
            command: args.next().ok_or(USAGE)?,
            models: Vec::new(),
            threads: graft::pool::physical_cores(),
            prompt: None,
            gen_tokens: 64,
            rounds: 5,
            file: None,
            adapter: None,
            types: None,
            llama_only: false,
            json: false,
            record: None,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "-t" | "--threads" => options.threads = value()?.parse()?,
                "-p" | "--prompt" => options.prompt = Some(value()?.parse()?),
                "-n" | "--gen" => options.gen_tokens = value()?.parse()?,
                "-r" | "--rounds" => options.rounds = value()?.parse()?,
                "-f" | "--file" => options.file = Some(value()?.into()),
                "-a" | "--adapter" => options.adapter = Some(value()?.into()),
                "--type" => options.types = Some(value()?.split(',').map(str::to_uppercase).collect()),
                "--llama-only" => options.llama_only = true,
                "--json" => options.json = true,
                "--record" => options.record = Some(value()?.into()),
                _ if arg.starts_with('-') => return Err(USAGE.into()),
                _ => options.models.push(arg.into()),
            }
        }
        if options.models.is_empty() && options.command != "blocks" {
            return Err(USAGE.into());
        }
        Ok(options)
    }
}

fn run() -> Result<bool> {
    let options = Options::parse(std::env::args().skip(1))?;
    match options.command.as_str() {
        "bench" => bench::run(&options).map(|()| true),
        "crowd" => crowd::run(&options).map(|()| true),
        "logits" => check::logits(&options),
        "lora" => lora::run(&options),
        "kl" => kl::run(&options),
        "merge" => merge::run(&options),
        "greedy" => greedy::run(&options),
        "tokens" => check::tokens(&options),
        "blocks" => blocks::run(options.models.first().map(PathBuf::as_path)),
        _ => Err(USAGE.into()),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::from(2)
        }
    }
}

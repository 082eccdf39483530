//! The command line: `graft run`, `chat`, `batch`, `logits`, `perplexity`, `eval`, `tokenize`, `inspect`,
//! `combine`, `merge`, `export-lora`, `to-lora`, `train`, `bench`.
//!
//! stdout carries data only, words go to stderr. Exit codes: 0 done, 1 data (a file, a disk, a model), 2 usage (or no GPU to check), 130 Ctrl-C.

mod args;
mod batch;
mod bench;
mod chat;
mod combine;
mod convert;
mod eval;
mod gpu_check;
mod inspect;
mod inspect_adapter;
mod interrupt;
mod load;
mod logits;
mod machine;
mod memory;
mod merge;
mod names;
mod output;
mod perplexity;
mod progress;
mod run;
mod tokenize;
mod train;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser;

fn main() -> ExitCode {
    let started = std::time::Instant::now();
    let cli = Cli::parse();
    interrupt::install();
    let done = match cli.command {
        Command::Run(a) => run::run(&a, started),
        Command::Chat(a) => chat::run(&a),
        Command::Batch(a) => batch::run(&a),
        Command::Logits(a) => logits::run(&a),
        Command::Perplexity(a) => perplexity::run(&a),
        Command::Eval(a) => eval::run(&a),
        Command::Tokenize(a) => tokenize::run(&a),
        Command::Inspect(a) => inspect::run(&a),
        Command::Combine(a) => combine::run(&a),
        Command::Merge(a) => merge::run(&a),
        Command::ExportLora(a) => convert::export_lora(&a),
        Command::ToLora(a) => convert::to_lora(&a),
        Command::Train(a) => train::run(&a),
        Command::Bench(a) => bench::run(&a),
        Command::GpuCheck(a) => gpu_check::run(&a),
    };
    output::exit_code(done)
}

//! What can be typed. The doc comments are the help texts.

mod adapters;
mod train;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use graft::DeviceChoice;
use graft::format::LoadMode;
use graft::kernels::Precision;
use graft::runtime::SamplerOptions;

pub use adapters::{CombineArgs, ExportLoraArgs, FactorType, MergeArgs, ToLoraArgs};
pub use train::{TrainArgs, TrainOptionArgs};

/// Text from quantized language models, with PEFT adapters put on as they are.
#[derive(Parser)]
#[command(
    name = "graft",
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  graft run -m model.gguf -p \"Once upon a time\" -n 64
  graft run -m model.gguf -a ./my-lora -p \"Once upon a time\"       the folder that PEFT's save_pretrained wrote
  graft chat -m model.gguf -a verse=./stage-verse -a json=./extract  then: /adapter verse
  graft batch -m model.gguf in.jsonl -o out.jsonl
  graft inspect model.gguf
  graft combine -a ./a@0.7 -a ./b@0.3 --type svd -o ./mix
  graft train -m model.gguf --data train.jsonl -o ./my-lora

`graft COMMAND -h` shows a command's options and examples. Data goes to stdout, words to stderr.
Exit codes: 0 done, 1 bad data or a failed read or write, 2 wrong usage, 130 Ctrl-C."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Continue a prompt
    Run(RunArgs),
    /// Talk, with history and adapters switched between two answers
    Chat(ChatArgs),
    /// Answer a file of prompts, one JSON object a line
    Batch(BatchArgs),
    /// Print the model's scores for the next token
    Logits(LogitsArgs),
    /// Measure how well the model predicts a text
    Perplexity(PerplexityArgs),
    /// Measure loss, choices and answers on rows of data
    Eval(EvalArgs),
    /// Show how a text is cut into tokens
    Tokenize(TokenizeArgs),
    /// Show what is in a model file or an adapter folder, or what this machine can do
    Inspect(InspectArgs),
    /// Make one adapter of several
    Combine(CombineArgs),
    /// Write a model with adapters in its weights
    Merge(MergeArgs),
    /// Write an adapter as the GGUF file that llama.cpp loads
    ExportLora(ExportLoraArgs),
    /// Write an adapter of another method as a plain LoRA that PEFT loads
    ToLora(ToLoraArgs),
    /// Train an adapter on your own data
    Train(Box<TrainArgs>),
    /// Measure speed beside this machine's limits
    Bench(BenchArgs),
    /// Check an NVIDIA GPU: its numbers beside the CPU's, its speed beside its limits
    #[command(hide = true)]
    GpuCheck(GpuCheckArgs),
}

/// The model, how to load it and what to put on it.
#[derive(Args)]
pub struct ModelArgs {
    /// The model: a GGUF file (of a split one, the first part)
    #[arg(short, long, value_name = "M.gguf")]
    pub model: PathBuf,
    /// An adapter: a folder as PEFT saves it, or a GGUF file of a LoRA; optionally with a name before and a weight behind; can be repeated, the
    /// adapters add up. A path that itself holds '=' or '@' is taken as it is if it exists
    #[arg(short, long = "adapter", value_name = "[NAME=]DIR[@WEIGHT]")]
    pub adapters: Vec<String>,
    /// Which task's prompt to take from adapters that hold several (multitask prompt tuning)
    #[arg(long, value_name = "N")]
    pub task_id: Option<usize>,
    /// Merge the adapters into the weights in memory: no cost per token, but a loss where the model is quantized, which is measured and
    /// said. Named adapters too; they are then on for good
    #[arg(long, requires = "adapters")]
    pub merge: bool,
    /// With --merge: the type of merged tensors (keep, q4_k, q8_0, f16, ...) [default: the smallest within --merge-kl]
    #[arg(long, value_name = "TYPE", requires = "merge")]
    pub merge_type: Option<String>,
    /// With --merge: the mean KL from the live adapters, in nats, that the merged model may have. 0.01 is above what packing in Q6_K or Q8_0
    /// costs and below what types of 4 and 5 bits do: the text reads the same
    #[arg(long, value_name = "KL", requires = "merge", default_value_t = 0.01)]
    pub merge_kl: f64,
    /// Threads to compute with [default: one per physical core]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// What runs the model: auto (an NVIDIA GPU where there is one and this build has the feature cuda, else the CPU), cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
    /// Layers on the GPU, the last ones, and with them the head [default: as many as fit into its memory]
    #[arg(long, value_name = "N")]
    pub gpu_layers: Option<usize>,
    /// Compute in full precision: f32 activations, exact weights; slower, the reference for comparisons
    #[arg(long)]
    pub exact: bool,
    /// Read the file into memory instead of mapping it: safe if the file may change meanwhile
    #[arg(long)]
    pub no_mmap: bool,
    /// A tokenizer.json to use instead of the tokenizer in the model file
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
}

impl ModelArgs {
    pub fn precision(&self) -> Precision {
        if self.exact { Precision::Exact } else { Precision::Fast }
    }

    pub fn mode(&self) -> LoadMode {
        if self.no_mmap { LoadMode::Read } else { LoadMode::Map }
    }
}

/// How to choose tokens.
#[derive(Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// 0: always the most likely token; 1: as the model says; higher: more varied [default: 0; chat: 0.7]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temp: Option<f32>,
    /// Choose among the K most likely tokens; 0: all
    #[arg(long, value_name = "K", default_value_t = 40)]
    pub top_k: usize,
    /// Choose among the most likely tokens that together have probability P; 1: all
    #[arg(long, value_name = "P", default_value_t = 0.95, allow_negative_numbers = true)]
    pub top_p: f32,
    /// Drop tokens less than P times as likely as the most likely; 0: none
    #[arg(long, value_name = "P", default_value_t = 0.05, allow_negative_numbers = true)]
    pub min_p: f32,
    /// Makes tokens seen before less likely: divides their positive logits, multiplies negative ones; 1: off
    #[arg(long, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true)]
    pub repeat_penalty: f32,
    /// How many of the last tokens the penalties look at; 0: none
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub repeat_last_n: usize,
    /// Taken off a token's logit for each time it was seen
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    pub frequency_penalty: f32,
    /// Taken off a token's logit if it was seen
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    pub presence_penalty: f32,
    /// Start of the random numbers; the same seed gives the same text [default: another one each time; batch: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Added to a token's logit; -inf bans it; can be repeated
    #[arg(long, value_name = "ID=B", value_parser = logit_bias)]
    pub logit_bias: Vec<(u32, f32)>,
}

fn logit_bias(text: &str) -> Result<(u32, f32), String> {
    let parse = || {
        let (id, bias) = text.split_once('=')?;
        Some((id.trim().parse().ok()?, bias.trim().parse().ok()?))
    };
    parse().ok_or_else(|| "expected a token id and a number, such as 42=-1.5".to_string())
}

impl SamplingArgs {
    /// The options, checked. `temperature` and `seed` where none was given.
    pub fn options(&self, temperature: f32, seed: impl FnOnce() -> u64) -> graft::Result<SamplerOptions> {
        let options = SamplerOptions {
            temperature: self.temp.unwrap_or(temperature),
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            repeat_last_n: self.repeat_last_n,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            seed: self.seed.unwrap_or_else(seed),
            logit_bias: self.logit_bias.clone(),
        };
        options.validate().map(|()| options)
    }
}

/// Where a prompt comes from: exactly one of these.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct PromptArgs {
    /// The prompt, as it is (no chat template)
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// The prompt as token ids
    #[arg(long, value_name = "1,2,3", value_delimiter = ',')]
    pub tokens: Option<Vec<u32>>,
    /// The prompt from a file; - is stdin
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// When to end.
#[derive(Args)]
#[command(next_help_heading = "Ending")]
pub struct EndArgs {
    /// End where the text holds this, without it; can be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// Room for this many tokens, prompt included [default: as needed, up to what the model was made for]
    #[arg(short, long, value_name = "N")]
    pub ctx: Option<usize>,
    /// When the context is full, keep the first N tokens and the later half of the rest, and go on
    #[arg(long, value_name = "N")]
    pub keep: Option<usize>,
    /// Go on when the model says that it is done
    #[arg(long)]
    pub ignore_eos: bool,
}

/// `graft run`
#[derive(Args)]
#[command(after_help = "\
Text streams to stdout as it is made, without the prompt.
Examples:
  graft run -m model.gguf -p \"The capital of France is\" -n 8
  graft run -m model.gguf -a ./my-lora@0.8 -p \"Shall I\" --temp 0.8 --seed 7
  graft run -m chat-model.gguf --chat -p \"Name three rivers.\"
  graft run -m model.gguf --tokens 1,2,3 -n 16 --json
--json prints one document: {\"tokens\": new ids, \"text\", \"finish_reason\": eos|stop|length|cancelled|context,
\"seed\", \"timings\": {...}, \"memory\": {...}}.")]
pub struct RunArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub prompt: PromptArgs,
    /// Put the prompt into the model's chat template, as a user's message
    #[arg(long, conflicts_with = "tokens")]
    pub chat: bool,
    /// New tokens at most; -1: until the model or the context ends
    #[arg(
        short,
        long = "max-tokens",
        value_name = "N",
        default_value_t = 256,
        allow_negative_numbers = true
    )]
    pub n: i64,
    /// Show control tokens such as <|im_end|> in the text
    #[arg(long)]
    pub special: bool,
    /// Print one JSON document at the end instead of text
    #[arg(long)]
    pub json: bool,
    /// Say on stderr how fast it was
    #[arg(short, long)]
    pub verbose: bool,
    #[command(flatten)]
    pub end: EndArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// `graft chat`
#[derive(Args)]
#[command(after_help = "\
Commands: /adapter NAME..., /adapter NAME=DIR[@WEIGHT], /adapter, /mix A=0.7,B=0.3, /off, /reset, /help, /exit. Ctrl-C stops the answer.
Examples:
  graft chat -m model.gguf
  graft chat -m model.gguf -a verse=./stage-verse -a json=./extract --system \"Be brief.\"
  printf 'Hello\\n/adapter verse\\nHello\\n' | graft chat -m model.gguf -a verse=./stage-verse
Named adapters (NAME=DIR) wait for /adapter; one without a name is on from the start.")]
pub struct ChatArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// What the model should be; the first message, of role system
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub system: Option<String>,
    /// Tokens of an answer at most; -1: until the model or the context ends
    #[arg(
        short,
        long = "max-tokens",
        value_name = "N",
        default_value_t = 1024,
        allow_negative_numbers = true
    )]
    pub n: i64,
    /// End an answer where it holds this, without it; can be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// Room for this many tokens; the oldest turns are dropped when it is full [default: 4096, or less as the model says]
    #[arg(short, long, value_name = "N")]
    pub ctx: Option<usize>,
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// `graft batch`
#[derive(Args)]
#[command(after_help = "\
A line of IN is a JSON object with \"prompt\" (text as it is), \"messages\" ([{\"role\", \"content\"}], through the chat
template) or \"tokens\", and optionally: id, adapter (a name from -a, a folder, a list of them, or null for none), max_tokens,
temperature, top_k, top_p, min_p, repeat_penalty, repeat_last_n, frequency_penalty, presence_penalty, seed, stop,
logit_bias ({\"42\": -1}), ignore_eos. What a line leaves out comes from the command line. An -a without a name is on for
lines without \"adapter\".
A line of OUT is {\"id\", \"text\", \"tokens\", \"finish_reason\", \"prompt_tokens\"} or {\"id\", \"error\"}, in the order of IN; a
missing id is the line's number. If OUT exists, complete lines in it are kept and work goes on after them.
Example:
  echo '{\"id\": 1, \"prompt\": \"Once\", \"adapter\": \"verse\", \"max_tokens\": 20}' > in.jsonl
  graft batch -m model.gguf -a verse=./stage-verse in.jsonl -o out.jsonl")]
pub struct BatchArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Prompts, one JSON object a line; - is stdin
    #[arg(value_name = "IN.jsonl")]
    pub input: PathBuf,
    /// Answers, one a line; - is stdout
    #[arg(short, long, value_name = "OUT.jsonl")]
    pub output: PathBuf,
    /// New tokens of a line at most; -1: until the model or the context ends
    #[arg(
        short,
        long = "max-tokens",
        value_name = "N",
        default_value_t = 256,
        allow_negative_numbers = true
    )]
    pub n: i64,
    #[command(flatten)]
    pub end: EndArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// `graft logits`
#[derive(Args)]
#[command(after_help = "\
--json prints {\"n_vocab\", \"positions\": [{\"pos\", \"top\": [[id, logit], ...]}], \"mean_logprob\"}: the last position, or with
--all every one (pos counts from 0); mean_logprob is the mean log-probability of tokens 2..n, null for one token.
Examples:
  graft logits -m model.gguf -p \"The capital of France is\" --top 5
  graft logits -m model.gguf --tokens 1,2,3 --all --exact --json")]
pub struct LogitsArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub prompt: PromptArgs,
    /// How many of the highest logits to print
    #[arg(long, value_name = "K", default_value_t = 10)]
    pub top: usize,
    /// At every position, not only the last
    #[arg(long)]
    pub all: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `graft perplexity`
#[derive(Args)]
#[command(after_help = "\
The text is cut into chunks of --ctx tokens; the first half of each is context, the second is counted, as llama.cpp does it.
Examples:
  graft perplexity -m model.gguf text.txt
  graft perplexity -m model.gguf -a ./my-lora text.txt --exact --json
  graft perplexity -m model.gguf text.txt --kl          how far the fast computation is from the exact one")]
pub struct PerplexityArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// The text; - is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Tokens of a chunk
    #[arg(short, long, value_name = "N", default_value_t = 512)]
    pub ctx: usize,
    /// Chunks at most
    #[arg(long, value_name = "N")]
    pub chunks: Option<usize>,
    /// Also compute in full precision and print the mean Kullback-Leibler divergence from it, and its perplexity
    #[arg(long, conflicts_with = "exact")]
    pub kl: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `graft eval`
#[derive(Args)]
#[command(after_help = "\
A line of the data is a JSON object: {\"text\"}, {\"prompt\", \"completion\"} or {\"messages\"} as for training, of which loss (the mean negative
log-probability of a learnt token, in nats) and perplexity are measured: of a whole text, of completions, of what the assistant
says; or {\"prompt\", \"choices\": [...], \"answer\": index or text}, of which the share where the right choice is the most likely, by the
sum and by the mean of its tokens' log-probabilities. A file that ends with .txt is a plain text.
--json prints {\"loss\", \"perplexity\", \"error\", \"tokens\", \"rows\": {\"text\", \"completion\", \"messages\", \"choices\"},
\"choices\": {\"accuracy\", \"accuracy_per_token\"}, \"exact_match\": {\"share\", \"rows\"}, \"seq\", \"cut\", \"skipped\"}; null for what no row has.
Examples:
  graft eval -m model.gguf --data eval.jsonl
  graft eval -m model.gguf -a ./my-lora --data eval.jsonl --exact-match --json
  graft eval -m model.gguf --data choices.jsonl --limit 100 --skip-bad")]
pub struct EvalArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Rows, one JSON object a line; or a plain text, where the name ends with .txt
    #[arg(short, long, value_name = "FILE")]
    pub data: PathBuf,
    /// Cut rows to N tokens; a plain text into parts of as many [default: 2048, or less as the model says]
    #[arg(long, value_name = "N")]
    pub seq: Option<usize>,
    /// Rows at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Also complete the prompts of rows with a completion, always by the most likely token, and count those where that is all the model
    /// says before it ends
    #[arg(long)]
    pub exact_match: bool,
    /// Skip bad lines and count them, instead of ending at the first
    #[arg(long)]
    pub skip_bad: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `graft tokenize`
#[derive(Args)]
#[command(after_help = "\
Examples:
  graft tokenize -m model.gguf \"Hello world\"
  graft tokenize -m model.gguf --json --no-special \"<|im_start|>user\"
  graft tokenize -m model.gguf -f lines.txt --lines --json        one JSON document a line")]
pub struct TokenizeArgs {
    /// The model whose tokenizer to use: a GGUF file, or a tokenizer.json
    #[arg(short, long, value_name = "M.gguf")]
    pub model: PathBuf,
    /// The text
    #[arg(
        value_name = "TEXT",
        required_unless_present = "file",
        conflicts_with = "file",
        allow_hyphen_values = true
    )]
    pub text: Option<String>,
    /// The text from a file; - is stdin
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Each line of the text by itself
    #[arg(long)]
    pub lines: bool,
    /// Add no begin and end tokens
    #[arg(long)]
    pub no_special: bool,
    /// Take control tokens written in the text (<|im_start|>) as plain text
    #[arg(long)]
    pub plain: bool,
    /// Print {"tokens": [...], "pieces": [...]}
    #[arg(long)]
    pub json: bool,
}

/// `graft inspect`
#[derive(Args)]
#[command(override_usage = "\
graft inspect [--json] <FILE.gguf|ADAPTER_DIR>
       graft inspect [--json] -m <M.gguf> [--task-id N] <ADAPTER>
       graft inspect [--json] --machine")]
#[command(after_help = "\
With -m an adapter is also put on the model: what it becomes there, the memory that it takes, PEFT's line of trainable parameters,
whether it can be merged, and what does not fit together. Forms are what runs: low_rank (two small factors), kron (a product of two
small matrices, kept as factors), dense (a whole matrix), in_… and out_… (on what goes in or comes out), weight, bias and rows (in place
of the base's), from_base (not known without a model).
Examples:
  graft inspect model.gguf
  graft inspect ./my-lora
  graft inspect -m model.gguf ./my-lora
  graft inspect model.gguf --json | jq .memory
  graft inspect --machine                             CPU, threads, instruction set level, limits; takes a second
  GRAFT_ISA=scalar graft inspect --machine            the level as the environment variable sets it, for every command")]
pub struct InspectArgs {
    /// A GGUF file (a model or an adapter) or an adapter folder
    #[arg(
        value_name = "FILE.gguf|ADAPTER_DIR",
        required_unless_present = "machine",
        conflicts_with = "machine"
    )]
    pub path: Option<PathBuf>,
    /// Of an adapter: the model to put it on
    #[arg(short, long, value_name = "M.gguf", conflicts_with = "machine")]
    pub model: Option<PathBuf>,
    /// Which task's prompt to take from an adapter that holds several (multitask prompt tuning)
    #[arg(long, value_name = "N", conflicts_with = "machine")]
    pub task_id: Option<usize>,
    /// Show this machine instead, and measure its limits
    #[arg(long)]
    pub machine: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `graft bench`
#[derive(Args)]
#[command(after_help = "\
First the limits of this machine at the same number of threads (memory read, f32 and int8 multiply-add), then the prompt
speed (pp), the generation speed (tg), each with its share of the limit, then start time and memory of a fresh process. With layers on a
GPU the limits are the GPU's: memory as a copy on it moves it (and at most, by clock and bus), f32 and f16 multiply-add by its clock.
Examples:
  graft bench -m model.gguf
  graft bench -m model.gguf -a ./my-lora -p 128 -n 32 -r 3 --json
  graft bench -m model.gguf --ops                  which operation takes the time, and how far it is from its limit
  graft bench -m model.gguf --ops --svg roofline.svg
  graft bench -m model.gguf -d 4096                the same speeds behind 4096 tokens, beside what arithmetic allows")]
pub struct BenchArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Tokens of the prompt
    #[arg(short, long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    pub prompt: u32,
    /// Tokens to generate
    #[arg(short, long = "new", value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub n: u32,
    /// Measure also with N tokens already in the context; several, with commas between, make a curve
    #[arg(short, long, value_name = "N", value_delimiter = ',')]
    pub depth: Vec<u32>,
    /// Repetitions; the median counts
    #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeat: u32,
    /// Also list the operations of the fastest of further repetitions (behind the most tokens of --depth)
    #[arg(long)]
    pub ops: bool,
    /// Also draw the speeds, with --ops the operations too, under the roofs of this machine
    #[arg(long, value_name = "FILE.svg")]
    pub svg: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `graft gpu-check`
#[derive(Args)]
#[command(after_help = "\
The device, then of each model: its logits in exact beside the CPU's, its fast beside the CPU's exact, prompt and generation speed beside
the device's limits, what a LoRA costs. scripts/gpu-check adds the kernels' own tests.
Exit codes: 0 all passed, 1 something failed, 2 no GPU.")]
pub struct GpuCheckArgs {
    /// A model: a GGUF file; can be repeated
    #[arg(short, long = "model", value_name = "M.gguf")]
    pub models: Vec<PathBuf>,
    /// Which GPU [default: the one that has most memory free]
    #[arg(long, value_name = "N")]
    pub gpu: Option<usize>,
    /// The CPU's threads [default: one per physical core]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Tokens of the prompt whose speed is measured
    #[arg(short, long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    pub prompt: u32,
    /// Tokens to generate
    #[arg(short, long = "new", value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub n: u32,
    /// Repetitions; the median counts
    #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeat: u32,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

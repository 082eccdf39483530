//! What can be typed behind `graft train`.

use std::path::PathBuf;

use clap::Args;
use graft::DeviceChoice;
use serde::Deserialize;

/// `graft train`
#[derive(Args)]
#[command(after_help = "\
DATA is JSON Lines, each line one of {\"text\"}, {\"prompt\", \"completion\"} (the completion is learnt) or {\"messages\"} (what the
assistant says is learnt, through the model's chat template), or a plain .txt file. The folder that is written loads in PEFT, and with -a in Graft.
A stopped training (Ctrl-C, a crash) goes on with --resume and the same options, to the same result bit for bit.
Examples:
  graft train -m model.gguf --data train.jsonl -o ./my-lora
  graft train -m model.gguf --data train.jsonl --eval eval.jsonl -o ./my-lora --r 16 --alpha 32 --epochs 3 --lr 1e-4
  graft train -m model.gguf --data notes.txt -o ./notes --targets q_proj,v_proj --steps 200 --seq 256
  graft train -m model.gguf --data train.jsonl --r 16 --seq 1024 --plan
  graft train --config train.toml -m model.gguf --data train.jsonl -o ./my-lora
--json prints an object for each step, and one at the end, instead of a progress bar.")]
pub struct TrainArgs {
    /// The model to train on: a GGUF file
    #[arg(short, long, value_name = "M.gguf")]
    pub model: PathBuf,
    /// What to learn from
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// What to measure on, and learn nothing from
    #[arg(long, value_name = "FILE")]
    pub eval: Option<PathBuf>,
    /// The folder to write
    #[arg(short, long, value_name = "DIR", required_unless_present = "plan")]
    pub output: Option<PathBuf>,
    /// Options from a TOML file, by the same names; the command line comes first
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Go on from the last checkpoint in the folder
    #[arg(long)]
    pub resume: bool,
    /// Say what memory the training will take, by part, and end
    #[arg(long)]
    pub plan: bool,
    /// Print a JSON object a step, and one at the end
    #[arg(long)]
    pub json: bool,
    /// Threads to compute with [default: one per physical core]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// What runs the model: auto (an NVIDIA GPU if there is one), cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
    /// Layers on the GPU, the last ones, and with them the head [default: as many as fit into its memory with what training needs]
    #[arg(long, value_name = "N")]
    pub gpu_layers: Option<usize>,
    #[command(flatten)]
    pub options: TrainOptionArgs,
}

/// What may also stand in the file of `--config`.
#[derive(Args, Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
#[command(next_help_heading = "Training")]
pub struct TrainOptionArgs {
    /// lora, rslora, dora, adalora, loha, lokr, vera, miss, ia3, oft, boft, hra, road, ln_tuning, trainable_tokens, prompt_tuning or
    /// prefix_tuning [default: lora]
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,
    /// Rank of the updates [default: 8; of vera 256, of miss 64]
    #[arg(long, value_name = "N")]
    pub r: Option<usize>,
    /// Their scale is alpha / r [default: 16]
    #[arg(long, value_name = "X")]
    pub alpha: Option<f64>,
    /// Which modules: all-linear, names separated by commas, or a regular expression of the whole path [default: all-linear]
    #[arg(long, value_name = "WHICH")]
    pub targets: Option<String>,
    /// How updates of LoRA begin: default, gaussian, pissa or olora [default: default]
    #[arg(long, value_name = "HOW", conflicts_with = "init_from")]
    pub init: Option<String>,
    /// Of lora, rslora and adalora: share of the inputs that updates lose while they learn [default: 0, or what the adapter of --init-from has]
    #[arg(long, value_name = "P")]
    pub dropout: Option<f64>,
    /// Norms and tables (embed_tokens, lm_head) to train whole beside the adapter, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with = "init_from")]
    pub modules_to_save: Option<Vec<String>>,
    /// Of prompt_tuning and prefix_tuning: positions before the text [default: 20]
    #[arg(long, value_name = "N", conflicts_with = "init_from")]
    pub num_virtual_tokens: Option<usize>,
    /// Of prompt_tuning: begin with the tokens of this text, over and over, instead of random ones
    #[arg(long, value_name = "TEXT", conflicts_with = "init_from")]
    pub prompt_tuning_init_text: Option<String>,
    /// Of trainable_tokens: which, separated by commas
    #[arg(long, value_name = "IDS", value_delimiter = ',', conflicts_with = "init_from")]
    pub token_indices: Option<Vec<u32>>,
    /// Of oft: inputs of a block [default: 32]
    #[arg(long, value_name = "N", conflicts_with = "init_from")]
    pub oft_block_size: Option<usize>,
    /// Of boft: inputs of a block [default: 4]
    #[arg(long, value_name = "N", conflicts_with = "init_from")]
    pub boft_block_size: Option<usize>,
    /// Of road: outputs of a group [default: 64]
    #[arg(long, value_name = "N", conflicts_with = "init_from")]
    pub group_size: Option<usize>,
    /// Begin with the adapter in this folder
    #[arg(long, value_name = "DIR")]
    pub init_from: Option<PathBuf>,
    /// Times to go through the data [default: 3, unless --steps says otherwise]
    #[arg(long, value_name = "N", conflicts_with = "steps")]
    pub epochs: Option<u64>,
    /// Steps in all
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// Examples of a batch [default: 4]
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    /// Batches of a step [default: 1]
    #[arg(long, value_name = "N")]
    pub accumulate: Option<usize>,
    /// Tokens of an example at most [default: 512]
    #[arg(long, value_name = "N")]
    pub seq: Option<usize>,
    /// Several examples in one sequence; each sees only itself
    #[arg(long)]
    pub packing: bool,
    /// Learning rate [default: 2e-4]
    #[arg(long, value_name = "X")]
    pub lr: Option<f32>,
    /// cosine, linear or constant [default: cosine]
    #[arg(long, value_name = "HOW")]
    pub schedule: Option<String>,
    /// Steps that lead up to the learning rate [default: 3 % of all]
    #[arg(long, value_name = "N")]
    pub warmup: Option<usize>,
    /// Share of itself that a number loses in a step of learning rate 1 [default: 0]
    #[arg(long, value_name = "X")]
    pub weight_decay: Option<f32>,
    /// The most that the norm of the gradients may be; 0: whatever it is [default: 1]
    #[arg(long, value_name = "X")]
    pub clip: Option<f32>,
    /// B of low-rank updates learns so many times faster (LoRA+; 16 is usual)
    #[arg(long, value_name = "X")]
    pub lora_plus: Option<f32>,
    /// adamw, adamw8bit, sgd or lion [default: adamw]
    #[arg(long, value_name = "WHICH")]
    pub optimizer: Option<String>,
    /// fast: integer products where the model's blocks have them; exact: f32 throughout [default: fast]
    #[arg(long, value_name = "HOW")]
    pub precision: Option<String>,
    /// Take no more memory than this, such as 300M: what can be computed again is not kept, or an error says what is the least
    #[arg(long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// For all that is random [default: 42]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Leave out bad lines of the data, and count them, instead of ending
    #[arg(long)]
    pub skip_bad: bool,
    /// Steps between checkpoints [default: 50]
    #[arg(long, value_name = "N")]
    pub save_every: Option<usize>,
    /// Steps between measurements on --eval [default: ten in all]
    #[arg(long, value_name = "N")]
    pub eval_every: Option<usize>,
    /// End after so many measurements without a better one; the best is what is written
    #[arg(long, value_name = "N", requires = "eval")]
    pub early_stop: Option<usize>,
}

//! The commands that make something of adapters.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use graft::adapter::mix::{CombinationType, Combine, MajoritySign};

use super::ModelArgs;

/// `graft merge`
#[derive(Args)]
#[command(after_help = "\
The file has the model's metadata and tokenizer as they are and loads in Graft and in llama.cpp. Tensors without an adapter are copied;
the others are unpacked, changed and packed again, one at a time, so that as little as possible is lost of what they give for the inputs
that they met in a short text. Adapters that are not in the weights (prompts, aLoRA, repeated layers) are refused.
A merge that is killed leaves OUT.gguf as it was, and a file .graft-*.part beside it, which nothing reads: delete it.
Examples:
  graft merge -m model.gguf -a ./my-lora -o merged.gguf
  graft merge -m model.gguf -a ./verse@0.7 -a ./json@0.3 --type q8_0 -o merged.gguf
  graft merge -m model.gguf -a ./my-lora --text like-what-it-will-read.txt -o merged.gguf
  graft merge -m model.gguf -a ./my-lora --kl 0.005 -o merged.gguf --json | jq .kl
--json prints {\"output\", \"bytes\", \"tensors\": [{\"name\", \"from\", \"to\", \"error\": root mean square of what packing changed,
relative}], \"kl\": {\"mean\", \"max\", \"same_top\", \"tokens\"}}: how far its predictions of a short text are from the live adapters'.")]
pub struct MergeArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// The type of the tensors that change: keep (as they are), f32, f16, bf16, q8_0, q6_k, q5_k, q4_k, q5_1, q5_0, q4_1, q4_0
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Instead: the smallest types, from those of the model on, whose mean KL from the live adapters is at most this
    #[arg(long, value_name = "KL", conflicts_with = "kind")]
    pub kl: Option<f64>,
    /// A text like those that the model will read, at least 32 tokens of it: the first half (512 tokens at most) shows which inputs matter,
    /// the second measures the result [default: short texts of Graft's own]
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Pack each block as near to its values as it gets, whatever inputs it meets: quicker, and worse
    #[arg(long)]
    pub plain: bool,
    /// Do not measure how far the result is from the live adapters
    #[arg(long)]
    pub no_check: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// The file to write; it appears when it is complete
    #[arg(short, long, value_name = "OUT.gguf")]
    pub output: PathBuf,
}

/// `graft combine`
#[derive(Args)]
#[command(after_help = "\
The result is a folder as PEFT saves it, with the numbers of PEFT's add_weighted_adapter and the scale 1.
  cat               the exact sum; the ranks add up
  svd               the best approximation of the sum of a rank that you choose; of one adapter: a smaller one
  linear            sums the factors: small, but a rough mix; the only type for IA3
  ties              drops small entries, lets the adapters elect a sign for each, takes the mean of those that have it
  dare_linear       drops random entries, scales the others up, sums; dare_ties: then elects signs
  magnitude_prune   drops small entries, sums
linear, ties, dare and magnitude_prune work on the factors, whose ranks must be the same; with _svd they work on the whole
updates, slower and better, and approximate the result.
Examples:
  graft combine -a ./verse@0.7 -a ./json@0.3 --type cat -o ./both
  graft combine -a ./verse -a ./json --type ties_svd --density 0.3 --rank 16 -o ./both
  graft combine -a ./verse --type svd --rank 4 -o ./smaller --json | jq .captured
--json prints {\"output\", \"method\", \"type\", \"adapters\": [{\"name\", \"dir\", \"weight\"}], \"rank\", \"parameters\", \"bytes\",
\"captured\": the share of the squared sum that the rank keeps (svd types), \"sites\": [{\"module\", \"adapters\", \"captured\"}]}.")]
pub struct CombineArgs {
    /// An adapter folder, optionally with a name before and a weight behind; can be repeated
    #[arg(short, long = "adapter", value_name = "[NAME=]DIR[@WEIGHT]", required = true)]
    pub adapters: Vec<String>,
    /// How to combine
    #[arg(long = "type", value_name = "TYPE", value_parser = combination_type())]
    pub kind: CombinationType,
    /// The share of entries to keep, above 0 to 1; ties, dare and magnitude_prune need it
    #[arg(long, value_name = "D", allow_negative_numbers = true)]
    pub density: Option<f64>,
    /// How ties finds a sign: that of the sum, or that of most adapters [default: total]
    #[arg(long, value_name = "total|frequency", value_parser = majority_sign())]
    pub majority_sign: Option<MajoritySign>,
    /// The rank of the result, for svd types [default: the largest of the adapters]
    #[arg(long, value_name = "N")]
    pub rank: Option<usize>,
    /// Limit the result's entries to this quantile of them, above 0.5 to 1, for svd types
    #[arg(long, value_name = "Q", allow_negative_numbers = true)]
    pub svd_clamp: Option<f64>,
    /// Start of the random numbers, for dare types [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// The folder to make; it must not exist, or be empty
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
}

impl CombineArgs {
    pub fn options(&self) -> Combine {
        Combine {
            kind: self.kind,
            density: self.density,
            majority_sign: self.majority_sign,
            svd_rank: self.rank,
            svd_clamp: self.svd_clamp,
            seed: self.seed,
        }
    }
}

/// PEFT's names.
fn combination_type() -> impl TypedValueParser<Value = CombinationType> {
    let of = |name: String| CombinationType::ALL.iter().find(|t| t.0 == name).map(|t| t.1);
    PossibleValuesParser::new(CombinationType::ALL.map(|t| t.0)).try_map(move |n| of(n).ok_or("unknown type"))
}

fn majority_sign() -> impl TypedValueParser<Value = MajoritySign> {
    PossibleValuesParser::new(["total", "frequency"]).map(|name| match name.as_str() {
        "frequency" => MajoritySign::Frequency,
        _ => MajoritySign::Total,
    })
}

/// Type of the numbers in a file of factors.
#[derive(Clone, Copy, ValueEnum)]
pub enum FactorType {
    F16,
    F32,
}

/// `graft export-lora`
#[derive(Args)]
#[command(after_help = "\
For methods that add a product of two small matrices to weights: LoRA, rsLoRA, VeRA, AdaLoRA, LoHa of a low rank, aLoRA with
its tokens. Others: graft to-lora first, or graft merge. llama.cpp takes no update of an embedding that is also the head.
Examples:
  graft export-lora -m model.gguf -a ./my-lora -o my-lora.gguf
  graft run -m model.gguf -a my-lora.gguf -p \"Once\"
  llama-cli -m model.gguf --lora my-lora.gguf -p \"Once\"
--json prints {\"file\", \"method\", \"sites\", \"ranks\", \"alpha\", \"parameters\", \"bytes\"}.")]
pub struct ExportLoraArgs {
    /// The model that it is for: names, shapes and the order of rows come from there
    #[arg(short, long, value_name = "M.gguf")]
    pub model: PathBuf,
    /// The adapter: a folder as PEFT saves it, or a GGUF file
    #[arg(short, long, value_name = "DIR")]
    pub adapter: PathBuf,
    /// The file to write
    #[arg(short, long, value_name = "F.gguf")]
    pub output: PathBuf,
    /// Type of the numbers
    #[arg(long = "type", value_name = "TYPE", default_value = "f16")]
    pub factors: FactorType,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `graft to-lora`
#[derive(Args)]
#[command(after_help = "\
For every method that adds to weights (LoHa, LoKr, VeRA, AdaLoRA, MiSS, rsLoRA, PiSSA, a LoRA of a higher rank, a GGUF file): what
it adds to each module is cut to its largest singular values. What multiplies (DoRA, IA3, OFT, BOFT, HRA, RoAd) or replaces
parameters cannot be written so.
Examples:
  graft to-lora -m model.gguf -a ./my-loha -o ./my-lora                 ranks as needed for 99 % of each update's energy
  graft to-lora -m model.gguf -a ./my-lokr -o ./my-lora --rank 16
  graft to-lora -m model.gguf -a my-lora.gguf -o ./my-lora --energy 1   a GGUF file as a PEFT folder
--json prints {\"adapter\", \"method\", \"energy\": {\"mean\", \"least\"}, \"modules\": [{\"module\", \"rank\", \"energy\"}]}.")]
pub struct ToLoraArgs {
    /// The model that it is for
    #[arg(short, long, value_name = "M.gguf")]
    pub model: PathBuf,
    /// The adapter: a folder as PEFT saves it, or a GGUF file
    #[arg(short, long, value_name = "DIR")]
    pub adapter: PathBuf,
    /// The folder to write
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// This rank in every module
    #[arg(long, value_name = "N", conflicts_with = "energy")]
    pub rank: Option<usize>,
    /// In each module the smallest rank that keeps this share of the update's squared singular values
    #[arg(long, value_name = "SHARE", default_value_t = 0.99)]
    pub energy: f64,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

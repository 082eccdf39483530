//! Text to token ids and back, and chat templates.
//!
//! A tokenizer comes from a GGUF file's metadata ([`Tokenizer::from_gguf`]) or from a Hugging Face `tokenizer.json`
//! ([`Tokenizer::from_file`]). The way of a text to ids:
//!
//! 1. `special` cuts out the tokens that are matched as text (control tokens, user-defined ones);
//! 2. what lies between goes to the model: `bpe` (byte-level: split by `pre`, then merged), `spm` (SentencePiece:
//!    merged as a whole), or `hf` (the `tokenizers` crate: `tokenizer.json`, unigram);
//! 3. the model's rules add BOS and EOS.
//!
//! Back it is one table: `vocab` holds the bytes of every id, and `decode` puts out complete characters.
//! To add a pre-tokenizer: one row in `pre.rs`.

mod alphabet;
mod bpe;
mod chat;
mod clock;
mod decode;
mod facts;
mod hf;
mod merge;
mod pre;
mod python;
mod special;
mod split;
mod spm;
#[cfg(test)]
mod tests;
mod vocab;

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::Metadata;
use facts::{Facts, Kind};
use special::{Part, Special};
use vocab::Vocab;

pub use chat::{ChatTemplate, Message};
pub use decode::DecodeStream;

/// How [`Tokenizer::encode`] treats a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Add the begin and end tokens that the model's own rules ask for (Llama and Gemma: a BOS in front; Qwen2, SmolLM2: none).
    pub add_bos_eos: bool,
    /// Recognise control tokens written out in the text (`<|im_start|>`). Without it they are plain text.
    pub parse_special: bool,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        EncodeOptions {
            add_bos_eos: true,
            parse_special: true,
        }
    }
}

/// A model's tokenizer. Immutable, shared by threads, cheap to clone.
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

struct Inner {
    vocab: Vocab,
    encoder: Encoder,
    rules: Rules,
    /// Ids that end a generation, sorted.
    ends: Vec<u32>,
}

/// Facts about a tokenizer beside its vocabulary and its model.
#[derive(Clone, Debug, Default)]
struct Rules {
    bos: Option<u32>,
    eos: Option<u32>,
    add_bos: bool,
    add_eos: bool,
    /// Tokens are written in GPT-2's byte alphabet; only of interest while a vocabulary is built.
    byte_level: bool,
    /// Bytes outside of characters have tokens of their own, so every other token is whole characters.
    byte_tokens: bool,
    /// Decoding drops the space that encoding put in front.
    strip_first_space: bool,
}

enum Encoder {
    Bpe { bpe: Box<bpe::Bpe>, special: Specials },
    Spm { spm: spm::Spm, special: Specials },
    Hf(hf::Hf),
}

/// The searchers for special tokens, with and without the control tokens.
struct Specials {
    all: Special,
    user: Special,
}

impl Specials {
    fn new(vocab: &Vocab, marks: bool) -> Result<Self> {
        Ok(Specials {
            all: Special::new(vocab, true, marks)?,
            user: Special::new(vocab, false, marks)?,
        })
    }

    fn pick(&self, opts: EncodeOptions) -> &Special {
        if opts.parse_special { &self.all } else { &self.user }
    }
}

/// Tokens that end a turn or a message in models whose metadata do not say so. (Not `</s>`: in Gemma it is an HTML tag.)
const WELL_KNOWN_ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "<|eot|>",
    "<|return|>",
    "<|call|>",
    "<|end_of_turn|>",
    "<｜end▁of▁sentence｜>",
];

impl Tokenizer {
    /// Builds the tokenizer that a GGUF file's `tokenizer.ggml.*` metadata describe: byte-level BPE (`gpt2`),
    /// SentencePiece BPE (`llama`) or unigram (`t5`). Another model or pre-tokenizer is an unsupported-error.
    pub fn from_gguf(meta: &Metadata) -> Result<Self> {
        let facts = Facts::read(meta)?;
        Self::from_facts(&facts).map_err(|e| meta.error(e, "tokenizer.ggml.tokens"))
    }

    /// Reads a Hugging Face `tokenizer.json`. The begin and end tokens' names come from a `tokenizer_config.json`
    /// beside it, else well-known names are tried.
    pub fn from_file(path: &Path) -> Result<Self> {
        let (vocab, hf, rules) = hf::read(path)?;
        Ok(Self::new(vocab, Encoder::Hf(hf), rules, &[]))
    }

    fn from_facts(facts: &Facts<'_>) -> Result<Self> {
        facts.check()?;
        let mut rules = Rules {
            bos: facts.bos,
            eos: facts.eos,
            ..Rules::default()
        };
        let (vocab, encoder, add_bos, add_eos) = match facts.model {
            "gpt2" => {
                let vocab = bpe::vocab(facts)?;
                let bpe = Box::new(bpe::Bpe::new(facts, &vocab)?);
                let special = Specials::new(&vocab, false)?;
                let add_bos = pre::by_name(facts.pre)?.add_bos;
                (vocab, Encoder::Bpe { bpe, special }, add_bos, false)
            }
            "llama" => {
                // SentencePiece's own defaults.
                let in_range = |id: u32| Some(id).filter(|&id| (id as usize) < facts.tokens.len());
                rules.bos = facts.bos.or_else(|| in_range(1));
                rules.eos = facts.eos.or_else(|| in_range(2));
                let vocab = spm::vocab(facts)?;
                let spm = spm::Spm::new(facts, &vocab)?;
                rules.byte_tokens = true;
                rules.strip_first_space = spm.strips_first_space();
                let special = Specials::new(&vocab, true)?;
                (vocab, Encoder::Spm { spm, special }, true, false)
            }
            "t5" | "unigram" => {
                rules.byte_tokens = true;
                rules.strip_first_space = facts.add_space_prefix.unwrap_or(true);
                let vocab = spm::vocab(facts)?;
                (vocab, Encoder::Hf(hf::unigram(facts)?), false, true)
            }
            other => {
                let e = Error::unsupported("the tokenizer model is not known").item("tokenizer.ggml.model");
                let e = e.expected("\"gpt2\", \"llama\" or \"t5\"");
                return Err(e.found(format_args!("\"{other}\"")));
            }
        };
        rules.add_bos = facts.add_bos.unwrap_or(add_bos);
        rules.add_eos = facts.add_eos.unwrap_or(add_eos);
        Ok(Self::new(vocab, encoder, rules, &facts.other_ends))
    }

    fn new(vocab: Vocab, encoder: Encoder, rules: Rules, other_ends: &[u32]) -> Self {
        let mut ends: Vec<u32> = rules.eos.into_iter().chain(other_ends.iter().copied()).collect();
        let known = WELL_KNOWN_ENDS.iter().filter_map(|t| vocab.named_id(t.as_bytes()));
        ends.extend(known.filter(|&id| matches!(vocab.kind(id), Some(Kind::Control | Kind::User))));
        ends.sort_unstable();
        ends.dedup();
        Tokenizer(Arc::new(Inner {
            vocab,
            encoder,
            rules,
            ends,
        }))
    }

    /// The ids of `text`.
    ///
    /// User-defined tokens (Gemma's runs of line breaks, Qwen's `<tool_call>`) are always found in the text; control
    /// tokens only with [`EncodeOptions::parse_special`]. A text of 4 GB or more is a limit-error.
    pub fn encode(&self, text: &str, opts: EncodeOptions) -> Result<Vec<u32>> {
        let Inner { vocab, .. } = &*self.0;
        // Positions are 32-bit, and normalization may add a few bytes.
        if text.len() >= (u32::MAX / 4) as usize {
            let e = Error::limit("the text is too long to tokenize");
            return Err(e.expected("under 1 GB").found(format_args!("{} bytes", text.len())));
        }
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        match &self.0.encoder {
            Encoder::Bpe { bpe, special } => special.pick(opts).split(text, |part| match part {
                Part::Text(text) => bpe.encode(vocab, text, &mut ids),
                Part::Token(id) => ids.push(id),
            }),
            Encoder::Spm { spm, special } => special.pick(opts).split(text, |part| match part {
                Part::Text(text) => spm.encode(vocab, text, &mut ids),
                Part::Token(id) => ids.push(id),
            }),
            Encoder::Hf(hf) => ids = hf.encode(text, opts)?,
        }
        if opts.add_bos_eos {
            self.surround(&mut ids);
        }
        Ok(ids)
    }

    /// Adds BOS and EOS where the model's rules say so.
    fn surround(&self, ids: &mut Vec<u32>) {
        let rules = &self.0.rules;
        if let Some(bos) = rules.bos.filter(|_| rules.add_bos) {
            ids.insert(0, bos);
        }
        if let Some(eos) = rules.eos.filter(|_| rules.add_eos) {
            ids.push(eos);
        }
    }

    /// The text of `ids`, without control tokens if `skip_special`. Bytes that are not UTF-8 become U+FFFD. An id
    /// outside the vocabulary is an error.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        let mut stream = DecodeStream::new(self.clone(), skip_special, true);
        for &id in ids {
            stream.append(id)?;
        }
        stream.flush();
        Ok(stream.into_text())
    }

    /// Decoding token by token, in complete characters only.
    pub fn stream(&self, skip_special: bool) -> DecodeStream {
        DecodeStream::new(self.clone(), skip_special, false)
    }

    /// The number of ids.
    pub fn vocab_size(&self) -> usize {
        self.0.vocab.len()
    }

    /// The bytes that a token stands for in a text: not always whole characters. `None` outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.0.vocab.kind(id).map(|_| self.0.vocab.piece(id))
    }

    /// The id of the token whose text is `token`: control and user-defined tokens first, then those of plain text (with
    /// a space as a space).
    pub fn id_of(&self, token: &str) -> Option<u32> {
        let vocab = &self.0.vocab;
        let bytes = token.as_bytes();
        vocab.named_id(bytes).or_else(|| vocab.text_id(bytes))
    }

    /// The begin-of-sequence id.
    pub fn bos(&self) -> Option<u32> {
        self.0.rules.bos
    }

    /// The token that texts of this model begin with: what [`EncodeOptions::add_bos_eos`] puts in front.
    pub fn begin_token(&self) -> Option<u32> {
        self.bos().filter(|_| self.0.rules.add_bos)
    }

    /// The end-of-sequence id.
    pub fn eos(&self) -> Option<u32> {
        self.0.rules.eos
    }

    /// Whether generation stops at `id`: end of sequence, of turn, of message.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.0.ends.binary_search(&id).is_ok()
    }

    /// Whether `id` is a control token, which `skip_special` leaves out.
    pub fn is_special(&self, id: u32) -> bool {
        matches!(self.0.vocab.kind(id), Some(Kind::Control | Kind::Unknown))
    }

    fn vocab(&self) -> &Vocab {
        &self.0.vocab
    }

    fn has_byte_tokens(&self) -> bool {
        self.0.rules.byte_tokens
    }

    fn strips_first_space(&self) -> bool {
        self.0.rules.strip_first_space
    }
}

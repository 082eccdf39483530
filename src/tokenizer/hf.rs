//! Tokenizers that the `tokenizers` crate runs as it is: any `tokenizer.json`, and unigram models from GGUF.

use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::{Precompiled, Replace, Sequence, Strip, replace::ReplacePattern};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{AddedToken, NormalizerWrapper, Tokenizer as Crate};

use super::alphabet::Alphabet;
use super::facts::{Facts, Kind};
use super::spm::{SPACE, byte_of};
use super::vocab::Vocab;
use super::{EncodeOptions, Rules};
use crate::error::{Error, Result};

/// Larger files are refused: the largest known (Gemma 3's) has 33 MB.
const MAX_FILE_BYTES: u64 = 256 << 20;

pub(super) struct Hf {
    parsing: Box<Crate>,
    /// The same, taking special tokens in the text as plain text; made when it is first asked for.
    plain: OnceLock<Box<Crate>>,
}

impl Hf {
    fn new(parsing: Crate) -> Self {
        Hf {
            parsing: Box::new(parsing),
            plain: OnceLock::new(),
        }
    }

    /// The ids of `text`. With a post-processor in the file, that adds the begin and end tokens.
    pub fn encode(&self, text: &str, opts: EncodeOptions) -> Result<Vec<u32>> {
        let tokenizer = if opts.parse_special {
            &self.parsing
        } else {
            self.plain.get_or_init(|| {
                let mut plain = self.parsing.clone();
                plain.set_encode_special_tokens(true);
                plain
            })
        };
        let encoding = tokenizer.encode_fast(text, opts.add_bos_eos);
        let encoding = encoding.map_err(|e| Error::invalid(format!("the text cannot be tokenized: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// Reads a `tokenizer.json` and, where it stands beside it, the names of the begin and end tokens in `tokenizer_config.json`.
pub(super) fn read(path: &Path) -> Result<(Vocab, Hf, Rules)> {
    let bytes = read_limited(path)?;
    let json: Value = serde_json::from_slice(&bytes).map_err(|e| invalid(path, &e))?;
    let tokenizer = Crate::from_bytes(&bytes).map_err(|e| invalid(path, &e))?;
    drop(bytes);
    let mut rules = decoder_rules(&json["decoder"]).map_err(|e| e.file(path))?;
    let vocab = vocab(&tokenizer, &rules).map_err(|e| e.file(path))?;

    let config = path.with_file_name("tokenizer_config.json");
    let config: Value = match read_limited(&config) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| invalid(&config, &e))?,
        Err(_) => Value::Null,
    };
    let named = |key: &str| {
        let value = &config[key];
        let text = value.as_str().or_else(|| value["content"].as_str())?;
        tokenizer.token_to_id(text)
    };
    // Only control tokens: some vocabularies have `<s>` as a piece of HTML.
    let control = |id: &u32| vocab.kind(*id) == Some(Kind::Control);
    let known = |texts: &[&str]| {
        let mut ids = texts.iter().filter_map(|t| vocab.named_id(t.as_bytes()));
        ids.find(control)
    };
    rules.bos = named("bos_token").or_else(|| known(&["<s>", "<bos>", "<|begin_of_text|>"]));
    rules.eos = named("eos_token").or_else(|| known(&["</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>"]));
    Ok((vocab, Hf::new(tokenizer), rules))
}

fn read_limited(path: &Path) -> Result<Vec<u8>> {
    let io = |e| Error::io(path, "cannot read", &e);
    // A device or a pipe has no size that could be asked for.
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(io)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let e = Error::limit("the file is too large").file(path);
        return Err(e.expected(format_args!("at most {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

fn invalid(path: &Path, e: &dyn std::fmt::Display) -> Error {
    Error::invalid(format!("not a tokenizer: {e}")).file(path)
}

/// How ids become text, from the `decoder` of a `tokenizer.json`: the known ones are byte-level, and SentencePiece's
/// marks with or without byte tokens and a first space that is dropped.
fn decoder_rules(decoder: &Value) -> Result<Rules> {
    let steps: Vec<&Value> = match decoder["type"].as_str() {
        Some("Sequence") => decoder["decoders"].as_array().into_iter().flatten().collect(),
        _ => vec![decoder],
    };
    let mut rules = Rules::default();
    for step in steps {
        match step["type"].as_str() {
            Some("ByteLevel") => rules.byte_level = true,
            Some("ByteFallback") => rules.byte_tokens = true,
            Some("Fuse") => {}
            Some("Replace") if step["pattern"]["String"] == "▁" && step["content"] == " " => {}
            Some("Strip") if step["content"] == " " && step["start"] == 1 && step["stop"] == 0 => {
                rules.strip_first_space = true;
            }
            Some("Metaspace") => rules.strip_first_space = step["prepend_scheme"] != "never",
            other => {
                let e = Error::unsupported("the decoder is not known").item("decoder");
                return Err(e.found(other.unwrap_or("none")));
            }
        }
    }
    Ok(rules)
}

/// The vocabulary's tokens in the order of their ids, as the bytes that they decode to.
fn vocab(tokenizer: &Crate, rules: &Rules) -> Result<Vocab> {
    let mut tokens: Vec<(u32, String)> = tokenizer.get_vocab(true).into_iter().map(|(t, id)| (id, t)).collect();
    tokens.sort_unstable();
    let added = tokenizer.get_added_tokens_decoder();
    let alphabet = Alphabet::new();
    let mut vocab = Vocab::with_capacity(tokens.len());
    let mut piece = Vec::new();
    for (id, token) in &tokens {
        let next = vocab.len();
        let id = usize::try_from(*id).unwrap_or(usize::MAX);
        if id < next {
            continue;
        }
        // Ids without a token are rare gaps; a file that has mostly gaps is not a tokenizer.
        if id - next > tokens.len() + 4096 {
            let e = Error::invalid("the ids of the tokens leave a large gap").item("model.vocab");
            return Err(e.expected(next).found(id));
        }
        for _ in next..id {
            vocab.push(b"", Kind::Unused, false)?;
        }
        let added = added.get(&u32::try_from(id).unwrap_or(u32::MAX));
        let byte = byte_of(token).filter(|_| rules.byte_tokens);
        let kind = match (added, byte) {
            (Some(t), _) if t.special => Kind::Control,
            (Some(_), _) => Kind::User,
            (None, Some(_)) => Kind::Byte,
            (None, None) => Kind::Normal,
        };
        piece.clear();
        if let Some(b) = byte {
            piece.push(b);
        } else if !(rules.byte_level && added.is_none() && alphabet.decode(token, &mut piece)) {
            piece.clear();
            piece.extend_from_slice(
                if rules.byte_level {
                    token.as_bytes().into()
                } else {
                    std::borrow::Cow::from(token.replace(SPACE, " ").into_bytes())
                }
                .as_ref(),
            );
        }
        vocab.push(&piece, kind, kind == Kind::Normal)?;
    }
    Ok(vocab)
}

/// A unigram model (`tokenizer.ggml.model` = `t5`), set up as Hugging Face's converter sets up SentencePiece's.
pub(super) fn unigram(facts: &Facts<'_>) -> Result<Hf> {
    let bad = |e: &dyn std::fmt::Display| Error::invalid(format!("not a unigram vocabulary: {e}"));
    if facts.scores.is_empty() {
        let e = bad(&"it has no scores").item("tokenizer.ggml.scores");
        return Err(e.expected(facts.tokens.len()).found(0));
    }
    if let Some(i) = facts.tokens.iter().position(|t| t.is_empty()) {
        return Err(bad(&format_args!("token {i} is empty")).item("tokenizer.ggml.tokens"));
    }
    let entries = facts.tokens.iter().zip(&facts.scores);
    let entries = entries.map(|(t, &s)| ((*t).to_owned(), f64::from(s))).collect();
    // T5's own default; without an unknown token some texts could not be tokenized at all.
    let unknown = facts.unknown.map_or(2, |id| id as usize);
    if unknown >= facts.tokens.len() {
        let e = bad(&"it has no unknown token").item("tokenizer.ggml.unknown_token_id");
        return Err(e.expected(format_args!("below {}", facts.tokens.len())).found(unknown));
    }
    let bytes = facts.kinds.contains(&Kind::Byte);
    let mut tokenizer = Crate::new(Unigram::from(entries, Some(unknown), bytes).map_err(|e| bad(&e))?);

    let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
    if !facts.charsmap.is_empty() {
        normalizers.push(Precompiled::from(&facts.charsmap).map_err(|e| bad(&e))?.into());
    }
    if facts.remove_extra_whitespaces {
        normalizers.push(Strip::new(false, true).into());
        let runs = Replace::new(ReplacePattern::Regex(" {2,}".into()), "▁").map_err(|e| bad(&e))?;
        normalizers.push(runs.into());
    }
    if !normalizers.is_empty() {
        tokenizer.with_normalizer(Some(Sequence::new(normalizers)));
    }
    let prepend = if facts.add_space_prefix.unwrap_or(true) {
        PrependScheme::Always
    } else {
        PrependScheme::Never
    };
    tokenizer.with_pre_tokenizer(Some(Metaspace::new(SPACE, prepend, true)));
    let added = facts.tokens.iter().zip(&facts.kinds);
    let of = |kind: Kind, special: bool| -> Vec<AddedToken> {
        let tokens = added.clone().filter(|&(_, &k)| k == kind);
        tokens
            .map(|(t, _)| AddedToken::from(*t, special).normalized(false))
            .collect()
    };
    tokenizer.add_special_tokens(&of(Kind::Control, true));
    tokenizer.add_tokens(&of(Kind::User, false));
    Ok(Hf::new(tokenizer))
}

//! Text to token ids and back, and chat templates.

mod chat;

use std::path::Path;
use std::sync::Arc;

use crate::error::Result;

pub use chat::{ChatTemplate, Message};

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
pub struct Tokenizer(Arc<()>);

impl Tokenizer {
    /// Builds the tokenizer that a GGUF file's `tokenizer.ggml.*` metadata describe.
    pub fn from_gguf(_meta: &crate::format::Metadata) -> Result<Self> {
        todo!()
    }
    /// Reads a Hugging Face `tokenizer.json`.
    pub fn from_file(_path: &Path) -> Result<Self> {
        todo!()
    }
    /// The ids of `text`.
    pub fn encode(&self, _text: &str, _opts: EncodeOptions) -> Result<Vec<u32>> {
        todo!()
    }
    /// The text of `ids`. Bytes that are not UTF-8 become U+FFFD. An id outside the vocabulary is an error.
    pub fn decode(&self, _ids: &[u32], _skip_special: bool) -> Result<String> {
        todo!()
    }
    /// Decoding token by token, in complete characters only.
    pub fn stream(&self, _skip_special: bool) -> DecodeStream {
        todo!()
    }
    /// The number of ids.
    pub fn vocab_size(&self) -> usize {
        todo!()
    }
    /// The bytes that a token stands for.
    pub fn token_bytes(&self, _id: u32) -> Option<&[u8]> {
        todo!()
    }
    /// The id of the token whose text is `token` (special tokens first).
    pub fn id_of(&self, _token: &str) -> Option<u32> {
        todo!()
    }
    /// The begin-of-sequence id.
    pub fn bos(&self) -> Option<u32> {
        todo!()
    }
    /// The end-of-sequence id.
    pub fn eos(&self) -> Option<u32> {
        todo!()
    }
    /// Whether generation stops at `id`: end of sequence, of turn, of message.
    pub fn is_end_of_generation(&self, _id: u32) -> bool {
        todo!()
    }
    /// Whether `id` is a control token (not shown with `skip_special`).
    pub fn is_special(&self, _id: u32) -> bool {
        todo!()
    }
}

/// The state of decoding token by token; see [`Tokenizer::stream`].
pub struct DecodeStream {
    _tokenizer: Tokenizer,
}

impl DecodeStream {
    /// Takes the next id and gives the characters that are complete now (often none for a piece of a character).
    pub fn push(&mut self, _id: u32) -> Result<&str> {
        todo!()
    }
    /// Whatever is left: an unfinished character as U+FFFD.
    pub fn finish(self) -> String {
        todo!()
    }
}

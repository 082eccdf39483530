//! Chat templates: the Jinja dialect that transformers gives them, on minijinja.

use serde::{Deserialize, Serialize};

use super::Tokenizer;
use crate::error::Result;

/// One turn of a conversation, as a template sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, …
    pub role: String,
    /// The text.
    #[serde(default)]
    pub content: String,
    /// Everything else (`tool_calls`, `name`, …), handed to the template as it is.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl Message {
    /// A message of `role` that says `content`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message {
            role: role.into(),
            content: content.into(),
            extra: serde_json::Map::new(),
        }
    }
}

/// A compiled chat template.
pub struct ChatTemplate {
    _private: (),
}

impl ChatTemplate {
    /// The template in `tokenizer.chat_template`; `None` where the file has none.
    pub fn from_gguf(_meta: &crate::format::Metadata, _tokenizer: &Tokenizer) -> Result<Option<Self>> {
        todo!()
    }
    /// Compiles `source`; `bos` and `eos` are the texts of the model's `bos_token` and `eos_token` (empty where it has none).
    pub fn new(_source: &str, _bos: &str, _eos: &str) -> Result<Self> {
        todo!()
    }
    /// The prompt for `messages`.
    pub fn render(
        &self,
        _messages: &[Message],
        _add_generation_prompt: bool,
        _tools: Option<&serde_json::Value>,
    ) -> Result<String> {
        todo!()
    }
}

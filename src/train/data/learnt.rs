//! What is learnt from a row: tokens, and which of them.
//!
//! Texts become tokens as in TRL's `SFTTrainer` (1.16): a text, or a completion, ends with the end-of-sequence token unless it ends
//! so already; prompt and completion are encoded as one text, and the completion begins where its tokens part from those of the
//! prompt alone, so that a token that lies across the border is learnt; what is too long is cut, and its beginning kept. One thing
//! is different: tokens behind the last one that is learnt are left out, because nothing depends on them.

use serde_json::Value;

use super::chat;
use crate::error::{Error, Result};
use crate::runtime::Model;
use crate::tokenizer::{EncodeOptions, Message, Tokenizer};
use crate::train::Example;

/// All of `text` and the end-of-sequence token, as an example.
///
/// # Errors
/// `Invalid` for a text without tokens, `Unsupported` for a model without a tokenizer or an end-of-sequence token.
pub fn text(model: &Model, text: &str) -> Result<Example> {
    let (tokens, learn) = text_parts(model, text, true)?;
    Ok(Example::new(tokens, learn)?.cut(usize::MAX)?.0)
}

/// `completion` and the end-of-sequence token, to be learnt behind `prompt`, which is not.
///
/// # Errors
/// As [`text`].
pub fn completion(model: &Model, prompt: &str, completion: &str) -> Result<Example> {
    let (tokens, learn) = completion_parts(model, prompt, completion)?;
    Ok(Example::new(tokens, learn)?.cut(usize::MAX)?.0)
}

/// What the assistant says in a conversation, each time with what ends its turn, in the model's chat template.
///
/// # Errors
/// `Invalid` for a conversation in which it says nothing or that the template rejects; `Unsupported` for a model without a chat
/// template, and one whose template hides what the assistant says (see `chat.rs`); `Limit` for more than 1024 turns of the assistant.
pub fn messages(model: &Model, messages: &[Message], tools: Option<&Value>) -> Result<Example> {
    let (tokens, learn) = messages_parts(model, messages, tools, usize::MAX)?;
    Ok(Example::new(tokens, learn)?.cut(usize::MAX)?.0)
}

/// The tokens of a text as they stand alone: behind a begin token where the model wants one.
pub(in crate::train) fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let options = EncodeOptions {
        add_bos_eos: false,
        parse_special: true,
    };
    let mut tokens = tokenizer.encode(text, options)?;
    if let Some(bos) = tokenizer.begin_token() {
        tokens.insert(0, bos);
    }
    Ok(tokens)
}

/// How many tokens two sequences have in common at their beginning.
pub(super) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Adds the end-of-sequence token, unless the last token ends a generation already.
fn end(tokenizer: &Tokenizer, tokens: &mut Vec<u32>) -> Result<()> {
    if !tokens.last().is_some_and(|id| tokenizer.is_end_of_generation(*id)) {
        tokens.push(tokenizer.eos().ok_or_else(|| {
            Error::unsupported("this model has no end-of-sequence token: it cannot learn where a text ends")
                .item("tokenizer.ggml.eos_token_id")
        })?);
    }
    Ok(())
}

pub(super) fn text_parts(model: &Model, text: &str, ends: bool) -> Result<(Vec<u32>, Vec<bool>)> {
    if text.is_empty() {
        return Err(Error::invalid("the text is empty").item("text"));
    }
    let tokenizer = model.tokenizer()?;
    let mut tokens = encode(tokenizer, text)?;
    if ends {
        end(tokenizer, &mut tokens)?;
    }
    let learn = vec![true; tokens.len()];
    Ok((tokens, learn))
}

pub(super) fn completion_parts(model: &Model, prompt: &str, completion: &str) -> Result<(Vec<u32>, Vec<bool>)> {
    let tokenizer = model.tokenizer()?;
    let (mut tokens, start) = continued(tokenizer, prompt, completion)?;
    end(tokenizer, &mut tokens)?;
    let learn = (0..tokens.len()).map(|i| i >= start).collect();
    Ok((tokens, learn))
}

pub(super) fn messages_parts(
    model: &Model,
    messages: &[Message],
    tools: Option<&Value>,
    seq: usize,
) -> Result<(Vec<u32>, Vec<bool>)> {
    chat::parts(model.need_chat_template()?, model.tokenizer()?, messages, tools, seq)
}

/// The tokens of `prompt` and what follows it, and the index of the first that is not the prompt's.
pub(in crate::train) fn continued(tokenizer: &Tokenizer, prompt: &str, text: &str) -> Result<(Vec<u32>, usize)> {
    let tokens = encode(tokenizer, &[prompt, text].concat())?;
    let start = common(&encode(tokenizer, prompt)?, &tokens);
    Ok((tokens, start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_and_the_beginning_kept() {
        let cut = |learn: &[u8], seq| {
            let tokens = (0..learn.len() as u32).collect();
            let example = Example::new(tokens, learn.iter().map(|l| *l == 1).collect()).unwrap();
            let made = example.cut(seq);
            made.map(|(e, cut)| (e.tokens().len(), e.targets(), cut))
        };
        assert_eq!(cut(&[1, 1, 1, 1], 9).unwrap(), (4, 3, false));
        assert_eq!(cut(&[1, 1, 1, 1], 4).unwrap(), (4, 3, false));
        assert_eq!(cut(&[1, 1, 1, 1], 3).unwrap(), (3, 2, true));
        assert_eq!(
            cut(&[0, 1, 0, 0, 1, 0], 6).unwrap(),
            (5, 2, false),
            "nothing depends on the last"
        );
        assert_eq!(cut(&[0, 1, 0, 0, 1, 0], 5).unwrap(), (5, 2, false));
        assert_eq!(cut(&[0, 1, 0, 0, 1, 0], 4).unwrap(), (2, 1, true));
        assert!(
            cut(&[0, 0, 0, 0, 1], 4)
                .unwrap_err()
                .to_string()
                .contains("first 4 tokens")
        );
        for nothing in [&[][..], &[1], &[0, 0]] {
            assert_eq!(cut(nothing, 4).unwrap_err().to_string(), "nothing to learn");
        }
    }
}

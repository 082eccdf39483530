//! What the assistant says in a conversation, found in the text that the chat template makes of it.
//!
//! For each message of the assistant, the template writes the messages before it with the beginning of an answer behind them: the
//! prompt that the model is given when it is to say this. The whole conversation must begin with that text, and what the model says
//! are the tokens behind it up to the first that ends a generation, that one included: what comes after (a line break, the next
//! turn) the application writes. So the model learns to say what it would have to say in use, in the place where it would.
//!
//! A template makes that impossible, and it is an error that says so, where
//!
//! * earlier turns change as the conversation goes on, so that the prompt is not the beginning of the whole (Mistral's moves the
//!   system message to the last user's turn), or the prompt begins an answer otherwise than the conversation shows it (DeepSeek-R1's
//!   opens a thought);
//! * no end-of-generation token ends the turn: then the next such token is another turn's. To tell, the conversation up to this
//!   turn is written too: the turn must end in it, with the same tokens. It may have more of them before: what a template leaves out
//!   of earlier turns (Qwen3's: thoughts) is not learnt.
//!
//! What the assistant says before anybody else is not learnt: there is no prompt that asks for it.
//!
//! transformers finds the same tokens by `{% generation %}` in templates that have it; most model files' do not.

use serde_json::Value;

use super::learnt::common;
use crate::error::{Error, Result};
use crate::tokenizer::{ChatTemplate, EncodeOptions, Message, Tokenizer};

/// The most turns of the assistant that are looked at: each takes two renderings of all that is before it.
const MOST_TURNS: usize = 1024;

/// The tokens of a conversation, and which of them the assistant says. Turns that begin behind `seq` tokens are not looked at.
pub(super) fn parts(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    messages: &[Message],
    tools: Option<&Value>,
    seq: usize,
) -> Result<(Vec<u32>, Vec<bool>)> {
    let turns = || (1..messages.len()).filter(|i| messages[*i].role == "assistant");
    match turns().count() {
        0 => {
            let e = Error::invalid("nothing to learn").item("messages");
            return Err(e.expected("a message of the role assistant behind another"));
        }
        n if n > MOST_TURNS => {
            let e = Error::limit("too many messages of the assistant").item("messages");
            return Err(e.expected(format!("at most {MOST_TURNS}")).found(n));
        }
        _ => (),
    }
    // The template writes the begin token where the model wants one.
    let options = EncodeOptions {
        add_bos_eos: false,
        parse_special: true,
    };
    let encode = |text: &str| tokenizer.encode(text, options);
    let end = |tokens: &[u32]| tokens.iter().position(|id| tokenizer.is_end_of_generation(*id));

    let whole = template.render(messages, false, tools)?;
    let tokens = encode(&whole)?;
    let mut learn = vec![false; tokens.len()];
    for i in turns() {
        let impossible = |what: &str| {
            let e = Error::unsupported(format!("the chat template hides what the assistant says: {what}"));
            e.item(format!("messages[{i}]"))
        };
        let changes = "what it writes before this turn is not what the whole conversation begins with";
        let before = template.render(&messages[..i], true, tools)?;
        if !whole.starts_with(&before) {
            return Err(impossible(changes).expected("a conversation that ends with its first turn of the assistant"));
        }
        let start = common(&encode(&before)?, &tokens);
        if start >= seq {
            // It says something there, which is cut off: that it was is to be counted.
            learn.iter_mut().skip(start).take(1).for_each(|l| *l = true);
            break;
        }
        let says = end(&tokens[start..]).map(|n| start..start + n + 1);
        let alone = match i + 1 == messages.len() {
            true => tokens.clone(),
            false => encode(&template.render(&messages[..=i], false, tools)?)?,
        };
        let alone = alone.get(start..).unwrap_or_default();
        match (says, end(alone)) {
            (Some(says), Some(n)) if alone[..=n].ends_with(&tokens[says.clone()]) => learn[says].fill(true),
            (Some(_), Some(_)) => return Err(impossible("it writes this turn otherwise once another follows")),
            _ => return Err(impossible("no end-of-generation token ends this turn")),
        }
    }
    Ok((tokens, learn))
}

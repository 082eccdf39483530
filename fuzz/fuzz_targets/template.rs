//! A chat template (first part of the input) and a conversation (the rest, as JSON; if it is none, a fixed one).
#![no_main]

use graft::tokenizer::{ChatTemplate, Message};
use graft_fuzz::{check, split};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((source, messages)) = split(data) else { return };
    let Ok(source) = std::str::from_utf8(source) else {
        return;
    };
    let messages: Vec<Message> = serde_json::from_slice(messages).unwrap_or_else(|_| {
        vec![
            Message::new("system", "Be brief."),
            Message::new("user", "Hello <|im_end|> {{ 1 }}"),
        ]
    });
    match ChatTemplate::new(source, "<s>", "</s>") {
        Err(e) => check(&e),
        Ok(template) => {
            for add_generation_prompt in [false, true] {
                if let Err(e) = template.render(&messages, add_generation_prompt, None) {
                    check(&e);
                }
            }
        }
    }
});

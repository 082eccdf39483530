//! What a line of a data file says.

use serde::Deserialize;
use serde_json::Value;

use super::learnt::{completion_parts, messages_parts, text_parts};

use crate::error::{Error, Result};
use crate::format::lines::LONGEST_LINE;
use crate::runtime::Model;
use crate::tokenizer::Message;
use crate::train::Example;

pub use super::learnt::{completion, messages, text};
pub(in crate::train) use super::learnt::{continued, encode};

/// The forms of a row, for error messages.
const FORMS: &str = "text, prompt and completion, messages (and tools), or prompt, choices and answer";

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// `{"text"}`: all of it is learnt.
    Text(String),
    /// A part of a plain text, not the last: it does not end with the end-of-sequence token.
    Part(String),
    /// `{"prompt", "completion"}`: the completion is learnt.
    Completion {
        /// What stands before.
        prompt: String,
        /// What is learnt.
        completion: String,
    },
    /// `{"messages", "tools"}`: what the assistant says is learnt.
    Messages {
        /// The conversation.
        messages: Vec<Message>,
        /// The tools that the template is told of.
        tools: Option<Value>,
    },
    /// `{"prompt", "choices", "answer"}`: to be evaluated only.
    Choices {
        /// What stands before.
        prompt: String,
        /// What may follow; two at least.
        choices: Vec<String>,
        /// The index of the right one.
        answer: usize,
    },
}

/// Unknown fields are errors: a misspelt one that is silently ignored trains on something else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    text: Option<String>,
    prompt: Option<String>,
    completion: Option<String>,
    messages: Option<Vec<Message>>,
    tools: Option<Value>,
    choices: Option<Vec<String>>,
    answer: Option<Value>,
}

impl Row {
    /// Reads a line of a file of JSON Lines.
    ///
    /// # Errors
    /// `Invalid` for what is no JSON object, has an unknown field or a wrong value, or fields that do not belong together; `Limit` for a
    /// line of more than 16 MiB.
    pub fn parse(line: &[u8]) -> Result<Self> {
        if line.len() > LONGEST_LINE {
            return Err(Error::limit("the line is too long").expected(format!("at most {LONGEST_LINE} bytes")));
        }
        let line = utf8(line)?.trim_ascii();
        let not_json = |e: String| Error::invalid(format!("not a JSON object: {e}"));
        if !line.starts_with('{') {
            let shown = line.chars().take(40).collect::<String>();
            return Err(Error::invalid("not a JSON object").found(shown));
        }
        let fields: Fields = serde_json::from_str(line).map_err(|e| {
            let (column, text) = (e.column(), e.to_string());
            // It is the first line to the parser only.
            let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
            match e.is_data() {
                true => Error::invalid(text),
                false => not_json(format!("{text} at column {column}")),
            }
        })?;
        fields.row()
    }

    /// The name of its form: `text`, `completion`, `messages` or `choices`.
    pub fn form(&self) -> &'static str {
        match self {
            Row::Text(_) | Row::Part(_) => "text",
            Row::Completion { .. } => "completion",
            Row::Messages { .. } => "messages",
            Row::Choices { .. } => "choices",
        }
    }

    /// What `model` learns from it in `seq` tokens, and whether it was cut to that.
    ///
    /// # Errors
    /// Those of [`text`], [`completion`] and [`messages`]; nothing to learn within `seq` tokens; a row with choices.
    pub fn example(&self, model: &Model, seq: usize) -> Result<(Example, bool)> {
        let (tokens, learn) = match self {
            Row::Text(text) => text_parts(model, text, true)?,
            Row::Part(text) => text_parts(model, text, false)?,
            Row::Completion { prompt, completion } => completion_parts(model, prompt, completion)?,
            Row::Messages { messages, tools } => messages_parts(model, messages, tools.as_ref(), seq)?,
            Row::Choices { .. } => return Err(only_evaluated()),
        };
        Example::new(tokens, learn)?.cut(seq)
    }
}

impl Fields {
    fn row(self) -> Result<Row> {
        let Fields {
            text,
            prompt,
            completion,
            messages,
            tools,
            choices,
            answer,
        } = self;
        match (text, prompt, completion, messages, tools, choices, answer) {
            (Some(text), None, None, None, None, None, None) => Ok(Row::Text(text)),
            (None, Some(prompt), Some(completion), None, None, None, None) => {
                Ok(Row::Completion { prompt, completion })
            }
            (None, None, None, Some(messages), tools, None, None) => Ok(Row::Messages { messages, tools }),
            (None, Some(prompt), None, None, None, Some(choices), Some(answer)) => Ok(Row::Choices {
                answer: index_of(&answer, &choices)?,
                prompt,
                choices,
            }),
            (None, Some(_), None, None, None, None, None) => {
                let e = Error::invalid("a prompt alone has nothing to learn").item("prompt");
                Err(e.expected("a completion beside it"))
            }
            _ => Err(Error::invalid("the fields do not belong together").expected(FORMS)),
        }
    }
}

/// Which of the choices `answer` is: an index from 0, or a text that is one of them.
fn index_of(answer: &Value, choices: &[String]) -> Result<usize> {
    if choices.len() < 2 {
        let e = Error::invalid("too few choices").item("choices");
        return Err(e.expected("two or more").found(choices.len()));
    }
    let index = match answer {
        Value::String(text) => choices.iter().position(|c| c == text),
        Value::Number(n) => n
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| *n < choices.len()),
        _ => None,
    };
    index.ok_or_else(|| {
        let e = Error::invalid("the answer is none of the choices").item("answer");
        let expected = format!("0 to {}, or the text of a choice", choices.len() - 1);
        e.expected(expected).found(answer)
    })
}

/// A row with choices is not for training.
pub(super) fn only_evaluated() -> Error {
    let e = Error::invalid("choices can be evaluated, not learnt").item("choices");
    e.expected("text, prompt and completion, or messages")
}

/// The text of `bytes`.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes)
        .map_err(|e| Error::invalid("the text is not UTF-8").found(format!("byte {} of the line", e.valid_up_to())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_are_read() {
        let read = |v: Value| Row::parse(v.to_string().as_bytes()).unwrap();
        assert_eq!(read(json!({"text": "a"})), Row::Text("a".into()));
        assert_eq!(
            read(json!({"prompt": "a", "completion": "", "text": null})),
            Row::Completion {
                prompt: "a".into(),
                completion: String::new()
            }
        );
        let messages = json!({"messages": [{"role": "user", "content": null, "name": "x"}], "tools": [{"a": 1}]});
        let Row::Messages { messages, tools } = read(messages) else {
            panic!()
        };
        assert_eq!(
            (messages[0].content.as_str(), &messages[0].extra["name"]),
            ("", &json!("x"))
        );
        assert_eq!(tools, Some(json!([{"a": 1}])));
        for (answer, index) in [(json!(1), 1), (json!("a"), 0)] {
            let row = read(json!({"prompt": "p", "choices": ["a", "b"], "answer": answer}));
            assert!(matches!(row, Row::Choices { answer, .. } if answer == index));
        }
        assert_eq!(Row::parse(b"  {\"text\":\"a\"}\r\n").unwrap(), Row::Text("a".into()));
    }

    #[test]
    fn bad_lines_say_what_is_wrong() {
        for (line, words) in [
            (&b"{\"txt\": \"a\"}"[..], &["unknown field `txt`", "`text`"][..]),
            (b"{\"text\": \"a\", \"id\": 3}", &["unknown field `id`"]),
            (b"{\"text\": 3}", &["invalid type", "expected a string"]),
            (b"{\"text\": \"a\", \"text\": \"b\"}", &["duplicate field `text`"]),
            (b"{\"text\": \"a\"", &["not a JSON object", "column 12"]),
            (b"{\"text\": \"a\"} {}", &["not a JSON object", "trailing"]),
            (b"{\"text\": \"\\ud800\"}", &["not a JSON object"]),
            (b"[\"text\"]", &["not a JSON object", "[\"text\"]"]),
            (b"null", &["not a JSON object"]),
            (b"{\"text\": \"caf\xe9\"}", &["not UTF-8", "byte 13"]),
            (b"{}", &["belong together"]),
            (b"{\"prompt\": \"a\"}", &["prompt", "completion"]),
            (b"{\"completion\": \"a\"}", &["belong together"]),
            (b"{\"text\": \"a\", \"completion\": \"b\"}", &["belong together"]),
            (b"{\"text\": \"a\", \"tools\": []}", &["belong together"]),
            (b"{\"messages\": [{\"content\": \"a\"}]}", &["missing field `role`"]),
            (
                b"{\"messages\": [{\"role\": \"user\", \"content\": []}]}",
                &["invalid type"],
            ),
            (
                b"{\"prompt\": \"a\", \"choices\": [\"b\"], \"answer\": 0}",
                &["choices", "two or more"],
            ),
            (
                b"{\"prompt\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 2}",
                &["answer", "0 to 1", "found 2"],
            ),
            (
                b"{\"prompt\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": -1}",
                &["answer", "found -1"],
            ),
            (
                b"{\"prompt\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": \"d\"}",
                &["answer", "\"d\""],
            ),
            (
                b"{\"prompt\": \"a\", \"choices\": [\"b\", \"c\"]}",
                &["belong together"],
            ),
        ] {
            let e = Row::parse(line).expect_err(&String::from_utf8_lossy(line)).to_string();
            assert!(words.iter().all(|w| e.contains(w)), "{e}");
            assert!(!e.contains("line 1"), "{e}");
        }
        let deep = format!("{{\"tools\": {}", "[".repeat(100_000));
        assert!(
            Row::parse(deep.as_bytes())
                .unwrap_err()
                .to_string()
                .contains("recursion")
        );
        let long = vec![b' '; LONGEST_LINE + 1];
        assert_eq!(Row::parse(&long).unwrap_err().kind(), crate::ErrorKind::Limit);
    }
}

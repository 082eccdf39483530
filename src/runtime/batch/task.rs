//! What a line of a batch asks for, and what its record says.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::format::lines::LONGEST_LINE;
use crate::runtime::{GenerateOptions, Generated, SamplerOptions};
use crate::tokenizer::Message;

/// One line, or what is wrong with it.
pub struct Line {
    /// From 1.
    pub number: u64,
    object: Result<Map<String, Value>>,
}

impl Line {
    /// The line `bytes`, with or without its end.
    pub fn new(bytes: &[u8], number: u64) -> Self {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let object = match bytes.len() > LONGEST_LINE {
            true => Err(Error::limit("the line is too long").expected(format!("at most {LONGEST_LINE} bytes"))),
            false => serde_json::from_slice(bytes).map_err(|e| Error::invalid(format!("not a JSON object: {e}"))),
        };
        Line { number, object }
    }

    /// What its record is recognised by: the line's id, or its number.
    pub fn id(&self) -> Value {
        let object = self.object.as_ref().ok();
        let given = object.and_then(|o| o.get("id")).filter(|id| !id.is_null());
        given.cloned().unwrap_or_else(|| self.number.into())
    }

    /// What it asks for.
    pub fn task(self) -> Result<Task> {
        let task = self.object.and_then(|object| {
            serde_json::from_value(Value::Object(object)).map_err(|e| Error::invalid(e.to_string()))
        });
        task.map_err(|e| e.item(format!("line {}", self.number)))
    }
}

/// The fields of a line. Unknown ones are errors: a misspelt option that is silently ignored gives wrong answers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    #[serde(default)]
    #[allow(dead_code, reason = "read from the raw object, so that a bad line keeps its id")]
    id: Value,
    pub prompt: Option<String>,
    pub messages: Option<Vec<Message>>,
    pub tokens: Option<Vec<u32>>,
    /// Names; none of them for none.
    #[serde(default, deserialize_with = "present")]
    pub adapter: Option<Vec<String>>,
    #[serde(alias = "n")]
    max_tokens: Option<usize>,
    #[serde(alias = "temp")]
    temperature: Option<f32>,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repeat_penalty: Option<f32>,
    repeat_last_n: Option<usize>,
    frequency_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    seed: Option<u64>,
    stop: Option<OneOrMore>,
    logit_bias: Option<HashMap<u32, f32>>,
    ignore_eos: Option<bool>,
}

/// `"adapter": null` says "none"; leaving it out says "the default ones".
fn present<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<String>>, D::Error> {
    let choice = Option::<OneOrMore>::deserialize(d)?;
    Ok(Some(choice.map_or_else(Vec::new, OneOrMore::all)))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn all(self) -> Vec<String> {
        match self {
            OneOrMore::One(text) => vec![text],
            OneOrMore::More(texts) => texts,
        }
    }
}

impl Task {
    /// `o` with the line's own options in their place. The seed differs from line to line and stays the same from run to run, also after a
    /// restart.
    pub fn sampling(&self, mut o: SamplerOptions, number: u64) -> SamplerOptions {
        o.seed = self.seed.unwrap_or(o.seed.wrapping_add(number));
        o.temperature = self.temperature.unwrap_or(o.temperature);
        o.top_k = self.top_k.unwrap_or(o.top_k);
        o.top_p = self.top_p.unwrap_or(o.top_p);
        o.min_p = self.min_p.unwrap_or(o.min_p);
        o.repeat_penalty = self.repeat_penalty.unwrap_or(o.repeat_penalty);
        o.repeat_last_n = self.repeat_last_n.unwrap_or(o.repeat_last_n);
        o.frequency_penalty = self.frequency_penalty.unwrap_or(o.frequency_penalty);
        o.presence_penalty = self.presence_penalty.unwrap_or(o.presence_penalty);
        if let Some(bias) = &self.logit_bias {
            o.logit_bias = bias.iter().map(|(id, b)| (*id, *b)).collect();
        }
        o
    }

    /// `o` with the line's own options in their place.
    pub fn generate(self, mut o: GenerateOptions) -> GenerateOptions {
        o.max_tokens = self.max_tokens.or(o.max_tokens);
        o.stop = self.stop.map_or(o.stop, OneOrMore::all);
        o.ignore_eos = self.ignore_eos.unwrap_or(o.ignore_eos);
        o
    }
}

/// What is written for a line, without a line break.
pub struct Record {
    pub json: String,
    /// It says what went wrong.
    pub failed: bool,
}

#[derive(Serialize)]
struct Answer {
    id: Value,
    text: String,
    tokens: Vec<u32>,
    finish_reason: &'static str,
    prompt_tokens: usize,
}

#[derive(Serialize)]
struct Failure {
    id: Value,
    error: String,
}

impl Record {
    /// Of an answer to a prompt of so many tokens.
    pub fn answer(id: Value, made: Generated, prompt_tokens: usize) -> Result<Self> {
        let answer = Answer {
            id,
            text: made.text,
            tokens: made.tokens,
            finish_reason: made.finish.name(),
            prompt_tokens,
        };
        let json = json(&answer)?;
        Ok(Record { json, failed: false })
    }

    /// Of a line that cannot be answered.
    pub fn failure(id: Value, error: &Error) -> Result<Self> {
        let error = error.to_string();
        let json = json(&Failure { id, error })?;
        Ok(Record { json, failed: true })
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::internal(format!("JSON: {e}")))
}

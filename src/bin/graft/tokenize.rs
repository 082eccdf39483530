//! `graft tokenize`: how a text is cut into tokens. Only the tokenizer is built; the weights are not looked at.

use std::path::Path;

use graft::Result;
use graft::format::{Gguf, LoadMode};
use graft::tokenizer::{EncodeOptions, Tokenizer};
use serde::Serialize;

use crate::args::TokenizeArgs;
use crate::load;
use crate::output::{Done, json_line, print};

#[derive(Serialize)]
struct Document<'a> {
    tokens: &'a [u32],
    pieces: Vec<String>,
}

pub fn run(args: &TokenizeArgs) -> Done {
    let from_file;
    let text = match (&args.text, &args.file) {
        (_, Some(file)) => {
            from_file = load::text_of(file)?;
            &from_file
        }
        (text, None) => text.as_deref().unwrap_or_default(),
    };
    let tokenizer = open(&args.model)?;
    let options = EncodeOptions {
        add_bos_eos: !args.no_special,
        parse_special: !args.plain,
    };
    // Written in pieces of many lines: a flush a line would take most of the time.
    let mut out = String::new();
    let mut one = |text: &str| -> Done {
        let tokens = tokenizer.encode(text, options)?;
        let pieces = tokens
            .iter()
            .map(|&id| tokenizer.decode(&[id], false))
            .collect::<Result<Vec<_>>>()?;
        if args.json {
            out.push_str(&json_line(&Document {
                tokens: &tokens,
                pieces,
            })?);
        } else if args.lines {
            let ids: Vec<_> = tokens.iter().map(u32::to_string).collect();
            out.push_str(&ids.join(" "));
            out.push('\n');
        } else {
            out.extend(
                tokens
                    .iter()
                    .zip(&pieces)
                    .map(|(id, piece)| format!("{id:>8}  {piece:?}\n")),
            );
        }
        if out.len() > 1 << 16 {
            print(&std::mem::take(&mut out))?;
        }
        Ok(())
    };
    match args.lines {
        true => text.split_terminator('\n').try_for_each(&mut one)?,
        false => one(text)?,
    }
    print(&out)
}

fn open(path: &Path) -> Result<Tokenizer> {
    match path.extension().is_some_and(|e| e == "json") {
        true => Tokenizer::from_file(path),
        false => Tokenizer::from_gguf(Gguf::open(path, LoadMode::Map)?.metadata()),
    }
}

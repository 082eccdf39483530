//! One model, several adapters, switched between two answers in the same process:
//!
//! `cargo run --release --example switch -- MODEL.gguf PROMPT ADAPTER_DIR...`
//!
//! Answers the prompt without an adapter and then with each one, and says how long each switch took.

use std::error::Error;
use std::io::Write;
use std::ops::ControlFlow;
use std::time::Instant;

use graft::runtime::{GenerateOptions, Sampler, SamplerOptions, generate};
use graft::tokenizer::{EncodeOptions, Message};
use graft::{Model, SessionOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(path), Some(prompt)) = (args.next(), args.next()) else {
        return Err("usage: switch MODEL.gguf PROMPT ADAPTER_DIR...".into());
    };
    let model = Model::open(path)?;
    let tokenizer = model.tokenizer()?;
    let template = model.chat_template()?.ok_or("the model has no chat template")?;
    let text = template.render(&[Message::new("user", &prompt)], true, None)?;
    let options = EncodeOptions {
        add_bos_eos: false,
        parse_special: true,
    };
    let prompt = tokenizer.encode(&text, options)?;

    let mut session = model.session(&SessionOptions {
        context: Some(prompt.len() + 100),
        ..Default::default()
    })?;
    let mut active = Vec::new();
    for dir in std::iter::once(None).chain(args.map(Some)) {
        match &dir {
            None => println!("== no adapter"),
            Some(dir) => {
                let start = Instant::now();
                let adapter = model.load_adapter(dir)?;
                let loaded = start.elapsed();
                active = vec![(adapter, 1.0)];
                println!("== {dir} (loaded in {:.1} ms)", loaded.as_secs_f64() * 1e3);
            }
        }
        let start = Instant::now();
        session.set_adapters(&active)?;
        let switched = start.elapsed();
        session.reset();

        let mut sampler = Sampler::new(SamplerOptions::default(), model.spec().vocab_size)?;
        let options = GenerateOptions {
            max_tokens: Some(60),
            ..Default::default()
        };
        let made = generate(
            &mut session,
            tokenizer,
            &prompt,
            &mut sampler,
            &options,
            &mut |text, _| {
                print!("{text}");
                let _ = std::io::stdout().flush();
                ControlFlow::Continue(())
            },
        )?;
        let per_s = made.timings.evaluations as f64 / made.timings.generation.as_secs_f64();
        println!(
            "\n-- switched in {:.1} µs; {per_s:.0} tokens/s\n",
            switched.as_secs_f64() * 1e6
        );
    }
    Ok(())
}

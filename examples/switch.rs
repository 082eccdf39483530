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

    // All adapters at once: they share the model, and a session only points at those that are on.
    let mut adapters = vec![("no adapter".to_string(), vec![])];
    for dir in args {
        let start = Instant::now();
        let adapter = model.load_adapter(&dir)?;
        println!("loaded {dir} in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
        adapters.push((dir, vec![(adapter, 1.0)]));
    }

    let mut session = model.session(&SessionOptions {
        context: Some(prompt.len() + 100),
        ..Default::default()
    })?;
    for (name, active) in &adapters {
        println!("\n== {name}");
        let start = Instant::now();
        session.set_adapters(active)?;
        let switched = start.elapsed();
        session.reset();

        // A little chance: greedy, so small a model soon repeats itself. The seed makes it the same on every run.
        let sampling = SamplerOptions {
            temperature: 0.8,
            top_p: 0.9,
            seed: 1,
            ..Default::default()
        };
        let mut sampler = Sampler::new(sampling, model.spec().vocab_size)?;
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
            "\n-- switched in {:.1} µs; {per_s:.0} tokens/s",
            switched.as_secs_f64() * 1e6
        );
    }
    Ok(())
}

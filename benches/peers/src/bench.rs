//! Speed: both engines on the same tokens, alternating, so that what disturbs one disturbs the other.

use std::path::Path;
use std::time::{Duration, Instant};

use graft::kernels::Precision;
use llama_cpp_2::llama_backend::LlamaBackend;
use serde_json::{Value, json};

use crate::engine::{Engine, Llama, backend, graft_model, graft_session, llama_model, random_tokens};
use crate::spread::Spread;
use crate::{Options, Result, record};

/// Between two runs: the other engine's threads stop spinning.
const REST: Duration = Duration::from_millis(200);

/// Runs the benchmark for every model.
pub fn run(options: &Options) -> Result<()> {
    if let Some(dir) = &options.record {
        // Now, not after minutes of measuring.
        std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    let backend = backend()?;
    let mut all = Vec::new();
    for path in &options.models {
        all.push(one(&backend, path, options)?);
    }
    if let Some(dir) = &options.record {
        for file in record::write(dir, options, &all)? {
            eprintln!("{}", file.display());
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    Ok(())
}

fn one(backend: &LlamaBackend, path: &Path, options: &Options) -> Result<Value> {
    let prompt = options.prompt.unwrap_or(512);
    // Room for the cell that llama.cpp keeps free, in the steps in which it pads.
    let context = (prompt.max(options.gen_tokens) + 1).next_multiple_of(256);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();

    let mut model = llama_model(backend, path)?;
    let mut lora = match &options.adapter {
        Some(file) => Some(model.lora_adapter_init(file).map_err(|e| format!("llama.cpp: {e}"))?),
        None => None,
    };
    let tokens = random_tokens(prompt.max(options.gen_tokens), usize::try_from(model.n_vocab())?);
    let mut engines: Vec<(&str, Box<dyn Engine + '_>)> = vec![(
        "llama.cpp",
        Box::new(Llama::new(backend, &model, options.threads, context, false)?),
    )];
    if !options.llama_only {
        let model = graft_model(path, options.threads)?;
        engines.push(("graft", Box::new(graft_session(&model, context, Precision::Fast)?)));
        if let Some(file) = &options.adapter {
            let mut session = graft_session(&model, context, Precision::Fast)?;
            session.set_adapters(&[(model.load_adapter(file)?, 1.0)])?;
            engines.push(("graft+adapter", Box::new(session)));
        }
    }
    if let Some(lora) = &mut lora {
        let mut llama = Llama::new(backend, &model, options.threads, context, false)?;
        llama.restart(lora)?;
        engines.push(("llama.cpp+adapter", Box::new(llama)));
    }

    let mut result = json!({ "model": name, "threads": options.threads, "rounds": options.rounds });
    let tests: [(&str, usize, Test); 2] = [("pp", prompt, read_prompt), ("tg", options.gen_tokens, generate)];
    for (kind, n, test) in tests {
        let mut speeds = vec![Vec::new(); engines.len()];
        // Round 0 warms up: page cache, thread teams, clocks.
        for round in 0..=options.rounds {
            let mut order: Vec<usize> = (0..engines.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for e in order {
                std::thread::sleep(REST);
                let speed = test(engines[e].1.as_mut(), &tokens[..n])?;
                if round > 0 {
                    speeds[e].push(speed);
                }
            }
        }
        result[format!("{kind}{n}")] = report(&name, &format!("{kind}{n}"), &engines, &speeds);
    }
    Ok(result)
}

/// Runs tokens through an engine and gives tokens a second.
type Test = fn(&mut dyn Engine, &[u32]) -> Result<f64>;

/// Tokens a second when all come at once.
fn read_prompt(engine: &mut dyn Engine, tokens: &[u32]) -> Result<f64> {
    engine.reset()?;
    let start = Instant::now();
    engine.eval(tokens)?;
    Ok(tokens.len() as f64 / start.elapsed().as_secs_f64())
}

/// Tokens a second when they come one by one.
fn generate(engine: &mut dyn Engine, tokens: &[u32]) -> Result<f64> {
    engine.reset()?;
    let start = Instant::now();
    for token in tokens {
        engine.eval(std::slice::from_ref(token))?;
    }
    Ok(tokens.len() as f64 / start.elapsed().as_secs_f64())
}

fn report(model: &str, test: &str, engines: &[(&str, Box<dyn Engine + '_>)], speeds: &[Vec<f64>]) -> Value {
    let mut figures = json!({});
    for ((name, _), speeds) in engines.iter().zip(speeds) {
        let s = Spread::of(speeds);
        eprintln!(
            "{model:44} {test:6} {name:17} {:9.1} tokens/s   p10 {:9.1}   p90 {:9.1}",
            s.median, s.p10, s.p90
        );
        figures[*name] = s.json();
    }
    let of = |name: &str| engines.iter().position(|e| e.0 == name).map(|i| &speeds[i]);
    // Round by round: what disturbed one disturbed its neighbours.
    let mut compare = |what: &str, pair: [&str; 2], number: fn(f64) -> f64| {
        let [Some(a), Some(b)] = pair.map(of) else {
            return;
        };
        let ratios: Vec<f64> = a.iter().zip(b).map(|(a, b)| number(a / b)).collect();
        let s = Spread::of(&ratios);
        eprintln!(
            "{model:44} {test:6} {what:17} {:9.2}            p10 {:9.2}   p90 {:9.2}",
            s.median, s.p10, s.p90
        );
        figures[what] = s.json();
    };
    compare("ratio", ["graft", "llama.cpp"], |r| r);
    let loss = |r| 100.0 * (1.0 - r);
    compare("llama.cpp loses %", ["llama.cpp+adapter", "llama.cpp"], loss);
    compare("graft loses %", ["graft+adapter", "graft"], loss);
    figures
}

//! Oracle: PEFT in f32 for every adapter method, on tiny random models (tests/reference/methods.py): one adapter, several at once, weights,
//! and switches between two tokens with the same cache.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::*;
use graft::adapter::{AdapterFile, AdapterOptions};
use graft::kernels::Precision;
use graft::{Model, Session, SessionOptions};
use serde_json::Value;

/// A chunk that holds every prompt, and one that cuts it (and prefixes) in the middle.
const CHUNKS: [usize; 2] = [512, 7];

/// The largest error of a case's logits.
fn check(case: &Value, folder: &Path, chunk: usize) -> Result<f32, String> {
    let model = Model::open(folder.join(case["model"].as_str().unwrap())).map_err(|e| e.to_string())?;
    let options = SessionOptions {
        precision: Precision::Exact,
        chunk,
        ..Default::default()
    };
    let mut session: Session = model.session(&options).map_err(|e| e.to_string())?;
    let (mut worst, mut compared, mut before, mut logprob) = (0.0f32, 0, 0, 0.0);
    let positions = case["positions"].as_array().unwrap();
    let all: Vec<u32> = case["segments"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|s| ids(&s["tokens"]))
        .collect();
    for segment in case["segments"].as_array().unwrap() {
        let adapters = try_adapters(&model, folder, &segment["adapters"]).map_err(|e| e.to_string())?;
        session.set_adapters(&adapters).map_err(|e| e.to_string())?;
        let tokens = ids(&segment["tokens"]);
        session
            .eval_each(&tokens, &mut |i, logits| {
                let pos = before + i;
                if let Some(next) = all.get(pos + 1) {
                    logprob += f64::from(logits[*next as usize]) - logsumexp(logits);
                }
                if let Some(recorded) = positions.iter().find(|p| p["pos"] == pos) {
                    let oracle = floats(&recorded["logits"]);
                    assert_eq!(oracle.len(), logits.len(), "vocabulary");
                    for (ours, oracle) in logits.iter().zip(&oracle) {
                        worst = worst.max(logit_error(*ours, *oracle));
                    }
                    compared += 1;
                }
                std::ops::ControlFlow::Continue(())
            })
            .map_err(|e| e.to_string())?;
        before += tokens.len();
    }
    assert_eq!(compared, positions.len(), "recorded positions");
    let mean = logprob / (all.len() - 1) as f64;
    let oracle = case["mean_logprob"].as_f64().unwrap();
    if (mean - oracle).abs() > 1e-4 {
        return Err(format!(
            "mean log-probability {oracle}, ours {mean}, largest error {worst:.1e}"
        ));
    }
    if worst > LOGIT_BOUND {
        return Err(format!("largest error {worst:.1e}"));
    }
    // The oracle's greedy tokens, from where the session is.
    let (greedy, margins) = (ids(&case["greedy"]), floats(&case["greedy_margin"]));
    for (step, (token, margin)) in greedy.iter().zip(&margins).enumerate() {
        let logits = session.logits();
        let ours = argmax(logits);
        let scale = logits[ours as usize].abs().max(1.0);
        if ours != *token && *margin > 2.0 * LOGIT_BOUND * scale {
            return Err(format!(
                "greedy token {step}: oracle {token} (margin {margin}), ours {ours}"
            ));
        }
        session.eval(&[*token]).map_err(|e| e.to_string())?;
    }
    Ok(worst)
}

#[test]
fn exact_logits_match_peft() {
    let (mut failed, mut n) = (Vec::new(), 0);
    let mut worst: BTreeMap<String, (f32, String)> = BTreeMap::new();
    for path in method_cases() {
        let case = json(&path);
        let folder = path.parent().unwrap();
        let name = format!(
            "{} {}",
            folder.file_name().unwrap().display(),
            case["name"].as_str().unwrap()
        );
        let method = case["method"].as_str().unwrap().to_owned();
        let worst = worst.entry(method).or_default();
        for chunk in CHUNKS {
            match check(&case, folder, chunk) {
                Ok(error) if error > worst.0 => *worst = (error, name.clone()),
                Ok(_) => {}
                Err(e) => failed.push(format!("{name} (chunk {chunk}): {e}")),
            }
        }
        n += 1;
    }
    for (method, (error, name)) in &worst {
        println!("{method:24} largest error {error:.1e} at {name}");
    }
    println!("{n} cases");
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    assert!(n >= 300, "only {n} cases: recorded files are missing");
}

/// Of every adapter of every model, the numbers of PEFT's `get_nb_trainable_parameters` (tests/reference/counts.py).
#[test]
fn parameters_are_counted_as_peft_counts_them() {
    let folder = data().join("methods");
    let mut compared = 0;
    for (name, counts) in json(&folder.join("counts.json")).as_object().unwrap() {
        let model = Model::open(data().join("tiny").join(name).join("model.gguf")).unwrap();
        for (adapter, numbers) in counts.as_object().unwrap() {
            let options = AdapterOptions { task_id: Some(1) };
            let file = AdapterFile::open_with(&folder.join(name).join(adapter), &options).unwrap();
            let Some([trained, all]) = numbers.as_array().map(|n| [0, 1].map(|i| n[i].as_u64())) else {
                continue;
            };
            let count = model.count(&file);
            assert_eq!(
                (Some(count.trained as u64), Some(count.all as u64)),
                (trained, all),
                "{name}/{adapter}"
            );
            compared += 1;
        }
    }
    assert!(compared > 200, "only {compared} adapters compared");
}

//! Oracle: transformers and PEFT in f32 on tiny random models of every architecture (tests/reference/tiny_models.py).

mod common;

use common::*;
use graft::kernels::Precision;
use graft::{Model, SessionOptions};

/// A long-ish chunk and one that cuts prompts in the middle and wraps the sliding windows' rings.
const CHUNKS: [usize; 2] = [512, 7];

#[test]
fn exact_logits_match_transformers_and_peft() {
    let mut cases = 0;
    let mut worst = (0.0, String::new());
    let mut folders: Vec<_> = std::fs::read_dir(data().join("tiny"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    folders.sort();
    for folder in folders.iter().filter(|f| f.join("golden.json").exists()) {
        let golden = json(&folder.join("golden.json"));
        let path = folder.join(golden["model"].as_str().unwrap());
        let model = Model::open(&path).unwrap_or_else(|e| panic!("{e}"));
        for case in golden["cases"].as_array().unwrap() {
            let name = format!("{} {}", folder.file_name().unwrap().display(), case["name"]);
            let adapters = adapters(&model, folder, &case["adapters"]);
            let tokens = ids(&case["tokens"]);
            for chunk in CHUNKS {
                let options = SessionOptions {
                    precision: Precision::Exact,
                    chunk,
                    ..Default::default()
                };
                let mut session = model.session(&options).unwrap();
                session.set_adapters(&adapters).unwrap();
                let mut compared = 0;
                let mean = run(&mut session, &tokens, &mut |pos, logits| {
                    let recorded = case["positions"].as_array().unwrap().iter().find(|p| p["pos"] == pos);
                    let Some(recorded) = recorded else { return };
                    let oracle = floats(&recorded["logits"]);
                    assert_eq!(oracle.len(), logits.len(), "{name}: vocabulary");
                    for (ours, oracle) in logits.iter().zip(&oracle) {
                        let error = logit_error(*ours, *oracle);
                        if error > worst.0 {
                            worst = (error, format!("{name} position {pos}"));
                        }
                        assert!(
                            error <= LOGIT_BOUND,
                            "{name}: position {pos}: oracle {oracle}, ours {ours}"
                        );
                    }
                    compared += 1;
                });
                assert_eq!(compared, case["positions"].as_array().unwrap().len(), "{name}");
                let oracle_mean = case["mean_logprob"].as_f64().unwrap();
                assert!(
                    (mean - oracle_mean).abs() < 1e-4,
                    "{name}: mean log-probability {oracle_mean}, ours {mean}"
                );
                session.reset();
                let (greedy, margins) = (ids(&case["greedy"]), floats(&case["greedy_margin"]));
                check_greedy(&mut session, &tokens, &greedy, &margins, &name);
            }
            cases += 1;
        }
    }
    println!("{cases} cases; largest error {:.2e} at {}", worst.0, worst.1);
    assert!(cases >= 11 * 11, "only {cases} cases: recorded files are missing");
}

#[test]
fn adapters_that_would_be_partly_applied_are_refused() {
    let folder = data().join("adapters-bad");
    let manifest = json(&folder.join("manifest.json"));
    let mut accepted = Vec::new();
    for entry in manifest.as_array().unwrap() {
        let (dir, why) = (entry["dir"].as_str().unwrap(), entry["why"].as_str().unwrap());
        let model = data()
            .join("tiny")
            .join(entry["model"].as_str().unwrap())
            .join("model.gguf");
        let model = Model::open(model).unwrap_or_else(|e| panic!("{e}"));
        let error = match model.load_adapter(folder.join(dir)) {
            Ok(_) => {
                accepted.push(format!("{dir}: {why}"));
                continue;
            }
            Err(e) => e.to_string(),
        };
        assert!(!error.contains('\n'), "{dir}: more than a line: {error}");
        assert!(error.contains(dir), "{dir}: the file is not named: {error}");
        println!("{why}\n    {error}");
    }
    assert!(accepted.is_empty(), "accepted:\n{}", accepted.join("\n"));
}

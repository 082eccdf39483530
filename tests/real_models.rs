//! Oracle: transformers and PEFT in f32 on the real models' dequantized weights (tests/reference/real_models.py,
//! real_methods.py).

mod common;
#[path = "common/synth.rs"]
mod synth;

use common::*;
use graft::kernels::Precision;
use graft::{Adapter, Model, SessionOptions};
use serde_json::Value;

/// f64 sums of f32 log-probabilities over up to 1,500 tokens, each within [`LOGIT_BOUND`].
const MEAN_LOGPROB_BOUND: f64 = 1e-3;

/// All cases of `real/{name}{part}.json`.
fn check_model(name: &str, part: &str) {
    let spec = json(&data().join("real/adapters.json"));
    let golden = json(&data().join(format!("real/{name}{part}.json")));
    let path = real_model(spec["models"][name]["file"].as_str().unwrap());
    let model = Model::open(&path).unwrap_or_else(|e| panic!("{e}"));
    let scratch = tempfile::tempdir().unwrap();
    let mut worst = (0.0, String::new());
    for case in golden["cases"].as_array().unwrap() {
        let label = format!("{name} {}", case["name"]);
        let mut of_case = (0.0, String::new());
        let adapters: Vec<(Adapter, f32)> = case["adapters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| {
                let adapter = a["case"].as_str().unwrap();
                let dir = scratch.path().join(adapter);
                if !dir.exists() {
                    synth::write_adapter(&spec, name, adapter, &dir).unwrap();
                }
                (
                    model.load_adapter(&dir).unwrap_or_else(|e| panic!("{e}")),
                    a["weight"].as_f64().unwrap() as f32,
                )
            })
            .collect();
        let tokens = ids(&golden["prompts"][case["prompt"].as_str().unwrap()]);
        let options = SessionOptions {
            precision: Precision::Exact,
            ..Default::default()
        };
        let mut session = model.session(&options).unwrap();
        session.set_adapters(&adapters).unwrap();
        let positions = case["positions"].as_array().unwrap();
        let mut compared = 0;
        let mean = run(&mut session, &tokens, &mut |pos, logits| {
            let Some(recorded) = positions.iter().find(|p| p["pos"] == pos) else {
                return;
            };
            check_position(&label, recorded, logits, &mut of_case);
            compared += 1;
        });
        assert_eq!(compared, positions.len(), "{label}: recorded positions");
        let oracle = case["mean_logprob"].as_f64().unwrap();
        assert!(
            (mean - oracle).abs() <= MEAN_LOGPROB_BOUND,
            "{label}: mean log-probability: oracle {oracle}, ours {mean}"
        );
        if case.get("greedy").is_some() {
            session.reset();
            check_greedy(
                &mut session,
                &tokens,
                &ids(&case["greedy"]),
                &floats(&case["greedy_margin"]),
                &label,
            );
        }
        println!("{label}: largest error {:.1e}", of_case.0);
        if of_case.0 > worst.0 {
            worst = of_case;
        }
    }
    println!("{name}{part}: largest error {:.2e} at {}", worst.0, worst.1);
}

/// The first 32 logits, 128 spread over the vocabulary, and the normaliser of all.
fn check_position(label: &str, recorded: &Value, logits: &[f32], worst: &mut (f32, String)) {
    let pos = &recorded["pos"];
    let top = ids(&recorded["top"]).into_iter().map(|id| id as usize);
    let spread = floats(&recorded["stride_logits"]);
    let stride = logits.len() / spread.len();
    let pairs = top
        .zip(floats(&recorded["top_logits"]))
        .chain(spread.into_iter().enumerate().map(|(i, l)| (i * stride, l)));
    for (id, oracle) in pairs {
        let error = logit_error(logits[id], oracle);
        if error > worst.0 {
            *worst = (error, format!("{label} position {pos} id {id}"));
        }
        assert!(
            error <= LOGIT_BOUND,
            "{label}: position {pos}, id {id}: oracle {oracle}, ours {}",
            logits[id]
        );
    }
    let oracle = recorded["logsumexp"].as_f64().unwrap() as f32;
    let ours = logsumexp(logits) as f32;
    assert!(
        logit_error(ours, oracle) <= LOGIT_BOUND,
        "{label}: position {pos}: logsumexp: oracle {oracle}, ours {ours}"
    );
}

#[test]
fn smollm2_exact_matches_transformers_and_peft() {
    check_model("smollm2", "");
}

#[test]
fn gemma3_exact_matches_transformers_and_peft() {
    check_model("gemma3", "");
}

#[test]
fn qwen2_exact_matches_transformers_and_peft() {
    check_model("qwen2", "");
}

#[test]
fn smollm2_under_the_most_used_methods_matches_peft() {
    check_model("smollm2", "-methods");
}

#[test]
fn gemma3_under_the_most_used_methods_matches_peft() {
    check_model("gemma3", "-methods");
}

/// The demo's adapters, as PEFT runs them.
#[test]
fn demo_adapters_match_peft() {
    let folder = data().join("../../demo/adapters");
    let golden = json(&folder.join("golden.json"));
    let model = Model::open(real_model(golden["model"].as_str().unwrap())).unwrap_or_else(|e| panic!("{e}"));
    let cases = golden["cases"].as_array().unwrap();
    for case in cases {
        let label = format!("{} {}", case["adapter"], case["prompt"]);
        let options = SessionOptions {
            precision: Precision::Exact,
            ..Default::default()
        };
        let mut session = model.session(&options).unwrap();
        if let Some(name) = case["adapter"].as_str() {
            let adapter = model.load_adapter(folder.join(name)).unwrap_or_else(|e| panic!("{e}"));
            session.set_adapters(&[(adapter, 1.0)]).unwrap();
        }
        let tokens = ids(&case["tokens"]);
        let logits = session.eval(&tokens).unwrap();
        for (id, oracle) in ids(&case["top"]).into_iter().zip(floats(&case["top_logits"])) {
            let ours = logits[id as usize];
            assert!(
                logit_error(ours, oracle) <= LOGIT_BOUND,
                "{label}: id {id}: oracle {oracle}, ours {ours}"
            );
        }
        session.reset();
        check_greedy(
            &mut session,
            &tokens,
            &ids(&case["greedy"]),
            &floats(&case["greedy_margin"]),
            &label,
        );
    }
    assert!(cases.len() >= 6, "recorded cases are missing");
}

/// `Fast` against `Exact`, the bar for perplexity.
const FAST_PERPLEXITY: f64 = 0.005;
/// Over 4,080 tokens `graft perplexity --kl` gives means of 2e-4 to 7e-4 for these models; a broken kernel or scale gives
/// hundredths at least.
const FAST_KL: f64 = 3e-3;
/// Rows compared by KL: all would be gigabytes of logits at Gemma's vocabulary.
const KL_EVERY: usize = 8;

#[test]
fn fast_stays_near_exact() {
    let spec = json(&data().join("real/adapters.json"));
    for name in ["smollm2", "gemma3", "qwen2"] {
        let golden = json(&data().join(format!("real/{name}.json")));
        let model = Model::open(real_model(spec["models"][name]["file"].as_str().unwrap())).unwrap();
        let tokens = ids(&golden["prompts"]["p620"]);
        let mut rows = Vec::new();
        let session = |precision| {
            model
                .session(&SessionOptions {
                    precision,
                    ..Default::default()
                })
                .unwrap()
        };
        let exact = run(&mut session(Precision::Exact), &tokens, &mut |i, logits| {
            if i % KL_EVERY == 0 {
                rows.push(logits.to_vec());
            }
        });
        let mut kl = 0.0;
        let fast = run(&mut session(Precision::Fast), &tokens, &mut |i, logits| {
            if i % KL_EVERY == 0 {
                let exact = &rows[i / KL_EVERY];
                let (norm_exact, norm_fast) = (logsumexp(exact), logsumexp(logits));
                let terms = exact.iter().zip(logits).map(|(e, f)| {
                    let (log_e, log_f) = (f64::from(*e) - norm_exact, f64::from(*f) - norm_fast);
                    log_e.exp() * (log_e - log_f)
                });
                kl += terms.sum::<f64>();
            }
        });
        let (ratio, kl) = ((exact - fast).exp(), kl / rows.len() as f64);
        println!("{name}: perplexity of Fast / Exact {ratio:.5}, mean KL {kl:.2e}");
        assert!(
            (ratio - 1.0).abs() <= FAST_PERPLEXITY,
            "{name}: perplexity changes by a factor of {ratio}"
        );
        assert!(kl <= FAST_KL, "{name}: mean KL {kl}");
    }
}

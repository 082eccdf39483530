//! What the parity tests share: recorded oracles and how a logit is compared.

#![allow(dead_code)] // each test binary uses its part

use std::path::{Path, PathBuf};

use graft::adapter::AdapterOptions;
use graft::{Adapter, Model, Session};

/// The bound for `Exact` against transformers/PEFT in f32: two f32 engines that sum in another order.
pub const LOGIT_BOUND: f32 = 1e-3;

/// A logit's error in units where 1 is the size of the logit (at least 1).
pub fn logit_error(ours: f32, oracle: f32) -> f32 {
    let e = (ours - oracle).abs() / oracle.abs().max(1.0);
    // NaN must not pass as "not larger than the bound".
    if e.is_nan() { f32::INFINITY } else { e }
}

/// The folder of recorded data.
pub fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// A real model; `scripts/fetch-models` puts it there. Its absence is a failure, not a skip.
pub fn real_model(file: &str) -> PathBuf {
    let folder = std::env::var_os("GRAFT_MODELS").map(PathBuf::from).unwrap_or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| std::env::var_os("HOME").map(|h| Path::new(&h).join(".cache")));
        cache.expect("HOME is set").join("graft/models")
    });
    let path = folder.join(file);
    assert!(
        path.exists(),
        "{} is missing: run ./scripts/fetch-models",
        path.display()
    );
    path
}

/// Reads a JSON file.
pub fn json(path: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// An array of token ids.
pub fn ids(v: &serde_json::Value) -> Vec<u32> {
    v.as_array()
        .expect("an array of ids")
        .iter()
        .map(|t| t.as_u64().expect("an id") as u32)
        .collect()
}

/// An array of numbers.
pub fn floats(v: &serde_json::Value) -> Vec<f32> {
    v.as_array()
        .expect("an array of numbers")
        .iter()
        .map(|t| t.as_f64().expect("a number") as f32)
        .collect()
}

/// The index of the largest logit, the lowest of equals.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, l) in logits.iter().enumerate() {
        if *l > logits[best] {
            best = i;
        }
    }
    best as u32
}

/// log(sum(exp(logits))) in f64.
pub fn logsumexp(logits: &[f32]) -> f64 {
    let max = logits.iter().fold(f32::NEG_INFINITY, |m, l| m.max(*l)) as f64;
    max + logits.iter().map(|l| (f64::from(*l) - max).exp()).sum::<f64>().ln()
}

/// Adapters of a recorded case: `[{"dir", "weight", "task_id"}]`, folders relative to `base`.
pub fn try_adapters(model: &Model, base: &Path, list: &serde_json::Value) -> graft::Result<Vec<(Adapter, f32)>> {
    let list = list.as_array().expect("adapters");
    list.iter()
        .map(|a| {
            let dir = base.join(a["dir"].as_str().expect("dir"));
            let options = AdapterOptions {
                task_id: a["task_id"].as_u64().map(|t| t as usize),
            };
            let adapter = model.load_adapter_with(&dir, &options)?;
            Ok((adapter, a["weight"].as_f64().expect("weight") as f32))
        })
        .collect()
}

/// The same, which must be good.
pub fn adapters(model: &Model, base: &Path, list: &serde_json::Value) -> Vec<(Adapter, f32)> {
    try_adapters(model, base, list).unwrap_or_else(|e| panic!("{e}"))
}

/// The recorded cases of adapter methods (tests/reference/methods.py), sorted.
pub fn method_cases() -> Vec<PathBuf> {
    let listed =
        |folder: &Path| -> Vec<PathBuf> { std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect() };
    let folders = listed(&data().join("methods"));
    let mut cases: Vec<_> = folders.iter().filter(|f| f.is_dir()).flat_map(|f| listed(f)).collect();
    cases.retain(|path| path.extension().is_some_and(|e| e == "json"));
    cases.sort();
    cases
}

/// Mean log-probability of tokens 2..n, and the logits at each recorded position, from one run over `tokens`.
pub fn run(session: &mut Session, tokens: &[u32], each: &mut dyn FnMut(usize, &[f32])) -> f64 {
    let mut sum = 0.0;
    session
        .eval_each(tokens, &mut |i, logits| {
            each(i, logits);
            if let Some(next) = tokens.get(i + 1) {
                sum += f64::from(logits[*next as usize]) - logsumexp(logits);
            }
            std::ops::ControlFlow::Continue(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
    sum / (tokens.len() - 1) as f64
}

/// Checks the recorded greedy tokens step by step. Where the oracle's own margin between the first two is inside twice
/// the logit bound, either may win; the oracle's token is fed in any case.
pub fn check_greedy(session: &mut Session, prompt: &[u32], greedy: &[u32], margins: &[f32], name: &str) {
    assert_eq!(greedy.len(), margins.len());
    let mut logits = session.eval(prompt).unwrap_or_else(|e| panic!("{e}")).to_vec();
    for (step, (token, margin)) in greedy.iter().zip(margins).enumerate() {
        let ours = argmax(&logits);
        let scale = logits[ours as usize].abs().max(1.0);
        assert!(
            ours == *token || *margin <= 2.0 * LOGIT_BOUND * scale,
            "{name}: greedy token {step}: oracle {token} (margin {margin}), ours {ours}"
        );
        logits = session.eval(&[*token]).unwrap_or_else(|e| panic!("{e}")).to_vec();
    }
}

//! Oracle: the loss itself. Along a random direction its difference quotient is what the gradients say, for every adapter of tests/data/methods
//! that can be trained. What PEFT keeps out of its gradients on purpose has tests of its own.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::*;
use graft::kernels::Precision;
use graft::train::{Example, Learner, Parameter, Parameters};
use graft::{ErrorKind, Model};
use serde_json::{Map, Value};

/// Of the derivative, or of a twentieth of the gradients' own length: the losses are sums in f32.
const BOUND: f64 = 1e-3;
const STEP: f32 = 4e-3;

/// Numbers from -1 to 1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }
}

fn model_of(name: &str) -> Model {
    Model::open(data().join("tiny").join(name).join("model.gguf")).unwrap()
}

/// Without the tokens that fill up (0 of gemma3, 3 of the others), the second with what an aLoRA waits for.
fn examples(config: &Map<String, Value>) -> Vec<Example> {
    let text = |n: u32, first: u32| (0..n).map(|i| 4 + (first + i * i * 7) % 250).collect::<Vec<u32>>();
    let mut second = text(11, 90);
    if let Some(invocation) = config.get("alora_invocation_tokens").filter(|v| !v.is_null()) {
        let invocation = ids(invocation);
        second.splice(3..3 + invocation.len(), invocation);
    }
    vec![Example::all(text(23, 1)), Example::all(second)]
}

fn adapters(model: &str) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(data().join("methods").join(model)).unwrap();
    let mut folders: Vec<_> = folders
        .map(|entry| entry.unwrap().path())
        .filter(|p| p.is_dir())
        .collect();
    folders.sort();
    folders
}

/// The derivative along a random direction, as the gradients have it and as differences have it, and the product of the lengths of
/// gradient and direction.
fn derivative(model: &Model, parameters: Parameters) -> Result<(f64, f64, f64), graft::Error> {
    let examples = examples(parameters.config());
    // The norms of DoRA are constants to the gradients of its factors.
    let dora = parameters.config().get("use_dora").is_some_and(|v| v == true);
    let mut learner = Learner::new(model, parameters, 64, Precision::Exact)?;
    learner.regularise(false);
    learner.gradients(&examples, 1.0)?;
    let mut random = Random(7);
    let (mut slope, mut squares) = (0.0, [0.0f64; 2]);
    let mut directions: Vec<Vec<f32>> = Vec::new();
    let all = learner.parameters().all();
    for (i, p) in all.iter().enumerate() {
        // One tensor under two keys: both move, and count once.
        if let Some(j) = all[..i].iter().position(|q| (p.twin || q.twin) && q.values == p.values) {
            directions.push(directions[j].clone());
            continue;
        }
        let fixed = !p.trained || dora && p.key.contains("lora_") && !p.key.contains("magnitude");
        let size = (p.values.iter().map(|v| v * v).sum::<f32>() / p.values.len().max(1) as f32).sqrt();
        let size = if fixed { 0.0 } else { size };
        let d: Vec<f32> = p.values.iter().map(|_| random.next() * size).collect();
        if !fixed {
            slope += p.grad.iter().zip(&d).map(|(g, d)| f64::from(g * d)).sum::<f64>();
            squares[0] += p.grad.iter().map(|g| f64::from(g * g)).sum::<f64>();
            squares[1] += d.iter().map(|d| f64::from(d * d)).sum::<f64>();
        }
        directions.push(d);
    }
    let start: Vec<Vec<f32>> = all.iter().map(|p| p.values.clone()).collect();
    let mut loss_at = |step: f32| {
        learner.change(|parameters| {
            for ((p, start), d) in parameters.all_mut().iter_mut().zip(&start).zip(&directions) {
                let moved = start.iter().zip(d).map(|(v, d)| v + step * d);
                p.values.iter_mut().zip(moved).for_each(|(v, moved)| *v = moved);
            }
        })?;
        learner.loss(&examples).map(|loss| loss.0)
    };
    // Of two widths, so that the third derivative does not count.
    let near = loss_at(STEP)? - loss_at(-STEP)?;
    let far = loss_at(2.0 * STEP)? - loss_at(-2.0 * STEP)?;
    let quotient = (8.0 * near - far) / f64::from(12.0 * STEP);
    Ok((slope, quotient, (squares[0] * squares[1]).sqrt()))
}

#[test]
fn gradients_are_differences() {
    let (mut checked, mut refused, mut failed) = (0, BTreeSet::new(), Vec::new());
    for name in ["llama-tied", "qwen2", "gemma3"] {
        let model = model_of(name);
        for folder in adapters(name) {
            let adapter = folder.file_name().unwrap().to_string_lossy().into_owned();
            let parameters = Parameters::open(&folder).unwrap();
            // It cuts what is moved: see below.
            if parameters.config().get("coft").is_some_and(|v| v == true) {
                continue;
            }
            match derivative(&model, parameters) {
                Ok((slope, quotient, size)) => {
                    let error = (slope - quotient).abs() / slope.abs().max(0.05 * size);
                    println!("{name:10} {adapter:28} {slope:12.5} {quotient:12.5} {error:.1e}");
                    if error.is_nan() || error > BOUND {
                        failed.push(format!(
                            "{name}/{adapter}: {slope} by gradients, {quotient} by differences"
                        ));
                    }
                    checked += 1;
                }
                Err(e) if e.kind() == ErrorKind::Unsupported => {
                    refused.insert(adapter);
                }
                Err(e) => failed.push(format!("{name}/{adapter}: {e}")),
            }
        }
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    assert_eq!(
        refused.into_iter().collect::<Vec<_>>(),
        ["multitask", "p-tuning", "p-tuning-lstm", "prefix-tuning-projection"]
    );
    assert!(checked >= 180, "only {checked} adapters");
}

/// The adapter of `folder` with a field of its config changed.
fn open_with(folder: &Path, field: &str, value: Value) -> Parameters {
    let p = Parameters::open(folder).unwrap();
    let mut config = p.config().clone();
    config.insert(field.to_owned(), value);
    let tensors = p
        .all()
        .iter()
        .map(|t| (t.key.clone(), t.shape.clone(), t.values.clone()));
    Parameters::new(config, tensors.collect()).unwrap()
}

fn gradients(model: &Model, parameters: Parameters, examples: &[Example]) -> Parameters {
    let mut learner = Learner::new(model, parameters, 64, Precision::Exact).unwrap();
    learner.gradients(examples, 1.0).unwrap();
    learner.parameters().clone()
}

/// PEFT's OFTRotationModule.forward (peft/tuners/oft/layer.py) writes the cut matrices back, then goes on as without coft.
#[test]
fn coft_cuts_the_stored_matrices_and_is_oft_then() {
    let (model, folder) = (model_of("llama-tied"), data().join("methods/llama-tied/oft-coft"));
    let examples = examples(&Map::new());
    let cut = gradients(&model, Parameters::open(&folder).unwrap(), &examples);
    let eps = cut.config()["eps"].as_f64().unwrap();
    for t in cut.all() {
        let most = eps / (t.shape[0] as f64).sqrt();
        for numbers in t.values.chunks_exact(t.shape[1]) {
            // Each number stands in Q twice.
            let norm = (2.0 * numbers.iter().map(|v| f64::from(v * v)).sum::<f64>()).sqrt();
            assert!(norm < most * (1.0 + 1e-6), "{}: {norm}, at most {most}", t.key);
        }
    }
    let before = Parameters::open(&folder).unwrap();
    assert_ne!(before.all()[0].values, cut.all()[0].values, "nothing to cut");
    let mut config = cut.config().clone();
    config.insert("coft".to_owned(), false.into());
    let tensors = cut
        .all()
        .iter()
        .map(|t| (t.key.clone(), t.shape.clone(), t.values.clone()));
    let plain = gradients(&model, Parameters::new(config, tensors.collect()).unwrap(), &examples);
    for (cut, plain) in cut.all().iter().zip(plain.all()) {
        let largest = plain.grad.iter().fold(0.0f32, |m, g| m.max(g.abs()));
        let apart = cut.grad.iter().zip(&plain.grad).map(|(a, b)| (a - b).abs());
        assert!(apart.fold(0.0, f32::max) < 1e-5 * largest, "{}", cut.key);
    }
}

fn is_zero(numbers: impl IntoIterator<Item = f32>) -> bool {
    numbers.into_iter().all(|v| v == 0.0)
}

/// The embedding of the token that fills up short sequences is transformers' `padding_idx`: it never learns, what is behind it does.
#[test]
fn the_padding_token_does_not_learn_where_it_is_looked_up() {
    const PADDING: usize = 3;
    let examples = [Example::all(vec![9, PADDING as u32, 40, 5, PADDING as u32, 17])];
    let embed = "base_model.model.model.embed_tokens";
    let case = |model: &str, name: &str| data().join("train").join(model).join(name);
    let train = |model: &str, parameters: Parameters| gradients(&model_of(model), parameters, &examples);
    let row = |p: &Parameter, row: usize| p.grad.chunks_exact(p.shape[1]).nth(row).unwrap().to_vec();

    let lora = Parameters::open(&case("llama-tied", "lora-embedding")).unwrap();
    let p = train("llama-tied", lora);
    let a = p.get(&format!("{embed}.lora_embedding_A")).unwrap();
    let column = |token: usize| a.grad.iter().skip(token).step_by(a.shape[1]).copied();
    assert!(is_zero(column(PADDING)) && !is_zero(column(9)));

    let table = Parameters::open(&case("llama-tied", "lora-save-embedding")).unwrap();
    let p = train("llama-tied", table);
    let table = p.get(&format!("{embed}.weight")).unwrap();
    assert!(is_zero(row(table, PADDING)) && !is_zero(row(table, 40)));

    // Single rows; of a tied head the row learns as an output.
    for (model, learns) in [("qwen2", false), ("llama-tied", true)] {
        let indices = serde_json::json!([PADDING, 100, 9, 40]);
        let p = train(model, open_with(&case(model, "tokens"), "token_indices", indices));
        let rows = p.get(&format!("{embed}.trainable_tokens_delta")).unwrap();
        assert_eq!(is_zero(row(rows, 0)), !learns, "{model}");
        assert!(!is_zero(row(rows, 2)) && !is_zero(row(rows, 3)), "{model}");
    }
}

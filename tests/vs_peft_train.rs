//! Oracle: PEFT and torch in f64 (tests/reference/train_gradients.py): the loss of a batch and its gradient by every trained tensor, for every
//! method that Graft trains, on tiny models of three architectures.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::*;
use graft::Model;
use graft::format::{LoadMode, SafeTensors};
use graft::kernels::Precision;
use graft::train::{Example, Learner, Optimizer, Parameters, Schedule, TrainOptions, Trainer};
use serde_json::Value;

/// Of the largest element of a tensor. PEFT itself in f32 is up to 2e-5 away from f64.
const BOUND: f32 = 1e-4;

fn cases() -> Vec<PathBuf> {
    let mut cases = Vec::new();
    for model in std::fs::read_dir(data().join("train")).unwrap() {
        let model = model.unwrap().path();
        if !model.is_dir() {
            continue;
        }
        for case in std::fs::read_dir(model).unwrap() {
            let case = case.unwrap().path();
            if case.join("batch.json").is_file() {
                cases.push(case);
            }
        }
    }
    cases.sort();
    cases
}

fn examples(batch: &Value) -> Vec<Example> {
    let sequences = batch["sequences"].as_array().unwrap();
    let learn = |s: &Value| {
        s["learn"]
            .as_array()
            .unwrap()
            .iter()
            .map(|l| l.as_bool().unwrap())
            .collect()
    };
    sequences
        .iter()
        .map(|s| Example::new(ids(&s["tokens"]), learn(s)).unwrap())
        .collect()
}

fn model_of(case: &Path, batch: &Value) -> Model {
    Model::open(case.join(batch["model"].as_str().unwrap())).unwrap()
}

/// The largest error of a gradient, as a share of the largest element of its tensor.
fn check(case: &Path) -> Result<f32, String> {
    let batch = json(&case.join("batch.json"));
    let model = model_of(case, &batch);
    let parameters = Parameters::open(case).map_err(|e| e.to_string())?;
    let mut learner = Learner::new(&model, parameters, 64, Precision::Exact).map_err(|e| e.to_string())?;
    // Of AdaLoRA's cases the config says the same, with and without.
    let regulariser = batch["regulariser"].as_f64();
    learner.regularise(regulariser.is_some());
    if (learner.regulariser() - regulariser.unwrap_or(0.0)).abs() > 1e-6 {
        return Err(format!("regulariser {}, oracle {regulariser:?}", learner.regulariser()));
    }
    let examples = examples(&batch);
    let n: usize = examples.iter().map(Example::targets).sum();
    let (sum, learnt) = learner
        .gradients(&examples, 1.0 / n as f32)
        .map_err(|e| e.to_string())?;
    assert_eq!(learnt, n);
    let oracle: f64 = batch["sequences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["nll"].as_f64().unwrap())
        .sum();
    if (sum / oracle - 1.0).abs() > 1e-5 {
        return Err(format!("loss {sum}, oracle {oracle}"));
    }
    let (again, _) = learner.loss(&examples).map_err(|e| e.to_string())?;
    if (again / sum - 1.0).abs() > 1e-6 {
        return Err(format!("loss {sum} with gradients, {again} without"));
    }
    let oracle = SafeTensors::open(&case.join("gradients.safetensors"), LoadMode::Read).unwrap();
    let mut worst = (0.0f32, String::new());
    for t in oracle.tensors() {
        let Some(p) = learner.parameters().get(t.name) else {
            return Err(format!("no tensor {}", t.name));
        };
        if !p.trained {
            return Err(format!("{} has no gradient", t.name));
        }
        let expected = t.to_f32().unwrap();
        assert_eq!(expected.len(), p.grad.len(), "{}", t.name);
        let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for (ours, oracle) in p.grad.iter().zip(&expected) {
            let error = (ours - oracle).abs() / largest;
            if error > worst.0 || error.is_nan() {
                worst = (error, format!("{}: {ours} for {oracle}", t.name));
            }
        }
    }
    for p in learner.parameters().all() {
        if p.trained && oracle.tensors().all(|t| t.name != p.key) {
            return Err(format!("{} is not trained by PEFT", p.key));
        }
    }
    match worst.0 <= BOUND {
        true => Ok(worst.0),
        false => Err(format!("error {:.1e} of {}", worst.0, worst.1)),
    }
}

#[test]
fn gradients_match_peft() {
    let (mut failed, mut trained) = (Vec::new(), 0);
    let mut worst: BTreeMap<String, f32> = BTreeMap::new();
    for case in cases() {
        let name = case.file_name().unwrap().display().to_string();
        let model = case.parent().unwrap().file_name().unwrap().display().to_string();
        match check(&case) {
            Ok(error) => {
                let worst = worst.entry(name).or_default();
                *worst = worst.max(error);
                trained += 1;
            }
            Err(e) => failed.push(format!("{model}/{name}: {e}")),
        }
    }
    for (name, error) in &worst {
        println!("{name:24} largest error {error:.1e}");
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    assert_eq!(trained, 102, "cases");
}

/// The last digits of what six steps of an optimizer make of a tensor, as a share of its largest element. Torch in f32 is up to 3e-6 away
/// from f64.
const STEPS_BOUND: f32 = 2e-5;

#[test]
fn optimizers_go_the_way_of_torch() {
    let folder = data().join("train/llama-tied");
    let names = [
        "adamw",
        "accumulate",
        "linear",
        "dora",
        "loraplus",
        "loraplus-embedding",
        "sgd",
        "lion",
    ];
    for name in names {
        let case = json(&folder.join(format!("steps-{name}.json")));
        let number = |key: &str| case[key].as_f64().map(|v| v as f32);
        let pair = |v: &Value| (v[0].as_f64().unwrap() as f32, v[1].as_f64().unwrap() as f32);
        let options = TrainOptions {
            steps: case["steps"].as_array().unwrap().len(),
            lr: number("lr").unwrap(),
            schedule: Schedule::named(case["schedule"].as_str().unwrap()).unwrap(),
            warmup: case["warmup"].as_u64().unwrap() as usize,
            optimizer: match case["optimizer"].as_str().unwrap() {
                "AdamW" => Optimizer::AdamW {
                    betas: pair(&case["betas"]),
                    eps: number("eps").unwrap(),
                    eight_bits: false,
                },
                "SGD" => Optimizer::Sgd {
                    momentum: number("momentum").unwrap(),
                },
                "Lion" => Optimizer::Lion {
                    betas: pair(&case["betas"]),
                },
                other => panic!("{other}"),
            },
            weight_decay: number("weight_decay").unwrap(),
            clip: number("clip"),
            lora_plus: number("loraplus"),
            seq: 64,
            precision: Precision::Exact,
            ..Default::default()
        };
        let model = model_of(&folder, &case);
        let start = Parameters::open(&folder.join(case["start"].as_str().unwrap())).unwrap();
        let lr = options.lr;
        let mut trainer = Trainer::new(&model, start, options).unwrap();
        let batches = case["data"].as_array().unwrap();
        for step in case["steps"].as_array().unwrap() {
            let batch: Vec<Example> = ids(&step["batches"])
                .iter()
                .flat_map(|i| examples(&serde_json::json!({"sequences": batches[*i as usize]})))
                .collect();
            let report = trainer.step(&batch).unwrap();
            for (what, ours, oracle) in [
                ("loss", report.loss, &step["loss"]),
                ("norm", report.grad_norm, &step["grad_norm"]),
            ] {
                let oracle = oracle.as_f64().unwrap();
                assert!(
                    (ours / oracle - 1.0).abs() < 1e-4,
                    "{name} step {}: {what} {ours}, oracle {oracle}",
                    report.step
                );
            }
            assert!((f64::from(report.lr) - step["lr"][0].as_f64().unwrap()).abs() < 1e-6 * f64::from(lr));
            assert!(!report.skipped);
        }
        let path = folder.join(case["final"].as_str().unwrap());
        let oracle = SafeTensors::open(&path, LoadMode::Read).unwrap();
        let (mut worst, mut flips) = (0.0f32, 0);
        for t in oracle.tensors() {
            let ours = &trainer.learner().parameters().get(t.name).unwrap().values;
            let expected = t.to_f32().unwrap();
            let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            for (ours, oracle) in ours.iter().zip(&expected) {
                let error = (ours - oracle).abs();
                // The sign of a sum that is nearly zero may be the other one.
                if name == "lion" && (error - 2.0 * lr).abs() < 0.1 * lr {
                    flips += 1;
                    continue;
                }
                worst = worst.max(error / largest);
            }
        }
        println!("{name:20} largest error {worst:.1e}, {flips} flips");
        assert!(worst <= STEPS_BOUND && flips <= 2, "{name}: {worst:.1e}, {flips} flips");
    }
}

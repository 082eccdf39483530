//! Dropout. Oracles: the loss itself, whose difference quotients are the gradients while the same numbers are lost; the gradients without
//! dropout, which those with it have as their mean where they are linear in what is lost.

mod common;

use common::*;
use graft::kernels::Precision;
use graft::train::{Example, Learner, NewAdapter, Parameters, Targets, TrainOptions, Trainer};
use graft::{ErrorKind, Model};
use serde_json::Value;

fn tiny(name: &str) -> Model {
    Model::open(data().join("tiny").join(name).join("model.gguf")).unwrap()
}

fn examples() -> Vec<Example> {
    let text = |n: u32, first: u32| Example::all((0..n).map(|i| 4 + (first + i * i * 7) % 250).collect());
    vec![text(23, 1), text(11, 90)]
}

fn begin(model: &Model, method: &str, targets: &str, dropout: f64) -> Parameters {
    let new = NewAdapter {
        r: 4,
        targets: Targets::parse(targets),
        dropout,
        ..NewAdapter::of(method).unwrap()
    };
    Parameters::start(model, &new).unwrap()
}

/// Numbers from -1 to 1.
fn random(state: &mut u64) -> f32 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
}

/// Adds `step` times numbers that belong to `seed` to every tensor.
fn moved(parameters: &mut Parameters, seed: u64, step: f32) -> Vec<Vec<f32>> {
    let mut state = seed;
    let mut directions = Vec::new();
    for p in parameters.all_mut() {
        let d: Vec<f32> = p.values.iter().map(|_| 0.1 * random(&mut state)).collect();
        p.values.iter_mut().zip(&d).for_each(|(v, d)| *v += step * d);
        directions.push(d);
    }
    directions
}

#[test]
fn gradients_are_differences_while_the_same_numbers_are_lost() {
    const STEP: f32 = 4e-3;
    for (name, method, targets) in [
        ("llama-tied", "lora", "all-linear"),
        ("qwen2", "lora", "q_proj,down_proj,lm_head"),
        ("gemma3", "rslora", "all-linear"),
        ("qwen2", "adalora", "all-linear"),
    ] {
        let model = tiny(name);
        let mut parameters = begin(&model, method, targets, 0.3);
        moved(&mut parameters, 5, 1.0);
        let mut learner = Learner::new(&model, parameters, 64, Precision::Exact).unwrap();
        learner.regularise(false);
        let plain = learner.gradients(&examples(), 1.0).unwrap().0;
        learner.drop_out(Some(9));
        let lossy = learner.gradients(&examples(), 1.0).unwrap().0;
        assert!((lossy / plain - 1.0).abs() > 1e-3, "{name}: {lossy}, {plain} without");
        let grads: Vec<Vec<f32>> = learner.parameters().all().iter().map(|p| p.grad.clone()).collect();
        let mut directions = Vec::new();
        let mut loss_at = |to: f32| {
            learner.change(|p| directions = moved(p, 11, to)).unwrap();
            let loss = learner.gradients(&examples(), 1.0).unwrap().0;
            learner.change(|p| drop(moved(p, 11, -to))).unwrap();
            loss
        };
        let near = loss_at(STEP) - loss_at(-STEP);
        let far = loss_at(2.0 * STEP) - loss_at(-2.0 * STEP);
        let quotient = (8.0 * near - far) / f64::from(12.0 * STEP);
        let pairs = || grads.iter().flatten().zip(directions.iter().flatten());
        let slope: f64 = pairs().map(|(g, d)| f64::from(g * d)).sum();
        let length = |of: fn((&f32, &f32)) -> f32| pairs().map(of).map(|v| f64::from(v * v)).sum::<f64>().sqrt();
        let size = slope.abs().max(0.05 * length(|p| *p.0) * length(|p| *p.1));
        println!("{name:12} {method:8} slope {slope:.5}, quotient {quotient:.5}");
        assert!(
            (slope - quotient).abs() < 1e-3 * size,
            "{name} {method}: {slope} for {quotient}"
        );
        // What measures has no dropout.
        let measured = learner.loss(&examples()).unwrap().0;
        assert!((measured / plain - 1.0).abs() < 1e-3, "{name}: {measured} for {plain}");
    }
}

/// While B is 0 no update changes what the layers see, so that the gradient by B is linear in the input that A has.
#[test]
fn the_mean_over_many_keys_is_what_there_is_without() {
    for (name, targets) in [("llama-tied", "all-linear"), ("qwen2", "v_proj,lm_head")] {
        let model = tiny(name);
        let mut learner = Learner::new(&model, begin(&model, "lora", targets, 0.5), 64, Precision::Exact).unwrap();
        let mut grads = |key: Option<u64>| -> Vec<f64> {
            learner.drop_out(key);
            learner.gradients(&examples(), 1.0).unwrap();
            let b = learner.parameters().all().iter().filter(|p| p.key.contains("lora_B"));
            b.flat_map(|p| p.grad.iter().map(|g| f64::from(*g))).collect()
        };
        let plain = grads(None);
        let apart = |grads: &[f64]| {
            let length = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>().sqrt();
            length(&mut grads.iter().zip(&plain).map(|(a, b)| a - b)) / length(&mut plain.iter().copied())
        };
        const KEYS: u64 = 256;
        let (mut mean, mut single) = (vec![0.0; plain.len()], 0.0f64);
        for key in 0..KEYS {
            let one = grads(Some(key));
            single += apart(&one) / KEYS as f64;
            mean.iter_mut().zip(&one).for_each(|(m, g)| *m += g / KEYS as f64);
        }
        // Of independent keys the distance falls with the root of their number.
        let expected = single / (KEYS as f64).sqrt();
        println!(
            "{name}: one key {single:.3}, their mean {:.4}, expected {expected:.4}",
            apart(&mean)
        );
        assert!(
            single > 0.3 && apart(&mean) < 1.3 * expected,
            "{name}: {single}, {}",
            apart(&mean)
        );
    }
}

#[test]
fn a_resumed_training_loses_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    for (name, precision) in [("llama-tied", Precision::Exact), ("qwen2-q4_0", Precision::Fast)] {
        let model = tiny(name);
        let options = TrainOptions {
            steps: 6,
            lr: 1e-2,
            seq: 32,
            precision,
            ..Default::default()
        };
        let values = |trainer: &Trainer| {
            let all = trainer.learner().parameters().all();
            all.iter()
                .flat_map(|p| p.values.iter().map(|v| v.to_bits()))
                .collect::<Vec<u32>>()
        };
        let run = |dropout: f64, seed: u64| {
            let options = TrainOptions {
                seed,
                ..options.clone()
            };
            let mut trainer = Trainer::new(&model, begin(&model, "lora", "all-linear", dropout), options).unwrap();
            for step in 0..6 {
                if step == 3 {
                    trainer.save_checkpoint(&path, &Value::Null).unwrap();
                }
                trainer.step(&examples()).unwrap();
            }
            trainer
        };
        let plain = values(&run(0.0, 42));
        assert_ne!(values(&run(0.2, 43)), values(&run(0.2, 42)));
        let mut whole = run(0.2, 42);
        assert_ne!(values(&whole), plain);
        let (mut second, _) = Trainer::resume(&model, options.clone(), &path).unwrap();
        for _ in 3..6 {
            second.step(&examples()).unwrap();
        }
        assert_eq!(values(&second), values(&whole), "{name}");
        let other = TrainOptions { seed: 1, ..options };
        let refused = Trainer::resume(&model, other, &path).err().unwrap().to_string();
        assert!(refused.contains("seed"), "{refused}");
        // What is saved says so, and measures as it runs: without.
        assert_eq!(whole.learner().parameters().config()["lora_dropout"], 0.2);
        let dir = folder.path().join(name);
        whole.save(&dir).unwrap();
        let loss = whole.evaluate(&examples()).unwrap();
        let mut saved = Learner::new(&model, Parameters::open(&dir).unwrap(), 32, precision).unwrap();
        let (sum, n) = saved.loss(&examples()).unwrap();
        assert_eq!(sum / n as f64, loss);
    }
}

#[test]
fn dropout_that_cannot_be_is_refused_by_name() {
    let model = tiny("llama-tied");
    for (method, p, kind) in [
        ("lora", 1.0, ErrorKind::Usage),
        ("lora", -0.1, ErrorKind::Usage),
        ("lora", f64::NAN, ErrorKind::Usage),
        ("dora", 0.1, ErrorKind::Unsupported),
        ("vera", 0.1, ErrorKind::Usage),
    ] {
        let new = NewAdapter {
            dropout: p,
            ..NewAdapter::of(method).unwrap()
        };
        let e = Parameters::start(&model, &new).err().unwrap();
        assert!(
            e.kind() == kind && e.to_string().contains("dropout"),
            "{method} {p}: {e}"
        );
    }
    let mut ia3 = begin(&model, "ia3", "all-linear", 0.0);
    assert!(ia3.set_dropout(0.1).unwrap_err().to_string().contains("dropout"));
    let mut lora = begin(&model, "lora", "all-linear", 0.0);
    assert!(lora.set_dropout(2.0).unwrap_err().to_string().contains("lora_dropout"));
    assert!(lora.set_dropout(f64::NAN).is_err());
    // One in a file.
    let mut config = lora.config().clone();
    config.insert("lora_dropout".into(), 1.5.into());
    let tensors = lora
        .all()
        .iter()
        .map(|p| (p.key.clone(), p.shape.clone(), p.values.clone()));
    let bad = Parameters::new(config, tensors.collect()).unwrap();
    let e = Learner::new(&model, bad, 32, Precision::Exact).err().unwrap();
    assert!(e.to_string().contains("lora_dropout"), "{e}");
}

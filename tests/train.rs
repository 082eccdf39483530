//! Training: what goes on after a stop goes on bit for bit; faults; the adapter in use between two steps. Oracles of the numbers:
//! `vs_peft_train.rs`.

mod common;

use common::*;
use graft::kernels::Precision;
use graft::runtime::SessionOptions;
use graft::train::{Example, Init, NewAdapter, Optimizer, Parameters, Targets, TrainOptions, Trainer};
use graft::{ErrorKind, Model};
use serde_json::json;

fn tiny(name: &str) -> Model {
    Model::open(data().join("tiny").join(name).join("model.gguf")).unwrap()
}

/// Batches of two examples, other ones for each step.
fn batch(step: u32) -> Vec<Example> {
    let of = |n: u32, by: u32| Example::all((0..n).map(|i| (i * by + step * 31) % 200 + 5).collect());
    vec![of(12, 7), of(20, 13)]
}

fn options(optimizer: &str, precision: Precision) -> TrainOptions {
    TrainOptions {
        steps: 8,
        lr: 5e-3,
        warmup: 2,
        optimizer: Optimizer::named(optimizer).unwrap(),
        weight_decay: 0.01,
        seq: 32,
        precision,
        ..Default::default()
    }
}

fn start(model: &Model, method: &str) -> Parameters {
    Parameters::start(
        model,
        &NewAdapter {
            method: method.into(),
            r: 4,
            ..Default::default()
        },
    )
    .unwrap()
}

fn run(trainer: &mut Trainer, steps: std::ops::Range<u32>) {
    for step in steps {
        trainer.step(&batch(step)).unwrap();
    }
}

fn values(trainer: &Trainer) -> Vec<u32> {
    let all = trainer.learner().parameters().all();
    all.iter().flat_map(|p| p.values.iter().map(|v| v.to_bits())).collect()
}

#[test]
fn a_resumed_training_ends_bit_for_bit_where_an_uninterrupted_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    for (name, method, optimizer, precision) in [
        ("llama-tied", "lora", "adamw", Precision::Exact),
        ("qwen2-q4_0", "dora", "adamw8bit", Precision::Fast),
        ("gemma3", "ia3", "sgd", Precision::Exact),
        ("qwen2", "ln_tuning", "lion", Precision::Fast),
    ] {
        let model = tiny(name);
        let options = options(optimizer, precision);
        let mut whole = Trainer::new(&model, start(&model, method), options.clone()).unwrap();
        run(&mut whole, 0..8);
        for stop in [0, 1, 5] {
            let mut first = Trainer::new(&model, start(&model, method), options.clone()).unwrap();
            run(&mut first, 0..stop);
            first.save_checkpoint(&path, &json!({"at": stop})).unwrap();
            let (mut second, place) = Trainer::resume(&model, options.clone(), &path).unwrap();
            assert_eq!(place, json!({"at": stop}));
            assert_eq!(second.steps_done(), stop as usize);
            run(&mut second, stop..8);
            assert_eq!(values(&second), values(&whole), "{name} {method} after {stop}");
        }
    }
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let (model, options) = (tiny("llama-tied"), options("adamw", Precision::Exact));
    let mut trainer = Trainer::new(&model, start(&model, "lora"), options.clone()).unwrap();
    trainer.step(&batch(0)).unwrap();
    trainer.save_checkpoint(&path, &json!(null)).unwrap();
    let good = std::fs::read(&path).unwrap();
    let refused = |model: &Model, options: &TrainOptions| match Trainer::resume(model, options.clone(), &path) {
        Err(e) => (e.kind(), e.to_string()),
        Ok(_) => panic!("went on"),
    };
    // Every kind of damage: a length, a byte anywhere.
    for len in [0, 7, 8, 12, 20, 100, good.len() - 9, good.len() - 1] {
        std::fs::write(&path, &good[..len]).unwrap();
        let (kind, words) = refused(&model, &options);
        assert!(
            kind == ErrorKind::Invalid && words.contains("checkpoint"),
            "{len}: {words}"
        );
    }
    for at in (0..good.len()).step_by(good.len() / 61).chain([good.len() - 1]) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&path, &bad).unwrap();
        let (_, words) = refused(&model, &options);
        assert!(words.contains("checkpoint"), "byte {at}: {words}");
    }
    std::fs::write(&path, &good).unwrap();
    let (kind, words) = refused(&tiny("qwen2"), &options);
    assert!(
        kind == ErrorKind::Mismatch && words.contains("another model"),
        "{words}"
    );
    let other = TrainOptions {
        lr: 1e-3,
        ..options.clone()
    };
    let (kind, words) = refused(&model, &other);
    assert!(kind == ErrorKind::Mismatch && words.contains("lr"), "{words}");
    assert!(Trainer::resume(&model, options, &folder.path().join("nothing")).is_err());
}

#[test]
fn training_learns_and_its_adapter_is_in_use_between_two_steps() {
    // One example by heart: its loss goes to nearly 0, and the model then says it.
    for (name, method) in [("llama-tied", "lora"), ("qwen2", "dora"), ("gemma3", "lora")] {
        let model = tiny(name);
        let options = TrainOptions {
            steps: 60,
            lr: 2e-2,
            seq: 32,
            precision: Precision::Exact,
            ..Default::default()
        };
        let mut trainer = Trainer::new(&model, start(&model, method), options).unwrap();
        let tokens: Vec<u32> = (0..16).map(|i| (i * 37) % 190 + 7).collect();
        let example = [Example::all(tokens.clone())];
        let before = trainer.evaluate(&example).unwrap();
        // As exact as the training: token by token and all at once are then the same but for the order of sums.
        let exact = SessionOptions {
            precision: Precision::Exact,
            ..Default::default()
        };
        let mut session = model.session(&exact).unwrap();
        for _ in 0..60 {
            trainer.step(&example).unwrap();
        }
        let after = trainer.evaluate(&example).unwrap();
        assert!(after < 0.1 * before && after < 0.5, "{name}: {before} to {after}");
        session.set_adapters(&[(trainer.adapter().unwrap(), 1.0)]).unwrap();
        let mut said = 0;
        for i in 1..tokens.len() {
            session.eval(&tokens[i - 1..i]).unwrap();
            said += usize::from(argmax(session.logits()) == tokens[i]);
        }
        assert!(said >= 14, "{name}: {said} of 15");
        // What is saved is what runs.
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("adapter");
        trainer.save(&dir).unwrap();
        let logits = session.logits().to_vec();
        session.reset();
        session
            .set_adapters(&[(model.load_adapter(&dir).unwrap(), 1.0)])
            .unwrap();
        session.eval(&tokens[..15]).unwrap();
        for (a, b) in session.logits().iter().zip(&logits) {
            assert!((a - b).abs() <= 1e-3 * b.abs().max(1.0), "{name}: {a} {b}");
        }
    }
}

#[test]
fn a_new_adapter_changes_nothing_at_first() {
    for name in ["llama-tied", "qwen2", "gemma3"] {
        let model = tiny(name);
        let options = SessionOptions {
            precision: Precision::Exact,
            ..Default::default()
        };
        let mut session = model.session(&options).unwrap();
        let tokens: Vec<u32> = (5..25).collect();
        let plain = session.eval(&tokens).unwrap().to_vec();
        for method in ["lora", "rslora", "dora", "ia3", "ln_tuning"] {
            let parameters = start(&model, method);
            let adapter = model.attach(&parameters.file().unwrap()).unwrap();
            session.reset();
            session.set_adapters(&[(adapter, 1.0)]).unwrap();
            let logits = session.eval(&tokens).unwrap();
            // DoRA divides by norms that are 1 but for rounding.
            for (a, b) in logits.iter().zip(&plain) {
                assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{name} {method}: {a} for {b}");
            }
        }
    }
}

#[test]
fn what_cannot_be_trained_is_refused_by_name() {
    let model = tiny("llama-tied");
    let new = |change: &dyn Fn(&mut NewAdapter)| {
        let mut new = NewAdapter::default();
        change(&mut new);
        match Parameters::start(&model, &new) {
            Err(e) => (e.kind(), e.to_string()),
            Ok(_) => panic!("began"),
        }
    };
    type Change<'a> = &'a dyn Fn(&mut NewAdapter);
    let cases: [(Change, &str); 6] = [
        (&|n| n.targets = Targets::parse("q_prj"), "q_proj"),
        (&|n| n.targets = Targets::parse("nothing.*"), "q_proj"),
        (&|n| n.targets = Targets::parse("(broken"), "regular expression"),
        (&|n| n.method = "lorra".into(), "lora"),
        (&|n| n.r = 0, "r"),
        (&|n| n.r = 33, "32"),
    ];
    for (change, words) in cases {
        let (kind, found) = new(change);
        assert!(kind == ErrorKind::Usage && found.contains(words), "{found}");
    }
    assert!(Init::named("pissy").is_err());
    let trainer = |o: TrainOptions| match Trainer::new(&model, start(&model, "lora"), o) {
        Err(e) => e.to_string(),
        Ok(_) => panic!("began"),
    };
    let good = options("adamw", Precision::Exact);
    for (o, words) in [
        (TrainOptions { seq: 1, ..good.clone() }, "seq"),
        (
            TrainOptions {
                seq: 1 << 30,
                ..good.clone()
            },
            "seq",
        ),
        (
            TrainOptions {
                steps: 0,
                ..good.clone()
            },
            "steps",
        ),
        (
            TrainOptions {
                lr: f32::NAN,
                ..good.clone()
            },
            "lr",
        ),
        (
            TrainOptions {
                clip: Some(-1.0),
                ..good.clone()
            },
            "clip",
        ),
    ] {
        let found = trainer(o);
        assert!(found.contains(words), "{found}");
    }
    let mut trainer = Trainer::new(&model, start(&model, "lora"), good).unwrap();
    let before = values(&trainer);
    let long = Example::all((0..40).collect());
    let outside = Example::all(vec![1, 2, 1 << 20]);
    let nothing = Example::new(vec![1, 2, 3], vec![false; 3]).unwrap();
    for (bad, words) in [
        (long, "too long"),
        (outside, "vocabulary"),
        (nothing, "nothing to learn"),
    ] {
        let found = trainer.step(&[bad]).unwrap_err().to_string();
        assert!(found.contains(words), "{found}");
    }
    assert!(trainer.step(&[]).is_err());
    assert_eq!(values(&trainer), before);
    // Numbers beyond all bounds: steps are skipped, then it ends with advice.
    let mut wild = Trainer::new(
        &model,
        start(&model, "lora"),
        TrainOptions {
            lr: 1e30,
            warmup: 0,
            steps: 100,
            clip: None,
            ..options("sgd", Precision::Exact)
        },
    )
    .unwrap();
    let end = (0..40).find_map(|step| wild.step(&batch(step)).err()).unwrap();
    assert!(
        end.kind() == ErrorKind::Limit || end.kind() == ErrorKind::Invalid,
        "{end}"
    );
}

//! Training on a real model: gradients in `Fast` beside those in `Exact`, which `vs_peft_train.rs` holds to PEFT.

mod common;

use common::*;
use graft::Model;
use graft::kernels::Precision;
use graft::rng::Rng;
use graft::tokenizer::EncodeOptions;
use graft::train::{Example, Learner, NewAdapter, Parameters, TrainOptions, Trainer};

/// LoRA of rank 8 on all linear maps, B too with something in it: half of the gradients would be 0.
fn begun(model: &Model) -> Parameters {
    let mut parameters = Parameters::start(model, &NewAdapter::default()).unwrap();
    let mut rng = Rng::new(7);
    for p in parameters.all_mut().iter_mut().filter(|p| p.key.contains("lora_B")) {
        p.values.iter_mut().for_each(|v| *v = 0.02 * (rng.unit() as f32 - 0.5));
    }
    parameters
}

fn verse(model: &Model, tokens: usize) -> Example {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/train/stage_verse.txt")).unwrap();
    let ids = model
        .tokenizer()
        .unwrap()
        .encode(&text[..4000], EncodeOptions::default())
        .unwrap();
    Example::all(ids[..tokens].to_vec())
}

#[test]
fn fast_gradients_point_where_exact_ones_do() {
    let model = Model::open(real_model("SmolLM2-135M-Instruct.Q4_1.gguf")).unwrap();
    let example = [verse(&model, 96)];
    let gradients = |precision| {
        let mut learner = Learner::new(&model, begun(&model), 96, precision).unwrap();
        let (sum, n) = learner.gradients(&example, 1.0 / 95.0).unwrap();
        let all = learner
            .parameters()
            .all()
            .iter()
            .map(|p| (p.key.clone(), p.grad.clone()));
        (sum / n as f64, all.collect::<Vec<_>>())
    };
    let (exact_loss, exact) = gradients(Precision::Exact);
    let (fast_loss, fast) = gradients(Precision::Fast);
    assert!(
        (fast_loss / exact_loss - 1.0).abs() < 0.01,
        "{fast_loss} for {exact_loss}"
    );
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let (mut worst, mut whole) = ((1.0, String::new()), [0.0; 3]);
    for ((key, exact), (_, fast)) in exact.iter().zip(&fast) {
        let products = [dot(exact, fast), dot(exact, exact), dot(fast, fast)];
        whole
            .iter_mut()
            .zip(products)
            .for_each(|(sum, product)| *sum += product);
        let cosine = products[0] / (products[1] * products[2]).sqrt();
        if cosine.is_nan() || cosine < worst.0 {
            worst = (cosine, key.clone());
        }
    }
    let whole = whole[0] / (whole[1] * whole[2]).sqrt();
    println!("cosine {whole:.5}, of a tensor at least {:.5}: {}", worst.0, worst.1);
    // Six texts of 64 to 512 tokens at two levels: 0.9997 to 0.9999 of all together, at least 0.9973 of a tensor (q or k, whose gradients
    // nearly cancel). With activations of 8 bits, as in inference, it was 0.965.
    assert!(whole >= 0.999, "{whole}");
    assert!(worst.0 >= 0.995, "{} {}", worst.0, worst.1);
}

#[test]
fn a_few_steps_learn_a_verse() {
    let model = Model::open(real_model("SmolLM2-135M-Instruct.Q4_1.gguf")).unwrap();
    let example = [verse(&model, 64)];
    let options = TrainOptions {
        steps: 12,
        lr: 2e-3,
        seq: 64,
        ..Default::default()
    };
    let parameters = Parameters::start(&model, &NewAdapter::default()).unwrap();
    let mut trainer = Trainer::new(&model, parameters, options).unwrap();
    let before = trainer.evaluate(&example).unwrap();
    for _ in 0..12 {
        trainer.step(&example).unwrap();
    }
    let after = trainer.evaluate(&example).unwrap();
    println!("loss {before:.3} to {after:.3}");
    assert!(after < 0.6 * before, "{before} to {after}");
}

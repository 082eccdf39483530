//! Training on a GPU, without one: a driver whose device is the CPU (`tests/cuda_on_cpu`).
//!
//! Oracle: the CPU's training, which `vs_peft_train.rs` compares with PEFT's.
#![cfg(target_os = "linux")]

mod common;
#[allow(dead_code)] // that of the kernels' tests
#[path = "cuda_on_cpu/device.rs"]
mod device;

use std::sync::Once;

use common::data;
use graft::adapter::{AdapterFile, AdapterOptions};
use graft::kernels::Precision;
use graft::kernels::op_times::OpTime;
use graft::runtime::LoadOptions;
use graft::train::{Example, Learner, NewAdapter, Optimizer, Parameters, TrainOptions, Trainer};
use graft::{DeviceChoice, Model, SessionOptions};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};

/// A tiny model: on the CPU, or so many layers of it (`None`: all) on the GPU.
fn model(name: &str, gpu_layers: Option<Option<usize>>) -> Model {
    static LOADED: Once = Once::new();
    // Once the stand-in is loaded it is what `libcuda.so` means in the process, whatever the environment says.
    LOADED.call_once(|| {
        drop(device::Device::get());
        // SAFETY: all tests begin here, and wait for the first.
        unsafe { std::env::set_var("GRAFT_CUDA_DRIVER", "libcuda.so") };
    });
    let device = match gpu_layers {
        None => DeviceChoice::Cpu,
        Some(_) => DeviceChoice::Cuda(None),
    };
    let options = LoadOptions {
        threads: Some(1),
        device,
        gpu_layers: gpu_layers.flatten(),
        ..Default::default()
    };
    let model = Model::open_with(data().join("tiny").join(name).join("model.gguf"), &options).unwrap();
    assert_eq!(model.device().is_some(), gpu_layers.is_some());
    model
}

/// All layers on the GPU, for [`model`].
const ALL: Option<Option<usize>> = Some(None);

/// Longer than a window, and one that learns a part.
fn examples() -> Vec<Example> {
    let of = |n: u32, by: u32| Example::all((0..n).map(|i| (i * by + 31) % 200 + 5).collect());
    vec![of(23, 7), of(9, 13)]
}

/// An adapter that does something, also where it begins with zeros.
fn adapter(model: &Model, method: &str, more: &dyn Fn(&mut NewAdapter)) -> Parameters {
    let mut new = NewAdapter {
        method: method.into(),
        ..Default::default()
    };
    match method {
        "prompt_tuning" | "prefix_tuning" => new.num_virtual_tokens = 3,
        "road" => new.group_size = 8,
        "trainable_tokens" => new.token_indices = vec![12, 33, 40, 47],
        "lora" | "dora" | "adalora" | "loha" | "lokr" | "hra" | "vera" | "miss" => new.r = 4,
        _ => {}
    }
    more(&mut new);
    let mut parameters = Parameters::start(model, &new).unwrap();
    let mut state = 7u64;
    for p in parameters.all_mut() {
        let size = 0.3 * p.values.iter().fold(0.1f32, |a, v| a.max(v.abs()));
        for v in &mut p.values {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            *v += size * ((state >> 40) as f32 / (1u32 << 23) as f32 - 1.0);
        }
    }
    parameters
}

type Gradients = Vec<(String, Vec<f32>)>;

/// The loss and the gradients by each tensor, and that with all layers on the GPU no operation leaves it.
fn gradients(model: &Model, parameters: Parameters, precision: Precision, dropout: bool) -> (f64, Gradients) {
    let mut learner = Learner::new(model, parameters, 40, precision).unwrap();
    learner.drop_out(dropout.then_some(99));
    model.cpu().times().start();
    let (loss, _) = learner.gradients(&examples(), 0.5).unwrap();
    let on_cpu = model.cpu().times().stop();
    assert_eq!(model.fallen(), [""; 0]);
    let layers: Vec<&str> = model.device().unwrap_or_default().split(' ').collect();
    match layers[..] {
        [on, "of", all, ..] if on == all => {
            // Rows of the table and of a prefix, which lie there, and once for each example a copy of them.
            let here = |op: &OpTime| match op.op {
                "embed" | "copy_rows" => true,
                "copy" => op.calls <= examples().len(),
                _ => false,
            };
            let others: Vec<_> = on_cpu.iter().filter(|op| !here(op)).map(|op| op.op).collect();
            assert_eq!(others, [""; 0], "these are the GPU's");
        }
        _ => assert!(on_cpu.iter().any(|op| op.op == "matmul_back"), "{on_cpu:?}"),
    }
    let all = learner.parameters().all().iter();
    let grads = all.filter(|p| p.trained).map(|p| (p.key.clone(), p.grad.clone()));
    (loss, grads.collect())
}

/// That gradients are the same up to `bound` of a tensor's largest.
fn assert_same(got: &(f64, Gradients), want: &(f64, Gradients), bound: f32, at: &str) {
    let off = ((got.0 - want.0) / want.0).abs();
    assert!(off <= f64::from(bound), "{at}: loss {}, expected {}", got.0, want.0);
    assert_eq!(got.1.len(), want.1.len(), "{at}");
    assert!(!want.1.is_empty(), "{at}: nothing is trained");
    let (mut all, mut largest_of_all) = (0f32, 0f32);
    for ((key, got), (other, want)) in got.1.iter().zip(&want.1) {
        assert_eq!((key, got.len()), (other, want.len()), "{at}");
        let largest = want.iter().fold(0f32, |a, v| a.max(v.abs()));
        let off = got.iter().zip(want).map(|(g, w)| (g - w).abs());
        let off = off.fold(0f32, |a, d| if d.is_nan() { f32::NAN } else { a.max(d) });
        assert!(
            off <= bound * largest.max(1e-6),
            "{at}, {key}: off by {off:e} of {largest:e}"
        );
        (all, largest_of_all) = (all.max(off / largest.max(1e-6)), largest_of_all.max(largest));
    }
    assert!(largest_of_all > 1e-4, "{at}: gradients are zero");
    println!("{at}: off by {all:e} of a tensor's largest at most");
}

/// `Exact`: what is left is the order of sums.
const SAME: f32 = 1e-4;

fn compare(name: &str, gpu_layers: Option<usize>, method: &str, more: &dyn Fn(&mut NewAdapter)) {
    let (cpu, gpu) = (model(name, None), model(name, Some(gpu_layers)));
    let of = |model: &Model| gradients(model, adapter(&cpu, method, more), Precision::Exact, false);
    assert_same(
        &of(&gpu),
        &of(&cpu),
        SAME,
        &format!("{name} {method}, layers {gpu_layers:?}"),
    );
}

#[test]
fn gradients_of_every_method_are_those_of_the_cpu() {
    for method in [
        "lora",
        "dora",
        "adalora",
        "loha",
        "lokr",
        "vera",
        "miss",
        "ia3",
        "oft",
        "boft",
        "hra",
        "road",
        "ln_tuning",
        "trainable_tokens",
        "prompt_tuning",
        "prefix_tuning",
    ] {
        compare("llama-tied", None, method, &|_| ());
    }
}

/// Norms of queries, windows, soft caps, biases, norms behind branches, weights in blocks.
#[test]
fn gradients_of_every_kind_of_model_are_those_of_the_cpu() {
    for name in [
        "gemma2",
        "gemma3",
        "qwen2",
        "qwen3",
        "qwen2-q4_0",
        "gemma3-mixed",
        "llama-yarn",
    ] {
        compare(name, None, "lora", &|_| ());
    }
    compare("gemma3", None, "ln_tuning", &|_| ());
    compare("qwen2", None, "ia3", &|_| ());
    compare("llama-separate-bias", None, "lora", &|new| {
        new.modules_to_save = vec!["lm_head".into(), "embed_tokens".into()];
    });
}

#[test]
fn some_layers_on_the_gpu() {
    for (name, layers, method) in [
        ("llama-tied", 1, "lora"),
        ("gemma3", 3, "lora"),
        ("qwen2", 1, "dora"),
        ("gemma2", 2, "ln_tuning"),
        ("llama-tied", 1, "ia3"),
        ("llama-tied", 1, "prefix_tuning"),
    ] {
        compare(name, Some(layers), method, &|_| ());
    }
}

/// The same numbers are lost.
#[test]
fn dropout_is_that_of_the_cpu() {
    let (cpu, gpu) = (model("qwen2", None), model("qwen2", ALL));
    let of = |model: &Model| {
        let parameters = adapter(&cpu, "lora", &|new| new.dropout = 0.3);
        gradients(model, parameters, Precision::Exact, true)
    };
    assert_same(&of(&gpu), &of(&cpu), SAME, "dropout");
}

/// `Fast` rounds weights, activations, keys and gradients to halves. The CPU's own `Fast` is as far off.
#[test]
fn fast_is_near() {
    for name in ["llama-tied-q8_0", "qwen2-q4_0", "gemma3-mixed"] {
        let (cpu, gpu) = (model(name, None), model(name, ALL));
        let of = |model: &Model, precision| gradients(model, adapter(&cpu, "lora", &|_| ()), precision, false);
        let exact = of(&cpu, Precision::Exact);
        assert_same(&of(&gpu, Precision::Fast), &exact, 0.03, &format!("{name}, fast"));
    }
}

/// Steps of the optimizer: the curve of losses and the tensors at the end; the same run again is the same bit for bit.
#[test]
fn a_training_is_that_of_the_cpu() {
    for (method, gpu_layers) in [("lora", None), ("ia3", None), ("lora", Some(1))] {
        let run = |on: &Model| {
            let options = TrainOptions {
                steps: 6,
                lr: 2e-3,
                warmup: 2,
                optimizer: Optimizer::named("adamw").unwrap(),
                seq: 32,
                precision: Precision::Exact,
                ..Default::default()
            };
            let parameters = adapter(on, method, &|_| ());
            let mut trainer = Trainer::new(on, parameters, options).unwrap();
            let losses: Vec<f64> = (0..6).map(|_| trainer.step(&examples()).unwrap().loss).collect();
            let values = trainer.learner().parameters().all().iter();
            (losses, values.flat_map(|p| p.values.clone()).collect::<Vec<f32>>())
        };
        let (cpu, gpu) = (model("qwen2", None), model("qwen2", Some(gpu_layers)));
        let ((want, want_values), (got, values)) = (run(&cpu), run(&gpu));
        assert!(want[5] < want[0], "{method}: nothing is learnt: {want:?}");
        for (got, want) in got.iter().zip(&want) {
            assert!(
                (got - want).abs() <= 1e-4 * want,
                "{method}: losses {got}, expected {want}"
            );
        }
        // A step of AdamW is as long for the smallest gradient, whose sign the order of sums may change.
        let off: f32 = values.iter().zip(&want_values).map(|(a, b)| (a - b).abs()).sum();
        assert!(
            off / (values.len() as f32) < 2e-5,
            "{method}: {off} over {}",
            values.len()
        );
        let (again, same) = run(&gpu);
        assert_eq!((again, same), (got, values), "{method}: another run");
    }
}

/// A in halves, B in f32: no kernel has that. The CPU does it, the numbers are right, and the operation's name is known.
#[test]
fn what_no_kernel_does_is_named() {
    let dir = data().join("methods/llama-tied/lora");
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    let (config, tensors) = (read("adapter_config.json"), read("adapter_model.safetensors"));
    let file = SafeTensors::deserialize(&tensors).unwrap();
    let halves = |bytes: &[u8]| -> Vec<u8> {
        let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        values.flat_map(|v| half::f16::from_f32(v).to_le_bytes()).collect()
    };
    let stored = file.tensors().into_iter().map(|(name, t)| {
        assert_eq!(t.dtype(), Dtype::F32);
        match name.contains("lora_A") {
            true => (name, Dtype::F16, t.shape().to_vec(), halves(t.data())),
            false => (name, Dtype::F32, t.shape().to_vec(), t.data().to_vec()),
        }
    });
    let stored: Vec<_> = stored.collect();
    let views = stored
        .iter()
        .map(|(name, dtype, shape, bytes)| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    let mixed = serialize(views, None).unwrap();
    let logits = |model: &Model, tensors: &[u8]| {
        let file = AdapterFile::from_bytes(config.clone(), tensors.to_vec(), &AdapterOptions::default()).unwrap();
        let options = SessionOptions {
            precision: Precision::Exact,
            ..Default::default()
        };
        let mut session = model.session(&options).unwrap();
        session.set_adapters(&[(model.attach(&file).unwrap(), 1.0)]).unwrap();
        session.eval(&[3, 9, 40, 12]).unwrap().to_vec()
    };
    let (cpu, gpu) = (model("llama-tied", None), model("llama-tied", ALL));
    logits(&gpu, &tensors);
    assert_eq!(gpu.fallen(), [""; 0]);
    let (got, want) = (logits(&gpu, &mixed), logits(&cpu, &mixed));
    assert_eq!(gpu.fallen(), ["low_rank"]);
    let off = got.iter().zip(&want).map(|(g, w)| (g - w).abs() / w.abs().max(1.0));
    assert!(off.fold(0f32, f32::max) <= 1e-4);
}

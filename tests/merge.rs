//! Oracle: PEFT's `merge_and_unload` on tiny models (tests/reference/methods.py); the same adapters put on live.

mod common;

use std::ops::ControlFlow;

use common::*;
use graft::kernels::Precision;
use graft::quant::BlockFormat;
use graft::runtime::{MergeOptions, MergeType};
use graft::{Adapter, Model, SessionOptions};

/// Logits behind all `tokens`, in `Exact`.
fn logits(model: &Model, adapters: &[(Adapter, f32)], tokens: &[u32]) -> Vec<f32> {
    let options = SessionOptions {
        precision: Precision::Exact,
        ..Default::default()
    };
    let mut session = model.session(&options).unwrap();
    session.set_adapters(adapters).unwrap();
    session.eval(tokens).unwrap().to_vec()
}

fn as_type(to: MergeType) -> MergeOptions {
    MergeOptions {
        to,
        ..Default::default()
    }
}

fn worst(ours: &[f32], oracle: &[f32]) -> f32 {
    assert_eq!(ours.len(), oracle.len());
    ours.iter()
        .zip(oracle)
        .fold(0.0, |worst, (a, b)| worst.max(logit_error(*a, *b)))
}

#[test]
fn merged_in_f32_is_what_peft_merges() {
    let (mut refused, mut merged_by_peft, mut failed, mut largest) = (0, 0, Vec::new(), 0.0f32);
    for path in method_cases() {
        let (folder, case) = (path.parent().unwrap(), json(&path));
        if case["segments"].as_array().unwrap().len() > 1 {
            continue;
        }
        let name = format!("{} {}", folder.file_name().unwrap().display(), case["name"]);
        let model = Model::open(folder.join(case["model"].as_str().unwrap())).unwrap();
        let adapters = adapters(&model, folder, &case["segments"][0]["adapters"]);
        let tokens = ids(&case["segments"][0]["tokens"]);
        let merged = match model.merged(&adapters, &as_type(MergeType::To(BlockFormat::F32)), &mut |_| true) {
            Ok((merged, report)) => {
                assert!(report.tensors.iter().all(|t| t.error == 0.0), "{name}: f32 is exact");
                merged
            }
            Err(e) => {
                // What PEFT merges, Graft may refuse only where the file would be wrong.
                let known = ["repeats layers", "larger vocabulary"]
                    .iter()
                    .any(|why| e.to_string().contains(why));
                if case["merged"].is_object() && !known {
                    failed.push(format!("{name}: {e}"));
                }
                refused += 1;
                continue;
            }
        };
        let ours = logits(&merged, &[], &tokens);
        let live = worst(&ours, &logits(&model, &adapters, &tokens));
        largest = largest.max(live);
        if live > LOGIT_BOUND {
            failed.push(format!("{name}: {live:.1e} from the adapters put on live"));
        }
        let recorded = &case["merged"];
        if recorded.is_object() && recorded["differs"] == false {
            merged_by_peft += 1;
            let error = worst(&ours, &floats(&recorded["logits"]));
            largest = largest.max(error);
            if error > LOGIT_BOUND {
                failed.push(format!("{name}: {error:.1e} from PEFT's merge"));
            }
        }
    }
    println!("{merged_by_peft} merges of PEFT; {refused} refused; largest error {largest:.2e}");
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    assert!(merged_by_peft > 150 && refused > 20, "recorded files are missing");
}

#[test]
fn a_merged_file_is_the_merged_model() {
    let dir = tempfile::tempdir().unwrap();
    for (base, adapter) in [
        ("llama-tied", "lora-dora"),
        ("llama-tied", "lora-embedding"),
        ("llama-tied", "tokens"),
        ("llama-tied", "ln-tuning"),
        ("qwen2", "road-1"),
        ("gemma3", "ln-tuning"),
        ("gemma3", "oft"),
    ] {
        let model = Model::open(data().join("tiny").join(base).join("model.gguf")).unwrap();
        let adapters = [(
            model
                .load_adapter(data().join("methods").join(base).join(adapter))
                .unwrap(),
            1.0,
        )];
        let tokens: Vec<u32> = (10..40).collect();
        for to in [
            MergeType::Keep,
            MergeType::To(BlockFormat::Q8_0),
            MergeType::To(BlockFormat::F16),
        ] {
            let path = dir.path().join("merged.gguf");
            let report = model.merge_to(&adapters, &as_type(to), &path, &mut |_| true).unwrap();
            let file = Model::open(&path).unwrap();
            let (memory, same) = model.merged(&adapters, &as_type(to), &mut |_| true).unwrap();
            assert_eq!(report.tensors.len(), same.tensors.len());
            assert_eq!(file.tied_head(), memory.tied_head());
            assert_eq!(
                logits(&file, &[], &tokens),
                logits(&memory, &[], &tokens),
                "{base} {adapter} {to:?}"
            );
            // Metadata is as it was.
            let entries = |m: &Model| {
                m.gguf()
                    .metadata()
                    .iter()
                    .map(|(k, v)| format!("{k} {v}"))
                    .collect::<Vec<_>>()
            };
            assert_eq!(entries(&file), entries(&model));
            // Rows replaced in a tied embedding are the head's too; an update of the embedding alone is not.
            if base == "llama-tied" {
                assert_eq!(file.tied_head(), adapter != "lora-embedding", "{adapter}");
            }
        }
    }
}

#[test]
fn a_merge_that_ends_early_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("merged.gguf");
    std::fs::write(&path, b"old").unwrap();
    let model = Model::open(data().join("tiny/qwen2/model.gguf")).unwrap();
    let adapters = [(model.load_adapter(data().join("methods/qwen2/lora-dora")).unwrap(), 1.0)];
    let mut calls = 0;
    let cancelled = model.merge_to(&adapters, &MergeOptions::default(), &path, &mut |_| {
        calls += 1;
        calls < 5
    });
    assert!(cancelled.is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "the temporary file is gone"
    );
    // Onto the model itself: refused.
    let copy = dir.path().join("model.gguf");
    std::fs::copy(data().join("tiny/qwen2/model.gguf"), &copy).unwrap();
    let model = Model::open(&copy).unwrap();
    let adapters = [(model.load_adapter(data().join("methods/qwen2/lora-dora")).unwrap(), 1.0)];
    assert!(
        model
            .merge_to(&adapters, &MergeOptions::default(), &copy, &mut |_| true)
            .is_err()
    );
    let mut session = model.session(&SessionOptions::default()).unwrap();
    let _ = session.eval_each(&[1, 2], &mut |_, _| ControlFlow::Continue(()));
}

/// One map's input is changed, its neighbour, of the same input, has a plain update: merging goes another way than the pass.
#[test]
fn methods_on_neighbouring_maps_do_not_hide_each_other() {
    let folder = data().join("methods/llama-tied");
    let model = Model::open(data().join("tiny/llama-tied/model.gguf")).unwrap();
    // LoRA on all linear maps, HRA on q, v, o and down.
    for (first, second) in [
        ("lora", "hra"),
        ("hra", "lora"),
        ("lora-other", "hra"),
        ("lora-dora", "hra"),
    ] {
        let adapters = [first, second].map(|name| (model.load_adapter(folder.join(name)).unwrap(), 1.0));
        let (merged, _) = model
            .merged(&adapters, &as_type(MergeType::To(BlockFormat::F32)), &mut |_| true)
            .unwrap();
        let tokens = [5, 9, 2, 44, 17, 101];
        let live = logits(&model, &adapters, &tokens);
        let error = worst(&logits(&merged, &[], &tokens), &live);
        assert!(error <= LOGIT_BOUND, "{first} and {second}: {error}");
        assert!(worst(&logits(&model, &adapters[..1], &tokens), &live) > 1e-2);
    }
}

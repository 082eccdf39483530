//! LoRA adapters as GGUF files. Oracle: PEFT's golden values of the folders that they were made from (tests/reference/gguf_lora.py).

mod common;

use std::path::{Path, PathBuf};

use common::*;
use graft::adapter::AdapterFile;
use graft::format::{Gguf, GgufPlan, LoadMode, MetaValue};
use graft::kernels::Precision;
use graft::quant::BlockFormat;
use graft::{Adapter, Error, ErrorKind, Model, Session, SessionOptions};
use serde_json::Value;

const MODELS: [&str; 3] = ["llama-tied", "qwen2", "gemma3"];

fn model(name: &str) -> Model {
    Model::open(data().join("tiny").join(name).join("model.gguf")).unwrap_or_else(|e| panic!("{e}"))
}

fn exact(model: &Model) -> Session {
    let options = SessionOptions {
        precision: Precision::Exact,
        ..Default::default()
    };
    model.session(&options).unwrap_or_else(|e| panic!("{e}"))
}

/// The adapters of a recorded case as GGUF files; `None` if one is not there in that form.
fn twins(model: &Model, name: &str, list: &Value) -> Option<Vec<(Adapter, f32)>> {
    let file = |a: &Value| {
        let dir = Path::new(a["dir"].as_str().unwrap()).file_name().unwrap();
        let path = data()
            .join("gguf-lora")
            .join(name)
            .join(format!("{}.gguf", dir.display()));
        let weight = a["weight"].as_f64().unwrap() as f32;
        path.exists()
            .then(|| (model.load_adapter(&path).unwrap_or_else(|e| panic!("{e}")), weight))
    };
    list.as_array().unwrap().iter().map(file).collect()
}

/// Runs the segments of a case and returns the largest error of its recorded logits.
fn check(model: &Model, name: &str, case: &Value) -> Option<f32> {
    let whole = [case.clone()];
    let segments = case["segments"].as_array().map_or(&whole[..], Vec::as_slice);
    if segments.iter().all(|s| s["adapters"].as_array().unwrap().is_empty()) {
        return None;
    }
    let (mut session, mut worst, mut before) = (exact(model), 0.0f32, 0);
    for segment in segments {
        session
            .set_adapters(&twins(model, name, &segment["adapters"])?)
            .unwrap();
        let tokens = ids(&segment["tokens"]);
        run(&mut session, &tokens, &mut |i, logits| {
            let positions = case["positions"].as_array().unwrap();
            for recorded in positions.iter().filter(|p| p["pos"] == before + i) {
                for (ours, oracle) in logits.iter().zip(floats(&recorded["logits"])) {
                    worst = worst.max(logit_error(*ours, oracle));
                }
            }
        });
        before += tokens.len();
    }
    Some(worst)
}

#[test]
fn logits_match_those_of_peft_with_the_folder() {
    let mut n = 0;
    for name in MODELS {
        let model = model(name);
        let golden = json(&data().join("tiny").join(name).join("golden.json"));
        let mut cases = golden["cases"].as_array().unwrap().clone();
        let methods = std::fs::read_dir(data().join("methods").join(name)).unwrap();
        let paths = methods.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some());
        cases.extend(paths.map(|p| json(&p)));
        for case in &cases {
            let Some(worst) = check(&model, name, case) else {
                continue;
            };
            assert!(worst <= LOGIT_BOUND, "{name} {}: {worst}", case["name"]);
            n += 1;
        }
    }
    println!("{n} cases");
    assert!(n >= 36, "only {n} cases: recorded files are missing");
}

#[test]
fn quantized_factors_are_what_they_dequantize_to() {
    let model = model("llama-tied");
    let logits = |file: &str| {
        let adapter = model
            .load_adapter(data().join("gguf-lora/llama-tied").join(file))
            .unwrap();
        let mut session = exact(&model);
        session.set_adapters(&[(adapter, 1.0)]).unwrap();
        session.eval(&[5, 9, 2, 44]).unwrap().to_vec()
    };
    assert_eq!(logits("quantized.gguf"), logits("quantized-read.gguf"));
    assert_ne!(logits("quantized.gguf"), logits("all-linear.gguf"));
}

#[test]
fn a_file_says_what_it_is() {
    let path = data().join("gguf-lora/llama-tied/lora-alora.gguf");
    let file = AdapterFile::open(&path).unwrap();
    assert_eq!((file.method(), file.architecture()), ("LORA", Some("llama")));
    assert_eq!(file.ranks(), [2]);
    assert_eq!(file.parameters(), 2048);
    assert_eq!(file.lowered().invocation.as_deref(), Some(&[21, 22, 23][..]));
    let error = Model::open(&path).err().unwrap().to_string();
    assert!(error.contains("an adapter, not a model"), "{error}");
}

/// A tensor to write: name, dims, type, numbers.
type Tensor = (&'static str, &'static [usize], BlockFormat, Vec<f32>);

/// A file of these keys, those of a plain adapter for llama where none is given, and tensors.
fn written(dir: &Path, keys: &[(&str, Option<MetaValue>)], tensors: &[Tensor]) -> PathBuf {
    let path = dir.join("adapter.gguf");
    let mut plan = GgufPlan::new();
    let usual = [
        ("general.type", MetaValue::from("adapter")),
        ("general.architecture", "llama".into()),
        ("adapter.type", "lora".into()),
        ("adapter.lora.alpha", 4.0f32.into()),
    ];
    for (key, value) in usual {
        if !keys.iter().any(|(k, _)| *k == key) {
            plan.set(key, value);
        }
    }
    for (key, value) in keys {
        if let Some(value) = value {
            plan.set(key, value.clone());
        }
    }
    for (name, dims, format, _) in tensors {
        plan.put(name, dims, *format);
    }
    let mut writer = plan.create(&path).unwrap();
    for (name, _, format, values) in tensors {
        let mut bytes = vec![0; format.bytes_for(values.len()).unwrap()];
        match format {
            // The quantizer refuses numbers that are not finite.
            BlockFormat::F32 => bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            format => format.quantize(values, None, &mut bytes).unwrap(),
        }
        writer.write(name, &bytes).unwrap();
    }
    writer.finish().unwrap();
    path
}

const Q_A: &str = "blk.0.attn_q.weight.lora_a";
const Q_B: &str = "blk.0.attn_q.weight.lora_b";

fn tensor(name: &'static str, dims: &'static [usize]) -> Tensor {
    (name, dims, BlockFormat::F32, vec![0.5; dims.iter().product()])
}

#[test]
fn files_that_would_be_partly_applied_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let model = model("llama-tied");
    let pair = || vec![tensor(Q_A, &[64, 2]), tensor(Q_B, &[2, 64])];
    let with = |more: Tensor| pair().into_iter().chain([more]).collect::<Vec<_>>();
    let nan = (Q_B, &[2usize, 64][..], BlockFormat::F32, vec![f32::NAN; 128]);
    let none: &[(&str, Option<MetaValue>)] = &[];
    let cases: [(&[(&str, Option<MetaValue>)], Vec<Tensor>, ErrorKind, &str); 17] = [
        (
            &[("general.type", None)],
            pair(),
            ErrorKind::Invalid,
            "general.type: not a LoRA adapter",
        ),
        (
            &[("general.type", Some("model".into()))],
            pair(),
            ErrorKind::Invalid,
            "found model",
        ),
        (
            &[("adapter.type", Some("control_vector".into()))],
            pair(),
            ErrorKind::Invalid,
            "found control_vector",
        ),
        (
            &[("adapter.lora.rank", Some(2u32.into()))],
            pair(),
            ErrorKind::Unsupported,
            "adapter.lora.rank",
        ),
        (
            &[("adapter.lora.alpha", Some(f32::NAN.into()))],
            pair(),
            ErrorKind::Invalid,
            "adapter.lora.alpha",
        ),
        (
            &[("general.architecture", None)],
            pair(),
            ErrorKind::Invalid,
            "general.architecture",
        ),
        (
            &[("general.architecture", Some("qwen2".into()))],
            pair(),
            ErrorKind::Mismatch,
            "another architecture: expected llama, found qwen2",
        ),
        (
            &[("adapter.alora.invocation_tokens", Some(1u32.into()))],
            pair(),
            ErrorKind::Invalid,
            "invocation_tokens",
        ),
        (none, vec![], ErrorKind::Invalid, "no tensors"),
        (
            none,
            vec![tensor(Q_A, &[64, 2])],
            ErrorKind::Invalid,
            "attn_q.weight.lora_b: tensor is missing",
        ),
        (
            none,
            vec![tensor(Q_B, &[2, 64])],
            ErrorKind::Invalid,
            "attn_q.weight.lora_a: tensor is missing",
        ),
        (
            none,
            vec![tensor(Q_A, &[64, 3]), tensor(Q_B, &[2, 64])],
            ErrorKind::Invalid,
            "rank of lora_b",
        ),
        (
            none,
            vec![tensor(Q_A, &[64, 2]), tensor(Q_B, &[2, 62])],
            ErrorKind::Mismatch,
            "64 inputs, 62 outputs",
        ),
        (
            none,
            vec![tensor(Q_A, &[64, 2, 2]), tensor(Q_B, &[2, 64])],
            ErrorKind::Invalid,
            "two dimensions",
        ),
        (
            none,
            vec![tensor(Q_A, &[64, 2]), nan],
            ErrorKind::Invalid,
            "not a finite number",
        ),
        (
            none,
            with(tensor("blk.0.attn_norm.weight", &[64])),
            ErrorKind::Unsupported,
            "would not be applied",
        ),
        (
            none,
            with(tensor("blk.0.attn_qkv.weight.lora_a", &[64, 2])),
            ErrorKind::Unsupported,
            "attn_qkv",
        ),
    ];
    let refused = |path: &Path, kind: ErrorKind, says: &str| {
        let e: Error = model
            .load_adapter(path)
            .err()
            .unwrap_or_else(|| panic!("accepted: {says}"));
        let text = e.to_string();
        assert!(text.contains(says) && !text.contains('\n'), "{says}: {text}");
        assert!(text.contains("adapter.gguf"), "{says}: the file is not named: {text}");
        assert_eq!(e.kind(), kind, "{text}");
    };
    for (keys, tensors, kind, says) in &cases {
        refused(&written(dir.path(), keys, tensors), *kind, says);
    }
    let far = [
        tensor("blk.9.attn_q.weight.lora_a", &[64, 2]),
        tensor("blk.9.attn_q.weight.lora_b", &[2, 64]),
    ];
    refused(&written(dir.path(), none, &far), ErrorKind::Mismatch, "no such layer");

    // Cut anywhere, it is refused or (behind the last byte that counts) the same adapter: no panic.
    let path = written(dir.path(), none, &pair());
    let whole = std::fs::read(&path).unwrap();
    for len in 4..whole.len() {
        if let Ok(file) = Gguf::from_bytes(whole[..len].to_vec()) {
            let _ = AdapterFile::of_gguf(&file);
        }
    }
    assert!(AdapterFile::of_gguf(&Gguf::open(&path, LoadMode::Read).unwrap()).is_ok());
}

#[test]
fn an_alpha_of_0_is_a_factor_of_1_and_a_row_needs_no_second_dimension() {
    let dir = tempfile::tempdir().unwrap();
    let scale = |keys: &[(&str, Option<MetaValue>)]| {
        let tensors = [tensor(Q_A, &[64]), tensor(Q_B, &[1, 64])];
        let file = AdapterFile::open(&written(dir.path(), keys, &tensors)).unwrap();
        match &file.sites()[0].forms[..] {
            [graft::adapter::forms::Form::LowRank(l)] => (l.rank(), l.scale),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(scale(&[]), (1, 4.0));
    assert_eq!(scale(&[("adapter.lora.alpha", Some(0.0f32.into()))]), (1, 1.0));
    assert_eq!(scale(&[("adapter.lora.alpha", None)]), (1, 1.0));
}

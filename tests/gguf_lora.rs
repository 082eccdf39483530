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
    let [quantized, read, other] = ["quantized", "quantized-read", "all-linear"].map(|f| logits(&format!("{f}.gguf")));
    // The second file has f16 numbers: 15 bits of them are kept, of f32 numbers 23.
    assert!(largest_error(&quantized, &read) <= 2e-4);
    assert!(largest_error(&quantized, &other) > 1e-2);
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

/// A key and its value; without one it is left out.
type Key = (&'static str, Option<MetaValue>);

/// A file of these keys, those of a plain adapter for llama where none is given, and tensors.
fn written(dir: &Path, keys: &[Key], tensors: &[Tensor]) -> PathBuf {
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
    let none: &[Key] = &[];
    let cases: [(&[Key], Vec<Tensor>, ErrorKind, &str); 17] = [
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
    // Nor with any byte of the directory changed.
    for at in 4..whole.len().min(1024) {
        for bits in [1, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= bits;
            if let Ok(file) = Gguf::from_bytes(bytes).and_then(|g| AdapterFile::of_gguf(&g)) {
                let _ = model.attach(&file);
            }
        }
    }
    assert!(AdapterFile::of_gguf(&Gguf::open(&path, LoadMode::Read).unwrap()).is_ok());
}

#[test]
fn an_alpha_of_0_is_a_factor_of_1_and_a_row_needs_no_second_dimension() {
    let dir = tempfile::tempdir().unwrap();
    let scale = |keys: &[Key]| {
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

/// The folder of an adapter, among those of `tiny` or of `methods`.
fn folder(model: &str, name: &str) -> PathBuf {
    let tiny = data().join("tiny").join(model).join("adapters").join(name);
    if tiny.exists() {
        tiny
    } else {
        data().join("methods").join(model).join(name)
    }
}

fn logits(model: &Model, path: &Path) -> Vec<f32> {
    let adapter = model.load_adapter(path).unwrap_or_else(|e| panic!("{e}"));
    let mut session = exact(model);
    session.set_adapters(&[(adapter, 1.0)]).unwrap();
    // With aLoRA's tokens in between.
    session.eval(&[5, 9, 21, 22, 23, 2, 44]).unwrap().to_vec()
}

fn largest_error(ours: &[f32], oracle: &[f32]) -> f32 {
    ours.iter()
        .zip(oracle)
        .map(|(a, b)| logit_error(*a, *b))
        .fold(0.0, f32::max)
}

/// Oracle: the files that tests/reference/gguf_lora.py made of the same folders, byte for byte.
#[test]
fn what_is_exported_is_what_the_converter_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.gguf");
    for (name, adapters) in [
        (
            "llama-tied",
            &["all-linear", "qv", "rslora", "lora-alora", "lora-alora-repeat"][..],
        ),
        ("qwen2", &["all-linear", "lora-alora", "lora-embedding", "lora-head"]),
        ("gemma3", &["all-linear", "lora-alora"]),
    ] {
        let model = model(name);
        for adapter in adapters {
            let file = AdapterFile::open(&folder(name, adapter)).unwrap();
            let done = model
                .export_lora(&file, &path, BlockFormat::F32)
                .unwrap_or_else(|e| panic!("{e}"));
            let ours = Gguf::open(&path, LoadMode::Read).unwrap();
            let oracle = data().join("gguf-lora").join(name).join(format!("{adapter}.gguf"));
            let oracle = Gguf::open(&oracle, LoadMode::Read).unwrap();
            assert_eq!(ours.tensors().len(), oracle.tensors().len(), "{name} {adapter}");
            assert_eq!(2 * done.sites, ours.tensors().len());
            for t in oracle.tensors() {
                let own = ours
                    .tensor(&t.name)
                    .unwrap_or_else(|| panic!("{name} {adapter}: {}", t.name));
                assert_eq!(
                    (&own.dims, own.format),
                    (&t.dims, t.format),
                    "{name} {adapter}: {}",
                    t.name
                );
                assert!(ours.data(own) == oracle.data(t), "{name} {adapter}: {}", t.name);
            }
            for key in ["general.type", "general.architecture", "adapter.type"] {
                let value = |file: &Gguf| file.metadata().str(key).unwrap().unwrap().to_owned();
                assert_eq!(value(&ours), value(&oracle));
            }
            let alpha = |file: &Gguf| file.metadata().need_f32("adapter.lora.alpha").unwrap();
            assert!((alpha(&ours) - alpha(&oracle)).abs() < 1e-5, "{name} {adapter}");
            let key = "adapter.alora.invocation_tokens";
            assert_eq!(ours.metadata().ints(key).unwrap(), oracle.metadata().ints(key).unwrap());
        }
    }
}

#[test]
fn an_exported_adapter_does_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.gguf");
    for (name, adapters) in [
        (
            "llama-tied",
            &[
                "all-linear",
                "patterns",
                "bf16",
                "adalora",
                "adalora-pruned",
                "loha",
                "vera",
                "vera-no-projection",
                "lora-pissa",
                "lora-olora",
                "lora-bdlora",
                "lora-alora",
            ][..],
        ),
        (
            "qwen2",
            &[
                "patterns",
                "lora-embedding",
                "lora-embedding-attention",
                "lora-head",
                "lora-high-rank",
            ],
        ),
        ("gemma3", &["patterns", "rslora", "lora-pissa-rslora"]),
    ] {
        let model = model(name);
        for adapter in adapters {
            let from = folder(name, adapter);
            let file = AdapterFile::open(&from).unwrap();
            let folder = logits(&model, &from);
            // Of the numbers of 16-bit files 15 bits are kept, of f32 files 23.
            let f32_bound = if *adapter == "bf16" { 1e-3 } else { 1e-4 };
            for (format, bound) in [(BlockFormat::F32, f32_bound), (BlockFormat::F16, 2e-2)] {
                let done = model
                    .export_lora(&file, &path, format)
                    .unwrap_or_else(|e| panic!("{name} {adapter}: {e}"));
                let back = AdapterFile::open(&path).unwrap();
                assert_eq!(back.ranks(), done.ranks, "{name} {adapter}");
                assert_eq!(back.parameters(), done.parameters, "{name} {adapter}");
                let error = largest_error(&logits(&model, &path), &folder);
                assert!(error <= bound, "{name} {adapter} {}: {error}", format.name());
                // And from that file once more.
                let again = dir.path().join("again.gguf");
                model.export_lora(&back, &again, format).unwrap();
                let (a, b) = (Gguf::open(&path, LoadMode::Read), Gguf::open(&again, LoadMode::Read));
                let (a, b) = (a.unwrap(), b.unwrap());
                for t in a.tensors() {
                    assert!(
                        a.data(t) == b.data(b.tensor(&t.name).unwrap()),
                        "{name} {adapter}: {}",
                        t.name
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_no_product_of_two_matrices_is_not_exported() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.gguf");
    let model = model("llama-tied");
    for (adapter, says) in [
        ("ia3", "(IA3) cannot be written as a LoRA"),
        ("oft", "it multiplies the module's input"),
        ("hra", "it multiplies the module's input"),
        ("road-1", "it multiplies the module's output"),
        ("lora-dora", "DoRA"),
        ("lora-bias-of-b", "it adds a bias"),
        ("beft", "it adds a bias"),
        ("lora-save-norm", "it replaces a parameter of the base"),
        ("tokens", "also the head"),
        ("lora-embedding", "also the head"),
        ("lora-replication", "layers that are repeated"),
        ("prompt-tuning", "a prompt before the text"),
        ("prefix-tuning", "a prompt before the text"),
        ("lokr-full", "graft to-lora makes one of it"),
        ("loha-high-rank", "graft to-lora makes one of it"),
        ("miss-bat", "graft to-lora makes one of it"),
    ] {
        let file = AdapterFile::open(&folder("llama-tied", adapter)).unwrap_or_else(|e| panic!("{e}"));
        let e = model.export_lora(&file, &path, BlockFormat::F16).err();
        let e = e.unwrap_or_else(|| panic!("{adapter} was exported"));
        let text = e.to_string();
        assert!(text.contains(says) && text.contains(adapter), "{adapter}: {text}");
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{text}");
        assert!(!path.exists(), "{adapter}");
    }
    let file = AdapterFile::open(&folder("llama-tied", "qv")).unwrap();
    assert_eq!(
        model.export_lora(&file, &path, BlockFormat::Q8_0).unwrap_err().kind(),
        ErrorKind::Usage
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

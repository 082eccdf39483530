//! Oracle: the same model and adapter, opened by their paths. Where bytes come from must not show in what they compute.

mod common;

use std::io::Write;

use common::*;
use graft::adapter::{AdapterFile, AdapterOptions};
use graft::format::{Gguf, LoadMode};
use graft::{ErrorKind, LoadOptions, Model, SessionOptions};

const TOKENS: [u32; 5] = [3, 40, 17, 200, 9];

fn folder() -> std::path::PathBuf {
    data().join("tiny/llama-tied")
}

fn options(mode: LoadMode) -> LoadOptions {
    LoadOptions {
        mode,
        threads: Some(1),
        ..Default::default()
    }
}

/// Logits of the model, with the adapter on if there is one.
fn logits(model: &Model, adapter: Option<&AdapterFile>) -> Vec<f32> {
    let mut session = model.session(&SessionOptions::default()).unwrap();
    if let Some(file) = adapter {
        session.set_adapters(&[(model.attach(file).unwrap(), 1.0)]).unwrap();
    }
    session.eval(&TOKENS).unwrap().to_vec()
}

#[test]
fn a_model_in_a_bundle_or_in_memory_is_the_model() {
    let path = folder().join("model.gguf");
    let bytes = std::fs::read(&path).unwrap();
    let wanted = logits(&Model::open(&path).unwrap(), None);
    // A bundle in which the model begins at no multiple of anything, with something behind it.
    let mut bundle = tempfile::NamedTempFile::new().unwrap();
    bundle.write_all(&[7; 4099]).unwrap();
    bundle.write_all(&bytes).unwrap();
    bundle.write_all(&[7; 33]).unwrap();
    let len = bytes.len() as u64;
    for mode in [LoadMode::Map, LoadMode::Read] {
        let model = Model::open_file(bundle.reopen().unwrap(), 4099, Some(len), &options(mode)).unwrap();
        assert_eq!(logits(&model, None), wanted);
        let e = Model::open_file(bundle.reopen().unwrap(), 4098, None, &options(mode))
            .err()
            .unwrap();
        assert_eq!(e.kind(), ErrorKind::Invalid);
        let start = "the opened file from byte 4098 on: not a GGUF file: ";
        assert!(e.to_string().starts_with(start), "{e}");
    }
    let model = Model::open_memory(bytes, &options(LoadMode::Map)).unwrap();
    assert_eq!(logits(&model, None), wanted);
    assert!(model.tokenizer().is_ok());
    let e = Model::open_memory(b"PK\x03\x04", &options(LoadMode::Map))
        .err()
        .unwrap();
    assert!(e.to_string().starts_with("memory: not a GGUF file: "), "{e}");
}

#[test]
fn an_adapter_in_memory_is_the_adapter() {
    let model = Model::open(folder().join("model.gguf")).unwrap();
    let dir = folder().join("adapters/qv");
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    let (config, tensors) = (read("adapter_config.json"), read("adapter_model.safetensors"));
    let wanted = logits(&model, Some(&AdapterFile::open(&dir).unwrap()));
    assert_ne!(wanted, logits(&model, None));
    let options = AdapterOptions::default();
    let file = AdapterFile::from_bytes(config.clone(), tensors.clone(), &options).unwrap();
    assert_eq!(logits(&model, Some(&file)), wanted);
    let e = AdapterFile::from_bytes(config, tensors[..40].to_vec(), &options).unwrap_err();
    assert!(e.to_string().starts_with("adapter_model.safetensors: "), "{e}");
    let e = AdapterFile::from_bytes(Vec::new(), tensors, &options).unwrap_err();
    assert_eq!(e.to_string(), "adapter_config.json: the file is empty");

    let bytes = std::fs::read(data().join("gguf-lora/llama-tied/qv.gguf")).unwrap();
    let file = AdapterFile::of_gguf(&Gguf::from_bytes(bytes).unwrap()).unwrap();
    assert_eq!(logits(&model, Some(&file)), wanted);
}

#[test]
fn a_part_of_a_split_model_needs_a_path() {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes.extend(1u64.to_le_bytes());
    bytes.extend(11u64.to_le_bytes());
    bytes.extend(b"split.count");
    bytes.extend(2u32.to_le_bytes()); // a u16
    bytes.extend(2u16.to_le_bytes());
    let e = Gguf::from_bytes(bytes).err().unwrap();
    assert_eq!((e.kind(), e.item_name()), (ErrorKind::Unsupported, Some("split.count")));
}

//! `export-lora` and `to-lora`, and the files that they write in other commands.

use serde_json::Value;

use super::tools::*;
use crate::common;

fn method(name: &str) -> String {
    text(&common::data().join("methods/llama-tied").join(name))
}

fn top(adapter: &str) -> Value {
    let args = [
        "logits",
        "-m",
        &tiny(),
        "--tokens",
        "5,9,2,44",
        "--exact",
        "--json",
        "--top",
        "1",
    ];
    graft(&[&args[..], &["-a", adapter]].concat()).json()["positions"][0]["top"][0].clone()
}

#[test]
fn an_exported_lora_is_inspected_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (tiny(), in_folder(&folder, "qv.gguf"));
    let from = adapter("qv");
    let args = ["export-lora", "-m", &model, "-a", &from, "-o", &out];
    let said = graft(&[&args[..], &["--type", "f32"]].concat());
    assert_eq!((said.code, said.out.as_str()), (0, ""), "{}", said.err);
    assert!(said.err.contains("4 updates, rank 8, "), "{}", said.err);
    assert_eq!(top(&out), top(&from));
    let shown = graft(&["inspect", "--json", &out]).json();
    assert_eq!(
        (&shown["method"], &shown["source"], &shown["architecture"]),
        (&"LORA".into(), &"gguf".into(), &"llama".into())
    );
    assert!(
        graft(&["inspect", &out])
            .text()
            .contains("Source: GGUF, for models of architecture llama")
    );
    assert!(graft(&["inspect", &from]).text().contains("Source: PEFT"));

    // Over the file that is there, in half the size.
    let size = |path: &str| std::fs::metadata(path).unwrap().len();
    let before = size(&out);
    let document = graft(&[&args[..], &["--json"]].concat()).json();
    assert_eq!(document["ranks"], serde_json::json!([8]));
    assert_eq!(document["bytes"], size(&out));
    assert!(size(&out) < before * 3 / 5, "{} of {before}", size(&out));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    graft(&["run", "-m", &out, "-p", "a"]).failed(1, &["qv.gguf", "an adapter, not a model"]);
    let qwen = tiny_file("qwen2/model.gguf");
    graft(&["run", "-m", &qwen, "-a", &out, "-p", "a"]).failed(1, &["expected qwen2, found llama"]);
    let ia3 = method("ia3");
    graft(&["export-lora", "-m", &model, "-a", &ia3, "-o", &out]).failed(1, &["ia3", "(IA3)", "graft merge"]);
    graft(&["export-lora", "-m", &model, "-a", &from, "-o", "nowhere/x.gguf"]).failed(2, &["nowhere/x.gguf"]);
    graft(&["export-lora", "-m", &model, "-a", &from, "-o", &out, "--type", "q8_0"]).failed(2, &["q8_0"]);
}

#[test]
fn another_method_becomes_a_lora() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (tiny(), in_folder(&folder, "new/lora"));
    let from = method("lokr");
    let args = ["to-lora", "-m", &model, "-a", &from, "-o", &out];
    let said = graft(&[&args[..], &["--energy", "1"]].concat());
    assert_eq!((said.code, said.out.as_str()), (0, ""), "{}", said.err);
    assert!(said.err.contains("100.00 % is kept in the mean"), "{}", said.err);
    assert_eq!(top(&out)[0], top(&from)[0]);
    let document = graft(&[&args[..], &["--rank", "2", "--json"]].concat()).json();
    let modules = document["modules"].as_array().unwrap();
    assert!(modules.iter().all(|m| m["rank"] == 2), "{document}");
    let energies = || modules.iter().map(|m| m["energy"].as_f64().unwrap());
    let mean = energies().sum::<f64>() / modules.len() as f64;
    assert!((document["energy"]["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
    assert_eq!(document["energy"]["least"], energies().fold(1.0, f64::min));
    let shown = graft(&["inspect", "--json", &out]).json();
    assert_eq!(
        (&shown["method"], &shown["ranks"]),
        (&"LORA".into(), &serde_json::json!([2]))
    );

    let file = write(&folder, "file", "");
    graft(&["to-lora", "-m", &model, "-a", &from, "-o", &file]).failed(2, &["a file cannot be written as a folder"]);
    let oft = method("oft");
    graft(&["to-lora", "-m", &model, "-a", &oft, "-o", &out]).failed(1, &["oft", "(OFT)", "multiplies"]);
    graft(&[&args[..], &["--rank", "0"]].concat()).failed(2, &["rank"]);
    graft(&[&args[..], &["--energy", "1.5"]].concat()).failed(2, &["1.5"]);
    graft(&[&args[..], &["--energy", "0.5", "--rank", "3"]].concat()).failed(2, &["--rank"]);
}

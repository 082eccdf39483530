//! `inspect` of adapters. Oracles: PEFT's numbers, `graft merge`, and what the fixtures were made as (tests/reference).

use serde_json::{Value, json};

use super::tools::*;
use crate::common;

fn method(name: &str) -> String {
    text(&common::data().join("methods/llama-tied").join(name))
}

fn on(model: &str, adapter: &str) -> Value {
    graft(&["inspect", "--json", "-m", model, adapter]).json()
}

/// A copy of an adapter with another field in its config.
fn with_field(folder: &tempfile::TempDir, from: &str, field: &str, value: Value) -> String {
    let read = |name: &str| std::fs::read(format!("{from}/{name}")).unwrap();
    let mut config: Value = serde_json::from_slice(&read("adapter_config.json")).unwrap();
    config[field] = value;
    write(folder, "adapter_config.json", config.to_string());
    write(folder, "adapter_model.safetensors", read("adapter_model.safetensors"));
    text(folder.path())
}

#[test]
fn an_adapter_on_its_model_has_pefts_line() {
    let document = on(&tiny(), &adapter("qv"));
    assert_eq!(
        document["trainable"]["line"],
        "trainable params: 3,584 || all params: 83,776 || trainable%: 4.2781"
    );
    assert_eq!(document["trainable"]["trained"], document["parameters"]);
    assert_eq!(document["model"]["parameters"], 80192);
    let share = document["percent_of_base"].as_f64().unwrap();
    assert!((share - 100.0 * 3584.0 / 80192.0).abs() < 1e-9);
    let files = ["adapter_config.json", "adapter_model.safetensors"];
    let size = files.map(|name| std::fs::metadata(format!("{}/{name}", adapter("qv"))).unwrap().len());
    assert_eq!(document["bytes"], size[0] + size[1]);
    assert!(document["memory"].as_u64() >= Some(4 * 3584), "{document}");
    assert_eq!(
        (&document["merges"], &document["merge_refusal"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(document["warnings"], json!([]));
    let out = graft(&["inspect", "-m", &tiny(), &adapter("qv")]);
    for word in [
        "In PEFT: trainable params: 3,584 || all params: 83,776 || trainable%: 4.2781",
        "4.4693 % of the base's 80192",
        "Merges: yes",
        "Forms as put on the model: 4 × low_rank",
        "2 × model.layers.[0-1].self_attn.q_proj  low_rank  64 → 8 → 64",
    ] {
        assert!(out.text().contains(word), "{word:?} is not in {}", out.out);
    }
    // Without a model the same as far as the file tells.
    let alone = graft(&["inspect", "--json", &adapter("qv")]).json();
    for field in ["method", "parameters", "bytes", "ranks", "forms"] {
        assert_eq!(alone[field], document[field]);
    }
    for field in ["trainable", "memory", "percent_of_base", "model", "merges"] {
        assert_eq!(alone[field], Value::Null, "{field}");
    }
}

/// Recorded from PEFT 0.21.2 on the model that transformers reads from this GGUF file.
#[test]
fn a_real_model_has_pefts_line() {
    let verse = text(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/adapters/stage-verse"));
    let document = on(&smollm2(), &verse);
    assert_eq!(
        document["trainable"]["line"],
        "trainable params: 622,080 || all params: 135,137,088 || trainable%: 0.4603"
    );
    assert_eq!(document["warnings"], json!([]), "the same model in another spelling");

    let folder = tempfile::tempdir().unwrap();
    let base = |name: &str| {
        let dir = with_field(&folder, &verse, "base_model_name_or_path", name.into());
        on(&smollm2(), &dir)["warnings"].clone()
    };
    for same in [
        "HuggingFaceTB/SmolLM2-135M",
        "/srv/models/Llama-3-8B",
        "./Llama-3-8B",
        "my-model",
    ] {
        assert_eq!(base(same), json!([]), "{same}");
    }
    for other in ["HuggingFaceTB/SmolLM2-360M-Instruct", "meta-llama/Llama-3-8B"] {
        let warning = base(other)[0].as_str().unwrap_or_default().to_string();
        assert!(
            warning.contains(other) && warning.contains("Smollm2 135M"),
            "{other}: {warning}"
        );
    }
}

#[test]
fn ranks_that_differ_by_layer_are_seen() {
    let out = graft(&["inspect", &adapter("patterns")]);
    for line in [
        "1 × model.layers.[0].mlp.down_proj  low_rank  96 → 4 → 64, scale 3",
        "1 × model.layers.[1].self_attn.v_proj  low_rank  64 → 8 → 32, scale 0.75",
        "2 × model.layers.[0-1].self_attn.q_proj  low_rank  64 → 2 → 64, scale 4",
        "Rank: 2, 3, 4, 8",
    ] {
        assert!(out.text().contains(line), "{line:?} is not in {}", out.out);
    }
}

/// LoKr keeps its factors but where the file has rows in another order; LoHa is low-rank while that is smaller; others are made of the base.
#[test]
fn forms_are_those_that_run() {
    for (name, alone, attached) in [
        ("lokr-both", json!({"from_base": 14}), json!({"kron": 10, "dense": 4})),
        ("loha", json!({"from_base": 8}), json!({"low_rank": 8})),
        ("loha-high-rank", json!({"from_base": 2}), json!({"dense": 2})),
        ("vera", json!({"from_base": 14}), json!({"low_rank": 14})),
        ("miss", json!({"from_base": 14}), json!({"low_rank": 14})),
        // A tied head has the embedding's rows.
        (
            "lora-tokens",
            json!({"low_rank": 4, "rows": 1}),
            json!({"low_rank": 4, "rows": 2}),
        ),
    ] {
        let shown = graft(&["inspect", "--json", &method(name)]).json();
        assert_eq!(shown["forms"], alone, "{name}");
        let shown = on(&tiny(), &method(name));
        assert_eq!(shown["forms"], attached, "{name}");
        let sites = shown["sites"].as_array().unwrap();
        assert!(sites.iter().all(|s| s["what"] == Value::Null), "{name}: {shown}");
    }
    assert_eq!(on(&tiny(), &method("loha"))["ranks"], json!([4]));
}

/// Oracle: `graft merge` itself.
#[test]
fn what_does_not_merge_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let out = in_folder(&folder, "merged.gguf");
    let gemma = tiny_file("gemma3/model.gguf");
    let beft = text(&common::data().join("methods/gemma3/beft"));
    for (model, adapter, by_file) in [
        (tiny(), method("lora-alora"), json!(false)),
        (tiny(), method("lora-replication"), json!(false)),
        (tiny(), method("prefix-tuning"), json!(false)),
        (tiny(), method("lora-larger-vocabulary"), Value::Null),
        (gemma, beft, Value::Null),
    ] {
        let document = on(&model, &adapter);
        let refusal = document["merge_refusal"].as_str().expect("a reason").to_string();
        assert_eq!(document["merges"], false);
        graft(&["merge", "-m", &model, "-a", &adapter, "-o", &out]).failed(1, &[&refusal]);
        let alone = graft(&["inspect", "--json", &adapter]).json();
        assert_eq!(alone["merges"], by_file, "{adapter}");
        assert!(by_file.is_null() || alone["merge_refusal"] == refusal, "{alone}");
        assert!(
            graft(&["inspect", "-m", &model, &adapter])
                .text()
                .contains("Merges: no: ")
        );
    }
}

#[test]
fn prompts_show_what_they_are() {
    let multitask = method("multitask");
    graft(&["inspect", &multitask]).failed(2, &["which task?"]);
    let document = graft(&["inspect", "--json", "-m", &tiny(), "--task-id", "1", &multitask]).json();
    assert_eq!(document["prompt"], json!({"positions": 4, "kind": "embeddings"}));
    assert_eq!(document["trainable"]["trained"], 528);
    // What PEFT counted is not all in the file.
    let document = on(&tiny(), &method("p-tuning"));
    assert_eq!(document["trainable"], Value::Null);
    assert!(
        document["warnings"][0].as_str().unwrap().contains("encoder"),
        "{document}"
    );
}

#[test]
fn an_adapter_that_changes_nothing_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = with_field(&folder, &adapter("qv"), "revision", Value::Null);
    let path = in_folder(&folder, "adapter_model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header..].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let out = graft(&["inspect", &dir]);
    assert!(out.text().contains("Warning: every update is zero"), "{}", out.out);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let qwen = tiny_file("qwen2/model.gguf");
    let gemma = tiny_file("gemma3/model.gguf");
    graft(&["inspect", "-m", &gemma, &adapter("qv")]).failed(1, &["qv", "_proj", "expected", "found"]);
    graft(&["inspect", "-m", &qwen, &tiny()]).failed(2, &["-m", "an adapter"]);
    graft(&["inspect", "-m", "nowhere.gguf", &adapter("qv")]).failed(1, &["nowhere.gguf"]);
    graft(&["inspect", "-m", &qwen, "--machine"]).failed(2, &["cannot be used"]);
}

#[test]
fn names_from_files_put_no_control_characters_on_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let hostile = "evil\u{1b}[31m\r\n\u{7}owner/\u{9b}8B-v1";
    let dir = with_field(&folder, &adapter("qv"), "base_model_name_or_path", hostile.into());
    for args in [vec!["inspect", &dir], vec!["inspect", "-m", &tiny(), &dir]] {
        let out = graft(&args);
        assert!(out.text().contains("evil\\u{1b}[31m"), "{:?}", out.out);
        let control = |c: char| c.is_control() && c != '\n';
        assert!(!out.out.contains(control), "{:?}", out.out);
    }
    assert_eq!(graft(&["inspect", "--json", &dir]).json()["base_model"], hostile);
}

//! The commands that print numbers: logits, perplexity, tokenize, inspect. `bench` has a file of its own.

use serde_json::Value;

use super::tools::*;
use crate::common::{self, LOGIT_BOUND, logit_error};

/// Recorded by transformers and PEFT for the tiny model.
fn golden(case: &str) -> Value {
    let all = common::json(&common::data().join("tiny/llama-tied/golden.json"));
    let found = all["cases"]
        .as_array()
        .expect("cases")
        .iter()
        .find(|c| c["name"] == case);
    found.unwrap_or_else(|| panic!("no case {case}")).clone()
}

#[test]
fn logits_match_recording() {
    let case = golden("base-short");
    let prompt = csv(&common::ids(&case["tokens"]));
    let got = graft(&[
        "logits",
        "-m",
        &tiny(),
        "--tokens",
        &prompt,
        "--all",
        "--top",
        "288",
        "--exact",
        "--json",
    ])
    .json();
    assert_eq!(got["n_vocab"], 288);
    for recorded in case["positions"].as_array().expect("positions") {
        let pos = recorded["pos"].as_u64().expect("pos") as usize;
        assert_eq!(got["positions"][pos]["pos"], pos);
        let top = got["positions"][pos]["top"].as_array().expect("top");
        assert_eq!(top.len(), 288);
        for pair in top {
            let id = pair[0].as_u64().expect("id") as usize;
            let oracle = recorded["logits"][id].as_f64().expect("logit") as f32;
            let error = logit_error(pair[1].as_f64().expect("logit") as f32, oracle);
            assert!(
                error < LOGIT_BOUND,
                "position {pos}, token {id}: {pair} against {oracle}"
            );
        }
        let logits: Vec<_> = top.iter().map(|p| p[1].as_f64().expect("logit")).collect();
        assert!(logits.is_sorted_by(|a, b| a >= b), "highest first");
    }
    let (ours, oracle) = (
        got["mean_logprob"].as_f64().expect("a number"),
        case["mean_logprob"].as_f64().expect("a number"),
    );
    assert!((ours - oracle).abs() < 1e-3, "{ours} against {oracle}");

    let last = graft(&[
        "logits",
        "-m",
        &tiny(),
        "--tokens",
        &prompt,
        "--top",
        "3",
        "--exact",
        "--json",
    ])
    .json();
    assert_eq!(last["positions"].as_array().map(Vec::len), Some(1));
    assert_eq!(last["positions"][0]["top"].as_array().map(Vec::len), Some(3));
    assert_eq!(last["positions"][0]["pos"], common::ids(&case["tokens"]).len() - 1);
    let one = graft(&["logits", "-m", &tiny(), "--tokens", "7", "--json"]).json();
    assert_eq!(one["mean_logprob"], Value::Null);
}

/// A weight on the command line is the factor that it says: twice half an adapter is the adapter.
#[test]
fn adapter_weights_add_up() {
    let logits = |adapters: &[&str]| {
        let mut args = vec![
            "logits", "-m", "MODEL", "--tokens", "5,6,7", "--top", "288", "--exact", "--json",
        ];
        let model = tiny();
        args[2] = &model;
        for a in adapters {
            args.extend(["-a", a]);
        }
        let top = graft(&args).json()["positions"][0]["top"].clone();
        let mut logits = vec![0.0; 288];
        for pair in top.as_array().expect("top") {
            logits[pair[0].as_u64().expect("id") as usize] = pair[1].as_f64().expect("logit") as f32;
        }
        logits
    };
    let qv = adapter("qv");
    let whole = logits(&[&qv]);
    let halves = logits(&[&format!("{qv}@0.5"), &format!("name={qv}@0.5")]);
    let base = logits(&[]);
    let largest = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| logit_error(*a, *b)).fold(0.0, f32::max);
    assert!(largest(&whole, &halves) < LOGIT_BOUND);
    assert!(largest(&whole, &base) > 0.05, "the adapter does something");
}

/// Oracle: `graft logits`, whose mean log-probability over a chunk less that over its first half is what counts.
#[test]
fn perplexity_counts_the_second_half_of_each_chunk() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text: String = (0..40)
        .map(|i| format!("Line {i} says: hello, world {}.\n", i * i))
        .collect();
    let file = write(&folder, "text.txt", &text);
    let ctx = 64;
    let got = graft(&["perplexity", "-m", &tiny(), &file, "-c", "64", "--exact", "--json"]).json();
    let ids = common::ids(&graft(&["tokenize", "-m", &tiny(), "-f", &file, "--json"]).json()["tokens"]);
    let sum = |ids: &[u32]| {
        let document = graft(&["logits", "-m", &tiny(), "--tokens", &csv(ids), "--exact", "--json"]).json();
        document["mean_logprob"].as_f64().expect("a number") * (ids.len() - 1) as f64
    };
    let chunks = ids.len() / ctx;
    assert!(chunks >= 3);
    let mut total = 0.0;
    for chunk in ids.chunks_exact(ctx) {
        total += sum(chunk) - sum(&chunk[..=ctx / 2]);
    }
    let counted = chunks * (ctx - ctx / 2 - 1);
    assert_eq!(got["chunks"], chunks);
    assert_eq!(got["counted"], counted);
    let (ours, oracle) = (got["mean_logprob"].as_f64().expect("a number"), total / counted as f64);
    assert!((ours - oracle).abs() < 1e-4, "{ours} against {oracle}");
    let perplexity = got["perplexity"].as_f64().expect("a number");
    assert!((perplexity.ln() + ours).abs() < 1e-9);
    assert!(got["error"].as_f64().expect("a number") > 0.0);

    let words = graft(&["perplexity", "-m", &tiny(), &file, "-c", "64", "--chunks", "2"]);
    assert_eq!(words.code, 0);
    assert!(
        words.out.starts_with("perplexity ") && words.out.contains("2 chunks of 64"),
        "{}",
        words.out
    );
    assert!(
        words.err.contains("[2]"),
        "the running estimate is for people: {}",
        words.err
    );

    let kl = graft(&[
        "perplexity",
        "-m",
        &tiny(),
        &file,
        "-c",
        "64",
        "--chunks",
        "2",
        "--kl",
        "--json",
    ])
    .json()["kl"]
        .clone();
    assert!(kl["mean"].as_f64().expect("a number").abs() < 0.1, "{kl}");
}

#[test]
fn tokenize_prints_ids_and_pieces() {
    let model = smollm2();
    let document = graft(&["tokenize", "-m", &model, "Hello world", "--json"]).json();
    // As the Hugging Face tokenizer of SmolLM2 has it.
    assert_eq!(
        document,
        serde_json::json!({"tokens": [19556, 905], "pieces": ["Hello", " world"]})
    );
    assert_eq!(
        graft(&["tokenize", "-m", &model, "Hello world"]).text().lines().count(),
        2
    );
    let special = |args: &[&str]| {
        let args = [
            &["tokenize", "-m", &model, "--json", "--no-special", "<|im_end|>"],
            args,
        ]
        .concat();
        common::ids(&graft(&args).json()["tokens"]).len()
    };
    assert_eq!(special(&[]), 1);
    assert!(special(&["--plain"]) > 1);
    let lines = graft_with_input(
        &["tokenize", "-m", &model, "-f", "-", "--lines", "--json"],
        b"Hello world\n\nHello",
    );
    let lines: Vec<Value> = lines
        .text()
        .lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect();
    assert_eq!(
        lines
            .iter()
            .map(|l| l["tokens"].as_array().map_or(9, Vec::len))
            .collect::<Vec<_>>(),
        [2, 0, 1]
    );
}

#[test]
fn inspect_shows_models_and_adapters() {
    let document = graft(&["inspect", &tiny(), "--json"]).json();
    assert_eq!(document["metadata"]["general.architecture"], "llama");
    assert_eq!(document["metadata"]["tokenizer.ggml.tokens"]["length"], 288);
    assert_eq!(document["tensors"].as_array().map(Vec::len), Some(20));
    assert_eq!(document["parameters"], 80192);
    assert_eq!(document["memory"]["weights"], 4 * 80192);
    // 2 layers × k and v × 2 heads of 16 × 256 tokens × 2 bytes
    assert_eq!(document["memory"]["kv"][0]["bytes"], 2 * 2 * 2 * 16 * 256 * 2);
    let out = graft(&["inspect", &tiny()]);
    assert!(
        out.text().contains("blk.1.ffn_down.weight") && out.text().contains("Memory"),
        "{}",
        out.out
    );

    let document = graft(&["inspect", &adapter("qv"), "--json"]).json();
    // q: 64 → 8 → 64 and v: 64 → 8 → 32, in two layers
    assert_eq!(document["parameters"], 2 * (8 * (64 + 64) + 8 * (64 + 32)));
    assert_eq!(document["ranks"], serde_json::json!([8]));
    assert_eq!(document["sites"].as_array().map(Vec::len), Some(4));
    let out = graft(&["inspect", &adapter("qv")]);
    assert!(
        out.text().contains("Method: LORA") && out.text().contains("q_proj"),
        "{}",
        out.out
    );
}

/// Of the machine itself nothing is known here but what the other commands and the table of levels say.
#[test]
fn inspect_shows_the_machine() {
    let document = graft(&["inspect", "--machine", "--json"]).json();
    let levels = document["levels"].as_array().expect("levels");
    assert_eq!(
        levels.last(),
        Some(&"scalar".into()),
        "every CPU has the portable level"
    );
    assert!(levels.contains(&document["isa"]));
    assert_eq!(document["arch"], std::env::consts::ARCH);
    let (threads, cpus) = (document["threads"].as_u64(), document["logical_cpus"].as_u64());
    assert!(threads >= Some(1) && threads <= cpus, "{document}");
    for limit in ["read_gb_per_s", "f32_gmac_per_s", "int8_gmac_per_s"] {
        assert!(document["limits"][limit].as_f64() > Some(0.0), "{document}");
    }

    let with_isa = |isa: &str, args: &[&str]| {
        let mut command = command(args);
        ran(command.env("GRAFT_ISA", isa).output().expect("the program runs"))
    };
    let document = with_isa("scalar", &["inspect", "--machine", "--json"]).json();
    assert_eq!(
        (&document["isa"], &document["graft_isa"]),
        (&"scalar".into(), &"scalar".into())
    );
    let words = with_isa("scalar", &["inspect", "--machine"]);
    for word in [
        "CPU",
        "threads",
        "levels",
        "in use: scalar",
        "GRAFT_ISA",
        "page size",
        "limits",
    ] {
        assert!(words.text().contains(word), "{}", words.out);
    }
    with_isa("mmx", &["inspect", "--machine"]).failed(2, &["GRAFT_ISA", "scalar", "mmx"]);
    graft(&["inspect"]).failed(2, &["--machine"]);
    graft(&["inspect", &tiny(), "--machine"]).failed(2, &["cannot be used"]);
}

#[test]
fn help_teaches() {
    for command in [
        "run",
        "chat",
        "batch",
        "logits",
        "perplexity",
        "tokenize",
        "inspect",
        "bench",
    ] {
        let help = graft(&[command, "-h"]);
        assert!(help.text().contains("Example"), "{}", help.out);
        assert!(help.text().contains(&format!("graft {command}")), "{}", help.out);
    }
    assert!(graft(&["--version"]).text().starts_with("graft "));
    let none = graft(&[]);
    assert_eq!((none.code, none.out.as_str()), (2, ""));
    assert!(none.err.contains("Examples"));
}

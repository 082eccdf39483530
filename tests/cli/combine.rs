//! `graft combine`: what it prints, what it writes, what it refuses.

use serde_json::json;

use super::tools::*;
use crate::common;

#[test]
fn a_mix_is_an_adapter_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let out = in_folder(&folder, "new/mix");
    let (qv, rslora) = (adapter("qv"), adapter("rslora"));
    let (a, b) = (format!("A={qv}@0.7"), format!("{rslora}@-0.3"));
    let args = ["combine", "-a", &a, "-a", &b, "--type", "cat", "-o", &out];
    let ran = graft(&args);
    let text = ran.text();
    for words in [
        "LORA",
        "cat",
        "0.7 × A = ",
        "-0.3 × ",
        "Sites: 8, 4 of them not in all",
        "Rank: 16",
    ] {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
    let logits = |adapters: &[&str]| {
        let mut args = vec!["logits".into(), "-m".into(), tiny(), "--tokens".into(), "5,6,7".into()];
        args.extend(["--exact", "--json", "--top", "288"].map(String::from));
        args.extend(adapters.iter().flat_map(|a| ["-a".to_string(), a.to_string()]));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let top = graft(&args).json()["positions"][0]["top"].clone();
        let mut top: Vec<(u64, f64)> = serde_json::from_value(top).unwrap();
        top.sort_by_key(|t| t.0);
        top
    };
    let (one, both) = (logits(&[&out]), logits(&[&a, &b]));
    assert_eq!(one.len(), 288);
    assert!(one.iter().zip(&both).all(|(a, b)| (a.1 - b.1).abs() < 1e-4));

    // Only the two files are there, and nothing beside the folder.
    let list = |dir: &std::path::Path| std::fs::read_dir(dir).unwrap().count();
    assert_eq!((list(out.as_ref()), list(&folder.path().join("new"))), (2, 1));
    graft(&args).failed(2, &[&out, "not empty"]);
}

#[test]
fn the_document_says_what_was_kept() {
    let folder = tempfile::tempdir().unwrap();
    let out = in_folder(&folder, "smaller");
    let qv = adapter("qv");
    let args = [
        "combine", "-a", &qv, "--type", "svd", "--rank", "4", "-o", &out, "--json",
    ];
    let document = graft(&args).json();
    assert_eq!(document["rank"], 4);
    assert_eq!(document["type"], "svd");
    assert_eq!(document["adapters"], json!([{"name": null, "dir": qv, "weight": 1.0}]));
    assert_eq!(document["sites"].as_array().unwrap().len(), 4);
    let captured = document["captured"].as_f64().unwrap();
    assert!((0.5..0.99).contains(&captured), "{captured}");
    let inspected = graft(&["inspect", &out, "--json"]).json();
    assert_eq!(inspected["ranks"], json!([4]));
    assert_eq!(inspected["parameters"], document["parameters"]);

    let dare = |seed: &str, out: &str| {
        let args = [
            "--type",
            "dare_ties",
            "--density",
            "0.5",
            "--seed",
            seed,
            "--json",
            "-o",
            out,
        ];
        let ran = graft(&[&["combine", "-a", &qv, "-a", &adapter("rslora")], &args[..]].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        std::fs::read(format!("{out}/adapter_model.safetensors")).unwrap()
    };
    let [a, b, c] = ["1", "2", "3"].map(|n| in_folder(&folder, n));
    let first = dare("7", &a);
    assert_eq!(first, dare("7", &b));
    assert_ne!(first, dare("8", &c));
}

#[test]
fn what_cannot_be_combined_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let out = in_folder(&folder, "mix");
    let (qv, four) = (adapter("qv"), adapter("all-linear"));
    let file = write(&folder, "file", "");
    let combine = |more: &[&str]| graft(&[&["combine", "-a", &qv], more].concat());
    for (more, code, words) in [
        (&["--type", "ties", "-o", &out][..], 2, &["density", "above 0 to 1"][..]),
        (
            &["--type", "ties", "--density", "-1", "-o", &out],
            2,
            &["density", "-1"],
        ),
        (&["--type", "cat", "--rank", "3", "-o", &out], 2, &["rank", "cat"]),
        (&["--type", "mean", "-o", &out], 2, &["mean", "magnitude_prune_svd"]),
        (&["--type", "cat"], 2, &["--output"]),
        (&["-o", &out], 2, &["--type"]),
        (&["--type", "cat", "-o", &file], 2, &[&file]),
        (
            &["--type", "linear", "-a", &four, "-o", &out],
            1,
            &["same rank", "expected 8"],
        ),
        (&["--type", "cat", "-a", "nowhere", "-o", &out], 1, &["nowhere"]),
        (&["--type", "cat", "-a", "=x", "-o", &out], 2, &["name is empty"]),
    ] {
        combine(more).failed(code, words);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn adapters_that_are_broken_are_not_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let bad = common::data().join("adapters-bad");
    for entry in common::json(&bad.join("manifest.json")).as_array().unwrap() {
        let name = entry["dir"].as_str().unwrap();
        let (dir, out) = (text(&bad.join(name)), in_folder(&folder, name));
        let ran = graft(&["combine", "-a", &dir, "--type", "cat", "-o", &out]);
        // Those that are only wrong for the model that they are tested with can be mixed; the model will refuse the mix.
        if entry["stage"] == "open" {
            // Of IA3 there is no cat: wrong usage.
            ran.failed(if ran.code == 2 { 2 } else { 1 }, &[]);
            assert!(!std::path::Path::new(&out).exists(), "{name}");
        }
    }
}

//! `graft train`. Oracles: `graft eval` and `graft run` on what was written, and a training that nothing interrupted.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use super::tools::*;

/// Rows of the three forms, of some ten tokens each.
fn rows(n: usize) -> String {
    let words = ["the fox", "a dog", "my cat", "one bird", "that fish"];
    let row = |i: usize| {
        let (a, b) = (words[i % 5], words[(i * 3 + 1) % 5]);
        let row = match i % 3 {
            0 => json!({"text": format!("{a} and {b} ran")}),
            1 => json!({"prompt": format!("{a} saw "), "completion": b}),
            _ => json!({"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]}),
        };
        format!("{row}\n")
    };
    (0..n).map(row).collect()
}

fn tensors(dir: &str) -> Vec<u8> {
    std::fs::read(Path::new(dir).join("adapter_model.safetensors")).expect("an adapter")
}

const COMMON: &[&str] = &[
    "--steps",
    "12",
    "--seq",
    "128",
    "--batch",
    "2",
    "--r",
    "4",
    "--lr",
    "1e-2",
    "--save-every",
    "2",
    "-t",
    "1",
];

fn train(model: &str, data: &str, out: &str, more: &[&str]) -> Ran {
    graft(&[&["train", "-m", model, "--data", data, "-o", out], COMMON, more].concat())
}

#[test]
fn what_is_trained_is_better_than_before_and_loads() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (m, out) = (tiny(), in_folder(&folder, "out"));
    let data = write(&folder, "train.jsonl", rows(30));
    let ran = train(&m, &data, &out, &["--eval", &data, "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let lines: Vec<Value> = ran
        .out
        .lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect();
    let steps: Vec<f64> = lines.iter().filter_map(|l| l["loss"].as_f64()).collect();
    assert_eq!(steps.len(), 12);
    let done = &lines.last().expect("an end")["done"];
    assert_eq!(done["steps"], 12);
    // The file says the same as stdout.
    let log = std::fs::read_to_string(Path::new(&out).join("training_log.jsonl")).expect("a log");
    assert_eq!(log.lines().count(), lines.len() - 1);
    let loss = |more: &[&str]| {
        let args = [&["eval", "-m", &m, "--data", &data, "--json"], more].concat();
        graft(&args).json()["loss"].as_f64().expect("a loss")
    };
    let (before, after) = (loss(&[]), loss(&["-a", &out]));
    assert!(after < 0.9 * before, "{before} to {after}");
    let said = done["eval_loss"].as_f64().expect("a loss");
    assert!((said / after - 1.0).abs() < 1e-3, "{said} for {after}");
    for file in ["adapter_config.json", "README.md", "loss.svg"] {
        assert!(Path::new(&out).join(file).is_file(), "{file}");
    }
    let svg = std::fs::read_to_string(Path::new(&out).join("loss.svg")).expect("a picture");
    assert!(svg.contains("<svg") && svg.contains("evaluation data"));
    let mut left: Vec<String> = std::fs::read_dir(&out)
        .expect("a folder")
        .map(|e| e.expect("an entry").file_name().display().to_string())
        .collect();
    left.sort();
    assert_eq!(left.len(), 5, "{left:?}");
    // A second training does not take its place.
    train(&m, &data, &out, &[]).failed(2, &["adapter", "--resume"]);
}

/// Runs the program and kills it after `n` lines of what it prints: how many there were, and whether it had ended well before.
fn killed_after(n: usize, args: &[&str]) -> (usize, bool) {
    let mut child = command(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let seen = lines.take(n).filter(Result::is_ok).count();
    child.kill().expect("it is a child");
    (seen, child.wait().expect("it ends").success())
}

/// Kills stand where the training says that it is, not at times, which another machine would put behind its end.
#[test]
fn a_training_killed_at_any_moment_goes_on_to_the_same_end() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let m = tiny();
    let data = write(&folder, "train.jsonl", rows(40));
    let whole = in_folder(&folder, "whole");
    assert_eq!(train(&m, &data, &whole, &[]).code, 0);
    let mut killed = 0;
    for n in 0..12 {
        let out = in_folder(&folder, &format!("out{n}"));
        let args = [&["train", "-m", &m, "--data", &data, "-o", &out, "--json"], COMMON].concat();
        let (seen, ended) = killed_after(n, &args);
        killed += u32::from(!ended);
        assert_eq!(seen, n, "lines before the end");
        let ran = train(&m, &data, &out, &["--resume"]);
        // One that had ended holds an adapter and no checkpoint: it is done again, to the same end.
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(tensors(&out) == tensors(&whole), "killed after {n} steps: {}", ran.err);
    }
    // The first has hardly begun; the last may be through.
    assert!(killed > 0);
}

/// The good checkpoint must outlive the first that is written after it: until that is there, it is the only one.
#[test]
fn a_damaged_checkpoint_does_not_take_the_place_of_the_one_before() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (m, out, whole) = (tiny(), in_folder(&folder, "out"), in_folder(&folder, "whole"));
    let data = write(&folder, "train.jsonl", rows(40));
    // So many that none is through before it is killed.
    let args = [
        &["train", "-m", &m, "--data", &data, "--steps", "60", "--json"],
        &COMMON[2..],
    ]
    .concat();
    assert_eq!(graft(&[&args[..], &["-o", &whole]].concat()).code, 0);
    let args = [&args[..], &["-o", &out]].concat();
    // Behind step 7: checkpoints of step 4 and 6, or of later steps.
    assert_eq!(killed_after(7, &args), (7, false));
    let file = |name: &str| Path::new(&out).join(name);
    let good = std::fs::read(file("checkpoint.previous.graft")).expect("a checkpoint");
    let damaged = &good[..good.len() / 2];
    std::fs::write(file("checkpoint.graft"), damaged).expect("it is written");
    std::fs::write(file(".graft-1-1.part"), "what a killed run leaves").expect("it is written");
    // Behind the next one that is written: the good one stayed, or has made room for a newer one.
    let (seen, ended) = killed_after(3, &[&args[..], &["--resume"]].concat());
    assert_eq!((seen, ended), (3, false));
    assert!(std::fs::read(file("checkpoint.previous.graft")).expect("a checkpoint") != damaged);
    assert!(!file(".graft-1-1.part").exists());
    let ran = graft(&[&args[..], &["--resume"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(tensors(&out) == tensors(&whole));
}

/// What --early-stop has seen before a training was killed counts behind it, too.
#[test]
fn early_stop_goes_on_as_if_nothing_had_happened() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (m, out, whole) = (tiny(), in_folder(&folder, "out"), in_folder(&folder, "whole"));
    let row = |prompt: &str, completion: &str| format!("{}\n", json!({"prompt": prompt, "completion": completion}));
    // What the second says becomes likelier at first, by what both have in common, and then less and less likely.
    let data = write(
        &folder,
        "train.jsonl",
        row("my cat saw ", "the fox and a dog").repeat(8),
    );
    let eval = write(
        &folder,
        "eval.jsonl",
        row("my cat saw the fox and ", "one bird or that fish"),
    );
    let files = ["train", "-m", &m, "--data", &data, "--eval", &eval, "--eval-every", "1"];
    let more = ["--early-stop", "20", "--steps", "60"];
    let args = [&files[..], &COMMON[2..], &more].concat();
    let steps = |ran: &Ran| -> usize {
        let first = ran.out.split(' ').next().unwrap_or_default();
        first.parse().unwrap_or_else(|_| panic!("{}{}", ran.out, ran.err))
    };
    let expected = steps(&graft(&[&args[..], &["-o", &whole]].concat()));
    // The best came before the kill, and the end would have come after it: 20 behind the best.
    assert!((21..32).contains(&expected), "{expected} steps");
    // Two lines a step.
    assert_eq!(killed_after(26, &[&args[..], &["-o", &out, "--json"]].concat()).0, 26);
    let again = graft(&[&args[..], &["-o", &out, "--resume"]].concat());
    assert_eq!(steps(&again), expected, "{}", again.err);
    assert!(tensors(&out) == tensors(&whole));
}

#[test]
fn options_come_from_a_file_too_and_the_command_line_comes_first() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (m, data) = (tiny(), write(&folder, "train.jsonl", rows(12)));
    let config = write(
        &folder,
        "train.toml",
        "method = \"rslora\"\nr = 2\ntargets = \"q_proj,v_proj\"\nsteps = 3\n",
    );
    let out = in_folder(&folder, "out");
    let args = [
        "train", "--config", &config, "-m", &m, "--data", &data, "-o", &out, "--r", "6", "--seq", "32",
    ];
    let ran = graft(&args);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let text = std::fs::read_to_string(Path::new(&out).join("adapter_config.json")).expect("a config");
    let config: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(config["r"], 6);
    assert_eq!(config["use_rslora"], true);
    assert_eq!(config["target_modules"], json!(["q_proj", "v_proj"]));
    assert!(ran.out.starts_with("3 steps"), "{}", ran.out);
    let bad = write(&folder, "bad.toml", "lerning_rate = 1\n");
    let out = in_folder(&folder, "out2");
    graft(&["train", "--config", &bad, "-m", &m, "--data", &data, "-o", &out]).failed(2, &["bad.toml", "lerning_rate"]);
}

#[test]
fn what_cannot_be_trained_is_said_in_a_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (m, good) = (tiny(), write(&folder, "train.jsonl", rows(6)));
    let out = in_folder(&folder, "out");
    let empty = write(&folder, "empty.jsonl", "");
    let broken = write(&folder, "broken.jsonl", rows(2) + "{\"text\": 1}\n");
    let unknown = write(&folder, "unknown.jsonl", "{\"txt\": \"a\"}\n");
    let bytes = write(&folder, "bytes.jsonl", b"{\"text\": \"\xff\"}\n");
    for (data, code, words) in [
        (&empty, 1, &["empty.jsonl"][..]),
        (&broken, 1, &["broken.jsonl", "line 3"]),
        (&unknown, 1, &["unknown.jsonl", "txt"]),
        (&bytes, 1, &["bytes.jsonl"]),
        (&in_folder(&folder, "none.jsonl"), 1, &["none.jsonl"]),
    ] {
        train(&m, data, &out, &[]).failed(code, words);
    }
    for (more, words) in [
        (&["--targets", "q_prj"][..], &["q_prj", "q_proj"][..]),
        (&["--r", "500"], &["rank"]),
        (&["--method", "lorra"], &["lorra", "dora"]),
        (&["--optimizer", "adam"], &["adam", "adamw"]),
        (&["--schedule", "cos"], &["cosine"]),
        (&["--lr=-1"], &["lr"]),
        (&["--batch", "0"], &["--batch"]),
        (&["--seq", "9000"], &["seq"]),
        (&["--epochs", "2"], &["epochs"]),
    ] {
        let common: Vec<&str> = if more[0] == "--epochs" {
            COMMON.to_vec()
        } else {
            COMMON[2..].to_vec()
        };
        let keep: Vec<&str> = common
            .chunks(2)
            .filter(|pair| pair[0] != more[0].split('=').next().unwrap_or_default())
            .flatten()
            .copied()
            .collect();
        let ran = graft(&[&["train", "-m", &m, "--data", &good, "-o", &out], &keep[..], more].concat());
        assert_eq!(ran.code, 2, "{more:?}: {}", ran.err);
        for word in words {
            assert!(ran.err.contains(word), "{word:?} is not in: {}", ran.err);
        }
    }
    assert!(!Path::new(&out).join("adapter_config.json").exists());
    // With --skip-bad the good lines are learnt.
    let ran = train(&m, &broken, &out, &["--skip-bad"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

/// Options of new adapters, from the command line and from a file: the config that is written says them.
#[test]
fn a_new_adapter_is_what_options_say() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let m = tiny();
    let data = write(&folder, "train.jsonl", rows(12));
    let begun = |name: &str, options: &[&str]| -> Value {
        let out = in_folder(&folder, name);
        let ran = train(&m, &data, &out, options);
        assert_eq!(ran.code, 0, "{name}: {}", ran.err);
        assert_eq!(
            graft(&["run", "-m", &m, "-a", &out, "-p", "the", "-n", "2"]).code,
            0,
            "{name}"
        );
        let config = std::fs::read(Path::new(&out).join("adapter_config.json")).expect("a config");
        serde_json::from_slice(&config).expect("JSON")
    };
    type Case<'a> = (&'a str, &'a [&'a str], &'a str, Value);
    let cases: &[Case] = &[
        ("vera", &[], "peft_type", json!("VERA")),
        ("oft", &["--oft-block-size", "16"], "oft_block_size", json!(16)),
        ("boft", &["--boft-block-size", "8"], "boft_block_size", json!(8)),
        ("road", &["--group-size", "16"], "group_size", json!(16)),
        (
            "prompt_tuning",
            &["--num-virtual-tokens", "3"],
            "num_virtual_tokens",
            json!(3),
        ),
        (
            "prompt_tuning",
            &["--prompt-tuning-init-text", "hello"],
            "prompt_tuning_init",
            json!("TEXT"),
        ),
        (
            "trainable_tokens",
            &["--token-indices", "70,71"],
            "token_indices",
            json!([70, 71]),
        ),
        (
            "lora",
            &["--modules-to-save", "embed_tokens,lm_head"],
            "modules_to_save",
            json!(["embed_tokens", "lm_head"]),
        ),
        ("lora", &["--dropout", "0.1"], "lora_dropout", json!(0.1)),
        ("lora", &["--init", "pissa"], "r", json!(8)),
    ];
    for (i, (method, options, field, value)) in cases.iter().enumerate() {
        let config = begun(&format!("{i}"), &[&["--method", method], *options].concat());
        assert_eq!(config[field], *value, "{method} {options:?}");
    }
    let file = write(
        &folder,
        "tokens.toml",
        "method = \"trainable_tokens\"\ntoken_indices = [72, 73]\n",
    );
    assert_eq!(begun("toml", &["--config", &file])["token_indices"], json!([72, 73]));
    let refused = |options: &[&str], words: &[&str]| {
        train(&m, &data, &in_folder(&folder, "refused"), options).failed(2, words);
    };
    refused(&["--method", "vara"], &["vara", "vera"]);
    refused(&["--method", "ia3", "--dropout", "0.1"], &["dropout"]);
    refused(
        &["--method", "lora", "--num-virtual-tokens", "3"],
        &["num_virtual_tokens"],
    );
    refused(&["--method", "trainable_tokens"], &["token_indices"]);
    // An adapter that is there is what it is, but for its dropout.
    refused(
        &["--init-from", &in_folder(&folder, "8"), "--oft-block-size", "16"],
        &["--init-from"],
    );
    let config = begun("from", &["--init-from", &in_folder(&folder, "8"), "--dropout", "0.3"]);
    assert_eq!(config["lora_dropout"], json!(0.3));
}

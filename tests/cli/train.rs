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

/// The issue of `--plan` is that it comes true: within a tenth.
#[cfg(target_os = "linux")] // where the system says what a process holds
#[test]
fn a_plan_says_what_memory_a_training_takes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let m = smollm2();
    // Full rows, all of them targets: what the plan is for.
    let data = write(
        &folder,
        "train.txt",
        "the fox and a dog ran, and my cat saw that fish. ".repeat(60),
    );
    let options = ["--seq", "128", "--r", "8", "--steps", "3", "--batch", "1", "--json"];
    let with = |more: &[&str]| graft(&[&["train", "-m", &m, "--data", &data], &options[..], more].concat());
    let planned = |more: &[&str]| {
        let ran = with(&[&["--plan"], more].concat());
        ran.json()["plan"]["total"].as_u64().expect("a sum")
    };
    let total = planned(&[]);
    let ran = with(&["-o", &in_folder(&folder, "out")]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let done: Value = serde_json::from_str(ran.out.lines().last().expect("an end")).expect("JSON");
    let peak = done["done"]["peak_memory"].as_u64().expect("bytes");
    let ratio = total as f64 / peak as f64;
    assert!((0.9..1.1).contains(&ratio), "{total} planned, {peak} held");
    // Less is possible, and then less is taken; too little is an error that says how much is not.
    let less = planned(&["--memory", &(total - 1_000_000).to_string()]);
    assert!(less < total);
    let ran = with(&["--memory", "100M", "-o", &in_folder(&folder, "out2")]);
    ran.failed(1, &["memory", &format!("at least {}", less / 10_000_000), "100000000"]);
    with(&["--memory", "much", "-o", &in_folder(&folder, "out3")]).failed(2, &["--memory", "much"]);
    graft(&["train", "-m", &m, "--data", &data]).failed(2, &["--output"]);
}

/// Interrupts a training after `n` lines and waits until it has stopped by itself.
#[cfg(unix)] // by a signal
fn stopped_after(n: usize, args: &[&str]) {
    let mut child = command(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.by_ref().take(n).filter(Result::is_ok).count(), n);
    interrupt(&child);
    lines.for_each(drop);
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
}

/// The good checkpoint must outlive the first that is written after it: until that is there, it is the only one.
#[cfg(unix)] // by a signal
#[test]
fn a_damaged_checkpoint_does_not_take_the_place_of_the_one_before() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (m, out, whole) = (tiny(), in_folder(&folder, "out"), in_folder(&folder, "whole"));
    let data = write(&folder, "train.jsonl", rows(40));
    // So long that no machine is through before it hears that it is to stop.
    let words = "--steps 150 --seq 32 --batch 1 --r 2 --lr 1e-3 -t 1 --json";
    let with = |out: &str, more: &str| -> Vec<String> {
        let all = format!("train -m {m} --data {data} -o {out} {words} {more}");
        all.split_whitespace().map(str::to_owned).collect()
    };
    let run = |args: &[String]| graft(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let stop = |n: usize, args: &[String]| stopped_after(n, &args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(run(&with(&whole, "")).code, 0);
    // One of a third step, and the one of the end.
    stop(4, &with(&out, "--save-every 3"));
    let file = |name: &str| Path::new(&out).join(name);
    let good = std::fs::read(file("checkpoint.previous.graft")).expect("a checkpoint");
    std::fs::write(file("checkpoint.graft"), &good[..good.len() / 2]).expect("it is written");
    std::fs::write(file(".graft-1-1.part"), "what a killed run leaves").expect("it is written");
    // On from the one before, and over the damaged one once, at the end.
    stop(1, &with(&out, "--save-every 1000 --resume"));
    assert!(std::fs::read(file("checkpoint.previous.graft")).expect("a checkpoint") == good);
    assert!(std::fs::read(file("checkpoint.graft")).expect("a checkpoint").len() > good.len() / 2);
    assert!(!file(".graft-1-1.part").exists());
    let ran = run(&with(&out, "--resume"));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(tensors(&out) == tensors(&whole));
}

/// What --early-stop has seen before a training was killed counts behind it, too.
#[test]
fn early_stop_goes_on_as_if_nothing_had_happened() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (m, out, whole) = (tiny(), in_folder(&folder, "out"), in_folder(&folder, "whole"));
    let data = write(&folder, "train.jsonl", rows(40));
    let eval = write(&folder, "eval.jsonl", "{\"text\": \"0123456789\"}\n");
    let measure = ["--eval", &eval, "--eval-every", "1"];
    // Which step it is depends on the last digits of a machine: so from what it measures where nothing stops it.
    let free = train(
        &m,
        &data,
        &in_folder(&folder, "free"),
        &[&measure[..], &["--json"]].concat(),
    );
    let losses = free.out.lines().filter_map(|l| {
        let line: Value = serde_json::from_str(l).expect("JSON");
        line["eval_loss"].as_f64()
    });
    let (mut best, mut worse, mut stop) = (f64::INFINITY, 0, 0);
    for loss in losses {
        (best, worse) = if loss < best { (loss, 0) } else { (best, worse + 1) };
        stop += 1;
        if worse == 3 {
            break;
        }
    }
    assert!(stop >= 4);
    let more = [&measure[..], &["--early-stop", "3"]].concat();
    let ran = train(&m, &data, &whole, &more);
    let ends = format!("{stop} steps");
    assert!(ran.out.starts_with(&ends), "{ends}: {}", ran.out);
    let args = [
        &["train", "-m", &m, "--data", &data, "-o", &out, "--json"],
        COMMON,
        &more[..],
    ]
    .concat();
    // Two lines a step; the last checkpoint is that of a step before, two at most.
    let lines = 2 * (stop - 1);
    assert_eq!(killed_after(lines, &args).0, lines);
    let again = train(&m, &data, &out, &[&more[..], &["--resume"]].concat());
    assert!(again.out.starts_with(&ends), "{ends}: {}{}", again.out, again.err);
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

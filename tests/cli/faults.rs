//! Bad input: one line that names the place, exit code 1 for data and 2 for usage, nothing on stdout.

use std::process::Stdio;

use super::tools::*;
use crate::common;

#[test]
fn usage_errors_are_2() {
    let m = tiny();
    let run = ["run", "-m", &m, "--tokens", "1,2"];
    for (more, word) in [
        (&["--temp", "-1"][..], "temperature"),
        (&["--temp", "nan"], "temperature"),
        (&["--temp", "hot"], "hot"),
        (&["--top-p", "1.5"], "top_p"),
        (&["--min-p", "-0.1"], "min_p"),
        (&["--repeat-penalty", "0"], "repeat_penalty"),
        (&["--top-k", "-3"], "-3"),
        (&["--seed", "x"], "seed"),
        (&["--logit-bias", "5"], "42=-1.5"),
        (&["--logit-bias", "288=1"], "288"),
        (&["--logit-bias", "5=nan"], "logit_bias"),
        (&["--stop", ""], "stop string"),
        (&["-n", "-2"], "-n"),
        (&["-n", "many"], "many"),
        (&["--ctx", "0"], "context"),
        (&["--ctx", "257"], "256"),
        (&["--threads", "0"], "threads"),
        (&["-p", "two prompts"], "cannot be used"),
        (&["-a", "@1"], "[NAME=]DIR[@WEIGHT]"),
        (&["-a", "=dir"], "name is empty"),
        (&["-a", "dir@nan"], "not finite"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["--chat"], "cannot be used"),
    ] {
        graft(&[&run[..], more].concat()).failed(2, &[word]);
    }
    for (args, word) in [
        (&["run", "-m", &m][..], "--prompt"),
        (&["run", "-p", "x"], "--model"),
        (&["run", "-m", &m, "-p", ""], "prompt is empty"),
        (&["run", "-m", &m, "--tokens", ""], "--tokens"),
        (&["run", "-m", &m, "--tokens", "1,x"], "x"),
        (&["run", "-m", &m, "--tokens", "-1"], "-1"),
        (&["run", "-m", &m, "--tokens", "1,288"], "tokens[1]"),
        (&["logits", "-m", &m, "-p", ""], "prompt is empty"),
        (&["perplexity", "-m", &m, "/dev/null", "-c", "2"], "--ctx"),
        (&["bench", "-m", &m, "-p", "300"], "256"),
        (&["bench", "-m", &m, "-r", "0"], "0"),
        (&["tokenize", "-m", &m], "TEXT"),
        (&["batch", "-m", &m, "x"], "--output"),
        (&["wander"], "wander"),
    ] {
        graft(args).failed(2, &[word]);
    }
}

#[test]
fn files_that_cannot_be_read_are_1() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let m = tiny();
    let empty = write(&folder, "empty.gguf", "");
    let noise = write(
        &folder,
        "noise.gguf",
        b"not a model at all, but long enough to look at".repeat(10),
    );
    let latin1 = write(&folder, "latin1.txt", b"caf\xe9 ".repeat(500));
    let short = write(&folder, "short.txt", "too short");
    let dir = text(folder.path());
    let qv = adapter("qv");
    let cases: &[(&[&str], &str)] = &[
        (&["run", "-m", "nowhere.gguf", "-p", "x"], "nowhere.gguf"),
        (&["run", "-m", &dir, "-p", "x"], &dir),
        (&["run", "-m", &empty, "-p", "x"], "empty"),
        (&["run", "-m", &noise, "-p", "x"], "noise.gguf"),
        (&["chat", "-m", "nowhere.gguf"], "nowhere.gguf"),
        (&["bench", "-m", "nowhere.gguf"], "nowhere.gguf"),
        (&["logits", "-m", &empty, "-p", "x"], "empty.gguf"),
        (&["tokenize", "-m", &noise, "x"], "noise.gguf"),
        (&["inspect", &noise], "noise.gguf"),
        (&["inspect", "nowhere"], "nowhere"),
        (&["inspect", &dir], "adapter_config.json"),
        (&["run", "-m", &m, "-f", "nowhere.txt"], "nowhere.txt"),
        (&["run", "-m", &m, "-f", &dir], &dir),
        (&["run", "-m", &m, "-f", &latin1], "not UTF-8"),
        (&["run", "-m", &m, "-p", "x", "-a", "nowhere"], "nowhere"),
        (&["run", "-m", &m, "-p", "x", "-a", &m], "not a LoRA adapter"),
        (&["run", "-m", &m, "-p", "x", "-a", &dir], "adapter_config.json"),
        (
            &[
                "run",
                "-m",
                &tiny_file("qwen2/model.gguf"),
                "-p",
                "x",
                "-a",
                &tiny_file("gemma3/adapters/all-linear"),
            ],
            "layers",
        ),
        (&["perplexity", "-m", &m, &short], "too short"),
        (&["perplexity", "-m", &m, "nowhere.txt"], "nowhere.txt"),
        (
            &["batch", "-m", &m, "nowhere.jsonl", "-o", "/dev/null"],
            "nowhere.jsonl",
        ),
        (&["batch", "-m", &m, &dir, "-o", "/dev/null"], "folder"),
        (&["batch", "-m", &m, &short, "-o", &dir], &dir),
        (&["batch", "-m", &m, &short, "-o", "/nowhere/out"], "/nowhere/out"),
        (
            &["run", "-m", &m, "--tokens", "1,2,3,4,5,6,7,8,9", "--ctx", "8"],
            "at most 8",
        ),
        (
            &[
                "run", "-m", &m, "--tokens", "1", "-n", "50", "--ctx", "8", "--keep", "7",
            ],
            "keep",
        ),
    ];
    for (args, word) in cases {
        let got = graft(args);
        // What keep says is only known when the context is full: text may be there, and it is wrong usage.
        match *word {
            "keep" => assert!(got.code == 2 && got.err.contains(word), "{}: {}", got.code, got.err),
            word => got.failed(1, &[word]),
        }
    }
    assert!(std::path::Path::new(&qv).is_dir());
}

#[test]
fn a_model_cut_anywhere_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let whole = std::fs::read(tiny()).expect("the model");
    // Every byte of the fixed header, then a spread over metadata, tensor list and data, down to the last byte.
    let cuts = (0..32)
        .chain((1..60).map(|i| whole.len() * i / 60))
        .chain([whole.len() - 1]);
    for cut in cuts {
        let path = write(&folder, "cut.gguf", &whole[..cut]);
        graft(&["run", "-m", &path, "--tokens", "1", "-n", "1"]).failed(1, &["cut.gguf"]);
        graft(&["run", "-m", &path, "--tokens", "1", "-n", "1", "--no-mmap"]).failed(1, &["cut.gguf"]);
    }
}

#[test]
fn bad_adapters_are_refused() {
    let folder = common::data().join("adapters-bad");
    let manifest = common::json(&folder.join("manifest.json"));
    let cases = manifest.as_array().expect("a list");
    for case in cases {
        let of = |key: &str| case[key].as_str().expect("text").to_string();
        let dir = text(&folder.join(of("dir")));
        let model = tiny_file(&format!("{}/model.gguf", of("model")));
        graft(&["run", "-m", &model, "--tokens", "1", "-n", "1", "-a", &dir]).failed(1, &[&of("dir")]);
        if of("stage") == "open" {
            graft(&["inspect", &dir]).failed(1, &[&of("dir")]);
        }
    }
    assert!(cases.len() > 50);
}

#[test]
fn a_full_disk_is_an_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (m, q) = (tiny(), adapter("qv"));
    let input = write(&folder, "in.jsonl", "{\"prompt\": \"Hello\"}\n");
    graft(&["batch", "-m", &m, &input, "-o", "/dev/full", "-n", "2"]).failed(1, &["/dev/full", "No space"]);
    for args in [
        &["run", "-m", &m, "--tokens", "50,51", "-n", "4"][..],
        &["run", "-m", &m, "--tokens", "50,51", "-n", "4", "--json"],
        &["logits", "-m", &m, "--tokens", "1,2"],
        &["tokenize", "-m", &m, "Hello"],
        &["inspect", &m],
        &["inspect", &q, "--json"],
    ] {
        let full = std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .expect("/dev/full");
        let output = command(args)
            .stdin(Stdio::null())
            .stdout(full)
            .output()
            .expect("the program runs");
        ran(output).failed(1, &["stdout", "No space"]);
    }
}

/// As a user who may not read the file: root may read everything.
#[cfg(unix)]
#[test]
fn no_permission_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let forbid = |path: &str, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("chmod");
    forbid(&text(folder.path()), 0o755);
    let model = in_folder(&folder, "secret.gguf");
    std::fs::copy(tiny(), &model).expect("copied");
    forbid(&model, 0o000);
    let program = in_folder(&folder, "graft");
    // Not by this process: a test in another thread could fork while the copy is open for writing, and the kernel
    // does not run a program that somebody may write to.
    let copied = std::process::Command::new("cp")
        .args([env!("CARGO_BIN_EXE_graft"), &program])
        .status();
    assert!(copied.expect("cp runs").success());
    forbid(&program, 0o755);
    let words = words(&program);
    let mut command = std::process::Command::new(&words[0]);
    command
        .args(&words[1..])
        .args(["run", "-m", &model, "-p", "x"])
        .current_dir("/");
    if std::fs::File::open(&model).is_ok() {
        // This is root. 65534 is nobody.
        command.uid(65534).gid(65534);
    }
    ran(command.output().expect("the program runs")).failed(1, &["secret.gguf", "ermission denied"]);
}

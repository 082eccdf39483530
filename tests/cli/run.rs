//! `graft run`.

use std::io::Read;
use std::process::{Command, Stdio};

use super::tools::*;
use crate::common;

/// Where the two best logits are further apart than this, `Exact` must choose as transformers did.
const CLEAR_MARGIN: f64 = 0.01;

#[test]
fn greedy_tokens_match_recording() {
    let golden = common::json(&common::data().join("tiny/llama-tied/golden.json"));
    let mut compared = 0;
    for case in golden["cases"].as_array().expect("cases") {
        let Some(greedy) = case["greedy"].as_array() else {
            continue;
        };
        let (model, prompt) = (tiny(), csv(&common::ids(&case["tokens"])));
        let mut args = vec!["-m", &model, "--tokens", &prompt, "-n", "32", "--ignore-eos", "--exact"];
        let folder = common::data().join("tiny/llama-tied");
        let adapters: Vec<String> = case["adapters"]
            .as_array()
            .expect("adapters")
            .iter()
            .map(|a| {
                let dir = text(&folder.join(a["dir"].as_str().expect("dir")));
                format!("{dir}@{}", a["weight"].as_f64().expect("weight"))
            })
            .collect();
        adapters.iter().for_each(|a| args.extend(["-a", a]));
        let ours = tokens(&args);
        let margins = case["greedy_margin"].as_array().expect("margins");
        let clear = margins
            .iter()
            .take_while(|m| m.as_f64().expect("margin") > CLEAR_MARGIN)
            .count();
        let oracle: Vec<u32> = greedy.iter().map(|v| v.as_u64().expect("id") as u32).collect();
        assert_eq!(ours[..clear], oracle[..clear], "{}", case["name"]);
        compared += clear;
    }
    println!("{compared} tokens compared");
    assert!(compared > 100);
}

#[test]
fn json_has_the_promised_shape_and_text_is_the_same() {
    let args = ["run", "-m", &smollm2(), "-p", "The capital of France is", "-n", "5"];
    let document = graft(&[&args[..], &["--json"]].concat()).json();
    assert_eq!(document["tokens"].as_array().map(Vec::len), Some(5));
    assert_eq!(document["finish_reason"], "length");
    assert_eq!(document["timings"]["prompt_tokens"], 5);
    assert_eq!(document["timings"]["tokens"], 5);
    for time in [
        "load_ms",
        "prompt_ms",
        "prompt_per_second",
        "generation_ms",
        "tokens_per_second",
        "first_token_ms",
    ] {
        assert!(document["timings"][time].as_f64().expect(time) > 0.0, "{document}");
    }
    assert!(document["memory"]["kv"].as_u64().expect("bytes") > 0);
    let text = document["text"].as_str().expect("text");
    assert!(text.contains("Paris"), "{text}");
    assert_eq!(graft(&args).text(), format!("{text}\n"));

    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = write(&folder, "prompt.txt", "The capital of France is");
    let from_file = graft(&["run", "-m", &smollm2(), "-f", &file, "-n", "5"]);
    let from_stdin = graft_with_input(
        &["run", "-m", &smollm2(), "-f", "-", "-n", "5"],
        b"The capital of France is",
    );
    assert_eq!(
        (from_file.text(), from_stdin.text()),
        (from_stdin.text(), from_file.text())
    );
    assert_eq!(from_file.text(), format!("{text}\n"));
}

#[test]
fn a_seed_repeats_on_any_number_of_threads() {
    let model = smollm2();
    let draw = |seed: &str, threads: &str| {
        tokens(&[
            "-m",
            &model,
            "--tokens",
            "504,3575,282,4649,314",
            "-n",
            "12",
            "--temp",
            "1.2",
            "--seed",
            seed,
            "-t",
            threads,
        ])
    };
    let one = draw("5", "1");
    assert_eq!(one, draw("5", "2"));
    assert_eq!(one, draw("5", "3"));
    assert_ne!(one, draw("6", "2"));
    let free = || {
        graft(&[
            "run",
            "-m",
            &tiny(),
            "--tokens",
            "1,2",
            "-n",
            "16",
            "--temp",
            "2",
            "--min-p",
            "0",
            "--json",
        ])
        .json()
    };
    let (a, b) = (free(), free());
    assert_ne!(a["seed"], b["seed"], "without --seed every run is another one");
    let again = tokens(&[
        "-m",
        &tiny(),
        "--tokens",
        "1,2",
        "-n",
        "16",
        "--temp",
        "2",
        "--min-p",
        "0",
        "--seed",
        &a["seed"].to_string(),
    ]);
    assert_eq!(again, common::ids(&a["tokens"]), "and its seed repeats it");
}

#[test]
fn endings() {
    let model = tiny();
    let base = ["run", "-m", &model, "--tokens", "50,51,52", "--json", "--ignore-eos"];
    let with = |more: &[&str]| graft(&[&base[..], more].concat()).json();
    let free = with(&["-n", "20"]);
    let text = free["text"].as_str().expect("text").to_string();

    // A stop string from the middle of the text, so that it crosses tokens where it can.
    let middle: String = text.chars().skip(4).take(3).collect();
    let stopped = with(&["-n", "20", "--stop", &middle]);
    assert_eq!(stopped["finish_reason"], "stop");
    assert_eq!(stopped["text"].as_str(), text.split(&middle).next());

    // The most likely token is banned: it never comes.
    let first = common::ids(&free["tokens"])[0];
    let banned = with(&["-n", "20", "--logit-bias", &format!("{first}=-inf")]);
    assert!(!common::ids(&banned["tokens"]).contains(&first));
    // And one that is pushed always comes.
    let pushed = with(&["-n", "3", "--logit-bias", "77=1e9"]);
    assert_eq!(common::ids(&pushed["tokens"]), [77, 77, 77]);

    let eos = graft(&["run", "-m", &model, "--tokens", "50", "--json", "--logit-bias", "2=1e9"]).json();
    assert_eq!(
        (eos["finish_reason"].as_str(), &eos["tokens"]),
        (Some("eos"), &serde_json::json!([]))
    );

    let full = with(&["-n", "-1", "--ctx", "16"]);
    // 3 of the prompt and 13 new ones fit; one more is known by then.
    assert_eq!(
        (full["finish_reason"].as_str(), full["tokens"].as_array().map(Vec::len)),
        (Some("context"), Some(14))
    );
    let slid = with(&["-n", "40", "--ctx", "16", "--keep", "2"]);
    assert_eq!(
        (slid["finish_reason"].as_str(), slid["tokens"].as_array().map(Vec::len)),
        (Some("length"), Some(40))
    );
    assert_eq!(common::ids(&slid["tokens"])[..14], common::ids(&full["tokens"])[..]);
    let none = with(&["-n", "0"]);
    assert_eq!(
        (none["finish_reason"].as_str(), none["text"].as_str()),
        (Some("length"), Some(""))
    );
}

#[test]
fn mapped_and_read_files_give_the_same() {
    let run = |more: &[&str]| tokens(&[&["-m", &tiny(), "-p", "Hello", "-n", "12", "--ignore-eos"], more].concat());
    assert_eq!(run(&[]), run(&["--no-mmap"]));
}

#[test]
fn a_chat_prompt_goes_through_the_template() {
    let ids =
        |text: &str| common::ids(&graft(&["tokenize", "-m", &tiny(), "--json", "--no-special", text]).json()["tokens"]);
    let prompt = csv(&ids("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"));
    let more = ["-n", "6", "--ignore-eos"];
    let chat = tokens(&[&["-m", &tiny(), "--chat", "-p", "Hi"], &more[..]].concat());
    let plain = tokens(&[&["-m", &tiny(), "--tokens", &prompt], &more[..]].concat());
    assert_eq!(chat, plain);
}

/// A generation that never ends by itself.
fn endless() -> Command {
    let mut command = command(&[
        "run",
        "-m",
        &tiny(),
        "-p",
        "Hello",
        "-n",
        "-1",
        "--ignore-eos",
        "--keep",
        "4",
    ]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[cfg(unix)] // by a signal
#[test]
fn ctrl_c_ends_with_130() {
    let mut child = endless().spawn().expect("the program starts");
    let mut first = [0];
    child
        .stdout
        .as_mut()
        .expect("piped")
        .read_exact(&mut first)
        .expect("text streams");
    interrupt(&child);
    let mut output = child.wait_with_output().expect("it ends");
    // What is left may begin within a character.
    assert_eq!(std::mem::take(&mut output.stdout).last(), Some(&b'\n'));
    let ran = ran(output);
    assert_eq!((ran.code, ran.err.as_str()), (130, ""));
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let mut child = endless().spawn().expect("the program starts");
    let mut first = [0];
    let mut out = child.stdout.take().expect("piped");
    out.read_exact(&mut first).expect("text streams");
    drop(out);
    let ran = ran(child.wait_with_output().expect("it ends"));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

/// Where there is no GPU: nobody asked for one, or somebody did.
#[test]
fn without_a_gpu_the_cpu_runs_models() {
    let args = ["logits", "-m", &tiny(), "--tokens", "1", "--device"];
    let on = |device: &str| {
        command(&[&args[..], &[device]].concat())
            .output()
            .expect("the program runs")
    };
    let (auto, cpu) = (on("auto"), on("cpu"));
    assert!(auto.status.success() && cpu.status.success());
    assert_eq!(auto.stdout, cpu.stdout);
    assert_eq!(cpu.stderr, b"");
    let (said, why) = match cfg!(feature = "cuda") {
        true => (no_gpu_line(), "no NVIDIA driver"),
        false => (String::new(), "this build of Graft has no GPUs"),
    };
    assert_eq!(String::from_utf8_lossy(&auto.stderr), said, "once");
    ran(on("cuda")).failed(1, &[why]);
    ran(on("cuda:3")).failed(1, &[why]);
    graft(&[&args[..], &["gpu"]].concat()).failed(2, &["auto, cpu, cuda or cuda:N", "gpu"]);
    graft(&["gpu-check", "-m", &tiny()]).failed(2, &[why]);
}

//! `graft eval`. Oracles: `graft logits`, which is held to transformers' values, and `graft run`.

use std::process::Stdio;

use serde_json::{Value, json};

use super::tools::*;
use crate::common;

fn eval(args: &[&str]) -> Ran {
    graft(&[&["eval", "--exact"], args].concat())
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|r| format!("{r}\n")).collect()
}

fn encode(model: &str, text: &str) -> Vec<u32> {
    common::ids(&graft(&["tokenize", "-m", model, "--json", text]).json()["tokens"])
}

/// By `graft logits`: the log-probability of each token behind the first.
fn log_probabilities(model: &str, ids: &[u32], more: &[&str]) -> Vec<f64> {
    let ids_text = csv(ids);
    let args = [
        "logits", "-m", model, "--tokens", &ids_text, "--all", "--top", "100000", "--exact", "--json",
    ];
    let all = graft(&[&args[..], more].concat()).json();
    let positions = all["positions"].as_array().expect("positions");
    let pairs = positions.iter().zip(&ids[1..]);
    pairs
        .map(|(position, next)| {
            let top = position["top"].as_array().expect("logits");
            let logit = |pair: &Value| pair[1].as_f64().expect("a logit") as f32;
            let logits: Vec<f32> = top.iter().map(logit).collect();
            let next = top.iter().find(|pair| pair[0] == *next).expect("its logit");
            f64::from(logit(next)) - common::logsumexp(&logits)
        })
        .collect()
}

#[track_caller]
fn near(ours: &Value, oracle: f64) {
    let ours = ours.as_f64().expect("a number");
    assert!(
        (ours - oracle).abs() < 1e-5 * oracle.abs().max(1.0),
        "{ours} against {oracle}"
    );
}

#[test]
fn losses_are_those_of_the_learnt_tokens() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let m = tiny();
    let qv = adapter("qv");
    let turn = |role: &str, text: &str| format!("<|im_start|>{role}\n{text}<|im_end|>\n");
    let chat = turn("user", "the dog?") + "<|im_start|>assistant\nthe fox<|im_end|>";
    // A row, its whole text, and what of it is not learnt.
    let rows = [
        (
            json!({"text": "the quick brown fox"}),
            "the quick brown fox<|im_end|>".to_string(),
            "t".to_string(),
        ),
        (
            json!({"prompt": "the lazy dog and", "completion": " then the other"}),
            "the lazy dog and then the other<|im_end|>".into(),
            "the lazy dog and".into(),
        ),
        (
            json!({"messages": [{"role": "user", "content": "the dog?"}, {"role": "assistant", "content": "the fox"}]}),
            chat.clone(),
            chat.strip_suffix("the fox<|im_end|>").expect("an answer").into(),
        ),
    ];
    for more in [&[][..], &["-a", &qv]] {
        let (mut all, mut count) = (0.0, 0);
        for (i, (row, text, context)) in rows.iter().enumerate() {
            let ids = encode(&m, text);
            let context = if i == 0 { 1 } else { encode(&m, context).len() };
            let learnt = &log_probabilities(&m, &ids, more)[context - 1..];
            let data = write(&folder, "one.jsonl", lines(std::slice::from_ref(row)));
            let got = eval(&[&["-m", &m, "--data", &data, "--json"], more].concat()).json();
            let loss = -learnt.iter().sum::<f64>() / learnt.len() as f64;
            assert_eq!(got["tokens"], learnt.len());
            near(&got["loss"], loss);
            near(&got["perplexity"], loss.exp());
            all -= learnt.iter().sum::<f64>();
            count += learnt.len();
        }
        let data = write(&folder, "all.jsonl", lines(&rows.each_ref().map(|r| r.0.clone())));
        let got = eval(&[&["-m", &m, "--data", &data, "--json"], more].concat()).json();
        near(&got["loss"], all / count as f64);
        assert_eq!(
            got["rows"],
            json!({"text": 1, "completion": 1, "messages": 1, "choices": 0})
        );
        assert_eq!((&got["choices"], &got["exact_match"]), (&Value::Null, &Value::Null));
        assert_eq!(
            (&got["cut"], &got["skipped"], &got["seq"]),
            (&json!(0), &json!(0), &json!(256))
        );
        let words = eval(&[&["-m", &m, "--data", &data], more].concat());
        let number = |key: &str| got[key].as_f64().expect("a number");
        let expected = format!("loss {:.4}, perplexity {:.4} ±", number("loss"), number("perplexity"));
        assert!(words.text().starts_with(&expected), "{}", words.out);
        assert!(
            words.out.contains("rows: 1 text, 1 completion, 1 messages"),
            "{}",
            words.out
        );
    }
}

/// The right choice is the one that the model holds most likely by the logits, in one row; in the other it is not.
#[test]
fn choices_are_told_by_their_likelihood() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // The second has a window that is shorter than the prompt.
    for m in [tiny(), tiny_file("gemma3/model.gguf")] {
        let prompt = "the quick brown fox jumps over the lazy dog and then";
        let choices = [" the other fox", " a", " women and men are in it"];
        let start = encode(&m, prompt).len();
        let of = |choice: &&str| {
            let all = log_probabilities(&m, &encode(&m, &format!("{prompt}{choice}")), &[]);
            let of = &all[start - 1..];
            (of.iter().sum::<f64>(), of.iter().sum::<f64>() / of.len() as f64)
        };
        let of: Vec<(f64, f64)> = choices.iter().map(of).collect();
        let best = |by: fn(&(f64, f64)) -> f64| {
            (0..3)
                .max_by(|a, b| by(&of[*a]).total_cmp(&by(&of[*b])))
                .expect("three")
        };
        let (by_sum, by_mean) = (best(|o| o.0), best(|o| o.1));
        assert_ne!(by_sum, by_mean, "the choices are chosen so");
        // By index and by text; one right by the sum, one by the mean, one by neither, which must not matter to the others.
        let neither = 3 - by_sum - by_mean;
        let row = |answer: Value| json!({"prompt": prompt, "choices": choices, "answer": answer});
        let rows = [
            row(json!(by_sum)),
            row(json!(choices[by_mean])),
            row(json!(choices[by_sum])),
            row(json!(neither)),
        ];
        let data = write(&folder, "data.jsonl", lines(&rows));
        let got = eval(&["-m", &m, "--data", &data, "--json"]).json();
        assert_eq!(got["choices"], json!({"accuracy": 0.5, "accuracy_per_token": 0.25}));
        assert_eq!(
            (&got["loss"], &got["tokens"], &got["rows"]["choices"]),
            (&Value::Null, &json!(0), &json!(4))
        );
        let words = eval(&["-m", &m, "--data", &data]);
        assert_eq!(words.text(), "choices 50.00 % right, 25.00 % per token (4 rows)\n");
    }
}

/// Oracle: what `graft run` says.
#[test]
fn exact_matches_are_what_the_model_says_and_no_more() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let m = smollm2();
    let prompt = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n";
    let run = graft(&["run", "-m", &m, "-p", prompt, "--json", "--exact"]).json();
    assert_eq!(run["finish_reason"], "eos");
    let says = run["text"].as_str().expect("text");
    let row = |completion: String| json!({"prompt": prompt, "completion": completion});
    let rows = [
        row(says.into()),
        row(format!("  {says}\n")),
        row(format!("{says} It is.")),
        row(says[..says.len() / 2].into()),
        row(String::new()),
        json!({"text": "The sea."}),
    ];
    let data = write(&folder, "data.jsonl", lines(&rows));
    let got = eval(&["-m", &m, "--data", &data, "--json", "--exact-match"]).json();
    assert_eq!(got["exact_match"], json!({"share": 0.4, "rows": 5}));
    assert_eq!(
        got["rows"],
        json!({"text": 1, "completion": 5, "messages": 0, "choices": 0})
    );
    let words = eval(&["-m", &m, "--data", &data, "--exact-match", "--limit", "1"]);
    assert!(
        words.text().contains("\nexact match 100.00 % (1 of 1 rows)\n"),
        "{}",
        words.out
    );
    let none = write(&folder, "none.jsonl", lines(&rows[5..]));
    let got = eval(&["-m", &m, "--data", &none, "--exact-match", "--json"]);
    assert!(got.err.contains("nothing to match"), "{}", got.err);
    assert_eq!(got.json()["exact_match"], Value::Null);
}

/// The loss of a plain text is that of its parts, and each row counts once, whatever the limit.
#[test]
fn a_plain_text_is_a_row_for_each_part() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let m = tiny();
    let parts = [
        "the quick brown fox jumps\n",
        "over the lazy dog and then\n",
        "the other fox sees that\n",
    ];
    let data = write(&folder, "data.txt", parts.concat());
    let longest = parts.iter().map(|p| encode(&m, p).len()).max().expect("parts");
    // Room for one line, and the token that ends the text.
    let seq = (longest + 1).to_string();
    for limit in 1..=3 {
        let (mut sum, mut count) = (0.0, 0);
        for (i, part) in parts.iter().take(limit).enumerate() {
            let end = if i == 2 { "<|im_end|>" } else { "" };
            let all = log_probabilities(&m, &encode(&m, &format!("{part}{end}")), &[]);
            sum -= all.iter().sum::<f64>();
            count += all.len();
        }
        let limit = limit.to_string();
        let got = eval(&["-m", &m, "--data", &data, "--seq", &seq, "--limit", &limit, "--json"]).json();
        assert_eq!(
            (got["rows"]["text"].to_string(), &got["tokens"]),
            (limit, &json!(count))
        );
        near(&got["loss"], sum / count as f64);
    }
}

#[test]
fn bad_rows_end_it_or_are_skipped() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let m = tiny();
    let good = json!({"text": "the fox"}).to_string();
    let long = "the fox ".repeat(100);
    let too_long = json!({"prompt": "the", "choices": ["a", long], "answer": 0}).to_string();
    let no_room = json!({"prompt": long, "completion": "x"}).to_string();
    for (bad, word) in [
        ("{\"text\": ", "JSON"),
        ("{\"txt\": \"a\"}", "unknown field `txt`"),
        (
            "{\"prompt\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 2}",
            "answer",
        ),
        (
            "{\"prompt\": \"\", \"choices\": [\"b\", \"c\"], \"answer\": 1}",
            "prompt has no tokens",
        ),
        (
            "{\"prompt\": \"a\", \"choices\": [\"\", \"c\"], \"answer\": 1}",
            "choices[0]: the choice is empty",
        ),
        (&too_long, "choices[1]: too long"),
        (&no_room, "nothing to learn in the first 64 tokens"),
    ] {
        let data = write(&folder, "data.jsonl", format!("{good}\n\n{bad}\n{good}\n"));
        let args = ["-m", &m, "--data", &data, "--seq", "64", "--json"];
        eval(&args).failed(1, &["data.jsonl", "line 3", word]);
        let got = eval(&[&args[..], &["--skip-bad"]].concat()).json();
        assert_eq!(
            (&got["rows"]["text"], &got["skipped"]),
            (&json!(2), &json!(1)),
            "{word}"
        );
        let only = write(&folder, "only.jsonl", bad);
        let got = eval(&["-m", &m, "--data", &only, "--seq", "64", "--skip-bad"]);
        got.failed(1, &["only.jsonl", "there is nothing to", "1 bad"]);
    }
    let cut = write(&folder, "cut.jsonl", json!({"text": long}).to_string());
    let got = eval(&["-m", &m, "--data", &cut, "--seq", "64"]);
    assert!(
        got.code == 0 && got.err.contains("1 rows cut (64 tokens at most)"),
        "{}",
        got.err
    );
    let text = write(&folder, "text.jsonl", format!("{good}\n"));
    for (args, code, word) in [
        (&["--data", "nowhere.jsonl"][..], 1, "nowhere.jsonl"),
        (&["--data", &super::tools::text(folder.path())], 1, "a folder"),
        (&["--data", &text, "--seq", "1"], 2, "seq"),
        (&["--data", &text, "--seq", "257"], 2, "256"),
        (&["--data", &text, "--limit", "0"], 2, "limit"),
        (&[], 2, "--data"),
        (&["--data", &text, "-a", "nowhere"], 1, "nowhere"),
    ] {
        eval(&[&["-m", &m], args].concat()).failed(code, &[word]);
    }
    let chat = write(
        &folder,
        "chat.jsonl",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n",
    );
    let gemma = tiny_file("gemma3/model.gguf");
    eval(&["-m", &gemma, "--data", &chat, "--skip-bad"]).failed(1, &["no chat template"]);
}

#[cfg(target_os = "linux")] // where it can be seen which files a program has open
#[test]
fn ctrl_c_ends_with_130() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let row = json!({"text": "the quick brown fox ".repeat(10)});
    let data = write(&folder, "data.jsonl", format!("{row}\n").repeat(100_000));
    let mut child = command(&["eval", "-m", &tiny(), "--data", &data])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let open = format!("/proc/{}/fd", child.id());
    let has_it_open = || {
        let fds = std::fs::read_dir(&open).into_iter().flatten().flatten();
        fds.filter_map(|fd| std::fs::read_link(fd.path()).ok())
            .any(|file| file == std::path::Path::new(&data))
    };
    while !has_it_open() {
        assert!(child.try_wait().expect("a status").is_none(), "it ended before it read");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    interrupt(&child);
    let ran = ran(child.wait_with_output().expect("it ends"));
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (130, "", ""));
}

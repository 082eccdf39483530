//! `graft batch`.

use serde_json::{Value, json};

use super::tools::*;

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}")))
        .collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn lines_are_answered_in_order_each_in_its_way() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let qv = adapter("qv");
    let input = [
        json!({"id": "a", "prompt": "Hello", "max_tokens": 5}).to_string(),
        json!({"id": "b", "prompt": "Hello", "max_tokens": 5, "adapter": "mine"}).to_string(),
        json!({"id": "c", "prompt": "Hello", "max_tokens": 5, "adapter": qv}).to_string(),
        json!({"prompt": "Hello", "max_tokens": 5, "adapter": null}).to_string(),
        String::new(),
        json!({"id": 7, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}).to_string(),
        json!({"id": 8, "tokens": [72, 73], "max_tokens": 4, "temperature": 1.5, "seed": 3}).to_string(),
        "{\"id\": 9, \"prompt\": ".to_string(),
        "[1]".to_string(),
        json!({"id": 10, "prompt": "x", "max_token": 5}).to_string(),
        json!({"id": 11, "prompt": "x", "adapter": "/nowhere"}).to_string(),
        json!({"id": 12, "prompt": "x", "top_p": 7}).to_string(),
        json!({"id": 13}).to_string(),
        json!({"id": 14, "prompt": "x", "tokens": [1]}).to_string(),
        json!({"id": 15, "tokens": [9999]}).to_string(),
        json!({"id": 16, "prompt": "long ".repeat(300)}).to_string(),
        json!({"id": 17, "prompt": "Hello", "max_tokens": 5, "adapter": ["mine@0.5", "mine@0.5"]}).to_string(),
    ]
    .join("\n");
    let (input, output) = (write(&folder, "in.jsonl", input), in_folder(&folder, "out.jsonl"));
    let got = graft(&[
        "batch",
        "-m",
        &tiny(),
        "-a",
        &format!("mine={qv}"),
        &input,
        "-o",
        &output,
        "--exact",
    ]);
    assert_eq!((got.code, got.out.as_str()), (0, ""), "{}", got.err);
    assert!(got.err.contains("9 of 16 lines"), "{}", got.err);
    let out = lines(&read(&output));
    let ids: Vec<_> = out.iter().map(|l| l["id"].clone()).collect();
    // A line without an id, or without a readable one, goes by its number.
    let expected = json!(["a", "b", "c", 4, 7, 8, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]);
    assert_eq!(Value::from(ids), expected);

    let model = tiny();
    let text = |more: &[&str]| {
        let args = [
            &["run", "-m", &model, "-p", "Hello", "-n", "5", "--json", "--exact"],
            more,
        ]
        .concat();
        graft(&args).json()["text"].clone()
    };
    let (base, adapted) = (text(&[]), text(&["-a", &qv]));
    assert_ne!(base, adapted);
    assert_eq!([&out[0]["text"], &out[3]["text"]], [&base, &base]);
    assert_eq!(
        [&out[1]["text"], &out[2]["text"], &out[15]["text"]],
        [&adapted, &adapted, &adapted]
    );
    assert_eq!(out[0]["finish_reason"], "length");
    assert_eq!(out[0]["tokens"].as_array().map(Vec::len), Some(5));
    for (i, word) in [
        (6, "JSON"),
        (7, "JSON"),
        (8, "max_token"),
        (9, "/nowhere"),
        (10, "top_p"),
        (11, "exactly one"),
        (12, "exactly one"),
        (13, "9999"),
        (14, "context"),
    ] {
        let error = out[i]["error"]
            .as_str()
            .unwrap_or_else(|| panic!("no error in {}", out[i]));
        assert!(error.contains(word), "{word}: {error}");
        assert_eq!(out[i].as_object().map(|o| o.len()), Some(2));
    }
}

#[test]
fn an_adapter_without_a_name_is_for_lines_that_name_none() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let qv = adapter("qv");
    let input = write(
        &folder,
        "in.jsonl",
        "{\"prompt\": \"Hello\"}\n{\"prompt\": \"Hello\", \"adapter\": null}\n",
    );
    let got = graft(&["batch", "-m", &tiny(), "-a", &qv, &input, "-o", "-", "-n", "5"]);
    let out = lines(got.text());
    let run =
        |more: &[&str]| graft(&[&["run", "-m", &tiny(), "-p", "Hello", "-n", "5", "--json"], more].concat()).json();
    assert_eq!(
        [&out[0]["text"], &out[1]["text"]],
        [&run(&["-a", &qv])["text"], &run(&[])["text"]]
    );
}

/// Oracle: the output of a run that was never stopped.
#[test]
fn it_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let input: String = (0..6)
        .map(|i| format!("{{\"id\": {i}, \"prompt\": \"Line {i}\"}}\n"))
        .collect();
    let (input, output) = (write(&folder, "in.jsonl", input), in_folder(&folder, "out.jsonl"));
    let run = || graft(&["batch", "-m", &tiny(), &input, "-o", &output, "-n", "5", "--temp", "1"]);
    run().text();
    let whole = read(&output);
    assert_eq!(lines(&whole).len(), 6);
    for cut in [0, 1, whole.len() / 3, whole.len() / 2, whole.len() - 1, whole.len()] {
        std::fs::write(&output, &whole.as_bytes()[..cut]).expect("written");
        let got = run();
        assert_eq!((got.code, got.out.as_str()), (0, ""), "{}", got.err);
        assert_eq!(read(&output), whole, "cut at {cut}");
    }
    // Nothing is done twice: a complete output is left as it is, whatever made it.
    let marked = whole.replace("\"finish_reason\"", "\"was_there\"");
    std::fs::write(&output, &marked).expect("written");
    run();
    assert_eq!(read(&output), marked);

    for (wrong, words) in [
        (format!("{{\"id\": 77, \"text\": \"\"}}\n{whole}"), "another input"),
        (format!("{whole}{{\"id\": 6, \"text\": \"\"}}\n"), "more lines"),
        ("a diary\n".to_string(), "no output of graft batch"),
    ] {
        std::fs::write(&output, &wrong).expect("written");
        run().failed(1, &["out.jsonl", words]);
        assert_eq!(read(&output), wrong, "what is not ours is left alone");
    }
    graft(&["batch", "-m", &tiny(), &input, "-o", &input]).failed(2, &["same file"]);
}

#[test]
fn a_line_without_end_is_not_kept_in_memory() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut input = vec![b'x'; 40 << 20];
    input.extend_from_slice(b"\n{\"id\": 1, \"prompt\": \"Hello\"}\n");
    let input = write(&folder, "in.jsonl", input);
    let got = graft(&["batch", "-m", &tiny(), &input, "-o", "-", "-n", "2"]);
    let out = lines(&got.out);
    assert!(out[0]["error"].as_str().expect("an error").contains("too long"));
    assert!(out[1]["text"].is_string());
}

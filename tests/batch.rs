//! Batches. Oracles: a session that generates the same by hand, a batch that answers the line alone, a run that was never stopped.

mod common;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::*;
use graft::pool::Executor;
use graft::runtime::{Batch, BatchFiles, BatchOptions, BatchReport, Cancel, GenerateOptions};
use graft::runtime::{Sampler, SamplerOptions, generate};
use graft::{Adapter, ErrorKind, LoadOptions, Model, SessionOptions};
use serde_json::{Value, json};

fn folder(model: &str) -> PathBuf {
    data().join("tiny").join(model)
}

fn open(model: &str) -> Model {
    Model::open(folder(model).join("model.gguf")).unwrap_or_else(|e| panic!("{e}"))
}

fn qv(model: &Model) -> Adapter {
    model.load_adapter(folder("llama-tied").join("adapters/qv")).unwrap()
}

/// Twelve tokens a line unless it says otherwise.
fn options() -> BatchOptions {
    BatchOptions {
        generate: GenerateOptions {
            max_tokens: Some(12),
            ..Default::default()
        },
        ..Default::default()
    }
}

fn answer(batch: &mut Batch, line: &Value, number: u64) -> Value {
    let record = batch
        .answer(line.to_string(), number)
        .unwrap_or_else(|e| panic!("{line}: {e}"));
    assert!(!record.contains('\n'), "{record}");
    serde_json::from_str(&record).unwrap_or_else(|e| panic!("{e}: {record}"))
}

/// What is wrong with a line, which the record says and nothing else.
fn fault(batch: &mut Batch, line: &Value) -> String {
    let record = answer(batch, line, 7);
    assert_eq!(record.as_object().map(|o| o.len()), Some(2), "{record}");
    assert_eq!(record["id"], line.get("id").cloned().unwrap_or(json!(7)));
    record["error"]
        .as_str()
        .unwrap_or_else(|| panic!("{record}"))
        .to_owned()
}

#[test]
fn a_line_is_answered_as_a_session_would() {
    let model = open("llama-tied");
    let sampling = SamplerOptions {
        temperature: 1.0,
        top_p: 0.9,
        seed: 40,
        ..Default::default()
    };
    let mut batch = Batch::new(
        &model,
        BatchOptions {
            sampling: sampling.clone(),
            ..options()
        },
    )
    .unwrap();
    batch.add_adapter("mine", qv(&model), 0.5).unwrap();

    let by_hand = |prompt: &[u32], adapters: &[(Adapter, f32)], sampling: SamplerOptions, max: usize| {
        let mut session = model.session(&SessionOptions::default()).unwrap();
        session.set_adapters(adapters).unwrap();
        let mut sampler = Sampler::new(sampling, session.vocab_size()).unwrap();
        let options = GenerateOptions {
            max_tokens: Some(max),
            ..Default::default()
        };
        let go_on = &mut |_: &str, _| ControlFlow::Continue(());
        let made = generate(
            &mut session,
            model.tokenizer().unwrap(),
            prompt,
            &mut sampler,
            &options,
            go_on,
        );
        let made = made.unwrap();
        json!({"text": made.text, "tokens": made.tokens, "finish_reason": made.finish.name(), "prompt_tokens": prompt.len()})
    };
    let with_id = |mut record: Value, id: Value| {
        record["id"] = id;
        record
    };
    let prompt = model.tokenizer().unwrap().encode("Hello", Default::default()).unwrap();
    let seeded = |seed| SamplerOptions {
        seed,
        ..sampling.clone()
    };

    // The line's number is its id, and is added to the seed.
    let record = answer(&mut batch, &json!({"prompt": "Hello"}), 2);
    assert_eq!(record, with_id(by_hand(&prompt, &[], seeded(42), 12), json!(2)));
    let line = json!({"id": {"any": ["thing"]}, "prompt": "Hello", "adapter": "mine", "seed": 9, "max_tokens": 5});
    let expected = by_hand(&prompt, &[(qv(&model), 0.5)], seeded(9), 5);
    assert_eq!(answer(&mut batch, &line, 3), with_id(expected, line["id"].clone()));
    let line = json!({"id": "w", "tokens": [5, 6, 7], "adapter": ["mine@0.25", "mine"], "temperature": 0});
    let greedy = SamplerOptions {
        temperature: 0.0,
        ..seeded(44)
    };
    let expected = by_hand(&[5, 6, 7], &[(qv(&model), 0.25), (qv(&model), 0.5)], greedy, 12);
    assert_eq!(answer(&mut batch, &line, 4), with_id(expected, json!("w")));

    // Default adapters are for lines that name none; a name's second adapter takes the place of the first.
    batch.add_default_adapter(qv(&model), 1.0).unwrap();
    let record = answer(&mut batch, &json!({"prompt": "Hello"}), 5);
    let expected = by_hand(&prompt, &[(qv(&model), 1.0)], seeded(45), 12);
    assert_eq!(record, with_id(expected, json!(5)));
    let record = answer(&mut batch, &json!({"prompt": "Hello", "adapter": null}), 6);
    assert_eq!(record, with_id(by_hand(&prompt, &[], seeded(46), 12), json!(6)));
    batch.add_adapter("mine", qv(&model), 2.0).unwrap();
    let record = answer(&mut batch, &json!({"prompt": "Hello", "adapter": "mine"}), 7);
    let expected = by_hand(&prompt, &[(qv(&model), 2.0)], seeded(47), 12);
    assert_eq!(record, with_id(expected, json!(7)));
}

/// Lines that share a beginning, need more room than those before, and have adapters that stand before the text.
#[test]
fn an_answer_does_not_depend_on_the_lines_before() {
    for name in ["llama-tied", "gemma3"] {
        let model = open(name);
        let methods = data().join("methods").join(name);
        let batch = || {
            let mut batch = Batch::new(&model, options()).unwrap();
            for adapter in ["lora", "prefix-tuning-long", "lora-alora-repeat"] {
                let path = methods.join(adapter);
                if path.exists() {
                    batch
                        .add_adapter(adapter, model.load_adapter(path).unwrap(), 1.0)
                        .unwrap();
                }
            }
            batch
        };
        let ids: Vec<u32> = (0..200).map(|i| 5 + (i * 37 + i * i) % 250).collect();
        let lines = [
            json!({"tokens": ids[..20], "seed": 1, "temperature": 1.5}),
            json!({"tokens": ids[..19], "adapter": "lora"}),
            json!({"tokens": ids[..21]}),
            json!({"tokens": ids[..21], "adapter": "prefix-tuning-long", "max_tokens": 40, "ignore_eos": true}),
            json!({"tokens": ids, "max_tokens": 50, "ignore_eos": true}),
            json!({"tokens": ids[..22], "adapter": "lora-alora-repeat"}),
            json!({"tokens": [9999]}),
            json!({"tokens": ids[..22], "seed": 2, "temperature": 1.5}),
        ];
        let alone: Vec<_> = lines.iter().map(|line| answer(&mut batch(), line, 1)).collect();
        assert!(alone.iter().filter(|r| r["text"].is_string()).count() >= 6, "{alone:?}");
        let mut one = batch();
        let order = (0..lines.len()).chain((0..lines.len()).rev());
        for i in order {
            assert_eq!(answer(&mut one, &lines[i], 1), alone[i], "{name}: {}", lines[i]);
        }
    }
}

/// A line of a stranger's names no file, and cannot find out which there are.
#[test]
fn lines_name_folders_only_where_they_may() {
    let model = open("llama-tied");
    let there = folder("llama-tied").join("adapters/qv");
    let there = there.to_str().unwrap();
    let line = |adapter: &str| json!({"prompt": "Hello", "adapter": adapter});
    let mut closed = Batch::new(&model, options()).unwrap();
    closed.add_adapter("mine", qv(&model), 1.0).unwrap();
    let expected = answer(&mut closed, &line("mine"), 1);
    assert!(expected["text"].is_string());
    assert_eq!(answer(&mut closed, &line("mine@1"), 1), expected);
    for name in [
        there,
        "/nowhere",
        "mine@",
        "other",
        "mine@0.5@1",
        &format!("n={there}@0.5"),
    ] {
        let error = fault(&mut closed, &line(name));
        assert!(
            error.contains("adapter: no such adapter") && error.contains(name),
            "{error}"
        );
    }
    for name in ["mine@nan", "mine@1e99", "=mine", "@1"] {
        assert!(
            fault(&mut closed, &line(name)).contains("[NAME=]DIR[@WEIGHT]"),
            "{name}"
        );
    }

    let mut open = Batch::new(
        &model,
        BatchOptions {
            folders: true,
            ..options()
        },
    )
    .unwrap();
    assert_eq!(answer(&mut open, &line(there), 1), expected);
    assert_eq!(answer(&mut open, &line(&format!("{there}@1")), 1), expected);
    assert_ne!(answer(&mut open, &line(&format!("{there}@9")), 1), expected);
    assert!(fault(&mut open, &line("/nowhere")).contains("/nowhere"));
}

#[test]
fn what_is_wrong_with_a_line_is_its_record() {
    let model = open("llama-tied");
    let mut batch = Batch::new(&model, options()).unwrap();
    batch.add_adapter("mine", qv(&model), 1.0).unwrap();
    for (line, words) in [
        (json!({"id": "a", "prompt": "x", "max_token": 5}), "max_token"),
        (json!({"prompt": "x", "tokens": [1]}), "exactly one"),
        (json!({}), "exactly one"),
        (json!({"tokens": [9999]}), "9999"),
        (json!({"tokens": []}), "prompt is empty"),
        (json!({"prompt": "x", "top_p": 7}), "top_p"),
        (json!({"prompt": "x", "temperature": 1e39}), "temperature"),
        (json!({"prompt": "x", "logit_bias": {"9999": 1}}), "9999"),
        (json!({"prompt": "x", "stop": ["a", ""]}), "stop string"),
        (json!({"prompt": "x", "max_tokens": -1}), "-1"),
        (json!({"prompt": "long ".repeat(300)}), "context"),
        (
            json!({"prompt": "x", "adapter": vec!["mine"; 257]}),
            "at most 256, found 257",
        ),
    ] {
        let error = fault(&mut batch, &line);
        assert!(error.contains(words), "{words}: {error}");
    }
    // What is no object has no id.
    for (line, words) in [
        (&b"[1]"[..], "line 3: not a JSON object"),
        (b"", "not a JSON object"),
        (b"{\"id\": 1", "not a JSON object"),
        (b"{\"id\": \"\xff\"}", "not a JSON object"),
        (&vec![b'['; 16 << 20], "not a JSON object"),
        (&vec![b' '; (16 << 20) + 1], "line 3: the line is too long"),
    ] {
        let record: Value = serde_json::from_str(&batch.answer(line, 3).unwrap()).unwrap();
        assert_eq!(record["id"], 3);
        assert!(record["error"].as_str().unwrap().contains(words), "{record}");
    }
    // And the batch goes on.
    assert!(answer(&mut batch, &json!({"prompt": "x"}), 1)["text"].is_string());
}

#[test]
fn options_that_no_line_could_have_are_refused() {
    let model = open("llama-tied");
    let refused = |change: fn(&mut BatchOptions), words: &str| {
        let mut options = options();
        change(&mut options);
        let Err(e) = Batch::new(&model, options) else {
            panic!("{words} is accepted");
        };
        assert!(e.kind() == ErrorKind::Usage && e.to_string().contains(words), "{e}");
    };
    refused(|o| o.session.context = Some(0), "context");
    refused(|o| o.session.context = Some(257), "256");
    refused(|o| o.sampling.temperature = f32::NAN, "temperature");
    refused(|o| o.generate.stop = vec![String::new()], "stop string");

    let mut batch = Batch::new(&model, options()).unwrap();
    let refused = |done: graft::Result<()>, kind, words: &str| {
        let e = done.unwrap_err();
        assert!(e.kind() == kind && e.to_string().contains(words), "{e}");
    };
    refused(batch.add_adapter("", qv(&model), 1.0), ErrorKind::Usage, "name");
    refused(
        batch.add_adapter("a", qv(&model), f32::INFINITY),
        ErrorKind::Usage,
        "weight",
    );
    let other = qv(&open("llama-tied"));
    refused(
        batch.add_adapter("a", other.clone(), 1.0),
        ErrorKind::Mismatch,
        "another model",
    );
    refused(
        batch.add_default_adapter(other, 1.0),
        ErrorKind::Mismatch,
        "another model",
    );
    assert!(fault(&mut batch, &json!({"prompt": "x", "adapter": "a"})).contains("no such adapter"));
}

/// Six lines, two of which cannot be answered.
fn input(dir: &Path) -> PathBuf {
    let mut lines: Vec<String> = (0..6)
        .map(|i| json!({"id": i, "prompt": format!("Line {i}"), "temperature": 1}).to_string())
        .collect();
    lines[2] = json!({"id": 2}).to_string();
    lines[4] = "no JSON".into();
    let path = dir.join("in.jsonl");
    std::fs::write(&path, lines.join("\n\n")).unwrap();
    path
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn a_file_is_gone_on_with_where_it_was_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (input(dir.path()), dir.path().join("out.jsonl"));
    let model = open("llama-tied");
    let mut batch = Batch::new(&model, options()).unwrap();
    let mut shares = vec![];
    let report = batch.run(&from, &to, &mut |share| {
        shares.push(share);
        true
    });
    let done = |before, answered, failed| BatchReport {
        before,
        answered,
        failed,
    };
    assert_eq!(report.unwrap(), done(0, 6, 2));
    assert!(
        shares.len() == 6 && shares.is_sorted() && shares[0] > 0.0 && shares[5] == 1.0,
        "{shares:?}"
    );
    let whole = read(&to);
    let ids: Vec<Value> = whole
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap()["id"].clone())
        .collect();
    // A line without a readable id goes by its number; blank lines count.
    assert_eq!(Value::from(ids), json!([0, 1, 2, 3, 9, 5]));
    assert_eq!(batch.run(&from, &to, &mut |_| true).unwrap(), done(6, 0, 0));
    assert_eq!(read(&to), whole);

    // Stopped by what is told the progress, between two lines.
    for lines in 1..6 {
        std::fs::remove_file(&to).unwrap();
        let mut told = 0;
        let e = batch.run(&from, &to, &mut |_| {
            told += 1;
            told < lines
        });
        let e = e.unwrap_err();
        assert_eq!((e.kind(), e.path()), (ErrorKind::Cancelled, Some(&*from)));
        assert_eq!(e.item_name(), Some(&*format!("line {}", 2 * lines - 1)));
        assert_eq!(read(&to).lines().count(), lines);
        let mut files = BatchFiles::open(Some(&from), Some(&to)).unwrap();
        assert_eq!((files.before(), files.line()), (lines as u64, 2 * lines as u64 - 1));
        let report = batch.run_files(&mut files, &mut |_| true).unwrap();
        assert_eq!((report.before, report.answered), (lines as u64, 6 - lines as u64));
        assert_eq!(read(&to), whole);
    }
}

/// One thread that sets a flag when it was given work so many times.
struct Counting {
    runs: Arc<AtomicUsize>,
    limit: usize,
    flag: Cancel,
}

// SAFETY: every chunk is run once, before `run` returns.
unsafe impl Executor for Counting {
    fn threads(&self) -> usize {
        1
    }

    fn run(&self, chunks: usize, work: &(dyn Fn(usize) + Sync)) {
        if self.runs.fetch_add(1, Ordering::SeqCst) + 1 == self.limit {
            self.flag.set();
        }
        (0..chunks).for_each(work);
    }
}

#[test]
fn a_flag_stops_within_a_line_and_nothing_of_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (input(dir.path()), dir.path().join("out.jsonl"));
    let whole = {
        let model = open("llama-tied");
        let mut batch = Batch::new(&model, options()).unwrap();
        batch.run(&from, &to, &mut |_| true).unwrap();
        read(&to)
    };
    // So many pieces of work a run takes, and the same run stopped in the middle of them.
    let run = |limit: usize| {
        let _ = std::fs::remove_file(&to);
        let (runs, flag) = (Arc::new(AtomicUsize::new(0)), Cancel::new());
        let executor = Counting {
            runs: runs.clone(),
            limit,
            flag: flag.clone(),
        };
        let load = LoadOptions {
            executor: Some(Arc::new(executor)),
            ..Default::default()
        };
        let model = Model::open_with(folder("llama-tied").join("model.gguf"), &load).unwrap();
        let mut options = options();
        options.generate.cancel = vec![flag.clone()];
        let mut batch = Batch::new(&model, options).unwrap();
        let mut after = vec![];
        let done = batch.run(&from, &to, &mut |_| {
            after.push(runs.load(Ordering::SeqCst));
            true
        });
        (done, after, batch, flag)
    };
    let (done, after, ..) = run(usize::MAX);
    assert_eq!(done.unwrap().answered, 6);
    assert_eq!(read(&to), whole);
    // In the middle of the second line that can be answered, and of the third.
    for (number, lines, limit) in [(3, 1, (after[0] + after[1]) / 2), (7, 3, (after[2] + after[3]) / 2)] {
        assert!(limit > after[lines - 1] && limit < after[lines]);
        let (done, _, mut batch, flag) = run(limit);
        let e = done.unwrap_err();
        assert_eq!(
            (e.kind(), e.item_name()),
            (ErrorKind::Cancelled, Some(&*format!("line {number}")))
        );
        let head: String = whole.split_inclusive('\n').take(lines).collect();
        assert_eq!(read(&to), head);
        // While it is set, nothing is answered, not even by what is wrong with a line.
        let e = batch.answer("[1]", 1).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Cancelled);
        assert_eq!(
            batch.run(&from, &to, &mut |_| true).unwrap_err().kind(),
            ErrorKind::Cancelled
        );
        assert_eq!(read(&to), head);
        flag.clear();
        batch.run(&from, &to, &mut |_| true).unwrap();
        assert_eq!(read(&to), whole);
    }
}

#[test]
fn files_that_do_not_belong_together_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (input(dir.path()), dir.path().join("out.jsonl"));
    let refused = |kind, words: &str| {
        let Err(e) = BatchFiles::open(Some(&from), Some(&to)) else {
            panic!("{words}: accepted");
        };
        assert!(e.kind() == kind && e.to_string().contains(words), "{e}");
    };
    for (there, words) in [
        ("{\"id\": 77}\n", "another input"),
        ("{\"id\": 0}\n{}\n", "another input"),
        ("a diary\n", "no output of graft batch"),
        (
            "{\"id\":0}\n{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n{\"id\":9}\n{\"id\":5}\n{\"id\":6}\n",
            "more lines",
        ),
    ] {
        std::fs::write(&to, there).unwrap();
        refused(ErrorKind::Mismatch, words);
        assert_eq!(read(&to), there);
    }
    // A file without line breaks is not read into memory as a whole, however long it is. (It is one hole.)
    std::fs::File::create(&to).unwrap().set_len(300 << 20).unwrap();
    refused(ErrorKind::Mismatch, "no output of graft batch");
    assert_eq!(to.metadata().unwrap().len(), 300 << 20);
    std::fs::remove_file(&to).unwrap();

    std::fs::create_dir(&to).unwrap();
    refused(ErrorKind::Io, "out.jsonl");
    for (input, output, kind) in [
        (&from, &from, ErrorKind::Usage),
        (&to, &dir.path().join("new"), ErrorKind::Invalid),
        (&dir.path().join("none"), &dir.path().join("new"), ErrorKind::Io),
    ] {
        assert!(BatchFiles::open(Some(input), Some(output)).is_err_and(|e| e.kind() == kind));
    }
    assert!(!dir.path().join("new").exists());
}

//! Files as they are met: good ones, bad ones, ones that change, and going on from any place.

mod batches;

use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

use serde_json::json;

use super::*;
use crate::error::ErrorKind;
use crate::tokenizer::{ChatTemplate, Message};
use crate::train::Example;

fn tiny(name: &str) -> Model {
    let path = format!("{}/tests/data/tiny/{name}/model.gguf", env!("CARGO_MANIFEST_DIR"));
    Model::open(path).unwrap()
}

/// Byte-level BPE, no begin token, a template of `<|im_start|>`s; 256 tokens of context.
static LLAMA: LazyLock<Model> = LazyLock::new(|| tiny("llama-tied"));
/// SentencePiece, a begin token, no template.
static GEMMA: LazyLock<Model> = LazyLock::new(|| tiny("gemma3"));

struct File {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn file(name: &str, bytes: impl AsRef<[u8]>) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    File { _folder: folder, path }
}

fn in_order(seq: usize) -> DataOptions {
    DataOptions {
        seq,
        shuffle: false,
        ..Default::default()
    }
}

/// An index of at most `most` places, so that small files are like large ones.
fn with_places(file: &File, model: &Model, options: &DataOptions, most: usize) -> Data {
    Data::look_through(&file.path, model, options, Index::with(most), &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap()
}

fn refused(file: &File, model: &Model, options: &DataOptions) -> Error {
    let made = Data::open(&file.path, model, options);
    let made = made.and_then(|data| data.batches(&BatchOptions::default())?.next());
    let e = made.expect_err("bad data are refused");
    assert_eq!(e.path(), Some(file.path.as_path()), "{e}");
    e
}

fn epoch(batches: &mut Batches) -> Vec<Vec<Example>> {
    std::iter::from_fn(|| batches.next().unwrap()).collect()
}

fn decode(example: &Example) -> (String, String) {
    let learnt = example.tokens().iter().zip(example.learn());
    let learnt: Vec<u32> = learnt.filter(|(_, l)| **l).map(|(id, _)| *id).collect();
    let decode = |ids: &[u32]| LLAMA.tokenizer().unwrap().decode(ids, false).unwrap();
    (decode(example.tokens()), decode(&learnt))
}

#[test]
fn each_form_is_learnt_as_it_says() {
    let lines = [
        json!({"text": "the fox"}),
        json!({"prompt": "the fox", "completion": " sees"}),
        json!({"messages": [
            {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "the dog"},
            {"role": "user", "content": "Bye"}, {"role": "assistant", "content": "the fox"},
            {"role": "user", "content": "Well?"},
        ]}),
        json!({"prompt": "", "completion": "the<|im_end|>"}),
    ];
    let file = file("data.jsonl", lines.map(|l| l.to_string()).join("\n"));
    let data = Data::open(&file.path, &LLAMA, &in_order(256)).unwrap();
    assert_eq!((data.len(), data.bad()), (4, 0));
    let all = epoch(
        &mut data
            .batches(&BatchOptions {
                batch: 9,
                ..Default::default()
            })
            .unwrap(),
    );
    assert_eq!(all.len(), 1);
    let found: Vec<_> = all[0].iter().map(decode).collect();
    let turn = |role: &str, says: &str| format!("<|im_start|>{role}\n{says}<|im_end|>\n");
    // Nothing stands before the first token of a text, so it is not learnt; the last is the end of the text, or of the last answer.
    let conversation = turn("user", "Hi") + &turn("assistant", "the dog") + &turn("user", "Bye");
    let expected = [
        ("the fox<|im_end|>".to_string(), " fox<|im_end|>"),
        ("the fox sees<|im_end|>".to_string(), " sees<|im_end|>"),
        (
            conversation + "<|im_start|>assistant\nthe fox<|im_end|>",
            "the dog<|im_end|>the fox<|im_end|>",
        ),
        ("the<|im_end|>".to_string(), "<|im_end|>"),
    ];
    assert_eq!(found, expected.map(|(all, learnt)| (all, learnt.to_string())));

    let messages = [Message::new("user", "Hi"), Message::new("assistant", "the dog")];
    for (made, (_, learnt)) in [
        (row::text(&LLAMA, "the fox"), &found[0]),
        (row::completion(&LLAMA, "the fox", " sees"), &found[1]),
        (
            row::messages(&LLAMA, &messages, None),
            &("".to_string(), "the dog<|im_end|>".to_string()),
        ),
    ] {
        assert_eq!(decode(&made.unwrap()).1, *learnt);
    }
}

#[test]
fn a_begin_token_stands_before_what_a_model_reads() {
    let tokenizer = GEMMA.tokenizer().unwrap();
    let bos = tokenizer.bos().unwrap();
    for example in [row::text(&GEMMA, "the sea"), row::completion(&GEMMA, "the", " sea")] {
        let example = example.unwrap();
        assert_eq!(example.tokens()[0], bos);
        assert_eq!(example.tokens().iter().filter(|id| **id == bos).count(), 1);
        assert!(tokenizer.is_end_of_generation(*example.tokens().last().unwrap()));
    }
    // Behind the begin token the first token can be learnt, and nothing but the end is where nothing is said.
    let all = row::completion(&GEMMA, "", "the").unwrap();
    assert_eq!(all.targets(), all.tokens().len() - 1);
    assert_eq!(row::completion(&GEMMA, "the", "").unwrap().targets(), 1);
    let e = row::messages(&GEMMA, &[Message::new("assistant", "Hi")], None).unwrap_err();
    assert_eq!(
        (e.kind(), e.item_name()),
        (ErrorKind::Unsupported, Some("tokenizer.chat_template"))
    );
}

fn spans(template: &str, messages: &[Message]) -> Result<String> {
    let tokenizer = LLAMA.tokenizer()?;
    let template = ChatTemplate::for_tokenizer(template, tokenizer)?;
    let (tokens, learn) = chat::parts(&template, tokenizer, messages, None, 1000)?;
    Ok(decode(&Example::new(tokens, learn)?.cut(1000)?.0).1)
}

/// What templates in use do, in few words each.
#[test]
fn a_template_that_hides_what_the_assistant_says_is_an_error() {
    const TURN: &str = "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}";
    const OPEN: &str = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    let template = |turn: &str, open: &str| format!("{{% for m in messages %}}{turn}{{% endfor %}}{open}");
    let says = |role: &str, text: &str| Message::new(role, text);
    let long = [
        says("user", "One"),
        says("assistant", "<t>so</t>Two"),
        says("user", "Three"),
        says("assistant", "<t>and</t>Four"),
    ];
    let (one, more) = (&long[..2], &long[..]);
    let both = "<t>so</t>Two<|im_end|><t>and</t>Four<|im_end|>";
    assert_eq!(spans(&template(TURN, OPEN), more).unwrap(), both);

    // Qwen3 leaves the thoughts of earlier turns out.
    let thoughts = TURN.replace("m.content", "(m.content if loop.last else m.content.split('</t>')[-1])");
    let both = "Two<|im_end|><t>and</t>Four<|im_end|>";
    assert_eq!(spans(&template(&thoughts, OPEN), more).unwrap(), both);

    let refused = |template: &str, messages: &[Message], words: &str| {
        let e = spans(template, messages).expect_err(words);
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
        assert!(e.to_string().contains(words), "{e}");
    };
    // Mistral puts the system's words into the last turn of the user.
    let system = TURN.replace(
        "+ m.content",
        "+ ('Be brief. ' if loop.revindex <= 2 and m.role == 'user' else '') + m.content",
    );
    assert_eq!(spans(&template(&system, OPEN), one).unwrap(), "<t>so</t>Two<|im_end|>");
    refused(
        &template(&system, OPEN),
        more,
        "not what the whole conversation begins with",
    );
    // DeepSeek-R1 opens a thought where an answer begins.
    let opens = OPEN.replace("assistant\n", "assistant\n<think>\n");
    refused(
        &template(TURN, &opens),
        one,
        "not what the whole conversation begins with",
    );
    // A base model's: nothing ends a turn; or only the last one, or all but that.
    let plain = "{{ m.role + ': ' + m.content + '\n' }}";
    let open = "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}";
    refused(&template(plain, open), more, "no end-of-generation token");
    let endless = TURN.replace("<|im_end|>", "");
    let either = |last: &str, other: &str| {
        format!("{{% if loop.last or m.role == 'user' %}}{last}{{% else %}}{other}{{% endif %}}")
    };
    refused(
        &template(&either(TURN, &endless), OPEN),
        more,
        "otherwise once another follows",
    );
    let never_last = either(&endless, TURN).replace("loop.last or m.role == 'user'", "loop.last and m.role != 'user'");
    refused(&template(&never_last, OPEN), more, "no end-of-generation token");
    // Words that change.
    let changes = TURN.replace(
        "m.content",
        "(m.content if loop.last or m.role == 'user' else m.content | upper)",
    );
    refused(&template(&changes, OPEN), more, "otherwise once another follows");
    // What the template itself refuses.
    let strict = format!(
        "{{{{ raise_exception('no') if messages[0].role != 'user' }}}}{}",
        template(TURN, OPEN)
    );
    let e = spans(&strict, &long[1..]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Invalid, "{e}");
    // Turns behind what is learnt are not looked at, and too many are refused: it would take hours otherwise.
    let many = |n| {
        (0..n)
            .map(|i| says(["user", "assistant"][i % 2], "x"))
            .collect::<Vec<_>>()
    };
    let said = spans(&template(TURN, OPEN), &many(2000)).unwrap().matches('x').count();
    assert!((20..100).contains(&said), "{said}");
    assert_eq!(
        spans(&template(TURN, OPEN), &many(4000)).unwrap_err().kind(),
        ErrorKind::Limit
    );
    // What the assistant says first is no answer: it stands there, and is not learnt.
    assert_eq!(
        spans(&template(TURN, OPEN), &long[1..]).unwrap(),
        "<t>and</t>Four<|im_end|>"
    );
    assert_eq!(
        spans(&template(TURN, OPEN), &long[1..2]).unwrap_err().kind(),
        ErrorKind::Invalid
    );
}

#[test]
fn bad_lines_are_named_or_skipped() {
    let good = r#"{"text": "the fox and the dog"}"#;
    let long = format!("{{\"text\": \"{}\"}}", "x".repeat(LONGEST_LINE));
    let long_prompt = json!({"prompt": "the fox ".repeat(40), "completion": "no room"}).to_string();
    let bad: [(&[u8], &str); 12] = [
        (b"{\"text\": ", "not a JSON object"),
        (b"the fox", "not a JSON object"),
        (b"{\"text\": \"a\", \"label\": 1}", "unknown field `label`"),
        (b"{\"prompt\": \"a\"}", "a prompt alone"),
        (b"{\"text\": \"\"}", "empty"),
        (b"{\"text\": \"\xff\"}", "not UTF-8"),
        (b"{\"messages\": []}", "role assistant"),
        (
            b"{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}",
            "role assistant",
        ),
        (
            b"{\"prompt\": \"a\", \"choices\": [\"a\", \"b\"], \"answer\": 0}",
            "choices",
        ),
        (b"\x00\x01\x02", "not a JSON object"),
        (long.as_bytes(), "too long"),
        (long_prompt.as_bytes(), "first 32 tokens"),
    ];
    for (line, words) in bad {
        let file = file(
            "data.jsonl",
            [good.as_bytes(), b"\n\n", line, b"\n", good.as_bytes(), b"\n"].concat(),
        );
        let e = || {
            let data = Data::open(&file.path, &LLAMA, &in_order(32))?;
            let mut batches = data.batches(&BatchOptions {
                batch: 3,
                ..Default::default()
            })?;
            let failed = batches.next();
            assert!(failed.is_err());
            assert_eq!(
                batches.next().unwrap_err().to_string(),
                failed.as_ref().unwrap_err().to_string()
            );
            failed
        };
        let e = e().expect_err(words);
        assert_eq!(
            (e.path(), e.item_name()),
            (Some(file.path.as_path()), Some("line 3")),
            "{e}"
        );
        assert!(e.to_string().contains(words), "{e}");

        let options = DataOptions {
            skip_bad: true,
            ..in_order(32)
        };
        let data = Data::open(&file.path, &LLAMA, &options).unwrap();
        let mut batches = data.batches(&BatchOptions::default()).unwrap();
        for _ in 0..2 {
            let all: Vec<_> = (0..2).map(|_| batches.next().unwrap().unwrap()).collect();
            assert_eq!(all.len(), 2);
            batches.state();
            assert_eq!(batches.next().unwrap(), None);
        }
        // Which kind of bad it is decides when it is found, not whether it is counted.
        let counted = Counts {
            examples: 2,
            cut: 0,
            skipped: 1,
        };
        (0..2).for_each(|_| assert!(batches.next().unwrap().is_some()));
        let before = batches.counts();
        assert_eq!(
            before,
            Counts {
                skipped: before.skipped,
                ..counted
            }
        );
    }
}

#[test]
fn what_was_skipped_and_cut_is_counted() {
    let lines = [
        "{\"text\": \"the\"}",
        "{}",
        "{\"text\": \"",
        "{\"prompt\": \"the fox the fox\", \"completion\": \"no\"}",
    ];
    let long = json!({"text": "the fox ".repeat(99)}).to_string();
    let file = file("data.jsonl", [&lines[..], &[&long]].concat().join("\n"));
    let options = DataOptions {
        skip_bad: true,
        ..in_order(4)
    };
    let data = Data::open(&file.path, &LLAMA, &options).unwrap();
    assert_eq!((data.len(), data.bad()), (3, 2));
    let mut batches = data
        .batches(&BatchOptions {
            batch: 9,
            ..Default::default()
        })
        .unwrap();
    for _ in 0..2 {
        assert_eq!(batches.next().unwrap().map(|b| b.len()), Some(2));
        assert_eq!(
            batches.counts(),
            Counts {
                examples: 2,
                cut: 1,
                skipped: 3
            }
        );
        assert_eq!(batches.next().unwrap(), None);
    }
}

#[test]
fn files_without_anything_to_learn_are_refused() {
    let skip = DataOptions {
        skip_bad: true,
        ..in_order(32)
    };
    for (name, bytes) in [
        ("a.jsonl", ""),
        ("a.jsonl", "\n \r\n\n"),
        ("a.txt", ""),
        ("a.txt", "\u{feff}"),
    ] {
        let e = refused(&file(name, bytes), &LLAMA, &in_order(32));
        assert!(e.to_string().contains("nothing to learn from"), "{e}");
    }
    assert!(
        refused(&file("a.jsonl", "x\ny\n"), &LLAMA, &skip)
            .to_string()
            .contains("2 bad lines")
    );
    assert!(
        refused(&file("a.txt", b"\xff\n\xff"), &LLAMA, &skip)
            .to_string()
            .contains("2 bad lines")
    );
    // Found only when it is read: an epoch of nothing ends all the same.
    let prompts = json!({"prompt": "the fox ".repeat(40), "completion": "no"}).to_string();
    assert!(
        refused(&file("a.jsonl", prompts), &LLAMA, &skip)
            .to_string()
            .contains("1 bad ones")
    );
    // A model without a template: no line is to blame, and none is skipped for it.
    let chat = file(
        "a.jsonl",
        "{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}]}\n{\"text\": \"a\"}",
    );
    let e = Data::open(&chat.path, &GEMMA, &skip).err().unwrap();
    assert_eq!(e.item_name(), Some("tokenizer.chat_template"));
    let some = file("a.jsonl", "{\"text\": \"a\"}");
    for seq in [0, 1, 257, usize::MAX] {
        let e = Data::open(&some.path, &LLAMA, &in_order(seq)).err().unwrap();
        assert_eq!((e.kind(), e.item_name()), (ErrorKind::Usage, Some("seq")));
    }
    let e = Data::open(some.path.parent().unwrap(), &LLAMA, &in_order(9))
        .err()
        .unwrap();
    assert!(e.to_string().contains("a folder"), "{e}");
    let stop = Data::open_with(&some.path, &LLAMA, &in_order(9), &mut |_| ControlFlow::Break(()));
    assert_eq!(stop.err().unwrap().kind(), ErrorKind::Cancelled);
    let data = Data::open(&some.path, &LLAMA, &in_order(9)).unwrap();
    let e = data
        .batches(&BatchOptions {
            batch: 0,
            ..Default::default()
        })
        .err()
        .unwrap();
    assert_eq!(e.kind(), ErrorKind::Usage);
}

#[test]
fn a_file_that_changes_while_it_is_used_is_an_error() {
    let file = file("data.jsonl", "{\"text\": \"the fox\"}\n".repeat(9));
    let data = Data::open(&file.path, &LLAMA, &in_order(32)).unwrap();
    let mut batches = data.batches(&BatchOptions::default()).unwrap();
    batches.next().unwrap();
    let mut more = std::fs::File::options().append(true).open(&file.path).unwrap();
    more.write_all(b"{\"text\": \"the dog\"}\n").unwrap();
    let e = batches.next().unwrap_err();
    assert!(e.to_string().contains("changed while it was in use"), "{e}");
    assert!(data.batches(&BatchOptions::default()).is_err());
    assert!(data.rows().is_err());
}

/// All of the text is there, in order, in parts that have room; parts end where lines do, as long as lines have room themselves.
#[test]
fn a_plain_text_is_cut_into_parts_that_have_room() {
    let line = "the quick brown fox jumps over the lazy dog, and then\n";
    let wide = "🦊".repeat(300) + "\n" + &"x".repeat(5000) + " " + &"the dog ".repeat(400);
    for model in [&*LLAMA, &*GEMMA] {
        for (text, whole_lines) in [
            (line.repeat(100), true),
            (wide.clone(), false),
            ("a".into(), true),
            ("\r\n\n".into(), true),
        ] {
            for seq in [2, 3, 40, 256] {
                let file = file("data.TXT", &text);
                for most in [2, 1 << 20] {
                    let data = with_places(&file, model, &in_order(seq), most);
                    let (mut rows, mut found) = (data.rows().unwrap(), String::new());
                    let mut forms = Vec::new();
                    while let Some((_, row)) = rows.next().unwrap() {
                        let (part, last) = match &row {
                            Row::Part(part) => (part, false),
                            Row::Text(part) => (part, true),
                            _ => panic!(),
                        };
                        found += part;
                        assert!(!whole_lines || seq < 256 || last || part.ends_with('\n'));
                        forms.push(last);
                        if seq >= 40 {
                            let (example, cut) = row.example(model, seq).unwrap();
                            assert!(!cut && example.tokens().len() <= seq);
                        }
                    }
                    assert!(found == text && forms.iter().rposition(|last| !last) < Some(forms.len() - 1));
                    assert_eq!(forms.len() as u64, data.len());
                    assert_eq!(forms.iter().filter(|last| **last).count(), 1);
                }
            }
        }
    }
}

/// What is left of a line that was cut may be one token: nothing follows it, and nothing is wrong with the text.
#[test]
fn a_part_of_one_token_is_passed_over() {
    let file = file("data.txt", "the fox\n".repeat(9));
    let data = Data::open(&file.path, &LLAMA, &in_order(3)).unwrap();
    let (mut rows, mut single) = (data.rows().unwrap(), 0);
    while let Some((line, row)) = rows.next().unwrap() {
        let made = row.example(&LLAMA, 3);
        let short = made.is_err();
        assert_eq!(rows.judge(line, &row, made).unwrap().is_none(), short);
        single += u64::from(short);
    }
    assert!(single > 0 && rows.bad() == 0);
    let mut batches = data.batches(&BatchOptions::default()).unwrap();
    let examples = epoch(&mut batches).len() as u64;
    assert_eq!(examples, data.len() - single);
    // Of the next epoch nothing is read yet.
    assert_eq!(batches.counts(), Counts::default());
}

#[test]
fn bytes_in_a_text_that_are_no_text_are_named_or_skipped() {
    let file = file("data.txt", b"the fox\nthe d\xffog\nthe end\n");
    let e = refused(&file, &LLAMA, &in_order(64));
    assert_eq!(e.item_name(), Some("line 2"), "{e}");
    let options = DataOptions {
        skip_bad: true,
        ..in_order(64)
    };
    for most in [2, 100] {
        let data = with_places(&file, &LLAMA, &options, most);
        assert_eq!((data.len(), data.bad()), (2, 1));
        let mut batches = data
            .batches(&BatchOptions {
                batch: 9,
                ..Default::default()
            })
            .unwrap();
        let all = epoch(&mut batches);
        let texts: Vec<_> = all[0].iter().map(|e| decode(e).0).collect();
        assert_eq!(texts, ["the fox\n", "the end\n<|im_end|>"]);
    }
}

//! Tokenizers of the real models against Hugging Face's `tokenizers`: the golden data are recorded by
//! `tests/reference/tokenizer.py`; `tests/data/tokenizer/README.md` says how its tokenizers are set up.

#[path = "common/corpus.rs"]
mod corpus;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use corpus::{Rng, corpus, fnv};
use graft::format::{Gguf, LoadMode};
use graft::tokenizer::{ChatTemplate, EncodeOptions, Message, Tokenizer};

/// Text as it is: no BOS; special tokens are found, as in Hugging Face's tokenizers.
const PLAIN: EncodeOptions = EncodeOptions {
    add_bos_eos: false,
    parse_special: true,
};

fn model(file: &str) -> Gguf {
    let folder = std::env::var_os("GRAFT_MODELS").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").unwrap_or_default();
        Path::new(&home).join(".cache/graft/models")
    });
    let path = folder.join(file);
    assert!(
        path.is_file(),
        "{} is missing: run ./scripts/fetch-models (or set GRAFT_MODELS)",
        path.display()
    );
    Gguf::open(&path, LoadMode::Map).unwrap()
}

fn smollm2() -> Tokenizer {
    Tokenizer::from_gguf(model("SmolLM2-135M-Instruct.Q4_1.gguf").metadata()).unwrap()
}

fn gemma3() -> Tokenizer {
    Tokenizer::from_gguf(model("gemma-3-270m-Q4_K_M.gguf").metadata()).unwrap()
}

fn qwen2() -> Tokenizer {
    Tokenizer::from_gguf(model("Qwen2.5-Coder-0.5B-Instruct-Q4_K_M.gguf").metadata()).unwrap()
}

fn data(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/tokenizer")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every line: the hash of the ids, the hash of the decoded text, and the ids of the lines recorded in full.
fn check(name: &str, tokenizer: &Tokenizer) {
    let lines = corpus();
    let golden = data(&format!("{name}.bin"));
    let (head, records) = golden.split_at(16);
    let number = |b: &[u8]| b.iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b));
    let joined = lines.join("\0");
    assert_eq!(
        fnv(joined.bytes()),
        number(&head[..8]),
        "the corpus is not the recorded one"
    );
    assert_eq!(number(&head[8..]), lines.len() as u64);
    assert_eq!(records.len(), lines.len() * 12);
    let full: BTreeMap<usize, Vec<u32>> = serde_json::from_slice(&data(&format!("{name}.json"))).unwrap();

    let (mut wrong_ids, mut wrong_text) = (Vec::new(), Vec::new());
    for (i, (line, record)) in lines.iter().zip(records.chunks_exact(12)).enumerate() {
        let ids = tokenizer.encode(line, PLAIN).unwrap();
        if let Some(expected) = full.get(&i) {
            assert_eq!(&ids, expected, "line {i}: {line:?}");
        }
        if fnv(ids.iter().flat_map(|id| id.to_le_bytes())) != number(&record[..8]) {
            wrong_ids.push(i);
            continue;
        }
        let text = tokenizer.decode(&ids, false).unwrap();
        if fnv(text.bytes()) & 0xffff_ffff != number(&record[8..]) {
            wrong_text.push(i);
        }
        let mut stream = tokenizer.stream(false);
        let mut streamed: String = ids.iter().map(|&id| stream.push(id).unwrap().to_owned()).collect();
        streamed.push_str(&stream.finish());
        assert_eq!(streamed, text, "line {i}: {line:?}");
    }
    let show = |wrong: &[usize]| {
        wrong
            .iter()
            .take(5)
            .map(|&i| format!("{i}: {:?}", lines[i]))
            .collect::<Vec<_>>()
    };
    assert!(full.len() >= 190, "{} lines are recorded in full", full.len());
    assert!(
        wrong_ids.is_empty(),
        "{} lines have other ids: {:#?}",
        wrong_ids.len(),
        show(&wrong_ids)
    );
    assert!(
        wrong_text.is_empty(),
        "{} lines decode to another text: {:#?}",
        wrong_text.len(),
        show(&wrong_text)
    );
}

#[test]
fn smollm2_gives_the_ids_of_hugging_face() {
    check("smollm2", &smollm2());
}

#[test]
fn gemma3_gives_the_ids_of_hugging_face() {
    check("gemma3", &gemma3());
}

#[test]
fn qwen2_gives_the_ids_of_hugging_face() {
    check("qwen2", &qwen2());
}

/// BOS and EOS by the models' own rules, against what their tokenizer_config.json / post-processors publish.
#[test]
fn begin_and_end_tokens() {
    let (smollm2, gemma3, qwen2) = (smollm2(), gemma3(), qwen2());
    let ids = |t: &Tokenizer, text| t.encode(text, EncodeOptions::default()).unwrap();
    assert_eq!(ids(&smollm2, "Hello"), [19556]);
    assert_eq!(ids(&gemma3, "Hello"), [2, 9259]);
    assert_eq!(ids(&gemma3, ""), [2]);
    assert_eq!(ids(&qwen2, "Hello"), [9707]);
    assert_eq!((smollm2.bos(), smollm2.eos()), (Some(1), Some(2)));
    assert_eq!((gemma3.bos(), gemma3.eos()), (Some(2), Some(1)));
    assert_eq!((qwen2.bos(), qwen2.eos()), (Some(151643), Some(151645)));
    let ends = |t: &Tokenizer| -> Vec<u32> {
        (0..t.vocab_size() as u32)
            .filter(|&id| t.is_end_of_generation(id))
            .collect()
    };
    assert_eq!(ends(&smollm2), [0, 2]); // <|endoftext|>, <|im_end|>
    assert_eq!(ends(&gemma3), [1, 106]); // <eos>, <end_of_turn>
    assert_eq!(ends(&qwen2), [151643, 151645]);
}

#[test]
fn special_tokens_are_text_when_asked() {
    let text = EncodeOptions {
        add_bos_eos: false,
        parse_special: false,
    };
    for (tokenizer, token) in [
        (smollm2(), "<|im_start|>"),
        (qwen2(), "<|im_start|>"),
        (gemma3(), "<start_of_turn>"),
    ] {
        let id = tokenizer.id_of(token).unwrap();
        assert!(tokenizer.is_special(id));
        assert_eq!(tokenizer.encode(token, PLAIN).unwrap(), [id]);
        let plain = tokenizer.encode(token, text).unwrap();
        assert!(
            plain.len() > 1 && plain.iter().all(|&id| !tokenizer.is_special(id)),
            "{plain:?}"
        );
        assert_eq!(tokenizer.decode(&plain, true).unwrap(), token);
        assert_eq!(tokenizer.decode(&[id], true).unwrap(), "");
        assert_eq!(tokenizer.decode(&[id], false).unwrap(), token);
    }
    // User-defined tokens are tokens in any case.
    let qwen2 = qwen2();
    assert_eq!(
        qwen2.encode("<tool_call>", text).unwrap(),
        [qwen2.id_of("<tool_call>").unwrap()]
    );
}

/// Random ids: nothing panics, the stream gives the same text as `decode` where that is defined, never half a character.
#[test]
fn random_ids_stream_to_their_text() {
    for (name, tokenizer) in [("smollm2", smollm2()), ("qwen2", qwen2()), ("gemma3", gemma3())] {
        let mut rng = Rng::new(7);
        let mut malformed = 0;
        for _ in 0..2000 {
            // For Gemma a third of the ids are byte tokens (238 to 493), which makes runs of bytes.
            let ids: Vec<u32> = (0..rng.below(40))
                .map(|_| match rng.below(3) {
                    0 if name == "gemma3" => 238 + rng.below(256) as u32,
                    _ => rng.below(tokenizer.vocab_size()) as u32,
                })
                .collect();
            for skip_special in [false, true] {
                let text = tokenizer.decode(&ids, skip_special).unwrap();
                let mut stream = tokenizer.stream(skip_special);
                let mut streamed: String = ids.iter().map(|&id| stream.push(id).unwrap().to_owned()).collect();
                streamed.push_str(&stream.finish());
                if name == "gemma3" && streamed != text {
                    // The documented exception: a run of bytes that is not UTF-8.
                    assert!(text.contains('\u{fffd}') && streamed.contains('\u{fffd}'), "{ids:?}");
                    malformed += 1;
                    continue;
                }
                assert_eq!(streamed, text, "{name} {ids:?}");
                let bytes: Vec<u8> = ids
                    .iter()
                    .filter(|&&id| !(skip_special && tokenizer.is_special(id)) && !is_padding(&tokenizer, id))
                    .flat_map(|&id| tokenizer.token_bytes(id).unwrap().to_vec())
                    .collect();
                assert_eq!(String::from_utf8_lossy(&bytes), streamed, "{name} {ids:?}");
            }
        }
        assert!(name != "gemma3" || malformed > 100, "{malformed}");
        let outside = tokenizer.vocab_size() as u32;
        assert!(tokenizer.decode(&[outside], false).is_err());
        assert!(tokenizer.stream(false).push(u32::MAX).is_err());
        assert!(tokenizer.token_bytes(outside).is_none());
    }
}

/// Qwen's unused ids, which decode to nothing.
fn is_padding(tokenizer: &Tokenizer, id: u32) -> bool {
    tokenizer.token_bytes(id).is_some_and(|b| b.starts_with(b"[PAD151"))
}

#[derive(serde::Deserialize)]
struct RecordedTemplate {
    name: String,
    source: String,
    bos: String,
    eos: String,
    cases: Vec<RecordedChat>,
}

#[derive(serde::Deserialize)]
struct RecordedChat {
    title: String,
    messages: Vec<Message>,
    tools: Option<serde_json::Value>,
    add_generation_prompt: bool,
    text: Option<String>,
    error: Option<String>,
}

/// Conversations through many templates, against what transformers' engine renders (`tests/reference/tokenizer_chat.py`).
#[test]
fn chat_templates_render_as_in_transformers() {
    let recorded: Vec<RecordedTemplate> = serde_json::from_slice(&data("chat.json")).unwrap();
    let mut rendered = 0;
    for t in &recorded {
        let template = ChatTemplate::new(&t.source, &t.bos, &t.eos).unwrap();
        for case in &t.cases {
            let place = format!("{}, {}, {}", t.name, case.title, case.add_generation_prompt);
            let ours = template.render(&case.messages, case.add_generation_prompt, case.tools.as_ref());
            match (&case.text, &case.error) {
                (Some(text), _) => assert_eq!(&ours.unwrap(), text, "{place}"),
                (None, Some(message)) => {
                    let ours = ours.unwrap_err().to_string();
                    assert!(ours.contains(message), "{place}: {ours} does not say {message}");
                }
                _ => panic!("{place}: nothing is recorded"),
            }
            rendered += 1;
        }
    }
    assert!(rendered >= 140, "{rendered}");
}

#[test]
fn chat_templates_of_the_files() {
    let recorded: Vec<RecordedTemplate> = serde_json::from_slice(&data("chat.json")).unwrap();
    for (name, file) in [
        ("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
        ("qwen2.5", "Qwen2.5-Coder-0.5B-Instruct-Q4_K_M.gguf"),
    ] {
        let gguf = model(file);
        let tokenizer = Tokenizer::from_gguf(gguf.metadata()).unwrap();
        let template = ChatTemplate::from_gguf(gguf.metadata(), &tokenizer).unwrap().unwrap();
        let t = recorded.iter().find(|t| t.name == name).unwrap();
        for case in &t.cases {
            let ours = template.render(&case.messages, case.add_generation_prompt, case.tools.as_ref());
            assert_eq!(ours.unwrap(), *case.text.as_ref().unwrap(), "{name}, {}", case.title);
        }
    }
    // The pretrained Gemma has none.
    let gguf = model("gemma-3-270m-Q4_K_M.gguf");
    let tokenizer = Tokenizer::from_gguf(gguf.metadata()).unwrap();
    assert!(ChatTemplate::from_gguf(gguf.metadata(), &tokenizer).unwrap().is_none());
}

//! Tokenizers of the real models against Hugging Face's `tokenizers`: the golden data are recorded by
//! `tests/reference/tokenizer.py`; `tests/data/tokenizer/README.md` says how its tokenizers are set up.

#[path = "common/corpus.rs"]
mod corpus;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use corpus::{corpus, fnv};
use graft::format::{Gguf, LoadMode};
use graft::tokenizer::{EncodeOptions, Tokenizer};

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

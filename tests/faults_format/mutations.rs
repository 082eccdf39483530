//! Random damage to real and written headers. Whatever comes out: no panic, bounded memory, one line of error.
//! (The checks are inside the two `open` functions.)

use std::sync::LazyLock;

use proptest::prelude::*;

use graft::format::PeftFolder;

use crate::{adapter, check_error, common, gguf, writer};

/// One change of a file.
#[derive(Clone, Debug)]
enum Change {
    Byte(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    /// Overwrites with a number of 4 or 8 bytes.
    Number(prop::sample::Index, bool, u64),
    Cut(prop::sample::Index),
    Remove(prop::sample::Index, usize),
    /// Copies bytes from one place over another.
    Copy(prop::sample::Index, prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    let number = prop_oneof![
        Just(0),
        0..300u64,
        any::<u64>(),
        (0..64u32).prop_map(|n| 1u64 << n),
        (0..64u32).prop_map(|n| (1u64 << n) - 1),
        (0..300u64).prop_map(|n| u64::MAX - n)
    ];
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(a, b)| Change::Byte(a, b)),
        (at(), 0..8u8).prop_map(|(a, b)| Change::Flip(a, b)),
        (at(), any::<bool>(), number).prop_map(|(a, wide, n)| Change::Number(a, wide, n)),
        at().prop_map(Change::Cut),
        (at(), 1..40usize).prop_map(|(a, n)| Change::Remove(a, n)),
        (at(), at(), 1..60usize).prop_map(|(a, b, n)| Change::Copy(a, b, n)),
        (at(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(a, b)| Change::Insert(a, b)),
    ]
}

/// Applies `changes` to the first `head` bytes of the file (where the numbers are).
fn changed(mut bytes: Vec<u8>, head: usize, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let len = bytes.len().min(head);
        if len == 0 {
            break;
        }
        match change {
            Change::Byte(at, b) => bytes[at.index(len)] = *b,
            Change::Flip(at, bit) => bytes[at.index(len)] ^= 1 << bit,
            Change::Number(at, wide, n) => {
                let at = at.index(len);
                let end = bytes.len().min(at + if *wide { 8 } else { 4 });
                bytes[at..end].copy_from_slice(&n.to_le_bytes()[..end - at]);
            }
            Change::Cut(at) => bytes.truncate(at.index(len) + 1),
            Change::Remove(at, n) => {
                let at = at.index(len);
                bytes.drain(at..bytes.len().min(at + n));
            }
            Change::Copy(from, to, n) => {
                let (from, to) = (from.index(len), to.index(len));
                let n = (*n).min(bytes.len() - from.max(to));
                bytes.copy_within(from..from + n, to);
            }
            Change::Insert(at, new) => {
                let at = at.index(len);
                bytes.splice(at..at, new.iter().copied());
            }
        }
    }
    bytes
}

/// The directory's end and the bytes of a committed model.
static TINY: LazyLock<Vec<(usize, Vec<u8>)>> = LazyLock::new(|| {
    ["llama-tied-q8_0", "qwen2-q4_0", "gemma3-mixed"]
        .map(|name| {
            let bytes = std::fs::read(common::data().join("tiny").join(name).join("model.gguf")).unwrap();
            let start = graft::format::Gguf::from_bytes(bytes.clone()).unwrap().tensors()[0]
                .range
                .start;
            (start, bytes)
        })
        .into()
});

/// A configuration that PEFT wrote.
static CONFIG: LazyLock<Vec<u8>> = LazyLock::new(|| {
    std::fs::read(common::data().join("tiny/llama-tied/adapters/patterns/adapter_config.json")).unwrap()
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_written_gguf_with_any_damage(changes in prop::collection::vec(change(), 1..6)) {
        let file = writer::small().write();
        let _ = gguf::open(changed(file.bytes, file.data, &changes));
    }

    #[test]
    fn a_safetensors_file_with_any_damage(changes in prop::collection::vec(change(), 1..6)) {
        let one = r#""dtype":"F32","shape":[2,1],"data_offsets":"#;
        let json = format!(r#"{{"__metadata__":{{"format":"pt"}},"a":{{{one}[0,8]}},"b":{{{one}[8,16]}}}}"#);
        let bytes = adapter::with_header(&json, &[7; 16]);
        let head = bytes.len();
        let _ = adapter::open(changed(bytes, head, &changes));
    }

    #[test]
    fn a_config_with_any_damage(changes in prop::collection::vec(change(), 1..6)) {
        let config = CONFIG.clone();
        let head = config.len();
        match PeftFolder::from_bytes(changed(config, head, &changes), adapter::with_header("{}", b"")) {
            Err(e) => check_error(&e),
            Ok(folder) => {
                let fields: Vec<&str> = folder.fields().map(|(k, _)| k).collect();
                for f in fields {
                    let errors = [folder.bool(f, true).err(), folder.usize(f, 0).err(), folder.f64(f, 0.0).err()];
                    let more = [folder.str(f).err(), folder.object(f).err(), folder.list(f).err()];
                    errors.iter().chain(&more).flatten().for_each(check_error);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_real_gguf_with_any_damage(which in 0..3usize, changes in prop::collection::vec(change(), 1..4)) {
        let (head, bytes) = &TINY[which];
        let _ = gguf::open(changed(bytes.clone(), *head, &changes));
    }
}

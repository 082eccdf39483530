//! GGUF: what is right opens with the values that were written, what is wrong is refused by name.

use graft::format::{Gguf, ValueRef, ValueType};
use graft::quant::BlockFormat;
use graft::{Error, ErrorKind};

use crate::writer::{Model, Tensor, Val, small, tensor};
use crate::{allowed, check_error, common, measured};

/// Calls everything that reads from an opened file. Returns how much could be read without an error.
pub fn touch(g: &Gguf) -> usize {
    let m = g.metadata();
    let mut read = 0;
    let mut see = |e: Option<Error>| match e {
        Some(e) => check_error(&e),
        None => read += 1,
    };
    for (key, value) in m.iter() {
        let _ = value.to_string();
        see(m.usize(key).err());
        see(m.f32(key).err());
        see(m.bool(key).err());
        see(m.str(key).err());
        see(m.strs(key).err());
        see(m.ints(key).err());
        see(m.f32s(key).err());
        see(m.bools(key).err());
        assert_eq!(m.is_array(key), matches!(value, ValueRef::Array { .. }));
    }
    for t in g.tensors() {
        assert_eq!(g.tensor(&t.name), Some(t));
        let data = g.data(t);
        assert_eq!(Some(data.len()), t.format.bytes_for(t.elements()));
        if t.elements() <= 1 << 16 {
            t.format.dequantize(data, &mut vec![0.0; t.elements()]);
        }
    }
    read
}

/// Opens `bytes` under the memory bound and reads everything.
#[track_caller]
pub fn open(bytes: Vec<u8>) -> Result<Gguf, Error> {
    let len = bytes.len();
    let (result, peak) = measured(|| Gguf::from_bytes(bytes));
    assert!(peak <= allowed(len), "{peak} bytes held for a file of {len}");
    match &result {
        Ok(g) => drop(touch(g)),
        Err(e) => check_error(e),
    }
    result
}

#[track_caller]
fn refused(bytes: Vec<u8>) -> Error {
    open(bytes).err().expect("must be refused")
}

#[test]
fn what_was_written_is_what_is_read() {
    for version in [2, 3] {
        let model = Model { version, ..small() };
        let w = model.write();
        let g = open(w.bytes).unwrap();
        assert_eq!(g.version(), version);
        let m = g.metadata();
        assert_eq!(m.need_str("general.architecture").unwrap(), "llama");
        assert_eq!(m.need_usize("u8").unwrap(), 200);
        assert_eq!(m.need_usize("u16").unwrap(), 60000);
        assert_eq!(m.need_usize("i32").unwrap(), 7);
        assert_eq!(m.need_usize("u64").unwrap(), 1 << 40);
        assert_eq!(m.need_f32("f32").unwrap(), 1.5);
        assert_eq!(m.need_f32("f64").unwrap(), 0.25);
        assert_eq!(m.bool("bool").unwrap(), Some(true));
        assert_eq!(m.strs("tokens").unwrap().unwrap(), ["a", "größer", ""]);
        assert_eq!(m.ints("types").unwrap().unwrap(), [1, -2, 3]);
        assert_eq!(m.f32s("scores").unwrap().unwrap(), [0.0, -1.5]);
        assert_eq!(m.bools("pattern").unwrap().unwrap(), [true, false]);
        assert_eq!(m.bools("bool").unwrap().unwrap(), [true]);
        assert_eq!(m.ints("empty").unwrap().unwrap(), [0i64; 0]);
        assert_eq!(m.usize("absent").unwrap(), None);
        assert_eq!(m.get("i64").unwrap(), Some(ValueRef::Int(-1)));
        assert_eq!(m.len(), 18);
        let shown: Vec<String> = m.iter().map(|(k, v)| format!("{k} = {v}")).collect();
        assert_eq!(shown[0], "general.architecture = llama");
        assert_eq!(shown[12], "tokens = [3 × str]");
        assert_eq!(shown[17], "nested = [2 × array]");

        let names: Vec<&str> = g.tensors().iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["norm", "matrix", "half"]);
        for (t, written) in g.tensors().iter().zip(&small().tensors) {
            assert_eq!(g.data(t), written.data, "{}", t.name);
            assert_eq!(t.range.start % 32, 0);
        }
        assert_eq!(g.tensors()[2].dims, [3, 2, 2, 1]);
        assert_eq!(g.tensors()[1].format, BlockFormat::Q8_0);
        assert!(g.tensor("nor").is_none() && g.tensor("").is_none());
    }
}

/// Oracle: `gguf.GGUFReader` (gguf-py 0.18) over the committed file.
#[test]
fn a_committed_file_reads_as_the_reference_reader_reads_it() {
    let path = common::data().join("tiny/llama-tied-q8_0/model.gguf");
    let g = Gguf::open(&path, Default::default()).unwrap();
    assert_eq!((g.version(), g.metadata().len(), g.tensors().len()), (3, 24, 20));
    let m = g.metadata();
    assert_eq!(m.need_str("general.name").unwrap(), "tiny llama-tied-q8_0");
    assert_eq!(m.need_usize("llama.feed_forward_length").unwrap(), 96);
    assert_eq!(m.need_f32("llama.attention.layer_norm_rms_epsilon").unwrap(), 1e-6);
    assert_eq!(m.need_f32("llama.rope.freq_base").unwrap(), 1e5);
    assert_eq!(
        m.strs("tokenizer.ggml.merges").unwrap().unwrap()[..4],
        ["t h", "th e", "Ġ the", "Ġ a"]
    );
    assert_eq!(m.strs("tokenizer.ggml.tokens").unwrap().unwrap().len(), 288);
    assert_eq!(m.bool("tokenizer.ggml.add_bos_token").unwrap(), Some(false));
    for (n, name, dims, format, offset, bytes) in [
        (0, "token_embd.weight", &[64, 288][..], BlockFormat::Q8_0, 6752, 19584),
        (1, "blk.0.attn_q.weight", &[64, 64], BlockFormat::Q8_0, 26336, 4352),
        (3, "blk.0.attn_v.weight", &[64, 32], BlockFormat::Q8_0, 32864, 2176),
        (19, "output_norm.weight", &[64], BlockFormat::F32, 92640, 256),
    ] {
        let t = &g.tensors()[n];
        assert_eq!((t.name.as_str(), &t.dims[..], t.format), (name, dims, format));
        assert_eq!(t.range, offset..offset + bytes);
    }
    let all = touch(&g);
    assert!(all > 24, "each key has a getter that reads it: {all}");
}

#[test]
fn getters_name_the_key_and_what_they_found() {
    let g = open(small().write().bytes).unwrap();
    let m = g.metadata();
    for (e, text) in [
        (
            m.need_usize("absent").err(),
            "memory: absent: the metadata key is missing: expected a non-negative integer",
        ),
        (
            m.need_str("u8").err(),
            "memory: u8: the metadata value has the wrong type or range: expected a string, found 200",
        ),
        (
            m.usize("i8").err(),
            "memory: i8: the metadata value has the wrong type or range: expected a non-negative integer, found -3",
        ),
        (
            m.usize("f32").err(),
            "memory: f32: the metadata value has the wrong type or range: expected a non-negative integer, found the float 1.5",
        ),
        (
            m.f32("general.architecture").err(),
            "memory: general.architecture: the metadata value has the wrong type or range: expected a finite float, found \"llama\"",
        ),
        (
            m.strs("types").err(),
            "memory: types: the metadata value has the wrong type or range: expected an array of strings, found [3 × i32]",
        ),
        (
            m.ints("nested").err(),
            "memory: nested: the metadata value has the wrong type or range: expected an array of integers up to 2^63 - 1, found [2 × array]",
        ),
        (
            m.bools("types").err(),
            "memory: types[1]: the metadata value has the wrong type or range: expected bools (or integers 0 and 1), found -2",
        ),
    ] {
        assert_eq!(e.expect("an error").to_string(), text);
    }
    assert_eq!(
        m.get("scores").unwrap(),
        Some(ValueRef::Array {
            element: ValueType::F32,
            len: 2
        })
    );
}

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    let whole = small().write();
    for len in 0..whole.bytes.len() {
        let e = refused(whole.bytes[..len].to_vec());
        assert_eq!(e.kind(), ErrorKind::Invalid, "{len}: {e}");
    }
}

/// Every count, length, dim, offset and type id, replaced by every sort of lie.
#[test]
fn lying_numbers_are_refused_or_harmless() {
    let file = small().write();
    for mark in &file.marks {
        let true_value = file.value(mark);
        let mut lies = vec![0, 1, 2, 5, 33, 255, 256, 65535, 65536, 1 << 20, (1 << 20) + 1];
        lies.extend([file.bytes.len() as u64, 1 << 31, (1 << 31) - 1, 1 << 32, (1 << 32) - 1]);
        lies.extend([
            1 << 61,
            (1 << 61) + 1,
            1 << 62,
            1 << 63,
            (1 << 63) - 1,
            u64::MAX,
            u64::MAX - 7,
            u64::MAX / 20,
        ]);
        lies.extend([
            true_value.wrapping_sub(1),
            true_value + 1,
            true_value + 8,
            true_value * 2,
        ]);
        for lie in lies.into_iter().filter(|&lie| lie != true_value) {
            let result = open(file.with_mark(mark, lie));
            // No count, length, dim or offset can be that large.
            if mark.width == 8 && lie > 1 << 31 {
                assert!(result.is_err(), "{} = {lie} was taken", mark.what);
            }
        }
    }
}

/// The start of a real file (SmolLM2: 272 tensors, 49,152 tokens), cut at many places and with lying counts.
#[test]
fn the_head_of_a_real_file_is_refused_without_its_rest() {
    use std::io::Read;
    let path = common::real_model("SmolLM2-135M-Instruct.Q4_1.gguf");
    let start = Gguf::open(&path, Default::default()).unwrap().tensors()[0].range.start;
    let mut head = Vec::new();
    std::fs::File::open(&path)
        .unwrap()
        .take(start as u64 + 1000)
        .read_to_end(&mut head)
        .unwrap();
    for cut in (0..64)
        .chain((64..head.len()).step_by(7919))
        .chain([start - 1, start, start + 1, head.len()])
    {
        assert_eq!(refused(head[..cut].to_vec()).kind(), ErrorKind::Invalid);
    }
    for at in [8, 16] {
        for lie in [0u64, 1, 300, 65536, 1 << 20, u64::MAX] {
            let mut bytes = head.clone();
            bytes[at..at + 8].copy_from_slice(&lie.to_le_bytes());
            // No tensors and the right metadata is a valid file (a bare vocabulary).
            assert!(open(bytes).is_err() || (at, lie) == (8, 0), "{lie} at {at}");
        }
    }
}

/// One broken file for each rule: who is at fault, and what the line says.
#[test]
fn each_rule_has_its_error() {
    use ErrorKind::{Invalid, Limit, Unsupported};
    let file = small().write();
    let metadata = |extra: &[(&str, Val)]| Model::new(extra, vec![]).write().bytes;
    let tensors = |all: Vec<Tensor>| Model::new(&[], all).write().bytes;
    let one = |dims: &[u64], id, bytes| tensors(vec![tensor("t", dims, id, bytes)]);
    let start = |bytes: &[u8]| [bytes, &[0; 60]].concat();
    let deep = (0..6).fold(Val::Array(4, vec![]), |v, _| Val::Array(9, vec![v]));

    let cases: Vec<(Vec<u8>, ErrorKind, &str, &str)> = vec![
        (start(b"GGUF\x01\0\0\0"), Unsupported, "version", "GGUF version 1"),
        (
            start(b"GGUF\x04\0\0\0"),
            Unsupported,
            "version",
            "expected 2 or 3, found 4",
        ),
        (
            start(b"GGUF\0\0\0\0"),
            Unsupported,
            "version",
            "expected 2 or 3, found 0",
        ),
        (start(b"GGUF\0\0\0\x03"), Unsupported, "version", "big-endian"),
        (start(b"FUGG\0\0\0\x03"), Unsupported, "version", "big-endian"),
        (start(b"tjgg"), Unsupported, "", "before GGUF"),
        (start(b"PK\x03\x04"), Invalid, "", "zip archive"),
        (
            start(b"\x7fELF"),
            Invalid,
            "",
            "expected it to start with GGUF, found \"\\x7fELF\"",
        ),
        (
            b"GGU".to_vec(),
            Invalid,
            "magic",
            "expected 4 bytes at offset 0, found 3 bytes",
        ),
        (
            file.with("metadata count", 70_000),
            Limit,
            "metadata count",
            "found 70000",
        ),
        (
            file.with("metadata count", 60_000),
            Invalid,
            "metadata count",
            "ends too early",
        ),
        (
            file.with("tensor count", 1 << 21),
            Limit,
            "tensor count",
            "found 2097152",
        ),
        (
            file.with("tensor count", 1 << 20),
            Invalid,
            "tensor count",
            "ends too early",
        ),
        (
            file.with("u8: key length", u64::MAX),
            Invalid,
            "metadata key 2",
            "ends too early",
        ),
        (file.with("u8: type", 13), Invalid, "u8", "expected 0 to 12, found 13"),
        (
            file.with("tokens: element type", 99),
            Invalid,
            "tokens",
            "expected 0 to 12, found 99",
        ),
        (
            file.with("tokens: count", u64::MAX),
            Invalid,
            "tokens",
            "ends too early",
        ),
        (
            file.with("tokens[1]: length", 1 << 40),
            Invalid,
            "tokens",
            "expected 1099511627776 bytes at offset",
        ),
        (
            metadata(&[("k", Val::U8(1)), ("k", Val::U8(1))]),
            Invalid,
            "k",
            "stands twice",
        ),
        (
            metadata(&[("", Val::U32(1))]),
            Invalid,
            "metadata key 0",
            "expected 1 to 65535 bytes, found 0",
        ),
        (
            metadata(&[(&"k".repeat(65536), Val::U8(1))]),
            Invalid,
            "metadata key 0",
            "found 65536",
        ),
        (
            metadata(&[("k", Val::Bool(2))]),
            Invalid,
            "k",
            "expected 0 or 1, found 2",
        ),
        (
            metadata(&[("k", Val::Str(b"ab\xff".to_vec()))]),
            Invalid,
            "k",
            "expected UTF-8, found other bytes at offset 47",
        ),
        (metadata(&[("k", deep)]), Limit, "k", "nested too deeply"),
        (
            metadata(&[("general.alignment", Val::U32(0))]),
            Invalid,
            "general.alignment",
            "a power of two, found 0",
        ),
        (
            metadata(&[("general.alignment", Val::U32(24))]),
            Invalid,
            "general.alignment",
            "a power of two, found 24",
        ),
        (
            metadata(&[("general.alignment", Val::str("32"))]),
            Invalid,
            "general.alignment",
            "integer, found \"32\"",
        ),
        (
            tensors(vec![tensor("t", &[1], 0, 4), tensor("t", &[1], 0, 4)]),
            Invalid,
            "t",
            "stands twice",
        ),
        (
            tensors(vec![tensor("", &[1], 0, 4)]),
            Invalid,
            "tensor 0",
            "1 to 256 bytes, found 0",
        ),
        (
            tensors(vec![tensor(&"n".repeat(257), &[1], 0, 4)]),
            Invalid,
            "tensor 0",
            "found 257",
        ),
        (one(&[], 0, 4), Invalid, "t", "expected 1 to 4, found 0"),
        (one(&[1; 5], 0, 4), Invalid, "t", "expected 1 to 4, found 5"),
        (one(&[4, 0], 0, 4), Invalid, "t", "impossible dimensions"),
        (one(&[1 << 32, 1 << 32], 0, 4), Invalid, "t", "impossible dimensions"),
        (one(&[1 << 62], 0, 4), Invalid, "t", "larger than the address space"),
        (
            one(&[33, 2], 8, 100),
            Invalid,
            "t",
            "expected a multiple of 32, the block of Q8_0, found 33 columns",
        ),
        (one(&[32], 16, 100), Unsupported, "t", "found IQ2_XXS (ggml type 16)"),
        (one(&[32], 4, 100), Unsupported, "t", "ggml type 4"),
        (
            one(&[32], 1000, 100),
            Unsupported,
            "t",
            "an unknown type (ggml type 1000)",
        ),
        (one(&[32], 0, 127), Invalid, "t", "past the end of the file"),
        (
            file.with("matrix: offset", 33),
            Invalid,
            "matrix",
            "a multiple of 32, found 33",
        ),
        (
            file.with("half: offset", 32),
            Invalid,
            "half",
            "the tensor overlaps matrix",
        ),
        (
            file.with("matrix: offset", 0),
            Invalid,
            "matrix",
            "the tensor overlaps norm",
        ),
        (
            file.with("matrix: offset", 1 << 20),
            Invalid,
            "matrix",
            "past the end of the file",
        ),
    ];
    for (bytes, kind, item, says) in cases {
        let e = refused(bytes);
        let text = e.to_string();
        assert_eq!((e.kind(), e.item_name().unwrap_or("")), (kind, item), "{text}");
        assert!(
            text.starts_with("memory: ") && text.contains(says),
            "{says:?} is not in {text:?}"
        );
    }
}

/// A file that consists of nothing but directory is where memory could grow fastest.
#[test]
fn a_file_of_nothing_but_tiny_entries_stays_within_the_bound() {
    let keys: Vec<String> = (0..60_000).map(|n| format!("{n:x}")).collect();
    let metadata: Vec<(&str, Val)> = keys.iter().map(|k| (k.as_str(), Val::U8(0))).collect();
    assert_eq!(
        open(Model::new(&metadata, vec![]).write().bytes)
            .unwrap()
            .metadata()
            .len(),
        60_000
    );

    let all = keys.iter().map(|k| tensor(k, &[1], 0, 4)).collect();
    let model = Model {
        alignment: 4,
        ..Model::new(&[("general.alignment", Val::U32(4))], all)
    };
    assert_eq!(open(model.write().bytes).unwrap().tensors().len(), 60_000);
}

#[test]
fn text_that_is_not_utf8_is_refused_where_it_is_read() {
    let tokens = Val::Array(8, vec![Val::str("good"), Val::Str(b"\xc3(".to_vec())]);
    let g = open(Model::new(&[("tokens", tokens)], vec![]).write().bytes).unwrap();
    let e = g.metadata().strs("tokens").unwrap_err();
    assert_eq!(e.item_name(), Some("tokens[1]"));
    assert!(e.to_string().contains("expected UTF-8"), "{e}");

    let mut model = small();
    model.tensors[1].name = b"ma\xfftrix".to_vec();
    assert_eq!(refused(model.write().bytes).item_name(), Some("tensor 1"));
    model = small();
    model.metadata[2].0 = b"\xf0\x90".to_vec();
    assert_eq!(refused(model.write().bytes).item_name(), Some("metadata key 2"));
}

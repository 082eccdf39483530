//! safetensors and PEFT folders.

use std::fs;
use std::path::Path;

use graft::format::safetensors::Dtype;
use graft::format::{Mapping, PeftFolder, SafeTensors};
use graft::{Error, ErrorKind};
use half::{bf16, f16};

use crate::{allowed, check_error, common, measured};

/// Opens under the memory bound and reads everything.
#[track_caller]
pub fn open(bytes: Vec<u8>) -> Result<SafeTensors, Error> {
    let len = bytes.len();
    let (result, peak) = measured(|| SafeTensors::from_mapping(Mapping::from_bytes("memory".as_ref(), bytes)?));
    assert!(peak <= allowed(len), "{peak} bytes held for a file of {len}");
    match &result {
        Ok(file) => {
            for t in file.tensors() {
                assert_eq!(t.data.len() * 8, t.elements() * t.dtype.bitsize());
                assert!(file.tensor(t.name).is_some());
                match t.to_f32() {
                    Ok(all) => assert_eq!(all.len(), t.elements()),
                    Err(e) => check_error(&e),
                }
            }
        }
        Err(e) => check_error(e),
    }
    result
}

/// A file with this header.
pub fn with_header(json: &str, data: &[u8]) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), data].concat()
}

/// Oracle: the writer of the `safetensors` crate, and `half` for the conversions.
#[test]
fn what_the_reference_writer_wrote_is_what_is_read() {
    let values = [0.0f32, -1.5, 65504.0, 6.1e-5, 1e-7, f32::INFINITY];
    let f32s: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let f16s: Vec<u8> = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
    let bf16s: Vec<u8> = values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
    let view = |dtype, data| safetensors::tensor::TensorView::new(dtype, vec![2, 3], data).unwrap();
    let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let all = [
        ("a", view(Dtype::F32, &f32s)),
        ("b", view(Dtype::F16, &f16s)),
        ("c", view(Dtype::BF16, &bf16s)),
    ];
    let file = open(safetensors::serialize(all, Some(metadata)).unwrap()).unwrap();
    assert_eq!(file.metadata().collect::<Vec<_>>(), [("format", "pt")]);
    assert_eq!(file.len(), 3);
    assert_eq!(file.tensor("a").unwrap().to_f32().unwrap(), values);
    assert_eq!(
        file.tensor("b").unwrap().to_f32().unwrap(),
        values.map(|v| f16::from_f32(v).to_f32())
    );
    assert_eq!(
        file.tensor("c").unwrap().to_f32().unwrap(),
        values.map(|v| bf16::from_f32(v).to_f32())
    );
    assert_eq!(file.tensor("c").unwrap().shape, [2, 3]);
    assert!(file.tensor("d").is_none());
}

#[test]
fn tensors_come_in_the_order_of_their_data() {
    let json = r#"{"z":{"dtype":"U8","shape":[2],"data_offsets":[3,5]},"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},
        "none":{"dtype":"F64","shape":[0,9],"data_offsets":[5,5]}}   "#;
    let file = open(with_header(json, b"abcxy")).unwrap();
    assert_eq!(file.names().collect::<Vec<_>>(), ["a", "z", "none"]);
    assert_eq!(file.tensor("z").unwrap().data, b"xy");
    let e = file.tensor("z").unwrap().to_f32().unwrap_err();
    assert_eq!(
        e.to_string(),
        "memory: z: the type of the tensor is not supported: expected F32, F16 or BF16, found U8"
    );
}

#[test]
fn each_rule_has_its_error() {
    let t = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    let one = |dtype: &str, shape: &str, offsets: &str| format!(r#"{{"t":{}}}"#, t(dtype, shape, offsets));
    let good = t("F32", "[1]", "[0,4]");
    // Lengths whose sum passes 2^64 and comes out as the length of the file.
    let step = 1u64 << 61;
    let wrap: Vec<String> = (0..8u64)
        .map(|n| {
            let end = if n == 7 { u64::MAX - 3 } else { (n + 1) * step };
            format!(
                r#""{n}":{}"#,
                t("U8", &format!("[{}]", end - n * step), &format!("[{},{end}]", n * step))
            )
        })
        .collect();
    let wrap = format!("{{{}}}", wrap.join(","));

    for (bytes, item, says) in [
        (b"1234567".to_vec(), "", "expected 8 bytes, found 7"),
        (with_header("", b""), "header", "JSON header is wrong"),
        (with_header("[]", b""), "header", "expected an object of tensors"),
        (with_header("{}", b"x"), "data", "expected 0 bytes, found 1"),
        (
            [&u64::MAX.to_le_bytes()[..], b"{}"].concat(),
            "header length",
            "found 18446744073709551615",
        ),
        (
            with_header(&format!("{{{}", " ".repeat(17 << 20)), b""),
            "header length",
            "too long",
        ),
        (
            with_header(&one("F32", "[1]", "[0,4]"), b"123"),
            "t",
            "past the end of the file",
        ),
        (
            with_header(&one("F32", "[1]", "[4,0]"), b"1234"),
            "t",
            "expected data from offset 0, found 4",
        ),
        (
            with_header(&one("F32", "[2]", "[0,4]"), b"1234"),
            "t",
            "expected 8 bytes for F32 [2], found 4 bytes",
        ),
        (
            with_header(&one("F32", "[-1]", "[0,4]"), b"1234"),
            "header",
            "t: invalid value",
        ),
        (
            with_header(&one("F12", "[1]", "[0,4]"), b"1234"),
            "header",
            "t: unknown variant `F12`",
        ),
        (
            with_header(&one("F4", "[1]", "[0,1]"), b"1"),
            "t",
            "not 4, for F4 [1], found 1 bytes",
        ),
        (
            with_header(&one("F32", "[4294967296,4294967296,4]", "[0,4]"), b"1234"),
            "t",
            "less than the address space",
        ),
        (
            with_header(&one("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), b"1234"),
            "header",
            "more than 8 dimensions",
        ),
        (
            with_header(
                &format!(r#"{{"a":{good},"a":{}}}"#, t("F32", "[1]", "[4,8]")),
                b"12345678",
            ),
            "a",
            "stands twice",
        ),
        (
            with_header(&format!(r#"{{"a":{good},"b":{good}}}"#), b"1234"),
            "b",
            "overlap",
        ),
        (
            with_header(&format!(r#"{{"a":{good},"b":{}}}"#, t("U8", "[1]", "[5,6]")), b"123456"),
            "b",
            "leave a hole",
        ),
        (with_header(&wrap, b""), "0", "past the end of the file"),
        (
            with_header(r#"{"__metadata__":{"a":1}}"#, b""),
            "header",
            "expected a string",
        ),
    ] {
        let e = open(bytes).err().unwrap_or_else(|| panic!("must be refused: {says}"));
        let text = e.to_string();
        assert_eq!(e.item_name().unwrap_or(""), item, "{text}");
        assert!(text.contains(says), "{says:?} is not in {text:?}");
    }
}

#[test]
fn a_file_cut_at_any_byte_is_refused() {
    let bytes = fs::read(common::data().join("tiny/llama-tied/adapters/qv/adapter_model.safetensors")).unwrap();
    assert!(open(bytes.clone()).is_ok());
    let data = 8 + usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    for len in (0..data + 8).chain((data..bytes.len()).step_by(97)) {
        let e = open(bytes[..len].to_vec()).err().expect("must be refused");
        assert_eq!(e.kind(), ErrorKind::Invalid, "{len}: {e}");
    }
}

/// The recorded bad folders that are bad as files: these must be refused here, whatever the method.
#[test]
fn broken_folders_are_refused_and_others_open() {
    let base = common::data().join("adapters-bad");
    let manifest = common::json(&base.join("manifest.json"));
    let mut refused = 0;
    for case in manifest.as_array().unwrap() {
        let name = case["dir"].as_str().unwrap();
        let broken = [
            "config-",
            "safetensors-",
            "no-config",
            "no-weights",
            "no-peft-type",
            "pickle-only",
            "r-nan",
        ];
        let must_fail = name == "alpha-infinite" || broken.iter().any(|b| name.starts_with(b));
        match PeftFolder::open(&base.join(name)) {
            Err(e) => {
                check_error(&e);
                assert!(must_fail, "{e}");
                assert_eq!(e.kind() == ErrorKind::Unsupported, case["kind"] == "unsupported", "{e}");
                assert!(e.path().unwrap().starts_with(base.join(name)), "{e}");
                refused += 1;
            }
            Ok(folder) => {
                assert!(!must_fail, "{name} was opened");
                assert!(folder.fields().count() > 0 && !folder.peft_type().unwrap().is_empty());
            }
        }
    }
    assert!(refused >= 25, "only {refused} folders were refused");
}

fn folder(config: &str) -> Result<PeftFolder, Error> {
    PeftFolder::from_bytes(config.into(), with_header("{}", b""))
}

#[test]
fn config_fields_are_typed_and_null_is_not_a_number() {
    let text = r#"{"peft_type":"LORA","r":8,"lora_alpha":16.5,"flag":true,"off":null,"neg":-1,"half":2.5,"text":"none",
        "map":{"z":1,"a":2},"list":[1,2],"big":18446744073709551616}"#;
    let f = folder(text).unwrap();
    assert_eq!(f.peft_type().unwrap(), "LORA");
    assert_eq!((f.usize("r", 1).unwrap(), f.usize("absent", 5).unwrap()), (8, 5));
    assert_eq!(
        (
            f.f64("lora_alpha", 8.0).unwrap(),
            f.f64("r", 1.0).unwrap(),
            f.f64("no", 3.0).unwrap()
        ),
        (16.5, 8.0, 3.0)
    );
    assert_eq!(
        (f.bool("flag", false).unwrap(), f.bool("off", true).unwrap()),
        (true, true)
    );
    assert_eq!((f.str("text").unwrap(), f.str("off").unwrap()), (Some("none"), None));
    assert_eq!(
        f.object("map").unwrap().unwrap().keys().collect::<Vec<_>>(),
        ["z", "a"],
        "the order of the file"
    );
    assert_eq!(f.list("list").unwrap().unwrap().len(), 2);
    assert_eq!(
        f.fields().map(|(k, _)| k).take(3).collect::<Vec<_>>(),
        ["peft_type", "r", "lora_alpha"]
    );
    for (e, says) in [
        (
            f.usize("off", 1).err(),
            "off: the field has the wrong type or range: expected a non-negative integer, found null",
        ),
        (f.usize("neg", 1).err(), "expected a non-negative integer, found -1"),
        (f.usize("half", 1).err(), "expected a non-negative integer, found 2.5"),
        (
            f.usize("big", 1).err(),
            "expected a non-negative integer, found 1.8446744073709552e+19",
        ),
        (f.f64("text", 1.0).err(), "expected a finite number, found \"none\""),
        (f.bool("r", true).err(), "expected true or false, found 8"),
        (f.str("list").err(), "expected text, found a list of 2"),
        (f.object("text").err(), "expected an object, found \"none\""),
        (f.list("map").err(), "expected a list, found an object of 2 fields"),
    ] {
        let e = e.expect("an error");
        assert_eq!(e.path(), Some(Path::new("adapter_config.json")));
        assert!(e.to_string().ends_with(says), "{e}");
    }
}

#[test]
fn a_config_must_be_an_object_with_a_method() {
    let deep = "[".repeat(100_000);
    for (text, says) in [
        ("[1]", "expected an object, found a list of 1"),
        ("{\"r\":8}", "peft_type: the field is missing"),
        ("{\"peft_type\":null}", "peft_type: the field is missing"),
        ("{\"peft_type\":7}", "peft_type: the field has the wrong type"),
        ("{\"peft_type\":\"LORA\"", "not valid JSON: EOF"),
        ("{} {}", "trailing characters"),
        (deep.as_str(), "recursion limit"),
        (
            &format!("{{\"a\":\"{}\"}}", "x".repeat(4 << 20)),
            "the config is too long",
        ),
    ] {
        let e = folder(text).err().expect("must be refused");
        check_error(&e);
        assert!(e.to_string().contains(says), "{e}");
    }
}

#[test]
fn a_folder_above_named_adapters_says_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let good = common::data().join("tiny/llama-tied/adapters/qv");
    let add = |name: &str| {
        fs::create_dir(dir.path().join(name)).unwrap();
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            fs::copy(good.join(file), dir.path().join(name).join(file)).unwrap();
        }
    };
    let text = || PeftFolder::open(dir.path()).err().unwrap().to_string();
    assert!(
        text().ends_with("not an adapter folder: expected adapter_config.json, found no such file"),
        "{}",
        text()
    );
    add("poet");
    assert!(
        text().contains("in a folder below; open ") && text().ends_with("poet"),
        "{}",
        text()
    );
    add("judge");
    assert!(
        text().contains("2 folders below") && text().ends_with("judge"),
        "{}",
        text()
    );
    assert_eq!(PeftFolder::open(&dir.path().join("poet")).unwrap().tensors().len(), 8);
}

#[test]
fn what_is_no_folder_is_refused() {
    let file = common::data().join("tiny/llama-tied/adapters/qv/adapter_config.json");
    let e = PeftFolder::open(&file).err().unwrap();
    assert!(
        e.to_string().contains("expected a folder with adapter_config.json"),
        "{e}"
    );
    let e = PeftFolder::open(Path::new("no/such/folder")).err().unwrap();
    assert_eq!((e.kind(), e.path()), (ErrorKind::Io, Some(Path::new("no/such/folder"))));
}

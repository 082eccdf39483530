//! Files that Graft writes: what was read comes back, and what fails changes nothing.

#[path = "common/mod.rs"]
mod common;
#[allow(dead_code, reason = "the other users read what is written, and break it")]
#[path = "faults_format/writer.rs"]
mod writer;

use std::fs;
use std::path::{Path, PathBuf};

use graft::format::safetensors::Dtype;
use graft::format::{AdapterTensor, Gguf, GgufPlan, LoadMode, MetaValue, PeftFolder, ValueRef, write_peft_folder};
use graft::quant::BlockFormat;
use graft::{ErrorKind, Result};
use serde_json::{Map, Value, json};

use writer::{Model, Val, small, tensor};

fn tiny_models() -> Vec<PathBuf> {
    let folders = fs::read_dir(common::data().join("tiny")).unwrap();
    let models: Vec<PathBuf> = folders.map(|e| e.unwrap().path().join("model.gguf")).collect();
    assert!(models.len() > 10);
    models
}

fn open(path: &Path) -> Gguf {
    Gguf::open(path, LoadMode::Map).unwrap()
}

/// Writes all of `plan`, taking the bytes of tensors from its source.
fn copy(plan: &GgufPlan<'_>, source: &Gguf, path: &Path) -> Result<()> {
    let mut writer = plan.create(path)?;
    for t in plan.tensors() {
        assert_eq!(writer.next_tensor(), Some(t));
        writer.write(&t.name, source.data(source.tensor(&t.name).unwrap()))?;
    }
    assert_eq!(writer.next_tensor(), None);
    writer.finish()
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn assert_same_tensors(got: &Gguf, want: &Gguf) {
    assert_eq!(got.tensors().len(), want.tensors().len());
    for (g, w) in got.tensors().iter().zip(want.tensors()) {
        assert_eq!((&g.name, &g.dims, g.format), (&w.name, &w.dims, w.format));
        assert_eq!(got.data(g), want.data(w), "{}", g.name);
    }
}

#[test]
fn a_copy_is_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    for path in tiny_models() {
        let source = open(&path);
        let target = dir.path().join("copy.gguf");
        copy(&GgufPlan::copy_of(&source), &source, &target).unwrap();
        assert!(
            fs::read(&target).unwrap() == fs::read(&path).unwrap(),
            "{}",
            path.display()
        );
    }
    assert_eq!(names(dir.path()), ["copy.gguf"]);
}

/// Every type of value, nested arrays, an alignment of its own, version 2.
#[test]
fn metadata_of_every_type_is_copied_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    for alignment in [8, 32, 256] {
        let mut model = small();
        model.alignment = alignment;
        model.metadata[1].1 = Val::U32(alignment as u32);
        let written = model.write().bytes;
        model.version = 2;
        let source = Gguf::from_bytes(model.write().bytes).unwrap();
        let target = dir.path().join("copy.gguf");
        copy(&GgufPlan::copy_of(&source), &source, &target).unwrap();
        let got = fs::read(&target).unwrap();
        let (head, padding) = got.split_at(written.len());
        assert!(head == written && padding.len() < alignment && padding.iter().all(|&b| b == 0));
    }
}

#[test]
fn keys_and_tensors_are_replaced_in_their_place_and_added_behind() {
    let dir = tempfile::tempdir().unwrap();
    let source = Gguf::from_bytes(small().write().bytes).unwrap();
    let mut plan = GgufPlan::copy_of(&source);
    plan.set("u16", 5u32)
        .set("new", "grün")
        .set("yes", true)
        .set("tokens", 0.5f32)
        .set("new", "blau");
    plan.put("matrix", &[4, 2], BlockFormat::F16)
        .put("extra", &[3], BlockFormat::F32);
    let target = dir.path().join("new.gguf");
    let mut writer = plan.create(&target).unwrap();
    for t in plan.tensors() {
        match t.name.as_str() {
            // In pieces.
            "matrix" => (0..4).for_each(|n| writer.write("matrix", &[n; 4]).unwrap()),
            "extra" => writer.write("extra", &[9; 12]).unwrap(),
            name => writer.write(name, source.data(source.tensor(name).unwrap())).unwrap(),
        }
    }
    writer.finish().unwrap();

    let got = open(&target);
    let keys = |g: &Gguf| g.metadata().iter().map(|(k, _)| k.to_owned()).collect::<Vec<_>>();
    assert_eq!(keys(&got), [keys(&source), vec!["new".into(), "yes".into()]].concat());
    for (key, value) in got.metadata().iter() {
        match key {
            "u16" => assert_eq!(value, ValueRef::Uint(5)),
            "new" => assert_eq!(value, ValueRef::Str("blau")),
            "yes" => assert_eq!(value, ValueRef::Bool(true)),
            "tokens" => assert_eq!(value, ValueRef::F32(0.5)),
            key => assert_eq!(Some(value), source.metadata().get(key).unwrap(), "{key}"),
        }
    }
    let tensors: Vec<&str> = got.tensors().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(tensors, ["norm", "matrix", "half", "extra"]);
    let data = |name| got.data(got.tensor(name).unwrap());
    assert_eq!(data("matrix"), [[0; 4], [1; 4], [2; 4], [3; 4]].concat());
    assert_eq!(data("extra"), [9; 12]);
    assert_eq!(data("half"), source.data(source.tensor("half").unwrap()));
}

#[test]
fn a_file_from_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("lora.gguf");
    let mut plan = GgufPlan::new();
    plan.set("general.type", "adapter")
        .set("adapter.lora.alpha", 16.0f32)
        .set("general.alignment", 64u32);
    plan.put("a", &[5, 2], BlockFormat::F32)
        .put("b", &[2, 7], BlockFormat::F16);
    let mut writer = plan.create(&target).unwrap();
    writer.write("a", &[1; 40]).unwrap();
    writer.write("b", &[2; 28]).unwrap();
    writer.finish().unwrap();
    let got = open(&target);
    assert_eq!(got.metadata().need_str("general.type").unwrap(), "adapter");
    assert_eq!(got.metadata().need_f32("adapter.lora.alpha").unwrap(), 16.0);
    assert!(got.tensors().iter().all(|t| t.range.start.is_multiple_of(64)));
    assert_eq!(got.data(got.tensor("b").unwrap()), [2; 28]);

    let empty = dir.path().join("empty.gguf");
    GgufPlan::new().create(&empty).unwrap().finish().unwrap();
    assert!(open(&empty).tensors().is_empty());
}

#[test]
fn parts_of_a_split_model_become_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = |n| dir.path().join(format!("m-0000{n}-of-00002.gguf"));
    for n in 0..2u16 {
        let name = ["first", "second"][usize::from(n)];
        let keys = [
            ("split.no", Val::U16(n)),
            ("general.name", Val::str(name)),
            ("split.count", Val::U16(2)),
            ("split.tensors.count", Val::I32(2)),
        ];
        let part = Model::new(&keys, vec![tensor(name, &[8], 0, 32)]);
        fs::write(path(n + 1), part.write().bytes).unwrap();
    }
    let source = open(&path(1));
    let target = dir.path().join("whole.gguf");
    copy(&GgufPlan::copy_of(&source), &source, &target).unwrap();
    let got = open(&target);
    assert_eq!(
        got.metadata().iter().collect::<Vec<_>>(),
        [("general.name", ValueRef::Str("first"))]
    );
    assert_same_tensors(&got, &source);

    let e = GgufPlan::copy_of(&source).create(&path(2)).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Usage, "{e}");
    let e = GgufPlan::new()
        .create(&dir.path().join("x-00001-of-00003.gguf"))
        .err()
        .unwrap();
    assert!(e.to_string().contains("part of a split model"), "{e}");
}

#[test]
fn a_write_that_fails_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("old.gguf");
    fs::write(&target, "old").unwrap();
    let mut plan = GgufPlan::new();
    plan.put("a", &[2], BlockFormat::F32).put("b", &[32], BlockFormat::Q8_0);
    let fails = |write: &dyn Fn(&mut graft::format::GgufWriter) -> Result<()>, tensor: &str, message: &str| {
        let mut writer = plan.create(&target).unwrap();
        let e = write(&mut writer).and_then(|()| writer.finish()).expect_err(message);
        assert_eq!((e.kind(), e.item_name()), (ErrorKind::Usage, Some(tensor)), "{e}");
        assert!(e.to_string().contains(message), "{e}");
        assert!(e.path().is_some_and(|path| path.ends_with("old.gguf")), "{e}");
        assert_eq!(names(dir.path()), ["old.gguf"]);
        assert_eq!(fs::read(&target).unwrap(), b"old");
    };
    fails(&|_| Ok(()), "a", "not written to its end: expected 8 bytes, found 0");
    fails(
        &|w| w.write("a", &[0; 9]),
        "a",
        "too many bytes for the tensor: expected 8 bytes, found 9",
    );
    fails(&|w| w.write("b", &[0; 34]), "b", "out of order: expected a");
    fails(
        &|w| w.write("a", &[0; 7]).and_then(|()| w.write("b", &[0; 34])),
        "b",
        "expected 1 more bytes of a",
    );
    fails(
        &|w| w.write("a", &[0; 8]).and_then(|()| w.write("b", &[0; 33])),
        "b",
        "expected 34 bytes, found 33",
    );
    fails(
        &|w| w.write("a", &[0; 8]).and_then(|()| w.write("a", &[0; 8])),
        "a",
        "expected b",
    );
    let all = |w: &mut graft::format::GgufWriter| w.write("a", &[0; 8]).and_then(|()| w.write("b", &[0; 34]));
    fails(&|w| all(w).and_then(|()| w.write("c", &[])), "c", "no more tensors");

    let mut writer = plan.create(&target).unwrap();
    all(&mut writer).unwrap();
    drop(writer);
    assert_eq!(fs::read(&target).unwrap(), b"old");
    assert_eq!(names(dir.path()), ["old.gguf"]);
}

#[test]
fn what_no_reader_would_take_is_not_started() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |change: &dyn Fn(&mut GgufPlan<'_>), kind: ErrorKind, message: &str| {
        let mut plan = GgufPlan::new();
        change(&mut plan);
        let e = plan.create(&dir.path().join("new.gguf")).err().expect(message);
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(message), "{e}");
        assert!(names(dir.path()).is_empty());
    };
    let put =
        |name: &'static str, dims: &'static [usize], format| move |p: &mut GgufPlan<'_>| _ = p.put(name, dims, format);
    let usage = ErrorKind::Usage;
    refused(&put("", &[1], BlockFormat::F32), usage, "name has a wrong length");
    refused(&put("x", &[], BlockFormat::F32), usage, "impossible dimensions");
    refused(&put("x", &[1, 0], BlockFormat::F32), usage, "impossible dimensions");
    refused(&put("x", &[1; 5], BlockFormat::F32), usage, "impossible dimensions");
    refused(
        &put("x", &[usize::MAX, 2], BlockFormat::F32),
        usage,
        "impossible dimensions",
    );
    refused(
        &put("x", &[1 << 62], BlockFormat::F32),
        usage,
        "larger than the address space",
    );
    refused(&put("x", &[33, 32], BlockFormat::Q4_0), usage, "a multiple of 32");
    let set = |key: &'static str, value: MetaValue| move |p: &mut GgufPlan<'_>| _ = p.set(key, value.clone());
    refused(&set("", 1u32.into()), usage, "key has a wrong length");
    refused(&set("general.alignment", 24u32.into()), usage, "a power of two");
    refused(&set("general.alignment", 1.0f32.into()), usage, "a u32");
    refused(
        &set("general.alignment", (1u32 << 31).into()),
        ErrorKind::Limit,
        "at most",
    );
}

#[cfg(unix)]
#[test]
fn the_source_is_never_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name| dir.path().join(name);
    fs::write(path("m.gguf"), small().write().bytes).unwrap();
    fs::hard_link(path("m.gguf"), path("hard.gguf")).unwrap();
    std::os::unix::fs::symlink("m.gguf", path("soft.gguf")).unwrap();
    let source = open(&path("m.gguf"));
    for name in ["m.gguf", "hard.gguf", "soft.gguf", "./m.gguf"] {
        let e = GgufPlan::copy_of(&source).create(&path(name)).err().expect(name);
        assert_eq!(e.kind(), ErrorKind::Usage, "{e}");
        assert!(
            e.to_string().contains("the file to write is the file that is read"),
            "{e}"
        );
    }
    assert_eq!(names(dir.path()), ["hard.gguf", "m.gguf", "soft.gguf"]);
}

fn config() -> Map<String, Value> {
    let config = json!({"r": 2, "peft_type": "LORA", "rank_pattern": {"z": 1, "a": 2}, "lora_alpha": 4.0});
    config.as_object().unwrap().clone()
}

#[test]
fn an_adapter_folder_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("runs/1/adapter");
    let values = [0.5, -1.0, 1.0 / 3.0, 3.0, 1e-3, 0.0];
    let tensor = |name, dtype, shape| AdapterTensor {
        name,
        dtype,
        shape,
        values: &values,
    };
    let tensors = [
        tensor("b", Dtype::BF16, &[2, 3]),
        tensor("z", Dtype::F32, &[6]),
        tensor("a", Dtype::F32, &[1, 6, 1]),
        tensor("c", Dtype::F16, &[3, 2]),
    ];
    for _ in 0..2 {
        // The second time into the folder that is there, whose other files stay.
        write_peft_folder(&folder, &config(), &tensors).unwrap();
        let read = PeftFolder::open(&folder).unwrap();
        assert_eq!(
            read.tensors().map(|t| t.name.to_owned()).collect::<Vec<_>>(),
            ["a", "z", "b", "c"]
        );
        for t in &tensors {
            let got = read.tensor(t.name).unwrap();
            assert_eq!((got.dtype, got.shape), (t.dtype, t.shape));
            let rounded: Vec<f32> = match t.dtype {
                Dtype::F16 => values.map(|x| half::f16::from_f32(x).to_f32()).to_vec(),
                Dtype::BF16 => values.map(|x| half::bf16::from_f32(x).to_f32()).to_vec(),
                _ => values.to_vec(),
            };
            assert_eq!(got.to_f32().unwrap(), rounded);
        }
        fs::write(folder.join("README.md"), "mine").unwrap();
    }
    assert_eq!(
        names(&folder),
        ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    );
    assert_eq!(names(folder.parent().unwrap()), ["adapter"]);
    assert_eq!(
        fs::read_to_string(folder.join("adapter_config.json")).unwrap(),
        "{\n  \"lora_alpha\": 4.0,\n  \"peft_type\": \"LORA\",\n  \"r\": 2,\n  \"rank_pattern\": {\n    \"z\": 1,\n    \"a\": 2\n  }\n}"
    );
    // The crate of the format reads it too, and its metadata.
    let bytes = fs::read(folder.join("adapter_model.safetensors")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["format"], "pt");
    assert_eq!(safetensors::SafeTensors::deserialize(&bytes).unwrap().len(), 4);
}

/// What PEFT wrote comes out byte for byte.
#[test]
fn an_adapter_of_peft_is_copied_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    for case in ["all-linear", "patterns", "bf16", "f16"] {
        let from = common::data().join("tiny/qwen2/adapters").join(case);
        let read = PeftFolder::open(&from).unwrap();
        let config: Map<String, Value> = read.fields().map(|(k, v)| (k.to_owned(), v.clone())).collect();
        let values: Vec<Vec<f32>> = read.tensors().map(|t| t.to_f32().unwrap()).collect();
        let tensors: Vec<AdapterTensor<'_>> = read
            .tensors()
            .zip(&values)
            .map(|(t, values)| AdapterTensor {
                name: t.name,
                dtype: t.dtype,
                shape: t.shape,
                values,
            })
            .collect();
        let to = dir.path().join(case);
        write_peft_folder(&to, &config, &tensors).unwrap();
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            assert!(
                fs::read(to.join(file)).unwrap() == fs::read(from.join(file)).unwrap(),
                "{case}/{file}"
            );
        }
    }
}

#[test]
fn an_adapter_that_cannot_be_written_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (fresh, there) = (dir.path().join("fresh"), dir.path().join("there"));
    fs::create_dir(&there).unwrap();
    fs::write(there.join("adapter_config.json"), "old").unwrap();
    let refused = |tensors: &[AdapterTensor<'_>], kind: ErrorKind, message: &str| {
        for folder in [&fresh, &there] {
            let e = write_peft_folder(folder, &config(), tensors).expect_err(message);
            assert_eq!(e.kind(), kind, "{e}");
            assert!(e.to_string().contains(message), "{e}");
            assert_eq!(e.path(), Some(folder.join("adapter_model.safetensors").as_path()));
            assert_eq!(names(dir.path()), ["there"]);
            assert_eq!(names(&there), ["adapter_config.json"]);
            assert_eq!(fs::read(there.join("adapter_config.json")).unwrap(), b"old");
        }
    };
    let good = AdapterTensor {
        name: "t",
        dtype: Dtype::F16,
        shape: &[2],
        values: &[1.0, 2.0],
    };
    refused(&[good, good], ErrorKind::Usage, "t: the tensor stands twice");
    refused(
        &[AdapterTensor { shape: &[3], ..good }],
        ErrorKind::Usage,
        "expected [3], found 2 values",
    );
    refused(
        &[AdapterTensor {
            dtype: Dtype::I8,
            ..good
        }],
        ErrorKind::Unsupported,
        "F32, F16 or BF16",
    );
    let values = &[0.0, f32::NAN];
    refused(
        &[AdapterTensor { values, ..good }],
        ErrorKind::Invalid,
        "element 1 is not finite",
    );
    let values = &[7e4, 0.0];
    refused(
        &[AdapterTensor { values, ..good }],
        ErrorKind::Limit,
        "element 0 is too large for F16",
    );
}

//! Files and folders as the system gives them: split models, wrong sorts of file, no permission.

use std::fs;
use std::path::{Path, PathBuf};

use graft::ErrorKind;
use graft::format::{Gguf, LoadMode};

use crate::check_error;
use crate::writer::{Model, Val, small, tensor};

const MODES: [LoadMode; 2] = [LoadMode::Map, LoadMode::Read];

/// Three parts, as `gguf-split` writes them: metadata in the first, `split.*` in all, a tensor each.
fn parts() -> Vec<Model> {
    (0..3u16)
        .map(|no| {
            let mut metadata = vec![
                ("split.no", Val::U16(no)),
                ("split.count", Val::U16(3)),
                ("split.tensors.count", Val::I32(3)),
            ];
            if no == 0 {
                metadata.push(("general.architecture", Val::str("llama")));
            }
            Model::new(
                &metadata,
                vec![tensor(
                    &format!("t{no}"),
                    &[4, u64::from(no) + 1],
                    0,
                    16 * (usize::from(no) + 1),
                )],
            )
        })
        .collect()
}

fn part_path(dir: &Path, no: usize) -> PathBuf {
    dir.join(format!("model-{no:05}-of-00003.gguf"))
}

/// Writes `parts` to a new folder.
fn write(parts: &[Model]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (n, part) in parts.iter().enumerate() {
        fs::write(part_path(dir.path(), n + 1), part.write().bytes).unwrap();
    }
    dir
}

fn refused(path: &Path) -> graft::Error {
    let e = Gguf::open(path, LoadMode::Map).err().expect("must be refused");
    assert_eq!(
        e.to_string(),
        Gguf::open(path, LoadMode::Read).err().unwrap().to_string(),
        "both modes say the same"
    );
    e
}

#[test]
fn a_split_model_opens_from_any_part() {
    let dir = write(&parts());
    for no in 1..=3 {
        for mode in MODES {
            let g = Gguf::open(&part_path(dir.path(), no), mode).unwrap();
            assert_eq!(g.path(), part_path(dir.path(), 1));
            assert_eq!(g.metadata().need_str("general.architecture").unwrap(), "llama");
            let found: Vec<(&str, usize)> = g.tensors().iter().map(|t| (t.name.as_str(), t.part)).collect();
            assert_eq!(found, [("t0", 0), ("t1", 1), ("t2", 2)]);
            for (t, part) in g.tensors().iter().zip(parts()) {
                assert_eq!(g.data(t), part.tensors[0].data);
                assert_eq!(g.mapping(t).path(), part_path(dir.path(), t.part + 1));
            }
        }
    }
}

#[test]
fn a_missing_part_is_named() {
    let dir = write(&parts());
    fs::remove_file(part_path(dir.path(), 2)).unwrap();
    let e = refused(&part_path(dir.path(), 3));
    assert_eq!(
        (e.kind(), e.path()),
        (ErrorKind::Io, Some(part_path(dir.path(), 2).as_path()))
    );
    assert!(e.to_string().contains("part 2 of 3 of a split model"), "{e}");
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let change = |part: usize, key: usize, value: Val| {
        let mut all = parts();
        all[part].metadata[key].1 = value;
        let dir = write(&all);
        let e = refused(&part_path(dir.path(), 1));
        check_error(&e);
        (e.item_name().unwrap_or("").to_owned(), e.to_string())
    };
    let (item, text) = change(1, 0, Val::U16(2));
    assert!(item == "split.no" && text.ends_with("expected 1, found 2"), "{text}");
    let (item, text) = change(2, 1, Val::U16(4));
    assert!(
        item == "split.count" && text.contains("00003-of-00003.gguf: "),
        "{text}"
    );
    let (item, text) = change(0, 2, Val::I32(7));
    assert!(
        item == "split.tensors.count" && text.ends_with("expected 7, found 3"),
        "{text}"
    );
    let (item, _) = change(0, 1, Val::str("3"));
    assert_eq!(item, "split.count");

    let mut all = parts();
    all[2].tensors[0].name = b"t0".to_vec();
    let dir = write(&all);
    let e = refused(&part_path(dir.path(), 1));
    assert!(e.to_string().contains("t0: the tensor stands twice"), "{e}");
}

#[test]
fn a_renamed_part_is_refused_and_says_the_name_it_needs() {
    let dir = write(&parts());
    let renamed = dir.path().join("model.gguf");
    fs::rename(part_path(dir.path(), 1), &renamed).unwrap();
    let e = refused(&renamed);
    assert!(
        e.to_string()
            .ends_with("expected a name like NAME-00001-of-00003.gguf, found model.gguf"),
        "{e}"
    );
}

#[test]
fn a_model_in_one_file_may_have_any_name() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "m-00001-of-00001.gguf",
        "a-of-b.gguf",
        "x-1-of-2.gguf",
        "-00000-of-00002.gguf",
        "größe",
        "m.bin",
    ] {
        let path = dir.path().join(name);
        fs::write(&path, small().write().bytes).unwrap();
        Gguf::open(&path, LoadMode::Map).unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn what_is_no_file_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    fs::write(&empty, []).unwrap();
    assert!(refused(&empty).to_string().ends_with("empty: the file is empty"));
    assert!(
        refused(dir.path())
            .to_string()
            .ends_with("expected a file, found a folder")
    );
    assert_eq!(refused(&dir.path().join("none")).kind(), ErrorKind::Io);
    assert_eq!(refused(&empty.join("below-a-file.gguf")).kind(), ErrorKind::Io);
}

/// Oracle: the system itself. For root it allows everything, and so must Graft.
#[cfg(unix)]
#[test]
fn no_permission_is_the_systems_error() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret.gguf");
    fs::write(&path, small().write().bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).unwrap();
    match (fs::File::open(&path), Gguf::open(&path, LoadMode::Map)) {
        (Ok(_), ours) => drop(ours.expect("the system allows it")),
        (Err(system), ours) => {
            let e = ours.err().expect("the system refuses it");
            assert_eq!(e.kind(), ErrorKind::Io);
            assert!(
                e.to_string().contains("secret.gguf: cannot open: ") && e.to_string().contains(&system.to_string())
            );
        }
    }
}

#[cfg(unix)]
#[test]
fn links_in_a_circle_and_pipes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let circle = dir.path().join("circle.gguf");
    std::os::unix::fs::symlink(&circle, &circle).unwrap();
    assert_eq!(refused(&circle).kind(), ErrorKind::Io);
    assert_eq!(
        graft::format::PeftFolder::open(&circle).err().unwrap().kind(),
        ErrorKind::Io
    );
    assert_eq!(refused(Path::new("/dev/null")).kind(), ErrorKind::Invalid);
}

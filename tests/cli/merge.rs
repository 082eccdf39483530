//! `merge`: what it writes, and what is left when it ends in the middle.

use std::fs;
use std::process::Stdio;
use std::time::Instant;

use super::tools::*;

/// A merge to `out`, without the measurement behind it.
fn merge<'a>(model: &'a str, adapter: &'a str, out: &'a str) -> [&'a str; 8] {
    ["merge", "-m", model, "-a", adapter, "-o", out, "--no-check"]
}

/// The names in a folder, sorted.
fn names(folder: &tempfile::TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_merge_reports_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let (m, a, out) = (tiny(), adapter("all-linear"), in_folder(&folder, "merged.gguf"));
    let args = ["merge", "-m", &m, "-a", &a, "-o", &out];
    let kl = |more: &[&str]| {
        let document = graft(&[&args[..], more, &["--json"]].concat()).json();
        assert_eq!(document["bytes"], fs::metadata(&out).unwrap().len());
        assert!(document["tensors"].as_array().is_some_and(|t| !t.is_empty()));
        document["kl"]["mean"].as_f64().unwrap()
    };
    assert!(kl(&[]) < 1e-9, "an f32 model keeps its type");
    let (coarse, plain, fine) = (
        kl(&["--type", "q4_0"]),
        kl(&["--type", "q4_0", "--plain"]),
        kl(&["--type", "q8_0"]),
    );
    assert!(fine < coarse && coarse < plain, "{fine} {coarse} {plain}");
    let own = write(&folder, "own.txt", "What it will read, again and again. ".repeat(9));
    assert!(kl(&["--type", "q8_0", "--text", &own]) < coarse);
    assert!(kl(&["--kl", "1e-4"]) <= 1e-4);

    let short = write(&folder, "short.txt", "Hello");
    graft(&[&args[..], &["--text", &short]].concat()).failed(2, &["too short", "32 tokens"]);
    graft(&[&args[..], &["--text", "nowhere.txt"]].concat()).failed(1, &["nowhere.txt"]);
    graft(&[&args[..], &["--type", "q3_k"]].concat()).failed(2, &["--type", "q3_k"]);
    graft(&["merge", "-m", &m, "-a", &a, "-o", &m]).failed(2, &["model.gguf"]);
}

#[test]
fn a_merge_killed_at_any_moment_leaves_a_whole_file_or_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let (m, a, out) = (tiny(), adapter("all-linear"), in_folder(&folder, "merged.gguf"));
    let before = fs::read(&m).unwrap();
    let args = [&merge(&m, &a, &out)[..], &["--type", "q8_0"]].concat();
    let start = Instant::now();
    assert_eq!(graft(&args).code, 0);
    let whole_run = start.elapsed();
    let merged = fs::read(&out).unwrap();
    let (mut killed, mut parts) = (0, 0);
    for i in 0..40 {
        let old = (i % 2 == 0).then_some(b"old");
        fs::remove_file(&out).unwrap();
        if let Some(old) = old {
            fs::write(&out, old).unwrap();
        }
        let mut child = command(&args).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole_run * i / 40);
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
        match (fs::read(&out), old) {
            (Ok(bytes), Some(old)) => assert!(bytes == merged || bytes == old, "a broken file at moment {i}"),
            (Ok(bytes), None) => assert!(bytes == merged, "a broken file at moment {i}"),
            (Err(_), None) => fs::write(&out, "for the next round").unwrap(),
            (Err(e), Some(_)) => panic!("the old file is gone at moment {i}: {e}"),
        }
        let left = names(&folder);
        let part = |name: &&String| name.starts_with(".graft-") && name.ends_with(".part");
        parts = left.iter().filter(part).count();
        assert_eq!(left.len(), parts + 1, "{left:?}");
    }
    println!("{killed} of 40 were killed, {parts} parts were left");
    // The first has hardly begun, whatever the machine.
    assert!(killed > 0);
    // What was left is in nobody's way.
    assert_eq!(graft(&args).code, 0);
    assert!(fs::read(&out).unwrap() == merged);
    assert!(fs::read(&m).unwrap() == before, "the model is as it was");
}

#[cfg(unix)] // by a shell's limit
#[test]
fn a_merge_that_finds_no_room_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (m, a, out) = (tiny(), adapter("all-linear"), in_folder(&folder, "merged.gguf"));
    let before = fs::read(&m).unwrap();
    // Files may have some kilobytes and no more; the program is told by an error, not by a signal.
    let limited = |args: &[&str]| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\""]);
        ran(shell
            .args(words(env!("CARGO_BIN_EXE_graft")))
            .env("GRAFT_CUDA_DRIVER", NO_DRIVER)
            .args(args)
            .output()
            .unwrap())
    };
    limited(&merge(&m, &a, &out)).failed(1, &["merged.gguf", "cannot write", "too large"]);
    assert!(names(&folder).is_empty());
    fs::write(&out, "old").unwrap();
    limited(&merge(&m, &a, &out)).failed(1, &["merged.gguf"]);
    assert_eq!(names(&folder), ["merged.gguf"]);
    assert_eq!(fs::read(&out).unwrap(), b"old");
    assert!(fs::read(&m).unwrap() == before, "the model is as it was");
}

#[cfg(unix)] // by a signal
#[test]
fn ctrl_c_ends_a_merge_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (m, out) = (smollm2(), in_folder(&folder, "merged.gguf"));
    let a = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/adapters/stage-verse");
    let args = [&merge(&m, a, &out)[..], &["--plain"]].concat();
    let mut child = command(&args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while names(&folder).is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it wrote");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    interrupt(&child);
    let ran = ran(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (130, "", ""));
    assert!(names(&folder).is_empty());
}

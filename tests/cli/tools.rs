//! Running the program.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common;

/// What a run left behind.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// stdout as one JSON document, of a run that succeeded.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}", self.err);
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }

    /// stdout of a run that succeeded without a word.
    pub fn text(&self) -> &str {
        assert_eq!((self.code, self.err.as_str()), (0, ""));
        &self.out
    }

    /// A run that failed with `code`, nothing on stdout and one line on stderr that holds all of `words`.
    pub fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        assert_eq!(self.out, "", "stderr: {}", self.err);
        // Usage errors are clap's, with a hint below.
        assert!(code == 2 || self.err.lines().count() == 1, "not one line: {}", self.err);
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not in: {}", self.err);
        }
    }
}

/// The words that start `program`, a build of graft: before it, where it is for another machine than this, those of
/// `GRAFT_TEST_RUNNER`, an emulator and its arguments between spaces.
pub fn words(program: &str) -> Vec<String> {
    let runner = std::env::var("GRAFT_TEST_RUNNER").unwrap_or_default();
    let runner = runner.split_whitespace().map(str::to_string);
    runner.chain([program.to_string()]).collect()
}

pub fn command(args: &[&str]) -> Command {
    let words = words(env!("CARGO_BIN_EXE_graft"));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(args);
    // What these tests expect is the CPU's, whatever the machine has.
    command.env("GRAFT_CUDA_DRIVER", NO_DRIVER);
    command
}

/// A driver that is not there.
pub const NO_DRIVER: &str = "/no/driver";

/// What a build that knows GPUs says where it finds none and nobody has asked for one.
pub fn no_gpu_line() -> String {
    format!("graft: on the CPU: no NVIDIA driver on this machine: expected {NO_DRIVER}, found no such library\n")
}

/// What Ctrl-C does.
#[cfg(unix)]
pub fn interrupt(child: &std::process::Child) {
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
}

pub fn graft(args: &[&str]) -> Ran {
    graft_with_input(args, b"")
}

pub fn graft_with_input(args: &[&str], input: &[u8]) -> Ran {
    let mut command = command(args);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    // One that fails early closes its end; that is for the assertions to judge.
    let _ = child.stdin.take().expect("piped").write_all(input);
    ran(child.wait_with_output().expect("the program ends"))
}

pub fn ran(output: std::process::Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    Ran {
        code: output.status.code().expect("no signal killed it"),
        out: text(output.stdout),
        err: match cfg!(feature = "cuda") {
            true => text(output.stderr).replacen(&no_gpu_line(), "", 1),
            false => text(output.stderr),
        },
    }
}

/// The tiny random model that most tests run: llama, 288 tokens, context 256, with a chat template.
pub fn tiny() -> String {
    tiny_file("llama-tied/model.gguf")
}

pub fn tiny_file(name: &str) -> String {
    text(&common::data().join("tiny").join(name))
}

pub fn adapter(name: &str) -> String {
    tiny_file(&format!("llama-tied/adapters/{name}"))
}

pub fn smollm2() -> String {
    text(&common::real_model("SmolLM2-135M-Instruct.Q4_1.gguf"))
}

pub fn text(path: &Path) -> String {
    path.to_str().expect("paths are UTF-8").to_string()
}

pub fn in_folder(folder: &tempfile::TempDir, name: &str) -> String {
    text(&folder.path().join(name))
}

pub fn write(folder: &tempfile::TempDir, name: &str, bytes: impl AsRef<[u8]>) -> String {
    let path: PathBuf = folder.path().join(name);
    std::fs::write(&path, bytes).expect("the temporary folder can be written");
    text(&path)
}

/// New tokens of `graft run --json`.
pub fn tokens(args: &[&str]) -> Vec<u32> {
    let args = [&["run", "--json"], args].concat();
    common::ids(&graft(&args).json()["tokens"])
}

pub fn csv(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

//! The C interface's options for GPUs, from a C program on the driver whose device is the CPU (`tests/cuda_on_cpu`).
//!
//! Oracles: the same program on the CPU; what a driver that is not there, or has no device, is told to say.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

fn run(command: &mut Command) {
    let ran = command.output().expect("it runs");
    assert!(
        ran.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

/// The folder with the driver's stand-in, and the C program.
fn built() -> &'static (PathBuf, PathBuf) {
    static BUILT: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    BUILT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (driver, program) = (tmp.join("cuda_on_cpu"), tmp.join("capi_gpu"));
        run(Command::new(root.join("scripts/test-cuda")).arg("build").arg(&driver));
        let target = tmp.parent().expect("the target folder");
        let (profile, folder) = match cfg!(debug_assertions) {
            true => ("dev", "debug"),
            false => ("release", "release"),
        };
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "build",
            "--locked",
            "--features",
            "capi,cuda",
            "--example",
            "capi_library",
        ]);
        cargo.args(["--profile", profile, "--target-dir"]).arg(target);
        run(cargo.current_dir(root));
        let library = target.join(folder).join("examples/libcapi_library.so");
        let mut cc = Command::new(std::env::var("CC").unwrap_or("cc".into()));
        cc.args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"]);
        cc.arg(root.join("include"))
            .arg(root.join("tests/capi/gpu.c"))
            .arg(&library);
        run(cc.arg("-o").arg(&program));
        (driver, program)
    })
}

fn tiny(name: &str) -> PathBuf {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny");
    data.join(name).join("model.gguf")
}

/// Runs the program on the stand-in; `settings` are those of it.
fn gpu(model: &str, settings: &[(&str, &str)]) -> Output {
    let (driver, program) = built();
    let mut command = Command::new(program);
    command.arg(tiny(model));
    command.env("GRAFT_CUDA_DRIVER", driver.join("libcuda.so"));
    command.envs(settings.iter().copied());
    command.output().expect("the program runs")
}

#[test]
fn the_same_tokens_from_c() {
    for (model, layers) in [("llama-tied", 2), ("gemma2", 4), ("qwen2-q4_0", 2)] {
        let ran = gpu(model, &[]);
        let (out, err) = (
            String::from_utf8_lossy(&ran.stdout),
            String::from_utf8_lossy(&ran.stderr),
        );
        assert!(ran.status.success(), "{model}: {err}");
        let lines: Vec<_> = out.lines().map(|l| l.split_once(": ").expect("tokens")).collect();
        let [(cpu, wanted), (all, found), (some, partly)] = lines[..] else {
            panic!("{out}");
        };
        assert_eq!(cpu, format!("0 of {layers} layers, the CPU"));
        assert!(
            all.starts_with(&format!(
                "{layers} of {layers} layers, {layers} of {layers} layers on GPU 0"
            )),
            "{all}"
        );
        assert!(
            some.starts_with(&format!("1 of {layers} layers, 1 of {layers} layers on GPU 0")),
            "{some}"
        );
        // Text that is held back until the end comes with the last token again.
        assert!([24, 25].contains(&wanted.split_whitespace().count()), "{out}");
        assert_eq!((found, partly), (wanted, wanted), "{model}");
    }
}

/// The CPU's line is there, then the error, which names what is missing.
#[test]
fn no_gpu_is_an_error_in_c() {
    for (settings, said) in [
        (
            ("GRAFT_CUDA_DRIVER", "/no/driver"),
            "open: no NVIDIA driver on this machine: expected /no/driver",
        ),
        (
            ("GRAFT_FAKE_CUDA_DEVICES", "0"),
            "open: cuInit: no NVIDIA GPU that the driver can use",
        ),
        (
            ("GRAFT_FAKE_CUDA_MEMORY", "1000000"),
            ": not enough memory on the GPU for one layer",
        ),
        (
            ("GRAFT_FAKE_CUDA_FAIL", "launch:3"),
            "generate: cuLaunchKernel: NVIDIA's driver refused",
        ),
    ] {
        let ran = gpu("llama-tied", &[settings]);
        let err = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(1), "{settings:?}: {err}");
        assert!(err.contains(said) && err.lines().count() == 1, "{settings:?}: {err}");
        assert!(String::from_utf8_lossy(&ran.stdout).contains("layers, the CPU: "));
    }
}

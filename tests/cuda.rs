//! Models on a GPU, without one: the program with a driver whose device is the CPU (`tests/cuda_on_cpu`).
//!
//! Oracles: the same program on the CPU, of which other tests know that it is right; what a driver that fails is told to say.
#![cfg(target_os = "linux")]

#[path = "common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use common::{LOGIT_BOUND, data, logit_error};
use serde_json::Value;

/// The folder with the driver's stand-in.
fn driver() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda_on_cpu");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/test-cuda");
        let built = Command::new(script).arg("build").arg(&folder).status();
        assert!(built.expect("scripts/test-cuda runs").success());
        folder
    })
}

/// Runs the program; `settings` are those of the stand-in, behind `GRAFT_FAKE_CUDA_`.
fn graft(args: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_graft"));
    command.args(args).args(["--threads", "1"]);
    command.env("LD_LIBRARY_PATH", driver()).env_remove("GRAFT_CUDA_DRIVER");
    for (name, value) in settings {
        command.env(format!("GRAFT_FAKE_CUDA_{name}"), value);
    }
    command.output().expect("the program runs")
}

fn words(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// The logits of all positions as (position, id, logit), of a run that must succeed; with `said`, where it ran.
fn logits(args: &[&str], settings: &[(&str, &str)], said: &str) -> Vec<(u64, u64, f32)> {
    let ran = graft(
        &[&["logits", "--all", "--json", "--top", "100000"], args].concat(),
        settings,
    );
    let (out, err) = words(&ran);
    assert!(ran.status.success(), "{args:?}: {err}");
    assert!(
        err.contains(said) && err.is_empty() == said.is_empty(),
        "{args:?}: {err:?}"
    );
    let json: Value = serde_json::from_str(&out).expect("JSON");
    let mut all = Vec::new();
    for position in json["positions"].as_array().expect("positions") {
        for top in position["top"].as_array().expect("logits") {
            let n = |v: &Value| v.as_u64().expect("a number");
            let logit = top[1].as_f64().expect("a logit") as f32;
            all.push((n(&position["pos"]), n(&top[0]), logit));
        }
    }
    all.sort_by_key(|(position, id, _)| (*position, *id));
    assert!(!all.is_empty());
    all
}

/// That the GPU, or some layers on it, give the CPU's logits in `Exact`, by which errors are up to `bound`, relative to logits of a size
/// above 1.
fn same(model: &Path, args: &[&str], gpu: &[&str], bound: f32) {
    same_on(&[], model, args, gpu, bound);
}

/// The same on a GPU of these settings; gives its logits.
fn same_on(settings: &[(&str, &str)], model: &Path, args: &[&str], gpu: &[&str], bound: f32) -> Vec<(u64, u64, f32)> {
    let model = ["-m", model.to_str().unwrap()];
    let cpu = logits(&[&model, args, &["--exact", "--device", "cpu"]].concat(), &[], "");
    let gpu = logits(&[&model, args, gpu].concat(), settings, "on GPU 0");
    assert_eq!(cpu.len(), gpu.len());
    for (a, b) in cpu.iter().zip(&gpu) {
        assert_eq!((a.0, a.1), (b.0, b.1));
        assert!(
            logit_error(b.2, a.2) <= bound,
            "{model:?} {args:?}: {a:?}, on the GPU {b:?}"
        );
    }
    gpu
}

const TOKENS: &str = "1,5,9,33,7,40,12,3,77,21,60,8,19,2,90,11,4,35,50,28";
const GPU: [&str; 2] = ["--device", "cuda"];
const EXACT: [&str; 3] = ["--device", "cuda", "--exact"];

/// The text of 16 tokens that follow [`TOKENS`], on a device of these settings.
fn generated(model: &Path, device: &[&str], settings: &[(&str, &str)]) -> String {
    let model = model.to_str().unwrap();
    let args = [
        "run", "-m", model, "--tokens", TOKENS, "-n", "16", "--temp", "0", "--json",
    ];
    let ran = graft(&[&args[..], device].concat(), settings);
    let (out, err) = words(&ran);
    assert!(ran.status.success(), "{err}");
    let json: Value = serde_json::from_str(&out).expect("JSON");
    json["text"].as_str().expect("a text").to_owned()
}

fn tiny(name: &str) -> PathBuf {
    data().join("tiny").join(name).join("model.gguf")
}

/// Longer than a window, and than what goes through the kernels of few rows.
#[test]
fn every_tiny_model_has_the_same_logits() {
    for folder in std::fs::read_dir(data().join("tiny")).unwrap() {
        let model = folder.unwrap().path().join("model.gguf");
        same(&model, &["--tokens", TOKENS], &EXACT, LOGIT_BOUND);
        same(&model, &["--tokens", "3,9"], &EXACT, LOGIT_BOUND);
    }
}

/// `Fast` rounds activations to 15 bits or to halves, and the cache to halves; the CPU's int8 would be ten times as far off for types of 4
/// bits.
#[test]
fn fast_is_near() {
    for name in ["llama-tied", "llama-tied-q8_0", "qwen2-q4_0", "gemma3-mixed", "gemma2"] {
        same(&tiny(name), &["--tokens", TOKENS], &GPU, 0.05);
        same(&tiny(name), &["--tokens", "3,9"], &GPU, 0.05);
    }
}

/// A GeForce multiplies a prompt as integers, whose activations are rounded as a token's.
#[test]
fn fast_is_near_in_integers() {
    const GEFORCE: [(&str, &str); 1] = [("BRAND", "NVIDIA GeForce")];
    const OTHER: [(&str, &str); 1] = [("BRAND", "")];
    for name in ["llama-tied-q8_0", "qwen2-q4_0"] {
        let model = tiny(name);
        let on = |settings: &[_]| same_on(settings, &model, &["--tokens", TOKENS], &GPU, 0.05);
        assert_ne!(on(&OTHER), on(&GEFORCE), "{name}: not the kernels of integers");
        // Before 8.0 there are none.
        let old = [GEFORCE[0], ("CAPABILITY", "75")];
        assert_eq!(on(&OTHER), on(&old), "{name}: not the kernels of halves");
        let text = |device: &[&str]| generated(&model, device, &GEFORCE);
        assert_eq!(text(&GPU), text(&["--device", "cpu", "--exact"]), "{name}");
    }
}

#[test]
fn adapters_have_the_same_logits() {
    for model in ["llama-tied", "gemma3", "qwen2"] {
        for method in [
            "lora",
            "lora-dora",
            "lora-alora",
            "lora-embedding",
            "lora-tokens",
            "lora-save-embedding",
            "ia3",
            "boft",
            "oft",
            "hra",
            "loha",
            "lokr",
            "vera",
            "road-1",
            "miss",
            "beft",
            "ln-tuning",
            "p-tuning",
            "prefix-tuning",
            "tokens",
            "adalora",
            "lora-larger-vocabulary",
        ] {
            let adapter = data().join("methods").join(model).join(method);
            let adapter = adapter.to_str().unwrap();
            same(&tiny(model), &["--tokens", TOKENS, "-a", adapter], &EXACT, LOGIT_BOUND);
            if ["lora", "lora-dora", "boft"].contains(&method) {
                same(&tiny(model), &["--tokens", "3,9", "-a", adapter], &EXACT, LOGIT_BOUND);
                let part = ["--device", "cuda", "--exact", "--gpu-layers", "1"];
                same(&tiny(model), &["--tokens", TOKENS, "-a", adapter], &part, LOGIT_BOUND);
            }
        }
    }
}

#[test]
fn some_layers_on_the_gpu() {
    for (model, layers) in [("llama-tied", "1"), ("gemma3", "3"), ("qwen2", "1"), ("gemma2", "2")] {
        let part = ["--device", "cuda:0", "--exact", "--gpu-layers", layers];
        same(&tiny(model), &["--tokens", TOKENS], &part, LOGIT_BOUND);
    }
    let cpu = graft(
        &[
            "logits",
            "-m",
            tiny("qwen2").to_str().unwrap(),
            "--tokens",
            "1",
            "--gpu-layers",
            "0",
        ],
        &[],
    );
    assert_eq!(words(&cpu).1, "", "no layers: no GPU");
}

#[test]
fn the_same_tokens_follow() {
    for model in ["llama-tied", "qwen3", "gemma2"] {
        let model = tiny(model);
        let text = |device: &[&str]| generated(&model, &[device, &["--exact"]].concat(), &[]);
        assert_eq!(text(&GPU), text(&["--device", "cpu"]), "{model:?}");
    }
}

/// Memory for a part of the layers: the stand-in's device has as much as it is told.
#[test]
fn as_many_layers_as_fit() {
    let model = tiny("gemma3");
    let args = |device| {
        [
            "logits",
            "-m",
            model.to_str().unwrap(),
            "--exact",
            "--tokens",
            TOKENS,
            "--device",
            device,
        ]
    };
    let spare = 256 << 20;
    let ran = |device, more: usize| words(&graft(&args(device), &[("MEMORY", &(spare + more).to_string())]));
    let (all, said) = ran("cuda", 64 << 20);
    assert!(said.contains("7 of 7 layers on GPU 0"), "{said}");
    // The best token at the end.
    let best = |out: &str| out.split_whitespace().nth(1).map(str::to_owned);
    let layers = |said: &str| said.split_whitespace().nth(1).and_then(|n| n.parse::<usize>().ok());
    let mut seen = std::collections::BTreeSet::new();
    for kib in [128, 256, 512] {
        let (out, said) = ran("auto", kib << 10);
        if let Some(n) = layers(&said) {
            assert_eq!(best(&out), best(&all));
            seen.insert(n);
        }
    }
    assert!(seen.iter().any(|n| (1..7).contains(n)), "no partial offload: {seen:?}");
    let (out, said) = ran("cuda", 0);
    assert!(
        out.is_empty() && said.contains("not enough memory on the GPU for one layer"),
        "{said}"
    );
    let (out, said) = ran("auto", 0);
    assert!(!out.is_empty() && said.contains("on the CPU: "), "{said}");
}

#[test]
fn a_gpu_that_is_not_there() {
    let model = tiny("llama-tied");
    let model = model.to_str().unwrap();
    let run = |device: &str, settings: &[(&str, &str)]| {
        let ran = graft(&["logits", "-m", model, "--tokens", "1", "--device", device], settings);
        (ran.status.success(), words(&ran))
    };
    for (device, settings, said) in [
        ("cuda:1", &[][..], "cuda:0 to cuda:0, found cuda:1"),
        ("cuda", &[("DEVICES", "0")], "no NVIDIA GPU"),
        (
            "cuda",
            &[("CAPABILITY", "70")],
            "expected compute capability 7.5 or later, found 7.0",
        ),
        (
            "cuda",
            &[("DRIVER", "11020")],
            "expected CUDA 11.4 or later (driver 470), found CUDA 11.2",
        ),
    ] {
        let (done, (out, err)) = run(device, settings);
        assert!(!done && out.is_empty() && err.contains(said), "{settings:?}: {err}");
        assert_eq!(err.lines().count(), 1, "{err}");
        if device == "cuda" {
            let (done, (out, err)) = run("auto", settings);
            assert!(
                done && !out.is_empty() && err.contains(said) && err.lines().count() == 1,
                "{err}"
            );
        }
    }
    // Without a driver at all.
    for (device, works) in [("auto", true), ("cuda", false), ("cpu", true)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_graft"));
        command.args(["logits", "-m", model, "--tokens", "1", "--device", device]);
        let ran = command
            .env("GRAFT_CUDA_DRIVER", "/nowhere/libcuda.so.1")
            .output()
            .unwrap();
        let err = words(&ran).1;
        assert_eq!(ran.status.success(), works, "{err}");
        assert_eq!(err.contains("no NVIDIA driver"), device != "cpu", "{err}");
    }
}

/// A folder with rows to train on: its path, and that of the rows.
fn to_train() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rows = [
        "the fox and a dog ran",
        "my cat saw one bird",
        "that fish",
        "a dog saw the fox",
    ];
    let rows: String = rows
        .iter()
        .map(|text| format!("{}\n", serde_json::json!({"text": text})))
        .collect();
    let path = folder.path().join("rows.jsonl");
    std::fs::write(&path, rows).expect("it can be written");
    let path = path.to_str().expect("UTF-8").to_owned();
    (folder, path)
}

/// `graft train`: losses of the steps, and what it said.
fn train(model: &Path, more: &[&str], settings: &[(&str, &str)]) -> (bool, Vec<f64>, String) {
    let (folder, rows) = to_train();
    let out = folder.path().join("out");
    let args = [
        "train",
        "-m",
        model.to_str().unwrap(),
        "--data",
        &rows,
        "-o",
        out.to_str().unwrap(),
    ];
    let rest = [
        "--steps", "3", "--seq", "24", "--r", "4", "--lr", "1e-2", "--batch", "2", "--json",
    ];
    let ran = graft(&[&args[..], &rest, more].concat(), settings);
    let (out, err) = words(&ran);
    let losses = out
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["loss"].as_f64());
    (ran.status.success(), losses.collect(), err)
}

/// `auto` takes the GPU. On one of little memory large matrices are unpacked in pieces.
#[test]
fn trainings_have_the_same_losses() {
    for name in ["llama-tied", "qwen2-q4_0"] {
        let exact = train(&tiny(name), &["--precision", "exact", "--device", "cpu"], &[]);
        assert!(exact.0 && exact.1.len() == 3 && exact.1[2] < exact.1[0], "{exact:?}");
        let little = [("MEMORY", "2000000")];
        for (precision, more, settings, bound) in [
            ("exact", &[][..], &[][..], 1e-4),
            ("exact", &["--gpu-layers", "9"], &little, 1e-4),
            ("exact", &["--gpu-layers", "1"], &[], 1e-4),
            ("fast", &[], &[], 0.01),
            ("fast", &["--gpu-layers", "9"], &little, 0.01),
        ] {
            let (done, losses, said) = train(&tiny(name), &[&["--precision", precision], more].concat(), settings);
            assert!(
                done && said.contains("on GPU 0") && !said.contains("warning"),
                "{more:?}: {said}"
            );
            assert_eq!(losses.len(), 3);
            for (got, want) in losses.iter().zip(&exact.1) {
                assert!(
                    (got / want - 1.0).abs() <= bound,
                    "{name} {precision} {more:?}: {losses:?}, {:?}",
                    exact.1
                );
            }
        }
    }
}

/// Memory that is enough to run a model is not enough to train it.
#[test]
fn memory_for_a_training_is_counted() {
    let model = tiny("llama-tied");
    let spare = 256 << 20;
    for (more, where_to) in [
        (64 << 20, "not enough memory on the GPU for one layer"),
        (256 << 20, "on GPU 0"),
    ] {
        let memory = (spare + more).to_string();
        let (done, losses, said) = train(&model, &["--device", "auto"], &[("MEMORY", &memory)]);
        assert!(done && losses.len() == 3 && said.contains(where_to), "{said}");
    }
    let memory = (spare + (64 << 20)).to_string();
    let args = [
        "logits",
        "-m",
        model.to_str().unwrap(),
        "--tokens",
        "1,5",
        "--device",
        "auto",
    ];
    let said = words(&graft(&args, &[("MEMORY", &memory)])).1;
    assert!(said.contains("on GPU 0"), "{said}");
}

/// Launches and allocations of a training fail, now and then one: errors that name the call. An allocation may succeed after all, in place of
/// memory that was spare: then the training is what it is without.
#[test]
fn failures_of_trainings_are_errors() {
    let model = tiny("llama-tied");
    let args = ["--precision", "fast", "--device", "cuda"];
    let (done, right, said) = train(&model, &args, &[]);
    assert!(done && right.len() == 3, "{said}");
    for (what, call, at) in [
        ("launch", "cuLaunchKernel", [20, 200, 321, 500, 750, 1100]),
        ("alloc", "cuMemAlloc", [2, 30, 50, 90, 150, 300]),
    ] {
        let mut failed = 0;
        for n in at {
            let (done, losses, said) = train(&model, &args, &[("FAIL", &format!("{what}:{n}"))]);
            match done {
                true => assert_eq!(losses, right, "{what} {n}"),
                false => {
                    failed += 1;
                    assert!(said.contains(call) && !said.contains("panick"), "{what} {n}: {said}");
                }
            }
        }
        assert!(failed > 1, "{what}: {failed}");
    }
}

/// Each allocation and each launch of a run fails once: an error that names the call, and no panic.
#[test]
fn failures_are_errors() {
    let model = tiny("qwen2-q4_0");
    let args = [
        "run",
        "-m",
        model.to_str().unwrap(),
        "--tokens",
        TOKENS,
        "-n",
        "3",
        "--temp",
        "0",
        "--device",
        "cuda",
    ];
    let (right, _) = words(&graft(&args, &[]));
    for (what, calls, step) in [
        ("alloc", ["cuMemAlloc"; 2], 3),
        // Of the third token's graph.
        ("launch", ["cuLaunchKernel", "cuGraphLaunch"], 7),
        ("host", ["cuMemHostAlloc"; 2], 1),
    ] {
        let mut failed = 0;
        for n in (1..).step_by(step) {
            let ran = graft(&args, &[("FAIL", &format!("{what}:{n}"))]);
            let (out, err) = words(&ran);
            if ran.status.success() {
                assert_eq!(out, right, "{what} {n}");
                break;
            }
            failed += 1;
            let named = calls.iter().any(|call| err.contains(call));
            assert!(named && !err.contains("panick"), "{what} {n}: {err}");
        }
        assert!(failed > 0, "{what}: nothing failed");
    }
}

/// Figures mean nothing here; that they are the device's, and add up, does.
#[test]
fn a_bench_has_the_limits_of_the_gpu() {
    let model = tiny("llama-tied");
    let model = model.to_str().unwrap();
    let small = ["-p", "8", "-n", "2", "-r", "1"];
    let bench = |more: &[&str]| graft(&[&["bench", "-m", model][..], &small, more].concat(), &[]);
    let (out, err) = words(&bench(&["--device", "cuda", "--json"]));
    let json: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {err}"));
    let limit = |name: &str| json["limits"][name].as_f64();
    // 5 GHz twice on 16 bytes; 8 multiprocessors of 64 and 1024 at 1 GHz: what the stand-in says of itself.
    assert_eq!(limit("peak_gb_per_s"), Some(160.0));
    assert_eq!(
        (limit("f32_gmac_per_s"), limit("f16_gmac_per_s")),
        (Some(512.0), Some(8192.0))
    );
    assert_eq!(limit("int8_gmac_per_s"), None);
    let copy = limit("read_gb_per_s").expect("a copy");
    let (speed, percent) = (&json["generation"]["gb_per_s"], &json["generation"]["percent_of_limit"]);
    let share = 100.0 * speed.as_f64().expect("a speed") / copy;
    assert!(
        (percent.as_f64().expect("a share") - share).abs() < 1e-6 * share,
        "{json}"
    );
    assert!(
        json["device"]
            .as_str()
            .is_some_and(|d| d.contains("2 of 2 layers on GPU 0")),
        "{json}"
    );
    let (out, _) = words(&bench(&["--device", "cpu", "--json"]));
    assert!(
        out.contains("int8_gmac_per_s") && !out.contains("f16_gmac_per_s"),
        "{out}"
    );
    let refused = bench(&["--device", "cuda", "--ops"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(words(&refused).1.contains("--ops"));
}

#[test]
fn a_gpu_is_checked() {
    let (one, two) = (tiny("qwen2-q4_0"), tiny("gemma3-mixed"));
    let args = [
        "gpu-check",
        "-p",
        "8",
        "-n",
        "2",
        "-r",
        "1",
        "-m",
        one.to_str().unwrap(),
        "-m",
        two.to_str().unwrap(),
    ];
    let checked = |more: &[&str], settings: &[(&str, &str)]| {
        let ran = graft(&[&args, more].concat(), settings);
        (ran.status.code(), words(&ran))
    };
    let (code, (out, err)) = checked(&["--json"], &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let json: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(json["gpu"]["capability"], "8.0");
    let models = json["models"].as_array().expect("models");
    assert_eq!(models.len(), 2);
    for model in models {
        assert_eq!(
            (&model["exact"]["passed"], &model["fast"]["passed"]),
            (&true.into(), &true.into())
        );
        assert!(
            model["exact"]["relative"].as_f64() <= Some(1e-3) && model["fast"]["kl"].is_f64(),
            "{model}"
        );
    }
    let (code, (out, _)) = checked(&[], &[]);
    assert_eq!(
        (code, out.matches("  exact ").count(), out.matches("passed: ").count()),
        (Some(0), 2, 4),
        "{out}"
    );
    // A kernel that fails, and no GPU at all.
    let (code, (_, err)) = checked(&[], &[("FAIL", "launch:200")]);
    assert_eq!((code, err.lines().count()), (Some(1), 1), "{err}");
    assert!(err.contains("cuLaunchKernel") || err.contains("cuGraphLaunch"), "{err}");
    let (code, (out, err)) = checked(&[], &[("DEVICES", "0")]);
    assert_eq!((code, out.as_str(), err.lines().count()), (Some(2), "", 1), "{err}");
    let (code, _) = checked(&["--gpu", "1"], &[]);
    assert_eq!(code, Some(2));
}

//! Training through the C interface. Oracle: `graft train` with the same options on the same rows, tensors bit for bit.

mod common;

use std::ffi::{CStr, c_char};
use std::path::Path;
use std::process::Command;
use std::ptr::{null, null_mut};

use common::data;
use graft::capi::error::{graft_error, graft_error_message};
use graft::capi::model::*;
use graft::capi::status::GRAFT_OK;
use graft::capi::train_options::*;
use graft::capi::trainer::*;
use graft::capi::training::*;

/// Each longer than the next, also where 56 tokens are the most: in this order `graft train` puts them together.
const ROWS: [&str; 4] = [
    r#"{"text": "the fox and a dog ran, and my cat saw one bird"}"#,
    r#"{"prompt": "my cat saw ", "completion": "one bird and a dog"}"#,
    r#"{"text": "that fish ran"}"#,
    r#"{"text": "fox"}"#,
];
const STEPS: usize = 5;

/// A call that must succeed.
fn ok(call: impl FnOnce(*mut *mut graft_error) -> i32) {
    let mut error = null_mut();
    let status = call(&raw mut error);
    if status != GRAFT_OK {
        // SAFETY: the error of the call that failed, and its text.
        let said = unsafe { CStr::from_ptr(graft_error_message(error)) };
        panic!("{}", said.to_string_lossy());
    }
}

fn by_program(model: &Path, folder: &Path, options: &[(&str, &str)]) -> Vec<u8> {
    let (rows, out) = (folder.join("rows.jsonl"), folder.join("by-program"));
    std::fs::write(&rows, ROWS.join("\n")).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_graft"));
    program.args(["train", "-t", "1", "--batch", "4", "-m"]).arg(model);
    program.arg("--data").arg(&rows).arg("-o").arg(&out);
    for (name, value) in options {
        program.arg(format!("--{}", name.replace('_', "-"))).arg(value);
    }
    let ran = program.output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    std::fs::read(out.join("adapter_model.safetensors")).unwrap()
}

/// What the options point to that is no text of theirs.
type Ids = Vec<u32>;

/// The options of these names and values, which point into them and into `ids`.
fn options_of(options: &[(&str, &str)], ids: &mut Ids) -> graft_train_options {
    // SAFETY: numbers and pointers, and as many bytes as are said.
    let mut o = unsafe {
        let mut o = std::mem::zeroed::<graft_train_options>();
        graft_train_options_init(&raw mut o, size_of::<graft_train_options>());
        o
    };
    for (name, value) in options {
        let (text, len) = at(value);
        let number = || value.parse::<f64>().unwrap();
        match *name {
            "method" => (o.method, o.method_len) = (text, len),
            "targets" => (o.targets, o.targets_len) = (text, len),
            "init" => (o.init, o.init_len) = (text, len),
            "schedule" => (o.schedule, o.schedule_len) = (text, len),
            "optimizer" => (o.optimizer, o.optimizer_len) = (text, len),
            "r" => o.r = number() as u32,
            "alpha" => o.alpha = number(),
            "dropout" => o.dropout = number(),
            "seed" => o.seed = number() as u64,
            "steps" => o.steps = number() as u64,
            "warmup" => o.warmup = number() as i64,
            "lr" => o.lr = value.parse().unwrap(),
            "weight_decay" => o.weight_decay = value.parse().unwrap(),
            "clip" => o.clip = value.parse().unwrap(),
            "lora_plus" => o.lora_plus = value.parse().unwrap(),
            "seq" => o.seq = number() as u64,
            "precision" => o.precision = i32::from(*value == "exact"),
            "modules_to_save" => (o.modules_to_save, o.modules_to_save_len) = (text, len),
            "prompt_tuning_init_text" => (o.prompt_tuning_init_text, o.prompt_tuning_init_text_len) = (text, len),
            "token_indices" => {
                *ids = value.split(',').map(|id| id.parse().unwrap()).collect();
                (o.token_indices, o.n_token_indices) = (ids.as_ptr(), ids.len());
            }
            "num_virtual_tokens" => o.num_virtual_tokens = number() as u32,
            "oft_block_size" => o.oft_block_size = number() as u32,
            "boft_block_size" => o.boft_block_size = number() as u32,
            "group_size" => o.group_size = number() as u32,
            other => panic!("{other}"),
        }
    }
    o
}

fn at(text: &str) -> (*const c_char, usize) {
    (text.as_ptr().cast(), text.len())
}

/// A model of one thread.
fn open(path: &Path) -> *mut graft_model {
    let mut model = null_mut();
    // SAFETY: all arguments are as the header asks.
    unsafe {
        let mut how = std::mem::zeroed::<graft_model_options>();
        graft_model_options_init(&raw mut how, size_of::<graft_model_options>());
        how.threads = 1;
        let (start, len) = at(path.to_str().unwrap());
        ok(|e| graft_model_open(start, len, &raw const how, &raw mut model, e));
    }
    model
}

fn by_c(model_path: &Path, folder: &Path, options: &[(&str, &str)]) -> Vec<u8> {
    let (model, out) = (open(model_path), folder.join("by-c"));
    let mut ids = Ids::new();
    let o = options_of(options, &mut ids);
    // SAFETY: all arguments are as the header asks.
    unsafe {
        let mut trainer = null_mut();
        ok(|e| graft_trainer_new(model, &raw const o, &raw mut trainer, e));
        let rows = ROWS.map(|line| {
            let mut row = std::mem::zeroed::<graft_row>();
            (row.line, row.line_len) = at(line);
            row
        });
        for step in 1..=STEPS {
            let mut report = std::mem::zeroed::<graft_train_report>();
            report.struct_size = size_of::<graft_train_report>();
            ok(|e| graft_trainer_step(trainer, rows.as_ptr(), rows.len(), &raw mut report, e));
            assert_eq!((report.step, report.skipped), (step as u64, 0));
        }
        let (start, len) = at(out.to_str().unwrap());
        ok(|e| graft_trainer_save(trainer, start, len, e));
        graft_trainer_free(trainer);
        graft_model_free(model);
    }
    std::fs::read(out.join("adapter_model.safetensors")).unwrap()
}

#[test]
fn it_trains_what_the_program_trains() {
    let steps = ("steps", "5");
    let cases: [(&str, &[(&str, &str)]); 10] = [
        // The defaults of both are the same.
        ("llama-tied", &[steps]),
        (
            "llama-tied",
            &[
                steps,
                ("method", "dora"),
                ("r", "4"),
                ("alpha", "4"),
                ("targets", "q_proj,v_proj"),
                ("init", "gaussian"),
                ("seed", "9"),
                ("lr", "1e-2"),
                ("schedule", "linear"),
                ("warmup", "2"),
                ("weight_decay", "0.02"),
                ("clip", "0.5"),
                ("lora_plus", "4"),
                ("seq", "56"),
                ("optimizer", "adamw8bit"),
                ("precision", "exact"),
            ],
        ),
        (
            "qwen2",
            &[
                steps,
                ("method", "ia3"),
                ("clip", "0"),
                ("optimizer", "sgd"),
                ("schedule", "constant"),
            ],
        ),
        (
            "qwen2-q4_0",
            &[
                steps,
                ("method", "rslora"),
                ("optimizer", "lion"),
                ("lr", "1e-3"),
                ("seq", "64"),
            ],
        ),
        (
            "llama-tied",
            &[
                steps,
                ("dropout", "0.25"),
                ("targets", "q_proj"),
                ("modules_to_save", "embed_tokens,norm"),
            ],
        ),
        (
            "llama-tied",
            &[
                steps,
                ("method", "prompt_tuning"),
                ("num_virtual_tokens", "6"),
                ("prompt_tuning_init_text", "the fox ran"),
            ],
        ),
        (
            "llama-tied",
            &[steps, ("method", "trainable_tokens"), ("token_indices", "9,5,44")],
        ),
        ("llama-tied", &[steps, ("method", "oft"), ("oft_block_size", "8")]),
        ("llama-tied", &[steps, ("method", "boft"), ("boft_block_size", "8")]),
        ("llama-tied", &[steps, ("method", "road"), ("group_size", "16")]),
    ];
    for (name, options) in cases {
        let folder = tempfile::tempdir().unwrap();
        let model = data().join("tiny").join(name).join("model.gguf");
        let mut seq = options.to_vec();
        // The tiny models have room for fewer tokens than the default.
        if !options.iter().any(|o| o.0 == "seq") {
            seq.push(("seq", "128"));
        }
        let (program, c) = (
            by_program(&model, folder.path(), &seq),
            by_c(&model, folder.path(), &seq),
        );
        assert!(program == c, "{name} {options:?}");
    }
}

/// Oracle: `graft train --plan` with the same options.
#[test]
fn it_plans_what_the_program_plans() {
    let model_path = data().join("tiny/llama-tied/model.gguf");
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows.jsonl");
    std::fs::write(&rows, ROWS.join("\n")).unwrap();
    let model = open(&model_path);
    let cases: [&[(&str, &str)]; 3] = [
        &[("seq", "128")],
        &[
            ("seq", "64"),
            ("r", "4"),
            ("optimizer", "adamw8bit"),
            ("precision", "exact"),
        ],
        &[
            ("seq", "64"),
            ("method", "prefix_tuning"),
            ("num_virtual_tokens", "7"),
            ("optimizer", "sgd"),
        ],
    ];
    for options in cases {
        let mut program = Command::new(env!("CARGO_BIN_EXE_graft"));
        program
            .args(["train", "-t", "1", "--plan", "--json", "-m"])
            .arg(&model_path);
        program.arg("--data").arg(&rows);
        for (name, value) in options {
            program.arg(format!("--{}", name.replace('_', "-"))).arg(value);
        }
        let ran = program.output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let parts: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
        let part = |name: &str| parts["plan"][name].as_u64().unwrap();

        let mut ids = Ids::new();
        let o = options_of(options, &mut ids);
        // SAFETY: all arguments are as the header asks.
        let plan = unsafe {
            let mut plan = std::mem::zeroed::<graft_train_plan>();
            plan.struct_size = size_of::<graft_train_plan>();
            ok(|e| graft_plan_training(model, null(), 0, &raw const o, &raw mut plan, e));
            plan
        };
        let all = [
            ("weights", plan.weights),
            ("adapter", plan.adapter),
            ("gradients", plan.gradients),
            ("optimizer", plan.optimizer),
            ("activations", plan.activations),
            ("workspace", plan.workspace),
        ];
        for (name, bytes) in all {
            assert_eq!(bytes, part(name), "{name} {options:?}");
        }
        assert_eq!(plan.total, part("total") - part("program"), "{options:?}");
        assert_eq!(plan.total, all.iter().map(|p| p.1).sum::<u64>(), "{options:?}");
        assert_eq!(plan.keeps_attention, 1);
    }
    // SAFETY: it is there.
    unsafe { graft_model_free(model) };
}

//! Start time and memory of a fresh `graft run`, from outside.

use std::process::{Command, Stdio};
use std::time::Instant;

use graft::{Error, Result};
use serde::Serialize;

use crate::args::BenchArgs;

/// A fresh process with a five-token prompt.
#[derive(Serialize)]
pub struct Start {
    /// From starting the process to its end, with one token made in between.
    pub start_ms: f64,
    /// Memory that no file backs, with all of its KV cache in use.
    pub anonymous_bytes: Option<u64>,
    pub kv_bytes: u64,
}

/// Runs this program afresh, a few times, and takes the fastest: what else the machine does only ever adds.
pub fn measure(args: &BenchArgs) -> Result<Start> {
    let failed = |why: String| Error::internal(format!("cannot measure the start: {why}"));
    let program = std::env::current_exe().map_err(|e| failed(e.to_string()))?;
    let mut best: Option<Start> = None;
    for _ in 0..3 {
        let mut command = Command::new(&program);
        command
            .args([
                "run",
                "--tokens",
                "1,2,3,4,5",
                "-n",
                "1",
                "--ignore-eos",
                "--json",
                "-m",
            ])
            .arg(&args.model.model);
        command.args(args.model.adapters.iter().map(|a| format!("-a{a}")));
        command.args(args.model.threads.map(|t| format!("-t{t}")));
        command.arg("--device").arg(args.model.device.to_string());
        command.args(args.model.gpu_layers.map(|n| format!("--gpu-layers={n}")));
        command
            .args(args.model.exact.then_some("--exact"))
            .args(args.model.no_mmap.then_some("--no-mmap"));
        let begun = Instant::now();
        let output = command
            .stdin(Stdio::null())
            .output()
            .map_err(|e| failed(e.to_string()))?;
        let start_ms = begun.elapsed().as_secs_f64() * 1e3;
        let said: serde_json::Value = serde_json::from_slice(&output.stdout)
            .map_err(|_| failed(String::from_utf8_lossy(&output.stderr).trim().to_string()))?;
        let memory = &said["memory"];
        if best.as_ref().is_none_or(|b| start_ms < b.start_ms) {
            best = Some(Start {
                start_ms,
                anonymous_bytes: memory["anonymous"].as_u64(),
                kv_bytes: memory["kv"].as_u64().unwrap_or(0),
            });
        }
    }
    best.ok_or_else(|| failed("it never ran".into()))
}

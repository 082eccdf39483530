//! Calls that become a graph, in this process, with a driver whose device is the CPU (`tests/cuda_on_cpu`). Oracle: the CPU's tokens.
#![cfg(target_os = "linux")]

#[path = "common/mod.rs"]
mod common;

use std::path::Path;
use std::process::Command;

use common::data;
use graft::kernels::Precision;
use graft::{DeviceChoice, LoadOptions, Model, SessionOptions};

#[test]
fn a_token_is_one_graph() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda_on_cpu");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/test-cuda");
    let built = Command::new(script).arg("build").arg(&folder).status();
    assert!(built.expect("scripts/test-cuda runs").success());
    // SAFETY: the only test of this process, before anything else runs.
    unsafe { std::env::set_var("GRAFT_CUDA_DRIVER", folder.join("libcuda.so")) };
    let tiny = data().join("tiny/llama-tied/model.gguf");
    let open = |device| {
        let options = LoadOptions {
            device,
            threads: Some(1),
            ..Default::default()
        };
        Model::open_with(&tiny, &options).unwrap()
    };
    let (cpu, gpu) = (open(DeviceChoice::Cpu), open(DeviceChoice::Cuda(None)));
    let device = graft::kernels::cuda::Gpu::open(None).unwrap();
    let adapter = data().join("methods/llama-tied/lora");
    let follow = |model: &Model, adapters: bool| {
        let options = SessionOptions {
            precision: Precision::Exact,
            ..Default::default()
        };
        let mut session = model.session(&options).unwrap();
        if adapters {
            session
                .set_adapters(&[(model.load_adapter(&adapter).unwrap(), 1.0)])
                .unwrap();
        }
        let mut token = 7;
        let mut steps = Vec::new();
        for _ in 0..12 {
            let before = device.launched();
            let logits = session.eval(&[token]).unwrap();
            token = (0..logits.len())
                .max_by(|a, b| logits[*a].total_cmp(&logits[*b]))
                .unwrap() as u32;
            let after = device.launched();
            steps.push((token, after.calls - before.calls, after.graphs - before.graphs));
        }
        steps
    };
    for adapters in [false, true] {
        let (on_cpu, on_gpu) = (follow(&cpu, adapters), follow(&gpu, adapters));
        let tokens = |steps: &[(u32, u64, u64)]| steps.iter().map(|s| s.0).collect::<Vec<_>>();
        assert_eq!(tokens(&on_cpu), tokens(&on_gpu));
        // The first makes buffers, the second is seen, the third becomes a graph; the embedding is looked up apart from it.
        assert!(on_gpu[0].1 > 8 && on_gpu[0].2 == 0, "{on_gpu:?}");
        assert!(on_gpu[3..].iter().all(|s| s.1 <= 1 && s.2 == 1), "{on_gpu:?}");
        // A second session has buffers of its own, or those that the first has left.
        assert_eq!(tokens(&follow(&gpu, adapters)), tokens(&on_cpu));
    }
    // Two threads at once, whose calls mix.
    let expected: Vec<_> = follow(&cpu, true).iter().map(|s| s.0).collect();
    std::thread::scope(|scope| {
        let both = [0, 1].map(|_| scope.spawn(|| follow(&gpu, true)));
        for steps in both.map(|thread| thread.join().unwrap()) {
            assert_eq!(steps.iter().map(|s| s.0).collect::<Vec<_>>(), expected);
        }
    });
}

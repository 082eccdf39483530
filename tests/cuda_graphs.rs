//! Calls that become a graph, and tokens that are chosen on the device, in this process, with a driver whose device is the CPU
//! (`tests/cuda_on_cpu`). Oracle: the CPU's tokens.
#![cfg(target_os = "linux")]

#[path = "common/mod.rs"]
mod common;

use std::path::Path;
use std::process::Command;

use common::data;
use graft::kernels::Precision;
use graft::runtime::{Sampler, SamplerOptions};
use graft::{DeviceChoice, LoadOptions, Model, SessionOptions};

#[test]
fn a_token_is_one_graph_and_chosen_there() {
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
    let methods = data().join("methods/llama-tied");
    let follow = |model: &Model, adapter: Option<&str>| {
        let options = SessionOptions {
            precision: Precision::Exact,
            ..Default::default()
        };
        let mut session = model.session(&options).unwrap();
        if let Some(name) = adapter {
            let adapter = model.load_adapter(methods.join(name)).unwrap();
            session.set_adapters(&[(adapter, 1.0)]).unwrap();
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
    for adapter in [None, Some("lora"), Some("oft"), Some("boft"), Some("road-1")] {
        let (on_cpu, on_gpu) = (follow(&cpu, adapter), follow(&gpu, adapter));
        let tokens = |steps: &[(u32, u64, u64)]| steps.iter().map(|s| s.0).collect::<Vec<_>>();
        assert_eq!(tokens(&on_cpu), tokens(&on_gpu));
        // The first makes buffers, the second is seen, the third becomes a graph; the embedding is looked up apart from it.
        assert!(on_gpu[0].1 > 8 && on_gpu[0].2 == 0, "{adapter:?}: {on_gpu:?}");
        assert!(
            on_gpu[3..].iter().all(|s| s.1 <= 1 && s.2 == 1),
            "{adapter:?}: {on_gpu:?}"
        );
        // A second session has buffers of its own, or those that the first has left.
        assert_eq!(tokens(&follow(&gpu, adapter)), tokens(&on_cpu));
    }
    tokens_are_those_of_the_cpu(&gpu);
    // Two threads at once, whose calls mix.
    let expected: Vec<_> = follow(&cpu, Some("lora")).iter().map(|s| s.0).collect();
    std::thread::scope(|scope| {
        let both = [0, 1].map(|_| scope.spawn(|| follow(&gpu, Some("lora"))));
        for steps in both.map(|thread| thread.join().unwrap()) {
            assert_eq!(steps.iter().map(|s| s.0).collect::<Vec<_>>(), expected);
        }
    });
}

/// Each token is chosen on the device, and by a sampler like it on the CPU from the logits that come down afterwards.
fn tokens_are_those_of_the_cpu(gpu: &Model) {
    let device = graft::kernels::cuda::Gpu::open(None).unwrap();
    let mut session = gpu.session(&SessionOptions::default()).unwrap();
    let vocab = session.vocab_size();
    let rules = |set: &dyn Fn(&mut SamplerOptions)| {
        let mut options = SamplerOptions::default();
        set(&mut options);
        options
    };
    let penalties = |o: &mut SamplerOptions| {
        (o.repeat_penalty, o.frequency_penalty, o.presence_penalty) = (1.3, 0.2, 0.1);
        o.repeat_last_n = 5;
        o.logit_bias = vec![(3, 2.0), (9, f32::NEG_INFINITY), (3, -0.5), (vocab as u32 - 1, 4.0)];
    };
    for (i, options) in [
        rules(&|_| {}),
        rules(&|o| o.temperature = 1.0),
        rules(&|o| (o.temperature, o.top_k, o.top_p) = (0.8, 40, 0.95)),
        rules(&|o| (o.temperature, o.top_k) = (0.8, usize::MAX)),
        rules(&|o| (o.temperature, o.min_p) = (1.5, 0.05)),
        rules(&penalties),
        rules(&|o| {
            penalties(o);
            (o.temperature, o.top_p, o.seed) = (1.2, 0.9, 7);
        }),
    ]
    .into_iter()
    .enumerate()
    {
        session.reset();
        let [mut there, mut here] = [0, 1].map(|_| Sampler::new(options.clone(), vocab).unwrap());
        assert!(session.sample(&mut there).is_err(), "no logits yet");
        let mut token = 7;
        for step in 0..24 {
            let before = device.launched();
            session.append(&[token]).unwrap();
            let chosen = session.sample(&mut there).unwrap();
            let after = device.launched();
            if i == 0 && step > 3 {
                // The choice is in the token's graph.
                assert_eq!((after.graphs - before.graphs, after.calls - before.calls), (1, 1));
            }
            let (logits, tokens) = (session.logits().to_vec(), session.tokens().to_vec());
            token = here.sample(&logits, &tokens).unwrap();
            assert_eq!(chosen, token, "{options:?}, step {step}");
        }
    }
    // What the device leaves to the CPU: everything is banned but what is no token.
    let mut all = rules(&|o| o.temperature = 1.0);
    all.logit_bias = (0..vocab as u32).map(|id| (id, f32::NEG_INFINITY)).collect();
    let mut none = Sampler::new(all, vocab).unwrap();
    let e = session.sample(&mut none).unwrap_err().to_string();
    assert!(e.contains("no token is possible"), "{e}");
    let mut short = Sampler::new(SamplerOptions::default(), vocab - 1).unwrap();
    assert!(
        session
            .sample(&mut short)
            .unwrap_err()
            .to_string()
            .contains("number of logits")
    );
}

//! Oracle: an allocator that counts what the test's own thread, the model's only one, holds at most.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use common::*;
use graft::format::{Gguf, LoadMode};
use graft::kernels::Precision;
use graft::runtime::MemoryPlan;
use graft::{ErrorKind, LoadOptions, Model, SessionOptions};

thread_local! {
    /// Bytes that this thread holds, and the most that it held.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(bytes: isize) {
    // No error but at the thread's end, when nobody asks any more.
    let _ = HELD.try_with(|held| {
        let now = held.get().0 + bytes;
        held.set((now, held.get().1.max(now)));
    });
}

struct Counting;

// SAFETY: every call goes to `System` as it is; beside that only numbers change, which needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise; `at` came from `System`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that a session with these options holds at most while it reads `prompts`, one after the other.
fn measured(path: &Path, options: &SessionOptions, prompts: &[usize]) -> usize {
    let threads = Some(1);
    let model = Model::open_with(
        path,
        &LoadOptions {
            threads,
            ..Default::default()
        },
    )
    .unwrap();
    let before = HELD.get().0;
    HELD.set((before, before));
    let mut session = model.session(options).unwrap();
    for n in prompts {
        session.eval(&vec![5; *n]).unwrap();
    }
    (HELD.get().1 - before) as usize
}

#[test]
fn a_session_takes_what_was_planned() {
    let smollm = real_model("SmolLM2-135M-Instruct.Q4_1.gguf");
    let gemma = real_model("gemma-3-270m-Q4_K_M.gguf");
    let fast = Precision::Fast;
    // Prompts that grow are the worst for buffers that grow.
    for (path, context, chunk, precision, prompts) in [
        (&smollm, 512, 192, fast, &[1, 100, 130, 191, 64][..]),
        (&smollm, 200, 64, Precision::Exact, &[1, 63, 66, 64]),
        (&gemma, 400, 128, fast, &[1, 90, 140, 128]),
    ] {
        let options = SessionOptions {
            context: Some(context),
            precision,
            chunk,
        };
        let plan = MemoryPlan::of(&Gguf::open(path, LoadMode::Map).unwrap(), &options).unwrap();
        // In a thread of its own: what kernels keep in one would be there for the next session.
        let held = std::thread::scope(|s| s.spawn(|| measured(path, &options, prompts)).join().unwrap());
        let measured = held - plan.kv;
        let ratio = measured as f64 / (plan.activations + plan.per_thread) as f64;
        println!("{}: {plan:?}, measured {measured}, {ratio:.3}", path.display());
        assert!(
            (0.85..1.05).contains(&ratio),
            "{}: {plan:?}, {measured}",
            path.display()
        );
    }
}

#[test]
fn the_parts_are_those_of_the_model() {
    for name in ["llama-tied", "qwen2", "gemma3-mixed"] {
        let path = data().join("tiny").join(name).join("model.gguf");
        let (gguf, model) = (Gguf::open(&path, LoadMode::Map).unwrap(), Model::open(&path).unwrap());
        let options = SessionOptions {
            context: Some(100),
            chunk: 10,
            ..Default::default()
        };
        let plan = MemoryPlan::of(&gguf, &options).unwrap();
        assert_eq!(plan.kv, model.kv_bytes(&options));
        assert_eq!(
            plan.weights,
            gguf.tensors().iter().map(|t| t.range.len()).sum::<usize>()
        );
        let parts = plan.weights + plan.vectors + plan.kv + plan.activations;
        assert_eq!(plan.total(3), parts + 3 * plan.per_thread);
        let more = MemoryPlan::of(
            &gguf,
            &SessionOptions {
                chunk: 20,
                ..options.clone()
            },
        )
        .unwrap();
        assert!(more.activations > plan.activations);
        let context = Some(usize::MAX);
        let e = MemoryPlan::of(&gguf, &SessionOptions { context, ..options }).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Usage);
    }
    let adapter = Gguf::open(&data().join("gguf-lora/llama-tied/bf16.gguf"), LoadMode::Map).unwrap();
    assert!(MemoryPlan::of(&adapter, &SessionOptions::default()).is_err());
}

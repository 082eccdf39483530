//! What the C interface costs over Rust's: a generated token through a callback and by pull, and opening a model up to its first token.
//!
//! `cargo bench --features capi --bench capi`; the model is SmolLM2 where `scripts/fetch-models` has put it, or what GRAFT_BENCH_MODEL names.
//! A token of a real model takes milliseconds, in which a microsecond is lost: tokens are measured on the tiny model of the tests.

use std::ffi::{c_char, c_void};
use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::ptr::{null, null_mut};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use graft::capi::generate::{graft_generate_options, graft_generate_options_init, graft_generate_tokens};
use graft::capi::generation::{graft_generation_free, graft_generation_next, graft_generation_of_tokens};
use graft::capi::model::{graft_model, graft_model_free, graft_model_open};
use graft::capi::session::{graft_session, graft_session_free, graft_session_new, graft_session_reset};
use graft::capi::status::GRAFT_OK;
use graft::runtime::{GenerateOptions, Sampler, SamplerOptions, generate};
use graft::{Model, SessionOptions};

const PROMPT: [u32; 3] = [5, 6, 7];
/// Tokens of a generation: times are of this many.
const TOKENS: usize = 100;

fn tiny() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny/llama-tied/model.gguf").into()
}

fn real() -> PathBuf {
    if let Some(path) = std::env::var_os("GRAFT_BENCH_MODEL") {
        return path.into();
    }
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    home.join(".cache/graft/models/SmolLM2-135M-Instruct.Q4_1.gguf")
}

unsafe extern "C" fn on_text(text: *const c_char, len: usize, token: u32, _: *mut c_void) -> i32 {
    black_box((text, len, token));
    0
}

/// A model and a session of C's.
struct InC(*mut graft_model, *mut graft_session);

impl InC {
    fn new(path: &std::path::Path) -> Self {
        let path = path.to_str().unwrap();
        let (mut model, mut session) = (null_mut(), null_mut());
        // SAFETY: a path with its length, and places for results.
        unsafe {
            let status = graft_model_open(path.as_ptr().cast(), path.len(), null(), &mut model, null_mut());
            assert_eq!(status, GRAFT_OK);
            assert_eq!(graft_session_new(model, null(), &mut session, null_mut()), GRAFT_OK);
        }
        InC(model, session)
    }

    /// By callback.
    fn run(&self, o: &graft_generate_options) {
        // SAFETY: live handles, tokens with their number.
        unsafe {
            graft_session_reset(self.1, null_mut());
            let (tokens, n) = (PROMPT.as_ptr(), PROMPT.len());
            let status = graft_generate_tokens(self.1, tokens, n, o, Some(on_text), null_mut(), null_mut(), null_mut());
            assert_eq!(status, GRAFT_OK);
        }
    }

    /// By pull.
    fn pull(&self, o: &graft_generate_options) {
        // SAFETY: as above.
        unsafe {
            graft_session_reset(self.1, null_mut());
            let mut generation = null_mut();
            let (tokens, n) = (PROMPT.as_ptr(), PROMPT.len());
            graft_generation_of_tokens(self.1, tokens, n, o, &mut generation, null_mut());
            let (mut text, mut more) = (null(), 1);
            while more != 0 {
                let status =
                    graft_generation_next(generation, &mut text, null_mut(), null_mut(), &mut more, null_mut());
                assert_eq!(status, GRAFT_OK);
                black_box(text);
            }
            graft_generation_free(generation);
        }
    }
}

impl Drop for InC {
    fn drop(&mut self) {
        // SAFETY: live handles.
        unsafe {
            graft_session_free(self.1);
            graft_model_free(self.0);
        }
    }
}

fn options(max_tokens: u64) -> graft_generate_options {
    let mut o = std::mem::MaybeUninit::<graft_generate_options>::uninit();
    // SAFETY: room for the struct, which is set whole.
    let mut o = unsafe {
        graft_generate_options_init(o.as_mut_ptr(), size_of::<graft_generate_options>());
        o.assume_init()
    };
    o.max_tokens = max_tokens;
    o.ignore_eos = 1;
    o
}

fn in_rust(session: &mut graft::Session, model: &Model, max_tokens: usize) {
    session.reset();
    let mut sampler = Sampler::new(SamplerOptions::default(), session.vocab_size()).unwrap();
    let options = GenerateOptions {
        max_tokens: Some(max_tokens),
        ignore_eos: true,
        ..Default::default()
    };
    let tokenizer = model.tokenizer().unwrap();
    generate(session, tokenizer, &PROMPT, &mut sampler, &options, &mut |text, id| {
        black_box((text, id));
        ControlFlow::Continue(())
    })
    .unwrap();
}

fn tokens(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("{TOKENS} tokens of a tiny model"));
    let model = Model::open(tiny()).unwrap();
    let mut session = model.session(&SessionOptions::default()).unwrap();
    let c_side = InC::new(&tiny());
    let o = options(TOKENS as u64);
    group.bench_function("Rust", |b| b.iter(|| in_rust(&mut session, &model, TOKENS)));
    group.bench_function("C, callback", |b| b.iter(|| c_side.run(&o)));
    group.bench_function("C, pull", |b| b.iter(|| c_side.pull(&o)));
    group.finish();
}

fn start(c: &mut Criterion) {
    let path = real();
    assert!(
        path.exists(),
        "{}: scripts/fetch-models smollm2 fetches it",
        path.display()
    );
    let mut group = c.benchmark_group("from opening a model to its first token");
    group.sample_size(20);
    group.bench_function("Rust", |b| {
        b.iter_batched(
            || (),
            |()| {
                let model = Model::open(&path).unwrap();
                let mut session = model.session(&SessionOptions::default()).unwrap();
                in_rust(&mut session, &model, 1);
                (model, session)
            },
            BatchSize::PerIteration,
        );
    });
    let o = options(1);
    group.bench_function("C", |b| {
        b.iter_batched(
            || (),
            |()| {
                let c_side = InC::new(&path);
                c_side.run(&o);
                c_side
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, tokens, start);
criterion_main!(benches);

//! Oracle: a fresh session that reads the same tokens. What a session does to its cache must not show in its logits.

mod common;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::*;
use graft::kernels::Precision;
use graft::pool::{Executor, Team};
use graft::{ErrorKind, LoadOptions, Model, Session, SessionOptions};

/// Kernels for one row and for many sum in different orders; logits here are of size 1 to 10.
const REORDERED: f32 = 1e-4;

/// Every way a ring can be: none, every second layer, five of six, all layers.
const MODELS: [&str; 4] = ["llama-tied", "gemma2", "gemma3", "mistral"];

fn open(name: &str) -> Model {
    Model::open(data().join("tiny").join(name).join("model.gguf")).unwrap_or_else(|e| panic!("{e}"))
}

fn exact(model: &Model, chunk: usize) -> Session {
    model
        .session(&SessionOptions {
            precision: Precision::Exact,
            chunk,
            ..Default::default()
        })
        .unwrap()
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| 3 + (i * 37 + i * i) % 250).collect()
}

fn assert_close(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len());
    for (x, y) in a.iter().zip(b) {
        assert!(logit_error(*x, *y) <= REORDERED, "{what}: {x} and {y}");
    }
}

#[test]
fn one_by_one_and_in_chunks_give_the_same_logits() {
    for name in MODELS {
        let model = open(name);
        let tokens = tokens(60);
        let whole = exact(&model, 512).eval(&tokens).unwrap().to_vec();
        for chunk in [1, 3, 8, 16, 59] {
            assert_close(
                exact(&model, chunk).eval(&tokens).unwrap(),
                &whole,
                &format!("{name}, chunks of {chunk}"),
            );
        }
        let mut session = exact(&model, 512);
        for t in &tokens {
            session.eval(&[*t]).unwrap();
        }
        assert_close(session.logits(), &whole, &format!("{name}, token by token"));
        assert_eq!(session.tokens(), tokens);
    }
}

#[test]
fn truncating_forgets_exactly_the_later_tokens() {
    for name in MODELS {
        let model = open(name);
        let tokens = tokens(70);
        for (chunk, keep) in [(512, 33), (4, 33), (4, 60), (4, 69), (4, 1), (4, 0)] {
            let mut session = exact(&model, chunk);
            session.eval(&tokens).unwrap();
            session.truncate(keep).unwrap();
            assert_eq!(session.position(), keep);
            let after = session.eval(&tokens[5..9]).unwrap().to_vec();
            let mut fresh = exact(&model, chunk);
            let text: Vec<u32> = tokens[..keep].iter().chain(&tokens[5..9]).copied().collect();
            assert_close(
                &after,
                fresh.eval(&text).unwrap(),
                &format!("{name}, chunk {chunk}, keep {keep}"),
            );
        }
    }
}

#[test]
fn sliding_keeps_the_first_tokens_and_the_later_half() {
    let model = open("gemma3");
    let tokens = tokens(40);
    let mut session = exact(&model, 16);
    session.eval(&tokens).unwrap();
    session.slide(4).unwrap();
    let kept: Vec<u32> = tokens[..4].iter().chain(&tokens[22..]).copied().collect();
    assert_eq!(session.tokens(), kept);
    assert_close(
        session.logits(),
        exact(&model, 16).eval(&kept).unwrap(),
        "after sliding",
    );
    for keep in [session.context() - 1, usize::MAX] {
        assert_eq!(session.slide(keep).unwrap_err().kind(), ErrorKind::Usage, "{keep}");
        assert_eq!(session.tokens(), kept);
    }
}

#[test]
fn a_full_context_is_an_error_and_leaves_the_session_usable() {
    let model = open("llama-tied");
    let mut session = model
        .session(&SessionOptions {
            context: Some(10),
            ..Default::default()
        })
        .unwrap();
    session.eval(&tokens(8)).unwrap();
    let before = session.logits().to_vec();
    let error = session.eval(&tokens(3)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert_eq!((session.position(), session.logits()), (8, &before[..]));
    session.eval(&tokens(2)).unwrap();
    assert_eq!(session.eval(&tokens(1)).unwrap_err().kind(), ErrorKind::Limit);
}

#[test]
fn wrong_calls_are_errors() {
    let model = open("llama-tied");
    let vocab = model.spec().vocab_size as u32;
    let mut session = model.session(&SessionOptions::default()).unwrap();
    assert_eq!(session.eval(&[]).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(session.eval(&[1, vocab]).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(session.eval(&[u32::MAX]).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(session.truncate(1).unwrap_err().kind(), ErrorKind::Usage);
    for context in [0, model.spec().context_length + 1, usize::MAX] {
        let options = SessionOptions {
            context: Some(context),
            ..Default::default()
        };
        assert!(model.session(&options).is_err(), "context {context}");
    }
    let other = open("qwen2");
    let adapter = other.load_adapter(data().join("tiny/qwen2/adapters/qv")).unwrap();
    assert_eq!(
        session.set_adapters(&[(adapter, 1.0)]).unwrap_err().kind(),
        ErrorKind::Mismatch
    );
    let own = model.load_adapter(data().join("tiny/llama-tied/adapters/qv")).unwrap();
    assert_eq!(
        session.set_adapters(&[(own, f32::NAN)]).unwrap_err().kind(),
        ErrorKind::Usage
    );
}

#[test]
fn an_adapter_acts_from_the_next_token_and_off_is_the_base_again() {
    let model = open("llama-tied");
    let adapter = model
        .load_adapter(data().join("tiny/llama-tied/adapters/all-linear"))
        .unwrap();
    let tokens = tokens(12);
    let mut session = exact(&model, 512);
    let base = session.eval(&tokens).unwrap().to_vec();
    session.reset();
    session.set_adapters(&[(adapter.clone(), 1.0)]).unwrap();
    let with = session.eval(&tokens).unwrap().to_vec();
    assert!(
        base.iter().zip(&with).any(|(a, b)| (a - b).abs() > 0.1),
        "the adapter changes nothing"
    );
    // Two halves make a whole, up to the order of the sum.
    session.reset();
    session.set_adapters(&[(adapter.clone(), 0.5), (adapter, 0.5)]).unwrap();
    assert_close(session.eval(&tokens).unwrap(), &with, "two halves");
    session.reset();
    session.set_adapters(&[]).unwrap();
    assert_eq!(session.eval(&tokens).unwrap(), base, "the base, bit for bit");
}

/// Oracle: the same generation with nothing beside it. Adapters come and go on another thread; tokens are made while one is attached.
#[test]
fn attaching_beside_a_generation_neither_stops_nor_changes_it() {
    let model = open("llama-tied");
    let folder = data().join("methods/llama-tied");
    let own = model.load_adapter(folder.join("lora-other")).unwrap();
    let made = AtomicUsize::new(0);
    let generation = || {
        let mut session = model.session(&SessionOptions::default()).unwrap();
        session.set_adapters(&[(own.clone(), 1.0)]).unwrap();
        let mut token = argmax(session.eval(&tokens(9)).unwrap());
        let mut out = Vec::new();
        for _ in 0..100 {
            out.push(token);
            token = argmax(session.eval(&[token]).unwrap());
            made.fetch_add(1, Ordering::SeqCst);
        }
        out
    };
    let expected = generation();
    assert!(expected.iter().any(|t| *t != expected[0]), "a text without information");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| {
            let mut runs = 0;
            while runs < 3 || !stop.load(Ordering::SeqCst) {
                assert_eq!(generation(), expected, "run {runs}");
                runs += 1;
            }
        });
        // Whether the machine runs both threads within one attachment is chance; over many it is certain, unless one waits for the other.
        let together = (0..10_000).any(|i| {
            let name = ["lora-dora", "lora-pissa", "loha-high-rank", "vera", "miss-bat"][i % 5];
            let before = made.load(Ordering::SeqCst);
            let adapter = model.load_adapter(folder.join(name)).unwrap();
            let during = made.load(Ordering::SeqCst) - before;
            drop(adapter);
            during > 1 || beside.is_finished()
        });
        stop.store(true, Ordering::SeqCst);
        assert!(together, "no token while an adapter was attached");
        beside.join().expect("the generation goes through");
    });
}

#[test]
fn breaking_out_of_eval_each_stops_it() {
    let model = open("llama-tied");
    let mut session = exact(&model, 4);
    let mut seen = 0;
    let stop = |i: usize, _: &[f32]| {
        seen = i;
        if i == 5 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let mut stop = stop;
    session.eval_each(&tokens(20), &mut stop).unwrap();
    assert_eq!((seen, session.position()), (5, 8));
}

#[test]
fn the_number_of_threads_does_not_show() {
    for name in MODELS {
        let mut results = Vec::new();
        for threads in [1, 2, 3] {
            let options = graft::LoadOptions {
                threads: Some(threads),
                ..Default::default()
            };
            let model = Model::open_with(data().join("tiny").join(name).join("model.gguf"), &options).unwrap();
            let mut session = model.session(&SessionOptions::default()).unwrap();
            let mut logits = session.eval(&tokens(50)).unwrap().to_vec();
            logits.extend_from_slice(session.eval(&[7]).unwrap());
            results.push(logits);
        }
        assert!(
            results.iter().all(|r| *r == results[0]),
            "{name}: logits depend on the thread count"
        );
    }
}

/// An application's threads, as simple as can be: new ones for each job.
struct Scoped(usize);

// SAFETY: thread i of n does the chunks i, i + n, …; the scope waits for all, panics included.
unsafe impl Executor for Scoped {
    fn threads(&self) -> usize {
        self.0
    }

    fn run(&self, chunks: usize, work: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for first in 0..self.0 {
                scope.spawn(move || (first..chunks).step_by(self.0).for_each(work));
            }
        });
    }
}

/// Oracle: the model's own team. Who computes a chunk changes nothing.
#[test]
fn threads_of_the_application_and_a_shared_team_give_the_same() {
    let logits = |executor: Option<Arc<dyn Executor>>| {
        let options = LoadOptions {
            executor,
            ..Default::default()
        };
        let model = Model::open_with(data().join("tiny/llama-tied/model.gguf"), &options).unwrap();
        let mut session = model.session(&SessionOptions::default()).unwrap();
        session.eval(&[1, 2, 3, 4, 5]).unwrap().to_vec()
    };
    let own = logits(None);
    assert_eq!(own, logits(Some(Arc::new(Scoped(3)))));
    let team = Arc::new(Team::new(2).unwrap());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(own, logits(Some(team.clone())));
                }
            });
        }
    });
    assert_eq!(
        Arc::strong_count(&team),
        1,
        "a model that was dropped still holds the team"
    );
}

//! Oracle: a session that was never interrupted. What was saved and restored goes on as if nothing had happened.

mod common;

use common::*;
use graft::kernels::Precision;
use graft::runtime::MergeOptions;
use graft::{ErrorKind, Model, Session, SessionOptions};

/// Every way a ring can be: none, every second layer, five of six, all layers.
const MODELS: [&str; 4] = ["llama-tied", "gemma2", "gemma3", "mistral"];

fn open(name: &str) -> Model {
    Model::open(data().join("tiny").join(name).join("model.gguf")).unwrap_or_else(|e| panic!("{e}"))
}

fn session(model: &Model, context: usize, chunk: usize, precision: Precision) -> Session {
    model
        .session(&SessionOptions {
            context: Some(context),
            precision,
            chunk,
        })
        .unwrap()
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| 3 + (i * 37 + i * i) % 250).collect()
}

/// The logits after each of `tokens`, one by one.
fn each(session: &mut Session, tokens: &[u32]) -> Vec<Vec<f32>> {
    tokens.iter().map(|t| session.eval(&[*t]).unwrap().to_vec()).collect()
}

#[test]
fn what_is_restored_goes_on_bit_for_bit() {
    for name in MODELS {
        let model = open(name);
        let tokens = tokens(60);
        for precision in [Precision::Fast, Precision::Exact] {
            for chunk in [3, 64] {
                let mut whole = session(&model, 64, chunk, precision);
                whole.eval(&tokens[..40]).unwrap();
                let saved = whole.state_bytes().unwrap();
                assert_eq!(saved.len(), whole.state_len());
                let logits = whole.logits().to_vec();
                let wanted = each(&mut whole, &tokens[40..]);
                for (context, chunk) in [(64, 3), (60, 64), (100, 5)] {
                    let what = format!("{name}, {precision:?}, context {context}, chunk {chunk}");
                    let mut restored = session(&model, context, chunk, precision);
                    restored.eval(&tokens[50..]).unwrap(); // replaced
                    restored.restore_state(&saved).unwrap();
                    assert_eq!(
                        (restored.tokens(), restored.logits()),
                        (&tokens[..40], &logits[..]),
                        "{what}"
                    );
                    assert_eq!(each(&mut restored, &tokens[40..]), wanted, "{what}");
                }
            }
        }
    }
}

#[test]
fn forgetting_after_restoring_and_twice_is_forgetting() {
    for name in MODELS {
        let model = open(name);
        let tokens = tokens(60);
        let text = [&tokens[..33], &tokens[5..9]].concat();
        let wanted = session(&model, 64, 64, Precision::Exact).eval(&text).unwrap().to_vec();
        let mut first = session(&model, 64, 4, Precision::Exact);
        first.eval(&tokens).unwrap();
        first.truncate(56).unwrap();
        let saved = first.state_bytes().unwrap();
        let mut second = session(&model, 64, 20, Precision::Exact);
        second.restore_state(&saved).unwrap();
        for session in [&mut first, &mut second] {
            for keep in [52, 47, 33] {
                session.truncate(keep).unwrap();
            }
            for (ours, wanted) in session.eval(&tokens[5..9]).unwrap().iter().zip(&wanted) {
                assert!(logit_error(*ours, *wanted) <= 1e-4, "{name}: {ours} and {wanted}");
            }
        }
    }
}

#[test]
fn a_file_holds_it_too_and_an_empty_session_is_one() {
    let model = open("gemma3");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chat.state");
    let mut a = session(&model, 64, 8, Precision::Fast);
    a.eval(&tokens(30)).unwrap();
    a.save_state_to(&path).unwrap();
    let mut b = session(&model, 64, 8, Precision::Fast);
    let empty = b.state_bytes().unwrap();
    b.restore_state_from(&path).unwrap();
    assert_eq!(b.state_bytes().unwrap(), a.state_bytes().unwrap());
    assert_eq!(b.eval(&[7]).unwrap(), a.eval(&[7]).unwrap());
    b.restore_state(&empty).unwrap();
    assert_eq!((b.position(), b.logits().len()), (0, 0));
    std::fs::write(&path, &empty[..50]).unwrap();
    let e = b.restore_state_from(&path).unwrap_err();
    assert_eq!(e.path(), Some(&path.as_path()).copied());
}

#[test]
fn adapters_stay_and_a_prompt_must_be_on() {
    let model = open("llama-tied");
    let folder = data().join("methods/llama-tied");
    let prompts: Vec<_> = ["prompt", "prefix"]
        .iter()
        .map(|stem| {
            let mut found = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path());
            let named =
                |p: &std::path::PathBuf| p.is_dir() && p.file_name().unwrap().to_str().unwrap().starts_with(stem);
            model.load_adapter(found.find(named).unwrap()).unwrap()
        })
        .collect();
    let qv = model.load_adapter(data().join("tiny/llama-tied/adapters/qv")).unwrap();
    let new = || session(&model, 64, 8, Precision::Fast);
    let tokens = tokens(30);
    for prompt in prompts {
        let mut a = new();
        a.set_adapters(&[(prompt.clone(), 1.0)]).unwrap();
        a.eval(&tokens[..20]).unwrap();
        let saved = a.state_bytes().unwrap();
        let mut b = new();
        assert_eq!(b.restore_state(&saved).unwrap_err().item_name(), Some("before"));
        b.set_adapters(&[(prompt, 1.0)]).unwrap();
        b.restore_state(&saved).unwrap();
        assert_eq!(each(&mut b, &tokens[20..]), each(&mut a, &tokens[20..]));
    }
    let mut a = new();
    a.set_adapters(&[(qv.clone(), 1.0)]).unwrap();
    a.eval(&tokens[..20]).unwrap();
    let saved = a.state_bytes().unwrap();
    a.set_adapters(&[]).unwrap();
    let mut b = new();
    b.restore_state(&saved).unwrap();
    assert_eq!(each(&mut b, &tokens[20..]), each(&mut a, &tokens[20..]));
    // A merged model has the same file, but is another model.
    let (merged, _) = model
        .merged(&[(qv, 1.0)], &MergeOptions::default(), &mut |_| true)
        .unwrap();
    let e = session(&merged, 64, 8, Precision::Fast)
        .restore_state(&saved)
        .unwrap_err();
    assert_eq!((e.kind(), e.item_name()), (ErrorKind::Mismatch, Some("model")));
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let model = open("llama-tied");
    let mut a = session(&model, 64, 8, Precision::Fast);
    a.eval(&tokens(20)).unwrap();
    let saved = a.state_bytes().unwrap();
    for (other, context, precision, kind, item) in [
        ("llama-separate-bias", 64, Precision::Fast, ErrorKind::Mismatch, "model"),
        ("llama-tied-q8_0", 64, Precision::Fast, ErrorKind::Mismatch, "model"),
        ("llama-tied", 64, Precision::Exact, ErrorKind::Mismatch, "precision"),
        ("llama-tied", 19, Precision::Fast, ErrorKind::Limit, "context"),
    ] {
        let e = session(&open(other), context, 8, precision)
            .restore_state(&saved)
            .unwrap_err();
        assert_eq!((e.kind(), e.item_name()), (kind, Some(item)), "{other}: {e}");
    }
    let mut session = session(&model, 64, 8, Precision::Fast);
    session.eval(&tokens(5)).unwrap();
    let before = session.state_bytes().unwrap();
    let mut bytes = saved.clone();
    for at in 0..bytes.len() {
        bytes[at] ^= 1 << (at % 8);
        let e = session.restore_state(&bytes).unwrap_err();
        assert!(
            matches!(e.kind(), ErrorKind::Invalid | ErrorKind::Unsupported),
            "{at}: {e}"
        );
        bytes[at] = saved[at];
    }
    for len in (0..saved.len()).step_by(97) {
        assert!(session.restore_state(&saved[..len]).is_err(), "{len}");
    }
    assert_eq!(session.state_bytes().unwrap(), before);
}

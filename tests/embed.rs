//! Oracle: transformers' `last_hidden_state`, with PEFT's adapters (tests/reference/embeddings.py).

mod common;

use std::ops::ControlFlow;

use common::*;
use graft::kernels::Precision;
use graft::runtime::Pooling;
use graft::{ErrorKind, Model, SessionOptions};

#[test]
fn hidden_states_are_those_of_transformers() {
    for name in ["llama-tied", "qwen2", "gemma3"] {
        let folder = data().join("tiny").join(name);
        let model = Model::open(folder.join("model.gguf")).unwrap();
        let golden = json(&folder.join("hidden.json"));
        for case in golden["cases"].as_array().unwrap() {
            let tokens = ids(&case["tokens"]);
            for chunk in [7, 512] {
                let mut session = model
                    .session(&SessionOptions {
                        precision: Precision::Exact,
                        chunk,
                        ..Default::default()
                    })
                    .unwrap();
                session
                    .set_adapters(&adapters(&model, &folder, &case["adapters"]))
                    .unwrap();
                let mut rows = Vec::new();
                let each = &mut |i, row: &[f32]| {
                    assert_eq!(i, rows.len());
                    rows.push(row.to_vec());
                    ControlFlow::Continue(())
                };
                session.hidden_each(&tokens, each).unwrap();
                assert_eq!((session.tokens(), session.logits().len()), (&tokens[..], 0));
                let check = |ours: &[f32], key: &str| {
                    let wanted = floats(&case[key]);
                    assert_eq!(ours.len(), wanted.len());
                    for (ours, wanted) in ours.iter().zip(&wanted) {
                        let what = format!("{name}, {}, {key}: {ours} and {wanted}", case["adapters"]);
                        assert!(logit_error(*ours, *wanted) <= LOGIT_BOUND, "{what}");
                    }
                };
                check(&rows[tokens.len() / 2], "middle");
                for (pooling, key) in [
                    (Pooling::First, "first"),
                    (Pooling::Last, "last"),
                    (Pooling::Mean, "mean"),
                ] {
                    session.reset();
                    check(&session.embed(&tokens, pooling).unwrap(), key);
                }
            }
        }
    }
}

#[test]
fn a_session_goes_on_behind_an_embedded_text() {
    let model = Model::open(data().join("tiny/gemma3/model.gguf")).unwrap();
    let new = || model.session(&SessionOptions::default()).unwrap();
    let (mut a, mut b) = (new(), new());
    assert_eq!(a.embed(&[], Pooling::Mean).unwrap_err().kind(), ErrorKind::Usage);
    a.embed(&[5, 6, 7], Pooling::Mean).unwrap();
    b.eval(&[5, 6, 7]).unwrap();
    assert_eq!(a.eval(&[8]).unwrap(), b.eval(&[8]).unwrap());
}

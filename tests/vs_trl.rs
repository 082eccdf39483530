//! What is learnt from a row of data, beside TRL and transformers.
//!
//! Oracle: TRL's steps for texts and completions, transformers' mask of the assistant's tokens for conversations, on the tokenizers and
//! templates of the real models (`tests/reference/train_data.py`).

mod common;

use std::collections::HashMap;

use graft::Model;
use graft::train::data::Row;

#[test]
fn rows_become_the_tokens_that_trl_makes_of_them() {
    let cases = common::json(&common::data().join("train/data.json"));
    let mut models: HashMap<String, Model> = HashMap::new();
    let mut forms: HashMap<&str, usize> = HashMap::new();
    for case in cases.as_array().expect("cases") {
        let file = case["model"].as_str().expect("a file");
        let open = || Model::open(common::real_model(file)).unwrap_or_else(|e| panic!("{e}"));
        let model = models.entry(file.to_string()).or_insert_with(open);
        let line = case["row"].to_string();
        let row = Row::parse(line.as_bytes()).unwrap_or_else(|e| panic!("{line}: {e}"));
        let (example, cut) = row.example(model, 4096).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert!(!cut);
        let (tokens, learn) = (common::ids(&case["tokens"]), common::ids(&case["learn"]));
        // Nothing stands before the first, and nothing depends on what is behind the last that is learnt.
        let last = learn.iter().rposition(|l| *l == 1).expect("something is learnt");
        assert_eq!(example.tokens(), &tokens[..=last], "{file}: {line}");
        let learn: Vec<_> = (0..=last).map(|i| i > 0 && learn[i] == 1).collect();
        assert_eq!(example.learn(), learn, "{file}: {line}");
        *forms.entry(row.form()).or_default() += 1;

        // Cut anywhere: the beginning of the same.
        for seq in 2..=last {
            match row.example(model, seq) {
                Ok((cut, was)) => {
                    let n = cut.tokens().len();
                    assert!(was && n <= seq && cut.tokens() == &tokens[..n] && cut.learn() == &learn[..n]);
                    assert!(
                        learn[n - 1] && !learn[n..seq].contains(&true),
                        "up to the last that is learnt"
                    );
                }
                Err(e) => assert!(!learn[..seq].contains(&true), "{seq}: {line}: {e}"),
            }
        }
    }
    assert!(
        forms["text"] >= 12 && forms["completion"] >= 24 && forms["messages"] >= 10,
        "{forms:?}"
    );
}

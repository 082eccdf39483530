//! Adapter folders that ask for more memory than they have bytes, or whose parts do not belong together: an error each, before anything
//! is computed. The folders of `tests/data/adapters-bad` are those that a person would make; these need a size or a combination.

mod common;

use common::*;
use graft::adapter::{AdapterFile, AdapterOptions};
use graft::format::PeftFolder;
use graft::kernels::Precision;
use graft::{Adapter, Error, Model, SessionOptions};
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};

const Q: &str = "base_model.model.model.layers.0.self_attn.q_proj";
const EMBEDDING: &str = "base_model.model.model.embed_tokens";
/// Of llama-tied.
const HIDDEN: usize = 64;
const VOCAB: usize = 288;

fn model() -> Model {
    Model::open(data().join("tiny/llama-tied/model.gguf")).unwrap_or_else(|e| panic!("{e}"))
}

/// A folder with these fields and tensors, whose numbers are `value(key, row, column)`.
fn folder(config: Value, tensors: &[(String, Vec<usize>)], value: impl Fn(&str, usize, usize) -> f32) -> PeftFolder {
    let bytes = |key: &str, shape: &[usize]| -> Vec<u8> {
        let (n, cols) = (shape.iter().product::<usize>(), *shape.last().unwrap());
        (0..n)
            .flat_map(|i| value(key, i / cols, i % cols).to_le_bytes())
            .collect()
    };
    let stored: Vec<_> = tensors
        .iter()
        .map(|(key, shape)| (key, shape, bytes(key, shape)))
        .collect();
    let views = stored.iter().map(|(key, shape, bytes)| {
        (
            key.as_str(),
            TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap(),
        )
    });
    PeftFolder::from_bytes(config.to_string().into_bytes(), serialize(views, None).unwrap()).unwrap()
}

fn load(config: Value, tensors: &[(String, Vec<usize>)]) -> Result<Adapter, Error> {
    let folder = folder(config, tensors, |_, i, j| ((i + j) % 7) as f32 / 7.0 - 0.4);
    model().attach(&AdapterFile::of_folder(&folder, &AdapterOptions::default())?)
}

/// The text of the error that the folder must give.
fn refused(config: Value, tensors: &[(String, Vec<usize>)]) -> String {
    match load(config, tensors) {
        Ok(_) => panic!("it was taken"),
        Err(e) => e.to_string(),
    }
}

fn tensor(module: &str, name: &str, shape: &[usize]) -> (String, Vec<usize>) {
    (format!("{module}.{name}"), shape.to_vec())
}

#[test]
fn a_group_size_that_overflows_when_doubled() {
    let config = json!({"peft_type": "ROAD", "variant": "road_4", "group_size": 1u64 << 63});
    let e = refused(
        config,
        &[tensor(Q, "road_theta", &[128]), tensor(Q, "road_alpha", &[128])],
    );
    assert!(e.contains("shape does not fit"), "{e}");
}

#[test]
fn more_reflections_than_directions() {
    let e = refused(
        json!({"peft_type": "HRA", "r": 1_000_000}),
        &[tensor(Q, "hra_u", &[1, 1_000_000])],
    );
    assert!(e.contains("shape does not fit"), "{e}");
}

#[test]
fn a_lokr_factor_whose_product_is_terabytes() {
    let config = json!({"peft_type": "LOKR", "r": 1, "alpha": 1});
    let e = refused(
        config,
        &[
            tensor(Q, "lokr_w1", &[8, 8]),
            tensor(Q, "lokr_w2_a", &[1_000_000, 1]),
            tensor(Q, "lokr_w2_b", &[1, 1_000_000]),
        ],
    );
    assert!(e.contains("shape does not fit the model"), "{e}");
}

#[test]
fn a_loha_product_waits_for_the_model() {
    let (r, n) = (60, 7200);
    let config = json!({"peft_type": "LOHA", "r": r, "alpha": 1});
    let tensors = ["hada_w1_a", "hada_w2_a"]
        .map(|name| tensor(Q, name, &[n, r]))
        .into_iter();
    let tensors = tensors.chain(["hada_w1_b", "hada_w2_b"].map(|name| tensor(Q, name, &[r, n])));
    let folder = folder(config, &tensors.collect::<Vec<_>>(), |_, _, _| 0.5);
    let file = AdapterFile::of_folder(&folder, &AdapterOptions::default()).unwrap();
    assert_eq!(file.sites()[0].forms[0].name(), "from_base");
    assert!(model().attach(&file).is_err());
}

#[test]
fn blocks_of_bdlora_that_make_gigabytes() {
    let blocks = json!({"target_modules_bd_a": ["q_proj"], "nblocks": 4096});
    let config = json!({"peft_type": "LORA", "r": 4096, "lora_alpha": 1, "use_bdlora": blocks});
    let e = refused(
        config,
        &[
            tensor(Q, "lora_A.weight", &[4096, 16]),
            tensor(Q, "lora_B.weight", &[64, 4096]),
        ],
    );
    assert!(e.contains("too large"), "{e}");
}

#[test]
fn one_rotation_for_all_blocks_that_is_larger_than_the_module() {
    let config = json!({"peft_type": "OFT", "block_share": true});
    for size in [HIDDEN - 1, HIDDEN + 1] {
        let e = refused(
            config.clone(),
            &[tensor(Q, "oft_R.weight", &[1, size * (size - 1) / 2])],
        );
        assert!(e.contains("whole blocks"), "{e}");
    }
}

#[test]
fn updates_made_from_weights_are_not_for_an_embedding() {
    let config = json!({"peft_type": "MISS", "init_weights": "bat"});
    let e = refused(config, &[tensor(EMBEDDING, "miss_block", &[HIDDEN / 8, 8, 8])]);
    assert!(e.contains("on this kind of module"), "{e}");
    // PEFT starts LoRA on an embedding as usual, whatever the option says.
    let config = json!({"peft_type": "LORA", "r": 2, "init_lora_weights": "pissa"});
    let tensors = [
        tensor(EMBEDDING, "lora_embedding_A", &[2, VOCAB]),
        tensor(EMBEDDING, "lora_embedding_B", &[HIDDEN, 2]),
    ];
    load(config, &tensors).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn a_replaced_weight_of_another_shape_is_found_before_it_is_used() {
    let config = json!({"peft_type": "LORA", "r": 2, "init_lora_weights": "pissa", "modules_to_save": ["q_proj"]});
    let e = refused(
        config,
        &[
            tensor(Q, "base_layer.weight", &[HIDDEN, HIDDEN - 1]),
            tensor(Q, "lora_A.weight", &[2, HIDDEN]),
            tensor(Q, "lora_B.weight", &[HIDDEN, 2]),
        ],
    );
    assert!(e.contains("shape does not fit the model"), "{e}");
}

#[test]
fn a_thousand_large_expressions() {
    let config = |expression: &str| {
        let patterns: serde_json::Map<_, _> = (0..1000).map(|i| (format!("{expression}{i}"), json!(3))).collect();
        json!({"peft_type": "LORA", "r": 2, "rank_pattern": patterns})
    };
    let tensors = [
        tensor(Q, "lora_A.weight", &[2, HIDDEN]),
        tensor(Q, "lora_B.weight", &[HIDDEN, 2]),
    ];
    let e = refused(config(r"\w"), &tensors);
    assert!(e.contains("too many regular expressions"), "{e}");
    let e = refused(config(r"\w{100}"), &tensors);
    assert!(e.contains("size limit"), "{e}");
    // As many plain paths are what PEFT writes for large models.
    let mut patterns: serde_json::Map<_, _> = (0..100_000)
        .map(|i| (format!("layers.{i}.q_proj.other"), json!(3)))
        .collect();
    patterns.insert("layers.0.self_attn.q_proj".into(), json!(2));
    let config = json!({"peft_type": "LORA", "r": 5, "rank_pattern": patterns});
    load(config, &tensors).unwrap_or_else(|e| panic!("{e}"));
}

/// DoRA's norms are computed in another way where the rank is larger than the module's input: rows of zeros in A change nothing.
#[test]
fn a_dora_of_a_high_rank_has_the_norms_of_its_product() {
    let model = model();
    let logits = |rank: usize| {
        let config = json!({"peft_type": "LORA", "r": rank, "lora_alpha": rank, "use_dora": true});
        let tensors = [
            tensor(Q, "lora_A.weight", &[rank, HIDDEN]),
            tensor(Q, "lora_B.weight", &[HIDDEN, rank]),
            tensor(Q, "lora_magnitude_vector", &[HIDDEN]),
        ];
        let folder = folder(config, &tensors, |key, i, j| match key {
            _ if key.ends_with("vector") => 1.0 + j as f32 / 100.0,
            _ if key.contains("lora_A") && i >= 60 => 0.0,
            _ => ((i * 37 + j * 11) % 101) as f32 / 100.0 - 0.45,
        });
        let file = AdapterFile::of_folder(&folder, &AdapterOptions::default()).unwrap();
        let options = SessionOptions {
            precision: Precision::Exact,
            ..Default::default()
        };
        let mut session = model.session(&options).unwrap();
        session.set_adapters(&[(model.attach(&file).unwrap(), 1.0)]).unwrap();
        session.eval(&[5, 9, 100]).unwrap().to_vec()
    };
    let plain = model
        .session(&SessionOptions::default())
        .unwrap()
        .eval(&[5, 9, 100])
        .unwrap()
        .to_vec();
    let (low, high) = (logits(60), logits(70));
    for (low, high) in low.iter().zip(&high) {
        assert!(logit_error(*high, *low) < 1e-4, "{low} and {high}");
    }
    assert!(
        low.iter().zip(&plain).any(|(a, b)| (a - b).abs() > 0.1),
        "the adapter does nothing"
    );
}

//! Oracle: PEFT's `add_weighted_adapter` (tests/reference/combine.py), and for what it leaves to chance the definitions.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::*;
use graft::adapter::mix::{CombinationType, Combine, Combined, MajoritySign, combine};
use graft::format::safetensors::Dtype;
use graft::format::{AdapterTensor, LoadMode, PeftFolder, SafeTensors, write_peft_folder};
use graft::kernels::Precision;
use graft::{ErrorKind, Model, SessionOptions};
use serde_json::{Value, json};

/// f32 sums in another order.
const BOUND: f32 = 2e-6;
/// Products of singular vectors by another algorithm, in f64 here and in f32 there.
const SVD_BOUND: f32 = 2e-5;
/// The vectors themselves, which depend on the gaps between singular values.
const VECTOR_BOUND: f32 = 1e-4;

fn adapter(name: &str) -> PathBuf {
    let own = data().join("combine/adapters").join(name);
    if own.exists() {
        own
    } else {
        data().join("tiny/llama-tied/adapters").join(name)
    }
}

fn mixed(adapters: &[(PathBuf, f32)], options: &Combine) -> graft::Result<Combined> {
    let folders = adapters
        .iter()
        .map(|(dir, weight)| Ok((PeftFolder::open(dir)?, *weight)))
        .collect::<graft::Result<Vec<_>>>()?;
    let folders: Vec<_> = folders.iter().map(|(f, w)| (f, *w)).collect();
    let mut last = 0.0;
    combine(&folders, options, &mut |share| {
        assert!(last <= share && share <= 1.0);
        last = share;
    })
}

/// The mix as a folder that has been written and opened again.
fn written(combined: &Combined) -> (tempfile::TempDir, PeftFolder) {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("mix");
    combined.write(&dir).unwrap_or_else(|e| panic!("{e}"));
    let folder = PeftFolder::open(&dir).unwrap_or_else(|e| panic!("{e}"));
    (temporary, folder)
}

/// B A of a module, `[out][in]`.
fn product(a: &(Vec<usize>, Vec<f32>), b: &(Vec<usize>, Vec<f32>)) -> Vec<f32> {
    let ([rank, inputs], [outputs, _]) = (a.0[..].try_into().unwrap(), b.0[..].try_into().unwrap());
    let mut product = vec![0.0; outputs * inputs];
    for o in 0..outputs {
        for r in 0..rank {
            for i in 0..inputs {
                product[o * inputs + i] += b.1[o * rank + r] * a.1[r * inputs + i];
            }
        }
    }
    product
}

/// The largest difference, where 1 is the largest of the oracle's magnitudes.
fn error(ours: &[f32], oracle: &[f32]) -> f32 {
    assert_eq!(ours.len(), oracle.len());
    let scale = oracle.iter().fold(0.0f32, |m, x| m.max(x.abs())).max(1e-20);
    ours.iter().zip(oracle).fold(0.0f32, |worst, (a, b)| {
        let e = (a - b).abs() / scale;
        if e.is_nan() { f32::INFINITY } else { worst.max(e) }
    })
}

fn options(case: &Value) -> Combine {
    let kind = case["type"].as_str().unwrap();
    let kind = CombinationType::ALL.iter().find(|t| t.0 == kind).unwrap().1;
    let given = &case["options"];
    Combine {
        density: given["density"].as_f64(),
        majority_sign: given["majority_sign_method"].as_str().map(|m| match m {
            "frequency" => MajoritySign::Frequency,
            _ => MajoritySign::Total,
        }),
        svd_rank: given["svd_rank"].as_u64().map(|r| r as usize),
        svd_clamp: given["svd_clamp"].as_f64(),
        ..Combine::new(kind)
    }
}

#[test]
fn mixes_have_the_numbers_of_peft() {
    let base = data().join("combine");
    let cases = json(&base.join("cases.json"));
    let mut kinds = std::collections::BTreeSet::new();
    for case in cases["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let adapters: Vec<_> = case["adapters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| {
                let dir = base.join(a["dir"].as_str().unwrap());
                (dir, a["weight"].as_f64().unwrap() as f32)
            })
            .collect();
        let options = options(case);
        kinds.insert(options.kind.name());
        let combined = mixed(&adapters, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (_temporary, ours) = written(&combined);
        let oracle = SafeTensors::open(&base.join(format!("{name}.safetensors")), LoadMode::Read).unwrap();

        let mut names: Vec<_> = ours.tensors().map(|t| t.name.to_owned()).collect();
        let mut expected: Vec<_> = oracle.names().map(str::to_owned).collect();
        names.sort();
        expected.sort();
        assert_eq!(names, expected, "{name}");
        let ours_of = |key: &str| {
            let t = ours.tensor(key).unwrap();
            (t.shape.to_vec(), t.to_f32().unwrap())
        };
        let oracle_of = |key: &str| {
            let t = oracle.tensor(key).unwrap();
            (t.shape.to_vec(), t.to_f32().unwrap())
        };
        let mut worst = 0.0f32;
        for key in &names {
            let (ours, oracle) = (ours_of(key), oracle_of(key));
            assert_eq!(ours.0, oracle.0, "{name}: {key}");
            if options.kind.is_svd() && options.svd_clamp.is_none() {
                if key.contains("_A") {
                    let b = key.replace("_A", "_B");
                    let e = error(&product(&ours, &ours_of(&b)), &product(&oracle, &oracle_of(&b)));
                    worst = worst.max(e);
                    assert!(e < SVD_BOUND, "{name}: {key}: {e}");
                }
            } else {
                let bound = if options.kind.is_svd() { VECTOR_BOUND } else { BOUND };
                let e = error(&ours.1, &oracle.1);
                worst = worst.max(e);
                assert!(e < bound, "{name}: {key}: {e}");
            }
        }
        println!("{name}: largest error {worst:.1e}, captured {:?}", combined.captured());
        check_config(name, &ours, &case["config"]);
    }
    assert_eq!(kinds.len(), CombinationType::ALL.len());
}

fn check_config(name: &str, ours: &PeftFolder, oracle: &Value) {
    for (field, expected) in oracle.as_object().unwrap() {
        let mut found = ours.value(field).unwrap_or_else(|| panic!("{name}: {field}")).clone();
        if let Some(list) = found.as_array_mut() {
            list.sort_by_key(|v| v.as_str().unwrap().to_owned());
        }
        assert_eq!(found, *expected, "{name}: {field}");
    }
    if ours.peft_type().unwrap() == "LORA" {
        assert_eq!(ours.value("use_rslora"), Some(&json!(false)), "{name}");
        assert_eq!(ours.value("rank_pattern"), Some(&json!({})), "{name}");
    }
}

#[test]
fn cat_is_all_adapters_at_once() {
    let model = Model::open(data().join("tiny/llama-tied/model.gguf")).unwrap();
    let adapters = [("patterns", 0.6), ("qv", -0.9), ("rslora", 1.1)].map(|(n, w)| (adapter(n), w));
    let (temporary, _folder) = written(&mixed(&adapters, &Combine::new(CombinationType::Cat)).unwrap());
    let tokens: Vec<u32> = (0..40).map(|i| 4 + i * 7 % 280).collect();
    let logits = |adapters: &[(graft::Adapter, f32)]| {
        let options = SessionOptions {
            precision: Precision::Exact,
            ..Default::default()
        };
        let mut session = model.session(&options).unwrap();
        session.set_adapters(adapters).unwrap();
        session.eval(&tokens).unwrap().to_vec()
    };
    let together: Vec<_> = adapters
        .iter()
        .map(|(dir, w)| (model.load_adapter(dir).unwrap(), *w))
        .collect();
    let mix = model.load_adapter(temporary.path().join("mix")).unwrap();
    let (one, many, none) = (logits(&[(mix, 1.0)]), logits(&together), logits(&[]));
    assert!(one.iter().zip(&many).all(|(a, b)| logit_error(*a, *b) < 1e-4));
    assert!(one.iter().zip(&none).any(|(a, b)| logit_error(*a, *b) > 0.1));
}

#[test]
fn one_adapter_at_a_lower_rank_keeps_what_it_can() {
    let (all, half) = ([8, 4])
        .map(|rank| {
            let options = Combine {
                svd_rank: Some(rank),
                ..Combine::new(CombinationType::Svd)
            };
            mixed(&[(adapter("qv"), 1.0)], &options).unwrap()
        })
        .into();
    assert_eq!((all.rank(), half.rank()), (Some(8), Some(4)));
    assert!((all.captured().unwrap() - 1.0).abs() < 1e-6);
    assert!((0.5..0.99).contains(&half.captured().unwrap()));
}

#[test]
fn dare_drops_at_random_and_scales_what_stays() {
    let run = |seed, weight| {
        let options = Combine {
            density: Some(0.3),
            seed: Some(seed),
            ..Combine::new(CombinationType::DareLinear)
        };
        written(&mixed(&[(adapter("qv"), weight)], &options).unwrap()).1
    };
    let values = |f: &PeftFolder, key: &str| f.tensor(key).unwrap().to_f32().unwrap();
    let (ours, again, other) = (run(1, 0.5), run(1, 0.5), run(2, 0.5));
    let source = PeftFolder::open(&adapter("qv")).unwrap();
    let (mut kept, mut all) = (0, 0);
    for t in source.tensors() {
        let mixed = values(&ours, t.name);
        assert_eq!(mixed, values(&again, t.name));
        assert_ne!(mixed, values(&other, t.name));
        for (x, y) in t.to_f32().unwrap().iter().zip(&mixed) {
            // Weight 0.5 and scale 2, so the root of 1.
            assert!(*y == 0.0 || (y - x / 0.3).abs() <= 1e-6 * y.abs(), "{x} {y}");
            kept += usize::from(*y != 0.0);
            all += 1;
        }
    }
    let (share, deviation) = (kept as f64 / all as f64, (0.3f64 * 0.7 / all as f64).sqrt());
    assert!((share - 0.3).abs() < 5.0 * deviation, "{kept} of {all}");
}

/// A folder like `name`, with fields of the config changed.
fn changed(temporary: &Path, name: &str, fields: &[(&str, Value)]) -> PathBuf {
    let dir = temporary.join(fields.iter().map(|f| f.0).collect::<String>());
    fs::create_dir(&dir).unwrap();
    let tensors = "adapter_model.safetensors";
    fs::copy(adapter(name).join(tensors), dir.join(tensors)).unwrap();
    let mut config = json(&adapter(name).join("adapter_config.json"));
    for (field, value) in fields {
        config[*field] = value.clone();
    }
    fs::write(dir.join("adapter_config.json"), config.to_string()).unwrap();
    dir
}

#[test]
fn what_cannot_be_mixed_is_refused_by_name() {
    let temporary = tempfile::tempdir().unwrap();
    let cat = Combine::new(CombinationType::Cat);
    for (field, value) in [
        ("use_dora", json!(true)),
        ("lora_bias", json!(true)),
        ("bias", json!("all")),
        ("modules_to_save", json!(["lm_head"])),
        ("trainable_token_indices", json!([1, 2])),
        ("alora_invocation_tokens", json!([1, 2])),
        ("layer_replication", json!([[0, 1]])),
        ("target_parameters", json!(["experts"])),
        ("use_qalora", json!(true)),
        ("use_bdlora", json!({})),
        ("kasa_config", json!({})),
        ("monteclora_config", json!({})),
        ("arrow_config", json!({})),
        ("init_lora_weights", json!("pissa")),
        ("something_new", json!(1)),
    ] {
        let dir = changed(temporary.path(), "qv", &[(field, value)]);
        let e = mixed(&[(adapter("qv"), 1.0), (dir.clone(), 1.0)], &cat)
            .err()
            .expect(field);
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
        assert_eq!(e.item_name(), Some(field), "{e}");
        assert!(e.path().unwrap().starts_with(&dir), "{e}");
    }
    let dir = changed(temporary.path(), "qv", &[("peft_type", json!("ADALORA"))]);
    for (adapters, options, words) in [
        (vec![(dir, 1.0)], cat.clone(), "LORA or IA3"),
        (
            vec![(adapter("qv"), 1.0), (adapter("ia3-a"), 1.0)],
            cat.clone(),
            "two methods",
        ),
        (vec![(adapter("ia3-a"), 1.0)], cat.clone(), "expected linear"),
        (vec![(adapter("qv"), f32::NAN)], cat.clone(), "not a finite"),
        (vec![], cat, "no adapter"),
        (
            vec![(adapter("qv"), 1.0), (adapter("all-linear"), 1.0)],
            Combine::new(CombinationType::Linear),
            "same rank",
        ),
    ] {
        let e = mixed(&adapters, &options).err().expect(words).to_string();
        assert!(e.contains(words) && !e.contains('\n'), "{e}");
    }
}

#[test]
fn options_must_belong_to_the_type() {
    let new = Combine::new;
    use CombinationType as T;
    let with = |kind, set: &dyn Fn(&mut Combine)| {
        let mut options = new(kind);
        set(&mut options);
        options
    };
    for (options, item) in [
        (new(T::Ties), "density"),
        (with(T::Ties, &|o| o.density = Some(0.0)), "density"),
        (with(T::DareTies, &|o| o.density = Some(1.5)), "density"),
        (with(T::DareTies, &|o| o.density = Some(f64::NAN)), "density"),
        (with(T::Linear, &|o| o.density = Some(0.5)), "density"),
        (
            with(T::Svd, &|o| o.majority_sign = Some(MajoritySign::Total)),
            "majority-sign",
        ),
        (with(T::Cat, &|o| o.svd_rank = Some(4)), "rank"),
        (with(T::Svd, &|o| o.svd_rank = Some(0)), "rank"),
        (with(T::Svd, &|o| o.svd_clamp = Some(0.5)), "svd-clamp"),
        (with(T::Cat, &|o| o.svd_clamp = Some(0.9)), "svd-clamp"),
        (with(T::Svd, &|o| o.seed = Some(1)), "seed"),
    ] {
        let e = options.validate().expect_err(item);
        assert_eq!((e.kind(), e.item_name()), (ErrorKind::Usage, Some(item)), "{e}");
    }
}

/// PEFT saves the embedding itself with an adapter of it.
#[test]
fn the_bases_embedding_is_kept_if_all_agree() {
    let temporary = tempfile::tempdir().unwrap();
    let make = |name: &str, base: f32, lora: f32| {
        let dir = temporary.path().join(name);
        let config = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 2, "target_modules": ["embed_tokens"],
            "layers_to_transform": null});
        let Value::Object(config) = config else { return dir };
        let prefix = "base_model.model.model.embed_tokens.";
        let names = ["base_layer.weight", "lora_embedding_A", "lora_embedding_B"].map(|n| format!("{prefix}{n}"));
        let values: [Vec<f32>; 3] = [vec![base; 6], vec![lora; 3], vec![lora; 2]];
        let shapes: [&[usize]; 3] = [&[3, 2], &[1, 3], &[2, 1]];
        let tensors: Vec<_> = (0..3)
            .map(|i| AdapterTensor {
                name: &names[i],
                dtype: if i == 0 { Dtype::BF16 } else { Dtype::F32 },
                shape: shapes[i],
                values: &values[i],
            })
            .collect();
        write_peft_folder(&dir, &config, &tensors).unwrap();
        dir
    };
    let (a, b, other) = (make("a", 0.5, 1.0), make("b", 0.5, 3.0), make("other", 0.25, 3.0));
    let cat = Combine::new(CombinationType::Cat);
    let (_temporary, ours) = written(&mixed(&[(a.clone(), 1.0), (b, 1.0)], &cat).unwrap());
    let kept = ours
        .tensor("base_model.model.model.embed_tokens.base_layer.weight")
        .unwrap();
    assert_eq!((kept.dtype, kept.to_f32().unwrap()), (Dtype::BF16, vec![0.5; 6]));
    let a_factor = ours
        .tensor("base_model.model.model.embed_tokens.lora_embedding_A")
        .unwrap();
    assert_eq!(a_factor.to_f32().unwrap(), [2.0, 2.0, 2.0, 6.0, 6.0, 6.0]);
    let e = mixed(&[(a, 1.0), (other, 1.0)], &cat).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Mismatch, "{e}");
}

/// Names that would also stand for other modules, or not for all, are written out.
#[test]
fn target_modules_name_what_is_in_the_file() {
    let temporary = tempfile::tempdir().unwrap();
    let cat = Combine::new(CombinationType::Cat);
    for fields in [
        vec![("target_modules", json!("model\\..*\\.(q|v)_proj"))],
        vec![("layers_to_transform", json!(0))],
        vec![("exclude_modules", json!(["k_proj"]))],
    ] {
        let dir = changed(temporary.path(), "qv", &fields);
        let (_temporary, ours) = written(&mixed(&[(adapter("f16"), 1.0), (dir, 1.0)], &cat).unwrap());
        let targets = ours.list("target_modules").unwrap().unwrap();
        // q, v, o and up of two layers.
        assert_eq!(targets.len(), 8, "{targets:?}");
        assert!(targets.contains(&json!("model.layers.1.self_attn.v_proj")));
        let narrowing = |f| ours.value(f).is_none_or(Value::is_null);
        assert!(narrowing("layers_to_transform") && narrowing("exclude_modules"));
    }
}

/// Bytes changed at random: a mix or an error, never a panic. (That it ends, too.)
#[test]
fn broken_files_are_errors() {
    let files = ["patterns", "embed-a", "ia3-a"].map(|name| {
        let read = |file: &str| fs::read(adapter(name).join(file)).unwrap();
        (read("adapter_config.json"), read("adapter_model.safetensors"))
    });
    let mut rng = graft::rng::Rng::new(3);
    let mut at = |len: usize| (rng.next() % len as u64) as usize;
    let mut done = 0;
    for round in 0..3000 {
        let (mut config, mut tensors) = files[round % 3].clone();
        // Half of the changes in the header, where they matter.
        let (bytes, end) = match round % 4 {
            0 => (&mut tensors, 4000),
            1 => (&mut tensors, usize::MAX),
            _ => (&mut config, usize::MAX),
        };
        let i = at(bytes.len().min(end));
        bytes[i] = if round % 8 < 4 {
            b"0123456789,:\"[]{}"[at(17)]
        } else {
            at(256) as u8
        };
        let Ok(broken) = PeftFolder::from_bytes(config, tensors) else {
            continue;
        };
        let whole = PeftFolder::from_bytes(files[round % 3].0.clone(), files[round % 3].1.clone()).unwrap();
        let kind = match round % 3 {
            2 => CombinationType::Linear,
            _ => CombinationType::ALL[at(11)].1,
        };
        let options = Combine {
            density: kind.prunes().then_some(0.5),
            ..Combine::new(kind)
        };
        if combine(&[(&whole, 0.5), (&broken, 0.5)], &options, &mut |_| ()).is_ok() {
            done += 1;
        }
    }
    assert!(done > 100, "only {done} mixes got so far");
}

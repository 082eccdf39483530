//! New adapters. Oracle: how PEFT begins them (tests/reference/train_start.py): keys, shapes, the config, numbers where PEFT always has the
//! same, else how they are distributed.

mod common;

use std::collections::BTreeMap;

use common::*;
use graft::kernels::Precision;
use graft::runtime::SessionOptions;
use graft::train::{Example, Init, NewAdapter, Parameters, Targets, TrainOptions, Trainer, methods};
use graft::{ErrorKind, Model};
use serde_json::Value;

fn tiny(name: &str) -> Model {
    Model::open(data().join("tiny").join(name).join("model.gguf")).unwrap()
}

/// What the options of a case say.
fn new_adapter(options: &Value) -> NewAdapter {
    let mut new = NewAdapter::of(options["method"].as_str().unwrap()).unwrap();
    for (name, value) in options.as_object().unwrap() {
        let (text, number) = (value.as_str(), value.as_u64().map(|n| n as usize));
        match name.as_str() {
            "method" => {}
            "r" => new.r = number.unwrap(),
            "dropout" => new.dropout = value.as_f64().unwrap(),
            "init" => new.init = Init::named(text.unwrap()).unwrap(),
            "targets" => new.targets = Targets::parse(text.unwrap()),
            "oft_block_size" => new.oft_block_size = number.unwrap(),
            "boft_block_size" => new.boft_block_size = number.unwrap(),
            "group_size" => new.group_size = number.unwrap(),
            "num_virtual_tokens" => new.num_virtual_tokens = number.unwrap(),
            "token_indices" => new.token_indices = ids(value),
            "modules_to_save" => {
                let names = value.as_array().unwrap().iter();
                new.modules_to_save = names.map(|n| n.as_str().unwrap().into()).collect();
            }
            other => panic!("{other}"),
        }
    }
    new
}

/// A list that PEFT keeps as a set may be in any order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(list) if list.iter().all(Value::is_string) => {
            let mut list = list.clone();
            list.sort_by_key(|v| v.to_string());
            Value::Array(list)
        }
        // An integer is what PEFT was given, a float what Graft keeps.
        Value::Number(n) => n.as_f64().into(),
        other => other.clone(),
    }
}

fn check_config(ours: &serde_json::Map<String, Value>, case: &Value) -> Result<(), String> {
    let peft = case["config"].as_object().unwrap();
    for (field, value) in ours {
        let Some(theirs) = peft.get(field) else {
            return Err(format!("PEFT has no field {field}"));
        };
        // Of all linear maps PEFT keeps whole paths, if they are few. The keys tell which modules there are.
        let all = field == "target_modules" && case["options"]["targets"].is_null() && theirs.is_array();
        if !all && sorted(value) != sorted(theirs) {
            return Err(format!("{field}: {value}, PEFT {theirs}"));
        }
    }
    // What is not there takes PEFT's default when PEFT loads it.
    for (field, theirs) in peft {
        if !ours.contains_key(field) && *theirs != case["defaults"][field] {
            return Err(format!("{field} is missing, PEFT {theirs}"));
        }
    }
    Ok(())
}

fn check(case: &Value) -> Result<(), String> {
    let model = Model::open(data().join("train").join(case["model"].as_str().unwrap())).unwrap();
    let begun = Parameters::start(&model, &new_adapter(&case["options"])).map_err(|e| e.to_string())?;
    // As it is saved.
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("a");
    begun.save(&dir).unwrap();
    let parameters = Parameters::open(&dir).unwrap();
    check_config(parameters.config(), case)?;
    let tensors = case["tensors"].as_object().unwrap();
    if let Some(p) = parameters.all().iter().find(|p| !tensors.contains_key(&p.key)) {
        return Err(format!("PEFT has no tensor {}", p.key));
    }
    let mut drawn: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (key, tensor) in tensors {
        let ours = parameters.get(key).ok_or_else(|| format!("no tensor {key}"))?;
        if ids(&tensor["shape"]) != ours.shape.iter().map(|n| *n as u32).collect::<Vec<_>>() {
            return Err(format!("{key}: {:?}, PEFT {}", ours.shape, tensor["shape"]));
        }
        let values = ours.values.iter().map(|v| f64::from(*v));
        if let Some(oracle) = tensor["squares"].as_f64() {
            // Of a weight as random as the tiny models' the largest singular values are hardly larger than the next.
            let squares: f64 = values.map(|v| v * v).sum();
            if (squares / oracle - 1.0).abs() > 1e-2 {
                return Err(format!("{key}: squares {squares}, PEFT {oracle}"));
            }
            continue;
        }
        let Some(fixed) = tensor["fixed"].as_array() else {
            let name = key.trim_end_matches(".weight").rsplit('.').next().unwrap();
            drawn.entry(name).or_default().extend(values);
            continue;
        };
        let all: Vec<f64> = values.collect();
        let ours = [all.iter().sum(), all[0], all[all.len() - 1]];
        for (ours, theirs) in ours.iter().zip(fixed) {
            let theirs = theirs.as_f64().unwrap();
            // Sums of numbers of both signs: a share of their size.
            let size = all.iter().map(|v| v.abs()).sum::<f64>() / 1e3 + theirs.abs();
            if (ours - theirs).abs() > 1e-5 * size {
                return Err(format!("{key}: {ours}, PEFT {theirs}"));
            }
        }
    }
    for (name, oracle) in case["drawn"].as_object().unwrap() {
        let values = drawn
            .remove(name.as_str())
            .ok_or_else(|| format!("nothing drawn for {name}"))?;
        let n = values.len() as f64;
        assert_eq!(oracle["n"], values.len());
        let mean = values.iter().sum::<f64>() / n;
        let moment = |k| values.iter().map(|v| v.powi(k)).sum::<f64>() / n;
        let (deviation, kurtosis) = (moment(2).sqrt(), moment(4) / moment(2).powi(2));
        let number = |what: &str| oracle[what].as_f64().unwrap();
        // Six standard errors of both; a tensor in which each number stands twice has half as many.
        let near = 6.0 * (4.0 / n).sqrt();
        if mean.abs() > near * deviation || (deviation / number("deviation") - 1.0).abs() > near {
            return Err(format!("{name}: mean {mean}, deviation {deviation}, PEFT {oracle}"));
        }
        // Of a uniform one it is 1.8, of a normal one 3.
        if n > 2000.0 && (kurtosis - number("kurtosis")).abs() > 0.5 {
            return Err(format!("{name}: kurtosis {kurtosis}, PEFT {oracle}"));
        }
    }
    match drawn.is_empty() {
        true => Ok(()),
        false => Err(format!("PEFT draws nothing for {:?}", drawn.keys())),
    }
}

#[test]
fn new_adapters_are_as_peft_begins_them() {
    let cases = json(&data().join("train/start.json"));
    let cases = cases.as_array().unwrap();
    let failed: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let e = check(case).err()?;
            Some(format!("{} {}: {e}", case["model"], case["options"]))
        })
        .collect();
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    for method in methods() {
        assert!(cases.iter().any(|c| c["options"]["method"] == method), "{method}");
    }
}

/// One of each method that fits the tiny models, whose narrowest module has 16 outputs.
fn small(method: &str) -> NewAdapter {
    let new = NewAdapter::of(method).unwrap();
    NewAdapter {
        r: if method == "vera" { 64 } else { 4 },
        group_size: if method == "road" { 16 } else { new.group_size },
        num_virtual_tokens: if method.starts_with('p') {
            6
        } else {
            new.num_virtual_tokens
        },
        token_indices: if method == "trainable_tokens" {
            vec![5, 12, 19, 33]
        } else {
            Vec::new()
        },
        ..new
    }
}

#[test]
fn a_new_adapter_changes_nothing_at_first() {
    for name in ["llama-tied", "qwen2", "gemma3"] {
        let model = tiny(name);
        let options = SessionOptions {
            precision: Precision::Exact,
            ..Default::default()
        };
        let mut session = model.session(&options).unwrap();
        let tokens: Vec<u32> = (5..25).collect();
        let plain = session.eval(&tokens).unwrap().to_vec();
        for method in methods().into_iter().filter(|m| !m.starts_with('p')) {
            let mut new = small(method);
            if !["trainable_tokens", "ln_tuning"].contains(&method) {
                new.modules_to_save = vec!["embed_tokens".into(), "norm".into()];
            }
            let parameters = Parameters::start(&model, &new).unwrap();
            let adapter = model.attach(&parameters.file().unwrap()).unwrap();
            session.reset();
            session.set_adapters(&[(adapter, 1.0)]).unwrap();
            let logits = session.eval(&tokens).unwrap();
            // DoRA divides by norms that are 1 but for rounding; HRA reflects twice.
            for (a, b) in logits.iter().zip(&plain) {
                assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{name} {method}: {a} for {b}");
            }
        }
    }
}

/// The same of updates that begin as a part of the weight, which the adapter takes off again; what it takes off stays as it was.
#[test]
fn what_is_taken_from_the_weight_is_taken_off_and_not_trained() {
    let path = tempfile::tempdir().unwrap();
    let checkpoint = path.path().join("c");
    for (name, method, init) in [
        ("llama-tied", "lora", "pissa"),
        ("gemma3", "rslora", "pissa"),
        ("qwen2", "lora", "olora"),
    ] {
        let model = tiny(name);
        let new = NewAdapter {
            init: Init::named(init).unwrap(),
            r: 4,
            ..NewAdapter::of(method).unwrap()
        };
        let parameters = Parameters::start(&model, &new).unwrap();
        let started: Vec<_> = parameters
            .all()
            .iter()
            .filter(|p| p.key.ends_with(".start"))
            .cloned()
            .collect();
        assert_eq!(2 * started.len(), parameters.all().len());
        let example = [Example::all((0..24).map(|i| (i * 7) % 90 + 5).collect())];
        let options = TrainOptions {
            steps: 10,
            lr: 2e-3,
            weight_decay: 0.1,
            seq: 32,
            precision: Precision::Exact,
            ..Default::default()
        };
        let mut trainer = Trainer::new(&model, parameters, options.clone()).unwrap();
        let before = trainer.evaluate(&example).unwrap();
        let mut plain = model
            .session(&SessionOptions {
                precision: Precision::Exact,
                ..Default::default()
            })
            .unwrap();
        let logits = plain.eval(example[0].tokens()).unwrap().to_vec();
        plain.reset();
        plain.set_adapters(&[(trainer.adapter().unwrap(), 1.0)]).unwrap();
        for (a, b) in plain.eval(example[0].tokens()).unwrap().iter().zip(&logits) {
            assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{name}: {a} for {b}");
        }
        for step in 0..10 {
            // Stopped and gone on with, it is the same training.
            if step == 5 {
                trainer.save_checkpoint(&checkpoint, &Value::Null).unwrap();
            }
            trainer.step(&example).unwrap();
        }
        let after = trainer.evaluate(&example).unwrap();
        assert!(after < 0.9 * before, "{name}: {before} to {after}");
        let (mut second, _) = Trainer::resume(&model, options, &checkpoint).unwrap();
        for _ in 5..10 {
            second.step(&example).unwrap();
        }
        for (p, again) in trainer
            .learner()
            .parameters()
            .all()
            .iter()
            .zip(second.learner().parameters().all())
        {
            assert_eq!(p.values, again.values, "{}", p.key);
        }
        for start in &started {
            let now = trainer.learner().parameters().get(&start.key).unwrap();
            assert!(now.values == start.values && !now.trained, "{}", start.key);
        }
        // The file holds both as one, of twice the rank, and goes on as a plain LoRA.
        let dir = path.path().join(name);
        trainer.save(&dir).unwrap();
        let saved = Parameters::open(&dir).unwrap();
        assert_eq!(saved.config()["r"], 8);
        let mut plain = Trainer::new(
            &model,
            saved,
            TrainOptions {
                seq: 32,
                precision: Precision::Exact,
                ..Default::default()
            },
        )
        .unwrap();
        let same = plain.evaluate(&example).unwrap();
        assert!((same / after - 1.0).abs() < 1e-5, "{same} for {after}");
    }
}

#[test]
fn every_method_learns_from_its_beginning() {
    let example = [Example::all((0..24).map(|i| (i * 7) % 90 + 5).collect())];
    for name in ["qwen2", "gemma3"] {
        let model = tiny(name);
        for method in methods() {
            let options = TrainOptions {
                steps: 10,
                lr: 2e-2,
                seq: 32,
                precision: Precision::Exact,
                ..Default::default()
            };
            let mut new = small(method);
            if name == "gemma3" && !method.starts_with('p') && !["trainable_tokens", "ln_tuning"].contains(&method) {
                new.modules_to_save = vec!["lm_head".into(), "norm".into()];
            }
            let parameters = Parameters::start(&model, &new).unwrap();
            let mut trainer = Trainer::new(&model, parameters, options).unwrap();
            let before = trainer.evaluate(&example).unwrap();
            for _ in 0..10 {
                trainer.step(&example).unwrap();
            }
            let after = trainer.evaluate(&example).unwrap();
            println!("{name:12} {method:18} {before:.3} to {after:.3}");
            assert!(after < 0.99 * before, "{name} {method}: {before} to {after}");
            // What is saved is what was trained, on a folder's way too.
            let folder = tempfile::tempdir().unwrap();
            let dir = folder.path().join("a");
            trainer.save(&dir).unwrap();
            let again = Parameters::open(&dir).unwrap();
            assert_eq!(again.all().len(), trainer.learner().parameters().all().len());
            model.load_adapter(&dir).unwrap();
        }
    }
}

/// The embedding's rows as a model has them.
fn table(model: &Model) -> (usize, Vec<f32>) {
    let new = NewAdapter {
        modules_to_save: vec!["embed_tokens".into()],
        ..Default::default()
    };
    let parameters = Parameters::start(model, &new).unwrap();
    let p = parameters.get("base_model.model.model.embed_tokens.weight").unwrap();
    (p.shape[1], p.values.clone())
}

#[test]
fn a_prompt_begins_with_embeddings() {
    for name in ["llama-tied", "gemma3"] {
        let model = tiny(name);
        let (width, table) = table(&model);
        // Gemma's embeddings are multiplied by √width before the layers see them.
        let scale = if name == "gemma3" { (width as f32).sqrt() } else { 1.0 };
        let row = |id: usize| {
            table[id * width..][..width]
                .iter()
                .map(|v| v * scale)
                .collect::<Vec<f32>>()
        };
        let begin = |text: Option<&str>| {
            let new = NewAdapter {
                num_virtual_tokens: 9,
                prompt_tuning_init_text: text.map(str::to_owned),
                ..NewAdapter::of("prompt_tuning").unwrap()
            };
            let parameters = Parameters::start(&model, &new).unwrap();
            parameters.all()[0]
                .values
                .chunks(width)
                .map(<[f32]>::to_vec)
                .collect::<Vec<_>>()
        };
        let random = begin(None);
        let found: std::collections::BTreeSet<usize> = random
            .iter()
            .map(|r| {
                (0..table.len() / width)
                    .find(|id| row(*id) == *r)
                    .expect("a row of the table")
            })
            .collect();
        assert!(found.len() > 6, "{found:?}");
        let text = "so";
        let ids = model.tokenizer().unwrap().encode(text, Default::default()).unwrap();
        for (i, r) in begin(Some(text)).iter().enumerate() {
            assert_eq!(*r, row(ids[i % ids.len()] as usize), "{name} {i}");
        }
    }
}

#[test]
fn the_same_seed_begins_the_same() {
    let model = tiny("llama-tied");
    for method in methods() {
        let begin = |seed| {
            let parameters = Parameters::start(&model, &NewAdapter { seed, ..small(method) }).unwrap();
            let all = parameters.all().iter();
            all.flat_map(|p| p.values.iter().map(|v| v.to_bits()))
                .collect::<Vec<_>>()
        };
        assert_eq!(begin(1), begin(1), "{method}");
        let drawn = [
            "lora",
            "rslora",
            "dora",
            "adalora",
            "loha",
            "lokr",
            "hra",
            "prompt_tuning",
            "prefix_tuning",
        ];
        assert_eq!(begin(1) != begin(2), drawn.contains(&method), "{method}");
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let model = tiny("llama-tied");
    type Change<'a> = &'a dyn Fn(&mut NewAdapter);
    let cases: &[(&str, Change, &str)] = &[
        ("vera", &|n| n.r = 0, "r"),
        ("vera", &|n| n.r = 1 << 30, "65536"),
        ("miss", &|n| n.r = 65, "64"),
        ("hra", &|n| n.r = 65, "64"),
        ("lokr", &|n| n.r = 0, "r"),
        ("oft", &|n| n.oft_block_size = 1, "oft_block_size"),
        ("oft", &|n| n.oft_block_size = 0, "oft_block_size"),
        ("boft", &|n| n.boft_block_size = 5, "boft_block_size"),
        ("boft", &|n| n.boft_block_size = 0, "boft_block_size"),
        ("road", &|_| (), "group_size"),
        ("road", &|n| n.group_size = 0, "group_size"),
        ("road", &|n| n.group_size = 1, "group_size"),
        ("trainable_tokens", &|_| (), "token_indices"),
        ("trainable_tokens", &|n| n.token_indices = vec![288], "0 to 287"),
        ("trainable_tokens", &|n| n.token_indices = vec![3, 4, 3], "3 twice"),
        (
            "trainable_tokens",
            &|n| {
                n.token_indices = vec![3];
                n.targets = Targets::parse("lm_head");
            },
            "embed_tokens",
        ),
        ("prompt_tuning", &|n| n.num_virtual_tokens = 0, "num_virtual_tokens"),
        (
            "prompt_tuning",
            &|n| n.num_virtual_tokens = usize::MAX,
            "num_virtual_tokens",
        ),
        (
            "prefix_tuning",
            &|n| n.num_virtual_tokens = 1 << 40,
            "num_virtual_tokens",
        ),
        (
            "prompt_tuning",
            &|n| n.prompt_tuning_init_text = Some(String::new()),
            "prompt_tuning_init_text",
        ),
        ("prompt_tuning", &|n| n.targets = Targets::parse("q_proj"), "targets"),
        (
            "prompt_tuning",
            &|n| n.modules_to_save = vec!["norm".into()],
            "modules_to_save",
        ),
        (
            "prefix_tuning",
            &|n| n.prompt_tuning_init_text = Some("x".into()),
            "prompt_tuning_init_text",
        ),
        ("lora", &|n| n.num_virtual_tokens = 3, "num_virtual_tokens"),
        ("vera", &|n| n.init = Init::Gaussian, "init"),
        ("dora", &|n| n.init = Init::Pissa, "init"),
        (
            "lora",
            &|n| {
                n.init = Init::Pissa;
                n.alpha = 0.0;
            },
            "alpha",
        ),
        ("lora", &|n| n.oft_block_size = 16, "oft_block_size"),
        ("lora", &|n| n.modules_to_save = vec!["q_proj".into()], "embed_tokens"),
        ("lora", &|n| n.modules_to_save = vec![String::new()], "modules_to_save"),
        (
            "ln_tuning",
            &|n| n.modules_to_save = vec!["norm".into()],
            "adapted already",
        ),
    ];
    for (method, change, words) in cases {
        let mut new = NewAdapter::of(method).unwrap();
        change(&mut new);
        let e = match Parameters::start(&model, &new) {
            Err(e) => e,
            Ok(_) => panic!("{method} began: {new:?}"),
        };
        assert!(
            e.kind() == ErrorKind::Usage && e.to_string().contains(words),
            "{method}: {e}"
        );
    }
    assert!(NewAdapter::of("lorra").is_err());
}

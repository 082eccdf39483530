//! Adapters of other methods as plain LoRAs. Oracles: the update itself, and the logits of the adapter that it comes from, which
//! tests/vs_peft_methods.rs holds to PEFT.

mod common;

use std::path::Path;

use common::*;
use graft::adapter::AdapterFile;
use graft::adapter::forms::{Base, Form};
use graft::adapter::to_lora::{Kept, RankRule};
use graft::kernels::Precision;
use graft::linalg;
use graft::{ErrorKind, Model, SessionOptions};

fn model(name: &str) -> Model {
    Model::open(data().join("tiny").join(name).join("model.gguf")).unwrap_or_else(|e| panic!("{e}"))
}

fn logits(model: &Model, path: &Path) -> Vec<f32> {
    let adapter = model.load_adapter(path).unwrap_or_else(|e| panic!("{e}"));
    let options = SessionOptions {
        precision: Precision::Exact,
        ..Default::default()
    };
    let mut session = model.session(&options).unwrap();
    session.set_adapters(&[(adapter, 1.0)]).unwrap();
    session.eval(&[5, 9, 21, 22, 23, 2, 44]).unwrap().to_vec()
}

fn convert(model: &Model, from: &Path, rule: RankRule) -> (tempfile::TempDir, Vec<Kept>) {
    let dir = tempfile::tempdir().unwrap();
    let file = AdapterFile::open(from).unwrap_or_else(|e| panic!("{e}"));
    let kept = model
        .to_lora(&file, dir.path(), rule, &|share| assert!(share <= 1.0))
        .unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    (dir, kept)
}

#[test]
fn with_all_of_the_energy_it_does_the_same() {
    let mut n = 0;
    for name in ["llama-tied", "qwen2", "gemma3"] {
        let model = model(name);
        for adapter in [
            "tiny/{}/adapters/patterns",
            "tiny/{}/adapters/rslora",
            "methods/{}/adalora",
            "methods/{}/adalora-pruned",
            "methods/{}/loha",
            "methods/{}/loha-high-rank",
            "methods/{}/loha-patterns",
            "methods/{}/lokr",
            "methods/{}/lokr-both",
            "methods/{}/lokr-full",
            "methods/{}/vera",
            "methods/{}/vera-no-projection",
            "methods/{}/miss",
            "methods/{}/miss-bat",
            "methods/{}/miss-mini",
            "methods/{}/miss-padded",
            "methods/{}/lora-pissa",
            "methods/{}/lora-olora",
            "methods/{}/lora-alora",
            "methods/{}/lora-bdlora",
            "methods/{}/lora-embedding",
            "methods/{}/lora-head",
            "gguf-lora/{}/all-linear.gguf",
            "gguf-lora/{}/lora-alora.gguf",
            "gguf-lora/{}/lora-embedding.gguf",
        ] {
            let from = data().join(adapter.replace("{}", name));
            if !from.exists() {
                continue;
            }
            let (dir, kept) = convert(&model, &from, RankRule::Energy(1.0));
            assert!(kept.iter().all(|k| k.energy > 0.999_99), "{name} {adapter}: {kept:?}");
            let (ours, oracle) = (logits(&model, dir.path()), logits(&model, &from));
            let errors = ours.iter().zip(&oracle).map(|(a, b)| logit_error(*a, *b));
            let error = errors.fold(0.0, f32::max);
            assert!(error <= LOGIT_BOUND, "{name} {adapter}: {error}");
            assert_eq!(AdapterFile::open(dir.path()).unwrap().method(), "LORA");
            n += 1;
        }
    }
    println!("{n} adapters");
    assert!(n >= 55, "only {n}: files are missing");
}

/// Of the best product of a rank, the energy that is missing is the squared distance.
#[test]
fn the_energy_is_that_of_the_product() {
    let model = model("llama-tied");
    for (adapter, rule) in [
        ("loha-high-rank", RankRule::Fixed(2)),
        ("lokr-full", RankRule::Fixed(5)),
        ("lokr", RankRule::Energy(0.7)),
        ("loha", RankRule::Energy(0.9)),
    ] {
        let from = data().join("methods/llama-tied").join(adapter);
        let (dir, kept) = convert(&model, &from, rule);
        let (old, new) = (
            AdapterFile::open(&from).unwrap(),
            AdapterFile::open(dir.path()).unwrap(),
        );
        assert_eq!(old.sites().len(), new.sites().len());
        for site in old.sites() {
            let base = Base {
                rows: site.forms[0].shape().1,
                cols: site.forms[0].shape().0,
                widest: (0, 0),
                read: &Vec::new,
            };
            let forms = match &site.forms[..] {
                [Form::FromBase(from)] => (from.lower)(&base).unwrap(),
                forms => forms.to_vec(),
            };
            let delta: Vec<f32> = match &forms[..] {
                [Form::Dense(d, scale)] => d.to_f32().iter().map(|v| scale * v).collect(),
                [Form::Kron(k)] => k.dense().to_f32().iter().map(|v| k.scale * v).collect(),
                [Form::LowRank(l)] => product(l),
                other => panic!("{other:?}"),
            };
            let lora = new.sites().iter().find(|s| s.path == site.path).unwrap();
            let [Form::LowRank(l)] = &lora.forms[..] else {
                panic!("{:?}", lora.forms)
            };
            assert_eq!(l.scale, 1.0);
            let k = kept.iter().find(|k| k.path == site.path).unwrap();
            assert_eq!(k.rank, l.rank());
            let squares = |v: &mut dyn Iterator<Item = f32>| v.map(|v| f64::from(v).powi(2)).sum::<f64>();
            let all = squares(&mut delta.iter().copied());
            let missing = squares(&mut delta.iter().zip(product(l)).map(|(d, p)| d - p));
            let energy = 1.0 - missing / all;
            assert!(
                (energy - k.energy).abs() < 1e-5,
                "{adapter} {}: {energy}, said {}",
                k.path,
                k.energy
            );
            match rule {
                RankRule::Fixed(rank) => assert_eq!(k.rank, rank),
                RankRule::Energy(share) => assert!(k.energy >= share),
            }
        }
    }
}

fn product(l: &graft::adapter::forms::LowRank) -> Vec<f32> {
    let (a, b) = (l.a.to_f32(), l.b.to_f32());
    let p = linalg::product(l.b.rows(), l.rank(), l.a.cols(), &b, &a).unwrap();
    p.iter().map(|v| l.scale * v).collect()
}

#[test]
fn what_is_no_addition_is_refused() {
    let model = model("llama-tied");
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    for adapter in [
        "ia3",
        "oft",
        "boft",
        "hra",
        "road-1",
        "lora-dora",
        "lora-bias-of-b",
        "beft",
        "ln-tuning",
        "tokens",
        "lora-save-norm",
        "lora-replication",
        "prompt-tuning",
        "prefix-tuning",
    ] {
        let file = AdapterFile::open(&data().join("methods/llama-tied").join(adapter)).unwrap();
        let e = model.to_lora(&file, &out, RankRule::Energy(0.99), &|_| ());
        let e = e.err().unwrap_or_else(|| panic!("{adapter} was written"));
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
        assert!(e.to_string().contains(adapter), "{e}");
        assert!(!out.exists());
        println!("{e}");
    }
    let file = AdapterFile::open(&data().join("methods/llama-tied/loha")).unwrap();
    for rule in [
        RankRule::Fixed(0),
        RankRule::Energy(0.0),
        RankRule::Energy(1.5),
        RankRule::Energy(f64::NAN),
    ] {
        let e = model.to_lora(&file, &out, rule, &|_| ()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Usage, "{e}");
    }
}

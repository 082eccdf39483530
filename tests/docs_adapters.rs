//! docs/adapters.md: its tables and its example are the code's and the fixtures' own.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::*;
use graft::adapter::methods::METHODS;
use serde_json::Value;

const PAGE: &str = "docs/adapters.md";

/// What the fixtures have of one `peft_type`.
#[derive(Default)]
struct Coverage {
    /// Names of adapters, without those of single models.
    fixtures: Vec<String>,
    /// Models, and cases on them.
    models: BTreeMap<String, usize>,
    /// Cases of one adapter that PEFT can merge, and those where the merge gives the same.
    merged: (usize, usize),
    real: bool,
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn coverage() -> BTreeMap<String, Coverage> {
    let mut all: BTreeMap<String, Coverage> = BTreeMap::new();
    let root = data().join("methods");
    for model in names(&root).iter().filter(|n| root.join(n).is_dir()) {
        for name in names(&root.join(model)) {
            let path = root.join(model).join(&name);
            if path.is_dir() {
                let config = json(&path.join("adapter_config.json"));
                let of = all.entry(config["peft_type"].as_str().unwrap().to_owned()).or_default();
                if !of.fixtures.contains(&name) {
                    of.fixtures.push(name);
                }
                continue;
            }
            let case = json(&path);
            let methods: Vec<&str> = case["method"].as_str().unwrap().split('+').collect();
            let mut distinct = methods.clone();
            distinct.sort_unstable();
            distinct.dedup();
            for method in &distinct {
                *all.entry((*method).to_owned())
                    .or_default()
                    .models
                    .entry(model.clone())
                    .or_default() += 1;
            }
            if let ([only], Value::Bool(differs)) = (&methods[..], &case["merged"]["differs"]) {
                let merged = &mut all.entry((*only).to_owned()).or_default().merged;
                merged.0 += 1;
                merged.1 += usize::from(!differs);
            }
        }
    }
    for of in all.values_mut() {
        of.fixtures.sort();
    }
    let spec = json(&data().join("real/adapters.json"));
    for model in ["smollm2", "gemma3"] {
        let golden = json(&data().join(format!("real/{model}-methods.json")));
        let cases = golden["cases"].as_array().unwrap();
        for adapter in cases.iter().flat_map(|c| c["adapters"].as_array().unwrap()) {
            let recipe = &spec["methods"][adapter["case"].as_str().unwrap()];
            let method = recipe["config"]["peft_type"].as_str().unwrap_or("LORA");
            all.get_mut(method).expect("a method with fixtures").real = true;
        }
    }
    all
}

/// The name of the method for people: the first line of its file says it with its source.
fn title(peft_type: &str) -> &'static str {
    match peft_type {
        "LORA" => "LoRA, DoRA, aLoRA, PiSSA, OLoRA, BD-LoRA",
        "IA3" => "IA3",
        "ADALORA" => "AdaLoRA",
        "LOHA" => "LoHa",
        "LOKR" => "LoKr",
        "VERA" => "VeRA",
        "OFT" => "OFT",
        "BOFT" => "BOFT",
        "HRA" => "HRA",
        "ROAD" => "RoAd",
        "MISS" => "MiSS",
        "LN_TUNING" => "LN tuning",
        "TRAINABLE_TOKENS" => "trainable tokens",
        "BEFT" => "BEFT",
        "PROMPT_TUNING" => "prompt tuning",
        "P_TUNING" => "P-tuning",
        "MULTITASK_PROMPT_TUNING" => "multitask prompt tuning",
        "PREFIX_TUNING" => "prefix tuning",
        other => panic!("{other}: a name for the table in docs/adapters.md, please"),
    }
}

fn table() -> String {
    let coverage = coverage();
    let mut out = String::from(
        "| method | `peft_type` | fixtures | models (cases) | merge | real |\n|---|---|---|---|---|---|\n",
    );
    for method in METHODS {
        let none = Coverage::default();
        let of = coverage.get(method.peft_type).unwrap_or(&none);
        let fixtures: Vec<String> = of.fixtures.iter().map(|f| format!("`{f}`")).collect();
        let models: Vec<String> = of.models.iter().map(|(m, n)| format!("{m} ({n})")).collect();
        let merge = match of.merged {
            (0, _) => "no".to_owned(),
            (all, same) if all == same => "yes".to_owned(),
            (all, same) => format!("{same} of {all}"),
        };
        out += &format!(
            "| {} | `{}` | {} | {} | {merge} | {} |\n",
            title(method.peft_type),
            method.peft_type,
            fixtures.join(", "),
            models.join(", "),
            if of.real { "yes" } else { "" },
        );
    }
    out
}

fn unsupported() -> String {
    let list = json(&data().join("methods/unsupported.json"));
    let names: Vec<String> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|n| format!("`{}`", n.as_str().unwrap()))
        .collect();
    format!("{}.\n", names.join(", "))
}

/// `page` with `content` as its generated part `name`.
fn put(page: &str, name: &str, content: &str) -> String {
    let begin = format!("<!-- generated: {name} -->\n");
    let end = "<!-- end -->";
    let at = page
        .find(&begin)
        .unwrap_or_else(|| panic!("{PAGE} has no line {begin}"))
        + begin.len();
    let to = at
        + page[at..]
            .find(end)
            .unwrap_or_else(|| panic!("{PAGE}: {name} has no end"));
    format!("{}\n{content}\n{}", &page[..at], &page[to..])
}

#[test]
fn the_generated_parts_are_those_of_the_code_and_the_fixtures() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let page = read(PAGE);
    let beft = format!("```rust\n{}```\n", read("src/adapter/methods/beft.rs"));
    let mut made = page.clone();
    for (name, content) in [("coverage", &table()), ("unsupported", &unsupported()), ("beft", &beft)] {
        made = put(&made, name, content);
    }
    if std::env::var_os("GRAFT_BLESS").is_some() {
        std::fs::write(root.join(PAGE), &made).unwrap();
        return;
    }
    let differs = page.lines().zip(made.lines()).find(|(old, new)| old != new);
    assert!(
        page == made,
        "{PAGE} is not what the code and the fixtures say; GRAFT_BLESS=1 cargo test --test docs_adapters writes it.\n{differs:#?}"
    );
}

/// Every method has fixtures, and none is in both lists.
#[test]
fn every_method_of_peft_is_in_one_list() {
    let coverage = coverage();
    let list = json(&data().join("methods/unsupported.json"));
    let refused: Vec<&str> = list.as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
    for method in METHODS {
        assert!(
            coverage.contains_key(method.peft_type),
            "{}: no fixtures",
            method.peft_type
        );
        assert!(!refused.contains(&method.peft_type), "{}", method.peft_type);
    }
    for covered in coverage.keys() {
        assert!(METHODS.iter().any(|m| m.peft_type == covered), "{covered}");
    }
}

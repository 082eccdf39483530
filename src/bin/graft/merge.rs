//! `graft merge`: a model with adapters in its weights, as a file.

use std::collections::BTreeMap;
use std::fmt::Write;

use graft::quant::BlockFormat;
use graft::runtime::{Divergence, MergeOptions, MergeReport, MergeType};
use graft::{Error, Model};
use serde_json::{Value, json};

use crate::args::{MergeArgs, ModelArgs};
use crate::interrupt::Catch;
use crate::load;
use crate::output::{Done, Fail, bytes, file_size, print, print_json, say};
use crate::progress::Progress;

pub fn run(args: &MergeArgs) -> Done {
    if args.model.adapters.is_empty() {
        Err(Error::usage("nothing to merge")
            .item("-a")
            .expected("an adapter folder"))?;
    }
    let options = MergeOptions {
        to: merge_type(args.kind.as_deref(), args.kl)?,
        importance: !args.plain,
        text: args.text.as_deref().map(load::text_of).transpose()?,
    };
    let (model, named) = load::model_and_adapters_live(&args.model)?;
    let adapters = load::active(&named);
    let catch = Catch::begin();
    let progress = Progress::new("merging");
    let merged = model.merge_to(&adapters, &options, &args.output, &mut |share| {
        progress.set(share);
        !catch.asked()
    });
    progress.finish();
    let report = match merged {
        Err(_) if catch.asked() => return Err(Fail::Interrupted),
        merged => merged?,
    };
    // The file is whole: from here on Ctrl-C just ends the program.
    drop(catch);
    let divergence = match (report.divergence.clone(), args.no_check) {
        (Some(measured), _) => Some(measured),
        (None, true) => None,
        (None, false) => {
            let merged = Model::open(&args.output)?;
            Some(merged.divergence_from(&model, &adapters, options.text.as_deref())?)
        }
    };
    let size = file_size(&args.output)?;
    match args.json {
        true => {
            let tensors: Vec<Value> = report
                .tensors
                .iter()
                .map(|t| json!({"name": t.name, "from": t.from, "to": t.to, "error": t.error}))
                .collect();
            print_json(&json!({
                "output": args.output, "bytes": size, "tensors": tensors,
                "kl": divergence.map(|d| json!({"mean": d.mean(), "max": d.max(), "same_top": d.same_top(), "tokens": d.count()})),
            }))
        }
        false => print(&format!(
            "{} ({})\n{}",
            args.output.display(),
            bytes(size),
            text(&report, divergence.as_ref())
        )),
    }
}

/// What `--type` and `--kl` say.
pub fn merge_type(kind: Option<&str>, kl: Option<f64>) -> graft::Result<MergeType> {
    match (kind, kl) {
        (_, Some(bound)) => Ok(MergeType::Within(bound)),
        (None | Some("keep"), None) => Ok(MergeType::Keep),
        (Some(name), None) => TYPES
            .iter()
            .find(|format| format.name().eq_ignore_ascii_case(name))
            .map(|format| MergeType::To(*format))
            .ok_or_else(|| {
                let names: Vec<_> = TYPES.iter().map(|f| f.name().to_lowercase()).collect();
                let e = Error::usage("no such type").item("--type");
                e.expected(format!("keep, {}", names.join(", "))).found(name)
            }),
    }
}

/// The types that Graft writes.
const TYPES: [BlockFormat; 11] = [
    BlockFormat::F32,
    BlockFormat::F16,
    BlockFormat::BF16,
    BlockFormat::Q8_0,
    BlockFormat::Q6_K,
    BlockFormat::Q5_K,
    BlockFormat::Q4_K,
    BlockFormat::Q5_1,
    BlockFormat::Q5_0,
    BlockFormat::Q4_1,
    BlockFormat::Q4_0,
];

/// The report for people.
fn text(report: &MergeReport, divergence: Option<&Divergence>) -> String {
    let mut kinds: BTreeMap<(&str, &str), (usize, f64)> = BTreeMap::new();
    for t in &report.tensors {
        let kind = kinds.entry((t.from, t.to)).or_default();
        *kind = (kind.0 + 1, kind.1.max(t.error));
    }
    let mut text = String::new();
    for ((from, to), (n, error)) in kinds {
        let _ = writeln!(
            text,
            "  {n:>4} tensors {from} to {to}, packing error at most {:.2} %",
            100.0 * error
        );
    }
    if let Some(d) = divergence {
        let _ = writeln!(
            text,
            "KL from the adapters put on live: mean {:.5}, largest {:.4}, same most likely token {:.1} % of {}",
            d.mean(),
            d.max(),
            100.0 * d.same_top(),
            d.count()
        );
    }
    text
}

/// The model with its adapters merged in memory, as `--merge` asks; the report goes to stderr.
pub fn in_memory(args: &ModelArgs, model: &Model, named: &[load::Named]) -> graft::Result<Model> {
    let to = merge_type(
        args.merge_type.as_deref(),
        args.merge_type.is_none().then_some(args.merge_kl),
    )?;
    let options = MergeOptions {
        to,
        ..Default::default()
    };
    let progress = Progress::new("merging");
    let merged = model.merged(&load::active(named), &options, &mut |share| {
        progress.set(share);
        true
    });
    progress.finish();
    let (merged, report) = merged?;
    say(&format!(
        "merged\n{}",
        text(&report, report.divergence.as_ref()).trim_end()
    ));
    Ok(merged)
}

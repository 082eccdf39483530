//! `graft export-lora` and `graft to-lora`: an adapter in another form.

use std::path::Path;

use graft::adapter::AdapterFile;
use graft::adapter::to_lora::{Kept, RankRule};
use graft::quant::BlockFormat;
use graft::{Error, Model, Result};
use serde_json::json;

use crate::args::{ExportLoraArgs, FactorType, ToLoraArgs};
use crate::load;
use crate::output::{Done, bytes, can_hold_file, file_size, print_json, say};
use crate::progress::Progress;

pub fn export_lora(args: &ExportLoraArgs) -> Done {
    can_hold_file(&args.output)?;
    let (model, file) = open(&args.model, &args.adapter)?;
    let format = match args.factors {
        FactorType::F16 => BlockFormat::F16,
        FactorType::F32 => BlockFormat::F32,
    };
    let done = model.export_lora(&file, &args.output, format)?;
    let size = file_size(&args.output)?;
    if args.json {
        return print_json(&json!({
            "file": args.output, "method": file.method(), "sites": done.sites, "ranks": done.ranks, "alpha": done.alpha,
            "parameters": done.parameters, "bytes": size,
        }));
    }
    say(&format!(
        "{}: {} updates, rank {}, {} in {}",
        args.output.display(),
        done.sites,
        numbers(&done.ranks),
        bytes(size),
        format.name(),
    ));
    Ok(())
}

pub fn to_lora(args: &ToLoraArgs) -> Done {
    let rule = match (args.rank, args.energy) {
        (Some(rank), _) => RankRule::Fixed(rank),
        (None, share) => RankRule::Energy(share),
    };
    // Asked before long work whose result goes there.
    if args.output.is_file() {
        Err(Error::usage("a file cannot be written as a folder").file(&args.output))?;
    }
    let (model, file) = open(&args.model, &args.adapter)?;
    let progress = Progress::new("decomposing");
    let kept = model.to_lora(&file, &args.output, rule, &|share| progress.set(share));
    progress.finish();
    let kept = kept?;
    let energies = || kept.iter().map(|k| k.energy);
    let mean = energies().sum::<f64>() / kept.len() as f64;
    let least = energies().fold(1.0, f64::min);
    if args.json {
        let module = |k: &Kept| json!({"module": k.path, "rank": k.rank, "energy": k.energy});
        return print_json(&json!({
            "adapter": args.output, "method": file.method(),
            "energy": {"mean": mean, "least": least}, "modules": kept.iter().map(module).collect::<Vec<_>>(),
        }));
    }
    let mut ranks: Vec<usize> = kept.iter().map(|k| k.rank).collect();
    ranks.sort_unstable();
    ranks.dedup();
    say(&format!(
        "{}: {} modules, rank {}; of each update's energy {:.2} % is kept in the mean, {:.2} % at least",
        args.output.display(),
        kept.len(),
        numbers(&ranks),
        100.0 * mean,
        100.0 * least,
    ));
    Ok(())
}

fn open(model: &Path, adapter: &Path) -> Result<(Model, AdapterFile)> {
    // The adapter first: a wrong one should not wait for a big model.
    let file = AdapterFile::open(adapter)?;
    Ok((load::model_at(model, load::without_gpu())?, file))
}

fn numbers(all: &[usize]) -> String {
    all.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

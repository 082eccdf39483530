//! `graft combine`: several adapters become one.

use std::fmt::Write;
use std::path::Path;

use graft::adapter::AdapterSpec;
use graft::adapter::mix::{Combined, combine};
use graft::format::PeftFolder;
use graft::{Error, Result};
use serde_json::{Value, json};

use crate::args::CombineArgs;
use crate::interrupt::Catch;
use crate::output::{Done, Fail, bytes, can_hold_folder, print, print_json, say};
use crate::progress::Progress;

pub fn run(args: &CombineArgs) -> Done {
    let options = args.options();
    options.validate()?;
    let specs = args
        .adapters
        .iter()
        .map(|a| AdapterSpec::parse(a))
        .collect::<Result<Vec<_>>>()?;
    can_hold_folder(&args.output)?;
    let folders = specs
        .iter()
        .map(|s| PeftFolder::open(&s.dir))
        .collect::<Result<Vec<_>>>()?;
    warn_of_other_bases(&folders)?;

    let progress = Progress::new("combining");
    let weighted: Vec<_> = folders.iter().zip(&specs).map(|(f, s)| (f, s.weight)).collect();
    let combined = combine(&weighted, &options, &mut |share| progress.set(share));
    progress.finish();
    let combined = combined?;

    // Until here Ctrl-C ends the program; from here on it would leave temporary files.
    let catch = Catch::begin();
    combined.write(&args.output)?;
    let size = size_of(&args.output)?;
    if catch.asked() {
        return Err(Fail::Interrupted);
    }
    match args.json {
        true => print_json(&document(args, &specs, &combined, size)),
        false => print(&text(args, &specs, &combined, size)),
    }
}

/// Adapters of two base models may have the same shapes, but their sum means nothing.
fn warn_of_other_bases(folders: &[PeftFolder]) -> Result<()> {
    let mut bases = Vec::new();
    for folder in folders {
        bases.extend(folder.str("base_model_name_or_path")?.filter(|b| !b.is_empty()));
    }
    bases.sort_unstable();
    bases.dedup();
    if bases.len() > 1 {
        say(&format!(
            "warning: the adapters name different base models: {}",
            bases.join(", ").escape_debug()
        ));
    }
    Ok(())
}

/// Bytes of the files in the folder.
fn size_of(dir: &Path) -> Result<usize> {
    let io = |e: &std::io::Error| Error::io(dir, "cannot read", e);
    let mut size = 0;
    for entry in std::fs::read_dir(dir).map_err(|e| io(&e))? {
        let meta = entry.and_then(|e| e.metadata()).map_err(|e| io(&e))?;
        size += usize::try_from(meta.len()).unwrap_or(usize::MAX);
    }
    Ok(size)
}

/// The share of the energy that a module's rank keeps.
fn share((all, kept): (f64, f64)) -> f64 {
    if all > 0.0 { kept / all } else { 1.0 }
}

fn text(args: &CombineArgs, specs: &[AdapterSpec], combined: &Combined, size: usize) -> String {
    let sites = combined.sites();
    let mut text = format!("{} (adapter)\n\n", args.output.display());
    let _ = writeln!(text, "Method: {}", combined.method());
    let _ = writeln!(text, "Combined by: {}", args.kind.name());
    for spec in specs {
        let name = spec.name.as_deref().map_or(String::new(), |n| format!("{n} = "));
        let _ = writeln!(text, "  {} × {name}{}", spec.weight, spec.dir.display());
    }
    let some = sites.iter().filter(|s| s.adapters < specs.len()).count();
    let some = match some {
        0 => String::new(),
        n => format!(", {n} of them not in all adapters"),
    };
    let _ = writeln!(text, "Sites: {}{some}", sites.len());
    if let Some(rank) = combined.rank() {
        let _ = writeln!(text, "Rank: {rank}");
    }
    let _ = writeln!(text, "Parameters: {}", combined.parameters());
    let _ = writeln!(text, "Size: {}", bytes(size));
    let worst = sites
        .iter()
        .filter_map(|s| Some((share(s.energy?), &s.path)))
        .min_by(|a, b| a.0.total_cmp(&b.0));
    if let (Some(captured), Some((least, path))) = (combined.captured(), worst) {
        let _ = writeln!(
            text,
            "Energy kept: {:.2} %, least {:.2} % at {}",
            100.0 * captured,
            100.0 * least,
            path.escape_debug()
        );
    }
    text
}

fn document(args: &CombineArgs, specs: &[AdapterSpec], combined: &Combined, size: usize) -> Value {
    let adapters: Vec<_> = specs
        .iter()
        .map(|s| json!({"name": s.name, "dir": s.dir, "weight": s.weight}))
        .collect();
    let sites: Vec<_> = combined
        .sites()
        .iter()
        .map(|s| json!({"module": s.path, "adapters": s.adapters, "captured": s.energy.map(share)}))
        .collect();
    json!({
        "output": args.output, "method": combined.method(), "type": args.kind.name(), "adapters": adapters,
        "rank": combined.rank(), "parameters": combined.parameters(), "bytes": size, "captured": combined.captured(),
        "sites": sites,
    })
}

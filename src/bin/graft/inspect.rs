//! `graft inspect`: what is in a model file, and what machine this is; adapters are in [`crate::inspect_adapter`].

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use graft::adapter::gguf::is_adapter;
use graft::format::{Gguf, LoadMode};
use graft::kernels::Precision;
use graft::runtime::MemoryPlan;
use graft::{Error, Model, Result, SessionOptions};
use serde_json::{Map, Value, json};

use crate::args::InspectArgs;
use crate::inspect_adapter::adapter;
use crate::machine;
use crate::output::{Done, bytes, print, print_json};

pub fn run(args: &InspectArgs) -> Done {
    let Some(path) = &args.path else {
        return machine::run(args.json);
    };
    let (text, document) = if path.is_dir() {
        adapter(path, args)?
    } else {
        let gguf = Gguf::open(path, LoadMode::Map)?;
        if is_adapter(&gguf)? {
            adapter(path, args)?
        } else if args.model.is_some() || args.task_id.is_some() {
            let e = Error::usage("a model is not put on a model").file(path);
            return Err(e.item("-m, --task-id").expected("an adapter").into());
        } else {
            model(path, &gguf)?
        }
    };
    if args.json { print_json(&document) } else { print(&text) }
}

fn model(path: &Path, gguf: &Gguf) -> Result<(String, Value)> {
    let mut text = format!("{} (GGUF version {}", path.display(), gguf.version());
    let _ = match gguf.parts().len() {
        1 => writeln!(text, ")"),
        n => writeln!(text, ", {n} files)"),
    };

    let mut metadata = Map::new();
    let width = gguf
        .metadata()
        .iter()
        .map(|(key, _)| key.len())
        .max()
        .unwrap_or(0)
        .min(60);
    let _ = writeln!(text, "\nMetadata: {} keys", gguf.metadata().len());
    for (key, value) in gguf.metadata().iter() {
        let _ = writeln!(text, "  {:width$}  {value}", one_line(key));
        metadata.insert(key.to_string(), value.json());
    }

    let mut tensors = Vec::new();
    let mut formats: BTreeMap<&str, (usize, usize, usize)> = BTreeMap::new();
    let width = gguf.tensors().iter().map(|t| t.name.len()).max().unwrap_or(0).min(60);
    let _ = writeln!(text, "\nTensors: {}", gguf.tensors().len());
    for t in gguf.tensors() {
        let (format, size) = (t.format.name(), t.range.len());
        let dims = t.dims.iter().map(usize::to_string).collect::<Vec<_>>().join(" × ");
        let _ = writeln!(
            text,
            "  {:width$}  {format:6}  {:>10}  {dims}",
            one_line(&t.name),
            bytes(size)
        );
        tensors.push(json!({"name": t.name, "format": format, "dims": t.dims, "bytes": size}));
        let sums = formats.entry(format).or_default();
        *sums = (sums.0 + 1, sums.1 + t.elements(), sums.2 + size);
    }
    let _ = writeln!(text, "\nBy format:");
    for (format, (n, elements, size)) in &formats {
        let bits = *size as f64 * 8.0 / (*elements).max(1) as f64;
        let _ = writeln!(
            text,
            "  {format:6}  {n:>4} tensors  {elements:>13} numbers  {:>10}  {bits:.2} bits each",
            bytes(*size)
        );
    }
    let parameters: usize = formats.values().map(|f| f.1).sum();
    let weights: usize = formats.values().map(|f| f.2).sum();

    let mut document = json!({
        "file": path, "version": gguf.version(), "parameters": parameters, "bytes": weights,
        "metadata": metadata, "tensors": tensors,
    });
    // A file that Graft cannot run can still be looked at; why it cannot is part of what there is to see.
    match Model::open(path) {
        Err(e) => {
            let _ = writeln!(text, "\nGraft cannot run it: {e}");
            document["error"] = e.to_string().into();
        }
        Ok(model) => {
            let (s, sizes) = (model.spec(), memory(&model));
            let _ = writeln!(
                text,
                "\nModel: {} · {} layers of {} · {} heads, {} for keys and values, of {} · MLP {} · vocabulary {} · context {} · {:.1} M parameters",
                s.arch,
                s.n_layers,
                s.hidden_size,
                s.n_heads,
                s.n_kv_heads,
                s.head_dim,
                s.ffn_size,
                s.vocab_size,
                s.context_length,
                parameters as f64 / 1e6
            );
            let _ = writeln!(
                text,
                "Memory: weights {}, mapped from the file and shared",
                bytes(weights)
            );
            for (context, exact, size) in &sizes {
                let precision = if *exact { " (--exact)" } else { "" };
                let _ = writeln!(text, "  KV cache of {context} tokens{precision}: {}", bytes(*size));
            }
            let plan = MemoryPlan::of(gguf, &SessionOptions::default())?;
            let _ = writeln!(
                text,
                "  a session's buffers, reading its prompt {} tokens at a time: {}, and {} for each thread",
                SessionOptions::default().chunk,
                bytes(plan.activations),
                bytes(plan.per_thread)
            );
            document["memory"] = json!({
                "weights": weights,
                "activations": plan.activations,
                "per_thread": plan.per_thread,
                "kv": sizes.iter().map(|(c, e, n)| json!({"context": c, "exact": e, "bytes": n})).collect::<Vec<_>>(),
            });
        }
    }
    Ok((text, document))
}

/// KV cache sizes: of a usual and of the largest context, in both precisions.
fn memory(model: &Model) -> Vec<(usize, bool, usize)> {
    let most = model.spec().context_length;
    let mut contexts = vec![4096.min(most), most];
    contexts.dedup();
    let sizes = |context| {
        [Precision::Fast, Precision::Exact].map(|precision| {
            let options = SessionOptions {
                context: Some(context),
                precision,
                ..Default::default()
            };
            (context, precision == Precision::Exact, model.kv_bytes(&options))
        })
    };
    contexts.into_iter().flat_map(sizes).collect()
}

/// Names come from files: no control characters on a terminal.
pub fn one_line(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect()
}

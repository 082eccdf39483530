//! `graft inspect` of an adapter: what is in it and, with a model, what it becomes there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::path::Path;

use graft::adapter::forms::Form;
use graft::adapter::{AdapterFile, AdapterOptions, Prefix, merge};
use graft::format::Gguf;
use graft::runtime::ParameterCount;
use graft::{Model, Result};
use serde_json::{Value, json};

use crate::args::InspectArgs;
use crate::inspect::one_line;
use crate::load;
use crate::names;
use crate::output::{bytes, file_size};

/// The adapter on a model.
struct On {
    model: Model,
    /// Bytes that it takes.
    memory: usize,
    /// Why it cannot be merged.
    refusal: Option<String>,
    count: ParameterCount,
}

/// A form at a module.
struct Entry {
    module: String,
    /// In words.
    text: String,
    /// The same as fields.
    fields: Value,
    /// Its name.
    form: &'static str,
    /// See [`is_zero`].
    zero: Option<bool>,
}

pub fn adapter(path: &Path, args: &InspectArgs) -> Result<(String, Value)> {
    // The adapter first: a wrong one should not wait for a big model.
    let options = AdapterOptions { task_id: args.task_id };
    let file = AdapterFile::open_with(path, &options)?;
    let size = size_on_disk(path)?;
    let (entries, on) = match &args.model {
        None => {
            let of_site = |s: &graft::adapter::forms::SiteForms| {
                let entry = |form| Entry::new(s.path.clone(), form);
                s.forms.iter().map(entry).collect::<Vec<_>>()
            };
            (file.sites().iter().flat_map(of_site).collect::<Vec<_>>(), None)
        }
        Some(model) => {
            let (entries, on) = put_on(&file, model)?;
            (entries, Some(on))
        }
    };
    let warnings = warnings(&file, &entries, on.as_ref());
    let refusal = match &on {
        Some(on) => on.refusal.clone(),
        None => refusal(merge::check_file(file.lowered())),
    };
    let facts = Facts {
        path,
        file: &file,
        size,
        entries: &entries,
        on: on.as_ref(),
        // A file alone can only say that it does not.
        merges: (on.is_some() || refusal.is_some()).then_some(refusal.is_none()),
        refusal,
        warnings: &warnings,
    };
    Ok((facts.text(), facts.document()))
}

/// Puts the adapter on the model at `path`.
fn put_on(file: &AdapterFile, path: &Path) -> Result<(Vec<Entry>, On)> {
    let model = load::model_at(path, load::without_gpu())?;
    let post_norms = model.spec().post_norms;
    let mut entries = Vec::new();
    let adapter = model.attach_each(file, &mut |site, form| {
        entries.push(Entry::new(site.hf_path(post_norms), form));
    })?;
    let on = On {
        memory: adapter.bytes(),
        refusal: refusal(model.check_merge(&[(adapter, 1.0)])),
        count: model.count(file),
        model,
    };
    Ok((entries, on))
}

fn refusal(checked: Result<()>) -> Option<String> {
    checked.err().map(|e| e.to_string())
}

/// Bytes of the files that are read.
fn size_on_disk(path: &Path) -> Result<usize> {
    if path.is_dir() {
        let files = ["adapter_config.json", "adapter_model.safetensors"];
        return files.iter().map(|name| file_size(&path.join(name))).sum();
    }
    let gguf = Gguf::open(path, Default::default())?;
    gguf.parts().iter().map(|part| file_size(part.path())).sum()
}

fn warnings(file: &AdapterFile, entries: &[Entry], on: Option<&On>) -> Vec<String> {
    let mut warnings = Vec::new();
    if let (Some(on), Some(base)) = (on, file.base_model()) {
        let own = names::of_model(on.model.gguf().metadata());
        if names::contradict(base, &own) {
            let own = own.first().map_or("", String::as_str);
            warnings.push(format!(
                "the adapter names the base model {base:?}, the model says {own:?}"
            ));
        }
    }
    let mut updates = entries.iter().filter_map(|e| e.zero).peekable();
    if updates.peek().is_some() && updates.all(|zero| zero) {
        warnings.push("every update is zero: it was saved before it was trained".into());
    }
    if file.counts().encoder {
        warnings.push(
            "the encoder that made the prompt is not in the file: in training PEFT counted its parameters too".into(),
        );
    }
    warnings
}

/// All that there is to say.
struct Facts<'a> {
    path: &'a Path,
    file: &'a AdapterFile,
    size: usize,
    entries: &'a [Entry],
    on: Option<&'a On>,
    merges: Option<bool>,
    refusal: Option<String>,
    warnings: &'a [String],
}

impl Facts<'_> {
    /// PEFT's line, where the file has all that PEFT counted.
    fn trainable(&self) -> Option<ParameterCount> {
        self.on.map(|on| on.count).filter(|_| !self.file.counts().encoder)
    }

    /// The ranks of low-rank forms, each once, ascending.
    fn ranks(&self) -> Vec<u64> {
        let ranks = self.entries.iter().filter_map(|e| e.fields["rank"].as_u64());
        ranks.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// How often each form is there.
    fn forms(&self) -> BTreeMap<&'static str, usize> {
        let mut forms = BTreeMap::new();
        self.entries.iter().for_each(|e| *forms.entry(e.form).or_default() += 1);
        forms
    }

    fn text(&self) -> String {
        let (file, lowered) = (self.file, self.file.lowered());
        let mut text = format!("{} (adapter)\n\n", self.path.display());
        let mut line = |what: &str, value: String| {
            let _ = writeln!(text, "{what}: {value}");
        };
        line("Method", file.method().into());
        line(
            "Source",
            match file.architecture() {
                Some(name) => format!("GGUF, for models of architecture {}", one_line(name)),
                None => "PEFT".into(),
            },
        );
        line("Base model", file.base_model().map_or("not named".into(), one_line));
        if let Some(on) = self.on {
            let name = names::of_model(on.model.gguf().metadata())
                .first()
                .map(|name| one_line(name));
            let name = name.map_or(String::new(), |name| format!(" ({name})"));
            line("Put on", format!("{}{name}", on.model.gguf().path().display()));
        }
        let ranks = self.ranks();
        if !ranks.is_empty() {
            line("Rank", list(&ranks));
        }
        if let Some(prefix) = &lowered.prefix {
            line("Prompt", format!("{} positions, {}", prefix.positions(), kind(prefix)));
        }
        if let Some(tokens) = &lowered.invocation {
            line("Begins at the tokens", list(tokens));
        }
        if let Some(layers) = &lowered.layers {
            line("Layers of the base", list(layers));
        }
        let share = self.on.map_or(String::new(), |on| {
            let base = on.model.parameters();
            format!(", {:.4} % of the base's {base}", percent(file.parameters(), base))
        });
        line("Parameters", format!("{}{share}", file.parameters()));
        if let Some(count) = self.trainable() {
            line("In PEFT", count.to_string());
        }
        line("Size on disk", bytes(self.size));
        if let Some(on) = self.on {
            line("Memory", format!("{}, shared by its sessions", bytes(on.memory)));
        }
        line(
            "Merges",
            match (self.merges, &self.refusal) {
                (Some(true), _) => "yes".into(),
                (_, Some(refusal)) => format!("no: {}", one_line(refusal)),
                (_, None) => "depends on the model; -m M.gguf says".into(),
            },
        );
        line("Sites", file.sites().len().to_string());
        if !self.entries.is_empty() {
            let forms = self.forms().into_iter().map(|(form, n)| format!("{n} × {form}"));
            let what = if self.on.is_some() {
                "Forms as put on the model"
            } else {
                "Forms as in the file"
            };
            line(what, forms.collect::<Vec<_>>().join(", "));
        }
        for row in rows(self.entries) {
            let _ = writeln!(text, "  {row}");
        }
        for warning in self.warnings {
            let _ = writeln!(text, "Warning: {}", one_line(warning));
        }
        text
    }

    fn document(&self) -> Value {
        let (file, lowered) = (self.file, self.file.lowered());
        let sites = self.entries.iter().map(|entry| {
            let mut site = json!({"module": entry.module});
            if let (Some(site), Some(fields)) = (site.as_object_mut(), entry.fields.as_object()) {
                site.extend(fields.clone());
            }
            site
        });
        let prompt = |p: &Prefix| json!({"positions": p.positions(), "kind": kind(p)});
        let mut document = json!({
            "adapter": self.path, "method": file.method(), "source": if file.architecture().is_some() { "gguf" } else { "peft" },
            "architecture": file.architecture(), "base_model": file.base_model(), "ranks": self.ranks(),
            "prompt": lowered.prefix.as_ref().map(prompt), "invocation": lowered.invocation, "layers": lowered.layers,
            "parameters": file.parameters(), "bytes": self.size, "merges": self.merges, "merge_refusal": self.refusal,
            "forms": self.forms(), "sites": sites.collect::<Vec<_>>(), "warnings": self.warnings,
        });
        if let Some(on) = self.on {
            let base = on.model.parameters();
            document["model"] = json!({
                "file": on.model.gguf().path(), "names": names::of_model(on.model.gguf().metadata()), "parameters": base,
            });
            document["percent_of_base"] = percent(file.parameters(), base).into();
            document["memory"] = on.memory.into();
            document["trainable"] = json!(self.trainable().map(|count| json!({
                "trained": count.trained, "all": count.all, "percent": percent(count.trained, count.all), "line": count.to_string(),
            })));
        }
        document
    }
}

fn percent(part: usize, of: usize) -> f64 {
    100.0 * part as f64 / of as f64
}

fn kind(prefix: &Prefix) -> &'static str {
    match prefix {
        Prefix::Embeddings(_) => "embeddings",
        Prefix::KeysAndValues(_) => "keys and values of every layer",
    }
}

/// Numbers with commas between; of many only the first.
fn list<T: ToString>(all: &[T]) -> String {
    /// More than anybody reads.
    const MOST: usize = 100;
    let mut text = all.iter().take(MOST).map(T::to_string).collect::<Vec<_>>().join(", ");
    if all.len() > MOST {
        let _ = write!(text, ", … ({} in all)", all.len());
    }
    text
}

/// A line for each thing that is the same in several layers: how often, in which layers, what.
fn rows(entries: &[Entry]) -> Vec<String> {
    struct Row<'a> {
        path: (String, String),
        layers: Vec<usize>,
        times: usize,
        text: &'a str,
    }
    let mut rows: Vec<Row> = Vec::new();
    let mut known = HashMap::new();
    for entry in entries {
        let (path, layer) = without_layer(&entry.module);
        let at = *known.entry((path.clone(), &entry.text)).or_insert_with(|| {
            rows.push(Row {
                path,
                layers: Vec::new(),
                times: 0,
                text: &entry.text,
            });
            rows.len() - 1
        });
        rows[at].times += 1;
        rows[at].layers.extend(layer);
    }
    let line = |row: Row| {
        let Row {
            path,
            layers,
            times,
            text,
        } = row;
        let layers = if layers.is_empty() {
            String::new()
        } else {
            format!("[{}]", ranges(layers))
        };
        format!("{times} × {}{layers}{}  {text}", one_line(&path.0), one_line(&path.1))
    };
    rows.into_iter().map(line).collect()
}

/// `model.layers.3.mlp.up_proj` as (`model.layers.`, `.mlp.up_proj`) and 3; a path without a number as it is.
fn without_layer(path: &str) -> ((String, String), Option<usize>) {
    let mut from = 0;
    for part in path.split('.') {
        if let Ok(layer) = part.parse() {
            let (before, behind) = (&path[..from], &path[from + part.len()..]);
            return ((before.into(), behind.into()), Some(layer));
        }
        from += part.len() + 1;
    }
    ((path.into(), String::new()), None)
}

/// `0-3, 7` for 0, 1, 2, 3, 7.
fn ranges(mut numbers: Vec<usize>) -> String {
    numbers.sort_unstable();
    numbers.dedup();
    let runs = numbers
        .chunk_by(|a, b| a.checked_add(1) == Some(*b))
        .map(|run| match run {
            [first, .., last] => format!("{first}-{last}"),
            one => list(one),
        });
    list(&runs.collect::<Vec<_>>())
}

impl Entry {
    fn new(module: String, form: &Form) -> Self {
        let (text, fields) = describe(form);
        Entry {
            module,
            text,
            fields,
            form: form.name(),
            zero: is_zero(form),
        }
    }
}

/// Whether a form is an update that adds nothing; `None` for what PiSSA and OLoRA take out of the base, which says nothing of training.
fn is_zero(form: &Form) -> Option<bool> {
    let zeros = |m: &graft::adapter::matrix::Matrix| m.to_f32().iter().all(|v| *v == 0.0);
    match form {
        Form::LowRank(l) if l.fixed => None,
        Form::LowRank(l) => Some(zeros(&l.a) || zeros(&l.b)),
        Form::Dense(d, _) => Some(zeros(d)),
        Form::Kron(k) => Some(zeros(&k.w1) || zeros(&k.w2)),
        Form::OutBias(v) => Some(v.iter().all(|v| *v == 0.0)),
        // Not zero, whatever it does.
        _ => Some(false),
    }
}

/// A form in words and as fields.
fn describe(form: &Form) -> (String, Value) {
    let ((inputs, outputs), name) = (form.shape(), form.name());
    let side = |n: usize| if n == 0 { "…".to_string() } else { n.to_string() };
    let shape = format!("{name}  {} → {}", side(inputs), side(outputs));
    let mut document = json!({"form": name, "in": inputs, "out": outputs});
    let text = match form {
        Form::LowRank(l) | Form::InLowRank(l) | Form::Dora(l, _) => {
            (document["rank"], document["scale"]) = (l.rank().into(), l.scale.into());
            format!(
                "{name}  {} → {} → {}, scale {}",
                side(inputs),
                l.rank(),
                side(outputs),
                l.scale
            )
        }
        Form::Dense(_, scale) => {
            document["scale"] = (*scale).into();
            format!("{shape}, scale {scale}")
        }
        Form::Kron(k) => {
            document["scale"] = k.scale.into();
            document["factors"] = json!([[k.w1.rows(), k.w1.cols()], [k.w2.rows(), k.w2.cols()]]);
            let (o1, i1, o2, i2) = (k.w1.rows(), k.w1.cols(), k.w2.rows(), k.w2.cols());
            format!("{shape} as {o1}×{i1} ⊗ {o2}×{i2}, scale {}", k.scale)
        }
        Form::InBlocks(b) | Form::OutBlocks(b) => {
            document["block"] = b.size.into();
            format!("{shape}, blocks of {}", b.size)
        }
        Form::Rows(ids, _) => {
            document["tokens"] = json!(ids);
            format!("{name}  of {} tokens", ids.len())
        }
        Form::FromBase(f) => {
            document["what"] = f.what.into();
            format!("{shape}: {}, made when it is put on a model", f.what)
        }
        _ => shape,
    };
    (text, document)
}

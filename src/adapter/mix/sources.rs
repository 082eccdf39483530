//! What there is to mix: the modules of several adapters side by side, still in their files.

use std::collections::BTreeMap;

use crate::adapter::methods::lora;
use crate::adapter::options::{self, Rule};
use crate::adapter::scaling::{MAX_RANK, Scaling};
use crate::error::{Error, Result};
use crate::format::{PeftFolder, TensorView};

/// One module, with what each adapter that adapts it has there.
pub(super) struct Site<'a> {
    /// Path such as `model.layers.0.self_attn.q_proj`.
    pub(super) path: String,
    /// Factors of an embedding have other names.
    pub(super) embedding: bool,
    /// In the order of the adapters.
    pub(super) parts: Vec<Part<'a>>,
}

/// The factors of one adapter at one module: the update is `scale * B A`.
pub(super) struct Part<'a> {
    /// Which adapter.
    pub(super) adapter: usize,
    /// A, `[rank][inputs]`.
    pub(super) a: TensorView<'a>,
    /// B, `[outputs][rank]`.
    pub(super) b: TensorView<'a>,
    pub(super) scale: f32,
}

impl Site<'_> {
    /// (inputs, outputs), the same for all parts.
    pub(super) fn shape(&self) -> (usize, usize) {
        self.parts.first().map_or((0, 0), Part::shape)
    }
}

impl Part<'_> {
    /// (inputs, outputs).
    pub(super) fn shape(&self) -> (usize, usize) {
        (self.a.shape[1], self.b.shape[0])
    }

    pub(super) fn rank(&self) -> usize {
        self.a.shape[0]
    }
}

/// Fields of a LoRA config that are read, or do not matter for what is in the file. A list of its own: more can be applied
/// than can be mixed.
const LORA: &[(&str, Rule)] = &[
    ("r", Rule::Fine),
    ("lora_alpha", Rule::Fine),
    ("use_rslora", Rule::Fine),
    ("rank_pattern", Rule::Fine),
    ("alpha_pattern", Rule::Fine),
    ("target_modules", Rule::Fine),
    ("exclude_modules", Rule::Fine),
    ("layers_to_transform", Rule::Fine),
    ("layers_pattern", Rule::Fine),
    ("lora_dropout", Rule::Fine),
    ("eva_config", Rule::Fine),
    ("velora_config", Rule::Fine),
    ("fan_in_fan_out", Rule::Fine),
    ("megatron_config", Rule::Fine),
    ("megatron_core", Rule::Fine),
    ("qalora_group_size", Rule::Fine),
    ("init_lora_weights", Rule::Fine),
    ("loftq_config", Rule::Fine),
    ("corda_config", Rule::Fine),
    ("lora_ga_config", Rule::Fine),
    ("task_type", Rule::Fine),
    ("bias", Rule::Off),
];

/// The same for IA3.
const IA3: &[(&str, Rule)] = &[
    ("target_modules", Rule::Fine),
    ("feedforward_modules", Rule::Fine),
    ("exclude_modules", Rule::Fine),
    ("fan_in_fan_out", Rule::Fine),
    ("init_ia3_weights", Rule::Fine),
    ("task_type", Rule::Fine),
];

/// Options whose part of an adapter cannot be mixed, and why.
const REFUSED: &[(&str, &str)] = &[
    (
        "use_dora",
        "the magnitudes of DoRA belong to the weights of one adapter alone",
    ),
    ("lora_bias", "the mixed factors have no place for a bias of their own"),
    ("bias", "trained biases replace those of the base model, and two cannot"),
    (
        "modules_to_save",
        "modules that were trained as a whole replace those of the base model, and two cannot",
    ),
    (
        "trainable_token_indices",
        "trained rows of an embedding replace those of the base model, and two cannot",
    ),
    (
        "alora_invocation_tokens",
        "it works only after its invocation tokens, a mix works from the start",
    ),
    ("layer_replication", "it belongs to a model with repeated layers"),
    (
        "target_parameters",
        "the factors of experts are stacked in an order of their own",
    ),
    ("use_qalora", "its factors work on groups of inputs"),
    ("use_bdlora", "its factors are blocks"),
    ("kasa_config", "its update has a middle factor"),
    ("monteclora_config", "its update is random"),
    ("arrow_config", "it chooses among other adapters"),
];

/// An aLoRA without tokens is broken, not off.
fn is_empty_sequence(field: &str, value: &serde_json::Value) -> bool {
    field == "alora_invocation_tokens" && value.is_array()
}

/// Checks that every option of the adapter can be mixed.
pub(super) fn check_options(folder: &PeftFolder, method: &str) -> Result<()> {
    for (field, why) in REFUSED {
        if let Some(value) = folder
            .value(field)
            .filter(|v| !options::is_off(v) || is_empty_sequence(field, v))
        {
            let e = Error::unsupported(format!("an adapter with this option cannot be mixed: {why}"));
            let e = e.expected("it off; or use the adapters together, unmixed: they add up");
            return Err(folder.error(e.found(value), field));
        }
    }
    match method {
        "IA3" => options::check(folder, IA3),
        _ => {
            options::check(folder, LORA)?;
            lora::check_start(folder)
        }
    }
}

/// Every module that one of the `folders` adapts, by path, and the base model's tensors that they bring along.
///
/// # Errors
/// A tensor that is no factor or lacks its partner, shapes that do not belong together, a rank that contradicts the config.
#[allow(clippy::type_complexity, reason = "two lists")]
pub(super) fn lora_sites<'a>(folders: &[&'a PeftFolder]) -> Result<(Vec<Site<'a>>, Vec<TensorView<'a>>)> {
    let mut sites: BTreeMap<&str, Site> = BTreeMap::new();
    let mut kept: BTreeMap<&str, TensorView> = BTreeMap::new();
    for (adapter, folder) in folders.iter().enumerate() {
        let scaling = Scaling::read(folder, "lora_alpha")?;
        for (path, factors) in modules(folder, &mut kept)? {
            let part = part(folder, path, adapter, &factors, &scaling)?;
            let site = sites.entry(path).or_insert_with(|| Site {
                path: path.to_owned(),
                embedding: factors.embedding,
                parts: Vec::new(),
            });
            if let Some(first) = site.parts.first() {
                if site.embedding != factors.embedding {
                    let e = Error::mismatch("the module is an embedding for one adapter and a linear one for another");
                    return Err(part.a.error(e));
                }
                if first.shape() != part.shape() {
                    let words = |(inputs, outputs)| format!("{inputs} inputs, {outputs} outputs");
                    let e = Error::mismatch("the module has another shape in the other adapter");
                    let e = e.expected(words(first.shape())).found(words(part.shape()));
                    return Err(part.a.error(e));
                }
            }
            site.parts.push(part);
        }
    }
    Ok((sites.into_values().collect(), kept.into_values().collect()))
}

/// The two factors of a module, as far as they have been seen.
#[derive(Default)]
struct Factors<'a> {
    a: Option<TensorView<'a>>,
    b: Option<TensorView<'a>>,
    embedding: bool,
}

/// The factors of one adapter by module. `kept` collects tensors of the base model (PEFT saves an embedding with the
/// adapter that adapts it): of two adapters they must be the same.
fn modules<'a>(
    folder: &'a PeftFolder,
    kept: &mut BTreeMap<&'a str, TensorView<'a>>,
) -> Result<BTreeMap<&'a str, Factors<'a>>> {
    const SUFFIXES: [(&str, bool, bool); 4] = [
        (".lora_A.weight", true, false),
        (".lora_B.weight", false, false),
        (".lora_embedding_A", true, true),
        (".lora_embedding_B", false, true),
    ];
    let mut modules: BTreeMap<&str, Factors> = BTreeMap::new();
    for t in folder.tensors() {
        let path = module_path(&t)?;
        let factor = SUFFIXES
            .iter()
            .find_map(|(suffix, is_a, embedding)| Some((path.strip_suffix(suffix)?, *is_a, *embedding)));
        let Some((module, is_a, embedding)) = factor else {
            if !path.ends_with(".base_layer.weight") {
                return Err(foreign(&t, "base_model.model.<module>.lora_A.weight or .lora_B.weight"));
            }
            let before = kept.entry(t.name).or_insert(t);
            if (before.dtype, before.shape, before.data) != (t.dtype, t.shape, t.data) {
                let e = Error::mismatch("two adapters bring along different weights of the base model");
                return Err(t.error(e.expected("the same embedding, unchanged, in all of them")));
            }
            continue;
        };
        let factors = modules.entry(module).or_insert(Factors {
            embedding,
            ..Default::default()
        });
        let place = if is_a { &mut factors.a } else { &mut factors.b };
        if factors.embedding != embedding || place.replace(t).is_some() {
            return Err(t.error(Error::invalid("the module has two sets of factors")));
        }
    }
    Ok(modules)
}

/// Checks that the factors belong together.
fn part<'a>(
    folder: &PeftFolder,
    path: &str,
    adapter: usize,
    factors: &Factors<'a>,
    scaling: &Scaling,
) -> Result<Part<'a>> {
    let missing = |which: &str| {
        let e = Error::invalid(format!("the factor {which} of the module is missing"));
        e.file(folder.tensors_path()).item(path)
    };
    let a = factors.a.ok_or_else(|| missing("A"))?;
    let b = factors.b.ok_or_else(|| missing("B"))?;
    let bad = |t: &TensorView, expected: &str| {
        let e = Error::invalid("shape does not fit (of convolutions none is mixed)");
        t.error(e.expected(expected).found(format_args!("{:?}", t.shape)))
    };
    let rank = match *a.shape {
        [r @ 1..=MAX_RANK, inputs] if inputs > 0 => r,
        _ => return Err(bad(&a, "[r, in], neither 0")),
    };
    match *b.shape {
        [outputs, r] if r == rank && outputs > 0 => {}
        _ => return Err(bad(&b, &format!("[out, {rank}]"))),
    }
    if scaling.rank(path) != rank {
        let e = Error::mismatch("rank contradicts r or rank_pattern in adapter_config.json");
        return Err(a.error(e.expected(scaling.rank(path)).found(rank)));
    }
    let scale = scaling.scale(path, rank);
    Ok(Part { adapter, a, b, scale })
}

/// Every module that one of the IA3 `folders` scales, by path, with (adapter, vector) of each.
///
/// # Errors
/// A tensor that is no vector of IA3, or of another shape than in the other adapter.
#[allow(clippy::type_complexity, reason = "a map to lists")]
pub(super) fn ia3_sites<'a>(folders: &[&'a PeftFolder]) -> Result<BTreeMap<&'a str, Vec<(usize, TensorView<'a>)>>> {
    let mut sites: BTreeMap<&str, Vec<(usize, TensorView)>> = BTreeMap::new();
    for (adapter, folder) in folders.iter().enumerate() {
        for t in folder.tensors() {
            let Some(module) = module_path(&t)?.strip_suffix(".ia3_l") else {
                return Err(foreign(&t, "base_model.model.<module>.ia3_l"));
            };
            if !matches!(*t.shape, [1, n] | [n, 1] if n > 0) {
                let e = Error::invalid("shape does not fit").expected("[1, in] or [out, 1]");
                return Err(t.error(e.found(format_args!("{:?}", t.shape))));
            }
            let parts = sites.entry(module).or_default();
            if let Some((_, first)) = parts.first().filter(|(_, first)| first.shape != t.shape) {
                let e = Error::mismatch("the module has another shape in the other adapter");
                let e = e.expected(format_args!("{:?}", first.shape));
                return Err(t.error(e.found(format_args!("{:?}", t.shape))));
            }
            parts.push((adapter, t));
        }
    }
    Ok(sites)
}

/// The tensor's name without what all names of PEFT begin with.
fn module_path<'a>(t: &TensorView<'a>) -> Result<&'a str> {
    t.name
        .strip_prefix("base_model.model.")
        .ok_or_else(|| foreign(t, "a name that begins with base_model.model."))
}

fn foreign(t: &TensorView, expected: &str) -> Error {
    t.error(Error::unsupported("a tensor that has no place in a mix").expected(expected))
}

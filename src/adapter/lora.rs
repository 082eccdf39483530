//! LoRA (Hu et al. 2021, arXiv 2106.09685) as PEFT saves it: `<m>.lora_A.weight` (r, in), `<m>.lora_B.weight` (out, r);
//! y += s B (A x) with s = lora_alpha / r, or lora_alpha / sqrt(r) with `use_rslora` (Kalajdzievski 2023).
//!
//! The rank comes from the tensors and must agree with the config; `rank_pattern` and `alpha_pattern` hold for the first
//! key that matches the end of the module's path (`get_pattern_key` in peft/utils/other.py).

use serde_json::{Map, Value};

use super::forms::{Form, LowRank, SiteForms};
use super::options::{self, Rule};
use crate::error::{Error, Result};
use crate::format::PeftFolder;

/// Every field of PEFT's LoraConfig (0.21) and what becomes of it. One that is not here must be off.
const RULES: &[(&str, Rule)] = &[
    ("r", Rule::Fine),
    ("lora_alpha", Rule::Fine),
    ("use_rslora", Rule::Fine),
    ("rank_pattern", Rule::Fine),
    ("alpha_pattern", Rule::Fine),
    // The tensors' names tell which modules are adapted.
    ("target_modules", Rule::Fine),
    ("exclude_modules", Rule::Fine),
    ("layers_to_transform", Rule::Fine),
    ("layers_pattern", Rule::Fine),
    // Training only.
    ("lora_dropout", Rule::Fine),
    ("eva_config", Rule::Fine),
    ("velora_config", Rule::Fine),
    // Tensors are in logical orientation whatever this says (the module's type decides in PEFT).
    ("fan_in_fan_out", Rule::Fine),
    ("megatron_config", Rule::Fine),
    ("megatron_core", Rule::Fine),
    ("qalora_group_size", Rule::Fine),
    // Checked in `check_init`.
    ("init_lora_weights", Rule::Fine),
    ("loftq_config", Rule::Fine),
    ("corda_config", Rule::Fine),
    ("lora_ga_config", Rule::Fine),
    ("task_type", Rule::OneOf(&["CAUSAL_LM"])),
    ("bias", Rule::OneOf(&["none"])),
    ("use_dora", Rule::Off),
    ("lora_bias", Rule::Off),
    ("modules_to_save", Rule::Off),
    ("trainable_token_indices", Rule::Off),
    ("alora_invocation_tokens", Rule::Off),
    ("layer_replication", Rule::Off),
    ("target_parameters", Rule::Off),
    ("use_qalora", Rule::Off),
    ("use_bdlora", Rule::Off),
    ("arrow_config", Rule::Off),
    ("kasa_config", Rule::Off),
    ("monteclora_config", Rule::Off),
    ("ensure_weight_tying", Rule::Off),
];

/// Initialisations that change the base weights: the file then belongs to another base than the one on disk.
const CHANGES_BASE: &[&str] = &["pissa", "olora", "loftq", "corda", "lora_ga"];

/// A LoRA alpha or rank beyond this is a broken file.
pub(super) const MAX_RANK: usize = 1 << 16;

/// Lowers the folder's tensors to low-rank updates.
///
/// # Errors
/// An option that is not done, a tensor that is no LoRA factor or lacks its partner, shapes that do not belong together,
/// a rank that contradicts the config.
pub fn lower(folder: &PeftFolder) -> Result<Vec<SiteForms>> {
    options::check(folder, RULES)?;
    check_init(folder)?;
    let scaling = Scaling::read(folder)?;
    let mut modules: Vec<(String, Option<usize>, Option<usize>)> = Vec::new();
    let mut index = std::collections::HashMap::new();
    let tensors: Vec<_> = folder.tensors().collect();
    for (i, t) in tensors.iter().enumerate() {
        let unused = |message: &str| {
            Error::unsupported(message)
                .file(folder.tensors_path())
                .item(t.name)
                .expected("base_model.model.<module>.lora_A.weight or .lora_B.weight")
                .found(format!("{:?}", t.shape))
        };
        let path = t
            .name
            .strip_prefix("base_model.model.")
            .ok_or_else(|| unused("tensor that would not be applied"))?;
        let (module, is_a) = match (path.strip_suffix(".lora_A.weight"), path.strip_suffix(".lora_B.weight")) {
            (Some(module), _) => (module, true),
            (_, Some(module)) => (module, false),
            _ => return Err(unused("tensor that would not be applied")),
        };
        let at = *index.entry(module).or_insert_with(|| {
            modules.push((module.to_owned(), None, None));
            modules.len() - 1
        });
        let (_, a, b) = &mut modules[at];
        *(if is_a { a } else { b }) = Some(i);
    }
    modules
        .into_iter()
        .map(|(path, a, b)| {
            let missing = |which: &str| {
                Error::invalid("tensor is missing")
                    .file(folder.tensors_path())
                    .item(format!("base_model.model.{path}.lora_{which}.weight"))
            };
            let a = &tensors[a.ok_or_else(|| missing("A"))?];
            let b = &tensors[b.ok_or_else(|| missing("B"))?];
            let bad_shape = |t: &crate::format::TensorView, expected: &str| {
                Error::invalid("shape does not fit")
                    .file(folder.tensors_path())
                    .item(t.name)
                    .expected(expected)
                    .found(format!("{:?}", t.shape))
            };
            let [rank, cols] = a.shape[..] else {
                return Err(bad_shape(a, "[r, in]"));
            };
            let [rows, b_rank] = b.shape[..] else {
                return Err(bad_shape(b, "[out, r]"));
            };
            if rank == 0 || cols == 0 || rank > MAX_RANK {
                return Err(bad_shape(a, "[r, in], neither 0"));
            }
            if b_rank != rank || rows == 0 {
                return Err(bad_shape(b, &format!("[out, {rank}]")));
            }
            let configured = scaling.rank(&path);
            if configured != rank {
                return Err(
                    Error::mismatch("rank contradicts r or rank_pattern in adapter_config.json")
                        .file(folder.tensors_path())
                        .item(a.name)
                        .expected(configured)
                        .found(rank),
                );
            }
            let scale = scaling.scale(&path, rank);
            let (a, b) = (finite(folder, a)?, finite(folder, b)?);
            Ok(SiteForms {
                path,
                forms: vec![Form::LowRank(LowRank {
                    rank,
                    cols,
                    rows,
                    a,
                    b,
                    scale,
                })],
            })
        })
        .collect()
}

/// A tensor's values. NaN or infinity in a factor would turn every later token into garbage.
fn finite(folder: &PeftFolder, t: &crate::format::TensorView) -> Result<Vec<f32>> {
    let values = t.to_f32().map_err(|e| e.file(folder.tensors_path()))?;
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(values),
        Some(i) => Err(Error::invalid("value is not a finite number")
            .file(folder.tensors_path())
            .item(t.name)
            .expected("finite numbers")
            .found(format!("{} at element {i}", values[i]))),
    }
}

pub(super) fn check_init(folder: &PeftFolder) -> Result<()> {
    let field = "init_lora_weights";
    match folder.value(field) {
        Some(Value::String(s)) if CHANGES_BASE.iter().any(|p| s.starts_with(p)) => Err(Error::unsupported(
            "initialisation that changes the base weights",
        )
        .file(folder.config_path())
        .item(field)
        .expected("an adapter converted to plain LoRA (save_pretrained with path_initial_model_for_weight_conversion)")
        .found(s)),
        _ => Ok(()),
    }
}

/// How a module's path leads to its rank and scale.
pub(super) struct Scaling {
    rank: usize,
    alpha: f64,
    rank_pattern: Vec<(regex::Regex, usize)>,
    alpha_pattern: Vec<(regex::Regex, f64)>,
    rslora: bool,
}

impl Scaling {
    pub(super) fn read(folder: &PeftFolder) -> Result<Self> {
        // PEFT's defaults for fields that an old file lacks.
        const DEFAULT: usize = 8;
        let wrong = |field: &str, expected: &str, found: &dyn std::fmt::Display| {
            Error::invalid("value out of range")
                .file(folder.config_path())
                .item(field)
                .expected(expected)
                .found(found)
        };
        let rank = folder.usize("r", DEFAULT)?;
        if rank == 0 || rank > MAX_RANK {
            return Err(wrong("r", &format!("1 to {MAX_RANK}"), &rank));
        }
        let alpha = folder.f64("lora_alpha", DEFAULT as f64)?;
        if !alpha.is_finite() {
            return Err(wrong("lora_alpha", "a finite number", &alpha));
        }
        let rank_pattern = patterns(folder, "rank_pattern", |v| {
            v.as_u64()
                .and_then(|n| usize::try_from(n).ok())
                .filter(|n| (1..=MAX_RANK).contains(n))
        })?;
        let alpha_pattern = patterns(folder, "alpha_pattern", |v| v.as_f64().filter(|a| a.is_finite()))?;
        Ok(Scaling {
            rank,
            alpha,
            rank_pattern,
            alpha_pattern,
            rslora: folder.bool("use_rslora", false)?,
        })
    }

    pub(super) fn rank(&self, path: &str) -> usize {
        first_match(&self.rank_pattern, path).unwrap_or(self.rank)
    }

    pub(super) fn scale(&self, path: &str, rank: usize) -> f32 {
        let alpha = first_match(&self.alpha_pattern, path).unwrap_or(self.alpha);
        let rank = rank as f64;
        (alpha / if self.rslora { rank.sqrt() } else { rank }) as f32
    }
}

fn first_match<T: Copy>(patterns: &[(regex::Regex, T)], path: &str) -> Option<T> {
    patterns.iter().find(|(re, _)| re.is_match(path)).map(|p| p.1)
}

/// A pattern field: an object from regular expressions to values, in the file's order.
fn patterns<T>(
    folder: &PeftFolder,
    field: &str,
    value: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<(regex::Regex, T)>> {
    let empty = Map::new();
    let object = folder.object(field)?.unwrap_or(&empty);
    object
        .iter()
        .map(|(key, v)| {
            let wrong = |message: String, found: String| {
                Error::invalid(message)
                    .file(folder.config_path())
                    .item(format!("{field}.{key}"))
                    .found(found)
            };
            let re = regex::RegexBuilder::new(&format!(r"^(?:.*\.)?(?:{key})$"))
                .size_limit(1 << 20)
                .build()
                .map_err(|e| wrong("not a regular expression that Graft reads".into(), e.to_string()))?;
            let v = value(v).ok_or_else(|| wrong("value out of range".into(), v.to_string()))?;
            Ok((re, v))
        })
        .collect()
}

//! A new adapter for a model: which modules, which tensors, and what is in them, as PEFT begins.

use std::f32::consts::TAU;

use serde_json::{Map, Value, json};

use super::parameters::Parameters;
use crate::adapter::attach::base_weights;
use crate::error::{Error, Result};
use crate::model::{Part, Site};
use crate::rng::Rng;
use crate::runtime::Model;

/// Which modules are adapted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Every linear map of the layers.
    AllLinear,
    /// Modules whose path is one of these, or ends with one behind a dot.
    Named(Vec<String>),
    /// Modules whose whole path matches.
    Matching(String),
}

impl Targets {
    /// `all-linear`, names separated by commas, or else a regular expression, as PEFT's `target_modules` reads a text.
    pub fn parse(text: &str) -> Self {
        let plain = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
        match text {
            "all-linear" => Targets::AllLinear,
            text if text.split(',').all(|name| plain(name.trim())) => {
                Targets::Named(text.split(',').map(|name| name.trim().to_owned()).collect())
            }
            text => Targets::Matching(text.to_owned()),
        }
    }

    fn value(&self) -> Value {
        match self {
            Targets::AllLinear => json!("all-linear"),
            Targets::Named(names) => json!(names),
            Targets::Matching(expression) => json!(expression),
        }
    }
}

/// How a low-rank update begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Init {
    /// A uniform in ±1/√in, B zero: what PEFT does.
    #[default]
    Default,
    /// A normal with deviation 1/r, B zero.
    Gaussian,
}

impl Init {
    /// The one called `name`.
    ///
    /// # Errors
    /// `Usage` for another name.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "default" => Ok(Init::Default),
            "gaussian" => Ok(Init::Gaussian),
            other => Err(Error::usage("unknown initialisation")
                .item("init")
                .expected("default or gaussian")
                .found(other)),
        }
    }
}

/// What kind of adapter.
#[derive(Clone, Debug)]
pub struct NewAdapter {
    /// `lora`, `rslora`, `dora`, `ia3` or `ln_tuning`.
    pub method: String,
    /// Rank of updates.
    pub r: usize,
    /// Their scale is alpha / r.
    pub alpha: f64,
    /// Which modules.
    pub targets: Targets,
    /// What they begin with.
    pub init: Init,
    /// For random numbers.
    pub seed: u64,
    /// What the base model is called in the config.
    pub base_model: Option<String>,
}

impl Default for NewAdapter {
    fn default() -> Self {
        NewAdapter {
            method: "lora".into(),
            r: 8,
            alpha: 16.0,
            targets: Targets::AllLinear,
            init: Init::Default,
            seed: 42,
            base_model: None,
        }
    }
}

/// By name: what makes the config's own fields and the tensors of a module.
static METHODS: &[(&str, Start)] = &[
    (
        "lora",
        Start {
            fields: lora_fields,
            tensors: lora,
        },
    ),
    (
        "rslora",
        Start {
            fields: lora_fields,
            tensors: lora,
        },
    ),
    (
        "dora",
        Start {
            fields: lora_fields,
            tensors: dora,
        },
    ),
    (
        "ia3",
        Start {
            fields: ia3_fields,
            tensors: ia3,
        },
    ),
    (
        "ln_tuning",
        Start {
            fields: ln_fields,
            tensors: ln_tuning,
        },
    ),
];

#[derive(Clone, Copy)]
struct Start {
    fields: fn(&NewAdapter) -> Value,
    tensors: fn(&Module, &NewAdapter, &mut Rng) -> Vec<Tensor>,
}

/// Name behind the module's path, shape, numbers.
type Tensor = (&'static str, Vec<usize>, Vec<f32>);

/// A module to be adapted.
struct Module<'a> {
    model: &'a Model,
    site: Site,
    inputs: usize,
    outputs: usize,
}

/// The names of the methods that can be begun.
pub fn methods() -> Vec<&'static str> {
    METHODS.iter().map(|m| m.0).collect()
}

impl Parameters {
    /// A new adapter for `model`.
    ///
    /// # Errors
    /// An unknown method, targets that match nothing (with the names that there are), a rank of 0 or beyond a module's size.
    pub fn start(model: &Model, new: &NewAdapter) -> Result<Self> {
        let start = METHODS.iter().find(|m| m.0 == new.method).map(|m| m.1).ok_or_else(|| {
            let e = Error::usage("Graft begins no adapter of this method").item("method");
            e.expected(methods().join(", ")).found(&new.method)
        })?;
        let norms = new.method == "ln_tuning";
        let sites = sites(model, &new.targets, norms)?;
        if !norms && new.method != "ia3" {
            let least = sites.iter().map(|s| {
                let m = Module::of(model, *s);
                m.inputs.min(m.outputs)
            });
            let least = least.min().unwrap_or(0);
            if new.r == 0 || new.r > least {
                let e = Error::usage("rank out of range").item("r");
                return Err(e
                    .expected(format!("1 to {least}, the least size of a module"))
                    .found(new.r));
            }
        }
        if !new.alpha.is_finite() {
            return Err(Error::usage("number out of range")
                .item("alpha")
                .expected("a finite number")
                .found(new.alpha));
        }
        let mut config = Map::new();
        let common = json!({
            "base_model_name_or_path": new.base_model,
            "inference_mode": true,
            "peft_version": "0.21.2",
            "revision": null,
            "target_modules": new.targets.value(),
            "task_type": "CAUSAL_LM",
            "modules_to_save": null,
        });
        for fields in [common, (start.fields)(new)] {
            if let Value::Object(fields) = fields {
                config.extend(fields);
            }
        }
        if let (Targets::AllLinear, Some(targets)) = (&new.targets, config.get_mut("target_modules")) {
            // PEFT saves the names that it found.
            *targets = json!(names(model, &sites));
        }
        let mut rng = Rng::new(new.seed);
        let mut tensors = Vec::new();
        for site in sites {
            let path = site.hf_path(model.spec().post_norms);
            for (name, shape, values) in (start.tensors)(&Module::of(model, site), new, &mut rng) {
                tensors.push((format!("base_model.model.{path}.{name}"), shape, values));
            }
        }
        Self::new(config, tensors)
    }
}

impl<'a> Module<'a> {
    fn of(model: &'a Model, site: Site) -> Self {
        let (inputs, outputs) = match model.weights().linear(site) {
            Some(linear) => (linear.cols, linear.rows),
            None => (model.spec().hidden_size, 1),
        };
        Module {
            model,
            site,
            inputs,
            outputs,
        }
    }
}

/// The last names of the modules' paths, each once.
fn names(model: &Model, sites: &[Site]) -> Vec<String> {
    let mut names: Vec<String> = sites
        .iter()
        .map(|s| s.hf_path(model.spec().post_norms))
        .filter_map(|path| path.rsplit('.').next().map(str::to_owned))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The modules that `targets` name, in the order of the layers.
fn sites(model: &Model, targets: &Targets, norms: bool) -> Result<Vec<Site>> {
    let spec = model.spec();
    let parts = Part::ALL
        .into_iter()
        .filter(|part| Site::Layer(0, *part).is_norm() == norms);
    let layer = model.weights().layers.first();
    let parts: Vec<Part> = parts.filter(|part| layer.is_some_and(|l| l.has(*part))).collect();
    let mut all: Vec<Site> = (0..spec.n_layers)
        .flat_map(|layer| parts.iter().map(move |part| Site::Layer(layer, *part)))
        .collect();
    if norms {
        all.push(Site::OutputNorm);
    } else {
        all.push(Site::Head);
    }
    let path = |s: &Site| s.hf_path(spec.post_norms);
    let nothing = |found: String| {
        let e = Error::usage("no module of the model matches").item("targets");
        Err(e.expected(names(model, &all).join(", ")).found(found))
    };
    let fits: Vec<Site> = match targets {
        Targets::AllLinear if norms => all.clone(),
        Targets::AllLinear => all.iter().copied().filter(|s| *s != Site::Head).collect(),
        Targets::Named(names) => {
            let is = |path: &str, name: &str| path == name || path.strip_suffix(name).is_some_and(|p| p.ends_with('.'));
            if let Some(name) = names.iter().find(|name| !all.iter().any(|s| is(&path(s), name))) {
                return nothing(name.clone());
            }
            all.iter()
                .copied()
                .filter(|s| names.iter().any(|name| is(&path(s), name)))
                .collect()
        }
        Targets::Matching(expression) => {
            let re = regex::RegexBuilder::new(&format!("^(?:{expression})$"))
                .size_limit(1 << 20)
                .build();
            let re = re.map_err(|e| Error::usage(format!("not a regular expression: {e}")).item("targets"))?;
            all.iter().copied().filter(|s| re.is_match(&path(s))).collect()
        }
    };
    match fits.is_empty() {
        true => nothing(format!("{targets:?}")),
        false => Ok(fits),
    }
}

fn lora_fields(new: &NewAdapter) -> Value {
    json!({
        "peft_type": "LORA",
        "r": new.r,
        "lora_alpha": new.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": match new.init { Init::Default => json!(true), Init::Gaussian => json!("gaussian") },
        "use_rslora": new.method == "rslora",
        "use_dora": new.method == "dora",
        "rank_pattern": {},
        "alpha_pattern": {},
    })
}

/// A uniform in ±√(6 / ((1 + 5) in)) = ±1/√in (`kaiming_uniform_(a=√5)`), or normal; B zero.
fn lora(module: &Module, new: &NewAdapter, rng: &mut Rng) -> Vec<Tensor> {
    let n = new.r * module.inputs;
    let a = match new.init {
        Init::Default => {
            let bound = 1.0 / (module.inputs as f32).sqrt();
            (0..n).map(|_| (2.0 * rng.unit() as f32 - 1.0) * bound).collect()
        }
        Init::Gaussian => (0..n).map(|_| normal(rng) / new.r as f32).collect(),
    };
    vec![
        ("lora_A.weight", vec![new.r, module.inputs], a),
        (
            "lora_B.weight",
            vec![module.outputs, new.r],
            vec![0.0; module.outputs * new.r],
        ),
    ]
}

/// As LoRA, and magnitudes that are the norms of the weight's rows.
fn dora(module: &Module, new: &NewAdapter, rng: &mut Rng) -> Vec<Tensor> {
    let mut tensors = lora(module, new, rng);
    let (model, site) = (module.model, module.site);
    let rows = base_weights(model.backend(), model.spec(), model.weights(), site);
    let norm = |row: &[f32]| row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt() as f32;
    let norms = rows.chunks_exact(module.inputs).map(norm).collect();
    tensors.push(("lora_magnitude_vector", vec![module.outputs], norms));
    tensors
}

fn ia3_fields(new: &NewAdapter) -> Value {
    json!({
        "peft_type": "IA3",
        "feedforward_modules": match &new.targets {
            Targets::Named(names) => json!(names.iter().filter(|n| n.ends_with("down_proj")).collect::<Vec<_>>()),
            _ => json!(["down_proj"]),
        },
        "fan_in_fan_out": false,
        "init_ia3_weights": true,
    })
}

/// Ones: on the input of the feed-forward's last map, else on the output.
fn ia3(module: &Module, _: &NewAdapter, _: &mut Rng) -> Vec<Tensor> {
    let shape = match module.site {
        Site::Layer(_, Part::Down) => vec![1, module.inputs],
        _ => vec![module.outputs, 1],
    };
    let n = shape.iter().product();
    vec![("ia3_l", shape, vec![1.0; n])]
}

fn ln_fields(_: &NewAdapter) -> Value {
    json!({"peft_type": "LN_TUNING"})
}

/// The base's own weights.
fn ln_tuning(module: &Module, _: &NewAdapter, _: &mut Rng) -> Vec<Tensor> {
    let (model, spec) = (module.model, module.model.spec());
    let weights = model.weights();
    let norm = match module.site {
        Site::Layer(i, part) => weights.layers[i].norm(part),
        _ => Some(&weights.output_norm),
    };
    // The converter adds the 1 that Gemma's norms add when they run.
    let one = if spec.norms_plus_one { 1.0 } else { 0.0 };
    let values: Vec<f32> = norm.map_or(Vec::new(), |v| v.iter().map(|v| v - one).collect());
    vec![("ln_tuning_layers.weight", vec![values.len()], values)]
}

/// A normal number (Box and Muller 1958).
fn normal(rng: &mut Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.unit()).ln()).sqrt() as f32;
    radius * (TAU * rng.unit() as f32).cos()
}

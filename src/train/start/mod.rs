//! A new adapter for a model: which modules, which tensors, and what is in them, as PEFT begins (0.21, peft/tuners). To add a method: its
//! config's fields and its tensors, and its line in [`METHODS`].

mod draw;
mod factors;
mod lora;
mod own;
mod prompt;
mod targets;
mod turns;

use serde_json::{Map, Value, json};

use super::parameters::{Parameters, dropout_in_range};
use crate::adapter::attach::base_weights;
use crate::adapter::scaling::MAX_RANK;
use crate::error::{Error, Result};
use crate::model::Site;
use crate::model::backend::Backend;
use crate::rng::Rng;
use crate::runtime::Model;

pub use lora::Init;
use targets::On;
pub use targets::Targets;

/// What kind of adapter. A field of which the method knows nothing must be as in [`NewAdapter::default`], but for those that many share:
/// `r` and `alpha`.
#[derive(Clone, Debug)]
pub struct NewAdapter {
    /// One of [`methods`].
    pub method: String,
    /// Rank of updates.
    pub r: usize,
    /// Their scale is alpha / r.
    pub alpha: f64,
    /// Which modules.
    pub targets: Targets,
    /// What updates of LoRA begin with.
    pub init: Init,
    /// Of LoRA and AdaLoRA: the probability with which updates lose a number of their input while they are trained.
    pub dropout: f64,
    /// For random numbers.
    pub seed: u64,
    /// What the base model is called in the config.
    pub base_model: Option<String>,
    /// Positions before the text, of prompts and prefixes.
    pub num_virtual_tokens: usize,
    /// Of prompt tuning: the text whose tokens it begins with, over and over, instead of random ones.
    pub prompt_tuning_init_text: Option<String>,
    /// Of trainable tokens: which.
    pub token_indices: Vec<u32>,
    /// Inputs of a block of OFT; where that does not divide a module's inputs, the nearest size that does.
    pub oft_block_size: usize,
    /// Inputs of a block of BOFT.
    pub boft_block_size: usize,
    /// Outputs of a group of RoAd.
    pub group_size: usize,
    /// Norms and tables (`embed_tokens`, `lm_head`) that are trained whole, beside the adapter, by their last names or paths.
    pub modules_to_save: Vec<String>,
}

impl Default for NewAdapter {
    fn default() -> Self {
        NewAdapter {
            method: "lora".into(),
            r: 8,
            alpha: 16.0,
            targets: Targets::AllLinear,
            init: Init::Default,
            dropout: 0.0,
            seed: 42,
            base_model: None,
            num_virtual_tokens: 20,
            prompt_tuning_init_text: None,
            token_indices: Vec::new(),
            oft_block_size: 32,
            boft_block_size: 4,
            group_size: 64,
            modules_to_save: Vec::new(),
        }
    }
}

/// How a method begins.
#[derive(Clone, Copy)]
struct Method {
    name: &'static str,
    /// Where it stands; `None`: on no module.
    on: Option<On>,
    rank: Option<Rank>,
    /// The options of its own that it reads, of those that [`NewAdapter::given`] lists.
    reads: &'static [&'static str],
    /// The config's own fields.
    fields: fn(&Model, &NewAdapter) -> Value,
    /// The tensors of a module.
    tensors: OfModule,
    /// Those of all modules together, by their whole keys.
    shared: OfAll,
}

/// What a rank may be.
#[derive(Clone, Copy)]
struct Rank {
    default: usize,
    /// The most for a module, and what that is.
    most: fn(&Module) -> usize,
    what: &'static str,
}

/// Name behind the module's path, or whole key; shape; numbers.
type Tensor = (&'static str, Vec<usize>, Vec<f32>);
type OfModule = fn(&Module, &NewAdapter, &mut Rng) -> Result<Vec<Tensor>>;
type OfAll = fn(&Model, &[Module], &NewAdapter, &mut Rng) -> Result<Vec<Tensor>>;

/// At most the least side of a module.
const LEAST: Rank = Rank {
    default: 8,
    most: |m| m.inputs.min(m.outputs),
    what: "the least size of a module",
};
/// At most the inputs of a module.
const INPUTS: Rank = Rank {
    default: 8,
    most: |m| m.inputs,
    what: "the least number of inputs of a module",
};
/// Beyond the sides of modules too.
const FREE: Rank = Rank {
    default: 8,
    most: |_| MAX_RANK,
    what: "the largest rank that Graft takes",
};

/// One of linear maps without a rank.
const LINEAR: Method = Method {
    name: "",
    on: Some(On::Linear),
    rank: None,
    reads: &["modules_to_save"],
    fields: |_, _| json!({}),
    tensors: |_, _, _| Ok(Vec::new()),
    shared: |_, _, _, _| Ok(Vec::new()),
};
const LORA: Method = Method {
    rank: Some(LEAST),
    reads: &["init", "dropout", "modules_to_save"],
    fields: lora::lora_fields,
    tensors: lora::lora,
    ..LINEAR
};

/// By name.
#[rustfmt::skip] // a line for each
static METHODS: &[Method] = &[
    Method { name: "lora", ..LORA },
    Method { name: "rslora", ..LORA },
    Method { name: "dora", tensors: lora::dora, ..LORA },
    Method { name: "adalora", rank: Some(LEAST), reads: &["dropout", "modules_to_save"], fields: lora::adalora_fields, tensors: lora::adalora, ..LINEAR },
    Method { name: "loha", rank: Some(LEAST), fields: factors::loha_fields, tensors: factors::loha, ..LINEAR },
    Method { name: "lokr", rank: Some(FREE), fields: factors::lokr_fields, tensors: factors::lokr, ..LINEAR },
    Method { name: "vera", rank: Some(Rank { default: 256, ..FREE }), fields: factors::vera_fields, tensors: factors::vera, shared: factors::vera_projection, ..LINEAR },
    Method { name: "miss", rank: Some(Rank { default: 64, ..INPUTS }), fields: factors::miss_fields, tensors: factors::miss, ..LINEAR },
    Method { name: "ia3", fields: own::ia3_fields, tensors: own::ia3, ..LINEAR },
    Method { name: "oft", reads: &["oft_block_size", "modules_to_save"], fields: turns::oft_fields, tensors: turns::oft, ..LINEAR },
    Method { name: "boft", reads: &["boft_block_size", "modules_to_save"], fields: turns::boft_fields, tensors: turns::boft, ..LINEAR },
    Method { name: "hra", rank: Some(INPUTS), fields: turns::hra_fields, tensors: turns::hra, ..LINEAR },
    Method { name: "road", reads: &["group_size", "modules_to_save"], fields: turns::road_fields, tensors: turns::road, ..LINEAR },
    Method { name: "ln_tuning", on: Some(On::Norms), fields: own::ln_fields, tensors: own::ln_tuning, ..LINEAR },
    Method { name: "trainable_tokens", on: Some(On::Tables), reads: &["token_indices"], fields: own::tokens_fields, tensors: own::trainable_tokens, ..LINEAR },
    Method { name: "prompt_tuning", on: None, reads: &["num_virtual_tokens", "prompt_tuning_init_text"], fields: prompt::prompt_fields, shared: prompt::prompt, ..LINEAR },
    Method { name: "prefix_tuning", on: None, reads: &["num_virtual_tokens"], fields: prompt::prefix_fields, shared: prompt::prefix, ..LINEAR },
];

/// The names of the methods that can be begun.
pub fn methods() -> Vec<&'static str> {
    METHODS.iter().map(|m| m.name).collect()
}

fn method(name: &str) -> Result<&'static Method> {
    METHODS.iter().find(|m| m.name == name).ok_or_else(|| {
        let e = Error::usage("Graft begins no adapter of this method").item("method");
        e.expected(methods().join(", ")).found(name)
    })
}

impl NewAdapter {
    /// One of the method, with the rank that it has in PEFT.
    ///
    /// # Errors
    /// `Usage` for a method that Graft does not begin.
    pub fn of(name: &str) -> Result<Self> {
        let d = NewAdapter::default();
        Ok(NewAdapter {
            method: name.into(),
            r: method(name)?.rank.map_or(d.r, |rank| rank.default),
            ..d
        })
    }

    /// The options that only some methods read, and whether each says something.
    fn given(&self) -> [(&'static str, bool); 9] {
        let d = NewAdapter::default();
        [
            ("init", self.init != d.init),
            ("dropout", self.dropout != d.dropout),
            ("num_virtual_tokens", self.num_virtual_tokens != d.num_virtual_tokens),
            ("prompt_tuning_init_text", self.prompt_tuning_init_text.is_some()),
            ("token_indices", !self.token_indices.is_empty()),
            ("oft_block_size", self.oft_block_size != d.oft_block_size),
            ("boft_block_size", self.boft_block_size != d.boft_block_size),
            ("group_size", self.group_size != d.group_size),
            ("modules_to_save", !self.modules_to_save.is_empty()),
        ]
    }

    /// Whether the numbers make sense for the method on these modules.
    fn check(&self, method: &Method, modules: &[Module]) -> Result<()> {
        if let Some((item, _)) = self
            .given()
            .iter()
            .find(|(item, given)| *given && !method.reads.contains(item))
        {
            let e = Error::usage("the method has no such option").item(*item);
            return Err(e.expected(method.reads.join(", ")).found(*item));
        }
        if method.on.is_none() && self.targets != Targets::AllLinear {
            let e = Error::usage("the method stands on no module").item("targets");
            return Err(e.expected("none").found(format!("{:?}", self.targets)));
        }
        if let Some(rank) = method.rank {
            let most = modules.iter().map(rank.most).min().unwrap_or(0);
            if !(1..=most).contains(&self.r) {
                let e = Error::usage("rank out of range").item("r");
                return Err(e.expected(format!("1 to {most}, {}", rank.what)).found(self.r));
            }
        }
        if !self.alpha.is_finite() {
            let e = Error::usage("number out of range").item("alpha");
            return Err(e.expected("a finite number").found(self.alpha));
        }
        dropout_in_range(self.dropout)
    }
}

impl Parameters {
    /// A new adapter for `model`.
    ///
    /// # Errors
    /// An unknown method, targets that match nothing (with the names that there are), a rank of 0 or beyond a module's size, an option that
    /// the method does not have or that does not fit a module.
    pub fn start(model: &Model, new: &NewAdapter) -> Result<Self> {
        let method = method(&new.method)?;
        let sites = match method.on {
            Some(on) => targets::sites(model, &new.targets, on)?,
            None => Vec::new(),
        };
        let modules: Vec<Module> = sites.iter().map(|site| Module::of(model, *site)).collect();
        new.check(method, &modules)?;
        let mut rng = Rng::new(new.seed);
        let mut tensors = Vec::new();
        for (key, shape, values) in (method.shared)(model, &modules, new, &mut rng)? {
            tensors.push((key.to_owned(), shape, values));
        }
        for module in &modules {
            for (name, shape, values) in (method.tensors)(module, new, &mut rng)? {
                // A head that is the embedding is trained with it, and saved again.
                if module.site == Site::Embed && model.tied_head() {
                    tensors.push((Module::of(model, Site::Head).key(name), shape.clone(), values.clone()));
                }
                tensors.push((module.key(name), shape, values));
            }
        }
        for (site, shape, values) in own::saved(model, new, &sites)? {
            tensors.push((Module::of(model, site).key("weight"), shape, values));
        }
        let parameters = Self::new(config(model, method, new, &sites), tensors)?;
        parameters.check_dropout()?;
        Ok(parameters)
    }
}

fn config(model: &Model, method: &Method, new: &NewAdapter, sites: &[Site]) -> Map<String, Value> {
    let mut common = json!({
        "base_model_name_or_path": new.base_model,
        "inference_mode": true,
        "peft_version": "0.21.2",
        "revision": null,
        "task_type": "CAUSAL_LM",
    });
    if method.on.is_some() {
        common["target_modules"] = new.targets.value(model, sites);
    }
    if method.reads.contains(&"modules_to_save") {
        let names = &new.modules_to_save;
        common["modules_to_save"] = json!((!names.is_empty()).then_some(names));
    }
    let mut config = Map::new();
    for fields in [common, (method.fields)(model, new)] {
        if let Value::Object(fields) = fields {
            config.extend(fields);
        }
    }
    config
}

/// A module to be adapted.
struct Module<'a> {
    model: &'a Model,
    site: Site,
    inputs: usize,
    outputs: usize,
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

    fn path(&self) -> String {
        self.site.hf_path(self.model.spec().post_norms)
    }

    fn key(&self, name: &str) -> String {
        format!("base_model.model.{}.{name}", self.path())
    }

    /// The base's weights, `[outputs][inputs]`.
    fn base(&self) -> Vec<f32> {
        let model = self.model;
        base_weights(model.backend(), model.spec(), model.weights(), self.site)
    }

    /// The rows of these tokens of a table: of the head, or else of the embedding.
    fn rows(&self, ids: &[u32]) -> Vec<f32> {
        let (backend, weights) = (self.model.backend(), self.model.weights());
        let table = match self.site {
            Site::Head => &weights.head.weight,
            _ => &weights.embed,
        };
        let width = self.model.spec().hidden_size;
        let mut rows = vec![0.0; ids.len() * width];
        for (row, id) in rows.chunks_exact_mut(width).zip(ids) {
            backend.read_rows(table, *id as usize, row);
        }
        rows
    }
}

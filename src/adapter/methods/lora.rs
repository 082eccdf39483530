//! LoRA (Hu et al. 2021, arXiv 2106.09685) as PEFT saves it: `<m>.lora_A.weight` (r, in), `<m>.lora_B.weight` (out, r);
//! y += s B (A x) with s = lora_alpha / r, or lora_alpha / sqrt(r) with `use_rslora` (Kalajdzievski 2023).
//!
//! Variants: `lora_bias` (B has a bias), `use_dora` ([`Form::Dora`]), embeddings (`lora_embedding_A` (r, V), `lora_embedding_B`
//! (dim, r)), `use_bdlora` (blocks of A or B on the diagonal), `alora_invocation_tokens` (from those tokens on only),
//! `layer_replication`, and adapters begun as parts of the base (PiSSA, OLoRA) whose base was changed accordingly.
//!
//! The rank comes from the tensors and must agree with the config.

use std::cell::Cell;
use std::sync::Arc;

use serde_json::Value;

use crate::adapter::Lowered;
use crate::adapter::forms::{Base, Form, FromBase, LowRank, Lower};
use crate::adapter::matrix::Matrix;
use crate::adapter::options::Rule;
use crate::adapter::rows;
use crate::adapter::scaling::{MAX_RANK, Scaling};
use crate::adapter::source::{Method, Module, Source, bad_shape};
use crate::error::{Error, Result};
use crate::format::PeftFolder;
use crate::linalg;

const A: &str = "lora_A.weight";
const B: &str = "lora_B.weight";
const B_BIAS: &str = "lora_B.bias";
const EMBEDDING_A: &str = "lora_embedding_A";
const EMBEDDING_B: &str = "lora_embedding_B";
/// DoRA's magnitudes, as new and old versions of PEFT call them.
const MAGNITUDES: [&str; 2] = ["lora_magnitude_vector.weight", "lora_magnitude_vector"];

/// The method. Options: every field of PEFT's LoraConfig (0.21); one that is not here must be off.
pub const METHOD: Method = Method {
    peft_type: "LORA",
    options: &[
        ("r", Rule::Fine),
        ("lora_alpha", Rule::Fine),
        ("use_rslora", Rule::Fine),
        ("rank_pattern", Rule::Fine),
        ("alpha_pattern", Rule::Fine),
        ("use_dora", Rule::Fine),
        ("lora_bias", Rule::Fine),
        ("alora_invocation_tokens", Rule::Fine),
        ("layer_replication", Rule::Fine),
        ("use_bdlora", Rule::Fine),
        ("trainable_token_indices", Rule::Fine),
        // Training only.
        ("lora_dropout", Rule::Fine),
        ("eva_config", Rule::Fine),
        ("velora_config", Rule::Fine),
        ("megatron_config", Rule::Fine),
        ("megatron_core", Rule::Fine),
        // Both of a tied pair are saved.
        ("ensure_weight_tying", Rule::Fine),
        ("qalora_group_size", Rule::Fine),
        // See `Start`.
        ("init_lora_weights", Rule::Fine),
        ("loftq_config", Rule::Fine),
        ("corda_config", Rule::Fine),
        ("lora_ga_config", Rule::Fine),
        ("target_parameters", Rule::Off),
        ("use_qalora", Rule::Off),
        ("arrow_config", Rule::Off),
        ("kasa_config", Rule::Off),
        ("monteclora_config", Rule::Off),
    ],
    tensors: &[A, B, B_BIAS, EMBEDDING_A, EMBEDDING_B, MAGNITUDES[0], MAGNITUDES[1]],
    shared: &[],
    lower,
};

fn lower(source: &Source) -> Result<Lowered> {
    let folder = source.folder;
    let scaling = Scaling::read(folder, "lora_alpha")?;
    let dora = folder.bool("use_dora", false)?;
    let lora_bias = folder.bool("lora_bias", false)?;
    let start = Start::read(folder)?;
    let blocks = BlockDiagonal::read(source)?;
    let mut lowered = source.lower(|module| {
        let (mut a, mut b) = match (module.get(EMBEDDING_A), module.get(EMBEDDING_B)) {
            (None, None) => (module.matrix(A)?, module.matrix(B)?),
            _ => (module.matrix(EMBEDDING_A)?, module.matrix(EMBEDDING_B)?),
        };
        if let Some(blocks) = &blocks {
            (a, b) = blocks.expand(module, a, b)?;
        }
        let rank = a.rows();
        if rank > MAX_RANK {
            return Err(module.error(Error::limit("the rank is too large").expected(MAX_RANK).found(rank)));
        }
        if b.cols() != rank {
            let t = module.need(if module.get(B).is_some() { B } else { EMBEDDING_B })?;
            return Err(bad_shape(t, format_args!("[out, {rank}]")));
        }
        let configured = scaling.rank(module.path);
        if configured != rank {
            let e = Error::mismatch("rank contradicts r or rank_pattern in adapter_config.json");
            return Err(module.error(e.expected(configured).found(rank)));
        }
        let scale = scaling.scale(module.path, rank);
        let update = LowRank::new(a, b, scale);
        // On an embedding PEFT knows no such start.
        let mut forms = match module.get(EMBEDDING_A) {
            None => start.patch(&update),
            Some(_) => Vec::new(),
        };
        let magnitude = MAGNITUDES.iter().find(|name| module.get(name).is_some());
        match (dora, magnitude) {
            (false, None) => forms.push(Form::LowRank(update)),
            (true, Some(name)) => {
                let t = module.need(name)?;
                if t.shape.len() != 1 {
                    return Err(bad_shape(t, "[out]"));
                }
                forms.push(Form::Dora(update, module.vector(name)?));
            }
            (true, None) => module.need(MAGNITUDES[0]).map(|_| ())?,
            (false, Some(name)) => {
                let e = Error::mismatch("a magnitude without use_dora in adapter_config.json");
                return Err(module.need(name)?.error(e));
            }
        }
        match (lora_bias, module.get(B_BIAS)) {
            (true, None) if module.get(B).is_some() => module.need(B_BIAS).map(|_| ())?,
            (_, None) => {}
            (true, Some(_)) if !dora => {
                let bias = module.vector(B_BIAS)?;
                forms.push(Form::OutBias(bias.iter().map(|v| scale * v).collect()));
            }
            (_, Some(t)) => {
                let e = Error::mismatch("a bias without lora_bias (or with use_dora) in adapter_config.json");
                return Err(t.error(e));
            }
        }
        Ok(forms)
    })?;
    source.need_rows()?;
    lowered.layers = layer_replication(source)?;
    lowered.invocation = invocation(source)?;
    Ok(lowered)
}

/// That the factors are an update of the base as it is on disk, whatever they began with.
///
/// # Errors
/// Training began with a part of the base that was taken out of it.
pub(in crate::adapter) fn check_start(source: &PeftFolder) -> Result<()> {
    let field = "init_lora_weights";
    match (Start::read(source)?, source.value(field)) {
        (Start::Plain, _) => Ok(()),
        (_, found) => {
            let e = Error::unsupported("initialisation that changed the base weights").expected(Start::CONVERTED);
            Err(source.error(e.found(found.unwrap_or(&Value::Null)), field))
        }
    }
}

/// What the factors were at the start of training. Some ways take the start out of the base's weights; a file that was not converted
/// then belongs to that other base.
enum Start {
    /// The base is as it is.
    Plain,
    /// W - U_r S_r V_r^T (Meng et al. 2024, arXiv 2404.02948).
    Pissa,
    /// W - s Q_r R_r of W = Q R (Büyükakyüz 2024, arXiv 2406.01775).
    Olora,
}

impl Start {
    /// Ways that cannot be computed again from the base alone: random numbers or data went in.
    const LOST: &'static [&'static str] = &["pissa_niter", "loftq", "corda", "lora_ga"];

    /// What can be used instead.
    const CONVERTED: &'static str =
        "an adapter converted to plain LoRA (save_pretrained with path_initial_model_for_weight_conversion)";

    fn read(folder: &PeftFolder) -> Result<Self> {
        let field = "init_lora_weights";
        let Some(Value::String(name)) = folder.value(field) else {
            return Ok(Start::Plain);
        };
        let name = name.to_lowercase();
        if Self::LOST.iter().any(|lost| name.starts_with(lost)) {
            let e = Error::unsupported(
                "initialisation that changed the base weights in a way that the base alone does not tell",
            )
            .expected(Self::CONVERTED);
            return Err(folder.error(e.found(name), field));
        }
        Ok(match name.as_str() {
            "pissa" => Start::Pissa,
            "olora" => Start::Olora,
            _ => Start::Plain,
        })
    }

    /// What takes the start out of the base again: -(its part of W), of the update's rank.
    fn patch(&self, update: &LowRank) -> Vec<Form> {
        let (rank, scale) = (update.rank(), update.scale);
        let fixed = |a: Matrix, b: Matrix, scale: f32| {
            Form::LowRank(LowRank {
                fixed: true,
                ..LowRank::new(a, b, scale)
            })
        };
        let (what, lower): (_, Lower) = match self {
            Start::Plain => return Vec::new(),
            Start::Pissa => (
                "the principal part that PiSSA takes out of the base",
                Arc::new(move |base: &Base| {
                    let svd = linalg::svd(base.rows, base.cols, &base.weights(), rank)?;
                    let rank = svd.s.len();
                    let b = Matrix::from_f32(base.rows, rank, &svd.u).map(|_, k, v| v * svd.s[k]);
                    Ok(vec![fixed(Matrix::from_f32(rank, base.cols, &svd.vt), b, -1.0)])
                }),
            ),
            Start::Olora => (
                "the orthonormal part that OLoRA takes out of the base",
                Arc::new(move |base: &Base| {
                    let (q, r) = linalg::qr(base.rows, base.cols, &base.weights())?;
                    let side = base.rows.min(base.cols);
                    let a = Matrix::from_f32(side, base.cols, &r).top_left(rank.min(side), base.cols);
                    let b = Matrix::from_f32(base.rows, side, &q).top_left(base.rows, rank.min(side));
                    Ok(vec![fixed(a, b, -scale)])
                }),
            ),
        };
        vec![Form::FromBase(FromBase {
            what,
            shape: (update.a.cols(), update.b.rows()),
            scalable: true,
            embedding: false,
            lower,
        })]
    }
}

/// Numbers of all factors together that were saved as blocks: more than rank 16 makes of a model with 80 layers of 8,192 features.
const MAX_EXPANDED: usize = 1 << 27;

/// BD-LoRA: of some modules only the blocks on the diagonal of A or B are saved, one under the other.
struct BlockDiagonal {
    of_a: Vec<String>,
    of_b: Vec<String>,
    n: usize,
    /// Numbers made so far.
    expanded: Cell<usize>,
}

impl BlockDiagonal {
    fn read(source: &Source) -> Result<Option<Self>> {
        let field = "use_bdlora";
        let object = match source.folder.value(field) {
            Some(Value::Object(object)) => object,
            Some(Value::Bool(true)) => {
                let e = Error::unsupported("the option is not described");
                return Err(source.folder.error(e.expected("an object"), field));
            }
            _ => return Ok(None),
        };
        let wrong = |name: &str, expected: &str| {
            let e = Error::invalid("the field has the wrong type or range");
            source.folder.error(e.expected(expected), &format!("{field}.{name}"))
        };
        let names = |name: &str| match object.get(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(list)) => list
                .iter()
                .map(|v| {
                    v.as_str()
                        .map(str::to_owned)
                        .ok_or_else(|| wrong(name, "a list of text"))
                })
                .collect(),
            Some(_) => Err(wrong(name, "a list of text")),
        };
        let n = object.get("nblocks").map_or(Some(1), Value::as_u64);
        let n = n
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| (1..=MAX_RANK).contains(n));
        Ok(Some(BlockDiagonal {
            of_a: names("target_modules_bd_a")?,
            of_b: names("target_modules_bd_b")?,
            n: n.ok_or_else(|| wrong("nblocks", "a number of blocks"))?,
            expanded: Cell::new(0),
        }))
    }

    /// The whole factors of `module`. PEFT looks for the names anywhere in that of the module itself (peft/tuners/lora/variants.py).
    fn expand(&self, module: &Module, a: Matrix, b: Matrix) -> Result<(Matrix, Matrix)> {
        let own_name = module.path.rsplit('.').next().unwrap_or(module.path);
        let named = |names: &[String]| names.iter().any(|name| own_name.contains(name.as_str()));
        let block_diagonal = |m: Matrix| {
            self.expanded
                .set(self.expanded.get().saturating_add(m.len().saturating_mul(self.n)));
            if self.expanded.get() > MAX_EXPANDED {
                let e = Error::limit("the blocks of BD-LoRA make too large matrices");
                return Err(module.error(e.expected(format_args!("at most {MAX_EXPANDED} numbers"))));
            }
            if !m.rows().is_multiple_of(self.n) {
                let e = Error::mismatch("rows are not whole blocks of BD-LoRA");
                return Err(module.error(e.expected(format_args!("a multiple of {}", self.n)).found(m.rows())));
            }
            let (rows, cols, of) = (m.rows(), m.cols(), m.rows() / self.n);
            let values = m.to_f32();
            let mut out = vec![0.0; rows * cols * self.n];
            for (i, row) in values.chunks_exact(cols).enumerate() {
                out[i * cols * self.n + (i / of) * cols..][..cols].copy_from_slice(row);
            }
            Ok(Matrix::from_f32(rows, cols * self.n, &out))
        };
        Ok((
            if named(&self.of_a) { block_diagonal(a)? } else { a },
            if named(&self.of_b) { block_diagonal(b)? } else { b },
        ))
    }
}

/// Layers of a decoder after replication.
const MAX_LAYERS: usize = 1024;

/// The base layer of each layer, where ranges `[first, end)` of them are repeated.
fn layer_replication(source: &Source) -> Result<Option<Vec<usize>>> {
    let field = "layer_replication";
    let Some(list) = source.folder.list(field)? else {
        return Ok(None);
    };
    let wrong = || {
        let e = Error::invalid("the field has the wrong type or range");
        source.folder.error(
            e.expected(format_args!(
                "pairs [first, end) of at most {MAX_LAYERS} layers together"
            )),
            field,
        )
    };
    let mut layers = Vec::new();
    for range in list {
        let pair = range.as_array().ok_or_else(wrong)?;
        let [Some(first), Some(end)] = pair.iter().map(Value::as_u64).collect::<Vec<_>>()[..] else {
            return Err(wrong());
        };
        if first >= end || end - first > (MAX_LAYERS - layers.len()) as u64 {
            return Err(wrong());
        }
        layers.extend((first..end).map(|i| i as usize));
    }
    Ok(Some(layers))
}

/// aLoRA's tokens.
fn invocation(source: &Source) -> Result<Option<Vec<u32>>> {
    let field = "alora_invocation_tokens";
    let Some(list) = source.folder.list(field)? else {
        return Ok(None);
    };
    match rows::of_numbers(list) {
        Some(ids) if !ids.is_empty() => Ok(Some(ids)),
        _ => {
            let e = Error::invalid("the field has the wrong type or range");
            Err(source.folder.error(e.expected("a list of token ids, not empty"), field))
        }
    }
}

//! Writes an adapter as the GGUF file that llama.cpp loads (see [`super::gguf`] for the format).

use std::path::Path;

use super::AdapterFile;
use super::attach::each_site;
use super::forms::Form;
use super::gguf::{ADAPTER_TYPE, ALPHA, ARCHITECTURE, ENDS, INVOCATION, TYPE};
use super::order::to_file_order;
use super::update::{Product, Update, of_modules_only};
use crate::error::{Error, Result};
use crate::format::{GgufPlan, MetaValue};
use crate::linalg::transpose;
use crate::model::Site;
use crate::model::backend::Backend;
use crate::model::spec::Spec;
use crate::model::weights::Weights;
use crate::quant::BlockFormat;

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// Modules with an update.
    pub sites: usize,
    /// Their ranks, each once, ascending.
    pub ranks: Vec<usize>,
    /// `adapter.lora.alpha`.
    pub alpha: f32,
    /// Numbers in all factors.
    pub parameters: usize,
}

/// Writes `file`, an adapter for the model of `spec` and `weights`, to `path`, with factors in `format` (F32, F16 or BF16).
///
/// llama.cpp knows one alpha for all modules and divides it by each one's rank. Where all modules have the same it is written as it is;
/// otherwise, and where there are factors between or behind A and B, it is the largest rank, and B takes what is left.
///
/// # Errors
/// An adapter that does more than add products of small matrices to weights, one of an embedding that is also the head (llama.cpp does
/// not take it), numbers too large for `format`, and what the system refuses. The file is there whole or not at all.
pub fn export_lora<B: Backend>(
    backend: &B,
    spec: &Spec,
    weights: &Weights<B>,
    file: &AdapterFile,
    path: &Path,
    format: BlockFormat,
) -> Result<Exported> {
    if !matches!(format, BlockFormat::F32 | BlockFormat::F16 | BlockFormat::BF16) {
        let e = Error::usage("an adapter is not written in this type");
        return Err(e.expected("F32, F16 or BF16").found(format.name()));
    }
    of_modules_only(file)?;
    let mut updates = Vec::new();
    each_site(backend, spec, weights, file, &mut |site, mut forms| {
        loadable(site, weights.tied)?;
        forms.iter_mut().for_each(|form| to_file_order(spec, site, form));
        updates.push((site, product(file.method(), forms)?));
        Ok(())
    })?;
    let alpha = one_alpha(&mut updates);

    let mut plan = GgufPlan::new();
    plan.set(ARCHITECTURE, spec.arch).set(TYPE, "adapter");
    plan.set(ADAPTER_TYPE, "lora").set(ALPHA, alpha);
    if let Some(tokens) = &file.lowered().invocation {
        plan.set(INVOCATION, MetaValue::U32s(tokens.clone()));
    }
    if let Some(name) = path.file_stem() {
        plan.set("general.name", &*name.to_string_lossy());
    }
    if let Some(base) = file.base_model() {
        plan.set("general.base_model.count", 1u32);
        plan.set("general.base_model.0.name", base);
    }
    for (site, p) in &updates {
        let a = if *site == Site::Embed {
            [p.rank, p.cols]
        } else {
            [p.cols, p.rank]
        };
        plan.put(&name(*site, 0), &a, format);
        plan.put(&name(*site, 1), &[p.rank, p.rows], format);
    }
    let mut writer = plan.create(path)?;
    let mut bytes = Vec::new();
    for (site, p) in &updates {
        let a = match site {
            Site::Embed => &transpose(p.rank, p.cols, &p.a),
            _ => &p.a,
        };
        for (which, values) in [a, &p.b].into_iter().enumerate() {
            let name = name(*site, which);
            bytes.resize(format.bytes_for(values.len()).unwrap_or(0), 0);
            let done = format.quantize(values, None, &mut bytes);
            done.map_err(|e| e.file(path).item(&name))?;
            writer.write(&name, &bytes)?;
        }
    }
    writer.finish()?;
    let ranks: std::collections::BTreeSet<usize> = updates.iter().map(|(_, p)| p.rank).collect();
    Ok(Exported {
        sites: updates.len(),
        ranks: ranks.into_iter().collect(),
        alpha,
        parameters: updates.iter().map(|(_, p)| p.a.len() + p.b.len()).sum(),
    })
}

fn name(site: Site, which: usize) -> String {
    format!("{}{}", site.gguf_name(), ENDS[which])
}

/// Whether llama.cpp can take an update of this site: it looks for one by the name of the tensor, and a tied head has none of its own.
/// For one of the head it says that the tensor does not exist; one of the embedding it also puts on the head, where A, stored
/// transposed, ends the process by an assertion.
fn loadable(site: Site, tied: bool) -> Result<()> {
    if tied && matches!(site, Site::Embed | Site::Head) {
        let e = Error::unsupported(
            "llama.cpp takes no update of an embedding that is also the head; graft merge can put it into the model",
        );
        return Err(e.expected("a model whose head is a tensor of its own"));
    }
    Ok(())
}

/// The forms of a site as one product.
fn product(method: &str, forms: Vec<Form>) -> Result<Product> {
    let names: Vec<_> = forms.iter().map(Form::name).collect();
    match Update::of(method, forms)? {
        Update::LowRank(forms) => Ok(Product::sum(&forms)),
        Update::Dense(_) => {
            let e = Error::unsupported(format!(
                "the update ({method}) is no product of two small matrices; graft to-lora makes one of it"
            ));
            Err(e.expected("low_rank").found(names.join(", ")))
        }
    }
}

/// The alpha that, divided by the rank, is the scale of each of `updates`: their own, or one that B is fitted to.
fn one_alpha(updates: &mut [(Site, Product)]) -> f32 {
    let own = |p: &Product| p.scale * p.rank as f32;
    let first = updates.first().map_or(1.0, |(_, p)| own(p));
    // lora_alpha / r * r is lora_alpha but for the rounding. 0 would mean a scale of 1.
    if first != 0.0
        && updates
            .iter()
            .all(|(_, p)| (own(p) - first).abs() <= 1e-6 * first.abs())
    {
        return first;
    }
    let alpha = updates.iter().map(|(_, p)| p.rank).max().unwrap_or(1) as f32;
    for (_, p) in updates {
        let factor = own(p) / alpha;
        p.b.iter_mut().for_each(|v| *v *= factor);
        p.scale = alpha / p.rank as f32;
    }
    alpha
}

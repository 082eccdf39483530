//! Adapters merged into quantized weights: what Graft's quantizers lose against ggml's, each packing the same f32 merge, as the KL
//! divergence from the adapter put on live. Graft packs as `graft merge` does, and as `graft merge --plain`.

use std::path::Path;

use graft::format::GgufPlan;
use graft::kernels::Precision;
use graft::quant::BlockFormat;
use graft::runtime::{Divergence, MergeOptions, MergeType};
use graft::{Adapter, Model};
use llama_cpp_sys_2::ggml_quantize_chunk;

use crate::check::each_model;
use crate::engine::{backend, graft_logits, graft_model, graft_session};
use crate::{Options, Result};

/// The types that Graft packs by search.
const TYPES: [BlockFormat; 8] = [
    BlockFormat::Q4_0,
    BlockFormat::Q4_1,
    BlockFormat::Q5_0,
    BlockFormat::Q5_1,
    BlockFormat::Q8_0,
    BlockFormat::Q4_K,
    BlockFormat::Q5_K,
    BlockFormat::Q6_K,
];

/// Compares both for every model; true if Graft's divergence is nowhere the larger.
pub fn run(options: &Options) -> Result<bool> {
    let _backend = backend()?;
    each_model(options, |path| compare(path, options))
}

fn compare(path: &Path, options: &Options) -> Result<bool> {
    let adapter = options.adapter.as_ref().ok_or("merge needs -a ADAPTER")?;
    let file = options.file.as_ref().ok_or("merge needs a text: -f FILE")?;
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let model = graft_model(path, options.threads)?;
    let adapters = [(model.load_adapter(adapter)?, 1.0)];
    let mut tokens = model.tokenizer()?.encode(&text, Default::default())?;
    tokens.truncate(options.prompt.unwrap_or(256));
    let reference = logits(&model, &adapters, &tokens)?;
    let folder = std::env::temp_dir().join(format!("peers-merge-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let [exact, ours, theirs] = ["f32", "graft", "ggml"].map(|name| folder.join(format!("{name}.gguf")));
    model.merge_to(&adapters, &options_for(BlockFormat::F32, false), &exact, &mut |_| true)?;
    let divergence = |path: &Path| -> Result<Divergence> {
        let model = graft_model(path, options.threads)?;
        let mut divergence = Divergence::default();
        for (r, o) in reference.iter().zip(&logits(&model, &[], &tokens)?) {
            divergence.add(r, o);
        }
        Ok(divergence)
    };
    let base = divergence(path)?;
    println!(
        "  base without the adapter: {:.4} over {} predictions",
        base.mean(),
        base.count()
    );
    println!("  type        Graft      plain       ggml  Graft/ggml  plain/ggml  tensors of another type");
    let mut good = true;
    let asked = |format: &BlockFormat| {
        let types = options.types.as_ref();
        types.is_none_or(|types| types.iter().any(|name| name == format.name()))
    };
    for format in TYPES.into_iter().filter(asked) {
        model.merge_to(&adapters, &options_for(format, false), &ours, &mut |_| true)?;
        let plain = divergence(&ours)?.mean();
        let report = model.merge_to(&adapters, &options_for(format, true), &ours, &mut |_| true)?;
        let fallen = report.tensors.iter().filter(|t| t.to != format.name()).count();
        if fallen == report.tensors.len() {
            println!("  {:6} no tensor has rows of whole blocks", format.name());
            continue;
        }
        by_ggml(&exact, &ours, &theirs)?;
        let [ours, theirs] = [divergence(&ours)?.mean(), divergence(&theirs)?.mean()];
        good &= ours <= theirs;
        println!(
            "  {:6} {ours:10.6} {plain:10.6} {theirs:10.6} {:11.3} {:11.3}  {fallen} of {}",
            format.name(),
            ours / theirs,
            plain / theirs,
            report.tensors.len()
        );
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(good)
}

fn options_for(format: BlockFormat, importance: bool) -> MergeOptions {
    MergeOptions {
        to: MergeType::To(format),
        importance,
        text: None,
    }
}

fn logits(model: &Model, adapters: &[(Adapter, f32)], tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
    let mut session = graft_session(model, tokens.len(), Precision::Exact)?;
    session.set_adapters(adapters)?;
    graft_logits(&mut session, tokens)
}

/// Writes the file `target`: tensors in the types that they have in `like`, values from `exact`, packed by ggml without importance.
fn by_ggml(exact: &Path, like: &Path, target: &Path) -> Result<()> {
    let (exact, like) = (graft_model(exact, 1)?, graft_model(like, 1)?);
    let (exact, like) = (exact.gguf(), like.gguf());
    let plan = GgufPlan::copy_of(like);
    let mut writer = plan.create(target)?;
    for tensor in plan.tensors() {
        let missing = || format!("no tensor {}", tensor.name);
        let from = exact.tensor(&tensor.name).ok_or_else(missing)?;
        let as_it_is = like.tensor(&tensor.name).ok_or_else(missing)?;
        if from.format == as_it_is.format || from.format != BlockFormat::F32 {
            writer.write(&tensor.name, like.data(as_it_is))?;
            continue;
        }
        let values: Vec<f32> = exact
            .data(from)
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect();
        let cols = tensor.dims[0];
        // Words, so that blocks are aligned.
        let len = like.data(as_it_is).len();
        let mut words = vec![0u64; len.div_ceil(8)];
        // SAFETY: `values` has whole rows of `cols`, and `words` room for their blocks: the file has as many bytes of the same type and shape.
        let written = unsafe {
            ggml_quantize_chunk(
                as_it_is.format.id(),
                values.as_ptr(),
                words.as_mut_ptr().cast(),
                0,
                i64::try_from(values.len() / cols)?,
                i64::try_from(cols)?,
                std::ptr::null(),
            )
        };
        if written != len {
            return Err(format!("ggml wrote {written} bytes of {}, not {len}", tensor.name).into());
        }
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        bytes.truncate(len);
        writer.write(&tensor.name, &bytes)?;
    }
    Ok(writer.finish()?)
}

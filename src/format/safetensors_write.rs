//! Writes adapters as PEFT does: `adapter_config.json` beside `adapter_model.safetensors`.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::atomic::{AtomicFile, AtomicFolder, commit_all};
use super::peft::{CONFIG, TENSORS};
use super::safetensors::Dtype;
use crate::error::{Error, Result};
use crate::quant::BlockFormat;

/// The header is filled up so that the data is aligned for every type.
const HEADER_ALIGNMENT: usize = 8;

/// One tensor of an adapter to write.
#[derive(Clone, Copy, Debug)]
pub struct AdapterTensor<'a> {
    /// Its key in the file, unique (`base_model.model.….lora_A.weight`).
    pub name: &'a str,
    /// Type to round to: F32, F16 or BF16.
    pub dtype: Dtype,
    /// Outermost dimension first, so a matrix is `[rows, cols]`.
    pub shape: &'a [usize],
    /// Its elements in row-major order.
    pub values: &'a [f32],
}

/// Writes the folder `dir` as PEFT's `save_pretrained` does: `config` with sorted keys, and `tensors` with the metadata
/// `format` = `pt`, by falling size of type and then by name.
///
/// Only the outermost keys are sorted: in a `rank_pattern` the first match wins, so that its order has a meaning.
///
/// A new folder appears whole (missing folders above it are made first). In one that is there the two files are replaced, each
/// in one step, after both have reached the disk; other files stay. On an error nothing has changed.
///
/// Errors: a type other than the three, a shape that is not as long as the values, a name that stands twice, a value that is
/// not finite or too large for its type, and what the system refuses.
pub fn write_peft_folder(dir: &Path, config: &Map<String, Value>, tensors: &[AdapterTensor<'_>]) -> Result<()> {
    if fs::metadata(dir).is_ok() {
        return commit_all(write_files(dir, dir, config, tensors)?);
    }
    if let Some(above) = dir.parent() {
        fs::create_dir_all(above).map_err(|e| Error::io(above, "cannot make the folder", &e))?;
    }
    let folder = AtomicFolder::create(dir)?;
    commit_all(write_files(folder.path(), dir, config, tensors)?)?;
    folder.commit()
}

/// Writes both files into `folder`, still under temporary names; errors speak of `dir`.
fn write_files(
    folder: &Path,
    dir: &Path,
    config: &Map<String, Value>,
    tensors: &[AdapterTensor<'_>],
) -> Result<[AtomicFile; 2]> {
    let path = dir.join(CONFIG);
    let mut fields: Vec<(&String, &Value)> = config.iter().collect();
    fields.sort_unstable_by_key(|(key, _)| *key);
    let sorted: Map<String, Value> = fields.into_iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let text = serde_json::to_string_pretty(&sorted)
        .map_err(|e| Error::usage(format!("not a JSON object: {e}")).file(&path))?;
    let mut config = AtomicFile::create(&folder.join(CONFIG))?;
    config
        .write_all(text.as_bytes())
        .map_err(|e| Error::io(&path, "cannot write", &e))?;

    let path = dir.join(TENSORS);
    let mut file = AtomicFile::create(&folder.join(TENSORS))?;
    write_tensors(&mut file, &path, tensors)?;
    Ok([file, config])
}

/// The contents of the two files, as [`write_peft_folder`] writes them.
///
/// # Errors
/// As there, but for the system's.
pub fn adapter_bytes(config: &Map<String, Value>, tensors: &[AdapterTensor<'_>]) -> Result<(Vec<u8>, Vec<u8>)> {
    let config = serde_json::to_vec(config).map_err(|e| Error::usage(format!("not a JSON object: {e}")))?;
    let mut bytes = Vec::new();
    write_tensors(&mut bytes, Path::new(TENSORS), tensors)?;
    Ok((config, bytes))
}

/// Writes a safetensors file; errors call it `path`.
fn write_tensors(out: &mut impl Write, path: &Path, tensors: &[AdapterTensor<'_>]) -> Result<()> {
    let io = |e| Error::io(path, "cannot write", &e);
    let mut order = tensors.to_vec();
    order.sort_by_key(|t| (std::cmp::Reverse(t.dtype.bitsize()), t.name));
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut end = 0;
    for t in &order {
        let bad = |e: Error| Err(e.file(path).item(t.name));
        let bytes = block_format(t.dtype).and_then(|format| format.bytes_for(t.values.len()));
        let Some(bytes) = bytes else {
            let e = Error::unsupported("an adapter is not written in this type");
            return bad(e.expected("F32, F16 or BF16").found(t.dtype));
        };
        if t.shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim)) != Some(t.values.len()) {
            let e = Error::usage("shape and number of values differ");
            return bad(e
                .expected(format_args!("{:?}", t.shape))
                .found(format_args!("{} values", t.values.len())));
        }
        let begin = end;
        end += bytes;
        let info = json!({"dtype": t.dtype, "shape": t.shape, "data_offsets": [begin, end]});
        if header.insert(t.name.into(), info).is_some() {
            return bad(Error::usage("the tensor stands twice"));
        }
    }
    let mut text = serde_json::to_string(&header).map_err(|e| Error::internal(e.to_string()).file(path))?;
    while !text.len().is_multiple_of(HEADER_ALIGNMENT) {
        text.push(' ');
    }
    let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
    out.write_all(&length.to_le_bytes()).map_err(io)?;
    out.write_all(text.as_bytes()).map_err(io)?;

    let mut bytes = Vec::new();
    for t in &order {
        let Some(format) = block_format(t.dtype) else { continue };
        bytes.resize(format.bytes_for(t.values.len()).unwrap_or(0), 0);
        format
            .quantize(t.values, None, &mut bytes)
            .map_err(|e| e.file(path).item(t.name))?;
        out.write_all(&bytes).map_err(io)?;
    }
    Ok(())
}

/// The types that adapters are written in, as formats of one element a block.
fn block_format(dtype: Dtype) -> Option<BlockFormat> {
    match dtype {
        Dtype::F32 => Some(BlockFormat::F32),
        Dtype::F16 => Some(BlockFormat::F16),
        Dtype::BF16 => Some(BlockFormat::BF16),
        _ => None,
    }
}

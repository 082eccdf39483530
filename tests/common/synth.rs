//! Adapters for the real-model tests, made from a hash so that nothing large is stored.
//!
//! The same generator as `tests/reference/synth.py`, which made the golden values. Element `i` (row-major) of the tensor with the
//! safetensors key `K` is
//!
//! ```text
//! h     = mix32(fnv1a32(K) + i)                             wrapping 32-bit arithmetic
//! value = ((h >> 8) / 2^24 - 0.5) * width + middle          float32, each operation rounded
//! ```
//!
//! with FNV-1a over the bytes of `K` and the MurmurHash3 finalizer as `mix32`. What is generated comes from `tests/data/real/adapters.json`:
//! `cases` are LoRA, where BF16 and F16 round the value to nearest, ties to even; `methods` are all others (see `synth.py` for their form).

use std::{error::Error, fs, path::Path};

use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::{Value, json};

/// A config and tensors of one type: key, shape, bytes.
struct Folder {
    config: Value,
    dtype: Dtype,
    tensors: Vec<(String, Vec<usize>, Vec<u8>)>,
}

type Made<T> = Result<T, Box<dyn Error>>;

/// Writes the PEFT folder of `case` (or method) for `model` into `dir`; both are names in `adapters.json`, whose parsed content is `spec`.
///
/// Returns an error if a name or a field is missing, or if a file cannot be written.
pub fn write_adapter(spec: &Value, model: &str, case: &str, dir: &Path) -> Made<()> {
    let shape = &spec["models"][model];
    let folder = match &spec["methods"][case] {
        Value::Null => lora(shape, &spec["cases"][case])?,
        recipe => method(model, shape, recipe)?,
    };
    let mut views = Vec::new();
    for (key, shape, bytes) in &folder.tensors {
        views.push((key.as_str(), TensorView::new(folder.dtype, shape.clone(), bytes)?));
    }
    fs::create_dir_all(dir)?;
    serialize_to_file(views, None, &dir.join("adapter_model.safetensors"))?;
    fs::write(
        dir.join("adapter_config.json"),
        serde_json::to_string_pretty(&folder.config)?,
    )?;
    Ok(())
}

/// One of `cases`.
fn lora(model: &Value, case: &Value) -> Made<Folder> {
    let dtype = case["dtype"].as_str().ok_or("no such case")?;
    let mut tensors = Vec::new();
    for layer in 0..size(&model["layers"], model)? {
        for module in list(&case["target_modules"])? {
            let module = module.as_str().ok_or("a module is no string")?;
            let path = path_of(layer, module);
            let rank = size(pick(&case["rank_pattern"], &path).unwrap_or(&case["r"]), model)?;
            let (out, width) = features(model, module)?;
            for (part, shape, scale) in [("lora_A", [rank, width], "scale_a"), ("lora_B", [out, rank], "scale_b")] {
                let key = format!("base_model.model.{path}.{part}.weight");
                let (hash, scale) = (fnv1a32(&key), number(&model[scale])?);
                let values = (0..shape[0] * shape[1]).map(|i| value(hash, i as u32, scale, 0.0));
                let bytes = bytes(values, dtype);
                tensors.push((key, shape.to_vec(), bytes));
            }
        }
    }
    Ok(Folder {
        config: json!({
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none",
            "r": case["r"], "lora_alpha": case["lora_alpha"], "use_rslora": case["use_rslora"],
            "target_modules": case["target_modules"],
            "rank_pattern": case["rank_pattern"], "alpha_pattern": case["alpha_pattern"],
        }),
        dtype: match dtype {
            "BF16" => Dtype::BF16,
            "F16" => Dtype::F16,
            _ => Dtype::F32,
        },
        tensors,
    })
}
/// One of `methods`.
fn method(name: &str, model: &Value, recipe: &Value) -> Made<Folder> {
    let mut config = recipe["config"].as_object().ok_or("no such method")?.clone();
    config.insert("task_type".into(), "CAUSAL_LM".into());
    for value in config.values_mut() {
        if let Some(field) = value.as_str().and_then(|s| s.strip_prefix('@')) {
            *value = model[field].clone();
        }
    }
    let mut tensors = Vec::new();
    let mut add = |key: String, t: &Value, sizes: &Value, times: Option<f32>| -> Made<()> {
        let shape: Vec<usize> = list(&t["shape"])?.iter().map(|d| size(d, sizes)).collect::<Made<_>>()?;
        let width = number(t["width"].get(name).unwrap_or(&t["width"]))?;
        let middle = t.get("middle").map_or(Ok(0.0), number)?;
        let n: usize = shape.iter().product();
        let hash = fnv1a32(&key);
        let values = (0..n).map(|i| value(hash, i as u32, width, middle) * times.unwrap_or(1.0));
        let bytes = bytes(values, "F32");
        tensors.push((key, shape, bytes));
        Ok(())
    };
    for layer in 0..size(&model["layers"], model)? {
        for t in recipe["tensors"].as_array().into_iter().flatten() {
            for module in list(t.get("modules").unwrap_or(&config["target_modules"]))? {
                let module = module.as_str().ok_or("a module is no string")?;
                let (out, width) = features(model, module)?;
                let part = t["name"].as_str().ok_or("no name")?;
                let times = match t["times"].as_str() {
                    Some(field) => Some(number(&model[field][module][layer])?),
                    None => None,
                };
                let key = format!("base_model.model.{}.{part}", path_of(layer, module));
                add(key, t, &json!({"in": width, "out": out}), times)?;
            }
        }
    }
    for t in recipe["whole"].as_array().into_iter().flatten() {
        add(t["key"].as_str().ok_or("no key")?.to_owned(), t, model, None)?;
    }
    Ok(Folder {
        config: Value::Object(config),
        dtype: Dtype::F32,
        tensors,
    })
}

/// Little-endian, in the type called `dtype`.
fn bytes(values: impl Iterator<Item = f32>, dtype: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in values {
        match dtype {
            "BF16" => bytes.extend(bf16::from_f32(value).to_le_bytes()),
            "F16" => bytes.extend(f16::from_f32(value).to_le_bytes()),
            _ => bytes.extend(value.to_le_bytes()),
        }
    }
    bytes
}

/// Element `i` of the tensor whose key has this FNV-1a hash.
fn value(hash: u32, i: u32, width: f32, middle: f32) -> f32 {
    let h = mix32(hash.wrapping_add(i));
    ((h >> 8) as f32 / (1 << 24) as f32 - 0.5) * width + middle
}

fn fnv1a32(key: &str) -> u32 {
    key.bytes()
        .fold(0x811c_9dc5, |h, byte| (h ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn mix32(mut h: u32) -> u32 {
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

/// The first entry whose key equals `path` or is a dotted suffix of it.
fn pick<'a>(pattern: &'a Value, path: &str) -> Option<&'a Value> {
    let matches = |key: &str| path == key || path.strip_suffix(key).is_some_and(|front| front.ends_with('.'));
    pattern
        .as_object()?
        .iter()
        .find(|(key, _)| matches(key))
        .map(|(_, value)| value)
}

fn path_of(layer: usize, module: &str) -> String {
    let mlp = matches!(module, "gate_proj" | "up_proj" | "down_proj");
    format!(
        "model.layers.{layer}.{}.{module}",
        if mlp { "mlp" } else { "self_attn" }
    )
}

/// (output, input) features of a module.
fn features(model: &Value, module: &str) -> Made<(usize, usize)> {
    let shape = &model["modules"][module];
    Ok((size(&shape[0], model)?, size(&shape[1], model)?))
}

/// A number, or a field of `sizes` with "/n" for a part of it.
fn size(value: &Value, sizes: &Value) -> Made<usize> {
    if let Some(text) = value.as_str() {
        let (name, part) = text.split_once('/').unwrap_or((text, "1"));
        return Ok(size(&sizes[name], sizes)? / part.parse::<usize>()?);
    }
    Ok(usize::try_from(value.as_u64().ok_or("not a size")?)?)
}

fn number(value: &Value) -> Made<f32> {
    Ok(value.as_f64().ok_or("not a number")? as f32)
}

fn list(value: &Value) -> Made<&Vec<Value>> {
    Ok(value.as_array().ok_or("not a list")?)
}

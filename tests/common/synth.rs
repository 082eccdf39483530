//! Adapters for the real-model tests, made from a hash so that nothing large is stored.
//!
//! The same generator as `tests/reference/synth.py`, which made the golden values. Element `i` (row-major) of the tensor with the
//! safetensors key `K` is
//!
//! ```text
//! h     = mix32(fnv1a32(K) + i)                    wrapping 32-bit arithmetic
//! value = ((h >> 8) / 2^24 - 0.5) * scale          float32; only the last product rounds
//! ```
//!
//! with FNV-1a over the bytes of `K` and the MurmurHash3 finalizer as `mix32`. BF16 and F16 cases round that value to nearest, ties to
//! even. What is generated comes from `tests/data/real/adapters.json`.

use std::{error::Error, fs, path::Path};

use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::{Value, json};

/// Writes the PEFT folder of `case` for `model` into `dir`; both are names in `adapters.json`, whose parsed content is `spec`.
///
/// Returns an error if a name or a field is missing, or if a file cannot be written.
pub fn write_adapter(spec: &Value, model: &str, case: &str, dir: &Path) -> Result<(), Box<dyn Error>> {
    let (model, case) = (&spec["models"][model], &spec["cases"][case]);
    let layers = model["layers"].as_u64().ok_or("no such model")?;
    let modules = case["target_modules"].as_array().ok_or("no such case")?;
    let dtype = case["dtype"].as_str().ok_or("no dtype")?;
    let mut tensors = Vec::new();
    for layer in 0..layers {
        for module in modules {
            let module = module.as_str().ok_or("a module is no string")?;
            let block = if matches!(module, "gate_proj" | "up_proj" | "down_proj") {
                "mlp"
            } else {
                "self_attn"
            };
            let path = format!("model.layers.{layer}.{block}.{module}");
            let rank = size(pick(&case["rank_pattern"], &path).unwrap_or(&case["r"]))?;
            let (out, width) = (size(&model["modules"][module][0])?, size(&model["modules"][module][1])?);
            for (part, shape, scale) in [("lora_A", [rank, width], "scale_a"), ("lora_B", [out, rank], "scale_b")] {
                let key = format!("base_model.model.{path}.{part}.weight");
                let scale = model[scale].as_f64().ok_or("no scale")? as f32;
                let bytes = tensor_bytes(&key, shape[0] * shape[1], scale, dtype);
                tensors.push((key, shape.to_vec(), bytes));
            }
        }
    }
    let kind = match dtype {
        "BF16" => Dtype::BF16,
        "F16" => Dtype::F16,
        _ => Dtype::F32,
    };
    let mut views = Vec::new();
    for (key, shape, bytes) in &tensors {
        views.push((key.as_str(), TensorView::new(kind, shape.clone(), bytes)?));
    }
    fs::create_dir_all(dir)?;
    serialize_to_file(views, None, &dir.join("adapter_model.safetensors"))?;
    let config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none",
        "r": case["r"], "lora_alpha": case["lora_alpha"], "use_rslora": case["use_rslora"], "target_modules": case["target_modules"],
        "rank_pattern": case["rank_pattern"], "alpha_pattern": case["alpha_pattern"],
    });
    fs::write(dir.join("adapter_config.json"), serde_json::to_string_pretty(&config)?)?;
    Ok(())
}

/// The little-endian bytes of one generated tensor.
pub fn tensor_bytes(key: &str, len: usize, scale: f32, dtype: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 * len);
    for i in 0..len {
        let value = value(key, i as u32, scale);
        match dtype {
            "BF16" => bytes.extend(bf16::from_f32(value).to_le_bytes()),
            "F16" => bytes.extend(f16::from_f32(value).to_le_bytes()),
            _ => bytes.extend(value.to_le_bytes()),
        }
    }
    bytes
}

/// Element `i` of the tensor named `key`.
pub fn value(key: &str, i: u32, scale: f32) -> f32 {
    let h = mix32(fnv1a32(key).wrapping_add(i));
    ((h >> 8) as f32 / (1 << 24) as f32 - 0.5) * scale
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

fn size(value: &Value) -> Result<usize, Box<dyn Error>> {
    Ok(usize::try_from(value.as_u64().ok_or("not a size")?)?)
}

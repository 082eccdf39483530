//! Every block format against today's ggml: expanding bit for bit as its scalar reference code; packing too where that only
//! rounds, and where it searches for scales, by what is lost.

use std::ffi::CStr;
use std::path::Path;

use graft::quant::{BlockFormat, FORMATS, FormatInfo};
use llama_cpp_sys_2::{ggml_get_type_traits, ggml_quantize_chunk, ggml_type_traits};
use serde_json::{Map, Value, json};

use crate::Result;
use crate::engine::backend;

/// Elements of a run.
const ELEMENTS: usize = 1 << 20;
/// Runs of fresh blocks.
const RUNS: u64 = 8;

/// Blocks in a million that may be packed differently: the build here lets ggml's compiler fuse the multiplication and the
/// addition before a rounding, which moves what lies on the edge.
const FUSED_PER_MILLION: usize = 20;

#[path = "../../../tests/common/weights.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod weights;

/// `true` if all agree. What ggml loses in packing goes to `record`, for `tests/vs_ggml.rs`.
pub fn run(record: Option<&Path>) -> Result<bool> {
    let _backend = backend()?;
    let mut good = true;
    let mut recorded = Map::new();
    for info in FORMATS {
        // SAFETY: the id is one of ggml's types; ggml returns a pointer into a static table.
        let ggml = unsafe { &*ggml_get_type_traits(info.format as u32) };
        // SAFETY: ggml's names are static C strings.
        let name = unsafe { CStr::from_ptr(ggml.type_name) }.to_string_lossy();
        let shape = ggml.blck_size == info.block_len as i64 && ggml.type_size == info.block_bytes;
        let same_name = name.eq_ignore_ascii_case(info.name);
        let dequantize = (0..RUNS)
            .map(|seed| dequantize_differences(info, ggml, seed))
            .sum::<Option<usize>>();
        good &= shape && same_name && dequantize.unwrap_or(0) == 0;
        let dequantize = dequantize.map_or("-".into(), |n| n.to_string());
        print!(
            "{:8} name {same_name}, shape {shape}, dequantize: {dequantize} elements differ, ",
            info.name
        );
        if info.quantize.is_none() || info.format == BlockFormat::F32 {
            println!("quantize: -");
        } else if info.block_len == 1 || info.format == BlockFormat::MXFP4 {
            let different: usize = (0..RUNS).map(|seed| quantize_differences(info, ggml, seed)).sum();
            println!("quantize: {different} blocks differ");
            let blocks = ELEMENTS / info.block_len * RUNS as usize;
            good &= different <= blocks * FUSED_PER_MILLION / 1_000_000;
        } else {
            let (worst, losses) = losses(info)?;
            println!("quantize: at most {worst:.4} of ggml's error");
            recorded.insert(info.name.into(), losses);
            good &= worst <= 1.0;
        }
    }
    println!("{} runs of {ELEMENTS} elements", RUNS);
    if let Some(path) = record {
        std::fs::write(path, format!("{:#}\n", Value::Object(recorded)))?;
    }
    Ok(good)
}

/// Random bytes: scales are anything, NaN and infinite among them. `None` if ggml has no function (F32).
fn dequantize_differences(info: &FormatInfo, ggml: &ggml_type_traits, seed: u64) -> Option<usize> {
    let to_float = ggml.to_float?;
    let mut random = Random(seed << 32 | info.format as u64);
    let words = (ELEMENTS / info.block_len * info.block_bytes).div_ceil(8);
    let mut words: Vec<u64> = (0..words).map(|_| random.next()).collect();
    // The first run begins with blocks of equal bytes: all 0, all 1, …
    if seed == 0 {
        let head = info.block_bytes * 256;
        for (i, word) in words.iter_mut().take(head / 8).enumerate() {
            *word = u64::from_ne_bytes(std::array::from_fn(|k| ((i * 8 + k) / info.block_bytes) as u8));
        }
    }
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    let (mut got, mut want) = (vec![0f32; ELEMENTS], vec![0f32; ELEMENTS]);
    info.format
        .dequantize(&bytes[..ELEMENTS / info.block_len * info.block_bytes], &mut got);
    // SAFETY: `words` holds the blocks of `ELEMENTS` elements, aligned for every block; `want` has room for them.
    unsafe { to_float(words.as_ptr().cast(), want.as_mut_ptr(), ELEMENTS as i64) };
    Some(
        got.iter()
            .zip(&want)
            .filter(|(g, w)| g.to_bits() != w.to_bits() && !(g.is_nan() && w.is_nan()))
            .count(),
    )
}

/// Values as weights have them, and blocks that are constant, tiny, huge or one-sided.
fn quantize_differences(info: &FormatInfo, ggml: &ggml_type_traits, seed: u64) -> usize {
    let from_float = ggml.from_float_ref.expect("ggml writes the type");
    let mut random = Random(seed << 32 | info.format as u64);
    let mut values = vec![0f32; ELEMENTS];
    for (b, block) in values.chunks_mut(info.block_len.max(32)).enumerate() {
        let scale = [1.0, 1e-3, 1e-7, 1e4, 0.0, 1.0, 1.0, 1.0][b % 8];
        let shift = [0.0, 0.0, 0.0, 0.0, 0.0, 2.0, -2.0, 0.0][b % 8];
        for x in block {
            *x = scale * (random.normal() + shift);
            // Ties: multiples of a power of two.
            if b % 8 == 7 {
                *x = (*x * 8.0).round() / 8.0;
            }
        }
    }
    let bytes = ELEMENTS / info.block_len * info.block_bytes;
    let mut got = vec![0u8; bytes];
    info.format
        .quantize(&values, None, &mut got)
        .expect("values that every format holds");
    let mut want = vec![0u64; bytes.div_ceil(8)];
    // SAFETY: `want` has room for the blocks of `ELEMENTS` elements, aligned for every block.
    unsafe { from_float(values.as_ptr(), want.as_mut_ptr().cast(), ELEMENTS as i64) };
    let want: Vec<u8> = want.iter().flat_map(|w| w.to_ne_bytes()).collect();
    let pairs = got.chunks(info.block_bytes).zip(want.chunks(info.block_bytes));
    pairs.filter(|(g, w)| g != w).count()
}

/// For every kind of values, plain and with importance: the largest ratio of the errors, and ggml's errors.
fn losses(info: &FormatInfo) -> Result<(f64, Value)> {
    let mut worst = 0.0f64;
    let mut all = Map::new();
    for case in weights::cases() {
        let mut errors = Vec::new();
        for importance in [None, Some(&case.importance[..])] {
            let bytes = info.format.bytes_for(case.values.len()).ok_or("whole blocks")?;
            let mut packed = vec![0u8; bytes];
            info.format.quantize(&case.values, importance, &mut packed)?;
            let error = |bytes: &[u8]| weights::rms_error(info.format, bytes, &case.values, importance);
            let ours = error(&packed);
            let weights = importance.map_or(std::ptr::null(), <[f32]>::as_ptr);
            let (rows, columns) = (weights::ROWS as i64, weights::COLUMNS as i64);
            // SAFETY: the values are `rows` rows of `columns`, the weights one row; `packed` has room for their blocks.
            unsafe {
                let (values, packed) = (case.values.as_ptr(), packed.as_mut_ptr().cast());
                ggml_quantize_chunk(info.format.id(), values, packed, 0, rows, columns, weights);
            }
            let ggml = error(&packed);
            // Both lose nothing: neither is worse.
            worst = worst.max(if ours == 0.0 { 0.0 } else { ours / ggml });
            errors.push(ggml);
        }
        all.insert(case.name.into(), json!(errors));
    }
    Ok((worst, Value::Object(all)))
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ x >> 31
    }

    /// About normal: a sum of uniform numbers.
    fn normal(&mut self) -> f32 {
        let bits = self.next();
        (0..4)
            .map(|k| (bits >> (16 * k) & 0xFFFF) as f32 / 65536.0 - 0.5)
            .sum::<f32>()
            * 1.7
    }
}

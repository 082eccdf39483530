//! Block formats against two oracles: expanded bit for bit (NaN equals NaN: its payload is not part of a format), packed
//! without losing more.
//!
//! * gguf-py: `tests/data/blocks/<type>.bin` and `.f32`, recorded by `tests/reference/blocks.py`; every format, random and
//!   adversarial blocks (all bytes equal, zero/denormal/largest/infinite/NaN scales).
//! * ggml, compiled from the crate `ggml-sys`: fresh random blocks, and quantization. Its only release (0.1.1) is from May
//!   2023: it has no K, IQ, BF16 or MXFP4 types, keeps the scales of Q4_0, Q4_1 and Q8_0 in f32 and the codes in pairs
//!   instead of halves, and asserts that nothing is NaN. So blocks are translated to that older order first (which loses
//!   nothing), and scales are finite here.
//! * today's ggml: `peers blocks` (in `benches/peers`) compares all formats, both directions; what ggml loses when it packs,
//!   with importance or without, is recorded in `tests/data/blocks/quantize.json`.

#[path = "common/mod.rs"]
mod common;
#[path = "common/weights.rs"]
mod weights;

use std::ffi::c_void;
use std::path::Path;

use graft::quant::{BlockFormat, FORMATS};
use weights::Random;

/// Fails unless `got` is `want`; `at` names the case.
fn assert_same_bits(got: &[f32], want: &[f32], at: &str) {
    assert_eq!(got.len(), want.len(), "{at}");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!(
            g.to_bits() == w.to_bits() || (g.is_nan() && w.is_nan()),
            "{at}, element {i}: {g:e}, expected {w:e}"
        );
    }
}

#[test]
fn dequantize_matches_gguf_py() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/blocks");
    for info in FORMATS.iter().filter(|info| info.format != BlockFormat::F32) {
        let read = |extension| {
            let path = dir.join(info.name.to_lowercase()).with_extension(extension);
            std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        };
        let (bytes, want) = (read("bin"), read("f32"));
        let want: Vec<f32> = want.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        assert!(
            bytes.len() >= 48 * info.block_bytes,
            "{}: too few blocks to mean much",
            info.name
        );
        assert!(
            want.iter().any(|x| x.is_nan()) || info.format == BlockFormat::MXFP4,
            "{}: no NaN case",
            info.name
        );
        let mut got = vec![0.0; want.len()];
        info.format.dequantize(&bytes, &mut got);
        assert_same_bits(&got, &want, info.name);
    }
}

#[test]
fn f32_is_a_copy() {
    let words = [
        0,
        0x8000_0000,
        1,
        0x7F80_0000,
        0xFF80_0000,
        0x7FC0_0000,
        0x7F80_0001,
        0x3F80_0000,
    ];
    let bytes: Vec<u8> = words.iter().flat_map(|w: &u32| w.to_le_bytes()).collect();
    let mut got = vec![0.0; words.len()];
    BlockFormat::F32.dequantize(&bytes, &mut got);
    assert_eq!(got.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), words);
    got.retain(|x| x.is_finite());
    let mut back = vec![0; 4 * got.len()];
    BlockFormat::F32.quantize(&got, None, &mut back).unwrap();
    let mut again = vec![0.0; got.len()];
    BlockFormat::F32.dequantize(&back, &mut again);
    assert_same_bits(&again, &got, "F32");
}

#[test]
fn every_half_matches_ggml() {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    let bytes: Vec<u8> = all.iter().flat_map(|h| h.to_le_bytes()).collect();
    let (mut got, mut want) = (vec![0.0; all.len()], vec![0.0; all.len()]);
    BlockFormat::F16.dequantize(&bytes, &mut got);
    start_ggml();
    // SAFETY: both buffers hold `all.len()` elements.
    unsafe { ggml_sys::ggml_fp16_to_fp32_row(all.as_ptr(), want.as_mut_ptr(), all.len()) };
    assert_same_bits(&got, &want, "F16");
}

#[test]
fn rounding_to_half_matches_ggml() {
    let mut rng = Random(7);
    // Random bits: every exponent, so halves that are denormal, ties and what underflows to zero all occur.
    let mut values: Vec<f32> = (0..100_000)
        .map(|_| f32::from_bits(rng.u32()))
        .filter(|x| x.abs() <= 65504.0)
        .collect();
    values.extend((0..100_000).map(|_| f32::from_bits(rng.u32() & 0x8FFF_F000 | 0x3000_0000)));
    let mut got = vec![0; values.len() * 2];
    BlockFormat::F16.quantize(&values, None, &mut got).unwrap();
    start_ggml();
    // By the row: a single half comes back in a floating-point register on arm64, where the binding does not look.
    let mut want = vec![0u16; values.len()];
    // SAFETY: both buffers hold `values.len()` elements.
    unsafe { ggml_sys::ggml_fp32_to_fp16_row(values.as_ptr(), want.as_mut_ptr(), values.len()) };
    for ((x, got), want) in values.iter().zip(got.as_chunks().0).zip(want) {
        assert_eq!(u16::from_le_bytes(*got), want, "{x:e}");
    }
}

#[test]
fn dequantize_matches_ggml() {
    start_ggml();
    let mut rng = Random(7);
    for old in OLD {
        let bytes = random_blocks(old.format, 2000, &mut rng);
        let count = 2000 * 32;
        let mut got = vec![0.0; count];
        old.format.dequantize(&bytes, &mut got);
        let older: Vec<u8> = bytes
            .chunks(old.format.info().block_bytes)
            .flat_map(|b| old.older_block(b))
            .collect();
        // ggml reads f32 and u32 fields: give it aligned memory.
        let older = Aligned::from(&older);
        let mut want = vec![0.0; count];
        let dequantize = old.functions().dequantize_row_q.expect("ggml reads this type");
        // SAFETY: `older` holds `count` elements in ggml's layout (`older_block`), and `want` has room for them.
        unsafe { dequantize(older.as_ptr(), want.as_mut_ptr(), count as i32) };
        assert_same_bits(&got, &want, old.format.name());
    }
}

/// Every format whose scales are searched for, on values of many kinds, with and without the importance of columns: the
/// weighted error is not above that of today's ggml, which `peers blocks` recorded.
#[test]
fn packing_loses_no_more_than_ggml() {
    let recorded = common::json(&common::data().join("blocks/quantize.json"));
    let formats = recorded.as_object().unwrap();
    assert_eq!(formats.len(), 8);
    for case in weights::cases() {
        for (name, cases) in formats {
            let format = FORMATS.iter().find(|info| info.name == name).unwrap().format;
            let ggml = common::floats(&cases[case.name]);
            for (importance, ggml) in [None, Some(&case.importance[..])].into_iter().zip(ggml) {
                let mut packed = vec![0; format.bytes_for(case.values.len()).unwrap()];
                format.quantize(&case.values, importance, &mut packed).unwrap();
                let ours = weights::rms_error(format, &packed, &case.values, importance);
                let (at, weighted) = (case.name, importance.is_some());
                assert!(
                    ours <= f64::from(ggml),
                    "{name}, {at}, weighted {weighted}: {ours:e}, ggml {ggml:e}"
                );
            }
        }
    }
}

/// The same against the ggml that is compiled here, on fresh values.
#[test]
fn packing_loses_no_more_than_the_older_ggml() {
    start_ggml();
    let mut rng = Random(7);
    for old in OLD {
        let values: Vec<f32> = (0..64_000).map(|_| weight(&mut rng)).collect();
        let mut packed = vec![0; old.format.bytes_for(values.len()).unwrap()];
        old.format.quantize(&values, None, &mut packed).unwrap();
        let ours = weights::rms_error(old.format, &packed, &values, None);

        let mut theirs = Aligned::from(&vec![0; values.len() / 32 * old.bytes]);
        let mut back = vec![0.0; values.len()];
        let quantize = old.functions().quantize_row_q_reference.expect("ggml writes this type");
        let dequantize = old.functions().dequantize_row_q.expect("ggml reads this type");
        // SAFETY: `theirs` has room for the blocks of `values`, and `back` for as many elements.
        unsafe {
            quantize(values.as_ptr(), theirs.as_mut_ptr(), values.len() as i32);
            dequantize(theirs.as_ptr(), back.as_mut_ptr(), values.len() as i32);
        }
        let theirs = weights::rms_difference(&back, &values, None);
        assert!(ours < theirs, "{}: {ours:e}, ggml {theirs:e}", old.format.name());
    }
}

/// A format as the ggml of `ggml-sys` lays it out.
struct Old {
    format: BlockFormat,
    /// Bytes of its block there.
    bytes: usize,
    /// Leading half-precision fields of today's block (scale, minimum).
    halves: usize,
    /// They were f32.
    wide_scales: bool,
    /// The codes are nibbles, which were stored as pairs of neighbours.
    nibbles: bool,
}

const OLD: [Old; 5] = [
    Old {
        format: BlockFormat::Q4_0,
        bytes: 20,
        halves: 1,
        wide_scales: true,
        nibbles: true,
    },
    Old {
        format: BlockFormat::Q4_1,
        bytes: 24,
        halves: 2,
        wide_scales: true,
        nibbles: true,
    },
    Old {
        format: BlockFormat::Q5_0,
        bytes: 22,
        halves: 1,
        wide_scales: false,
        nibbles: true,
    },
    Old {
        format: BlockFormat::Q5_1,
        bytes: 24,
        halves: 2,
        wide_scales: false,
        nibbles: true,
    },
    Old {
        format: BlockFormat::Q8_0,
        bytes: 36,
        halves: 1,
        wide_scales: true,
        nibbles: false,
    },
];

impl Old {
    fn functions(&self) -> ggml_sys::quantize_fns_t {
        // SAFETY: the id is one of ggml's types, and ggml was initialized (`start_ggml`).
        unsafe { ggml_sys::ggml_internal_get_quantize_fn(self.format as usize) }
    }

    /// One of today's blocks in the older order.
    fn older_block(&self, block: &[u8]) -> Vec<u8> {
        let (scales, codes) = block.split_at(self.halves * 2);
        let mut out = Vec::new();
        for &half in scales.as_chunks().0 {
            match self.wide_scales {
                true => out.extend(half::f16::from_le_bytes(half).to_f32().to_le_bytes()),
                false => out.extend(half),
            }
        }
        if !self.nibbles {
            out.extend(codes);
            return out;
        }
        let (fifth_bits, codes) = codes.split_at(codes.len() - 16);
        out.extend(fifth_bits);
        let code = |j: usize| if j < 16 { codes[j] & 15 } else { codes[j - 16] >> 4 };
        out.extend((0..16).map(|j| code(2 * j) | code(2 * j + 1) << 4));
        assert_eq!(out.len(), self.bytes);
        out
    }
}

/// Random codes under finite scales of every magnitude and sign, the special ones first.
fn random_blocks(format: BlockFormat, count: usize, rng: &mut Random) -> Vec<u8> {
    const SPECIAL: [u16; 8] = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x3C00];
    let halves = OLD.iter().find(|old| old.format == format).unwrap().halves;
    let mut bytes = vec![0; count * format.info().block_bytes];
    bytes.fill_with(|| rng.u32() as u8);
    for (i, block) in bytes.chunks_mut(format.info().block_bytes).enumerate() {
        for (k, field) in block[..halves * 2].as_chunks_mut().0.iter_mut().enumerate() {
            let random = u16::from_le_bytes(*field);
            let finite = if random >> 10 & 31 == 31 {
                random & !0x4000
            } else {
                random
            };
            *field = SPECIAL.get(i / (1 + 7 * k)).copied().unwrap_or(finite).to_le_bytes();
        }
    }
    bytes
}

/// Roughly as weights are: near zero, now and then large.
fn weight(rng: &mut Random) -> f32 {
    let uniform = |bits: u32| bits as f32 / u32::MAX as f32 - 0.5;
    let (a, b) = (uniform(rng.u32()), uniform(rng.u32()));
    a * b * if rng.u32().is_multiple_of(64) { 10.0 } else { 1.0 }
}

/// Fills ggml's table of halves, which its functions need.
fn start_ggml() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let params = ggml_sys::ggml_init_params {
            mem_size: 1 << 16,
            mem_buffer: std::ptr::null_mut(),
            no_alloc: true,
        };
        // SAFETY: a null buffer asks ggml to allocate; the context is freed at once and the table stays.
        unsafe { ggml_sys::ggml_free(ggml_sys::ggml_init(params)) };
    });
}

/// Bytes aligned for ggml's structs.
struct Aligned {
    words: Vec<u64>,
}

impl Aligned {
    fn from(bytes: &[u8]) -> Self {
        let word = |chunk: &[u8]| u64::from_ne_bytes(std::array::from_fn(|i| chunk.get(i).copied().unwrap_or(0)));
        Self {
            words: bytes.chunks(8).map(word).collect(),
        }
    }

    fn as_ptr(&self) -> *const c_void {
        self.words.as_ptr().cast()
    }

    fn as_mut_ptr(&mut self) -> *mut c_void {
        self.words.as_mut_ptr().cast()
    }
}

//! The table, and what holds for quantization whatever goes in. How good it is: `tests/vs_ggml.rs`.

use proptest::prelude::*;

use super::*;
use crate::ErrorKind;

#[test]
fn the_table_is_complete_and_consistent() {
    for pair in FORMATS.windows(2) {
        assert!((pair[0].format as u32) < pair[1].format as u32);
    }
    for info in FORMATS {
        assert_eq!(BlockFormat::from_id(info.format as u32), Some(info.format));
        assert_eq!(ggml_type_name(info.format as u32), Some(info.name));
        assert_eq!(format!("{:?}", info.format), info.name);
        assert!(info.block_len > 0 && info.block_bytes > 0);
    }
    assert_eq!(BlockFormat::from_id(4), None);
    assert_eq!(BlockFormat::from_id(u32::MAX), None);
    assert_eq!(ggml_type_name(43), None);
    assert_eq!(ggml_type_name(u32::MAX), None);
}

#[test]
fn sizes_are_the_ones_in_the_files() {
    assert_eq!(BlockFormat::Q4_1.bytes_for(576), Some(18 * 20));
    assert_eq!(BlockFormat::Q4_K.bytes_for(512), Some(288));
    assert_eq!(BlockFormat::Q4_K.bytes_for(500), None);
    assert_eq!(BlockFormat::F32.bytes_for(usize::MAX), None);
    assert_eq!(BlockFormat::Q6_K.bytes_for(0), Some(0));
}

#[test]
fn reading_is_the_same_at_every_alignment() {
    for info in FORMATS {
        let bytes: Vec<u8> = (0..info.block_bytes * 3 + 8).map(|i| (i * 37 % 251) as u8).collect();
        let mut want = vec![0.0; info.block_len * 3];
        info.format.dequantize(&bytes[..info.block_bytes * 3], &mut want);
        for shift in 1..8 {
            let mut moved = vec![0; shift];
            moved.extend_from_slice(&bytes[..info.block_bytes * 3]);
            let mut got = vec![0.0; info.block_len * 3];
            info.format.dequantize(&moved[shift..], &mut got);
            let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&got), bits(&want), "{}", info.name);
        }
    }
}

/// The formats that Graft writes.
fn written() -> impl Iterator<Item = BlockFormat> {
    FORMATS
        .iter()
        .filter(|info| info.quantize.is_some())
        .map(|info| info.format)
}

/// What `values` are once they were packed and expanded.
fn round_trip(format: BlockFormat, values: &[f32], importance: Option<&[f32]>) -> Vec<f32> {
    let mut bytes = vec![0xA5; format.bytes_for(values.len()).unwrap()];
    format.quantize(values, importance, &mut bytes).unwrap();
    let mut back = vec![f32::NAN; values.len()];
    format.dequantize(&bytes, &mut back);
    back
}

fn squared_error(a: &[f32], b: &[f32], importance: Option<&[f32]>) -> f64 {
    let term = |i: usize| {
        let w = importance.map_or(1.0, |w| f64::from(w[i % w.len()]));
        w * (f64::from(a[i]) - f64::from(b[i])).powi(2)
    };
    (0..a.len()).map(term).sum()
}

/// Finite values of all sizes, often of one size, often equal, some of them extreme.
fn values() -> impl Strategy<Value = Vec<f32>> {
    let anything = (any::<u32>(), -149..16i32).prop_map(|(mantissa, exponent)| {
        let m = f64::from(mantissa) / f64::from(u32::MAX) * 2.0 - 1.0;
        (m * 2f64.powi(exponent)) as f32
    });
    let special = prop::sample::select(vec![0.0, -0.0, 65504.0, -65504.0, 1e-45, 5.96e-8, -6.1e-5, 1.0]);
    let one_size = (-40..15i32, 0..3i32).prop_flat_map(|(exponent, side)| {
        let (from, to) = [(-1.0f32, 1.0f32), (0.0, 1.0), (-1.0, -0.9)][side as usize];
        prop::collection::vec((from..=to).prop_map(move |m: f32| m * 2f32.powi(exponent)), 256)
    });
    prop_oneof![
        one_size,
        prop::collection::vec(anything.clone(), 256),
        prop::collection::vec(prop_oneof![9 => anything.clone(), 1 => special.clone()], 256),
        (anything, special).prop_map(|(a, b)| (0..256).map(|i| if i < 200 { a } else { b }).collect()),
    ]
}

fn importance() -> impl Strategy<Value = Option<Vec<f32>>> {
    let weight = prop_oneof![Just(0.0f32), 0.0..1.0f32, 1e-30..1e30f32, Just(f32::MAX)];
    prop_oneof![Just(None), prop::collection::vec(weight, 256).prop_map(Some)]
}

proptest! {
    /// Whatever goes in, what comes out is finite; and plain, it is no worse than zeros would be.
    #[test]
    fn packing_keeps_values_finite_and_loses_less_than_all(values in values(), importance in importance()) {
        for format in written() {
            let back = round_trip(format, &values, importance.as_deref());
            prop_assert!(back.iter().all(|y| y.is_finite()), "{}: {back:?}", format.name());
            let back = round_trip(format, &values, None);
            let (lost, all) = (squared_error(&values, &back, None), squared_error(&values, &[0.0; 256], None));
            // Not to the last digit: the search rounds. MXFP4 follows ggml, whose scale suits the largest value only.
            prop_assert!(lost <= all * 1.001 || format == BlockFormat::MXFP4, "{}: {lost:e} of {all:e}", format.name());
        }
    }

    /// What is representable comes back in the formats of 32; in Q4_1 and Q5_1 where code 0 is used.
    #[test]
    fn packing_undoes_expanding(codes in prop::collection::vec(any::<u8>(), 32), d in 0x0001..0x7000u16, m in any::<u16>()) {
        for format in [BlockFormat::Q4_0, BlockFormat::Q5_0, BlockFormat::Q8_0, BlockFormat::Q4_1, BlockFormat::Q5_1] {
            let mut block = [&d.to_le_bytes()[..], &codes].concat();
            block.resize(format.info().block_bytes, 0x37);
            match format {
                // A minimum of the scale's own size, and element 0 with code 0.
                BlockFormat::Q4_1 | BlockFormat::Q5_1 => {
                    block[2..4].copy_from_slice(&(d & 0x7C00 | m & 0x83FF).to_le_bytes());
                    let codes = block.len() - 16;
                    block[codes] &= 0xF0;
                    block[4] &= 0xFE;
                }
                BlockFormat::Q8_0 => block[2..].iter_mut().for_each(|q| *q = if *q == 0x80 { 0x7F } else { *q }),
                _ => {}
            }
            let mut values = [0.0; 32];
            format.dequantize(&block, &mut values);
            if values.iter().any(|x| x.abs() > 65504.0) {
                continue;
            }
            let back = round_trip(format, &values, None);
            prop_assert_eq!(&back[..], &values[..], "{}", format.name());
        }
    }
}

/// The blocks of 256 come back nearly, as they were packed from values.
#[test]
fn packing_again_loses_next_to_nothing() {
    let values: Vec<f32> = (0..1u32 << 15)
        .map(|i| {
            let bits = i.wrapping_mul(0x9E37_79B9).rotate_left(15).wrapping_mul(0x85EB_CA6B);
            (0..4).map(|k| (bits >> (8 * k) & 0xFF) as f32 / 255.0 - 0.5).sum()
        })
        .collect();
    for format in [BlockFormat::Q4_K, BlockFormat::Q5_K, BlockFormat::Q6_K] {
        let once = round_trip(format, &values, None);
        let twice = round_trip(format, &once, None);
        let (first, second) = (squared_error(&values, &once, None), squared_error(&once, &twice, None));
        assert!(second <= 0.05 * first, "{}: {second:e} after {first:e}", format.name());
    }
}

#[test]
fn zeros_stay_zeros() {
    for format in written() {
        for zero in [0.0, -0.0, 1e-40, -1e-20] {
            let back = round_trip(format, &[zero; 512], Some(&[0.0; 256]));
            let kept = matches!(format, BlockFormat::F32 | BlockFormat::BF16 | BlockFormat::MXFP4);
            assert!(kept || back.iter().all(|y| *y == 0.0), "{}", format.name());
        }
    }
}

#[test]
fn the_largest_half_survives() {
    for format in written() {
        let values: Vec<f32> = (0..256).map(|i| if i % 2 == 0 { 65504.0 } else { -65504.0 }).collect();
        for (y, x) in round_trip(format, &values, None).iter().zip(&values) {
            // MXFP4 has 6 and 4 times a power of two: 49152.
            let near = if format == BlockFormat::MXFP4 { 0.26 } else { 0.07 };
            assert!((y / x - 1.0).abs() < near, "{}: {y}", format.name());
        }
    }
}

#[test]
fn what_is_important_is_kept_best_and_every_row_alike() {
    let values: Vec<f32> = (0..1024).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.01).collect();
    let importance: Vec<f32> = (0..512).map(|i| if i % 4 == 0 { 100.0 } else { 1.0 }).collect();
    for format in written().filter(|f| f.info().block_len > 1 && *f != BlockFormat::MXFP4) {
        let (plain, weighted) = (
            round_trip(format, &values, None),
            round_trip(format, &values, Some(&importance)),
        );
        let error = |back: &[f32]| squared_error(&values, back, Some(&importance));
        assert!(error(&weighted) < error(&plain), "{}", format.name());
        let second = round_trip(format, &values[512..], Some(&importance));
        assert_eq!(weighted[512..], second, "{}", format.name());
    }
}

#[test]
fn what_a_format_cannot_hold_is_refused_and_named() {
    let refused = |format: BlockFormat, x: f32, weight: f32, kind: ErrorKind, message: &str| {
        let (mut values, mut importance) = ([1.0; 512], [1.0; 256]);
        (values[300], importance[7]) = (x, weight);
        let mut out = vec![1; format.bytes_for(512).unwrap()];
        let e = format.quantize(&values, Some(&importance), &mut out).unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(message), "{e}");
        assert!(out.iter().all(|b| *b == 1), "{}", format.name());
    };
    for format in written() {
        for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            refused(format, x, 1.0, ErrorKind::Invalid, "element 300 is not finite");
        }
        for weight in [f32::NAN, f32::INFINITY, -1.0] {
            refused(format, 1.0, weight, ErrorKind::Invalid, "the importance of column 7");
        }
        if !matches!(format, BlockFormat::F32 | BlockFormat::BF16 | BlockFormat::MXFP4) {
            refused(format, -65505.0, 1.0, ErrorKind::Limit, "element 300 is too large");
        }
    }
    refused(
        BlockFormat::BF16,
        f32::MAX,
        1.0,
        ErrorKind::Limit,
        "element 300 is too large for BF16",
    );
    for format in [
        BlockFormat::Q2_K,
        BlockFormat::Q3_K,
        BlockFormat::IQ4_NL,
        BlockFormat::IQ4_XS,
    ] {
        refused(format, 1.0, 1.0, ErrorKind::Unsupported, format.name());
    }
}

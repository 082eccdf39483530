//! Strips against the dequantization of each format, element by element.

use super::*;
use crate::kernels::cpu::PARTNERS;
use crate::kernels::cpu::tests::Random;
use crate::quant::BlockFormat;

/// Column `c` of row `row` of a strip: weight, and the size of the terms that it is the sum of.
fn weight<F: Unpack>(strip: &[u8], row: usize, c: usize) -> (f32, f32) {
    let (group, c) = (c / 32, c % 32);
    let dword = |line: usize| {
        let at = (group * F::LINES + line) * LINE + 4 * row;
        u32::from_le_bytes(strip[at..at + 4].try_into().unwrap())
    };
    let code = |c: usize| (dword(c / 4) >> (c % 4 * 8)) as i8;
    if F::WIDE {
        let total: i32 = (0..32).map(|c| i32::from(code(c))).sum();
        assert_eq!(dword(TOTALS) as i32, 128 * total);
    }
    let half = if F::HALVES == 2 { c / 16 } else { 0 };
    let weight = f32::from_bits(dword(SCALES + half)) * f32::from(code(c));
    if F::MIN {
        let min = f32::from_bits(dword(F::MINS + half));
        (weight + min, weight.abs() + min.abs())
    } else {
        (weight, weight.abs())
    }
}

/// Unpacks 8 rows of one block and compares them with `dequantize`: equal, but for the roundings of a scale, a minimum and their
/// sum where there is a minimum; what a broken scale makes of a number is not one in both.
fn check<F: Unpack>(format: BlockFormat, blocks: &[u8]) {
    assert_eq!(
        (format.info().block_bytes, format.info().block_len),
        (F::BYTES, F::GROUPS * 32)
    );
    let mut strip = vec![0u8; F::GROUPS * F::LINES * LINE];
    assert_eq!(blocks.len(), 8 * F::BYTES);
    // SAFETY: 8 blocks; room for a block's groups.
    unsafe { eight::<F>(blocks.as_ptr(), F::BYTES, strip.as_mut_ptr()) };
    for (row, block) in blocks.chunks_exact(F::BYTES).enumerate() {
        let mut expected = vec![0.0; F::GROUPS * 32];
        format.dequantize(block, &mut expected);
        for (c, &expected) in expected.iter().enumerate() {
            let (found, size) = weight::<F>(&strip, row, c);
            let same = if expected.is_finite() {
                (found - expected).abs() <= if F::MIN { size * f32::EPSILON } else { 0.0 }
            } else {
                !found.is_finite()
            };
            assert!(
                same,
                "{} row {row} column {c}: {found}, expected {expected}",
                format.name()
            );
        }
    }
}

type Check = fn(BlockFormat, &[u8]);

macro_rules! checks {
    ($($name:ident)*) => { &[$((BlockFormat::$name, check::<$name> as Check)),*] };
}

static CHECKS: &[(BlockFormat, Check)] = checks!(Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4);

#[test]
fn strips_hold_the_weights_of_any_bytes() {
    assert!(CHECKS.iter().map(|c| c.0).eq(PARTNERS.iter().map(|p| p.0)));
    let mut random = Random::new(30);
    for &(format, check) in CHECKS {
        let bytes = 8 * format.info().block_bytes;
        for _ in 0..200 {
            let blocks: Vec<u8> = (0..bytes).map(|_| random.bits() as u8).collect();
            check(format, &blocks);
        }
        for byte in [0x00, 0xff, 0x0f, 0xf0, 0x55, 0xaa, 0x01, 0x80] {
            check(format, &vec![byte; bytes]);
        }
    }
}

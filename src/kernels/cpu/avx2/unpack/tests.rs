//! Strips against the dequantization of each format, element by element.

use super::*;
use crate::kernels::cpu::PARTNERS;
use crate::kernels::cpu::tests::Random;
use crate::quant::{BlockFormat, mxfp4};

/// Column `c` of row `row` of a strip (the second of a panel of two): weight, and the size of the terms that it is the sum of.
fn weight<F: Unpack>(panel: &[u8], row: usize, c: usize) -> (f32, f32) {
    let (group, c) = (c / 32, c % 32);
    let dword = |line: usize| {
        let at = ((group * F::LINES + line) * 2 + 1) * LINE + 4 * row;
        u32::from_le_bytes(panel[at..at + 4].try_into().unwrap())
    };
    let code = if F::WORDS {
        (dword(c % 2 * 8 + c / 4) >> (c % 4 / 2 * 16)) as i16
    } else {
        i16::from((dword(c / 4) >> (c % 4 * 8)) as u8)
    };
    let half = if F::HALVES == 2 { c / 16 } else { 0 };
    let weight = f32::from_bits(dword(F::CODES + half)) * f32::from(code - F::ZERO);
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
    let mut panel = vec![0u8; F::GROUPS * F::LINES * 2 * LINE];
    assert_eq!(blocks.len(), 8 * F::BYTES);
    // SAFETY: the level is available; 8 blocks; room for a block's groups of two strips, of which this is the second.
    unsafe { F::unpack::<2>(blocks.as_ptr(), F::BYTES, panel.as_mut_ptr().add(LINE)) };
    for (row, block) in blocks.chunks_exact(F::BYTES).enumerate() {
        let mut expected = vec![0.0; F::GROUPS * 32];
        format.dequantize(block, &mut expected);
        for (c, &expected) in expected.iter().enumerate() {
            let (found, size) = weight::<F>(&panel, row, c);
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
    // The first strip is untouched.
    for lines in panel.chunks_exact(2 * LINE) {
        assert!(lines[..LINE].iter().all(|&b| b == 0), "{}", format.name());
    }
}

type Check = fn(BlockFormat, &[u8]);

macro_rules! checks {
    ($($name:ident)*) => { &[$((BlockFormat::$name, check::<$name> as Check)),*] };
}

static CHECKS: &[(BlockFormat, Check)] = checks!(Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4);

#[test]
fn strips_hold_the_weights_of_any_bytes() {
    assert!(super::super::available(), "tests of this level need its CPU");
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

#[test]
fn every_scale_of_mxfp4() {
    assert!(super::super::available(), "tests of this level need its CPU");
    for e in (0..=255u8).collect::<Vec<_>>().chunks_exact(8) {
        let blocks: Vec<u8> = e.iter().flat_map(|&e| [&[e], &[0x11; 16][..]].concat()).collect();
        check::<MXFP4>(BlockFormat::MXFP4, &blocks);
        // Code 1 is the scale itself: as the format defines it, denormals too.
        let mut values = vec![0.0; 8 * 32];
        BlockFormat::MXFP4.dequantize(&blocks, &mut values);
        assert!(
            values
                .chunks_exact(32)
                .zip(e)
                .all(|(v, &e)| v[0] == mxfp4::half_scale(e))
        );
    }
}

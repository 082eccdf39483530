//! Products of every format against f64 sums over dequantized weights.

use super::*;
use crate::kernels::cpu::panels::{How, Records};
use crate::quant::{BlockFormat, FORMATS};

/// Where the block's f16 scales are.
fn scales_at(format: BlockFormat) -> &'static [usize] {
    use BlockFormat::*;
    match format {
        Q4_0 | Q5_0 | Q8_0 | IQ4_NL | IQ4_XS => &[0],
        Q4_1 | Q5_1 | Q4_K | Q5_K => &[0, 2],
        Q2_K => &[80, 82],
        Q3_K => &[108],
        Q6_K => &[208],
        F32 | F16 | BF16 | MXFP4 => &[],
    }
}

/// Random codes and sub-scales with scales of ordinary size, one byte off any alignment.
pub(super) struct Matrix {
    format: BlockFormat,
    rows: usize,
    cols: usize,
    bytes: Vec<u8>,
}

impl Matrix {
    pub(super) fn random(format: BlockFormat, rows: usize, cols: usize, random: &mut Random) -> Self {
        let len = rows * format.bytes_for(cols).unwrap();
        let mut bytes: Vec<u8> = (0..len + 1).map(|_| random.bits() as u8).collect();
        let info = format.info();
        for block in bytes[1..].chunks_exact_mut(info.block_bytes) {
            for &at in scales_at(format) {
                let scale = half::f16::from_f32(0.02 * random.unit());
                block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
            }
            match format {
                BlockFormat::F32 => block.copy_from_slice(&random.unit().to_le_bytes()),
                BlockFormat::F16 => block.copy_from_slice(&half::f16::from_f32(random.unit()).to_le_bytes()),
                BlockFormat::BF16 => block.copy_from_slice(&half::bf16::from_f32(random.unit()).to_le_bytes()),
                BlockFormat::MXFP4 => block[0] = 118 + block[0] % 6,
                _ => {}
            }
        }
        Matrix {
            format,
            rows,
            cols,
            bytes,
        }
    }

    pub(super) fn weight(&self) -> Weight<'_> {
        Weight {
            format: self.format,
            rows: self.rows,
            cols: self.cols,
            data: &self.bytes[1..],
        }
    }

    fn values(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.cols];
        self.format.dequantize(&self.bytes[1..], &mut out);
        out
    }

    /// Overwrites all codes and sub-scales, keeping the scales.
    fn fill(&mut self, byte: u8) {
        for block in self.bytes[1..].chunks_exact_mut(self.format.info().block_bytes) {
            for (i, b) in block.iter_mut().enumerate() {
                let half = scales_at(self.format).iter().any(|&at| i == at || i == at + 1);
                let power = self.format == BlockFormat::MXFP4 && i == 0;
                if !(half || power) {
                    *b = byte;
                }
            }
        }
    }
}

/// x w^T in f64, and for each element the size that its rounding is measured by: max |w| of the row times sum |x|, since
/// formats with a minimum compute scale * sum(code * x) + minimum * sum(x), whose terms may be larger than their sum.
fn reference(w: &[f32], x: &[f32], k: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut y, mut size) = (Vec::new(), Vec::new());
    for x in x.chunks_exact(k) {
        let total: f64 = x.iter().map(|v| f64::from(v.abs())).sum();
        for w in w.chunks_exact(k) {
            y.push(w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum());
            size.push(total * w.iter().fold(0.0f64, |m, w| m.max(f64::from(w.abs()))));
        }
    }
    (y, size)
}

/// f32 sums of at most a few thousand products in several lanes; where scale * sum and minimum * sum cancel, their own roundings
/// (2^-24 each, of terms up to a few times the size) remain.
const BOUND: f64 = 5e-6;

/// One product on all levels and two team sizes: against f64 with the activations as quantized, and bit-equal between team sizes.
fn check(matrix: &Matrix, x: &[f32], precision: Precision) {
    let (w, k) = (matrix.weight(), matrix.cols);
    let m = x.len() / k;
    let what = |cpu: &Cpu| {
        format!(
            "{} {} {precision:?} m={m} n={} k={k}",
            cpu.isa(),
            w.format.name(),
            w.rows
        )
    };
    for (cpu, other) in levels(1).iter().zip(levels(3).iter()) {
        let mut acts = Acts::default();
        cpu.pack(x, k, Readers::weights(&[w.format], precision), &mut acts);
        let mut seen = x.to_vec();
        if precision == Precision::Fast && partner(w.format) != Partner::F32 {
            scalar::unpack(&acts, partner(w.format), &mut seen);
        }
        let (expected, size) = reference(&matrix.values(), &seen, k);
        let mut y = vec![f32::NAN; m * w.rows];
        cpu.matmul(w, &acts, precision, &mut y);
        close(&what(cpu), &y, &expected, |i| size[i], BOUND);
        let mut again = vec![f32::NAN; m * w.rows];
        other.pack(x, k, Readers::weights(&[w.format], precision), &mut acts);
        other.matmul(w, &acts, precision, &mut again);
        assert!(
            y.iter().zip(&again).all(|(a, b)| a.to_bits() == b.to_bits()),
            "{}: threads matter",
            what(cpu)
        );
    }
}

const BATCHES: &[usize] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 33];

#[test]
fn matmul_matches_f64_for_every_format_and_tail() {
    let mut random = Random::new(10);
    for info in FORMATS {
        for precision in [Precision::Fast, Precision::Exact] {
            for blocks in [1, 3] {
                for n in [1, 7, 8, 9, 16, 17, 40] {
                    let matrix = Matrix::random(info.format, n, blocks * info.block_len, &mut random);
                    for &m in BATCHES {
                        let x = random.activations(m * matrix.cols);
                        check(&matrix, &x, precision);
                    }
                }
            }
        }
    }
}

#[test]
fn matmul_matches_f64_on_long_rows() {
    let mut random = Random::new(11);
    for info in FORMATS {
        for (n, k, m) in [(100, 2048, 1), (64, 4864, 2), (33, 2048, 35), (48, 5120, 150)] {
            let k = k - k % info.block_len;
            let matrix = Matrix::random(info.format, n, k, &mut random);
            let x = random.activations(m * k);
            for precision in [Precision::Fast, Precision::Exact] {
                check(&matrix, &x, precision);
            }
        }
    }
}

#[test]
fn dense_rows_of_any_length() {
    let mut random = Random::new(12);
    for format in [BlockFormat::F32, BlockFormat::F16, BlockFormat::BF16] {
        for k in [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 100, 385] {
            for n in [1, 8, 17] {
                let matrix = Matrix::random(format, n, k, &mut random);
                for m in [1, 2, 3, 4, 7, 13] {
                    check(&matrix, &random.activations(m * k), Precision::Exact);
                }
            }
        }
    }
}

/// Rows with one number each, in turn at every place of a vector, a whole step and a tail: times ones they are that number.
#[test]
fn every_half_comes_through() {
    const K: usize = 45;
    for format in [BlockFormat::F16, BlockFormat::BF16] {
        let mut data = vec![0u8; (1 << 16) * K * 2];
        for (bits, row) in (0..=u16::MAX).zip(data.chunks_exact_mut(2 * K)) {
            row.as_chunks_mut::<2>().0[usize::from(bits) % K] = bits.to_le_bytes();
        }
        let w = Weight {
            format,
            rows: 1 << 16,
            cols: K,
            data: &data,
        };
        for m in [1, 2, 3, 4] {
            for cpu in levels(2).iter() {
                let mut acts = Acts::default();
                cpu.pack(
                    &vec![1.0; m * K],
                    K,
                    Readers::weights(&[format], Precision::Fast),
                    &mut acts,
                );
                let mut y = vec![0.0; m << 16];
                cpu.matmul(w, &acts, Precision::Fast, &mut y);
                for (i, &y) in y.iter().enumerate() {
                    let bits = i as u16;
                    let expected = match format {
                        BlockFormat::F16 => half::f16::from_bits(bits).to_f32(),
                        _ => half::bf16::from_bits(bits).to_f32(),
                    };
                    let same = y == expected || y.is_nan() && expected.is_nan();
                    assert!(same, "{} {} m={m} {bits:#06x}: {y}", cpu.isa(), format.name());
                }
            }
        }
    }
}

/// The largest sums that codes and activations can make, in every combination of signs that could overflow a lane.
#[test]
fn extreme_codes_and_activations() {
    let mut random = Random::new(13);
    let signs: [fn(usize) -> f32; 5] = [
        |_| 1.0,
        |_| -1.0,
        |i| if i % 2 == 0 { 1.0 } else { -1.0 },
        |i| if i % 4 < 2 { 1.0 } else { -1.0 },
        |i| if i % 32 < 16 { 1.0 } else { -1.0 },
    ];
    for info in FORMATS.iter().filter(|f| partner(f.format) != Partner::F32) {
        for byte in [0x00, 0xff, 0x0f, 0xf0, 0x80, 0x7f, 0x77] {
            let mut matrix = Matrix::random(info.format, 17, 2 * info.block_len, &mut random);
            matrix.fill(byte);
            for sign in signs {
                for m in [1, 2, 5] {
                    let x: Vec<f32> = (0..m * matrix.cols).map(sign).collect();
                    check(&matrix, &x, Precision::Fast);
                }
            }
        }
    }
}

#[test]
fn broken_scales_and_activations_stay_in_their_outputs() {
    let mut random = Random::new(14);
    for info in FORMATS.iter().filter(|f| !scales_at(f.format).is_empty()) {
        for bits in [0x7c00u16, 0xfc00, 0x7e00, 0x0000, 0x8000, 0x0001] {
            for m in [1, 3, 6] {
                let mut matrix = Matrix::random(info.format, 18, 2 * info.block_len, &mut random);
                let row = matrix.bytes.len() / 18;
                let at = 1 + 3 * row + scales_at(info.format)[0];
                matrix.bytes[at..at + 2].copy_from_slice(&bits.to_le_bytes());
                let mut x = random.activations(m * matrix.cols);
                let broken_row = m - 1;
                x[broken_row * matrix.cols + 5] = if bits == 0x7c00 { f32::INFINITY } else { f32::NAN };
                for precision in [Precision::Fast, Precision::Exact] {
                    for cpu in levels(1).iter() {
                        let mut acts = Acts::default();
                        cpu.pack(&x, matrix.cols, Readers::weights(&[info.format], precision), &mut acts);
                        let mut y = vec![0.0; m * 18];
                        cpu.matmul(matrix.weight(), &acts, precision, &mut y);
                        for (i, v) in y.iter().enumerate() {
                            let finite = i / 18 != broken_row
                                && (i % 18 != 3 || f32::from(half::f16::from_bits(bits)).is_finite());
                            assert_eq!(
                                v.is_finite(),
                                finite,
                                "{} {} {bits:#x} m={m}: y[{i}] = {v}",
                                cpu.isa(),
                                info.name
                            );
                        }
                    }
                }
            }
        }
    }
}

/// How much the quantized activations cost. One rounding to 8 bits in blocks of 32 is an error of some 4e-3 of the block's
/// largest value, to 16 bits 256 times less; measured on such rows: 2e-3 to 3e-3 and 5e-5 of the norm.
#[test]
fn fast_is_near_exact() {
    let mut random = Random::new(15);
    for info in FORMATS {
        let bound = match partner(info.format) {
            Partner::F32 => 1e-6,
            Partner::I8 => 8e-3,
            Partner::I16 => 1e-4,
            Partner::Words => unreachable!("a format's partner in Fast"),
        };
        let matrix = Matrix::random(info.format, 64, 1024, &mut random);
        let x = random.activations(5 * 1024);
        let (expected, _) = reference(&matrix.values(), &x, 1024);
        let norm = expected.iter().map(|v| v * v).sum::<f64>().sqrt();
        for cpu in levels(1).iter() {
            let mut acts = Acts::default();
            cpu.pack(&x, 1024, Readers::weights(&[info.format], Precision::Fast), &mut acts);
            let mut y = vec![0.0; 5 * 64];
            cpu.matmul(matrix.weight(), &acts, Precision::Fast, &mut y);
            let error = y
                .iter()
                .zip(&expected)
                .map(|(y, e)| (f64::from(*y) - e).powi(2))
                .sum::<f64>()
                .sqrt()
                / norm;
            println!("{} {}: {error:.1e}", cpu.isa(), info.name);
            assert!(error < bound, "{} {}: {error:.2e}", cpu.isa(), info.name);
        }
    }
}

/// What words cost: weights to 1/2046 of the largest of a row's 256, activations to 1/16382. Of such blocks, whose scales are at random (those of
/// MXFP4 powers of two), most are far smaller than the largest: measured 4e-4 to 2.4e-3 of the norm.
#[test]
fn fine_is_nearer_to_exact() {
    let mut random = Random::new(19);
    for info in FORMATS.iter().filter(|info| partner(info.format) != Partner::F32) {
        let block = info.block_len;
        for (m, n, k) in [
            (16, 1, 8 * block),
            (21, 33, 3 * block),
            (50, 100, 2 * block),
            (17, 64, block),
        ] {
            let matrix = Matrix::random(info.format, n, k, &mut random);
            let x = random.activations(m * k);
            let (expected, _) = reference(&matrix.values(), &x, k);
            let norm = expected.iter().map(|v| v * v).sum::<f64>().sqrt();
            for cpu in levels(2).iter() {
                let mut acts = Acts::default();
                cpu.pack(&x, k, Readers::weights(&[info.format], Precision::Fine), &mut acts);
                let mut y = vec![f32::NAN; m * n];
                cpu.matmul(matrix.weight(), &acts, Precision::Fine, &mut y);
                let error = y.iter().zip(&expected).map(|(y, e)| (f64::from(*y) - e).powi(2));
                let error = error.sum::<f64>().sqrt() / norm;
                let what = format!("{} {} {m} {n} {k}", cpu.isa(), info.name);
                println!("{what}: {error:.1e}");
                assert!(error < 4e-3, "{what}: {error:.2e}");
            }
        }
    }
}

#[test]
fn in_words_a_row_that_is_no_number_is_alone_and_a_few_rows_are_exact() {
    let mut random = Random::new(20);
    let matrix = Matrix::random(BlockFormat::Q4_1, 40, 288, &mut random);
    for cpu in levels(2).iter() {
        let products = |m: usize, x: &[f32], precision| {
            let mut acts = Acts::default();
            cpu.pack(x, 288, Readers::weights(&[BlockFormat::Q4_1], precision), &mut acts);
            let mut y = vec![0.0; m * 40];
            cpu.matmul(matrix.weight(), &acts, precision, &mut y);
            y
        };
        for strange in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = random.activations(20 * 288);
            x[7 * 288 + 280] = strange;
            let y = products(20, &x, Precision::Fine);
            let odd: Vec<_> = (0..20)
                .filter(|t| y[t * 40..][..40].iter().any(|y| !y.is_finite()))
                .collect();
            assert_eq!(odd, [7], "{}", cpu.isa());
            assert!(y[7 * 40..][..40].iter().all(|y| y.is_nan()), "{}", cpu.isa());
        }
        let x = random.activations(15 * 288);
        assert_eq!(products(15, &x, Precision::Fine), products(15, &x, Precision::Exact));
    }
}

#[test]
fn packing_is_the_same_at_every_level() {
    let mut random = Random::new(16);
    for m in 1..10 {
        for k in [32, 96, 1024] {
            let mut x = random.activations(m * k);
            x[3] = 0.0;
            // One outlier, then two, then three, which stay in.
            x[4] = 1e3;
            x[k - 30..k - 28].fill(-2.0);
            if k > 64 {
                x[40..43].fill(500.0);
            }
            x[k - 32..k].fill(0.0);
            if m > 4 {
                x[k] = f32::NAN;
                x[2 * k..2 * k + 32].fill(1e-36);
                x[3 * k + 1] = f32::INFINITY;
                x[4 * k + 1] = f32::MAX;
            }
            let levels = levels(2);
            let packed = levels.iter().map(|cpu| {
                let mut acts = Acts::default();
                cpu.pack(
                    &x,
                    k,
                    Readers::weights(&[BlockFormat::Q8_0, BlockFormat::Q4_0], Precision::Fast),
                    &mut acts,
                );
                let outliers: Vec<_> = (0..m.div_ceil(acts.tile()))
                    .map(|t| acts.tile_outliers(t).to_vec())
                    .collect();
                (acts.i8.clone(), acts.i16.clone(), outliers)
            });
            let packed: Vec<_> = packed.collect();
            assert!(packed.windows(2).all(|p| p[0] == p[1]), "m={m} k={k}");
        }
    }
}

#[test]
fn low_rank_and_embed_match_f64() {
    let mut random = Random::new(17);
    for cpu in levels(2).iter() {
        for (rank, k, n) in [(1, 5, 9), (8, 64, 33), (16, 576, 192), (3, 100, 16), (40, 96, 130)] {
            for m in [1, 2, 4, 9, 30] {
                let (a, b) = (random.activations(rank * k), random.activations(n * rank));
                let (mid, out) = (random.activations(rank), random.activations(n));
                let (x, y) = (random.activations(m * k), random.activations(m * n));
                let (pa, pb) = (pack(rank, k, &a), pack(n, rank, &b));
                // What `Exact` has of the matrices; that it is near to them is a test of `panels`.
                let (a, b) = (pa.to_rows(), pb.to_rows());
                let (u, _) = reference(&a, &x, k);
                // Plain; with factors and a first row.
                for (factors, from) in [(false, 0), (true, m / 2)] {
                    let l = LowRank {
                        a: &pa,
                        b: &pb,
                        mid: factors.then_some(&mid[..]),
                        out: factors.then_some(&out[..]),
                        scale: 0.5,
                        from,
                    };
                    let mut expected: Vec<f64> = y.iter().map(|&v| f64::from(v)).collect();
                    let (mut size, mut most) = (vec![1.0f64; m * n], vec![1.0f64; m * n]);
                    for (i, e) in expected.iter_mut().enumerate().skip(from * n) {
                        let (t, j) = (i / n, i % n);
                        for r in 0..rank {
                            let products = (0..k).map(|i| f64::from((a[r * k + i] * x[t * k + i]).abs()));
                            let sum_abs: f64 = products.sum();
                            let factor = if factors {
                                f64::from(mid[r]) * f64::from(out[j])
                            } else {
                                1.0
                            };
                            let of_b = 0.5 * factor * f64::from(b[j * rank + r]);
                            *e += u[t * rank + r] * of_b;
                            size[i] += sum_abs * of_b.abs() * 2.0;
                            // In `Fast` an error may be as large as half a step of the largest of 32.
                            let at = |v: &[f32]| v.chunks(32).map(largest).map(f64::from).fold(0.0, f64::max);
                            let of_a =
                                at(&a[r * k..][..k]) * x[t * k..][..k].iter().map(|v| f64::from(v.abs())).sum::<f64>();
                            let mid = if factors { f64::from(largest(&mid)) } else { 1.0 };
                            let out = if factors { f64::from(out[j].abs()) } else { 1.0 };
                            most[i] += 0.5 * of_a * mid * out * at(&b[j * rank..][..rank]);
                        }
                    }
                    let mut found = y.clone();
                    cpu.low_rank(&l, Precision::Exact, &x, &mut found);
                    close(cpu.isa(), &found, &expected, |i| size[i], BOUND);
                    // Three roundings to 1/254 of the largest (A, x and products with A, B): far above what they come to together.
                    let mut found = y.clone();
                    cpu.low_rank(&l, Precision::Fast, &x, &mut found);
                    close(cpu.isa(), &found, &expected, |i| most[i] + size[i], 4.0 / 254.0);
                }
            }
        }
        let matrix = Matrix::random(BlockFormat::Q4_K, 5, 512, &mut random);
        let mut out = vec![0.0; 2 * 512];
        cpu.embed(matrix.weight(), &[4, 0], 3.0, &mut out);
        let values = matrix.values();
        assert!(
            out.iter()
                .enumerate()
                .all(|(i, v)| *v == 3.0 * values[[4, 0][i / 512] * 512 + i % 512])
        );
    }
}

fn pack(rows: usize, cols: usize, values: &[f32]) -> Panels {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Panels::new(rows, cols, BlockFormat::F32, &bytes)
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |m, v| m.max(v.abs()))
}

/// The integers are the same on all levels, so only sums of f32 may differ: each level against the plain loops.
#[test]
fn codes_meet_records_as_in_plain_loops() {
    let mut random = Random::new(23);
    for (rows, cols) in [(1, 1), (16, 7), (33, 32), (16, 576), (100, 40), (192, 16), (70, 64)] {
        let panels = pack(rows, cols, &random.activations(rows * cols));
        // Records of the columns and of others on both sides.
        let k = cols.next_multiple_of(32) + 64;
        for m in [1, 3, 4, 5, 13] {
            let mut x = random.activations(m * k);
            // Outliers inside and outside; nothing in the columns that fill up the last block.
            (0..m).for_each(|t| {
                x[t * k + 32 + t % cols] = 90.0;
                x[t * k + 3] = -70.0;
                x[t * k + 32 + cols..(t + 1) * k - 32].fill(0.0);
            });
            let (before, factors) = (random.activations(m * (rows + 3)), random.activations(rows));
            let levels = levels(1);
            let results = levels.iter().map(|cpu| {
                let mut acts = Acts::default();
                cpu.pack(&x, k, Readers::updates(Precision::Fast), &mut acts);
                let hows = [How::Set, How::Add, How::Scaled(&factors)];
                hows.map(|how| {
                    let mut y = before.clone();
                    let records = Records {
                        acts: &acts,
                        group: 1,
                        tiles: 0..m.div_ceil(acts.tile()),
                    };
                    let panels = panels.codes();
                    // SAFETY: the level is this CPU's; nobody else has y.
                    unsafe {
                        (cpu.isa.codes)(
                            panels,
                            0..rows.div_ceil(16),
                            records,
                            Out::new(&mut y, rows + 3),
                            2,
                            how,
                        )
                    };
                    y
                })
            });
            let results: Vec<_> = results.collect();
            let plain = results.last().unwrap();
            for (cpu, found) in levels.iter().zip(&results) {
                for (found, plain) in found.iter().zip(plain) {
                    let expected: Vec<f64> = plain.iter().map(|v| f64::from(*v)).collect();
                    let size = expected.iter().map(|v| v.abs()).fold(1.0, f64::max);
                    close(cpu.isa(), found, &expected, |_| size, BOUND);
                }
            }
        }
    }
}

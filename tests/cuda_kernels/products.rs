//! Packed activations, and products with them.

use crate::device::{Arg, Buf, Device};
use crate::matrix::{Matrix, each};
use crate::{Random, ints, scalar};
use graft::kernels::cpu::{Acts, Precision, Readers, Weight};
use graft::quant::BlockFormat;

/// Activations with rows and blocks of very different sizes, zeros and outliers.
fn activations(m: usize, k: usize, random: &mut Random) -> Vec<f32> {
    (0..m * k)
        .map(|i| {
            let size = 10f32.powi((i / 32 % 7) as i32 - 3);
            match random.next() % 50 {
                0 => 30.0 * size * random.float(),
                1 => 0.0,
                _ => size * random.float(),
            }
        })
        .collect()
}

/// Runs `pack_i`.
pub fn pack_i(device: &Device, x: &Buf, m: usize, k: usize) -> Buf {
    let acts = device.alloc(19 * m * k / 8);
    let mut args = vec![x.arg()];
    args.extend(ints(&[m, k]));
    args.push(acts.arg());
    device.launch("pack_i", [(m * k / 32).div_ceil(8), 1, 1], 256, &args);
    acts
}

/// What `pack_i` made: the values that it stands for, and the sums.
fn unpack_i(acts: &Buf, m: usize, k: usize) -> (Vec<f64>, Vec<f32>) {
    let bytes: Vec<u8> = acts.read();
    let (hi, rest) = bytes.split_at(m * k);
    let (lo, rest) = rest.split_at(m * k);
    let float = |b: &[u8]| f32::from_le_bytes(b.try_into().unwrap());
    let sums: Vec<f32> = rest[..m * k / 4].chunks(4).map(float).collect();
    let d: Vec<f32> = rest[m * k / 4..].chunks(4).map(float).collect();
    let value = |i: usize| {
        // Halves of blocks lie apart.
        let at = i % 32 / 16 * (m * k / 2) + i / 32 * 16 + i % 16;
        f64::from(d[i / 32]) * f64::from(256 * i32::from(hi[at] as i8) + i32::from(lo[at] as i8))
    };
    ((0..m * k).map(value).collect(), sums)
}

fn pack_h(device: &Device, x: &Buf, m: usize, k: usize) -> Buf {
    let acts = device.alloc(2 * m * k.next_multiple_of(64) + 4 * m);
    let mut args = vec![x.arg()];
    args.extend(ints(&[m, k]));
    args.push(acts.arg());
    device.launch("pack_h", [m, 1, 1], 256, &args);
    acts
}

fn unpack_h(acts: &Buf, m: usize, k: usize) -> (Vec<f64>, Vec<f32>) {
    let kp = k.next_multiple_of(64);
    let bytes: Vec<u8> = acts.read();
    let (h, scales) = bytes.split_at(2 * m * kp);
    let scales: Vec<f32> = scales
        .chunks(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let mut values = Vec::new();
    for (t, row) in h.chunks(2 * kp).enumerate() {
        let row: Vec<f32> = row
            .chunks(2)
            .map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect();
        assert!(row[k..].iter().all(|v| *v == 0.0), "columns behind the row");
        values.extend(row[..k].iter().map(|v| f64::from(*v) * f64::from(scales[t])));
    }
    (values, scales)
}

#[test]
fn integers_are_as_near_as_15_bits_can_be() {
    let device = Device::get();
    for (m, k) in [(1, 32), (3, 96), (2, 1024)] {
        let x = activations(m, k, &mut Random(2));
        let acts = pack_i(&device, &device.put(&x), m, k);
        let (values, sums) = unpack_i(&acts, m, k);
        for (b, x) in x.chunks(32).enumerate() {
            let largest = x.iter().fold(0f32, |a, v| a.max(v.abs()));
            for (i, v) in x.iter().enumerate() {
                let error = (values[b * 32 + i] - f64::from(*v)).abs();
                assert!(error <= f64::from(largest) / 32512.0 * 0.505, "{error:e} of {largest}");
            }
            for h in 0..2 {
                let want: f64 = values[b * 32 + 16 * h..][..16].iter().sum();
                assert!(
                    (f64::from(sums[2 * b + h]) - want).abs() <= 1e-6 * 16.0 * f64::from(largest),
                    "sum of block {b}"
                );
            }
        }
    }
    // What cannot be told in numbers is not a number; what is too small for them is zero.
    let mut x = vec![1.0f32; 128];
    x[3] = f32::NAN;
    x[40] = f32::NEG_INFINITY;
    x[64..96].fill(1e-38);
    let (values, _) = unpack_i(&pack_i(&device, &device.put(&x), 1, 128), 1, 128);
    assert!(values[..64].iter().all(|v| v.is_nan()));
    assert!(values[64..96].iter().all(|v| *v == 0.0));
    assert!(values[96..].iter().all(|v| (v - 1.0).abs() < 1e-6));
}

#[test]
fn halves_are_as_near_as_halves_can_be() {
    let device = Device::get();
    for (m, k) in [(1, 5), (3, 96), (2, 1001)] {
        for size in [1.0, 1e-30, 1e30, 1e-44] {
            let x: Vec<f32> = activations(m, k, &mut Random(3)).iter().map(|v| v * size).collect();
            let (values, scales) = unpack_h(&pack_h(&device, &device.put(&x), m, k), m, k);
            for (t, x) in x.chunks(k).enumerate() {
                assert_eq!(scales[t].to_bits() << 9, 0, "{} is no power of two", scales[t]);
                let largest = x.iter().fold(0f32, |a, v| a.max(v.abs()));
                for (v, x) in values[t * k..].iter().zip(x) {
                    // 11 bits, or 2^-24 of what 2^13 stands for.
                    let limit = f64::from(x.abs()) / 2048.0 + f64::from(largest) * 2f64.powi(-37);
                    assert!((v - f64::from(*x)).abs() <= limit.max(1e-45), "{v:e}, {x:e}");
                }
            }
        }
    }
    let (values, _) = unpack_h(
        &pack_h(&device, &device.put(&[1.0, f32::INFINITY, 2.0, 3.0]), 2, 2),
        2,
        2,
    );
    assert!(values[..2].iter().all(|v| v.is_nan()));
    assert_eq!(values[2..], [2.0, 3.0]);
}

/// y = x w^T of rows of f64, and how large its terms are.
fn product(w: &Matrix, x: &[f64], weight: impl Fn(f32) -> f32) -> (Vec<f32>, Vec<f32>) {
    let mut y = Vec::new();
    let mut sizes = Vec::new();
    for x in x.chunks(w.cols) {
        for row in 0..w.rows {
            let row = w.row(row);
            let largest = row.iter().fold(0f32, |a, v| a.max(v.abs()));
            y.push(row.iter().zip(x).map(|(w, x)| f64::from(weight(*w)) * x).sum::<f64>() as f32);
            sizes.push(x.iter().map(|x| x.abs()).sum::<f64>() as f32 * largest);
        }
    }
    (y, sizes)
}

/// Fails unless y is the product, but for the order of sums in f32.
fn assert_product(y: &[f32], want: &[f32], sizes: &[f32], at: &str) {
    for (i, ((y, want), size)) in y.iter().zip(want).zip(sizes).enumerate() {
        assert!(
            (y - want).abs() <= 4e-6 * size,
            "{at}, number {i}: {y:e}, expected {want:e}, terms {size:e}"
        );
    }
}

/// Rows of a block of threads of `matvec`.
fn matvec_rows(k: usize) -> usize {
    8 * 32
        / if k >= 768 {
            32
        } else if k >= 384 {
            16
        } else {
            8
        }
}

/// Runs a matvec of up to three matrices.
#[allow(clippy::too_many_arguments)] // those of the kernel
fn matvec(
    device: &Device,
    name: &str,
    to: &[(&Buf, &Buf, usize)],
    k: usize,
    m: usize,
    acts: &Buf,
    scale: f32,
    add: i32,
) {
    let mut args = Vec::new();
    let mut blocks = 0;
    for i in 0..3 {
        match to.get(i) {
            Some((w, y, n)) => args.extend([w.arg(), y.arg(), Arg::Int(*n as i32)]),
            None => args.extend([Arg::Ptr(0), Arg::Ptr(0), Arg::Int(0)]),
        }
        blocks += to.get(i).map_or(0, |(.., n)| n.div_ceil(matvec_rows(k)));
    }
    args.extend(ints(&[k, m]));
    args.extend([acts.arg(), Arg::Float(scale), Arg::Int(add)]);
    device.launch(name, [blocks, 1, 1], 128, &args);
}

#[test]
fn matvecs_are_products() {
    let device = Device::get();
    each(&mut Random(4), |w, random| {
        let (n, k) = (w.rows, w.cols);
        let weights = w.upload(&device);
        let packed = w.format.info().block_len > 1;
        let all: &[(usize, &[usize])] = if packed {
            &[(1, &[1]), (2, &[1]), (4, &[4]), (8, &[5])]
        } else {
            &[]
        };
        for &(most, ms) in all {
            for &m in ms {
                let x = device.put(&activations(m, k, random));
                let acts = pack_i(&device, &x, m, k);
                let (want, sizes) = product(&w, &unpack_i(&acts, m, k).0, |w| w);
                let y = device.alloc(4 * m * n);
                let name = format!("matvec_i_{}_{most}", w.name());
                matvec(&device, &name, &[(&weights, &y, n)], k, m, &acts, 1.0, 0);
                assert_product(&y.read(), &want, &sizes, &format!("{name} {n}x{k}, {m} tokens"));
            }
        }
        for m in [1, 3] {
            let x = activations(m, k, random);
            let exact: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
            let (want, sizes) = product(&w, &exact, |w| w);
            let y = device.alloc(4 * m * n);
            let name = format!("matvec_f_{}", w.name());
            matvec(&device, &name, &[(&weights, &y, n)], k, m, &device.put(&x), 1.0, 0);
            assert_product(&y.read(), &want, &sizes, &format!("{name} {n}x{k}, {m} tokens"));
        }
    });
}

#[test]
fn three_matrices_are_one_launch_and_add_where_they_should() {
    let device = Device::get();
    let random = &mut Random(5);
    for (name, k) in [
        ("matvec_i_q4_k_2", 512),
        ("matvec_f_q4_k", 256),
        ("matvec_i_q4_k_4", 1024),
    ] {
        let m = 2;
        let x = activations(m, k, random);
        let x_on = device.put(&x);
        let integers = name.starts_with("matvec_i");
        let acts = if integers {
            pack_i(&device, &x_on, m, k)
        } else {
            device.put(&x)
        };
        let exact = if integers {
            unpack_i(&acts, m, k).0
        } else {
            x.iter().map(|v| f64::from(*v)).collect()
        };
        let ws: Vec<Matrix> = [40, 1, 19]
            .map(|n| Matrix::random(BlockFormat::Q4_K, n, k, random))
            .into();
        let on: Vec<Buf> = ws.iter().map(|w| w.upload(&device)).collect();
        let before: Vec<Vec<f32>> = ws.iter().map(|w| random.floats(m * w.rows)).collect();
        let ys: Vec<Buf> = before.iter().map(|y| device.put(y)).collect();
        let to: Vec<(&Buf, &Buf, usize)> = (0..3).map(|i| (&on[i], &ys[i], ws[i].rows)).collect();
        matvec(&device, name, &to, k, m, &acts, 0.5, 1);
        for i in 0..3 {
            let (product, sizes) = product(&ws[i], &exact, |w| w);
            let want: Vec<f32> = product.iter().zip(&before[i]).map(|(p, b)| b + 0.5 * p).collect();
            let sizes: Vec<f32> = sizes.iter().map(|s| s + 1.0).collect();
            assert_product(&ys[i].read(), &want, &sizes, &format!("{name}, matrix {i}"));
        }
    }
}

/// Runs a matmul.
#[allow(clippy::too_many_arguments)] // those of the kernel
fn matmul(device: &Device, name: &str, w: &Buf, y: &Buf, [n, k, m]: [usize; 3], acts: &Buf, scale: f32, add: i32) {
    let (grid, threads) = match name.split('_').nth(1) {
        Some("f") => ([n.div_ceil(64), m.div_ceil(64), 1], 256),
        Some("few") => ([n.div_ceil(32), 1, 1], 128),
        _ => ([n.div_ceil(128), m.div_ceil(64), 1], 128),
    };
    let mut args = vec![w.arg(), y.arg()];
    args.extend(ints(&[n, k, m]));
    args.extend([acts.arg(), Arg::Float(scale), Arg::Int(add)]);
    device.launch(name, grid, threads, &args);
}

#[test]
fn matmuls_are_products() {
    let device = Device::get();
    each(&mut Random(6), |w, random| {
        let (n, k) = (w.rows, w.cols);
        let weights = w.upload(&device);
        // A second tile of tokens where there is little else to compute.
        let ms: &[usize] = if n == 70 { &[16, 65] } else { &[7] };
        for &m in ms {
            let x = activations(m, k, random);
            let x_on = device.put(&x);
            let exact: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
            let before = random.floats(m * n);
            let y = device.put(&before);
            let name = format!("matmul_f_{}", w.name());
            let (want, sizes) = product(&w, &exact, |w| w);
            let scaled: Vec<f32> = want.iter().zip(&before).map(|(p, b)| b - 2.0 * p).collect();
            matmul(&device, &name, &weights, &y, [n, k, m], &x_on, -2.0, 1);
            let twice: Vec<f32> = sizes.iter().map(|s| 2.0 * s + 1.0).collect();
            assert_product(&y.read(), &scaled, &twice, &format!("{name} {n}x{k}, {m} tokens"));

            for name in ["h", "few"].map(|kind| format!("matmul_{kind}_{}", w.name())) {
                if !device.has(&name) || m > 16 && name.contains("few") {
                    continue;
                }
                let acts = pack_h(&device, &x_on, m, k);
                let (want, sizes) = product(&w, &unpack_h(&acts, m, k).0, |w| half::f16::from_f32(w).to_f32());
                let y = device.alloc(4 * m * n);
                matmul(&device, &name, &weights, &y, [n, k, m], &acts, 1.0, 0);
                assert_product(&y.read(), &want, &sizes, &format!("{name} {n}x{k}, {m} tokens"));
            }

            // Sums of integers are exact, so that what is left is the order of those in f32.
            let name = format!("matmul_i_{}", w.name());
            if device.has(&name) {
                let acts = pack_i(&device, &x_on, m, k);
                let (want, sizes) = product(&w, &unpack_i(&acts, m, k).0, |w| w);
                let scaled: Vec<f32> = want.iter().zip(&before).map(|(p, b)| b - 2.0 * p).collect();
                let twice: Vec<f32> = sizes.iter().map(|s| 2.0 * s + 1.0).collect();
                let y = device.put(&before);
                matmul(&device, &name, &weights, &y, [n, k, m], &acts, -2.0, 1);
                assert_product(&y.read(), &scaled, &twice, &format!("{name} {n}x{k}, {m} tokens"));
            }
        }
    });
    assert!(
        ["matmul_h_q4_k", "matmul_h_f16", "matmul_few_q4_k"]
            .iter()
            .all(|name| device.has(name))
    );
    assert_eq!(device.has("matmul_i_q4_k"), device.multiplies_ints());
}

/// A NaN in a row of activations is seen in its outputs, and in no other row's.
#[test]
fn what_is_not_a_number_stays_seen() {
    let device = Device::get();
    let random = &mut Random(7);
    let w = Matrix::random(BlockFormat::Q8_0, 20, 64, random);
    let weights = w.upload(&device);
    let mut x = random.floats(2 * 64);
    x[70] = f32::NAN;
    let x = device.put(&x);
    let y = device.alloc(4 * 2 * 20);
    let check = |y: Vec<f32>, name: &str| {
        assert!(
            y[..20].iter().all(|v| v.is_finite()) && y[20..].iter().all(|v| v.is_nan()),
            "{name}"
        );
    };
    matvec(
        &device,
        "matvec_i_q8_0_2",
        &[(&weights, &y, 20)],
        64,
        2,
        &pack_i(&device, &x, 2, 64),
        1.0,
        0,
    );
    check(y.read(), "matvec_i");
    matmul(
        &device,
        "matmul_h_q8_0",
        &weights,
        &y,
        [20, 64, 2],
        &pack_h(&device, &x, 2, 64),
        1.0,
        0,
    );
    check(y.read(), "matmul_h");
    matmul(
        &device,
        "matmul_few_q8_0",
        &weights,
        &y,
        [20, 64, 2],
        &pack_h(&device, &x, 2, 64),
        1.0,
        0,
    );
    check(y.read(), "matmul_few");
    if device.multiplies_ints() {
        let acts = pack_i(&device, &x, 2, 64);
        matmul(&device, "matmul_i_q8_0", &weights, &y, [20, 64, 2], &acts, 1.0, 0);
        check(y.read(), "matmul_i");
    }
    matmul(&device, "matmul_f_q8_0", &weights, &y, [20, 64, 2], &x, 1.0, 0);
    check(y.read(), "matmul_f");
}

/// The root mean square of y - want, relative to that of `want`.
fn loss(y: &[f32], want: &[f32]) -> f64 {
    let square = |v: f64| v * v;
    let errors: f64 = y
        .iter()
        .zip(want)
        .map(|(y, w)| square(f64::from(*y) - f64::from(*w)))
        .sum();
    (errors / want.iter().map(|w| square(f64::from(*w))).sum::<f64>()).sqrt()
}

/// What rounding costs a prompt's products, beside sums in f64: integers lose less than halves, which round weights too, and no more than the
/// CPU, also where a few columns are far larger than all others, as in models.
#[test]
fn integers_lose_no_more_than_halves_and_the_cpu() {
    let device = Device::get();
    if !device.multiplies_ints() {
        return;
    }
    let random = &mut Random(8);
    // Two tiles of rows.
    let (m, n, k) = (20, 150, 512);
    for format in [BlockFormat::Q4_K, BlockFormat::Q5_0, BlockFormat::Q8_0] {
        let w = Matrix::random(format, n, k, random);
        let weights = w.upload(&device);
        for outliers in [1.0, 50.0] {
            // Nearly normal.
            let mut x: Vec<f32> = (0..m * k).map(|_| (0..6).map(|_| random.float()).sum()).collect();
            x.iter_mut().skip(77).step_by(256).for_each(|v| *v *= outliers);
            let exact: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
            let (want, _) = product(&w, &exact, |w| w);
            let x_on = device.put(&x);
            let of = |name: String, acts: Buf| {
                let y = device.alloc(4 * m * n);
                matmul(&device, &name, &weights, &y, [n, k, m], &acts, 1.0, 0);
                loss(&y.read(), &want)
            };
            let ints = of(format!("matmul_i_{}", w.name()), pack_i(&device, &x_on, m, k));
            let halves = of(format!("matmul_h_{}", w.name()), pack_h(&device, &x_on, m, k));
            let (mut acts, mut y) = (Acts::default(), vec![0.0; m * n]);
            let weight = Weight {
                format,
                rows: n,
                cols: k,
                data: &w.bytes,
            };
            scalar().pack(&x, k, Readers::weights(&[format], Precision::Fast), &mut acts);
            scalar().matmul(weight, &acts, Precision::Fast, &mut y);
            let cpu = loss(&y, &want);
            let at = format!(
                "{}, outliers {outliers}: {ints:.1e}, halves {halves:.1e}, CPU {cpu:.1e}",
                w.name()
            );
            // The CPU rounds some formats' activations to as many bits in the same blocks.
            assert!(3.0 * ints < halves && ints < 1.2 * cpu, "{at}");
        }
    }
}

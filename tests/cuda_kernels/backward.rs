//! The way back, against the scalar one.

use graft::kernels::cpu::{Act, RopeTable, Strided};
use graft::quant::BlockFormat;

use crate::device::{Arg, Buf, Device};
use crate::matrix::{Matrix, each};
use crate::{Random, assert_near, grid, ints, scalar};

/// The largest magnitude, at least 1: what errors are relative to.
pub fn size(values: &[f32]) -> f32 {
    values.iter().fold(1f32, |a, v| a.max(v.abs()))
}

#[test]
fn products_of_what_lies_as_it_does() {
    let (device, cpu, random) = (Device::get(), scalar(), &mut Random(41));
    for (rows, depth, n) in [
        (1, 1, 1),
        (70, 100, 65),
        (3, 300, 200),
        (130, 33, 7),
        (16, 65, 129),
        (200, 40, 16),
    ] {
        for (turned, add, parts) in [
            (false, false, 1),
            (true, false, 1),
            (false, true, 3),
            (true, true, 2),
            (true, false, 5),
        ] {
            let (x, w) = (random.floats(rows * depth), random.floats(depth * n));
            let before = random.floats(rows * n);
            let mut want = before.clone();
            let strided = match turned {
                true => Strided::turned(&x, rows),
                false => Strided::rows(&x, depth),
            };
            cpu.multiply(strided, depth, &w, n, &mut want, add);
            let (x_on, w_on) = (device.put(&x), device.put(&w));
            for (tile_rows, tile_columns) in [(64, 64), (128, 16), (16, 128)] {
                let y = device.put(&before);
                let part = device.alloc(4 * parts * rows * n);
                let (to, here) = if parts > 1 { (&part, false) } else { (&y, add) };
                let mut args = vec![x_on.arg(), Arg::Int(i32::from(turned)), w_on.arg(), to.arg()];
                args.extend(ints(&[rows, depth, n, usize::from(here)]));
                let shape = [n.div_ceil(tile_columns), rows.div_ceil(tile_rows), parts];
                let name = format!("multiply_{tile_rows}_{tile_columns}");
                device.launch(&name, shape, tile_rows * tile_columns / 16, &args);
                if parts > 1 {
                    let len = rows * n;
                    let args = [
                        part.arg(),
                        Arg::Int(parts as i32),
                        Arg::Long(len as i64),
                        y.arg(),
                        Arg::Int(i32::from(add)),
                    ];
                    device.launch("sum_parts", grid(len), 256, &args);
                }
                let at = format!("{name}, {rows}x{depth}x{n}, turned {turned}, add {add}, {parts} parts");
                assert_near(&y.read(), &want, 2e-6 * (depth as f32).sqrt() * 2.0, &at);
            }
        }
    }
}

#[test]
fn matrices_are_turned_and_cut() {
    let (device, random) = (Device::get(), &mut Random(42));
    for (rows, cols) in [(1, 5), (33, 64), (40, 31), (100, 3)] {
        let x = random.floats(rows * cols);
        let (x_on, out) = (device.put(&x), device.alloc(4 * rows * cols));
        let args = [&[x_on.arg()], &ints(&[rows, cols])[..], &[out.arg()]].concat();
        device.launch("turn", [cols.div_ceil(32), rows.div_ceil(32), 1], 256, &args);
        let want: Vec<f32> = (0..rows * cols).map(|i| x[i % rows * cols + i / rows]).collect();
        assert_eq!(out.read::<f32>(), want, "turn {rows}x{cols}");
        let (first, count) = (cols / 3, cols - cols / 3 - cols / 5);
        let out = device.alloc(4 * rows * count);
        let args = [
            &[x_on.arg()],
            &ints(&[cols, first, count])[..],
            &[Arg::Long((rows * count) as i64), out.arg()],
        ]
        .concat();
        device.launch("columns", grid(rows * count), 256, &args);
        let want: Vec<f32> = x
            .chunks(cols)
            .flat_map(|row| row[first..first + count].to_vec())
            .collect();
        assert_eq!(out.read::<f32>(), want, "columns of {rows}x{cols}");
    }
    let halves: Vec<u16> = (0..300)
        .map(|i| half::f16::from_f32(i as f32 * 0.37 - 50.0).to_bits())
        .collect();
    let (x, out) = (device.put(&halves), device.alloc(4 * halves.len()));
    let args = [x.arg(), out.arg(), Arg::Long(halves.len() as i64)];
    device.launch("floats_of_halves", grid(halves.len()), 256, &args);
    let want: Vec<f32> = halves.iter().map(|v| half::f16::from_bits(*v).to_f32()).collect();
    assert_eq!(out.read::<f32>(), want);
}

/// Rows of halves with `columns` rounded up to 64.
fn halves(bytes: &[u8], columns: usize) -> Vec<f32> {
    let all: Vec<f32> = bytes
        .chunks(2)
        .map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32())
        .collect();
    let rows = all.chunks(columns.next_multiple_of(64));
    rows.flat_map(|row| {
        assert!(row[columns..].iter().all(|v| *v == 0.0), "columns behind the row");
        row[..columns].to_vec()
    })
    .collect()
}

/// Weights come out as halves, and gradients go through them: what was rounded to halves the oracle takes from there.
#[test]
fn gradients_through_weights_of_every_format() {
    let (device, cpu) = (Device::get(), scalar());
    let mut formats = 0;
    each(&mut Random(43), |w, random| {
        if matches!(w.format, BlockFormat::F32 | BlockFormat::BF16) {
            return;
        }
        formats += 1;
        let (n, k) = (w.rows, w.cols);
        let kp = k.next_multiple_of(64);
        let weights = w.upload(&device);
        for (m, first) in [(1, 0), (70, 0), (9, n / 128 * 64)] {
            let at = format!("{} {n}x{k}, {m} tokens, from {first}", w.name());
            let dy: Vec<f32> = random
                .floats(m * n)
                .iter()
                .enumerate()
                .map(|(i, v)| v * 10f32.powi(i as i32 / n as i32 % 5 - 4))
                .collect();
            let before = random.floats(m * k);
            let (dy, y) = (device.put(&dy), device.put(&before));
            let acts = device.alloc(2 * m * n.next_multiple_of(64) + 4 * m);
            let args = [&[dy.arg()], &ints(&[m, n])[..], &[acts.arg()]].concat();
            device.launch("pack_h", [m, 1, 1], 256, &args);
            let bytes: Vec<u8> = acts.read();
            let (codes, scales) = bytes.split_at(2 * m * n.next_multiple_of(64));
            let mut packed = halves(codes, n);
            for (row, s) in packed.chunks_mut(n).zip(scales.chunks(4)) {
                let s = f32::from_le_bytes(s.try_into().unwrap());
                row.iter_mut().for_each(|v| *v *= s);
            }
            // In two steps where there are two: rows up to `first`, then the others.
            let mut unpacked = Vec::new();
            for (from, count) in [(0, first), (first, n - first)] {
                if count == 0 {
                    continue;
                }
                let out = device.alloc(2 * count * kp);
                let args = [&[weights.arg()], &ints(&[n, k, from, count])[..], &[out.arg()]].concat();
                device.launch(&format!("unpack_h_{}", w.name()), grid(count * kp / 32), 256, &args);
                unpacked.extend(halves(&out.read::<u8>(), k));
                let args = [
                    &[out.arg(), y.arg()],
                    &ints(&[k, n, from, count, m])[..],
                    &[acts.arg(), Arg::Int(1)],
                ]
                .concat();
                device.launch("multiply_h", [k.div_ceil(128), m.div_ceil(64), 1], 128, &args);
            }
            for (i, (h, v)) in unpacked.iter().zip(&w.values).enumerate() {
                assert_eq!(*h, half::f16::from_f32(*v).to_f32(), "{at}, weight {i}");
            }
            let mut want = before;
            cpu.multiply(Strided::rows(&packed, n), n, &unpacked, k, &mut want, true);
            assert_near(&y.read(), &want, 3e-6 * size(&want), &at);
        }
    });
    assert!(formats >= 14 * 4, "{formats}");
    // Written, not added.
    let w = Matrix::random(BlockFormat::Q8_0, 64, 64, &mut Random(44));
    let out = device.alloc(2 * 64 * 64);
    let weights = w.upload(&device);
    let args = [&[weights.arg()], &ints(&[64, 64, 0, 64])[..], &[out.arg()]].concat();
    device.launch("unpack_h_q8_0", grid(128), 256, &args);
    let dy = device.put(&[f32::NAN; 64]);
    let acts = device.alloc(128 + 4);
    device.launch(
        "pack_h",
        [1, 1, 1],
        256,
        &[&[dy.arg()], &ints(&[1, 64])[..], &[acts.arg()]].concat(),
    );
    let y = device.put(&[1f32; 64]);
    let args = [
        &[out.arg(), y.arg()],
        &ints(&[64, 64, 0, 64, 1])[..],
        &[acts.arg(), Arg::Int(0)],
    ]
    .concat();
    device.launch("multiply_h", [1, 1, 1], 128, &args);
    assert!(
        y.read::<f32>().iter().all(|v| v.is_nan()),
        "a gradient that is no number stays one"
    );
}

#[test]
fn norms_back() {
    let (device, cpu, random) = (Device::get(), scalar(), &mut Random(45));
    for (rows, n, threads) in [(1, 576, 256), (40, 64, 32), (5, 1001, 1024), (2, 7, 64)] {
        let [x, dy, before] = [0; 3].map(|_| random.floats(rows * n));
        let (w, dw) = (random.floats(n), random.floats(n));
        let (mut want, mut want_w) = (before.clone(), dw.clone());
        cpu.rms_norm_back(&x, &w, 1e-5, &dy, &mut want, Some(&mut want_w));
        let [x, dy] = [&x, &dy].map(|v| device.put(v));
        let (w, dw, factors) = (device.put(&w), device.put(&dw), device.alloc(4 * rows));
        for there in [false, true] {
            let dx = device.put(&before);
            let factors_at = if there { factors.arg() } else { Arg::Ptr(0) };
            let args = [
                x.arg(),
                w.arg(),
                Arg::Float(1e-5),
                dy.arg(),
                dx.arg(),
                Arg::Int(n as i32),
                factors_at,
            ];
            device.launch("rms_norm_back", [rows, 1, 1], threads, &args);
            assert_near(&dx.read(), &want, 4e-6 * size(&want), &format!("{rows}x{n}"));
        }
        let args = [&[x.arg(), dy.arg(), factors.arg()], &ints(&[rows, n])[..], &[dw.arg()]].concat();
        device.launch("column_sums", [n.div_ceil(32), 1, 1], 256, &args);
        assert_near(
            &dw.read(),
            &want_w,
            4e-6 * size(&want_w),
            &format!("weights {rows}x{n}"),
        );
    }
}

#[test]
fn columns_are_summed() {
    let (device, cpu, random) = (Device::get(), scalar(), &mut Random(46));
    for (m, n) in [(1, 1), (7, 33), (20, 64), (100, 5)] {
        let (x, y, before) = (random.floats(m * n), random.floats(m * n), random.floats(n));
        let (mut plain, mut products) = (before.clone(), before.clone());
        cpu.sum_rows(&x, &mut plain);
        cpu.affine_back(&x, &y, &mut products);
        let (x_on, y_on) = (device.put(&x), device.put(&y));
        for (second, want) in [(Arg::Ptr(0), plain), (y_on.arg(), products)] {
            let out = device.put(&before);
            let args = [&[x_on.arg(), second, Arg::Ptr(0)], &ints(&[m, n])[..], &[out.arg()]].concat();
            device.launch("column_sums", [n.div_ceil(32), 1, 1], 256, &args);
            assert_near(&out.read(), &want, 1e-5, &format!("{m}x{n}"));
        }
        let d = random.floats(m);
        let want: Vec<f32> = (0..m)
            .map(|r| d[r] + (0..n).map(|c| x[r * n + c] * y[r * n + c]).sum::<f32>())
            .collect();
        let d = device.put(&d);
        let args = [&[x_on.arg(), y_on.arg()], &ints(&[n, m])[..], &[d.arg()]].concat();
        device.launch("row_dots", [m.div_ceil(8), 1, 1], 256, &args);
        assert_near(&d.read(), &want, 1e-5, "row_dots");
    }
}

/// A rotation and the one back are none, times what multiplies both sine and cosine, squared.
#[test]
fn rotations_back() {
    let (device, cpu, random) = (Device::get(), scalar(), &mut Random(47));
    for (m, heads, dim, half, interleaved) in [(1, 9, 64, 32, true), (5, 2, 16, 4, false), (3, 3, 256, 128, false)] {
        let angles: Vec<f32> = random.floats(m * half).iter().map(|v| 20.0 * v).collect();
        let table = RopeTable {
            dims: 2 * half,
            interleaved,
            cos: angles.iter().map(|a| 1.5 * a.cos()).collect(),
            sin: angles.iter().map(|a| 1.5 * a.sin()).collect(),
        };
        let back = RopeTable {
            dims: table.dims,
            interleaved,
            cos: table.cos.clone(),
            sin: table.sin.iter().map(|s| -s).collect(),
        };
        let dy = random.floats(m * heads * dim);
        let mut want = dy.clone();
        cpu.rope(&mut want, heads, dim, &back);
        let (dy, cos, sin) = (device.put(&dy), device.put(&table.cos), device.put(&table.sin));
        let args = [
            &[dy.arg()],
            &ints(&[m, heads, dim, half, usize::from(interleaved)])[..],
            &[cos.arg(), sin.arg()],
        ]
        .concat();
        device.launch("rope_back", grid(m * heads * half), 256, &args);
        assert_near(&dy.read(), &want, 1e-6, "rope_back");
    }
}

#[test]
fn gates_back() {
    let (device, cpu, random) = (Device::get(), scalar(), &mut Random(48));
    for len in [1, 255, 1000] {
        let mut gate: Vec<f32> = random.floats(len).iter().map(|v| 6.0 * v).collect();
        gate[0] = -100.0;
        let (up, dh) = (random.floats(len), random.floats(len));
        let on = [&gate, &up, &dh].map(|v| device.put(v));
        for (act, name) in [(Act::Silu, "gated_back_silu"), (Act::GeluTanh, "gated_back_gelu")] {
            let (mut want_gate, mut want_up) = (vec![0.0; len], vec![0.0; len]);
            cpu.gated_back(act, &gate, &up, &dh, &mut want_gate, &mut want_up);
            let (d_gate, d_up) = (device.alloc(4 * len), device.alloc(4 * len));
            let mut args: Vec<Arg> = on.iter().map(Buf::arg).collect();
            args.extend([d_gate.arg(), d_up.arg(), Arg::Long(len as i64)]);
            device.launch(name, grid(len), 256, &args);
            assert_near(&d_gate.read(), &want_gate, 2e-6, name);
            assert_near(&d_up.read(), &want_up, 2e-6, name);
        }
    }
}

#[test]
fn losses() {
    let (device, cpu, random) = (Device::get(), scalar(), &mut Random(49));
    for (rows, vocab, cap) in [
        (1, 5, None),
        (3, 1000, None),
        (4, 513, Some(3.0)),
        (2, 4099, Some(30.0)),
    ] {
        let spread = cap.unwrap_or(10.0) * 0.9;
        let logits: Vec<f32> = random.floats(rows * vocab).iter().map(|v| spread * v).collect();
        let targets: Vec<u32> = (0..rows).map(|_| (random.next() % vocab as u64) as u32).collect();
        let (mut want, mut want_losses) = (logits.clone(), vec![0.0; rows]);
        cpu.cross_entropy(&mut want, &targets, cap, 0.25, &mut want_losses);
        let (logits, targets, losses) = (device.put(&logits), device.put(&targets), device.alloc(4 * rows));
        let args = [
            logits.arg(),
            targets.arg(),
            Arg::Int(vocab as i32),
            Arg::Float(cap.unwrap_or(0.0)),
            Arg::Float(0.25),
            losses.arg(),
        ];
        device.launch("cross_entropy", [rows, 1, 1], 512, &args);
        assert_near(&logits.read(), &want, 1e-6, "gradients");
        assert_near(&losses.read(), &want_losses, 2e-5, "losses");
    }
    // A NaN is seen.
    let (logits, targets, losses) = (device.put(&[1.0, f32::NAN, 0.0]), device.put(&[0i32]), device.alloc(4));
    let rest = [Arg::Int(3), Arg::Float(0.0), Arg::Float(1.0), losses.arg()];
    device.launch(
        "cross_entropy",
        [1, 1, 1],
        512,
        &[&[logits.arg(), targets.arg()], &rest[..]].concat(),
    );
    assert!(losses.read::<f32>()[0].is_nan());
}

#[test]
fn rows_and_columns_move() {
    let (device, random) = (Device::get(), &mut Random(50));
    for (width, from, to) in [(5, 4, 3), (300, 9, 4), (257, 1, 1)] {
        let (x, y) = (random.floats(from * width), random.floats(to * width));
        // Several rows to one, in their order; row 0 of y stays where there are others.
        let mut pairs: Vec<(usize, usize)> = (0..from)
            .map(|f| (f, if to > 1 { 1 + f % (to - 1) } else { 0 }))
            .collect();
        let mut want = y.clone();
        for (f, t) in &pairs {
            for c in 0..width {
                want[t * width + c] += x[f * width + c];
            }
        }
        pairs.sort_by_key(|p| p.1);
        let mut groups: Vec<i32> = Vec::new();
        let mut at = 0;
        for same in pairs.chunk_by(|a, b| a.1 == b.1) {
            groups.extend([same[0].1 as i32, at, at + same.len() as i32]);
            at += same.len() as i32;
        }
        let rows: Vec<i32> = pairs.iter().map(|p| p.0 as i32).collect();
        let count = groups.len() / 3;
        let (x_on, y_on, groups, rows) = (device.put(&x), device.put(&y), device.put(&groups), device.put(&rows));
        let args = [x_on.arg(), Arg::Int(width as i32), groups.arg(), rows.arg(), y_on.arg()];
        device.launch("scatter_rows", [count, width.div_ceil(256), 1], 256, &args);
        assert_eq!(y_on.read::<f32>(), want, "scatter_rows of {width}");

        let of: Vec<i32> = (0..width as i32).rev().step_by(3).collect();
        let (y_on, of_on) = (device.put(&y), device.put(&of));
        let out = device.alloc(4 * to * of.len());
        let args = [
            &[y_on.arg(), Arg::Int(width as i32), of_on.arg()],
            &ints(&[to, of.len()])[..],
            &[out.arg()],
        ]
        .concat();
        device.launch("take_columns", grid(to * of.len()), 256, &args);
        let want: Vec<f32> = y
            .chunks(width)
            .flat_map(|row| of.iter().map(|i| row[*i as usize]).collect::<Vec<_>>())
            .collect();
        assert_eq!(out.read::<f32>(), want, "take_columns of {width}");
        let left: Vec<f32> = y_on.read();
        for (i, v) in left.iter().enumerate() {
            let taken = of.contains(&((i % width) as i32));
            assert_eq!(*v, if taken { 0.0 } else { y[i] });
        }
    }
}

#[test]
fn gradients_of_blocks_and_kronecker_factors() {
    let (device, cpu, random) = (Device::get(), scalar(), &mut Random(51));
    for (m, n, side) in [(1, 6, 2), (3, 64, 8), (5, 105, 7)] {
        let [x, dy] = [0; 2].map(|_| random.floats(m * n));
        let (matrices, before) = (random.floats(n * side), random.floats(n * side));
        let mut order: Vec<u32> = (0..n as u32).collect();
        for i in (1..n).rev() {
            order.swap(i, (random.next() % (i as u64 + 1)) as usize);
        }
        let order_on = device.put(&order);
        for ordered in [false, true] {
            let (mut dx, mut want) = (dy.clone(), before.clone());
            cpu.blocks_back(&x, side, &matrices, ordered.then_some(&order[..]), &mut dx, &mut want);
            let [x, dy, d] = [&x, &dy, &before].map(|v| device.put(v));
            let at = if ordered { order_on.arg() } else { Arg::Ptr(0) };
            let args = [&[x.arg(), dy.arg()], &ints(&[m, n, side])[..], &[at, d.arg()]].concat();
            device.launch("blocks_back", grid(n * side), 256, &args);
            assert_near(&d.read(), &want, 2e-6, "blocks_back");
        }
    }
    for (m, o1, i1, o2, i2) in [(1, 2, 3, 4, 5), (3, 8, 4, 16, 32), (7, 5, 1, 1, 9)] {
        let (w1, w2) = (random.floats(o1 * i1), random.floats(o2 * i2));
        let (x, dy) = (random.floats(m * i1 * i2), random.floats(m * o1 * o2));
        let before = random.floats(o1 * i1);
        let (mut dx, mut d_w2, mut want) = (vec![0.0; x.len()], vec![0.0; w2.len()], before.clone());
        cpu.kron_back((&w1, i1), (&w2, i2), 0.5, &x, &dy, &mut dx, &mut want, &mut d_w2);
        let turned: Vec<f32> = (0..w2.len()).map(|p| w2[p % o2 * i2 + p / o2]).collect();
        let mut z = vec![0.0; m * i1 * o2];
        cpu.multiply(Strided::rows(&x, i2), i2, &turned, o2, &mut z, false);
        let [dy, z, d] = [&dy, &z, &before].map(|v| device.put(v));
        let args = [
            &[dy.arg(), z.arg()],
            &ints(&[m, o1, i1, o2])[..],
            &[Arg::Float(0.5), d.arg()],
        ]
        .concat();
        device.launch("kron_back", [i1, o1, 1], 256, &args);
        assert_near(&d.read(), &want, 1e-5, "kron_back");
    }
}

#[test]
fn numbers_become_halves_of_one_scale() {
    let (device, random) = (Device::get(), &mut Random(53));
    for (len, size) in [(1, 1.0), (3000, 1e-20), (70_000, 1e20), (5, 0.0), (2049, 1e-42)] {
        let x: Vec<f32> = random.floats(len).iter().map(|v| v * size).collect();
        let (x_on, parts) = (device.put(&x), device.alloc(4 * 256));
        let (out, by) = (device.alloc(2 * len), device.alloc(4));
        let n = Arg::Long(len as i64);
        device.launch("largest", [256, 1, 1], 256, &[x_on.arg(), n, parts.arg()]);
        let args = [x_on.arg(), n, parts.arg(), out.arg(), by.arg()];
        device.launch("scaled_halves", [len.div_ceil(2048), 1, 1], 256, &args);
        let (by, largest) = (by.read::<f32>()[0], x.iter().fold(0f32, |a, v| a.max(v.abs())));
        for (h, v) in out.read::<u16>().iter().zip(&x) {
            let h = half::f16::from_bits(*h).to_f32();
            assert!(h.abs() <= 16.0, "{len}, {size:e}");
            // Doubles: numbers may be smaller than normal ones.
            let off = (f64::from(h) * f64::from(by) - f64::from(*v)).abs();
            let bound = f64::from(v.abs()) / 2048.0 + f64::from(largest) * 2f64.powi(-27);
            assert!(off <= bound, "{len}, {size:e}: {h:e} times {by:e} for {v:e}");
        }
    }
    // As they are, and what is no number.
    let x_on = device.put(&[0.1f32, -3.0]);
    let out = device.alloc(4);
    let args = [x_on.arg(), Arg::Long(2), Arg::Ptr(0), out.arg(), Arg::Ptr(0)];
    device.launch("scaled_halves", [1, 1, 1], 256, &args);
    let halves = [0.1, -3.0].map(|v| half::f16::from_f32(v).to_bits());
    assert_eq!(out.read::<u16>(), halves);
    let (x_on, parts, by) = (device.put(&[1.0, f32::NAN]), device.alloc(4 * 256), device.alloc(4));
    device.launch("largest", [256, 1, 1], 256, &[x_on.arg(), Arg::Long(2), parts.arg()]);
    let args = [x_on.arg(), Arg::Long(2), parts.arg(), out.arg(), by.arg()];
    device.launch("scaled_halves", [1, 1, 1], 256, &args);
    assert!(by.read::<f32>()[0].is_nan());
}

//! Norms, rotations, gates, and what adapters do element by element.

use graft::kernels::cpu::{Act, RopeTable, Weight};
use graft::model::dropout::Dropout;

use crate::device::{Arg, Device};
use crate::{Random, assert_near, grid, ints, scalar};

#[test]
fn norms() {
    let (device, cpu, random) = (Device::get(), scalar(), &mut Random(11));
    for (rows, n, threads) in [(1, 576, 256), (3, 64, 32), (5, 1001, 1024), (2, 7, 64), (1, 4864, 256)] {
        let at = format!("{rows}x{n}, {threads} threads");
        let mut x: Vec<f32> = random.floats(rows * n).iter().map(|v| v * v * v).collect();
        x[n / 2] = 300.0;
        let (w, y) = (random.floats(n), random.floats(rows * n));
        let mut want = vec![0.0; rows * n];
        cpu.rms_norm(&x, &w, 1e-5, &mut want);
        let limit = 4e-6 * want.iter().fold(1f32, |a, v| a.max(v.abs()));
        let (x_on, w_on, out) = (device.put(&x), device.put(&w), device.alloc(4 * rows * n));
        let args = |out| [x_on.arg(), w_on.arg(), Arg::Float(1e-5), out, Arg::Int(n as i32)];
        device.launch("rms_norm", [rows, 1, 1], threads, &args(out.arg()));
        assert_near(&out.read(), &want, limit, &at);
        device.launch("rms_norm", [rows, 1, 1], threads, &args(x_on.arg()));
        assert_near(&x_on.read(), &want, limit, &format!("{at}, in place"));

        let (x_on, y_on) = (device.put(&x), device.put(&y));
        let mut sum = x.clone();
        cpu.add(&mut sum, &y);
        cpu.rms_norm(&sum, &w, 1e-5, &mut want);
        let args = [
            x_on.arg(),
            y_on.arg(),
            w_on.arg(),
            Arg::Float(1e-5),
            out.arg(),
            Arg::Int(n as i32),
        ];
        device.launch("add_rms_norm", [rows, 1, 1], threads, &args);
        assert_eq!(x_on.read::<f32>(), sum, "{at}");
        assert_near(&out.read(), &want, limit, &at);
    }
}

#[test]
fn rotations() {
    let (device, cpu, random) = (Device::get(), scalar(), &mut Random(12));
    for (m, heads, dim, half, pos, interleaved) in [
        (1, 9, 64, 32, 7000, true),
        (5, 2, 16, 4, 0, false),
        (3, 3, 256, 128, 131071, false),
        (40, 1, 8, 4, 3, true),
    ] {
        let inv_freq: Vec<f32> = (0..half).map(|i| 10000f32.powf(-(i as f32) / half as f32)).collect();
        let mut table = RopeTable {
            dims: 2 * half,
            interleaved,
            ..RopeTable::default()
        };
        for p in pos..pos + m {
            for f in &inv_freq {
                let (sin, cos) = (p as f32 * f).sin_cos();
                table.cos.push(cos * 1.5);
                table.sin.push(sin * 1.5);
            }
        }
        let freq = device.put(&inv_freq);
        let (cos, sin) = (device.alloc(4 * m * half), device.alloc(4 * m * half));
        // The position is the sum of what the device has and what the caller says.
        let held = device.put(&[pos as i32 - 2]);
        for (pos_at, pos) in [(held.arg(), 2), (Arg::Ptr(0), pos as i32)] {
            let mut args = vec![
                freq.arg(),
                Arg::Int(half as i32),
                Arg::Float(1.5),
                pos_at,
                Arg::Int(pos),
            ];
            args.extend([Arg::Int(m as i32), cos.arg(), sin.arg()]);
            device.launch("rope_table", grid(m * half), 256, &args);
            assert_near(&cos.read(), &table.cos, 1e-6, "cosines");
            assert_near(&sin.read(), &table.sin, 1e-6, "sines");
        }
        let x = random.floats(m * heads * dim);
        let mut want = x.clone();
        cpu.rope(&mut want, heads, dim, &table);
        let (x_on, cos, sin) = (device.put(&x), device.put(&table.cos), device.put(&table.sin));
        let mut args = vec![x_on.arg()];
        args.extend(ints(&[m, heads, dim, half, usize::from(interleaved)]));
        args.extend([cos.arg(), sin.arg()]);
        device.launch("rope", grid(m * heads * half), 256, &args);
        assert_near(&x_on.read(), &want, 1e-6, "rope");
    }
}

#[test]
fn element_by_element() {
    let (device, cpu, random) = (Device::get(), scalar(), &mut Random(13));
    for len in [1, 255, 256, 1000] {
        let mut x: Vec<f32> = random.floats(len).iter().map(|v| 8.0 * v).collect();
        x[0] = -100.0;
        let y = random.floats(len);
        let (y_on, n) = (device.put(&y), Arg::Long(len as i64));
        type Op<'a> = (&'a str, Vec<Arg>, Box<dyn Fn(&mut [f32]) + 'a>);
        let ops: [Op; 5] = [
            (
                "gated_silu",
                vec![y_on.arg(), n],
                Box::new(|x| cpu.gated(Act::Silu, x, &y)),
            ),
            (
                "gated_gelu",
                vec![y_on.arg(), n],
                Box::new(|x| cpu.gated(Act::GeluTanh, x, &y)),
            ),
            ("add", vec![y_on.arg(), n], Box::new(|x| cpu.add(x, &y))),
            ("scale", vec![Arg::Float(-0.3), n], Box::new(|x| cpu.scale(x, -0.3))),
            ("softcap", vec![Arg::Float(3.0), n], Box::new(|x| cpu.softcap(x, 3.0))),
        ];
        for (name, rest, op) in ops {
            let x_on = device.put(&x);
            let mut args = vec![x_on.arg()];
            args.extend(rest);
            device.launch(name, grid(len), 256, &args);
            let mut want = x.clone();
            op(&mut want);
            assert_near(&x_on.read(), &want, 2e-6, &format!("{name} of {len}"));
        }
    }
}

#[test]
fn what_adapters_do_to_rows() {
    let (device, cpu, random) = (Device::get(), scalar(), &mut Random(14));
    for (m, n, size) in [(1, 6, 2), (3, 64, 8), (5, 105, 7)] {
        let x = random.floats(m * n);
        let [f, h, shift] = [0, 1, 2].map(|_| random.floats(n));
        let [f_on, h_on, shift_on] = [&f, &h, &shift].map(|v| device.put(v));
        let mn = ints(&[m, n]);

        let y = device.put(&x);
        let mut want = x.clone();
        cpu.add_bias(&mut want, &f, 0.7);
        let args = [&[y.arg(), f_on.arg(), Arg::Float(0.7)], &mn[..]].concat();
        device.launch("add_bias", grid(m * n), 256, &args);
        assert_near(&y.read(), &want, 1e-6, "add_bias");

        let none = Arg::Ptr(0);
        for (bias, factors, shifts) in [
            (true, true, true),
            (true, false, false),
            (false, true, false),
            (false, true, true),
        ] {
            let y = device.put(&x);
            let mut want = x.clone();
            if bias {
                cpu.add_bias(&mut want, &h, 1.0);
            }
            if factors {
                cpu.affine(&mut want, &f, shifts.then_some(&shift));
            }
            let pick = |on: bool, v: &crate::device::Buf| if on { v.arg() } else { none };
            let args = [
                &[y.arg()],
                &mn[..],
                &[pick(bias, &h_on), pick(factors, &f_on), pick(shifts, &shift_on)],
            ]
            .concat();
            device.launch("finish", grid(m * n), 256, &args);
            assert_near(&y.read(), &want, 1e-6, "finish");
        }

        let mut order: Vec<u32> = (0..n as u32).collect();
        for i in (1..n).rev() {
            order.swap(i, (random.next() % (i as u64 + 1)) as usize);
        }
        let (order_on, x_on, y) = (device.put(&order), device.put(&x), device.alloc(4 * m * n));
        let mut want = x.clone();
        cpu.pairs(&mut want, &f, &h, &order);
        let args = [
            &[x_on.arg(), y.arg()],
            &mn[..],
            &[f_on.arg(), h_on.arg(), order_on.arg()],
        ]
        .concat();
        device.launch("pairs", grid(m * n), 256, &args);
        assert_near(&y.read(), &want, 1e-6, "pairs");

        let matrices = random.floats(n * size);
        let matrices_on = device.put(&matrices);
        for ordered in [false, true] {
            let mut want = x.clone();
            cpu.blocks(&mut want, size, &matrices, ordered.then_some(&order));
            let order = if ordered { order_on.arg() } else { none };
            let args = [
                &[x_on.arg(), y.arg()],
                &mn[..],
                &[Arg::Int(size as i32), matrices_on.arg(), order],
            ]
            .concat();
            device.launch("blocks", grid(m * n), 256, &args);
            assert_near(&y.read(), &want, 2e-6, "blocks");
        }
    }
}

#[test]
fn kronecker_products_and_columns() {
    let (device, cpu, random) = (Device::get(), scalar(), &mut Random(15));
    for (m, o1, i1, o2, i2) in [(1, 2, 3, 4, 5), (3, 8, 4, 16, 32), (7, 5, 1, 1, 9)] {
        let (w1, w2) = (random.floats(o1 * i1), random.floats(o2 * i2));
        let (x, before) = (random.floats(m * i1 * i2), random.floats(m * o1 * o2));
        let mut want = before.clone();
        let (a, b) = (Weight::f32(o1, i1, &w1), Weight::f32(o2, i2, &w2));
        cpu.kron(a, b, 0.5, &x, &mut Default::default(), &mut want);
        let [w1, w2, x, y] = [&w1, &w2, &x, &before].map(|v| device.put(v));
        let (rows, z) = (m * i1, device.alloc(4 * m * i1 * o2));
        let args = [
            &[w2.arg(), z.arg()],
            &ints(&[o2, i2, rows])[..],
            &[x.arg(), Arg::Float(1.0), Arg::Int(0)],
        ]
        .concat();
        device.launch("matmul_f_f32", [o2.div_ceil(64), rows.div_ceil(64), 1], 256, &args);
        let args = [
            &[w1.arg(), z.arg()],
            &ints(&[m, o1, i1, o2])[..],
            &[Arg::Float(0.5), y.arg()],
        ]
        .concat();
        device.launch("kron", grid(m * o1 * o2), 256, &args);
        assert_near(&y.read(), &want, 1e-5, "kron");
    }
    let (z, of) = (device.put(&[1.0f32, 2.0, 3.0, 4.0]), device.put(&[4i32, 1]));
    let y = device.put(&[0f32; 10]);
    let args = [&[z.arg(), of.arg()], &ints(&[2, 2, 5])[..], &[y.arg()]].concat();
    device.launch("scatter_columns", grid(4), 256, &args);
    assert_eq!(y.read::<f32>(), [0.0, 2.0, 0.0, 0.0, 1.0, 0.0, 4.0, 0.0, 0.0, 3.0]);
}

#[test]
fn the_same_numbers_are_lost() {
    let (device, random) = (Device::get(), &mut Random(17));
    for (m, cols, p) in [(1, 5, 0.5), (3, 64, 0.1), (2, 1001, 0.9)] {
        let key = random.next();
        let x = random.floats(m * cols);
        let mut want = x.clone();
        let dropout = Dropout::new(p, key).unwrap();
        want.chunks_mut(cols)
            .enumerate()
            .for_each(|(i, row)| dropout.row(i, row));
        let lost = (p * 65536.0).round();
        let scale = (65536.0 / (65536.0 - lost)) as f32;
        let x = device.put(&x);
        let args = [
            &[x.arg()],
            &ints(&[m, cols])[..],
            &[Arg::Long(key as i64), Arg::Int(lost as i32), Arg::Float(scale)],
        ]
        .concat();
        device.launch("drop_out", grid(m * cols.div_ceil(4)), 256, &args);
        assert_eq!(x.read::<f32>(), want);
    }
}

//! The way back through attention, against the scalar one.

use graft::kernels::Precision;
use graft::kernels::cpu::{Attention, KvBuf};

use crate::backward::size;
use crate::device::{Arg, Buf, Device};
use crate::{Random, assert_near, ints, scalar};

/// Heads, kv heads, head_dim, rows, position of the first, window, soft cap.
type Case = (usize, usize, usize, usize, usize, Option<usize>, Option<f32>);

#[test]
fn attention_back() {
    let (device, cpu, random) = (Device::get(), scalar(), &mut Random(52));
    let cases: &[Case] = &[
        (3, 1, 64, 1, 0, None, None),
        (4, 2, 16, 70, 0, None, None),
        (2, 1, 136, 20, 5, None, Some(5.0)),
        (2, 2, 256, 66, 0, Some(9), None),
        (4, 4, 8, 150, 3, Some(70), Some(2.0)),
        (6, 2, 24, 64, 64, Some(1), None),
    ];
    for (i, &(heads, kv_heads, head_dim, m, pos, window, softcap)) in cases.iter().enumerate() {
        let (width, kv_width, n) = (heads * head_dim, kv_heads * head_dim, pos + m);
        let a = Attention {
            heads,
            kv_heads,
            head_dim,
            scale: 2.0 / (head_dim as f32).sqrt(),
            softcap,
            window,
            capacity: n + 3,
            pos,
        };
        let (q, d_out) = (random.floats(m * width), random.floats(m * width));
        let (k, v) = (random.floats(n * kv_width), random.floats(n * kv_width));
        let ring = |x: &[f32]| {
            let mut kv = KvBuf::new(a.capacity, kv_width, Precision::Exact).unwrap();
            cpu.kv_write(x, kv_width, 0, a.capacity, &mut kv);
            kv
        };
        let mut want = [vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; k.len()]];
        {
            let [dq, dk, dv] = &mut want;
            cpu.attention_back(&a, &q, &ring(&k), &ring(&v), &d_out, dq, dk, dv);
        }
        let on = [&q, &d_out, &k, &v].map(|v| device.put(v));
        let rows = device.alloc(4 * 3 * heads * m);
        let got = [0, 1, 2].map(|i: usize| device.alloc(4 * want[i].len()));
        let args = |out: &[&Buf]| {
            let mut args: Vec<Arg> = on.iter().map(Buf::arg).collect();
            args.push(rows.arg());
            args.extend(out.iter().map(|out| out.arg()));
            args.extend(ints(&[m, heads, kv_heads, head_dim]));
            args.extend([Arg::Float(a.scale), Arg::Float(softcap.unwrap_or(0.0))]);
            args.extend(ints(&[window.unwrap_or(0), a.capacity]));
            args.extend([Arg::Ptr(0), Arg::Int(pos as i32)]);
            args
        };
        let (tiles, pieces) = (m.div_ceil(64), head_dim.div_ceil(128));
        device.launch("attend_back_rows", [tiles, heads, 1], 256, &args(&[]));
        device.launch("attend_back_q", [tiles, heads, pieces], 256, &args(&[&got[0]]));
        let shape = [n.div_ceil(64), kv_heads, pieces];
        device.launch("attend_back_kv", shape, 256, &args(&[&got[1], &got[2]]));
        for ((name, got), want) in ["dq", "dk", "dv"].iter().zip(&got).zip(&want) {
            assert_near(&got.read(), want, 1e-5 * size(want), &format!("{name}, case {i}"));
        }
    }
}

/// On the tensor cores probabilities and their gradients are rounded to halves, 2^-11 of each; what is read is rounded for the oracle too.
#[test]
fn attention_back_on_tensor_cores() {
    let (device, cpu, random) = (Device::get(), scalar(), &mut Random(54));
    let cases: &[Case] = &[
        (3, 1, 64, 1, 0, None, None),
        (4, 2, 16, 70, 0, None, None),
        (2, 1, 128, 20, 5, None, Some(5.0)),
        (2, 2, 96, 66, 0, Some(9), None),
        (4, 4, 8, 150, 3, Some(70), Some(2.0)),
        (2, 1, 128, 130, 64, None, None),
        (6, 2, 24, 64, 64, Some(1), None),
    ];
    for (i, &(heads, kv_heads, head_dim, m, pos, window, softcap)) in cases.iter().enumerate() {
        let (width, kv_width, n) = (heads * head_dim, kv_heads * head_dim, pos + m);
        let a = Attention {
            heads,
            kv_heads,
            head_dim,
            scale: 2.0 / (head_dim as f32).sqrt(),
            softcap,
            window,
            capacity: n + 3,
            pos,
        };
        let by = 2f32.powi(-20);
        let mut rounded = |len: usize| {
            let halves: Vec<half::f16> = random.floats(len).iter().map(|v| half::f16::from_f32(*v)).collect();
            let values: Vec<f32> = halves.iter().map(|h| h.to_f32()).collect();
            (halves.iter().map(|h| h.to_bits()).collect::<Vec<u16>>(), values)
        };
        let (q, d_out, k, v) = (
            rounded(m * width),
            rounded(m * width),
            rounded(n * kv_width),
            rounded(n * kv_width),
        );
        let ring = |x: &[f32]| {
            let mut kv = KvBuf::new(a.capacity, kv_width, Precision::Exact).unwrap();
            cpu.kv_write(x, kv_width, 0, a.capacity, &mut kv);
            kv
        };
        let mut want = [vec![0.0; q.1.len()], vec![0.0; k.1.len()], vec![0.0; k.1.len()]];
        {
            let [dq, dk, dv] = &mut want;
            let d_out: Vec<f32> = d_out.1.iter().map(|d| d * by).collect();
            cpu.attention_back(&a, &q.1, &ring(&k.1), &ring(&v.1), &d_out, dq, dk, dv);
        }
        let on = [&q.0, &d_out.0, &k.0, &v.0].map(|v| device.put(v));
        let (rows, by_on) = (device.alloc(4 * 3 * heads * m), device.put(&[by]));
        let got = [0, 1, 2].map(|i: usize| device.alloc(4 * want[i].len()));
        let args = |between: &[&Buf]| {
            let mut args: Vec<Arg> = on.iter().chain([&rows]).map(Buf::arg).collect();
            args.extend(between.iter().map(|b| b.arg()));
            args.extend(ints(&[m, heads, kv_heads, head_dim]));
            args.extend([Arg::Float(a.scale), Arg::Float(softcap.unwrap_or(0.0))]);
            args.extend(ints(&[window.unwrap_or(0), a.capacity]));
            args.extend([Arg::Ptr(0), Arg::Int(pos as i32)]);
            args
        };
        let of = if head_dim <= 64 { 64 } else { 128 };
        let shape = [m.div_ceil(64), heads, 1];
        device.launch(&format!("attend_back_rows_{of}"), shape, 128, &args(&[]));
        device.launch(&format!("attend_back_q_{of}"), shape, 128, &args(&[&by_on, &got[0]]));
        let shape = [n.div_ceil(64), kv_heads, 1];
        let kv = [&by_on, &got[1], &got[2]];
        device.launch(&format!("attend_back_kv_{of}"), shape, 128, &args(&kv));
        for ((name, got), want) in ["dq", "dk", "dv"].iter().zip(&got).zip(&want) {
            let largest = want.iter().fold(0f32, |a, v| a.max(v.abs()));
            // A row that sees one key has no gradient by its score.
            let limit = 1e-3 * largest.max(by * 1e-2);
            assert_near(&got.read(), want, limit, &format!("{name}, case {i}"));
        }
    }
}

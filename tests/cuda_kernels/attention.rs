//! The ring and attention over it.

use graft::kernels::cpu::{Attention, KvBuf};
use graft::kernels::{Cpu, Precision};

use crate::device::{Arg, Buf, Device};
use crate::{Random, assert_near, grid, ints, scalar};

/// A ring, here and there, filled by `kv_write` in two calls.
struct Ring {
    here: KvBuf,
    there: Buf,
}

fn ring(device: &Device, cpu: &Cpu, precision: Precision, a: &Attention, until: usize, random: &mut Random) -> Ring {
    let width = a.kv_heads * a.head_dim;
    let mut here = KvBuf::new(a.capacity, width, precision).unwrap();
    let zeros = vec![0u8; here.len() * here.value_size()];
    let there = device.put(&zeros);
    let cut = until / 3;
    for (pos, m) in [(0, cut), (cut, until - cut)] {
        if m == 0 {
            continue;
        }
        let x = random.floats(m * width);
        cpu.kv_write(&x, width, pos, a.capacity, &mut here);
        let (x, at) = (device.put(&x), device.put(&[pos as i32 - 1]));
        let args = [
            &[x.arg()],
            &ints(&[width, m])[..],
            &[at.arg()],
            &ints(&[1, a.capacity])[..],
            &[there.arg()],
        ]
        .concat();
        let name = if precision == Precision::Fast {
            "kv_write_h"
        } else {
            "kv_write_f"
        };
        device.launch(name, grid(m * width), 256, &args);
    }
    let bytes: Vec<u8> = match &here {
        KvBuf::F16(v) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
        KvBuf::F32(v) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
    };
    assert!(there.read::<u8>() == bytes, "kv_write, {precision:?}, {a:?}");
    Ring { here, there }
}

/// Heads, kv heads, head_dim, rows, position of the first, capacity, window, soft cap.
type Case = (usize, usize, usize, usize, usize, usize, Option<usize>, Option<f32>);

const CASES: &[Case] = &[
    (9, 3, 64, 1, 0, 16, None, None),
    (9, 3, 64, 1, 200, 256, None, None),
    (4, 1, 256, 1, 131, 132, None, Some(5.0)),
    (4, 1, 256, 19, 40, 128, Some(33), None),
    (2, 2, 80, 3, 70, 80, None, None),
    (12, 1, 8, 2, 99, 101, None, None),
    (14, 2, 64, 17, 0, 32, None, None),
    (8, 8, 128, 33, 100, 140, Some(64), Some(2.0)),
    (3, 1, 96, 40, 3, 64, None, None),
    (2, 1, 16, 1, 1000, 64, Some(60), None),
];

fn facts(&(heads, kv_heads, head_dim, _, pos, capacity, window, softcap): &Case) -> Attention {
    Attention {
        heads,
        kv_heads,
        head_dim,
        scale: 1.0 / (head_dim as f32).sqrt() * 3.0,
        softcap,
        window,
        capacity,
        pos,
    }
}

/// The arguments that all attention kernels have behind their buffers.
fn common(a: &Attention, m: usize, pos_at: &Buf) -> Vec<Arg> {
    let mut args = ints(&[m, a.heads, a.kv_heads, a.head_dim]);
    args.extend([Arg::Float(a.scale), Arg::Float(a.softcap.unwrap_or(0.0))]);
    args.extend(ints(&[a.window.unwrap_or(0), a.capacity]));
    args.extend([pos_at.arg(), Arg::Int(1)]);
    args
}

#[test]
fn attention_in_parts_and_in_tiles() {
    let (device, cpu, random) = (Device::get(), scalar(), &mut Random(21));
    for (i, case) in CASES.iter().enumerate() {
        for precision in [Precision::Exact, Precision::Fast] {
            let (a, m) = (facts(case), case.3);
            let t = if precision == Precision::Fast { "h" } else { "f" };
            let until = a.pos + m;
            let k = ring(&device, &cpu, precision, &a, until, random);
            let v = ring(&device, &cpu, precision, &a, until, random);
            let q = random.floats(m * a.heads * a.head_dim);
            let mut want = vec![0.0; q.len()];
            cpu.attention(&a, &q, &k.here, &v.here, &mut want);
            let (q_on, out, pos_at) = (
                device.put(&q),
                device.alloc(4 * q.len()),
                device.put(&[a.pos as i32 - 1]),
            );
            for splits in [1, 2, 5] {
                let part = device.alloc(4 * m * a.heads * splits * (a.head_dim + 2));
                let buffers = [q_on.arg(), k.there.arg(), v.there.arg(), part.arg()];
                let args = [&buffers[..], &common(&a, m, &pos_at), &[Arg::Int(splits as i32)]].concat();
                let chunks = (a.heads / a.kv_heads).div_ceil(8);
                device.launch(&format!("attend_{t}"), [a.kv_heads * chunks, splits, m], 128, &args);
                let args = [&[part.arg(), out.arg()], &ints(&[m, a.heads, a.head_dim, splits])[..]].concat();
                device.launch("attend_join", [a.heads, m, 1], 64, &args);
                assert_near(
                    &out.read(),
                    &want,
                    3e-6,
                    &format!("attend_{t}, case {i}, {splits} parts"),
                );
            }
            let out = device.alloc(4 * q.len());
            let buffers = [q_on.arg(), k.there.arg(), v.there.arg(), out.arg()];
            let args = [&buffers[..], &common(&a, m, &pos_at)].concat();
            device.launch(&format!("attend_tile_{t}"), [m.div_ceil(16), a.heads, 1], 128, &args);
            assert_near(&out.read(), &want, 3e-6, &format!("attend_tile_{t}, case {i}"));
        }
    }
}

/// On the tensor cores queries are rounded to halves, as the oracle's are here, and so are the weights of values: 2^-11 of each.
#[test]
fn attention_on_tensor_cores() {
    let (device, cpu, random) = (Device::get(), scalar(), &mut Random(22));
    let more: &[Case] = &[
        (6, 3, 64, 150, 70, 256, None, None),
        (2, 1, 128, 70, 0, 128, Some(20), None),
    ];
    for (i, case) in CASES.iter().chain(more).enumerate() {
        let (a, m) = (facts(case), case.3);
        let (dim, warps) = match a.head_dim {
            ..=64 => (64, 4),
            65..=128 => (128, 4),
            _ => (256, 2),
        };
        let k = ring(&device, &cpu, Precision::Fast, &a, a.pos + m, random);
        let v = ring(&device, &cpu, Precision::Fast, &a, a.pos + m, random);
        let q: Vec<f32> = random.floats(m * a.heads * a.head_dim);
        let q: Vec<f32> = q.iter().map(|v| half::f16::from_f32(*v).to_f32()).collect();
        let mut want = vec![0.0; q.len()];
        cpu.attention(&a, &q, &k.here, &v.here, &mut want);
        let (q, out, pos_at) = (
            device.put(&q),
            device.alloc(4 * q.len()),
            device.put(&[a.pos as i32 - 1]),
        );
        let buffers = [q.arg(), k.there.arg(), v.there.arg(), out.arg()];
        let args = [&buffers[..], &common(&a, m, &pos_at)].concat();
        device.launch(
            &format!("attend_mma_{dim}"),
            [m.div_ceil(16 * warps), a.heads, 1],
            32 * warps,
            &args,
        );
        assert_near(&out.read(), &want, 4e-4, &format!("attend_mma_{dim}, case {i}"));
    }
}

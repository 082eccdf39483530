//! Kernels that do several operations at once: bit for bit what the operations do one after the other.

use crate::device::{Arg, Buf, Device};
use crate::products::pack_i;
use crate::{Random, grid, ints};

fn bits(buf: &Buf) -> Vec<u32> {
    buf.read()
}

#[test]
fn norms_and_packing() {
    let (device, random) = (Device::get(), &mut Random(41));
    for (m, n, threads) in [(1, 576, 256), (3, 64, 128), (2, 2080, 1024)] {
        let (x, y, w) = (
            random.floats(m * n),
            random.floats(m * n),
            device.put(&random.floats(n)),
        );
        for add in [false, true] {
            let run = |name: &str, pack: Option<&Buf>| {
                let (x, y, out) = (device.put(&x), device.put(&y), device.alloc(4 * m * n));
                let mut args = vec![x.arg()];
                args.extend(add.then_some(y.arg()));
                args.extend([w.arg(), Arg::Float(1e-6), out.arg(), Arg::Int(n as i32)]);
                args.extend(pack.into_iter().flat_map(|acts| [Arg::Int(m as i32), acts.arg()]));
                device.launch(name, [m, 1, 1], threads, &args);
                (bits(&x), bits(&out), out)
            };
            let names = if add {
                ["add_rms_norm", "add_norm_pack_i"]
            } else {
                ["rms_norm", "norm_pack_i"]
            };
            let acts = device.alloc(19 * m * n / 8);
            let (x1, out1, normed) = run(names[0], None);
            let (x2, out2, _) = run(names[1], Some(&acts));
            assert!(x1 == x2 && out1 == out2, "{}", names[1]);
            assert_eq!(bits(&acts), bits(&pack_i(&device, &normed, m, n)), "{}", names[1]);
        }
    }
}

#[test]
fn gates_and_packing() {
    let (device, random) = (Device::get(), &mut Random(42));
    let (m, k) = (3, 544);
    let (gate, up) = (random.floats(m * k), device.put(&random.floats(m * k)));
    for act in ["silu", "gelu"] {
        let (a, b, acts) = (device.put(&gate), device.put(&gate), device.alloc(19 * m * k / 8));
        let args = [a.arg(), up.arg(), Arg::Long((m * k) as i64)];
        device.launch(&format!("gated_{act}"), grid(m * k), 256, &args);
        let args = [&[b.arg(), up.arg()], &ints(&[m, k])[..], &[acts.arg()]].concat();
        device.launch(&format!("gated_pack_i_{act}"), grid(m * k), 256, &args);
        assert_eq!(bits(&a), bits(&b), "{act}");
        assert_eq!(bits(&acts), bits(&pack_i(&device, &a, m, k)), "{act}");
    }
}

#[test]
fn rotations_and_the_ring() {
    let (device, random) = (Device::get(), &mut Random(43));
    // The third has more rows than the ring.
    for (m, heads, kv_heads, dim, half, interleaved, pos, capacity) in [
        (1, 9, 3, 64, 32, 1, 70, 64),
        (5, 4, 1, 80, 20, 0, 3, 32),
        (9, 2, 2, 16, 4, 1, 0, 7),
    ] {
        let floats = [heads, kv_heads, kv_heads].map(|n| random.floats(m * n * dim));
        let angles = [0, 1].map(|_| device.put(&random.floats(m * half)));
        let pos_at = device.put(&[pos]);
        for t in ["h", "f"] {
            let zeros = vec![0u8; capacity * kv_heads * dim * if t == "h" { 2 } else { 4 }];
            let [q, k, v] = [0, 1, 2].map(|i| device.put(&floats[i]));
            let rings = [0, 1].map(|_| device.put(&zeros));
            for (x, heads) in [(&q, heads), (&k, kv_heads)] {
                let args = [
                    &[x.arg()],
                    &ints(&[m, heads, dim, half, interleaved])[..],
                    &[angles[0].arg(), angles[1].arg()],
                ]
                .concat();
                device.launch("rope", grid(m * heads * half), 256, &args);
            }
            for (x, ring) in [(&k, &rings[0]), (&v, &rings[1])] {
                let width = kv_heads * dim;
                let args = [
                    &[x.arg()],
                    &ints(&[width, m])[..],
                    &[pos_at.arg()],
                    &ints(&[0, capacity])[..],
                    &[ring.arg()],
                ]
                .concat();
                device.launch(&format!("kv_write_{t}"), grid(m * width), 256, &args);
            }
            let [q2, k2, v2] = [0, 1, 2].map(|i| device.put(&floats[i]));
            let rings2 = [0, 1].map(|_| device.put(&zeros));
            let mut args = vec![q2.arg(), k2.arg(), v2.arg()];
            args.extend(ints(&[m, heads, kv_heads, dim, half, interleaved]));
            args.extend([angles[0].arg(), angles[1].arg(), pos_at.arg()]);
            args.extend(ints(&[0, capacity]));
            args.extend([rings2[0].arg(), rings2[1].arg()]);
            device.launch(
                &format!("rope_kv_{t}"),
                grid(m * (heads + 2 * kv_heads) * dim / 2),
                256,
                &args,
            );
            assert_eq!(bits(&q), bits(&q2), "q, {t}");
            assert_eq!(bits(&k), bits(&k2), "k, {t}");
            for i in 0..2 {
                assert_eq!(rings[i].read::<u8>(), rings2[i].read::<u8>(), "ring {i}, {t}");
            }
        }
    }
}

#[test]
fn joining_and_packing() {
    let (device, random) = (Device::get(), &mut Random(44));
    let (m, heads, dim, splits) = (2, 3, 96, 4);
    let mut part: Vec<f32> = random
        .floats(m * heads * splits * (dim + 2))
        .iter()
        .map(|v| v.abs())
        .collect();
    // A part without keys.
    part[dim + 2..2 * (dim + 2)].fill(0.0);
    part[2 * dim + 2] = f32::NEG_INFINITY;
    let part = device.put(&part);
    let (a, b, acts) = (
        device.alloc(4 * m * heads * dim),
        device.alloc(4 * m * heads * dim),
        device.alloc(19 * m * heads * dim / 8),
    );
    let args = |out: &Buf| [&[part.arg(), out.arg()], &ints(&[m, heads, dim, splits])[..]].concat();
    device.launch("attend_join", [heads, m, 1], 64, &args(&a));
    device.launch(
        "attend_join_i",
        [heads, m, 1],
        64,
        &[&args(&b)[..], &[acts.arg()]].concat(),
    );
    assert!(a.read::<f32>().iter().all(|v| v.is_finite()));
    assert_eq!(bits(&a), bits(&b));
    assert_eq!(bits(&acts), bits(&pack_i(&device, &a, m, heads * dim)));
}

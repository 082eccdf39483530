//! Low-rank updates of many sequences in one launch.

use graft::kernels::Precision;
use graft::kernels::cpu::{LowRank, Panels};
use graft::quant::BlockFormat;

use crate::device::{Arg, Buf, Device};
use crate::matrix::Matrix;
use crate::{Random, assert_near, ints, scalar};

/// An update of rows.
struct Update {
    a: Matrix,
    b: Matrix,
    mid: Option<Vec<f32>>,
    out: Option<Vec<f32>>,
    first: usize,
    last: usize,
    scale: f32,
}

#[test]
fn updates_of_many_sequences() {
    let (device, cpu, random) = (Device::get(), scalar(), &mut Random(31));
    for (k, n, m) in [(64, 40, 1), (96, 200, 12), (131, 129, 30)] {
        let mut updates = Vec::new();
        for i in 0..9 {
            let format = [BlockFormat::F32, BlockFormat::F16, BlockFormat::BF16][i % 3];
            let rank = [1, 3, 8, 16, 64][i % 5];
            let first = (random.next() % m as u64) as usize;
            updates.push(Update {
                a: Matrix::random(format, rank, k, random),
                b: Matrix::random(format, n, rank, random),
                mid: (i % 2 == 0).then(|| random.floats(rank)),
                out: (i % 4 == 1).then(|| random.floats(n)),
                first,
                last: first + 1 + (random.next() % (m - first) as u64) as usize,
                scale: 1.0 + random.float(),
            });
        }
        let (x, before) = (random.floats(m * k), random.floats(m * n));
        let mut want = before.clone();
        for u in &updates {
            let panels = |m: &Matrix| Panels::new(m.rows, m.cols, m.format, &m.bytes);
            let (a, b) = (panels(&u.a), panels(&u.b));
            let l = LowRank {
                a: &a,
                b: &b,
                mid: u.mid.as_deref(),
                out: u.out.as_deref(),
                scale: u.scale,
                from: 0,
            };
            let (x, y) = (&x[u.first * k..u.last * k], &mut want[u.first * n..u.last * n]);
            cpu.low_rank(&l, Precision::Exact, x, y);
        }

        let mut held: Vec<Buf> = Vec::new();
        let mut put = |bytes: Option<&[u8]>| {
            bytes.map_or(0, |bytes| {
                held.push(device.put(bytes));
                held.last().unwrap().at
            })
        };
        let floats = |v: &Option<Vec<f32>>| {
            v.as_ref()
                .map(|v| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
        };
        let (mut table, mut at) = (Vec::new(), 0);
        for u in &updates {
            let dtype = match u.a.format {
                BlockFormat::F32 => 0,
                BlockFormat::F16 => 1,
                _ => 2,
            };
            let pointers = [
                put(Some(&u.a.bytes)),
                put(Some(&u.b.bytes)),
                put(floats(&u.mid).as_deref()),
                put(floats(&u.out).as_deref()),
            ];
            pointers.iter().for_each(|p| table.extend(p.to_le_bytes()));
            for v in [u.first as i32, u.last as i32, dtype, u.a.rows as i32] {
                table.extend(v.to_le_bytes());
            }
            table.extend(u.scale.to_le_bytes());
            table.extend((at as i32).to_le_bytes());
            table.extend(0i64.to_le_bytes());
            at += (u.last - u.first) * u.a.rows;
        }
        let (table, x, y, u) = (
            device.put(&table),
            device.put(&x),
            device.put(&before),
            device.alloc(4 * at),
        );
        let grid = [64 / 4, updates.len(), m.div_ceil(8)];
        device.launch(
            "low_rank_shrink",
            grid,
            128,
            &[table.arg(), x.arg(), Arg::Int(k as i32), u.arg()],
        );
        let args = [
            &[table.arg(), Arg::Int(updates.len() as i32), u.arg()],
            &ints(&[m, n])[..],
            &[y.arg()],
        ]
        .concat();
        device.launch("low_rank_expand", [n.div_ceil(128), m.div_ceil(8), 1], 128, &args);
        assert_near(&y.read(), &want, 1e-5, &format!("k {k}, n {n}, {m} rows"));
    }
}

//! Attention against the plain softmax formula in f64.

use super::*;

struct Case {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    window: Option<usize>,
    softcap: Option<f32>,
    capacity: usize,
    pos: usize,
    m: usize,
}

/// All visible scores of one query, softmax, sum of values; `kv` reads element i of the key or value at a position.
fn plain(c: &Case, scale: f64, q: &[f32], kv: impl Fn(bool, usize, usize) -> f64) -> Vec<f64> {
    let (group, dim) = (c.heads / c.kv_heads, c.head_dim);
    let mut out = Vec::new();
    for t in 0..c.m {
        for h in 0..c.heads {
            let q = &q[(t * c.heads + h) * dim..][..dim];
            let at = h / group * dim;
            let p = c.pos + t;
            let seen: Vec<usize> = (0..=p).filter(|j| p - j < c.window.unwrap_or(usize::MAX)).collect();
            let scores: Vec<f64> = seen
                .iter()
                .map(|&j| {
                    let s = scale * (0..dim).map(|i| f64::from(q[i]) * kv(false, j, at + i)).sum::<f64>();
                    c.softcap.map_or(s, |cap| f64::from(cap) * (s / f64::from(cap)).tanh())
                })
                .collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = scores.iter().map(|s| (s - max).exp()).sum();
            for i in 0..dim {
                out.push(
                    seen.iter()
                        .zip(&scores)
                        .map(|(&j, s)| (s - max).exp() * kv(true, j, at + i))
                        .sum::<f64>()
                        / total,
                );
            }
        }
    }
    out
}

fn check(c: &Case, seed: u64) {
    // Outliers make scores of several hundred, whose rounding in f32 (1e-7 of the largest term, a few terms) is that
    // error in the exponent, so of every weight; relative to values of up to 40.
    const BOUND: f64 = 1e-4;
    let mut random = Random::new(seed);
    let width = c.kv_heads * c.head_dim;
    let end = c.pos + c.m;
    let rows: [Vec<f32>; 2] = [random.activations(end * width), random.activations(end * width)];
    // f16 values, so that both caches hold the same numbers.
    let rows = rows.map(|r| r.iter().map(|&v| half::f16::from_f32(v).to_f32()).collect::<Vec<f32>>());
    let q = random.activations(c.m * c.heads * c.head_dim);
    let scale = 1.0 / (c.head_dim as f32).sqrt();
    let expected = plain(c, f64::from(scale), &q, |v, j, i| {
        f64::from(rows[v as usize][j * width + i])
    });
    let a = Attention {
        heads: c.heads,
        kv_heads: c.kv_heads,
        head_dim: c.head_dim,
        scale,
        softcap: c.softcap,
        window: c.window,
        capacity: c.capacity,
        pos: c.pos,
    };
    for half in [false, true] {
        let mut bits: Vec<Vec<u32>> = Vec::new();
        for cpu in levels(1).iter().chain(levels(3).iter()) {
            // What the ring no longer holds is NaN: it must not be read, or not count.
            let empty = || {
                let len = c.capacity * width;
                if half {
                    KvBuf::F16(vec![0x7e00; len])
                } else {
                    KvBuf::F32(vec![f32::NAN; len])
                }
            };
            let (mut k, mut v) = (empty(), empty());
            let from = end.saturating_sub(c.capacity);
            cpu.kv_write(&rows[0][from * width..], width, from, c.capacity, &mut k);
            cpu.kv_write(&rows[1][from * width..], width, from, c.capacity, &mut v);
            let mut out = vec![f32::NAN; q.len()];
            cpu.attention(&a, &q, &k, &v, &mut out);
            close(cpu.isa(), &out, &expected, |_| 4.0, BOUND);
            bits.push(out.iter().map(|v| v.to_bits()).collect());
        }
        let (one, three) = bits.split_at(bits.len() / 2);
        assert_eq!(one, three, "the number of threads changed a result");
    }
}

#[test]
fn attention_matches_f64() {
    let plain = Case {
        heads: 1,
        kv_heads: 1,
        head_dim: 8,
        window: None,
        softcap: None,
        capacity: 600,
        pos: 0,
        m: 1,
    };
    let mut seed = 100;
    for (heads, kv_heads) in [(1, 1), (9, 3), (4, 1), (14, 2), (3, 3)] {
        for head_dim in [8, 20, 64, 80] {
            for (pos, m) in [(0, 1), (5, 1), (300, 1), (580, 2), (0, 5), (60, 9), (0, 33), (63, 70)] {
                check(
                    &Case {
                        heads,
                        kv_heads,
                        head_dim,
                        pos,
                        m,
                        ..plain
                    },
                    seed,
                );
                seed += 1;
            }
        }
    }
    check(
        &Case {
            heads: 4,
            kv_heads: 1,
            head_dim: 256,
            pos: 290,
            m: 3,
            ..plain
        },
        1,
    );
    check(
        &Case {
            heads: 4,
            kv_heads: 1,
            head_dim: 256,
            pos: 100,
            m: 40,
            ..plain
        },
        2,
    );
}

#[test]
fn attention_in_rings_and_windows() {
    let ring = Case {
        heads: 6,
        kv_heads: 2,
        head_dim: 16,
        window: Some(20),
        softcap: Some(5.0),
        capacity: 40,
        pos: 0,
        m: 1,
    };
    for (i, (pos, m)) in [
        (0, 1),
        (19, 1),
        (39, 1),
        (40, 1),
        (100, 1),
        (10, 21),
        (70, 21),
        (333, 7),
        (79, 2),
    ]
    .iter()
    .enumerate()
    {
        check(
            &Case {
                pos: *pos,
                m: *m,
                ..ring
            },
            i as u64,
        );
        check(
            &Case {
                pos: *pos,
                m: *m,
                softcap: None,
                window: Some(1),
                ..ring
            },
            i as u64,
        );
        // As many keys as the ring can hold, beginning in its middle.
        check(
            &Case {
                pos: *pos,
                m: 1,
                softcap: None,
                window: Some(40),
                ..ring
            },
            i as u64,
        );
    }
    check(
        &Case {
            window: Some(512),
            capacity: 1000,
            pos: 2345,
            m: 1,
            ..ring
        },
        50,
    );
    check(
        &Case {
            window: Some(512),
            capacity: 1024,
            pos: 2300,
            m: 200,
            ..ring
        },
        51,
    );
}

#[test]
#[should_panic(expected = "lost keys")]
fn a_ring_that_lost_keys_is_refused() {
    check(
        &Case {
            heads: 1,
            kv_heads: 1,
            head_dim: 8,
            window: Some(20),
            softcap: None,
            capacity: 20,
            pos: 30,
            m: 2,
        },
        1,
    );
}

#[test]
fn huge_and_broken_scores_end() {
    for cpu in levels(2).iter() {
        let a = Attention {
            heads: 1,
            kv_heads: 1,
            head_dim: 8,
            scale: 1.0,
            softcap: None,
            window: None,
            capacity: 4,
            pos: 3,
        };
        let (k, v) = (KvBuf::F32([[1e20; 8]; 4].concat()), KvBuf::F32(vec![1.0; 32]));
        let mut out = [0.0; 8];
        cpu.attention(&a, &[1e17; 8], &k, &v, &mut out);
        assert_eq!(out, [1.0; 8]);
        cpu.attention(&a, &[f32::NAN; 8], &k, &v, &mut out);
        assert!(out.iter().all(|v| v.is_nan()));
    }
}

/// Oracle: the definition, row by row.
#[test]
fn pairs_are_what_the_rows_see() {
    for window in [None, Some(1), Some(7), Some(100)] {
        for (pos, m) in [(0, 0), (0, 1), (0, 9), (5, 4), (6, 1), (7, 3), (200, 3)] {
            let a = Attention {
                heads: 1,
                kv_heads: 1,
                head_dim: 8,
                scale: 1.0,
                softcap: None,
                window,
                capacity: 256,
                pos,
            };
            let want: usize = (0..m).map(|t| a.visible(t).len()).sum();
            assert_eq!(pairs(pos, m, window), want, "{m} rows from {pos}, window {window:?}");
        }
    }
}

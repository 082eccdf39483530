//! Norms, rope, gates, sums, soft cap, conversion.

use super::*;

/// Lengths around every vector width, and some that are split over threads.
const LENGTHS: &[usize] = &[1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65, 576, 8191, 20_000];

#[test]
fn rms_norm_matches_f64() {
    // f32 sums of up to 20,000 squares in lanes: relative error of the sum below 1e-6, half of it in the root.
    const BOUND: f64 = 2e-6;
    let mut random = Random::new(1);
    for cpu in levels(2).iter() {
        for &n in LENGTHS {
            for m in [1, 3] {
                let (x, w) = (random.activations(m * n), random.activations(n));
                let mut out = vec![0.0; m * n];
                cpu.rms_norm(&x, &w, 1e-5, &mut out);
                let expected: Vec<f64> = x
                    .chunks(n)
                    .flat_map(|row| {
                        let mean = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n as f64;
                        let scale = 1.0 / (mean + f64::from(1e-5f32)).sqrt();
                        row.iter()
                            .zip(&w)
                            .map(move |(&v, &w)| f64::from(v) * scale * f64::from(w))
                            .collect::<Vec<_>>()
                    })
                    .collect();
                close(cpu.isa(), &out, &expected, |i| expected[i].abs(), BOUND);
            }
        }
    }
}

#[test]
fn rope_matches_f64() {
    // Two rounded products and a sum.
    const BOUND: f64 = 2e-7;
    let mut random = Random::new(2);
    for cpu in levels(2).iter() {
        for (heads, head_dim, dims) in [
            (1, 2, 2),
            (3, 64, 64),
            (2, 64, 48),
            (2, 20, 10),
            (5, 80, 80),
            (1, 256, 256),
        ] {
            for interleaved in [false, true] {
                for m in [1, 5] {
                    let angle: Vec<f32> = (0..m * dims / 2).map(|_| 3.0 * random.unit()).collect();
                    let table = RopeTable {
                        dims,
                        interleaved,
                        cos: angle.iter().map(|a| a.cos()).collect(),
                        sin: angle.iter().map(|a| a.sin()).collect(),
                    };
                    let x = random.activations(m * heads * head_dim);
                    let mut expected: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
                    let mut size = expected.iter().map(|v| v.abs()).collect::<Vec<_>>();
                    for t in 0..m {
                        for h in 0..heads {
                            for i in 0..dims / 2 {
                                let (a, b) = if interleaved {
                                    (2 * i, 2 * i + 1)
                                } else {
                                    (i, i + dims / 2)
                                };
                                let at = (t * heads + h) * head_dim;
                                let (c, s) = (
                                    f64::from(table.cos[t * dims / 2 + i]),
                                    f64::from(table.sin[t * dims / 2 + i]),
                                );
                                let (xa, xb) = (expected[at + a], expected[at + b]);
                                expected[at + a] = xa * c - xb * s;
                                expected[at + b] = xa * s + xb * c;
                                size[at + a] = xa.abs() + xb.abs();
                                size[at + b] = size[at + a];
                            }
                        }
                    }
                    let mut found = x.clone();
                    cpu.rope(&mut found, heads, head_dim, &table);
                    close(cpu.isa(), &found, &expected, |i| size[i], BOUND);
                }
            }
        }
    }
}

/// Gate inputs: small, ordinary, and where exp over- and underflows.
fn gate_inputs(n: usize, random: &mut Random) -> Vec<f32> {
    const EDGES: [f32; 14] = [
        0.0, -0.0, 1e-20, -1e-20, 20.0, -20.0, 87.0, -87.0, 89.0, -89.0, 104.0, -104.0, 1e30, -1e30,
    ];
    (0..n)
        .map(|i| {
            if i % 3 == 0 {
                EDGES[(i / 3) % 14]
            } else {
                5.0 * random.unit()
            }
        })
        .collect()
}

#[test]
fn gates_match_f64() {
    // A vector exp of about 1 ulp and a division; the tanh form loses a little more around -3, where 1 + tanh cancels:
    // hence absolute error against max(|x|, |result|) there.
    const BOUND: f64 = 6e-7;
    let mut random = Random::new(3);
    for cpu in levels(2).iter() {
        for &n in LENGTHS {
            let (gate, up) = (gate_inputs(n, &mut random), random.activations(n));
            for act in [Act::Silu, Act::GeluTanh] {
                let mut found = gate.clone();
                cpu.gated(act, &mut found, &up);
                let expected: Vec<f64> = gate
                    .iter()
                    .zip(&up)
                    .map(|(&g, &u)| {
                        let (g, u) = (f64::from(g), f64::from(u));
                        u * match act {
                            Act::Silu => g / (1.0 + (-g).exp()),
                            Act::GeluTanh => {
                                let inner = std::f64::consts::FRAC_2_PI.sqrt() * (g + 0.044715 * g * g * g);
                                0.5 * g * (1.0 + inner.tanh())
                            }
                        }
                    })
                    .collect();
                let size = |i: usize| f64::from(up[i].abs()) * f64::from(gate[i].abs()).min(1e3) + expected[i].abs();
                let worst = close(cpu.isa(), &found, &expected, size, BOUND);
                if n == 20_000 {
                    println!("{} {act:?}: {worst:.1e}", cpu.isa());
                }
            }
        }
        let mut nan = [f32::NAN, 1.0];
        cpu.gated(Act::Silu, &mut nan, &[1.0, 1.0]);
        assert!(nan[0].is_nan() && !nan[1].is_nan());
    }
}

#[test]
fn softcap_matches_f64() {
    // tanh through exp: 1 - 2/(e^2x + 1) cancels for small x, where the error is absolute in x / cap.
    const BOUND: f64 = 6e-7;
    let mut random = Random::new(4);
    for cpu in levels(2).iter() {
        for &n in LENGTHS {
            let x: Vec<f32> = (0..n).map(|_| 100.0 * random.unit()).collect();
            let mut found = x.clone();
            cpu.softcap(&mut found, 30.0);
            let expected: Vec<f64> = x.iter().map(|&v| 30.0 * (f64::from(v) / 30.0).tanh()).collect();
            close(cpu.isa(), &found, &expected, |_| 30.0, BOUND);
        }
    }
}

#[test]
fn sums_are_exact() {
    let mut random = Random::new(5);
    for cpu in levels(2).iter() {
        for &n in LENGTHS {
            let (y, x) = (random.activations(2 * n), random.activations(2 * n));
            let mut found = y.clone();
            cpu.add(&mut found, &x);
            assert!(found.iter().zip(y.iter().zip(&x)).all(|(f, (y, x))| *f == y + x));
            let mut found = y.clone();
            cpu.add_bias(&mut found, &x[..n], 1.0);
            assert!(found.iter().enumerate().all(|(i, f)| *f == y[i] + x[i % n]));
        }
    }
}

#[test]
fn kv_write_wraps_and_rounds_as_half() {
    let mut random = Random::new(6);
    for cpu in levels(1).iter() {
        for width in [1, 8, 17, 64] {
            let x = random.activations(5 * width);
            let (mut half, mut full) = (KvBuf::F16(vec![0; 4 * width]), KvBuf::F32(vec![0.0; 4 * width]));
            cpu.kv_write(&x[..3 * width], width, 6, 4, &mut half);
            cpu.kv_write(&x[..3 * width], width, 6, 4, &mut full);
            let (KvBuf::F16(half), KvBuf::F32(full)) = (half, full) else {
                unreachable!()
            };
            for (t, slot) in [(0, 2), (1, 3), (2, 0)] {
                for i in 0..width {
                    let v = x[t * width + i];
                    assert_eq!(full[slot * width + i], v);
                    assert_eq!(half[slot * width + i], half::f16::from_f32(v).to_bits());
                }
            }
        }
    }
}

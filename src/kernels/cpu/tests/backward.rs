//! Gradients: products against f64, the rest against differences of the f64 formula of the forward operation.

use super::matmul::Matrix;
use super::*;
use crate::quant::BlockFormat;

/// (f(x + h) - f(x - h)) / 2h in f64 for each element of x.
fn differences(x: &[f32], f: &dyn Fn(&[f64]) -> f64) -> Vec<f64> {
    const H: f64 = 1e-5;
    let mut x: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
    (0..x.len())
        .map(|i| {
            let here = x[i];
            x[i] = here + H;
            let more = f(&x);
            x[i] = here - H;
            let less = f(&x);
            x[i] = here;
            (more - less) / (2.0 * H)
        })
        .collect()
}

fn wide(v: &[f32]) -> Vec<f64> {
    v.iter().map(|v| f64::from(*v)).collect()
}

fn dot(a: &[f64], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * f64::from(*b)).sum()
}

fn largest(x: &[f64]) -> f64 {
    x.iter().fold(1e-3, |m, v| m.max(v.abs()))
}

#[test]
fn products_match_f64() {
    // Sums of up to 700 products in order: the error grows with the sum of magnitudes.
    const BOUND: f64 = 1e-5;
    let mut random = Random::new(21);
    for cpu in levels(2).iter() {
        for (rows, depth, n) in [
            (1, 1, 1),
            (5, 3, 7),
            (6, 16, 16),
            (13, 700, 33),
            (50, 64, 130),
            (97, 33, 64),
        ] {
            let (x, w) = (random.activations(rows * depth), random.activations(depth * n));
            let old = random.activations(rows * n);
            for (turned, add) in [(false, false), (false, true), (true, false), (true, true)] {
                let mut y = old.clone();
                let x_of = |t: usize, c: usize| if turned { x[c * rows + t] } else { x[t * depth + c] };
                let strided = if turned {
                    Strided::turned(&x, rows)
                } else {
                    Strided::rows(&x, depth)
                };
                cpu.multiply(strided, depth, &w, n, &mut y, add);
                let (mut expected, mut size) = (Vec::new(), Vec::new());
                for t in 0..rows {
                    for j in 0..n {
                        let terms = (0..depth).map(|c| f64::from(x_of(t, c)) * f64::from(w[c * n + j]));
                        let before = if add { f64::from(old[t * n + j]) } else { 0.0 };
                        expected.push(terms.clone().sum::<f64>() + before);
                        size.push(terms.map(f64::abs).sum::<f64>() + before.abs());
                    }
                }
                close(cpu.isa(), &y, &expected, |i| size[i], BOUND);
            }
        }
    }
}

#[test]
fn weights_lead_back_as_f64_says() {
    const BOUND: f64 = 1e-5;
    let mut random = Random::new(22);
    for (format, n, k) in [
        (BlockFormat::F32, 40, 24),
        (BlockFormat::F16, 33, 100),
        (BlockFormat::Q4_0, 300, 64),
        (BlockFormat::Q4_1, 70, 96),
        (BlockFormat::Q8_0, 65, 160),
        (BlockFormat::Q4_K, 30, 512),
        (BlockFormat::Q6_K, 67, 256),
    ] {
        let values = random.activations(n * k);
        let mut data = vec![0; n * format.bytes_for(k).unwrap()];
        format.quantize(&values, None, &mut data).unwrap();
        let mut w = vec![0.0; n * k];
        format.dequantize(&data, &mut w);
        let weight = Weight {
            format,
            rows: n,
            cols: k,
            data: &data,
        };
        for m in [1, 7, 200] {
            let dy = random.activations(m * n);
            let old = random.activations(m * k);
            let (mut expected, mut size) = (Vec::new(), Vec::new());
            for t in 0..m {
                for c in 0..k {
                    let terms = (0..n).map(|r| f64::from(dy[t * n + r]) * f64::from(w[r * k + c]));
                    expected.push(terms.clone().sum::<f64>() + f64::from(old[t * k + c]));
                    size.push(terms.map(f64::abs).sum::<f64>() + f64::from(old[t * k + c]).abs());
                }
            }
            for threads in [1, 3] {
                for cpu in levels(threads).iter() {
                    let mut dx = old.clone();
                    cpu.matmul_back(weight, &dy, &mut dx);
                    close(cpu.isa(), &dx, &expected, |i| size[i], BOUND);
                }
            }
        }
    }
}

#[test]
fn integers_lead_back_within_their_packing() {
    // Weights to 1/1022 of the largest of 256 (or of 32 columns), gradients to 1/32766: an error of each product of 0.1 % at random, so is that of a sum of n of
    // them; the largest of some thousands may be seven times that.
    let mut random = Random::new(27);
    for (format, n, k) in [
        (BlockFormat::F32, 64, 64),
        (BlockFormat::Q4_0, 320, 96),
        (BlockFormat::Q4_1, 576, 64),
        (BlockFormat::F32, 544, 288),
        (BlockFormat::Q8_0, 96, 160),
        (BlockFormat::Q5_0, 288, 64),
        (BlockFormat::Q5_1, 32, 32),
        (BlockFormat::Q4_K, 320, 512),
        (BlockFormat::Q5_K, 32, 256),
        (BlockFormat::Q6_K, 160, 512),
        (BlockFormat::F16, 33, 40),
    ] {
        let values: Vec<f32> = (0..n * k).map(|_| 0.02 * random.unit()).collect();
        let mut data = vec![0; n * format.bytes_for(k).unwrap()];
        format.quantize(&values, None, &mut data).unwrap();
        let weight = Weight {
            format,
            rows: n,
            cols: k,
            data: &data,
        };
        integers_lead_back(weight, 0.007, &mut random);
    }
    // Formats that Graft does not write: codes and scales at random, which differ more within a panel.
    for (format, n, k) in [
        (BlockFormat::IQ4_NL, 64, 64),
        (BlockFormat::IQ4_XS, 64, 256),
        (BlockFormat::MXFP4, 96, 96),
        (BlockFormat::Q2_K, 64, 256),
        (BlockFormat::Q3_K, 96, 256),
    ] {
        integers_lead_back(Matrix::random(format, n, k, &mut random).weight(), 0.05, &mut random);
    }
}

/// dx of gradients back through `weight` in integers is within `bound` of a row's norm.
fn integers_lead_back(weight: Weight, bound: f32, random: &mut Random) {
    let (n, k) = (weight.rows, weight.cols);
    for m in [1, 6, 50] {
        let dy: Vec<f32> = random.activations(m * n).iter().map(|v| 1e-6 * v).collect();
        for cpu in levels(2).iter() {
            let (mut exact, mut fast) = (vec![0.0; m * k], vec![0.0; m * k]);
            cpu.matmul_back(weight, &dy, &mut exact);
            cpu.matmul_back_int(weight, &dy, &mut fast);
            for (exact, fast) in exact.chunks(k).zip(fast.chunks(k)) {
                let norm = (exact.iter().map(|v| v * v).sum::<f32>() / k as f32).sqrt();
                for (e, f) in exact.iter().zip(fast) {
                    let what = format!("{} {:?} {m}", cpu.isa(), weight.format);
                    assert!((e - f).abs() <= bound * norm, "{what}: {f} for {e}, norm {norm}");
                }
            }
        }
    }
}

#[test]
fn what_is_no_number_stays_none_in_integers() {
    let weights: Vec<f32> = (0..64 * 32).map(|i| (i as f32).sin()).collect();
    for strange in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for at in [0, 63] {
            for cpu in levels(1).iter() {
                let mut dy = vec![1e-4; 3 * 64];
                dy[64 + at] = strange;
                let mut dx = vec![0.0; 3 * 32];
                cpu.matmul_back_int(Weight::f32(64, 32, &weights), &dy, &mut dx);
                let strange = |row: &[f32]| row.iter().filter(|v| v.is_nan()).count();
                let rows: Vec<_> = dx.chunks(32).map(strange).collect();
                assert_eq!(rows, [0, 32, 0], "{}", cpu.isa());
            }
        }
    }
}

#[test]
fn norms_lead_back_as_differences_say() {
    const BOUND: f64 = 1e-4;
    let mut random = Random::new(23);
    for n in [1, 5, 64] {
        let (x, w, dy) = (
            random.activations(2 * n),
            random.activations(n),
            random.activations(2 * n),
        );
        let eps = 1e-3;
        let norm = |x: &[f64], w: &[f64]| -> f64 {
            let rows = x.chunks(n).map(|row| {
                let mean = row.iter().map(|v| v * v).sum::<f64>() / n as f64;
                let r = 1.0 / (mean + f64::from(eps)).sqrt();
                row.iter().zip(w).map(|(v, w)| v * r * w).collect::<Vec<_>>()
            });
            dot(&rows.flatten().collect::<Vec<_>>(), &dy)
        };
        let expected = differences(&x, &|x| norm(x, &wide(&w)));
        let expected_w = differences(&w, &|w| norm(&wide(&x), w));
        for cpu in levels(2).iter() {
            let (mut dx, mut dw) = (vec![0.0; 2 * n], vec![0.0; n]);
            cpu.rms_norm_back(&x, &w, eps, &dy, &mut dx, Some(&mut dw));
            // Of a single element the two terms, each about 1, cancel.
            close(cpu.isa(), &dx, &expected, |_| largest(&expected).max(1e-2), BOUND);
            close(cpu.isa(), &dw, &expected_w, |_| largest(&expected_w), BOUND);
        }
    }
}

#[test]
fn gates_lead_back_as_differences_say() {
    const BOUND: f64 = 1e-5;
    let mut random = Random::new(24);
    for n in [1, 7, 8, 40] {
        let gate: Vec<f32> = (0..n).map(|_| 4.0 * random.unit()).collect();
        let (up, dh) = (random.activations(n), random.activations(n));
        for act in [Act::Silu, Act::GeluTanh] {
            let h = |gate: &[f64], up: &[f64]| -> f64 {
                let of = |g: f64| match act {
                    Act::Silu => g / (1.0 + (-g).exp()),
                    Act::GeluTanh => {
                        let inner = std::f64::consts::FRAC_2_PI.sqrt() * (g + 0.044715 * g * g * g);
                        0.5 * g * (1.0 + inner.tanh())
                    }
                };
                dot(&gate.iter().zip(up).map(|(g, u)| of(*g) * u).collect::<Vec<_>>(), &dh)
            };
            let (by_gate, by_up) = (
                differences(&gate, &|g| h(g, &wide(&up))),
                differences(&up, &|u| h(&wide(&gate), u)),
            );
            for cpu in levels(2).iter() {
                let (mut d_gate, mut d_up) = (vec![0.0; n], vec![0.0; n]);
                cpu.gated_back(act, &gate, &up, &dh, &mut d_gate, &mut d_up);
                close(cpu.isa(), &d_gate, &by_gate, |_| largest(&by_gate), BOUND);
                close(cpu.isa(), &d_up, &by_up, |_| largest(&by_up), BOUND);
            }
        }
    }
}

#[test]
fn losses_lead_back_as_differences_say() {
    const BOUND: f64 = 1e-5;
    let mut random = Random::new(25);
    for vocab in [1, 5, 8, 71] {
        let logits: Vec<f32> = (0..3 * vocab).map(|_| 6.0 * random.unit()).collect();
        let targets = [0, vocab as u32 / 2, vocab as u32 - 1];
        for softcap in [None, Some(4.0f32)] {
            let losses = |x: &[f64]| -> Vec<f64> {
                let capped = |v: f64| softcap.map_or(v, |cap| f64::from(cap) * (v / f64::from(cap)).tanh());
                let rows = x.chunks(vocab).zip(targets);
                rows.map(|(row, t)| {
                    let sum: f64 = row.iter().map(|v| capped(*v).exp()).sum();
                    sum.ln() - capped(row[t as usize])
                })
                .collect()
            };
            let expected = differences(&logits, &|x| 0.25 * losses(x).iter().sum::<f64>());
            let wide: Vec<f64> = logits.iter().map(|v| f64::from(*v)).collect();
            for cpu in levels(2).iter() {
                let (mut d, mut found) = (logits.clone(), [0.0; 3]);
                if let Some(cap) = softcap {
                    cpu.softcap(&mut d, cap);
                }
                cpu.cross_entropy(&mut d, &targets, softcap, 0.25, &mut found);
                close(cpu.isa(), &found, &losses(&wide), |_| 1.0, BOUND);
                close(cpu.isa(), &d, &expected, |_| largest(&expected), BOUND);
            }
        }
    }
    for cpu in levels(1).iter() {
        let mut loss = [0.0];
        cpu.cross_entropy(&mut [f32::NAN, 1.0], &[1], None, 1.0, &mut loss);
        assert!(loss[0].is_nan(), "{}", cpu.isa());
    }
}

#[test]
fn attention_leads_back_as_differences_say() {
    const BOUND: f64 = 2e-5;
    let mut random = Random::new(26);
    for (heads, kv_heads, dim, m, pos, window, softcap) in [
        (1, 1, 8, 5, 0, None, None),
        (4, 2, 4, 9, 3, None, None),
        (3, 1, 6, 11, 0, Some(4), None),
        (2, 2, 8, 7, 2, Some(3), Some(1.5f32)),
        (2, 1, 4, 70, 1, Some(66), None),
    ] {
        let n = pos + m;
        let a = Attention {
            heads,
            kv_heads,
            head_dim: dim,
            scale: 0.7,
            softcap,
            window,
            capacity: n,
            pos,
        };
        let q: Vec<f32> = (0..m * heads * dim).map(|_| random.unit()).collect();
        let k: Vec<f32> = (0..n * kv_heads * dim).map(|_| random.unit()).collect();
        let v: Vec<f32> = (0..n * kv_heads * dim).map(|_| random.unit()).collect();
        let d_out: Vec<f32> = (0..q.len()).map(|_| random.unit()).collect();
        let forward = |q: &[f64], k: &[f64], v: &[f64]| -> f64 {
            let mut sum = 0.0;
            for t in 0..m {
                for h in 0..heads {
                    let kv = h / (heads / kv_heads);
                    let at = |j: usize| (j * kv_heads + kv) * dim;
                    let q_at = (t * heads + h) * dim;
                    let scores = a.visible(t).map(|j| {
                        let s: f64 = (0..dim).map(|i| q[q_at + i] * k[at(j) + i]).sum::<f64>() * 0.7f32 as f64;
                        softcap
                            .map_or(s, |cap| f64::from(cap) * (s / f64::from(cap)).tanh())
                            .exp()
                    });
                    let p: Vec<f64> = scores.collect();
                    let total: f64 = p.iter().sum();
                    for (j, p) in a.visible(t).zip(p) {
                        for i in 0..dim {
                            sum += p / total * v[at(j) + i] * f64::from(d_out[q_at + i]);
                        }
                    }
                }
            }
            sum
        };
        // Of the last case, which is about blocks of rows, a part.
        let some = |x: &[f32], f: &dyn Fn(&[f64]) -> f64| -> Vec<(usize, f64)> {
            let step = (x.len() / 60).max(1);
            let mut x = wide(x);
            (0..x.len())
                .step_by(step)
                .map(|i| {
                    let here = x[i];
                    x[i] = here + 1e-5;
                    let more = f(&x);
                    x[i] = here - 1e-5;
                    let less = f(&x);
                    x[i] = here;
                    (i, (more - less) / 2e-5)
                })
                .collect()
        };
        let expected = [
            some(&q, &|q| forward(q, &wide(&k), &wide(&v))),
            some(&k, &|k| forward(&wide(&q), k, &wide(&v))),
            some(&v, &|v| forward(&wide(&q), &wide(&k), v)),
        ];
        for cpu in levels(2).iter() {
            let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
            let (keys, values) = (KvBuf::F32(k.clone()), KvBuf::F32(v.clone()));
            cpu.attention_back(&a, &q, &keys, &values, &d_out, &mut dq, &mut dk, &mut dv);
            for (found, expected) in [&dq, &dk, &dv].into_iter().zip(&expected) {
                let size = expected.iter().fold(1e-3f64, |m, (_, e)| m.max(e.abs()));
                let found: Vec<f32> = expected.iter().map(|(i, _)| found[*i]).collect();
                let expected: Vec<f64> = expected.iter().map(|(_, e)| *e).collect();
                close(cpu.isa(), &found, &expected, |_| size, BOUND);
            }
        }
    }
}

#[test]
fn blocks_lead_back_as_differences_say() {
    const BOUND: f64 = 1e-5;
    let mut random = Random::new(31);
    for (size, count, m, shuffled) in [
        (1, 3, 2, false),
        (4, 3, 5, false),
        (2, 6, 3, true),
        (9, 2, 1, true),
        (32, 2, 4, false),
    ] {
        let n = size * count;
        let (x, blocks, dy) = (
            random.activations(m * n),
            random.activations(n * size),
            random.activations(m * n),
        );
        // Another order: every fifth element, n being no multiple of 5.
        let order = shuffled.then(|| (0..n).map(|p| (p * 5 % n) as u32).collect::<Vec<_>>());
        let place = |p: usize| order.as_ref().map_or(p, |o| o[p] as usize);
        let forward = |x: &[f64], blocks: &[f64]| -> f64 {
            let mut sum = 0.0;
            for (x, dy) in x.chunks(n).zip(dy.chunks(n)) {
                for p in 0..n {
                    let (block, j) = (p / size, p % size);
                    let y = |i: usize| x[place(block * size + i)] * blocks[(block * size + i) * size + j];
                    sum += f64::from(dy[place(p)]) * (0..size).map(y).sum::<f64>();
                }
            }
            sum
        };
        let by_x = differences(&x, &|x| forward(x, &wide(&blocks)));
        let by_blocks = differences(&blocks, &|blocks| forward(&wide(&x), blocks));
        for cpu in levels(2).iter() {
            let (mut d, mut d_blocks) = (dy.clone(), vec![1.0; blocks.len()]);
            cpu.blocks_back(&x, size, &blocks, order.as_deref(), &mut d, &mut d_blocks);
            close(cpu.isa(), &d, &by_x, |_| largest(&by_x), BOUND);
            let added: Vec<f64> = by_blocks.iter().map(|d| d + 1.0).collect();
            close(cpu.isa(), &d_blocks, &added, |_| largest(&added), BOUND);
        }
    }
}

#[test]
fn pairs_lead_back_as_differences_say() {
    const BOUND: f64 = 1e-5;
    let mut random = Random::new(32);
    for (n, m) in [(2, 1), (6, 4), (34, 3)] {
        let (y, dy) = (random.activations(m * n), random.activations(m * n));
        let (f, h) = (random.activations(n), random.activations(n));
        // Not only in pairs: the next one.
        let partner: Vec<u32> = (0..n).map(|j| ((j + 1) % n) as u32).collect();
        let forward = |y: &[f64], f: &[f64], h: &[f64]| -> f64 {
            let rows = y.chunks(n).zip(dy.chunks(n));
            rows.map(|(y, dy)| {
                let out = |j: usize| f[j] * y[j] + h[j] * y[partner[j] as usize];
                (0..n).map(|j| f64::from(dy[j]) * out(j)).sum::<f64>()
            })
            .sum()
        };
        let expected = [
            differences(&y, &|y| forward(y, &wide(&f), &wide(&h))),
            differences(&f, &|f| forward(&wide(&y), f, &wide(&h))),
            differences(&h, &|h| forward(&wide(&y), &wide(&f), h)),
        ];
        for cpu in levels(2).iter() {
            let (mut d, mut d_f, mut d_h) = (dy.clone(), vec![0.0; n], vec![0.0; n]);
            cpu.pairs_back(&y, &f, &h, &partner, &mut d, &mut d_f, &mut d_h);
            for (found, expected) in [&d, &d_f, &d_h].into_iter().zip(&expected) {
                close(cpu.isa(), found, expected, |_| largest(expected), BOUND);
            }
        }
    }
}

#[test]
fn kronecker_products_lead_back_as_differences_say() {
    const BOUND: f64 = 1e-5;
    let mut random = Random::new(33);
    for (o1, i1, o2, i2, m) in [(1, 1, 1, 1, 1), (2, 3, 4, 5, 3), (5, 1, 2, 9, 2), (8, 4, 3, 16, 4)] {
        let (w1, w2) = (random.activations(o1 * i1), random.activations(o2 * i2));
        let (x, dy) = (random.activations(m * i1 * i2), random.activations(m * o1 * o2));
        let forward = |w1: &[f64], w2: &[f64], x: &[f64]| -> f64 {
            let mut sum = 0.0;
            for t in 0..m {
                for row in 0..o1 * o2 {
                    let term =
                        |col: usize| w1[row / o2 * i1 + col / i2] * w2[row % o2 * i2 + col % i2] * x[t * i1 * i2 + col];
                    sum += 0.5 * f64::from(dy[t * o1 * o2 + row]) * (0..i1 * i2).map(term).sum::<f64>();
                }
            }
            sum
        };
        let expected = [
            differences(&x, &|x| forward(&wide(&w1), &wide(&w2), x)),
            differences(&w1, &|w1| forward(w1, &wide(&w2), &wide(&x))),
            differences(&w2, &|w2| forward(&wide(&w1), w2, &wide(&x))),
        ];
        for cpu in levels(2).iter() {
            let (mut dx, mut d1, mut d2) = (vec![0.0; x.len()], vec![0.0; w1.len()], vec![0.0; w2.len()]);
            cpu.kron_back((&w1, i1), (&w2, i2), 0.5, &x, &dy, &mut dx, &mut d1, &mut d2);
            for (found, expected) in [&dx, &d1, &d2].into_iter().zip(&expected) {
                close(cpu.isa(), found, expected, |_| largest(expected), BOUND);
            }
        }
    }
}

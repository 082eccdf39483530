//! The choice of a token. Oracle: sorting everything, in f64.

use crate::Random;
use crate::device::{Arg, Buf, Device};

struct Rules {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
}

const GREEDY: Rules = Rules {
    temperature: 0.0,
    top_k: 0,
    top_p: 1.0,
    min_p: 0.0,
};

fn words(rules: &Rules, unit: u64) -> Vec<u32> {
    let top_p = (f64::from(rules.top_p) * 2f64.powi(64)) as u64;
    let filters = u32::from(rules.top_p < 1.0) | u32::from(rules.min_p > 0.0) << 1;
    let floor = if rules.min_p > 0.0 { rules.min_p.ln() } else { 0.0 };
    vec![
        unit as u32,
        (unit >> 32) as u32,
        top_p as u32,
        (top_p >> 32) as u32,
        rules.temperature.to_bits(),
        floor.to_bits(),
        rules.top_k as u32,
        filters,
    ]
}

fn choose(device: &Device, logits: &Buf, n: usize, rules: &Rules, unit: u64) -> i32 {
    let (words, id) = (device.put(&words(rules, unit)), device.alloc(4));
    let args = [logits.arg(), Arg::Int(n as i32), words.arg(), id.arg()];
    device.launch("sample", [1, 1, 1], 1024, &args);
    id.read::<i32>()[0]
}

/// The token, and whether rounding may decide otherwise.
fn wanted(logits: &[f32], rules: &Rules, unit: f64) -> (i32, bool) {
    let mut all: Vec<usize> = (0..logits.len()).collect();
    all.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
    let highest = f64::from(logits[all[0]]);
    let share = |i: &usize, t: f32| ((f64::from(logits[*i]) - highest) / f64::from(t)).exp();
    if rules.top_k > 0 {
        all.truncate(rules.top_k);
    }
    let mut near = false;
    if rules.top_p < 1.0 {
        let target = f64::from(rules.top_p) * all.iter().map(|i| share(i, 1.0)).sum::<f64>();
        let mut sum = 0.0;
        let reach = all.iter().position(|i| {
            sum += share(i, 1.0);
            near |= (sum / target - 1.0).abs() < 1e-6;
            sum >= target
        });
        all.truncate(reach.map_or(all.len(), |n| n + 1));
    }
    if rules.min_p > 0.0 {
        let floor = logits[all[0]] + rules.min_p.ln();
        all.retain(|i| logits[*i] >= floor);
    }
    all.sort_unstable();
    let point = unit * all.iter().map(|i| share(i, rules.temperature)).sum::<f64>();
    let mut sum = 0.0;
    let chosen = all.iter().find(|i| {
        sum += share(i, rules.temperature);
        near |= (sum - point).abs() < 1e-6 * point.max(1e-3);
        sum > point
    });
    (*chosen.expect("the point is on the line") as i32, near)
}

#[test]
fn the_highest_is_taken() {
    let (device, random) = (Device::get(), &mut Random(16));
    for n in [1, 2, 31, 1025, 5000] {
        for round in 0..4 {
            let mut x = random.floats(n);
            match round {
                0 => {}
                // Negative ones alone.
                1 => x.iter_mut().for_each(|v| *v = -1.0 - v.abs()),
                // Equal ones: the first.
                2 => [n / 2, n - 1].iter().for_each(|i| x[*i] = 7.0),
                _ => x[..n / 2].fill(f32::NEG_INFINITY),
            }
            let best = (0..n).fold(0, |a, b| if x[b] > x[a] { b } else { a });
            assert_eq!(
                choose(&device, &device.put(&x), n, &GREEDY, 0),
                best as i32,
                "{n}, {round}"
            );
        }
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY] {
            let mut x = random.floats(n);
            x[n / 3] = bad;
            assert_eq!(choose(&device, &device.put(&x), n, &GREEDY, 0), -1);
        }
        assert_eq!(
            choose(&device, &device.put(&vec![f32::NEG_INFINITY; n]), n, &GREEDY, 0),
            -1
        );
    }
}

#[test]
fn tokens_are_drawn_as_by_sorting_everything() {
    let (device, random) = (Device::get(), &mut Random(18));
    let rules = |temperature, top_k, top_p, min_p| Rules {
        temperature,
        top_k,
        top_p,
        min_p,
    };
    let (mut drawn, mut unsure) = (0, 0);
    for (n, spread) in [(1, 1.0), (7, 3.0), (1000, 2.0), (1025, 9.0), (32000, 14.0)] {
        let mut logits: Vec<f32> = random.floats(n).iter().map(|v| spread * (*v + v * v * v)).collect();
        // Equal ones, and some that cannot be.
        for i in (0..n).step_by(5) {
            logits[i] = (logits[i] * 4.0).round() / 4.0;
        }
        for i in (3..n).step_by(11) {
            logits[i] = f32::NEG_INFINITY;
        }
        let x = device.put(&logits);
        for rules in [
            rules(1.0, 0, 1.0, 0.0),
            rules(0.3, 0, 1.0, 0.0),
            rules(30.0, 0, 1.0, 0.0),
            rules(0.8, 40, 1.0, 0.0),
            rules(1.0, 1, 1.0, 0.0),
            rules(1.0, 999, 1.0, 0.0),
            rules(0.8, 40, 0.9, 0.0),
            rules(1.3, 0, 0.5, 0.0),
            rules(1.0, 0, 0.0, 0.0),
            rules(1.0, 0, 0.9, 0.0),
            rules(2.0, 0, 1.0, 0.1),
            rules(2.0, 0, 1.0, 1.0),
            rules(1.0, 300, 0.99, 0.02),
            rules(1e-40, 0, 0.9, 0.0),
        ] {
            if rules.top_k >= n {
                continue;
            }
            for _ in 0..4 {
                let unit = random.next() >> 11 << 11;
                let (want, near) = wanted(&logits, &rules, unit as f64 / 2f64.powi(64));
                let got = choose(&device, &x, n, &rules, unit);
                drawn += 1;
                unsure += usize::from(near);
                let at = format!(
                    "{n} logits, temperature {}, k {}, p {}, min p {}",
                    rules.temperature, rules.top_k, rules.top_p, rules.min_p
                );
                assert!(got == want || near, "{at}: {got}, not {want}");
            }
        }
    }
    assert!(drawn > 200 && unsure < drawn / 20, "{unsure} of {drawn}");
}

#[test]
fn what_is_too_much_is_left_to_the_cpu() {
    let device = Device::get();
    let n = 5000;
    let flat = device.put(&vec![1.0f32; n]);
    let all = |top_k, top_p| Rules {
        temperature: 1.0,
        top_k,
        top_p,
        min_p: 0.0,
    };
    // Equal logits are equally near, also to the second of them.
    for rules in [all(0, 0.9), all(2, 1.0)] {
        assert_eq!(choose(&device, &flat, n, &rules, 1 << 63), -1);
    }
    // Without filters it is none: half of them lie before the middle.
    assert_eq!(choose(&device, &flat, n, &all(0, 1.0), 1 << 63), n as i32 / 2);
}

/// Oracle: the rules of `runtime/sampler.rs`, one by one.
#[test]
fn logits_are_edited() {
    let (device, random) = (Device::get(), &mut Random(19));
    let (n, count) = (3000, 700);
    let mut x = random.floats(n);
    let on = device.put(&x);
    let mut edits = Vec::new();
    for i in 0..count {
        let (id, seen) = (i * 4 + 1, i % 4);
        let bias = if i % 9 == 0 { f32::NEG_INFINITY } else { random.float() };
        edits.extend([id as u32, seen as u32, bias.to_bits()]);
        let l = &mut x[id];
        if seen > 0 {
            *l = if *l > 0.0 { *l / 1.3 } else { *l * 1.3 };
            *l -= seen as f32 * 0.4 + 0.2;
        }
        *l += bias;
    }
    let edits = device.put(&edits);
    let args = [
        on.arg(),
        edits.arg(),
        Arg::Int(count as i32),
        Arg::Float(1.3),
        Arg::Float(0.4),
        Arg::Float(0.2),
    ];
    device.launch("edit_logits", [count.div_ceil(256), 1, 1], 256, &args);
    assert_eq!(on.read::<f32>(), x);
}

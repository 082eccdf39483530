//! Oracles: sorting everything, frequencies, and the rules by hand.

use super::*;
use proptest::prelude::{Just, Strategy, prop, prop_assert, prop_assert_eq, prop_assume, prop_oneof, proptest};

fn sampler(vocab: usize, set: impl FnOnce(&mut SamplerOptions)) -> Sampler {
    let mut o = SamplerOptions {
        temperature: 1.0,
        ..Default::default()
    };
    set(&mut o);
    Sampler::new(o, vocab).unwrap()
}

/// The tokens that the filters leave, by sorting everything: the oracle for `last_kept`.
/// `slack` moves the top-p target, to find out where rounding may decide.
fn naive_kept(logits: &[f32], o: &SamplerOptions, slack: f64) -> Vec<u32> {
    let mut all: Vec<u32> = (0..logits.len() as u32)
        .filter(|&i| logits[i as usize] > f32::NEG_INFINITY)
        .collect();
    all.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
    if o.top_k > 0 {
        all.truncate(o.top_k);
    }
    let max = f64::from(logits[all[0] as usize]);
    let mass = |i: u32| (f64::from(logits[i as usize]) - max).exp();
    if o.top_p < 1.0 {
        let total: f64 = all.iter().map(|&i| mass(i)).sum();
        let mut sum = 0.0;
        let n = all.iter().position(|&i| {
            sum += mass(i);
            sum >= (f64::from(o.top_p) + slack) * total
        });
        all.truncate(n.map_or(all.len(), |n| n + 1));
    }
    if o.min_p > 0.0 {
        all.retain(|&i| logits[i as usize] >= max as f32 + o.min_p.ln());
    }
    all.sort();
    all
}

fn kept(s: &mut Sampler, logits: &[f32]) -> Vec<u32> {
    s.logits = logits.to_vec();
    let highest = scan::highest(logits).unwrap();
    let mut ids: Vec<u32> = if s.keep(highest) {
        s.kept.iter().map(|c| c.id).collect()
    } else {
        let all = (0u32..).zip(logits);
        all.filter(|(_, l)| **l > f32::NEG_INFINITY).map(|(id, _)| id).collect()
    };
    ids.sort_unstable();
    ids
}

proptest! {
    #[test]
    fn filters_match_sorted_reference(
        // A coarse grid makes ties common.
        grid in prop::collection::vec(prop_oneof![9 => (-40i32..40).prop_map(|v| v as f32 / 4.0), 1 => Just(f32::NEG_INFINITY)], 1..300),
        top_k in 0usize..320,
        top_p in prop_oneof![Just(0.0f32), Just(1.0), 0.0f32..1.0],
        min_p in prop_oneof![Just(0.0f32), Just(1.0), 0.0f32..1.0],
    ) {
        prop_assume!(grid.iter().any(|l| *l > f32::NEG_INFINITY));
        let mut s = sampler(grid.len(), |o| (o.top_k, o.top_p, o.min_p) = (top_k, top_p, min_p));
        let found = kept(&mut s, &grid);
        // f32 masses against f64 ones: 1e-6 of the mass decides either way.
        let either = [-1e-6, 0.0, 1e-6].map(|slack| naive_kept(&grid, &s.options, slack));
        prop_assert!(either.contains(&found), "{found:?} not in {either:?}");
    }

    #[test]
    fn greedy_is_the_first_of_the_highest(logits in prop::collection::vec(-3i32..3, 1..50)) {
        let logits: Vec<f32> = logits.into_iter().map(|v| v as f32).collect();
        let max = logits.iter().copied().fold(f32::MIN, f32::max);
        let first = logits.iter().position(|l| *l == max).unwrap() as u32;
        let mut s = sampler(logits.len(), |o| o.temperature = 0.0);
        prop_assert_eq!(s.sample(&logits, &[]).unwrap(), first);
    }

    #[test]
    fn a_drawn_token_is_a_kept_one(
        logits in prop::collection::vec(-8.0f32..8.0, 2..60), seed: u64, top_k in 0usize..10, top_p in 0.0f32..=1.0,
        temperature in 0.01f32..3.0,
    ) {
        let mut s = sampler(logits.len(), |o| {
            (o.seed, o.top_k, o.top_p, o.temperature) = (seed, top_k, top_p, temperature)
        });
        let allowed = kept(&mut s, &logits);
        for _ in 0..20 {
            prop_assert!(allowed.contains(&s.sample(&logits, &[]).unwrap()));
        }
    }
}

/// Oracle: the exact softmax. The seed is fixed, so this never flickers; 60 is beyond the 1 - 1e-6 quantile of
/// chi-square with 15 degrees of freedom (56.5).
#[test]
fn draws_follow_the_softmax() {
    let logits: Vec<f32> = (0..16).map(|i| ((i * 7) % 16) as f32 * 0.2).collect();
    for t in [0.5f32, 1.0, 1.7] {
        let mut s = sampler(16, |o| (o.temperature, o.seed) = (t, 1234));
        let draws = 200_000;
        let mut counts = [0.0f64; 16];
        for _ in 0..draws {
            counts[s.sample(&logits, &[]).unwrap() as usize] += 1.0;
        }
        let weights: Vec<f64> = logits.iter().map(|&l| (f64::from(l) / f64::from(t)).exp()).collect();
        let total: f64 = weights.iter().sum();
        let chi: f64 = (0..16)
            .map(|i| {
                let expected = f64::from(draws) * weights[i] / total;
                (counts[i] - expected).powi(2) / expected
            })
            .sum();
        println!("temperature {t}: chi-square {chi:.1}");
        assert!(chi < 60.0, "temperature {t}: chi-square {chi}");
    }
}

#[test]
fn penalties_and_bias_match_their_formulas() {
    let logits = [2.0, -2.0, 1.0, 0.5];
    let mut s = sampler(4, |o| {
        o.temperature = 0.0;
        (
            o.repeat_penalty,
            o.frequency_penalty,
            o.presence_penalty,
            o.repeat_last_n,
        ) = (2.0, 0.25, 0.5, 4);
        // In no order; of one token twice; of one that was seen.
        o.logit_bias = vec![(3, -1.5), (1, 0.75), (3, 0.25)];
    });
    // Token 2 is older than the last four; 99 is not in the vocabulary.
    s.sample(&logits, &[2, 0, 1, 0, 99]).unwrap();
    assert_eq!(
        s.logits,
        [
            2.0 / 2.0 - 2.0 * 0.25 - 0.5,
            -2.0 * 2.0 - 0.25 - 0.5 + 0.75,
            1.0,
            0.5 - 1.5 + 0.25
        ]
    );
    let edit = |id, seen, bias| Edit { id, seen, bias };
    assert_eq!(s.edits, [edit(0, 2, 0.0), edit(1, 1, 0.75), edit(3, 0, -1.25)]);
}

#[test]
fn a_ban_outlives_everything_and_an_impossible_choice_is_an_error() {
    let mut s = sampler(2, |o| o.logit_bias = vec![(1, f32::NEG_INFINITY)]);
    for _ in 0..100 {
        assert_eq!(s.sample(&[0.0, 50.0], &[]).unwrap(), 0);
    }
    assert!(s.sample(&[f32::NEG_INFINITY, 0.0], &[]).is_err());
    for bad in [f32::NAN, f32::INFINITY] {
        assert!(s.sample(&[0.0, bad], &[]).unwrap_err().to_string().contains("token 1"));
    }
    assert!(s.sample(&[0.0], &[]).is_err());
}

#[test]
fn options_out_of_range_are_named() {
    type Case = (&'static str, fn(&mut SamplerOptions));
    let cases: [Case; 9] = [
        ("temperature", |o| o.temperature = f32::NAN),
        ("temperature", |o| o.temperature = -0.1),
        ("top_p", |o| o.top_p = 1.5),
        ("top_p", |o| o.top_p = f32::NAN),
        ("min_p", |o| o.min_p = -0.5),
        ("repeat_penalty", |o| o.repeat_penalty = 0.0),
        ("frequency_penalty", |o| o.frequency_penalty = f32::INFINITY),
        ("presence_penalty", |o| o.presence_penalty = f32::NAN),
        ("logit_bias", |o| o.logit_bias = vec![(9, 1.0)]),
    ];
    for (name, set) in cases {
        let mut o = SamplerOptions::default();
        set(&mut o);
        let e = Sampler::new(o, 5).err().expect(name).to_string();
        assert!(e.contains(name), "{e}");
    }
}

#[test]
fn a_seed_repeats_and_extreme_temperatures_work() {
    let logits: Vec<f32> = (0..100).map(|i| (i as f32 * 0.7).sin() * 4.0).collect();
    let run = |seed, t: f32| {
        let mut s = sampler(100, |o| (o.seed, o.temperature) = (seed, t));
        (0..50).map(|_| s.sample(&logits, &[]).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(run(7, 1.0), run(7, 1.0));
    assert_ne!(run(7, 1.0), run(8, 1.0));
    let highest = scan::highest(&logits).unwrap();
    let best = logits.iter().position(|&l| l == highest).unwrap() as u32;
    assert!(run(1, f32::MIN_POSITIVE).iter().all(|&id| id == best));
    run(1, f32::MAX);
}

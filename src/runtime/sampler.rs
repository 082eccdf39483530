//! From logits to the next token.
//!
//! The steps, in this order:
//!
//! 1. *Penalties* for tokens in the last `repeat_last_n` tokens of the history (prompt included): a seen token's logit is
//!    divided by `repeat_penalty` where it is positive and multiplied where it is negative (the CTRL rule, as transformers
//!    and llama.cpp have it), then lowered by `count * frequency_penalty + presence_penalty` (the OpenAI rule).
//! 2. *Bias*: added after the penalties, so that it has the last word (a bias of `-inf` bans a token whatever came before).
//! 3. *Temperature 0*: the highest logit wins, the lowest id among equals. Nothing below applies.
//! 4. *top-k*, then *top-p*, then *min-p*: each looks at the model's own distribution (temperature 1), top-p at what top-k
//!    left. This is llama.cpp's order: which tokens are plausible does not depend on the temperature, so a high temperature
//!    varies among plausible tokens instead of letting implausible ones in. (transformers scales first.)
//! 5. *Temperature*: the logits that are left are divided by it, and one uniform number draws from their softmax.
//!
//! All filters keep a prefix of one total order (higher logit first, then lower id), so each is described by the last
//! candidate that it keeps. That needs selection, never a sort of the vocabulary, and the draw walks the ids in their own
//! order: the result does not depend on how the selection permuted its buffer.

use std::cmp::Ordering;

use super::scan;
use crate::error::{Error, Result};
use crate::rng::Rng;

/// How to choose the next token. The default is greedy.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerOptions {
    /// 0 takes the most likely token; 1 is the model's own distribution; above 1 flattens it. Finite, not negative.
    pub temperature: f32,
    /// Keep the `top_k` most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the smallest set of most likely tokens whose mass reaches `top_p`, in 0..=1; 1 keeps all, 0 keeps one.
    pub top_p: f32,
    /// Keep tokens at least `min_p` times as likely as the most likely one, in 0..=1; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen before; positive and finite; 1 is off.
    pub repeat_penalty: f32,
    /// How many of the last tokens count as seen; 0 is none, `usize::MAX` all.
    pub repeat_last_n: usize,
    /// Subtracted from a seen token's logit once per occurrence. Finite; negative values encourage repetition.
    pub frequency_penalty: f32,
    /// Subtracted from a seen token's logit once. Finite.
    pub presence_penalty: f32,
    /// Starts the random numbers: the same seed, options and logits give the same tokens.
    pub seed: u64,
    /// Added to the logits of these ids; finite, or `-inf` to ban a token.
    pub logit_bias: Vec<(u32, f32)>,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        SamplerOptions {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: 0,
            logit_bias: Vec::new(),
        }
    }
}

impl SamplerOptions {
    /// Checks every option.
    ///
    /// # Errors
    /// `Usage`, naming the option, what it may be and what it was.
    pub fn validate(&self) -> Result<()> {
        let check = |ok: bool, item: &str, expected: &str, found: f32| match ok {
            true => Ok(()),
            false => Err(Error::usage("sampling option out of range")
                .item(item)
                .expected(expected)
                .found(found)),
        };
        let t = self.temperature;
        check(t.is_finite() && t >= 0.0, "temperature", "a finite number >= 0", t)?;
        check(
            (0.0..=1.0).contains(&self.top_p),
            "top_p",
            "a number in 0..=1",
            self.top_p,
        )?;
        check(
            (0.0..=1.0).contains(&self.min_p),
            "min_p",
            "a number in 0..=1",
            self.min_p,
        )?;
        let r = self.repeat_penalty;
        check(r.is_finite() && r > 0.0, "repeat_penalty", "a finite number > 0", r)?;
        check(
            self.frequency_penalty.is_finite(),
            "frequency_penalty",
            "a finite number",
            self.frequency_penalty,
        )?;
        check(
            self.presence_penalty.is_finite(),
            "presence_penalty",
            "a finite number",
            self.presence_penalty,
        )?;
        for &(id, bias) in &self.logit_bias {
            let ok = bias.is_finite() || bias == f32::NEG_INFINITY;
            check(
                ok,
                &format!("logit_bias of token {id}"),
                "a finite number or -inf",
                bias,
            )?;
        }
        Ok(())
    }

    fn has_penalties(&self) -> bool {
        self.repeat_last_n > 0
            && (self.repeat_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0)
    }
}

/// A token that may be drawn, with its mass relative to the most likely token at temperature 1.
#[derive(Clone, Copy)]
struct Candidate {
    id: u32,
    logit: f32,
    mass: f32,
}

/// The one order that every filter cuts: higher logit first, then lower id. Logits are never NaN here.
fn rank(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// Chooses tokens; owns the random numbers and the scratch, so that nothing is allocated per token once warm.
///
/// ```
/// use graft::runtime::{Sampler, SamplerOptions};
/// let mut greedy = Sampler::new(SamplerOptions::default(), 3)?;
/// assert_eq!(greedy.sample(&[0.1, 2.0, -1.0], &[])?, 1);
/// # Ok::<(), graft::Error>(())
/// ```
pub struct Sampler {
    options: SamplerOptions,
    vocab: usize,
    rng: Rng,
    logits: Vec<f32>,
    seen: Vec<u32>,
    ids: Vec<u32>,
    masses: Vec<f64>,
    kept: Vec<Candidate>,
}

impl Sampler {
    /// A sampler for a vocabulary of `vocab` tokens.
    ///
    /// # Errors
    /// `Usage` where an option is out of range or a biased id is not in the vocabulary.
    pub fn new(options: SamplerOptions, vocab: usize) -> Result<Self> {
        options.validate()?;
        if vocab == 0 || u32::try_from(vocab).is_err() {
            return Err(Error::usage("vocabulary size out of range")
                .expected("1 to 2^32 - 1")
                .found(vocab));
        }
        if let Some((id, _)) = options.logit_bias.iter().find(|(id, _)| *id as usize >= vocab) {
            let e = Error::usage("token id is not in the vocabulary").item("logit_bias");
            return Err(e.expected(format!("below {vocab}")).found(id));
        }
        let rng = Rng::new(options.seed);
        Ok(Sampler {
            options,
            vocab,
            rng,
            logits: Vec::new(),
            seen: Vec::new(),
            ids: Vec::new(),
            masses: Vec::new(),
            kept: Vec::new(),
        })
    }

    /// The options it was made with.
    pub fn options(&self) -> &SamplerOptions {
        &self.options
    }

    /// Starts the random numbers again from the seed.
    pub fn reset(&mut self) {
        self.rng = Rng::new(self.options.seed);
    }

    /// Chooses a token from `logits` (one per token of the vocabulary); `history` is all tokens before it, oldest first.
    /// A logit of `-inf` means never.
    ///
    /// # Errors
    /// `Usage` where the number of logits is not the vocabulary's; `Invalid` where a logit is NaN or `+inf` (also after
    /// penalties), or no token is possible.
    pub fn sample(&mut self, logits: &[f32], history: &[u32]) -> Result<u32> {
        if logits.len() != self.vocab {
            return Err(Error::usage("wrong number of logits")
                .expected(self.vocab)
                .found(logits.len()));
        }
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        self.penalize(history);
        for &(id, bias) in &self.options.logit_bias {
            if let Some(l) = self.logits.get_mut(id as usize) {
                *l += bias;
            }
        }
        let highest = scan::highest(&self.logits).ok_or_else(|| not_a_number(&self.logits))?;
        if highest == f32::NEG_INFINITY {
            return Err(Error::invalid("no token is possible: every logit is -inf"));
        }
        Ok(if self.options.temperature == 0.0 {
            self.logits.iter().position(|&l| l == highest).unwrap_or(0) as u32
        } else if self.keep(highest) {
            self.draw_kept(highest)
        } else {
            self.draw(highest)
        })
    }

    /// Step 1: lowers what was seen.
    fn penalize(&mut self, history: &[u32]) {
        let o = &self.options;
        if !o.has_penalties() {
            return;
        }
        self.seen.clear();
        self.seen
            .extend_from_slice(&history[history.len().saturating_sub(o.repeat_last_n)..]);
        self.seen.sort_unstable();
        for same in self.seen.chunk_by(|a, b| a == b) {
            // An id outside the vocabulary cannot be drawn, so there is nothing to lower.
            let Some(l) = self.logits.get_mut(same[0] as usize) else {
                continue;
            };
            *l = if *l > 0.0 {
                *l / o.repeat_penalty
            } else {
                *l * o.repeat_penalty
            };
            *l -= same.len() as f32 * o.frequency_penalty + o.presence_penalty;
        }
    }

    /// Step 4: puts what top-k, top-p and min-p leave into `kept`, in any order; false if they are off and leave all.
    fn keep(&mut self, highest: f32) -> bool {
        let o = &self.options;
        let (k, p) = (o.top_k > 0 && o.top_k < self.vocab, o.top_p < 1.0);
        if k {
            select_top_k(&self.logits, o.top_k, highest, &mut self.kept);
            if p {
                let target = f64::from(o.top_p) * mass(&self.kept);
                let n = nucleus(&mut self.kept, target);
                self.kept.truncate(n);
            }
        } else if p {
            self.nucleus_of_all(highest);
        }
        let min_p = self.options.min_p;
        if min_p > 0.0 {
            let floor = highest + min_p.ln();
            if k || p {
                self.kept.retain(|c| c.logit >= floor);
            } else {
                self.collect(floor, highest);
            }
        }
        k || p || min_p > 0.0
    }

    /// top-p of the whole vocabulary: only the upper end is looked at one by one, and more of it only if it does not have the mass.
    fn nucleus_of_all(&mut self, highest: f32) {
        let target = f64::from(self.options.top_p) * scan::mass(&self.logits, highest, 1.0);
        for window in [4.0, 8.0, 16.0, f32::INFINITY] {
            self.collect((highest - window).max(f32::MIN), highest);
            if mass(&self.kept) >= target {
                break;
            }
        }
        let n = nucleus(&mut self.kept, target);
        self.kept.truncate(n);
    }

    /// Puts all tokens with logits from `floor` on into `kept`.
    fn collect(&mut self, floor: f32, highest: f32) {
        scan::from_floor(&self.logits, floor, &mut self.ids);
        self.kept.clear();
        self.kept.extend(self.ids.iter().map(|&id| {
            let logit = self.logits[id as usize];
            Candidate {
                id,
                logit,
                mass: scan::exp(logit - highest),
            }
        }));
    }

    /// Step 5: one draw from the softmax of `logit / temperature` over what is kept, in the order of ids.
    fn draw_kept(&mut self, highest: f32) -> u32 {
        let t = self.options.temperature;
        self.kept.sort_unstable_by_key(|c| c.id);
        for c in &mut self.kept {
            c.mass = scan::exp((c.logit - highest) / t);
        }
        let point = self.rng.unit() * mass(&self.kept);
        at_point(self.kept.iter().map(|c| (c.id, c.mass)), point)
    }

    /// The same over all tokens.
    fn draw(&mut self, highest: f32) -> u32 {
        /// Logits that are passed over at once.
        const BLOCK: usize = 1024;
        let scale = (1.0 / self.options.temperature).min(f32::MAX);
        let blocks = self.logits.chunks(BLOCK);
        self.masses.clear();
        self.masses
            .extend(blocks.map(|block| scan::mass(block, highest, scale)));
        let mut point = self.rng.unit() * self.masses.iter().sum::<f64>();
        // If rounding leaves a rest at the end, the last token with mass is it.
        let last = self.masses.iter().rposition(|&m| m > 0.0).unwrap_or(0);
        let mut block = 0;
        while block < last && point >= self.masses[block] {
            point -= self.masses[block];
            block += 1;
        }
        let first = block * BLOCK;
        let logits = &self.logits[first..self.logits.len().min(first + BLOCK)];
        let shares = logits.iter().map(|&l| scan::exp((l - highest) * scale));
        at_point((first as u32..).zip(shares), point)
    }
}

/// The token in whose share of the line the point lies; past the end, the last that has a share.
fn at_point(shares: impl Iterator<Item = (u32, f32)>, mut point: f64) -> u32 {
    let mut chosen = 0;
    for (id, share) in shares {
        if share > 0.0 {
            chosen = id;
            if point < f64::from(share) {
                break;
            }
            point -= f64::from(share);
        }
    }
    chosen
}

/// The error for logits of which one is NaN or `+inf`.
fn not_a_number(logits: &[f32]) -> Error {
    let e = Error::invalid("a logit is not a number that can be sampled from");
    match (0u32..).zip(logits).find(|(_, l)| l.is_nan() || **l == f32::INFINITY) {
        Some((id, logit)) => e
            .item(format!("token {id}"))
            .expected("a finite number or -inf")
            .found(logit),
        None => e,
    }
}

fn mass(c: &[Candidate]) -> f64 {
    c.iter().map(|c| f64::from(c.mass)).sum()
}

/// Puts the `k` first candidates in the order of [`rank`] into `kept`, in any order.
///
/// The buffer is cut back to `k` whenever it holds `2k`; from then on most logits fail one comparison.
fn select_top_k(logits: &[f32], k: usize, highest: f32, kept: &mut Vec<Candidate>) {
    let cut = |kept: &mut Vec<Candidate>| {
        kept.select_nth_unstable_by(k - 1, rank);
        kept.truncate(k);
        kept[k - 1].logit
    };
    kept.clear();
    let full = k.saturating_mul(2);
    let mut floor = f32::NEG_INFINITY;
    for (id, &logit) in (0u32..).zip(logits) {
        // An equal logit further on has a higher id, so it ranks behind all of the k.
        if logit > floor {
            kept.push(Candidate {
                id,
                logit,
                mass: scan::exp(logit - highest),
            });
            if kept.len() == full {
                floor = cut(kept);
            }
        }
    }
    if kept.len() > k {
        cut(kept);
    }
}

/// Moves the shortest prefix (in the order of [`rank`]) whose mass reaches `target`, or all, to the front; returns its length.
///
/// Selection by halving: where the better half of the open range does not reach the target it belongs to the prefix,
/// else the worse half does not; each step looks at half as many candidates.
fn nucleus(kept: &mut [Candidate], target: f64) -> usize {
    let (mut low, mut high, mut before) = (0, kept.len(), 0.0);
    while high - low > 1 {
        let half = (high - low) / 2;
        let open = &mut kept[low..high];
        open.select_nth_unstable_by(half - 1, rank);
        let better = before + mass(&open[..half]);
        if better < target {
            (low, before) = (low + half, better);
        } else {
            high = low + half;
        }
    }
    high
}

#[cfg(test)]
mod tests {
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
            o.logit_bias = vec![(3, -1.5)];
        });
        // Token 2 is older than the last four; 99 is not in the vocabulary.
        s.sample(&logits, &[2, 0, 1, 0, 99]).unwrap();
        assert_eq!(
            s.logits,
            [2.0 / 2.0 - 2.0 * 0.25 - 0.5, -2.0 * 2.0 - 0.25 - 0.5, 1.0, 0.5 - 1.5]
        );
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
}

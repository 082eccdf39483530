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
use crate::kernels::{Draw, Edit};
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
    /// Added to the logits of these ids; finite, or `-inf` to ban a token. Of an id that stands here more than once: their sum.
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
    /// Of each id once, by id.
    bias: Vec<(u32, f32)>,
    logits: Vec<f32>,
    seen: Vec<u32>,
    edits: Vec<Edit>,
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
        let mut bias = options.logit_bias.clone();
        bias.sort_by_key(|(id, _)| *id);
        bias.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                first.1 += later.1;
            }
            same
        });
        let rng = Rng::new(options.seed);
        Ok(Sampler {
            options,
            vocab,
            rng,
            bias,
            logits: Vec::new(),
            seen: Vec::new(),
            edits: Vec::new(),
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
        self.check(logits.len())?;
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        self.list_edits(history);
        for edit in &self.edits {
            let l = &mut self.logits[edit.id as usize];
            *l = edited(*l, edit, &self.options);
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

    /// As [`Sampler::sample`] of logits that a device has; `None` where `device` does not choose itself: they are to be read then.
    ///
    /// # Errors
    /// Those of `device`, and `Usage` where the number of logits is not the vocabulary's.
    pub(super) fn sample_by(
        &mut self,
        logits: usize,
        history: &[u32],
        device: impl FnOnce(&Draw) -> Result<Option<u32>>,
    ) -> Result<Option<u32>> {
        self.check(logits)?;
        let before = self.rng.clone();
        self.list_edits(history);
        let o = &self.options;
        let unit = match o.temperature {
            0.0 => 0.0,
            _ => self.rng.unit(),
        };
        let draw = Draw {
            edits: &self.edits,
            repeat_penalty: o.repeat_penalty,
            frequency_penalty: o.frequency_penalty,
            presence_penalty: o.presence_penalty,
            temperature: o.temperature,
            top_k: (o.top_k > 0 && o.top_k < self.vocab).then_some(o.top_k),
            top_p: (o.top_p < 1.0).then_some(o.top_p),
            min_p: (o.min_p > 0.0).then_some(o.min_p),
            unit,
        };
        let chosen = device(&draw);
        if !matches!(chosen, Ok(Some(_))) {
            self.rng = before;
        }
        chosen
    }

    fn check(&self, logits: usize) -> Result<()> {
        match logits == self.vocab {
            true => Ok(()),
            false => Err(Error::usage("wrong number of logits")
                .expected(self.vocab)
                .found(logits)),
        }
    }

    /// Steps 1 and 2, token by token: puts them into `edits`, by id.
    fn list_edits(&mut self, history: &[u32]) {
        let o = &self.options;
        self.seen.clear();
        if o.has_penalties() {
            let seen = &history[history.len().saturating_sub(o.repeat_last_n)..];
            // An id outside the vocabulary cannot be drawn, so there is nothing to lower.
            self.seen.extend(seen.iter().filter(|id| (**id as usize) < self.vocab));
            self.seen.sort_unstable();
        }
        self.edits.clear();
        let mut rest = &self.bias[..];
        for same in self.seen.chunk_by(|a, b| a == b) {
            let id = same[0];
            let (before, from) = rest.split_at(rest.partition_point(|(biased, _)| *biased < id));
            self.edits.extend(before.iter().map(only_biased));
            let (bias, after) = match from {
                [(biased, bias), after @ ..] if *biased == id => (*bias, after),
                _ => (0.0, from),
            };
            let seen = same.len() as u32;
            self.edits.push(Edit { id, seen, bias });
            rest = after;
        }
        self.edits.extend(rest.iter().map(only_biased));
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

fn only_biased(&(id, bias): &(u32, f32)) -> Edit {
    Edit { id, seen: 0, bias }
}

/// Steps 1 and 2 for one logit.
fn edited(mut logit: f32, edit: &Edit, o: &SamplerOptions) -> f32 {
    if edit.seen > 0 {
        if logit > 0.0 {
            logit /= o.repeat_penalty;
        } else {
            logit *= o.repeat_penalty;
        }
        logit -= edit.seen as f32 * o.frequency_penalty + o.presence_penalty;
    }
    logit + edit.bias
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
mod tests;

//! Least squares under rounding: the scale, or scale and offset, with which a few codes lose least of a block.
//!
//! For given codes the best scale is a quotient of sums, and for a given scale the best codes are the nearest, but each depends
//! on the other, with many local optima. So some scales are tried, spread around the one that maps the extreme value to the
//! last code, and the best is improved by turns. What a format rounds (a scale to a half) is tried on both sides, with codes
//! chosen anew. Errors are squared differences, weighted by importance where it is given and plain otherwise. All of it is f32
//! without fused operations, in a fixed order, so that the bytes do not depend on the machine's vector instructions.

use std::array::from_fn;

use half::f16;

/// The codes of a format, as numbers: all integers from `lo` to `hi`.
#[derive(Clone, Copy)]
pub(super) struct Codes {
    pub lo: f32,
    pub hi: f32,
}

impl Codes {
    /// The one furthest from zero.
    fn last(self) -> f32 {
        if -self.lo > self.hi { self.lo } else { self.hi }
    }
}

/// Where to map the extreme value of a block: `steps` places from `from` to `to` times the last code.
#[derive(Clone, Copy)]
pub(super) struct Spread {
    pub from: f32,
    pub to: f32,
    pub steps: u8,
}

/// A block's values and weights in units of their own, so that no square overflows or vanishes.
pub(super) struct Sample<const N: usize> {
    /// Fractions of `unit`.
    pub x: [f32; N],
    /// Fractions of the largest weight.
    pub w: [f32; N],
    /// Largest magnitude of the values.
    pub unit: f32,
}

/// Below this magnitude the least half scale, 6e-8, gives nothing but zeros.
const SMALLEST: f32 = 1e-12;

/// Columns without any importance still count this little, so that no part of a block is left to chance.
const LEAST_WEIGHT: f32 = 1e-10;

impl<const N: usize> Sample<N> {
    /// `None` if the block is zeros, or comes out as such. A block without a weight above zero counts all values alike.
    pub fn new(values: &[f32; N], importance: Option<&[f32; N]>) -> Option<Self> {
        let unit = largest(values);
        if unit < SMALLEST {
            return None;
        }
        let most = importance.map_or(0.0, largest);
        Some(Sample {
            x: values.map(|x| x / unit),
            w: importance
                .filter(|_| most > 0.0)
                .map_or([1.0; N], |w| w.map(|w| (w / most).max(LEAST_WEIGHT))),
            unit,
        })
    }

    /// The scale (in units) whose multiples come nearest to the values, among those that map the extreme value to the places
    /// that `spread` tells, and what follows from the best of these. Where the codes reach further on one side, so that
    /// the sign of the scale matters, both signs are tried.
    pub fn scale(&self, codes: Codes, spread: Spread) -> f32 {
        let (min, max) = min_max(&self.x);
        let even = codes.lo == -codes.hi || codes.lo == 0.0;
        let extreme = match codes.lo == -codes.hi {
            true => largest(&self.x),
            false => extreme(&self.x),
        };
        let one_sided = min >= 0.0 || max <= 0.0;
        let steps = if one_sided && !even {
            2 * spread.steps
        } else {
            spread.steps
        };
        let mut best = self.refit(codes.last() / extreme, codes);
        for n in 0..steps {
            let part = f32::from(n) / f32::from((steps - 1).max(1));
            let inv = codes.last() * (spread.from + (spread.to - spread.from) * part) / extreme;
            best = best.or(self.refit(inv, codes));
            if !(one_sided || even) {
                best = best.or(self.refit(-inv, codes));
            }
        }
        for _ in 0..TURNS {
            let new = self.refit(inverse(best.scale), codes);
            if new.gain <= best.gain {
                break;
            }
            best = new;
        }
        best.scale
    }

    /// The best scale for the codes that are nearest to `x inv`.
    pub fn refit(&self, inv: f32, codes: Codes) -> Refit {
        let q = self.x.map(|x| nearest(x * inv, codes));
        let wq = from_fn(|i| self.w[i] * q[i]);
        let (xq, qq) = (dot(&wq, &self.x), dot(&wq, &q));
        match qq > 0.0 {
            true => Refit {
                gain: xq * xq / qq,
                scale: xq / qq,
            },
            false => Refit { gain: 0.0, scale: 0.0 },
        }
    }

    /// The squared error of the nearest codes under `scale`.
    pub fn error(&self, scale: f32, codes: Codes) -> f32 {
        let inv = inverse(scale);
        let e = self.x.map(|x| x - scale * nearest(x * inv, codes));
        dot(&from_fn(|i| self.w[i] * e[i]), &e)
    }

    /// The half nearest to `scale` or the one on its other side, whichever loses less, and its squared error.
    pub fn half_scale(&self, scale: f32, codes: Codes) -> (f16, f32) {
        let error = |h: f16| (h, self.error(h.to_f32() / self.unit, codes));
        let [a, b] = halves_around(scale * self.unit).map(error);
        if b.1 < a.1 { b } else { a }
    }

    /// The codes for `scale` (of the values, not of the fractions).
    pub fn codes(&self, scale: f16, codes: Codes) -> [f32; N] {
        let inv = inverse(scale.to_f32() / self.unit);
        self.x.map(|x| nearest(x * inv, codes))
    }

    /// The sample of the values less `offset`, in the same units.
    pub fn less(&self, offset: f32) -> Self {
        Sample {
            x: self.x.map(|x| x - offset),
            ..*self
        }
    }

    /// The scale and the offset, at most `ceiling`, (in units) with which codes from 0 to `top` come nearest to the values.
    /// Tried are scales with which the values span a few codes less or more than there are, and for each the least value at the
    /// first code, the greatest at the last, and the middle between these.
    pub fn affine(&self, top: f32, ceiling: f32) -> (f32, f32) {
        let (min, max) = min_max(&self.x);
        let min = if min < ceiling { min } else { ceiling };
        if max <= min {
            return (0.0, min);
        }
        if let Some(scale) = step_of_grid(&self.x.map(|x| x - min), max - min, top) {
            return (scale, min);
        }
        let line = Line::new(self, min, ceiling, top);
        let mut best = Fit::NONE;
        for part in [0.0, 0.5, 1.0] {
            for n in 0..9u8 {
                let span = top + (f32::from(n) - 4.0) * (top + 1.0) / 32.0;
                let inv = span / (max - min);
                best = best.or(line.refit(inv, (span - top) * part / inv));
            }
        }
        for _ in 0..TURNS {
            let new = line.refit(inverse(best.scale), best.offset);
            if new.gain <= best.gain {
                break;
            }
            best = new;
        }
        (best.scale, best.offset + min)
    }
}

/// Relative differences of sums that mean nothing.
const NOISE: f32 = 2.0 * f32::EPSILON;
/// Turns of improvement by codes and scale, after which little is left to gain.
const TURNS: usize = 2;

/// A scale, and by how much it lowers the squared error below that of zeros.
#[derive(Clone, Copy)]
pub(super) struct Refit {
    gain: f32,
    pub scale: f32,
}

impl Refit {
    /// The better one; `self` where they differ by the rounding of sums only (a constant suits every code alike).
    fn or(self, other: Refit) -> Refit {
        if other.gain > self.gain + NOISE * self.gain {
            other
        } else {
            self
        }
    }
}

/// Scale and offset, and by how much they lower the squared error below that of the mean alone.
#[derive(Clone, Copy)]
struct Fit {
    gain: f32,
    scale: f32,
    offset: f32,
}

impl Fit {
    const NONE: Fit = Fit {
        gain: f32::MIN,
        scale: 0.0,
        offset: 0.0,
    };

    /// The better one; `self` where they differ by the rounding of sums only.
    fn or(self, other: Fit) -> Fit {
        if other.gain > self.gain + NOISE * self.gain.abs() {
            other
        } else {
            self
        }
    }
}

/// A linear regression of values on codes, its sums that do not depend on the codes done once.
struct Line<'a, const N: usize> {
    /// Values above the least, so that a common offset costs no precision.
    x: [f32; N],
    w: &'a [f32; N],
    wx: [f32; N],
    sum_w: f32,
    sum_wx: f32,
    sum_wxx: f32,
    /// The largest offset, above the least value.
    ceiling: f32,
    codes: Codes,
}

impl<'a, const N: usize> Line<'a, N> {
    fn new(sample: &'a Sample<N>, min: f32, ceiling: f32, top: f32) -> Self {
        let x = sample.x.map(|x| x - min);
        let wx = from_fn(|i| sample.w[i] * x[i]);
        Line {
            sum_w: dot(&sample.w, &[1.0; N]),
            sum_wx: dot(&wx, &[1.0; N]),
            sum_wxx: dot(&wx, &x),
            ceiling: ceiling - min,
            codes: Codes { lo: 0.0, hi: top },
            w: &sample.w,
            x,
            wx,
        }
    }

    /// The best scale and offset for the codes that are nearest to `(x - offset) inv`.
    fn refit(&self, inv: f32, offset: f32) -> Fit {
        let q = self.x.map(|x| nearest((x - offset) * inv, self.codes));
        let wq = from_fn(|i| self.w[i] * q[i]);
        let (sum_q, xq, qq) = (dot(&wq, &[1.0; N]), dot(&self.wx, &q), dot(&wq, &q));
        let mean = self.sum_wx / self.sum_w;
        let (covariance, variance) = (xq - mean * sum_q, qq - sum_q * sum_q / self.sum_w);
        if variance <= 0.0 || qq <= 0.0 {
            return Fit::NONE;
        }
        let scale = covariance / variance;
        let offset = mean - scale * sum_q / self.sum_w;
        if offset <= self.ceiling {
            return Fit {
                gain: scale * covariance,
                scale,
                offset,
            };
        }
        let offset = self.ceiling;
        let over = xq - offset * sum_q;
        let scale = over / qq;
        let about_mean = self.sum_wxx - mean * self.sum_wx;
        let about_offset = self.sum_wxx - 2.0 * offset * self.sum_wx + offset * offset * self.sum_w;
        Fit {
            gain: about_mean - (about_offset - scale * over),
            scale,
            offset,
        }
    }
}

/// A block of codes under one half scale: the scale and the codes.
pub(super) fn scaled<const N: usize>(
    values: &[f32; N],
    importance: Option<&[f32; N]>,
    codes: Codes,
    spread: Spread,
) -> (f16, [f32; N]) {
    if let Some(d) = exact(values, 0.0, codes) {
        let inv = inverse(d.to_f32());
        return (d, values.map(|x| nearest(x * inv, codes)));
    }
    let Some(sample) = Sample::new(values, importance) else {
        return (f16::ZERO, [0.0; N]);
    };
    let (mut best, mut least) = sample.half_scale(sample.scale(codes, spread), codes);
    if values.iter().all(|x| *x == values[0]) {
        // Every code fits a constant as well as the next, but for the rounding of the scale.
        let mut k = codes.last().abs();
        while k > 0.0 {
            let (d, error) = sample.half_scale(sample.x[0] * codes.last().signum() / k, codes);
            if error < least {
                (best, least) = (d, error);
            }
            k -= 1.0;
        }
    }
    (best, sample.codes(best, codes))
}

/// A block of codes from 0 to `top` under a half scale and a half offset: scale, offset and codes.
pub(super) fn offset<const N: usize>(
    values: &[f32; N],
    importance: Option<&[f32; N]>,
    top: f32,
) -> (f16, f16, [f32; N]) {
    let codes = Codes { lo: 0.0, hi: top };
    let (min, _) = min_max(values);
    let m = f16::from_f32(min);
    if let Some(d) = exact(values, min, codes).filter(|_| m.to_f32() == min) {
        let inv = inverse(d.to_f32());
        return (d, m, values.map(|x| nearest((x - min) * inv, codes)));
    }
    let Some(sample) = Sample::new(values, importance) else {
        return (f16::ZERO, f16::ZERO, [0.0; N]);
    };
    let (scale, offset) = sample.affine(top, f32::MAX);
    // Far from zero halves are far apart: with the offset on either side, what is left is a matter of the scale alone.
    let [a, b] = halves_around(offset * sample.unit).map(|m| {
        let rest = sample.less(m.to_f32() / sample.unit);
        let scale = match rest.refit(inverse(scale), codes).scale {
            0.0 => rest.scale(
                codes,
                Spread {
                    from: 1.0,
                    to: 1.0,
                    steps: 1,
                },
            ),
            scale => scale,
        };
        let (d, error) = rest.half_scale(scale, codes);
        (error, d, m, rest)
    });
    let (_, d, m, rest) = if b.0 < a.0 { b } else { a };
    (d, m, rest.codes(d, codes))
}

/// If all values are codes times one half (plus `offset`, in the order in which blocks are expanded), that half: what was
/// expanded from a block comes back as it was.
pub(super) fn exact<const N: usize>(values: &[f32; N], offset: f32, codes: Codes) -> Option<f16> {
    /// Bits of an f32 that a half does not have.
    const BEYOND_HALF: u32 = (1 << 13) - 1;
    let e = extreme(&values.map(|x| x - offset));
    // A positive scale will do, but for the code that has no counterpart of the other sign.
    let scales = std::iter::successors(Some(codes.hi), |k| Some(k - 1.0)).take_while(|k| *k > 0.0);
    let scales = [codes.last()].into_iter().chain(scales).map(|k| (k, e / k));
    for (k, d) in scales {
        let d = if k < 0.0 { d } else { d.abs() };
        if d.to_bits() & BEYOND_HALF == 0 && (d * k).abs() == e.abs() {
            let inv = inverse(d);
            let is_code = |x: &f32| d * nearest((x - offset) * inv, codes) + offset == *x;
            let half = f16::from_f32(d);
            if half.to_f32() == d && values.iter().all(is_code) {
                return Some(half);
            }
        }
    }
    None
}

/// The step, if all values (from 0 to `range`) are whole steps, at most `top` of them: what was expanded from a block comes
/// back with the scale that it had.
fn step_of_grid(values: &[f32], range: f32, top: f32) -> Option<f32> {
    /// In steps: more than the rounding of values, less than chance.
    const TOLERANCE: f32 = 1e-3;
    let mut steps = top;
    while steps > 0.0 {
        let inv = steps / range;
        if values
            .iter()
            .all(|x| (x * inv - nearest(x * inv, Codes { lo: 0.0, hi: top })).abs() < TOLERANCE)
        {
            return Some(range / steps);
        }
        steps -= 1.0;
    }
    None
}

/// The half nearest to `v` and its neighbour on the other side of `v`, both finite.
pub(super) fn halves_around(v: f32) -> [f16; 2] {
    const LARGEST: u16 = 0x7BFF;
    let near = f16::from_f32(v).to_bits();
    let (sign, near) = (near & 0x8000, (near & 0x7FFF).min(LARGEST));
    let above = v.abs() > f16::from_bits(near).to_f32();
    let other = if above {
        (near + 1).min(LARGEST)
    } else {
        near.saturating_sub(1)
    };
    [near, other].map(|bits| f16::from_bits(bits | sign))
}

/// 1/d, or 0 where d is 0.
pub(super) fn inverse(d: f32) -> f32 {
    if d != 0.0 { 1.0 / d } else { 0.0 }
}

/// The code nearest to `v`, which may be of any size; of two the even one.
#[inline(always)]
pub(super) fn nearest(v: f32, codes: Codes) -> f32 {
    // Adding 1.5 * 2^23 leaves no bit for a fraction: baseline x86-64 has no instruction for rounding.
    const NO_FRACTION: f32 = 12_582_912.0;
    let v = if v > codes.lo { v } else { codes.lo };
    let v = if v < codes.hi { v } else { codes.hi };
    (v + NO_FRACTION) - NO_FRACTION
}

/// The sum of products, in eight lanes: an order of additions that vector instructions can keep. `N` is a multiple of 8.
#[inline(always)]
pub(super) fn dot<const N: usize>(a: &[f32; N], b: &[f32; N]) -> f32 {
    let mut lanes = [0.0f32; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (b + f)) + ((c + g) + (d + h))
}

/// The least and the greatest element of `values`, which are finite.
pub(super) fn min_max(values: &[f32]) -> (f32, f32) {
    values.iter().fold((f32::MAX, f32::MIN), |(min, max), &v| {
        (if v < min { v } else { min }, if v > max { v } else { max })
    })
}

/// The element of largest magnitude, with its sign; the first of several, 0 for none.
pub(super) fn extreme(values: &[f32]) -> f32 {
    values
        .iter()
        .fold(0.0, |best: f32, &v| if best.abs() < v.abs() { v } else { best })
}

/// The largest magnitude.
pub(super) fn largest<const N: usize>(values: &[f32; N]) -> f32 {
    extreme(values).abs()
}

//! Least squares for the blocks of 256: sub-blocks with a scale of their own, which is itself a code of few bits.
//!
//! Each sub-block is fitted alone first. Then the sub-scales are rounded to codes under a common half scale, each sub-block
//! takes the codes (of its scale, its minimum, its values) that lose least under it, the common scales follow by least squares
//! from all of these, and so on while the error falls.

use half::f16;

use super::fit::{Codes, Sample, Spread, dot, halves_around, inverse, largest, min_max, nearest};

/// A squared error, in units of the block, that is rounding of sums only: what was expanded from a block came back.
const EXACT: f32 = 1e-11;
/// Rounds of choosing sub-block codes and common scales by turns.
const ROUNDS: usize = 3;

/// A block of 8 sub-blocks with scale and minimum: `y = (d s) q - (dmin m)`, all codes not negative.
pub(super) struct WithMins {
    pub d: f16,
    pub dmin: f16,
    /// `(s, m)`, each 0 to 63.
    pub subs: [(u8, u8); 8],
    pub codes: [[u8; 32]; 8],
}

impl WithMins {
    const ZEROS: WithMins = WithMins {
        d: f16::ZERO,
        dmin: f16::ZERO,
        subs: [(0, 0); 8],
        codes: [[0; 32]; 8],
    };
}

/// Largest code of a sub-scale or sub-minimum.
const SUB_TOP: f32 = 63.0;

/// Fits a block with codes from 0 to `top`.
pub(super) fn with_mins(values: &[f32; 256], importance: Option<&[f32; 256]>, top: f32) -> WithMins {
    let Some(whole) = Sample::new(values, importance) else {
        return WithMins::ZEROS;
    };
    if let Some((half, code)) = constant(values, 63) {
        return WithMins {
            dmin: -half,
            subs: [(0, code); 8],
            ..WithMins::ZEROS
        };
    }
    // A minimum lies at or below zero. Where sub-blocks lie above zero the mirrored block suits the format better; the signs
    // of both common scales mirror it back.
    let x = whole.x.as_chunks::<32>().0;
    let [above, below] = x.iter().fold([0.0f32; 2], |[above, below], x| {
        let (min, max) = min_max(x);
        [above.max(min), below.max(-max)]
    });
    let sign = if above > below { -1.0 } else { 1.0 };
    let unit = whole.unit * sign;
    let weights = whole.w.as_chunks::<32>().0;
    let samples: [Sample<32>; 8] = std::array::from_fn(|j| Sample {
        x: x[j].map(|x| x * sign),
        w: weights[j],
        unit: 1.0,
    });
    let ideal = samples.each_ref().map(|s| {
        let (scale, offset) = s.affine(top, 0.0);
        (scale.max(0.0), (-offset).max(0.0))
    });
    let most = |pick: fn(&(f32, f32)) -> f32| ideal.iter().map(pick).fold(0.0, f32::max) / SUB_TOP;
    let mut common = [
        round_up_from_zero(most(|i| i.0) * unit),
        round_up_from_zero(most(|i| i.1) * unit),
    ];
    let mut best: Option<(f32, [f16; 2], [Sub; 8])> = None;
    for _ in 0..ROUNDS {
        let [d, dmin] = common.map(|c| c.to_f32() / unit);
        let subs: [Sub; 8] = std::array::from_fn(|j| Sub::choose(&samples[j], ideal[j], d, dmin, top));
        let error = subs.iter().map(|s| s.error).sum();
        if best.as_ref().is_some_and(|(least, ..)| *least <= error) {
            break;
        }
        let next = common_scales(&samples, &subs, top, [d, dmin]);
        best = Some((error, common, subs));
        if error < EXACT {
            break;
        }
        common = next.map(|c| f16_finite(c * unit));
    }
    let Some((_, [d, dmin], subs)) = best else {
        return WithMins::ZEROS;
    };
    WithMins {
        d,
        dmin,
        subs: subs.each_ref().map(|s| (s.scale as u8, s.min as u8)),
        codes: std::array::from_fn(|j| subs[j].codes(&samples[j], top).map(|q| q as u8)),
    }
}

/// What a sub-block is given: the codes of its scale and minimum, what they come to, and the squared error.
struct Sub {
    scale: f32,
    min: f32,
    /// `d s` and `dmin m`.
    values: (f32, f32),
    error: f32,
}

impl Sub {
    /// The best of the scale codes on both sides of the ideal, each with the minimum codes around what suits it.
    fn choose(sample: &Sample<32>, ideal: (f32, f32), d: f32, dmin: f32, top: f32) -> Sub {
        let sub = |scale: f32, min: f32| {
            let values = (d * scale, dmin * min);
            Sub {
                scale,
                min,
                values,
                error: error(sample, values, top),
            }
        };
        let mut best = sub(0.0, 0.0);
        let mut consider = |new: Sub| {
            if new.error < best.error {
                best = new;
            }
        };
        for scale in around(ideal.0 * inverse(d)) {
            // With the scale given, the best minimum is the mean distance to the codes.
            let q = codes(sample, (d * scale, ideal.1), top);
            let off: [f32; 32] = std::array::from_fn(|i| d * scale * q[i] - sample.x[i]);
            let mean = dot(&off, &sample.w) * inverse(dot(&sample.w, &[1.0; 32]));
            for min in around(mean * inverse(dmin)) {
                consider(sub(scale, min));
            }
        }
        best
    }

    fn codes(&self, sample: &Sample<32>, top: f32) -> [f32; 32] {
        codes(sample, self.values, top)
    }
}

/// The two codes of a sub-scale next to `v`.
fn around(v: f32) -> [f32; 2] {
    let low = v.floor().clamp(0.0, SUB_TOP);
    [low, (low + 1.0).min(SUB_TOP)]
}

/// The codes nearest to the values under a scale and a minimum.
fn codes(sample: &Sample<32>, (scale, min): (f32, f32), top: f32) -> [f32; 32] {
    let inv = inverse(scale);
    sample.x.map(|x| nearest((x + min) * inv, Codes { lo: 0.0, hi: top }))
}

fn error(sample: &Sample<32>, values: (f32, f32), top: f32) -> f32 {
    let q = codes(sample, values, top);
    let e: [f32; 32] = std::array::from_fn(|i| sample.x[i] + values.1 - values.0 * q[i]);
    dot(&std::array::from_fn(|i| sample.w[i] * e[i]), &e)
}

/// The common scales that suit all codes best: least squares in two unknowns. What the data do not determine stays as it is.
fn common_scales(samples: &[Sample<32>; 8], subs: &[Sub; 8], top: f32, old: [f32; 2]) -> [f32; 2] {
    let (mut aa, mut ab, mut bb, mut ax, mut bx) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (sample, sub) in samples.iter().zip(subs) {
        let q = sub.codes(sample, top);
        let wq: [f32; 32] = std::array::from_fn(|i| sample.w[i] * q[i]);
        let (s, m) = (sub.scale, -sub.min);
        aa += s * s * dot(&wq, &q);
        ab += s * m * dot(&wq, &[1.0; 32]);
        bb += m * m * dot(&sample.w, &[1.0; 32]);
        ax += s * dot(&wq, &sample.x);
        bx += m * dot(&sample.w, &sample.x);
    }
    let det = aa * bb - ab * ab;
    if det > 1e-4 * aa * bb {
        return [(ax * bb - bx * ab) / det, (bx * aa - ax * ab) / det];
    }
    let [d, dmin] = old;
    [if aa > 0.0 { (ax - ab * dmin) / aa } else { d }, dmin]
}

/// A block of 16 sub-blocks of 16 with a signed scale each: `y = (d s) q`.
pub(super) struct Signed {
    pub d: f16,
    pub scales: [i8; 16],
    /// In the range of the codes that was asked for.
    pub codes: [[f32; 16]; 16],
}

/// Fits a block without minimums.
pub(super) fn signed(values: &[f32; 256], importance: Option<&[f32; 256]>, range: Codes, spread: Spread) -> Signed {
    let zeros = Signed {
        d: f16::ZERO,
        scales: [0; 16],
        codes: [[0.0; 16]; 16],
    };
    let Some(whole) = Sample::new(values, importance) else {
        return zeros;
    };
    if let Some((d, code)) = constant(values, 127) {
        return Signed {
            d,
            scales: [code.cast_signed(); 16],
            codes: [[1.0; 16]; 16],
        };
    }
    let (x, w) = (whole.x.as_chunks::<16>().0, whole.w.as_chunks::<16>().0);
    let samples: [Sample<16>; 16] = std::array::from_fn(|j| Sample {
        x: x[j],
        w: w[j],
        unit: 1.0,
    });
    let ideal = samples.each_ref().map(|s| match largest(&s.x) > 0.0 {
        true => s.scale(range, spread),
        false => 0.0,
    });
    // The largest sub-scale gets the code that reaches furthest.
    let mut d = round_up_from_zero(super::fit::extreme(&ideal) * whole.unit / -128.0);
    let mut best: Option<(f32, f16, [f32; 16])> = None;
    for _ in 0..ROUNDS {
        let step = d.to_f32() / whole.unit;
        let (mut error, mut uu, mut ux) = (0.0, 0.0, 0.0);
        let scales: [f32; 16] = std::array::from_fn(|j| {
            let low = (ideal[j] * inverse(step)).floor().clamp(-128.0, 127.0);
            let at = |s: f32| (samples[j].error(step * s, range), s);
            let [a, b] = [at(low), at((low + 1.0).min(127.0))];
            let (e, s) = if b.0 < a.0 { b } else { a };
            let q = samples[j].x.map(|x| nearest(x * inverse(step * s), range));
            let wq: [f32; 16] = std::array::from_fn(|i| samples[j].w[i] * q[i]);
            error += e;
            uu += s * s * dot(&wq, &q);
            ux += s * dot(&wq, &samples[j].x);
            s
        });
        if best.as_ref().is_some_and(|(least, ..)| *least <= error) {
            break;
        }
        best = Some((error, d, scales));
        if error < EXACT {
            break;
        }
        d = f16_finite(ux * inverse(uu) * whole.unit);
    }
    let Some((_, d, scales)) = best else { return zeros };
    let step = d.to_f32() / whole.unit;
    Signed {
        d,
        scales: scales.map(|s| s as i8),
        codes: std::array::from_fn(|j| samples[j].x.map(|x| nearest(x * inverse(step * scales[j]), range))),
    }
}

/// If all values are one, the half and the code, up to `most`, whose product comes nearest to it.
fn constant(values: &[f32; 256], most: u8) -> Option<(f16, u8)> {
    let value = values[0];
    if values.iter().any(|x| *x != value) {
        return None;
    }
    let product = |code: u8| {
        let half = f16_finite(value / f32::from(code));
        ((half.to_f32() * f32::from(code) - value).abs(), half, code)
    };
    let best = (1..=most).map(product).min_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, half, code)| (half, code))
}

/// The nearest half, finite.
fn f16_finite(v: f32) -> f16 {
    halves_around(v)[0]
}

/// The same, but the least half for what would become zero: a coarse scale is better than none.
fn round_up_from_zero(v: f32) -> f16 {
    let [near, other] = halves_around(v);
    if near.to_f32() == 0.0 { other } else { near }
}

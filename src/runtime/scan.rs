//! Passes over a whole vocabulary, which sampling makes once a token: plain loops that the compiler turns into vectors, on x86-64 also
//! for AVX2.

/// Logits whose sum is taken in f32 before it goes to f64.
const BLOCK: usize = 64;

/// Defines functions by their portable bodies; on x86-64 each is compiled for AVX2 too and takes that where there is one.
macro_rules! for_levels {
    ($($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $of:ty),*) -> $out:ty $body:block)*) => {$(
        $(#[$doc])*
        $vis fn $name($($arg: $of),*) -> $out {
            #[inline(always)]
            fn portable($($arg: $of),*) -> $out $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $of),*) -> $out {
                    portable($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                    // SAFETY: the CPU has what the function asks for, as just found.
                    return unsafe { avx2($($arg),*) };
                }
            }
            portable($($arg),*)
        }
    )*};
}

/// e^x for x <= 0, to 2 ulp; 0 where that is below the smallest normal number. x = n ln 2 + r, e^r by its series to r^7/7!.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.max(-87.0);
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, the first with so few bits that n times it is exact.
    let r = clamped - n * 0.693_359_4;
    let r = r + n * 2.121_944_4e-4;
    let mut p = 1.0 / 5040.0;
    for term in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p * r + term;
    }
    let power = (shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits());
    let e = p * f32::from_bits(power);
    if x < -87.0 { 0.0 } else { e }
}

for_levels! {
    /// The highest logit; `None` if one is NaN or `+inf`.
    pub fn highest(logits: &[f32]) -> Option<f32> {
        let mut lanes = [f32::NEG_INFINITY; 16];
        let mut bad = [false; 16];
        let (chunks, rest) = logits.as_chunks::<16>();
        for chunk in chunks {
            for i in 0..16 {
                lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
                bad[i] |= chunk[i].is_nan() | (chunk[i] == f32::INFINITY);
            }
        }
        let bad = bad.contains(&true) || rest.iter().any(|l| l.is_nan() || *l == f32::INFINITY);
        let highest = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        if bad { None } else { Some(highest) }
    }

    /// The sum of exp((logit - highest) * scale).
    pub fn mass(logits: &[f32], highest: f32, scale: f32) -> f64 {
        let mut total = 0.0;
        for block in logits.chunks(BLOCK) {
            let mut lanes = [0.0f32; 16];
            let (chunks, rest) = block.as_chunks::<16>();
            for chunk in chunks {
                for i in 0..16 {
                    lanes[i] += exp((chunk[i] - highest) * scale);
                }
            }
            total += lanes.iter().map(|&l| f64::from(l)).sum::<f64>();
            total += rest.iter().map(|&l| f64::from(exp((l - highest) * scale))).sum::<f64>();
        }
        total
    }

    /// Puts the ids of logits from `floor` on into `ids`, ascending.
    pub fn from_floor(logits: &[f32], floor: f32, ids: &mut Vec<u32>) -> () {
        ids.clear();
        for (at, block) in logits.chunks(32).enumerate() {
            // Most blocks have none.
            let mut any = false;
            for l in block {
                any |= *l >= floor;
            }
            if any {
                let found = (32 * at as u32..).zip(block).filter(|(_, l)| **l >= floor);
                ids.extend(found.map(|(id, _)| id));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Oracle: f64.
    #[test]
    fn exp_is_exp() {
        for i in 0..200_000 {
            let x = -(i as f32) * 5e-4;
            let (got, want) = (f64::from(exp(x)), f64::from(x).exp());
            let bound = if x < -87.0 { 1e-37 } else { 2.5e-7 * want };
            assert!((got - want).abs() <= bound, "exp({x}): {got}, not {want}");
        }
        assert_eq!((exp(0.0), exp(f32::NEG_INFINITY)), (1.0, 0.0));
    }

    /// Oracle: the definitions, one by one.
    #[test]
    fn passes_see_every_logit() {
        for n in [1, 15, 16, 17, 64, 100, 1000] {
            let logits: Vec<f32> = (0..n).map(|i| ((i * 7919) % 1009) as f32 / 40.0 - 20.0).collect();
            let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(highest(&logits), Some(top));
            let want: f64 = logits.iter().map(|&l| (f64::from(l - top) * 0.5).exp()).sum();
            assert!((mass(&logits, top, 0.5) - want).abs() < 1e-6 * want);
            let mut ids = vec![7];
            from_floor(&logits, 0.0, &mut ids);
            let want: Vec<u32> = (0..n as u32).filter(|&i| logits[i as usize] >= 0.0).collect();
            assert_eq!(ids, want);
            for bad in [f32::NAN, f32::INFINITY] {
                for at in [0, n - 1] {
                    let mut logits = logits.clone();
                    logits[at] = bad;
                    assert_eq!(highest(&logits), None);
                }
            }
        }
        assert_eq!(highest(&[f32::NEG_INFINITY; 40]), Some(f32::NEG_INFINITY));
    }
}

//! Rotations from skew-symmetric matrices, as OFT and BOFT learn them.

use crate::error::{Error, Result};

/// R = (I - Q) (I + Q)^-1 of a skew-symmetric Q `[n][n]` (Cayley): orthogonal. In f64, by Gauss-Jordan elimination with row exchange.
///
/// # Errors
/// I + Q cannot be inverted: Q holds numbers too large.
pub fn cayley(q: &[f64], n: usize) -> Result<Vec<f64>> {
    let delta = |i: usize, j: usize| if i == j { 1.0 } else { 0.0 };
    // R (I + Q) = I - Q: transposed, (I + Q)^T R^T = (I - Q)^T.
    let at = |sign: f64| -> Vec<f64> {
        (0..n * n)
            .map(|p| delta(p / n, p % n) + sign * q[(p % n) * n + p / n])
            .collect()
    };
    let (mut left, mut right) = (at(1.0), at(-1.0));
    for col in 0..n {
        let larger = |a: &usize, b: &usize| left[a * n + col].abs().total_cmp(&left[b * n + col].abs());
        let pivot = (col..n).max_by(larger).unwrap_or(col);
        let value = left[pivot * n + col];
        if value.abs().partial_cmp(&1e-12) != Some(std::cmp::Ordering::Greater) || !value.is_finite() {
            return Err(Error::invalid(
                "a rotation cannot be computed: its numbers are too large",
            ));
        }
        for m in [&mut left, &mut right] {
            for j in 0..n {
                m.swap(pivot * n + j, col * n + j);
            }
            m[col * n..][..n].iter_mut().for_each(|v| *v /= value);
        }
        for row in (0..n).filter(|row| *row != col) {
            let factor = left[row * n + col];
            if factor != 0.0 {
                for m in [&mut left, &mut right] {
                    for j in 0..n {
                        m[row * n + j] -= factor * m[col * n + j];
                    }
                }
            }
        }
    }
    Ok((0..n * n).map(|p| right[(p % n) * n + p / n]).collect())
}

/// PEFT's truncated Neumann series for (I + Q) (I - Q)^-1: I + 2Q + 2Q² + … with the last power once, `terms` terms of which 3 and 4 give
/// the same (peft/tuners/oft/layer.py).
pub fn neumann(q: &[f64], n: usize, terms: usize) -> Vec<f64> {
    let mut r: Vec<f64> = (0..n * n).map(|p| if p / n == p % n { 1.0 } else { 0.0 }).collect();
    let mut add = |m: &[f64], factor: f64| r.iter_mut().zip(m).for_each(|(r, m)| *r += factor * m);
    if terms > 1 {
        add(q, 2.0);
    }
    if terms > 2 {
        let mut power = product(q, q, n);
        add(&power, 2.0);
        for _ in 3..terms.max(4) - 1 {
            power = product(&power, q, n);
            add(&power, 2.0);
        }
        power = product(&power, q, n);
        add(&power, 1.0);
    }
    r
}

/// From the gradient g by R = [`cayley`] of Q, which is `r`, to that by Q: -(I + R)^T G (I - Q)^-1, where (I - Q)^-1 is half of
/// (I + R)^T because Q^T = -Q.
pub fn cayley_back(r: &[f64], g: &[f64], n: usize) -> Vec<f64> {
    let turned: Vec<f64> = (0..n * n)
        .map(|p| f64::from(u8::from(p / n == p % n)) + r[(p % n) * n + p / n])
        .collect();
    let mut d = product(&product(&turned, g, n), &turned, n);
    d.iter_mut().for_each(|d| *d *= -0.5);
    d
}

/// From the gradient g by [`neumann`]'s result to that by Q.
pub fn neumann_back(q: &[f64], g: &[f64], n: usize, terms: usize) -> Vec<f64> {
    let highest = match terms {
        0 | 1 => return vec![0.0; n * n],
        2 => 1,
        _ => terms.max(4) - 1,
    };
    let factor = |power: usize| if power == highest && highest > 1 { 1.0 } else { 2.0 };
    let turn = |m: &[f64]| -> Vec<f64> { (0..n * n).map(|p| m[(p % n) * n + p / n]).collect() };
    // powers[k] is the transpose of Q^(k+1).
    let mut powers = vec![turn(q)];
    for k in 1..highest {
        powers.push(product(&powers[0], &powers[k - 1], n));
    }
    let scaled = |factor: f64| g.iter().map(move |g| factor * g);
    let mut by_q = vec![0.0; n * n];
    let mut by_power: Vec<f64> = scaled(factor(highest)).collect();
    for k in (1..highest).rev() {
        // Of Q^(k+1) = Q^k Q.
        let more = product(&powers[k - 1], &by_power, n);
        by_q.iter_mut().zip(more).for_each(|(d, m)| *d += m);
        by_power = product(&by_power, &powers[0], n);
        by_power.iter_mut().zip(scaled(factor(k))).for_each(|(d, m)| *d += m);
    }
    by_q.iter_mut().zip(by_power).for_each(|(d, m)| *d += m);
    by_q
}

fn product(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
    let mut out = vec![0.0; n * n];
    for (out, a) in out.chunks_exact_mut(n).zip(a.chunks_exact(n)) {
        for (f, b) in a.iter().zip(b.chunks_exact(n)) {
            out.iter_mut().zip(b).for_each(|(o, b)| *o += f * b);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cayley_rotation_solves_its_equation_and_is_orthogonal() {
        let n = 5;
        let mut q = vec![0.0; n * n];
        for i in 0..n {
            for j in i + 1..n {
                q[i * n + j] = (i * 7 + j * 3) as f64 % 5.0 - 2.0;
                q[j * n + i] = -q[i * n + j];
            }
        }
        let r = cayley(&q, n).unwrap();
        let plus: Vec<f64> = (0..n * n).map(|p| f64::from(u8::from(p / n == p % n)) + q[p]).collect();
        let back = product(&r, &plus, n);
        let rt: Vec<f64> = (0..n * n).map(|p| r[(p % n) * n + p / n]).collect();
        let one = product(&r, &rt, n);
        for p in 0..n * n {
            let delta = f64::from(u8::from(p / n == p % n));
            assert!((back[p] - (delta - q[p])).abs() < 1e-10);
            assert!((one[p] - delta).abs() < 1e-10);
        }
    }

    #[test]
    fn the_series_of_small_numbers_is_the_rotation_with_the_other_sign() {
        let q = [0.0, 0.01, -0.01, 0.0];
        let minus = q.map(|v| -v);
        let (series, exact) = (neumann(&q, 2, 5), cayley(&minus, 2).unwrap());
        assert!(series.iter().zip(&exact).all(|(a, b)| (a - b).abs() < 1e-7));
        assert_eq!(neumann(&q, 2, 3), neumann(&q, 2, 4));
    }

    #[test]
    fn gradients_are_differences() {
        const STEP: f64 = 1e-6;
        let n = 4;
        let numbers =
            |seed: usize| -> Vec<f64> { (0..n * n).map(|p| ((p * 7 + seed) % 11) as f64 / 20.0 - 0.25).collect() };
        let g = numbers(3);
        let along = |r: &[f64]| r.iter().zip(&g).map(|(r, g)| r * g).sum::<f64>();
        let mut q = vec![0.0; n * n];
        for (p, v) in numbers(5).into_iter().enumerate().filter(|(p, _)| p / n < p % n) {
            (q[p], q[(p % n) * n + p / n]) = (v, -v);
        }
        let check = |found: Vec<f64>, f: &dyn Fn(&[f64]) -> Vec<f64>, what: &str| {
            // Along the skew-symmetric directions, which are all that Q can move in.
            for p in (0..n * n).filter(|p| p / n < p % n) {
                let turned = (p % n) * n + p / n;
                let moved = |step: f64| {
                    let mut q = q.clone();
                    q[p] += step;
                    q[turned] -= step;
                    along(&f(&q))
                };
                let expected = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                let found = found[p] - found[turned];
                assert!((found - expected).abs() < 1e-8, "{what}: {found} for {expected}");
            }
        };
        let r = cayley(&q, n).unwrap();
        check(cayley_back(&r, &g, n), &|q| cayley(q, n).unwrap(), "cayley");
        for terms in 0..8 {
            let found = neumann_back(&q, &g, n, terms);
            check(found, &|q| neumann(q, n, terms), &format!("{terms} terms"));
        }
    }

    #[test]
    fn numbers_that_cannot_be_inverted_are_an_error() {
        assert!(cayley(&[0.0, f64::INFINITY, -f64::INFINITY, 0.0], 2).is_err());
    }
}

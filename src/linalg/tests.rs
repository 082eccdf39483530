//! Oracles: the definitions (reconstruction, orthogonality, order), matrices of a known spectrum, numpy.

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;

/// Random numbers in [-1, 1).
fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    (0..len).map(|_| (2.0 * rng.unit() - 1.0) as f32).collect()
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |w: f32, e| {
        // NaN must not pass.
        if e.is_nan() { f32::INFINITY } else { w.max(e) }
    })
}

/// The rows of `a`, `[k][n]`, are orthonormal.
fn orthonormal(k: usize, n: usize, a: &[f32]) {
    let gram = product(k, n, k, a, &transpose(k, n, a)).unwrap();
    let one: Vec<f32> = (0..k * k).map(|i| f32::from(u8::from(i % (k + 1) == 0))).collect();
    assert!(worst(&gram, &one) < 2e-6, "{k} of {n}: {}", worst(&gram, &one));
}

fn rebuilt(svd: &Svd, m: usize, n: usize) -> Vec<f32> {
    let us: Vec<f32> = svd.u.iter().enumerate().map(|(i, u)| u * svd.s[i % svd.k]).collect();
    product(m, svd.k, n, &us, &svd.vt).unwrap()
}

/// What holds for every decomposition.
fn check(svd: &Svd, m: usize, n: usize) {
    let k = svd.k;
    assert_eq!((svd.u.len(), svd.s.len(), svd.vt.len()), (m * k, k, k * n));
    orthonormal(k, m, &transpose(m, k, &svd.u));
    orthonormal(k, n, &svd.vt);
    assert!(
        svd.s.windows(2).all(|w| w[0] >= w[1]) && svd.s.iter().all(|&s| s >= 0.0),
        "{:?}",
        svd.s
    );
    for row in svd.vt.chunks(n) {
        let largest = row.iter().fold(0.0f32, |l, &x| if x.abs() > l.abs() { x } else { l });
        assert!(largest > 0.0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_matrix_is_rebuilt(m in 1usize..40, n in 1usize..40, rank in 0usize..40, seed: u64) {
        // Of any rank, the zero matrix included.
        let (b, a) = (random(m * rank, seed), random(rank * n, !seed));
        let matrix = product(m, rank, n, &b, &a).unwrap();
        let full = svd(m, n, &matrix, usize::MAX).unwrap();
        prop_assert_eq!(full.k, m.min(n));
        check(&full, m, n);
        let scale = full.s[0].max(1e-30);
        prop_assert!(worst(&rebuilt(&full, m, n), &matrix) <= 1e-6 * scale);
        let energy: f64 = full.s.iter().map(|&s| f64::from(s).powi(2)).sum();
        prop_assert!((energy - full.energy).abs() <= 1e-5 * energy);

        let k = 1 + seed as usize % m.min(n);
        let truncated = svd(m, n, &matrix, k).unwrap();
        check(&truncated, m, n);
        prop_assert!(worst(&truncated.s, &full.s[..k]) <= 1e-6 * scale);
        if rank > 0 {
            let fast = svd_of_product(m, rank, n, &b, &a, k).unwrap();
            check(&fast, m, n);
            // The product that the other one sees is rounded to f32.
            let rounding = 1e-7 * (rank * m.max(n)) as f32;
            prop_assert!(worst(&fast.s, &full.s[..fast.k]) <= 2e-6 * scale + rounding);
        }
    }

    /// Repeated rows, repeated and vanishing singular values, any scale that f32 has.
    #[test]
    fn matrices_of_few_values_are_rebuilt(
        (m, n, a) in (1usize..12, 1usize..12)
            .prop_flat_map(|(m, n)| (Just(m), Just(n), prop::collection::vec(-1i8..=1, m * n))),
        exponent in -37i32..38,
    ) {
        let scale = 10f32.powi(exponent);
        let matrix: Vec<f32> = a.iter().map(|&x| f32::from(x) * scale).collect();
        let full = svd(m, n, &matrix, usize::MAX).unwrap();
        check(&full, m, n);
        prop_assert!(worst(&rebuilt(&full, m, n), &matrix) <= 2e-6 * full.s[0].max(f32::MIN_POSITIVE));
        let identity: Vec<f32> = (0..m * m).map(|i| f32::from(u8::from(i % (m + 1) == 0))).collect();
        let fast = svd_of_product(m, m, n, &identity, &matrix, usize::MAX).unwrap();
        check(&fast, m, n);
        prop_assert!(worst(&fast.s, &full.s) <= 2e-6 * full.s[0]);
    }

    #[test]
    fn qr_rebuilds(m in 1usize..40, n in 1usize..40, seed: u64) {
        let a = random(m * n, seed);
        let (q, r) = qr(m, n, &a).unwrap();
        let p = m.min(n);
        orthonormal(p, m, &transpose(m, p, &q));
        prop_assert!((0..p).all(|i| r[i * n + i] >= 0.0 && r[i * n..i * n + i].iter().all(|&x| x == 0.0)));
        prop_assert!(worst(&product(m, p, n, &q, &r).unwrap(), &a) < 1e-5);
    }
}

#[test]
fn a_known_spectrum_is_found_over_six_decades() {
    let (m, n) = (90, 60);
    let (q, _) = qr(m, n, &random(m * n, 1)).unwrap();
    let (p, _) = qr(n, n, &random(n * n, 2)).unwrap();
    let s: Vec<f32> = (0..n).map(|i| 10f32.powf(-6.0 * i as f32 / (n - 1) as f32)).collect();
    let qs: Vec<f32> = q.iter().enumerate().map(|(i, q)| q * s[i % n]).collect();
    let a = product(m, n, n, &qs, &p).unwrap();
    let found = svd(m, n, &a, n).unwrap();
    check(&found, m, n);
    // The matrix itself is rounded to f32.
    assert!(worst(&found.s, &s) < 1e-6);
    assert!(worst(&rebuilt(&found, m, n), &a) < 1e-6);
    // By the other way.
    let few = svd(m, n, &a, n / FEW).unwrap();
    check(&few, m, n);
    assert!(worst(&few.s, &s[..n / FEW]) < 1e-6);
    // Wide is as tall.
    let wide = svd(n, m, &transpose(m, n, &a), n).unwrap();
    assert!(worst(&wide.s, &found.s) < 1e-7);
}

#[rustfmt::skip]
const NUMPY_U: &[f32] = &[
    -0.5409232, 0.182799, 0.4815047, -0.02799171, 0.1133055, -0.3947845,
    0.5831097, -0.156511, 0.1299559, 0.7568493, 0.3252872, 0.4611178,
];
const NUMPY_S: &[f32] = &[17.17555, 12.83023];
#[rustfmt::skip]
const NUMPY_VT: &[f32] = &[
    0.3378225, 0.7289045, 0.256406, -0.5374292,
    -0.2427433, 0.6427031, 0.0154641, 0.7264773,
];
/// The first row of R.
const NUMPY_R: &[f32] = &[10.14889, 4.138383, 1.182395, -5.71491];

/// Recorded: `a = np.array([[(7*i*i + 3*j*j*j + 5*i*j) % 17 - 8 for j in range(4)] for i in range(6)], np.float64)`,
/// `np.linalg.svd(a)`, `np.linalg.qr(a)`; numpy 2.4.6. The signs of the vectors are set as [`Svd`] promises.
#[test]
fn numpy_finds_the_same() {
    let a: Vec<f32> = (0..6i32)
        .flat_map(|i| (0..4i32).map(move |j| ((7 * i * i + 3 * j * j * j + 5 * i * j) % 17 - 8) as f32))
        .collect();
    let found = svd(6, 4, &a, 2).unwrap();
    assert!(worst(&found.s, NUMPY_S) < 1e-5, "{:?}", found.s);
    assert!(worst(&found.vt, NUMPY_VT) < 1e-6, "{:?}", found.vt);
    assert!(worst(&found.u, NUMPY_U) < 1e-6, "{:?}", found.u);
    let (_, r) = qr(6, 4, &a).unwrap();
    assert!(worst(&r[..4], NUMPY_R) < 1e-5, "{r:?}");
}

#[test]
fn what_cannot_be_decomposed_is_refused() {
    assert!(svd(2, 2, &[1.0, f32::NAN, 0.0, 1.0], 1).is_err());
    assert!(svd(2, 2, &[1.0; 3], 1).is_err());
    assert!(svd(0, 2, &[], 1).is_err());
    assert!(svd_of_product(2, 0, 2, &[], &[], 1).is_err());
    assert!(svd(MAX_SIDE + 1, MAX_SIDE + 1, &vec![0.0; (MAX_SIDE + 1).pow(2)], 1).is_err());
}

#[test]
fn random_projections_find_what_the_whole_decomposition_does() {
    for (m, n, k) in [(60, 90, 5), (90, 60, 5), (12, 40, 12), (40, 12, 30), (1, 9, 1)] {
        // Singular values that fall off by a half each.
        let side = m.min(n);
        let (u, _) = qr(m, side, &random(m * side, 1)).unwrap();
        let (v, _) = qr(n, side, &random(n * side, 2)).unwrap();
        let us: Vec<f32> = u
            .iter()
            .enumerate()
            .map(|(i, u)| u * 0.5f32.powi((i % side) as i32))
            .collect();
        let a = product(m, side, n, &us, &transpose(n, side, &v)).unwrap();
        let (near, exact) = (
            svd_lowrank(m, n, &a, k, &mut Rng::new(3)).unwrap(),
            svd(m, n, &a, k).unwrap(),
        );
        check(&near, m, n);
        assert_eq!(near.k, exact.k);
        assert!(worst(&near.s, &exact.s) < 1e-5, "{:?} for {:?}", near.s, exact.s);
        assert!(worst(&rebuilt(&near, m, n), &rebuilt(&exact, m, n)) < 1e-4);
    }
    // Where all are alike it keeps nearly as much as the best subspace does.
    let a = random(80 * 120, 4);
    let energy = |svd: &Svd| svd.s.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>();
    let near = svd_lowrank(80, 120, &a, 6, &mut Rng::new(5)).unwrap();
    assert!(energy(&near) > 0.99 * energy(&svd(80, 120, &a, 6).unwrap()));
    assert!(svd_lowrank(3, 4, &[f32::NAN; 12], 1, &mut Rng::new(1)).is_err());
    assert!(svd_lowrank(3, 4, &[1.0; 12], 0, &mut Rng::new(1)).is_err());
}

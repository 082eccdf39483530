//! What this machine can do at most, so that a speed can be read as a share of it.
//!
//! Decode is limited by reading the weights once a token, prefill by multiply-adds; `graft bench` prints its figures beside these.
//! The loops are the densest of their kind, on registers (multiply-adds) or on a buffer far larger than the caches (reading), run by
//! as many threads as the model uses. They measure the instructions that the kernels of the level in use are made of; the scalar level
//! runs plain loops.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::isa;

/// The limits of a machine at one number of threads, all threads together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks {
    /// Threads that ran.
    pub threads: usize,
    /// The level whose instructions ran; with `scalar` they do not show what the CPU could do.
    pub isa: &'static str,
    /// Bytes read from memory, in 10^9 a second.
    pub read_gb_s: f64,
    /// f32 fused multiply-adds, in 10^9 a second.
    pub fma_gmac_s: f64,
    /// Multiply-adds of bytes into i32 (AVX2: maddubs, madd, add; AVX-VNNI and AVX-512: vpdpbusd; arm64: smmla, sdot or smull and sadalp), in 10^9 a second.
    pub int8_gmac_s: f64,
}

/// Far above any L3 cache that a desktop or phone has; smaller only where the system refuses the memory.
const READ_BYTES: usize = 256 << 20;
/// A thread reads this much between two looks at the clock.
const READ_STEP: usize = 1 << 20;
/// The best of so many windows counts: others may disturb some of them.
const WINDOWS: usize = 5;
const WINDOW: Duration = Duration::from_millis(40);
/// Independent accumulators: latency times instructions a cycle, and still within the registers.
const CHAINS: usize = if cfg!(target_arch = "aarch64") { 16 } else { 10 };
/// Rounds between two looks at the clock: some 0.1 ms.
const ROUNDS: usize = 40_000;

/// Measures for about a second, with `threads` threads (at least 1).
pub fn measure(threads: usize) -> Peaks {
    let threads = threads.max(1);
    let level = Level::in_use();
    let buffer = buffer();
    let read = |thread: usize| {
        let share = buffer.len() / threads;
        let mut steps = buffer[thread * share..][..share].chunks_exact(READ_STEP / 8).cycle();
        move || {
            black_box((level.sum)(steps.next().unwrap_or(&[])));
        }
    };
    let multiply = |round: fn(usize)| move |_| move || round(ROUNDS);
    Peaks {
        threads,
        isa: level.name,
        read_gb_s: best_rate(threads, READ_STEP as f64, read),
        fma_gmac_s: best_rate(threads, (ROUNDS * CHAINS * level.fma_lanes) as f64, multiply(level.fma)),
        int8_gmac_s: best_rate(
            threads,
            (ROUNDS * CHAINS * level.int8_lanes) as f64,
            multiply(level.int8),
        ),
    }
}

/// 10^9 units a second, summed over the threads: `start(thread)` gives the closure that does `unit` units of work when called.
fn best_rate<W: FnMut()>(threads: usize, unit: f64, start: impl Fn(usize) -> W + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    let run = |thread: usize| -> [f64; WINDOWS] {
        let mut work = start(thread);
        work();
        std::array::from_fn(|_| {
            barrier.wait();
            let begin = Instant::now();
            let mut calls = 0.0;
            loop {
                work();
                calls += 1.0;
                let time = begin.elapsed();
                if time >= WINDOW {
                    break calls / time.as_secs_f64();
                }
            }
        })
    };
    let rates: Vec<[f64; WINDOWS]> = std::thread::scope(|scope| {
        let run = &run;
        // The caller is one of them: one thread needs no other, on platforms that have none.
        let team: Vec<_> = (1..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let own = run(0);
        let others = team.into_iter();
        let others = others.map(|member| member.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        std::iter::once(own).chain(others).collect()
    });
    let windows = (0..WINDOWS).map(|w| rates.iter().map(|thread| thread[w]).sum::<f64>());
    windows.fold(0.0, f64::max) * unit / 1e9
}

/// Memory to read, written once so that its pages exist.
fn buffer() -> Vec<u64> {
    let mut words = Vec::new();
    let mut bytes = READ_BYTES;
    while words.try_reserve_exact(bytes / 8).is_err() && bytes > READ_STEP {
        bytes /= 2;
    }
    words.resize(bytes / 8, 1);
    words
}

/// The loops of one instruction set.
#[derive(Clone, Copy)]
struct Level {
    name: &'static str,
    sum: fn(&[u64]) -> u64,
    fma: fn(usize),
    int8: fn(usize),
    /// Multiply-adds of one step of one chain.
    fma_lanes: usize,
    int8_lanes: usize,
}

impl Level {
    /// The loops of the level that [`Cpu`](super::Cpu) takes.
    fn in_use() -> Self {
        let plain = Level {
            name: "scalar",
            sum,
            fma: plain::fma,
            int8: plain::int8,
            fma_lanes: plain::LANES,
            int8_lanes: plain::LANES,
        };
        #[cfg(target_arch = "x86_64")]
        let avx2 = Level {
            name: "avx2",
            // SAFETY: called only if the level was chosen or one above it, because the CPU has its features.
            sum: |words| unsafe { avx2::sum(words) },
            // SAFETY: as above.
            fma: |rounds| unsafe { avx2::fma(rounds) },
            // SAFETY: as above.
            int8: |rounds| unsafe { avx2::int8(rounds) },
            fma_lanes: 8,
            int8_lanes: 32,
        };
        match isa::choose().map_or("scalar", |isa| isa.name) {
            #[cfg(target_arch = "x86_64")]
            name @ "avx512" => Level {
                name,
                // SAFETY: the level was chosen because the CPU has its features.
                fma: |rounds| unsafe { avx512::fma(rounds) },
                // SAFETY: the level was chosen because the CPU has its features.
                int8: |rounds| unsafe { avx512::int8(rounds) },
                fma_lanes: 16,
                int8_lanes: 64,
                ..avx2
            },
            #[cfg(target_arch = "x86_64")]
            name @ "avxvnni" => Level {
                name,
                // SAFETY: the level was chosen because the CPU has its features.
                int8: |rounds| unsafe { avxvnni(rounds) },
                ..avx2
            },
            #[cfg(target_arch = "x86_64")]
            "avx2" => avx2,
            #[cfg(target_arch = "aarch64")]
            name if name.starts_with("neon") => neon::level(name),
            _ => plain,
        }
    }
}

/// Reads every word once; the compiler makes vector loads of it.
#[inline(always)]
fn sum(words: &[u64]) -> u64 {
    let mut sums = [0u64; 32];
    for chunk in words.as_chunks::<32>().0 {
        for (s, w) in sums.iter_mut().zip(chunk) {
            *s = s.wrapping_add(*w);
        }
    }
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}

mod plain {
    use super::{CHAINS, ROUNDS, black_box};

    /// Elements of a chain; the compiler makes vectors of what the target always has.
    pub const LANES: usize = 4;

    /// Multiply, then add: fused only where the target always has that.
    pub fn fma(rounds: usize) {
        let (x, y) = (black_box(0.999f32), black_box(0.001f32));
        let mut sums = [[black_box(0.0f32); LANES]; CHAINS];
        for _ in 0..rounds {
            sums = sums.map(|chain| chain.map(|s| s * x + y));
        }
        black_box(sums);
    }

    /// As a plain loop over bytes would: widened products added up.
    pub fn int8(rounds: usize) {
        let y = black_box([3i8; LANES]);
        let mut sums = [[black_box(0i32); LANES]; CHAINS];
        for round in 0..rounds {
            let x = black_box((round % ROUNDS) as i32 as i8);
            for chain in &mut sums {
                for (s, y) in chain.iter_mut().zip(y) {
                    *s = s.wrapping_add(i32::from(x) * i32::from(y));
                }
            }
        }
        black_box(sums);
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;
    use std::array::from_fn;

    use super::{CHAINS, black_box};

    /// Reads every word once.
    #[target_feature(enable = "avx2")]
    pub fn sum(words: &[u64]) -> u64 {
        super::sum(words)
    }

    /// The sums converge to 1: no overflow, no denormals.
    #[target_feature(enable = "avx2,fma")]
    pub fn fma(rounds: usize) {
        let (x, y) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
        let mut sums: [__m256; CHAINS] = from_fn(|_| _mm256_set1_ps(black_box(0.0)));
        for _ in 0..rounds {
            for s in &mut sums {
                *s = _mm256_fmadd_ps(*s, x, y);
            }
        }
        black_box(sums);
    }

    /// The sums are their own unsigned operand, so that no product is loop-invariant.
    #[target_feature(enable = "avx2")]
    pub fn int8(rounds: usize) {
        let (y, ones) = (_mm256_set1_epi8(black_box(3)), _mm256_set1_epi16(black_box(1)));
        let mut sums: [__m256i; CHAINS] = from_fn(|i| _mm256_set1_epi32(black_box(i as i32)));
        for _ in 0..rounds {
            for s in &mut sums {
                let pairs = _mm256_maddubs_epi16(*s, y);
                *s = _mm256_add_epi32(*s, _mm256_madd_epi16(pairs, ones));
            }
        }
        black_box(sums);
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;
    use std::array::from_fn;

    use super::{CHAINS, black_box};

    /// As [`avx2::fma`](super::avx2::fma).
    #[target_feature(enable = "avx512f")]
    pub fn fma(rounds: usize) {
        let (x, y) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
        let mut sums: [__m512; CHAINS] = from_fn(|_| _mm512_set1_ps(black_box(0.0)));
        for _ in 0..rounds {
            for s in &mut sums {
                *s = _mm512_fmadd_ps(*s, x, y);
            }
        }
        black_box(sums);
    }

    /// The sums are their own unsigned operand, as in AVX2.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub fn int8(rounds: usize) {
        let y = _mm512_set1_epi8(black_box(3));
        let mut sums: [__m512i; CHAINS] = from_fn(|i| _mm512_set1_epi32(black_box(i as i32)));
        for _ in 0..rounds {
            for s in &mut sums {
                *s = _mm512_dpbusd_epi32(*s, *s, y);
            }
        }
        black_box(sums);
    }
}

/// As [`avx512::int8`], on 256 bits.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avxvnni")]
fn avxvnni(rounds: usize) {
    use std::arch::x86_64::*;
    let y = _mm256_set1_epi8(black_box(3));
    let mut sums: [__m256i; CHAINS] = std::array::from_fn(|i| _mm256_set1_epi32(black_box(i as i32)));
    for _ in 0..rounds {
        for s in &mut sums {
            *s = _mm256_dpbusd_avx_epi32(*s, *s, y);
        }
    }
    black_box(sums);
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::*;
    use std::array::from_fn;

    use super::super::neon::dot::{sdot, smmla};
    use super::{CHAINS, Level, black_box, sum};

    /// The loops of the level `name`, which this CPU has.
    pub fn level(name: &'static str) -> Level {
        let level = |int8, int8_lanes| Level {
            name,
            sum,
            // SAFETY: every CPU of the target has NEON.
            fma: |rounds| unsafe { fma(rounds) },
            int8,
            fma_lanes: 4,
            int8_lanes,
        };
        match name {
            // SAFETY: the caller's promise.
            "neon-i8mm" => level(|rounds| unsafe { int8(rounds, |sum, x, y| smmla(sum, x, y)) }, 32),
            // SAFETY: the caller's promise.
            "neon-dotprod" => level(|rounds| unsafe { int8(rounds, |sum, x, y| sdot::<0>(sum, x, y)) }, 16),
            // SAFETY: the caller's promise.
            _ => level(|rounds| unsafe { int8(rounds, |sum, x, y| smull(sum, x, y)) }, 16),
        }
    }

    /// The sums converge to 1: no overflow, no denormals.
    #[target_feature(enable = "neon")]
    fn fma(rounds: usize) {
        let (x, y) = (vdupq_n_f32(black_box(0.999)), vdupq_n_f32(black_box(0.001)));
        let mut sums: [float32x4_t; CHAINS] = from_fn(|_| vdupq_n_f32(black_box(0.0)));
        for _ in 0..rounds {
            for s in &mut sums {
                *s = vfmaq_f32(y, *s, x);
            }
        }
        black_box(sums);
    }

    /// The sums are their own operand, so that no product is loop-invariant.
    #[inline]
    #[target_feature(enable = "neon")]
    fn int8(rounds: usize, add: impl Fn(int32x4_t, int8x16_t, int8x16_t) -> int32x4_t) {
        let y = vdupq_n_s8(black_box(3));
        let mut sums: [int32x4_t; CHAINS] = from_fn(|i| vdupq_n_s32(black_box(i as i32)));
        for _ in 0..rounds {
            for s in &mut sums {
                *s = add(*s, vreinterpretq_s8_s32(*s), y);
            }
        }
        black_box(sums);
    }

    /// sum + x * y, pairs of pairs of products to a lane.
    #[inline]
    #[target_feature(enable = "neon")]
    fn smull(sum: int32x4_t, x: int8x16_t, y: int8x16_t) -> int32x4_t {
        let sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(x), vget_low_s8(y)));
        vpadalq_s16(sum, vmull_high_s8(x, y))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No timing: that the figures are there, and that every byte is read.
    #[test]
    fn peaks_are_finite_and_positive() {
        let peaks = measure(1);
        for figure in [peaks.read_gb_s, peaks.fma_gmac_s, peaks.int8_gmac_s] {
            assert!(figure.is_finite() && figure > 0.0, "{peaks:?}");
        }
        let words: Vec<u64> = (0..READ_STEP as u64 / 8).collect();
        let want = words.iter().sum::<u64>();
        assert_eq!((Level::in_use().sum)(&words), want);
        assert_eq!(sum(&words), want);
    }

    #[test]
    fn the_plain_loops_run() {
        plain::fma(10);
        plain::int8(10);
    }
}

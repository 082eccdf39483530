//! Runs random sequences of calls of the C interface: `capi N SEED [FIRST]`, sequences FIRST (0) to N - 1 of those of SEED.
//!
//! Ends with how often each function said what. Fails where a call did what it must not, where a sequence left memory behind, and after
//! many sequences where a function of the header never succeeded.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use graft_fuzz::capi::{histogram, run};

/// The system's memory, and how much of it is in use.
struct Counted;

static IN_USE: AtomicI64 = AtomicI64::new(0);

// SAFETY: all is done by the system's allocator.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static MEMORY: Counted = Counted;

/// The sequence that runs.
static NOW: AtomicU64 = AtomicU64::new(0);

/// Sequences that fill what is kept for good: slots of handles, caches.
const WARM: u64 = 2_000;
/// What may be left by all later ones together.
const LEFT: i64 = 1 << 20;
/// Sequences in which every function succeeds.
const MANY: u64 = 30_000;

/// The next of a row of random numbers (splitmix64).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn main() {
    let numbers: Vec<u64> = std::env::args()
        .skip(1)
        .map(|a| a.parse().expect("capi N SEED [FIRST]"))
        .collect();
    let (n, seed) = (numbers[0], numbers[1]);
    let first = numbers.get(2).copied().unwrap_or(0);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        eprintln!("in sequence {} of seed {seed}:", NOW.load(Ordering::Relaxed));
        usual(panic);
    }));
    let start = Instant::now();
    let mut slowest = (Duration::ZERO, 0);
    let mut warm = 0;
    for i in first..n {
        NOW.store(i, Ordering::Relaxed);
        let mut state = seed.wrapping_mul(0xd134_2543_de82_ef95) ^ i;
        let len = 16 + next(&mut state) as usize % 240;
        let mut bytes: Vec<u8> = std::iter::repeat_with(|| next(&mut state) as u8).take(len).collect();
        // Half of them are calm: what decides how wrong an argument is, is seldom large.
        if i % 2 == 0 {
            bytes
                .iter_mut()
                .skip(1)
                .for_each(|b| *b = if next(&mut state) % 2 == 0 { *b } else { *b % 64 });
        }
        let began = Instant::now();
        run(&bytes);
        slowest = slowest.max((began.elapsed(), i));
        if i == first + WARM {
            warm = IN_USE.load(Ordering::Relaxed);
        }
    }
    let took = start.elapsed().as_secs_f64();
    let rows = histogram();
    let (mut calls, mut never) = (0, Vec::new());
    for (name, counts) in &rows {
        calls += counts.iter().sum::<u64>();
        let said: Vec<_> = counts
            .iter()
            .enumerate()
            .filter(|c| *c.1 > 0)
            .map(|(s, c)| format!("{s}: {c}"))
            .collect();
        println!("{name:32} {}", said.join("  "));
    }
    for name in functions() {
        if !rows.iter().any(|(known, counts)| *known == name && counts[0] > 0) {
            never.push(name);
        }
    }
    println!(
        "{} sequences, {calls} calls in {took:.1} s: {:.0} sequences/s",
        n - first,
        (n - first) as f64 / took
    );
    println!(
        "the slowest took {:.3} s: number {}",
        slowest.0.as_secs_f64(),
        slowest.1
    );
    if n - first > WARM {
        let left = IN_USE.load(Ordering::Relaxed) - warm;
        println!("memory left by all but the first {WARM}: {left} bytes");
        assert!(left < LEFT, "memory is lost");
    }
    assert!(n - first < MANY || never.is_empty(), "never succeeded: {never:?}");
}

/// The functions of the header.
fn functions() -> Vec<&'static str> {
    let header = include_str!("../../include/graft.h").lines();
    let declared = header.filter(|l| l.starts_with(|c: char| c.is_ascii_lowercase()) && !l.starts_with("typedef"));
    let name = |line: &'static str| Some(line.split_once('(')?.0.rsplit([' ', '*']).next()?);
    declared.filter_map(name).collect()
}

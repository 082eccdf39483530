//! Products of every block format beside this machine's limits: decode in GB/s of weight bytes, prefill in GMAC/s.
//!
//! `cargo bench --bench kernels [-- NAME…] [--threads N]`: all formats, or those whose names contain a NAME; `exact`: some in
//! `Exact`; `attention`; `crossover`: time by the number of tokens.
//! Figures are lower deciles of the time over half a second: other processes only ever add to it. Correctness is the tests' business.

use std::time::{Duration, Instant};

use graft::kernels::Cpu;
use graft::kernels::cpu::{Acts, Attention, KvBuf, Precision, Readers, Weight, pairs};
use graft::quant::{BlockFormat, FORMATS};

fn main() {
    let mut names: Vec<String> = Vec::new();
    let mut threads = vec![1, 2];
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--threads" => threads = args.next().and_then(|n| n.parse().ok()).into_iter().collect(),
            _ => names.push(arg.to_uppercase()),
        }
    }
    for &t in &threads {
        let cpu = Cpu::new(Some(t)).expect("a backend");
        println!(
            "{} threads, level {}: read {:.1} GB/s, int8 {:.0} GMAC/s a thread",
            t,
            cpu.isa(),
            read(&cpu),
            peak()
        );
        println!("format       m=1 cached  m=1 GB/s      m=3 GB/s      m=8 GMAC/s          m=64         m=512");
        for info in FORMATS
            .iter()
            .filter(|i| names.is_empty() || names.iter().any(|n| i.name.contains(n)))
        {
            line(&cpu, info.format, Precision::Fast);
        }
        for format in [BlockFormat::Q4_0, BlockFormat::Q4_K, BlockFormat::Q8_0] {
            if names.is_empty() || names.iter().any(|n| "EXACT".contains(n.as_str())) {
                line(&cpu, format, Precision::Exact);
            }
        }
        if names.iter().any(|n| n == "CROSSOVER") {
            crossover(&cpu);
            for (heads, kv_heads, head_dim) in [(9, 3, 64), (14, 2, 64), (4, 1, 256), (8, 8, 128)] {
                attention(&cpu, heads, kv_heads, head_dim, true);
            }
        }
        if names.is_empty() || names.iter().any(|n| "ATTENTION".contains(n.as_str())) {
            println!(
                "attention       heads  dim  GMAC/s: 1 query, 64 keys        512       4096     streamed   512 queries"
            );
            for (heads, kv_heads, head_dim) in [(9, 3, 64), (14, 2, 64), (4, 1, 256), (32, 8, 128)] {
                attention(&cpu, heads, kv_heads, head_dim, false);
            }
        }
    }
}

/// Microseconds of a product with m = 1 to 8 tokens, of weights in the last-level cache: where one way of computing ends and another begins.
fn crossover(cpu: &Cpu) {
    println!("format     us for m = 1        2        3        4        5        6        8");
    for info in FORMATS {
        let (k, rows) = (1536, 3072);
        let data = weights(info.format, rows * info.format.bytes_for(k).expect("whole blocks"));
        let w = Weight {
            format: info.format,
            rows,
            cols: k,
            data: &data,
        };
        print!("{:10}          ", info.format.name());
        for m in [1, 2, 3, 4, 5, 6, 8] {
            let x = activations(m * k);
            let (mut acts, mut y) = (Acts::default(), vec![0.0; m * rows]);
            cpu.pack(&x, k, Readers::weights(&[info.format], Precision::Fast), &mut acts);
            print!(" {:8.0}", 1e6 * best(|| cpu.matmul(w, &acts, Precision::Fast, &mut y)));
        }
        println!();
    }
}

/// Attention of one query over keys in cache and of as many layers that memory is read, and of a prompt.
fn attention(cpu: &Cpu, heads: usize, kv_heads: usize, head_dim: usize, crossover: bool) {
    let width = kv_heads * head_dim;
    let layers = (64 << 20) / (4096 * width * 4);
    let ring = |_| {
        (0..2)
            .map(|_| KvBuf::new(4096, width, Precision::Fast).expect("a ring"))
            .collect()
    };
    let mut kv: Vec<Vec<KvBuf>> = (0..layers).map(ring).collect();
    let row = activations(4096 * width);
    for ring in kv.iter_mut().flatten() {
        cpu.kv_write(&row, width, 0, 4096, ring);
    }
    let call = |keys: usize, m: usize, layers: usize| {
        let a = Attention {
            heads,
            kv_heads,
            head_dim,
            scale: 0.1,
            softcap: None,
            window: None,
            capacity: 4096,
            pos: keys - m,
        };
        let (q, mut out) = (vec![0.5; m * heads * head_dim], vec![0.0; m * heads * head_dim]);
        let seconds = best(|| {
            kv[..layers]
                .iter()
                .for_each(|kv| cpu.attention(&a, &q, &kv[0], &kv[1], &mut out))
        });
        (2 * pairs(a.pos, m, None) * heads * head_dim * layers) as f64 / seconds / 1e9
    };
    if crossover {
        print!("{:>15}/{kv_heads} {head_dim:>4}, rows of a head", heads);
        for m in [1, 2, 3, 4, 6, 8] {
            print!("  {}: {:.1}", m * heads / kv_heads, call(512, m, 1));
        }
        println!(" GMAC/s");
        return;
    }
    let figures = [
        call(64, 1, 1),
        call(512, 1, 1),
        call(4096, 1, 1),
        call(4096, 1, layers),
        call(512, 512, 1),
    ];
    print!("{:>15}/{kv_heads} {head_dim:>4}              ", heads);
    figures.iter().for_each(|f| print!(" {f:>12.1}"));
    println!();
}

/// Seconds of `f`: the lower decile of half a second's samples.
fn best(mut f: impl FnMut()) -> f64 {
    f();
    let (mut samples, start) = (Vec::new(), Instant::now());
    while samples.len() < 5 || start.elapsed() < Duration::from_millis(500) {
        let t = Instant::now();
        f();
        samples.push(t.elapsed().as_secs_f64());
    }
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 10]
}

/// Numbers from -1 to 1.
fn activations(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect()
}

/// Random codes, scales of 1 or so.
fn weights(format: BlockFormat, len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut bytes: Vec<u8> = Vec::with_capacity(len);
    while bytes.len() < len {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        // Below 0x3c in every byte: whatever a format reads as a half is then finite and below 2.
        bytes.extend(((state >> 13) & 0x3b3b_3b3b_3b3b_3b3b).to_le_bytes());
    }
    bytes.truncate(len);
    if format == BlockFormat::MXFP4 {
        // Its scale is a power of two, and denormal ones are slow.
        bytes.iter_mut().step_by(17).for_each(|b| *b = 120 + *b % 8);
    }
    bytes
}

fn line(cpu: &Cpu, format: BlockFormat, precision: Precision) {
    // Decode streams more than the last-level cache; prefill has the shape of a large layer.
    let (k, n) = (1536, 576);
    let stream = (96 << 20) / format.bytes_for(k).expect("whole blocks") / 16 * 16;
    let mut figures = Vec::new();
    let cached = (192 << 10) / format.bytes_for(k).expect("whole blocks") / 16 * 16;
    for (m, rows) in [(1, cached), (1, stream), (3, stream), (8, n), (64, n), (512, n)] {
        let row_bytes = format.bytes_for(k).expect("whole blocks");
        let data = weights(format, rows * row_bytes);
        let w = Weight {
            format,
            rows,
            cols: k,
            data: &data,
        };
        let x = activations(m * k);
        let mut acts = Acts::default();
        let mut y = vec![0.0; m * rows];
        cpu.pack(&x, k, Readers::weights(&[format], precision), &mut acts);
        let seconds = best(|| cpu.matmul(w, &acts, precision, &mut y));
        let figure = if m <= 3 {
            data.len() as f64 / seconds
        } else {
            (m * k * rows) as f64 / seconds
        };
        figures.push(figure / 1e9);
    }
    let name = if precision == Precision::Exact {
        format!("{} ex", format.name())
    } else {
        format.name().to_string()
    };
    print!("{name:8}");
    for f in figures {
        print!(" {f:>13.1}");
    }
    println!();
}

/// Read bandwidth with the team's threads.
fn read(cpu: &Cpu) -> f64 {
    let data = vec![1u64; 128 << 17];
    let pieces: Vec<&[u64]> = data.chunks(1 << 15).collect();
    let seconds = best(|| {
        cpu.team().run(pieces.len(), &|i| {
            let mut sums = [0u64; 32];
            for chunk in pieces[i].chunks_exact(32) {
                for (s, v) in sums.iter_mut().zip(chunk) {
                    *s = s.wrapping_add(*v);
                }
            }
            std::hint::black_box(sums);
        });
    });
    size_of_val(&data[..]) as f64 / seconds / 1e9
}

/// `maddubs` + `madd` + `paddd` from registers, in GMAC/s: 32 products each.
#[cfg(target_arch = "x86_64")]
fn peak() -> f64 {
    use std::arch::x86_64::*;
    const ROUNDS: usize = 200_000;
    #[target_feature(enable = "avx2")]
    fn rounds() -> i32 {
        let mut sums = [_mm256_setzero_si256(); 8];
        let (a, b) = (
            std::hint::black_box(_mm256_set1_epi8(3)),
            std::hint::black_box(_mm256_set1_epi8(-5)),
        );
        let ones = std::hint::black_box(_mm256_set1_epi16(1));
        for _ in 0..ROUNDS {
            for s in &mut sums {
                let mut b = b;
                // SAFETY: an empty instruction; it hides that the product is the same every time.
                unsafe { std::arch::asm!("/* {0} */", inout(ymm_reg) b, options(nomem, nostack, preserves_flags)) };
                *s = _mm256_add_epi32(*s, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
            }
        }
        sums.iter().fold(0, |t, s| t ^ _mm256_extract_epi32(*s, 0))
    }
    if !std::arch::is_x86_feature_detected!("avx2") {
        return f64::NAN;
    }
    let seconds = best(|| {
        // SAFETY: AVX2 was just found.
        std::hint::black_box(unsafe { rounds() });
    });
    (ROUNDS * 8 * 32) as f64 / seconds / 1e9
}

#[cfg(not(target_arch = "x86_64"))]
fn peak() -> f64 {
    f64::NAN
}

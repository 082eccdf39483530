//! Every CUDA kernel, run on the CPU by the shim of `tests/cuda_on_cpu`, against the scalar kernels, over formats, shapes and tails.
//!
//! What the kernels round (activations to integers or halves, weights to halves) the oracle takes from what they packed, so that what is left is the order
//! of sums: a wrong index anywhere is seen. How much the rounding itself loses is checked where it happens.
#![cfg(target_os = "linux")]

#[path = "cuda_kernels/attention.rs"]
mod attention;
#[path = "cuda_kernels/attention_back.rs"]
mod attention_back;
#[path = "cuda_kernels/backward.rs"]
mod backward;
#[path = "cuda_on_cpu/device.rs"]
mod device;
#[path = "cuda_kernels/elementwise.rs"]
mod elementwise;
#[path = "cuda_kernels/low_rank.rs"]
mod low_rank;
#[path = "cuda_kernels/matrix.rs"]
mod matrix;
#[path = "cuda_kernels/products.rs"]
mod products;
#[path = "cuda_kernels/sample.rs"]
mod sample;
#[path = "cuda_kernels/together.rs"]
mod together;

use device::{Arg, Device};
use graft::kernels::Cpu;

/// The oracle.
fn scalar() -> Cpu {
    Cpu::with_isa(Some(1), "scalar").unwrap()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ x >> 31
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 56) as u8
    }

    /// -1 .. 1
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }

    fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }
}

/// Fails unless each number is within `limit` of the one wanted.
fn assert_near(got: &[f32], want: &[f32], limit: f32, at: &str) {
    assert_eq!(got.len(), want.len(), "{at}");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= limit, "{at}, number {i}: {g:e}, expected {w:e}");
    }
}

fn ints(values: &[usize]) -> Vec<Arg> {
    values.iter().map(|v| Arg::Int(*v as i32)).collect()
}

/// The threads of an elementwise kernel.
fn grid(threads: usize) -> [usize; 3] {
    [threads.div_ceil(256), 1, 1]
}

/// A kernel that only one side has would be found by whoever calls it first.
#[test]
fn ptx_and_shim_have_the_same_kernels() {
    let device = Device::get();
    let kernels = device.kernels();
    assert!(kernels.len() > 100, "{}", kernels.len());
    for name in &kernels {
        assert!(device.has(name), "{name} is not in the PTX: run scripts/cuda-ptx");
    }
    let ptx = [
        &include_bytes!("../src/kernels/cuda/ptx/base.ptx.gz")[..],
        &include_bytes!("../src/kernels/cuda/ptx/tensor_75.ptx.gz")[..],
        &include_bytes!("../src/kernels/cuda/ptx/tensor_80.ptx.gz")[..],
        &include_bytes!("../src/kernels/cuda/ptx/tensor_90.ptx.gz")[..],
        &include_bytes!("../src/kernels/cuda/ptx/ints_80.ptx.gz")[..],
    ];
    let ptx = ptx.map(device::unpacked);
    for entry in ptx.iter().flat_map(|text| text.split(".entry ").skip(1)) {
        let name = entry.split(['(', ' ', '\n']).next().unwrap();
        assert!(kernels.iter().any(|k| k == name), "{name} is only in the PTX");
    }
}

/// The shim ends the process where a GPU would hang, fault, or do something undefined.
#[test]
fn the_shim_sees_what_is_wrong() {
    drop(Device::get());
    for (kernel, complaint) in [
        ("misaligned", "16 bytes at an address that is no multiple"),
        ("left_before_barrier", "barrier"),
        ("waits_for_nobody", "elsewhere"),
        ("different_places", "while other lanes of its warp are in"),
        ("too_much_shared", "64000 bytes of shared memory"),
        ("copy_not_waited_for", "copies to shared memory under way"),
    ] {
        let (_, error) = device::broken(kernel, 1);
        assert!(error.contains(complaint), "{kernel}: {error}");
    }
    // What depends on the order of threads changes with it; what nobody has written is NaN.
    let races: Vec<String> = (0..8).map(|seed| device::broken("race", seed).0).collect();
    assert!(races.iter().any(|r| *r != races[0]), "{races:?}");
    for kernel in ["not_written", "copy_too_early"] {
        assert!(device::broken(kernel, 1).0.contains("nan"), "{kernel}");
    }
}

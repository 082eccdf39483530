//! What the system says about the machine, for people who compare figures. Nothing is computed from it.

use serde::Serialize;

use crate::error::Result;

/// The CPU as its maker calls it, where the system tells (Linux).
pub fn cpu_name() -> Option<String> {
    cpu_name_in(&std::fs::read_to_string("/proc/cpuinfo").ok()?)
}

/// x86 has a model name for each CPU; a phone or board has one line for the whole machine instead.
fn cpu_name_in(cpuinfo: &str) -> Option<String> {
    let value = |key: &str| {
        cpuinfo.lines().find_map(|line| {
            let (k, v) = line.split_once(':')?;
            (k.trim() == key && !v.trim().is_empty()).then(|| v.trim().to_string())
        })
    };
    ["model name", "Hardware", "Model"].iter().find_map(|key| value(key))
}

/// Bytes of a memory page, where the system tells (Linux).
pub fn page_size() -> Option<usize> {
    page_size_in(&std::fs::read("/proc/self/auxv").ok()?)
}

/// The vector that the kernel gives a program: pairs of a key and a value.
fn page_size_in(auxv: &[u8]) -> Option<usize> {
    const AT_PAGESZ: usize = 6;
    let (words, _) = auxv.as_chunks::<{ size_of::<usize>() }>();
    let (pairs, _) = words.as_chunks::<2>();
    let found = pairs.iter().find(|[key, _]| usize::from_ne_bytes(*key) == AT_PAGESZ);
    found.map(|[_, value]| usize::from_ne_bytes(*value))
}

/// An NVIDIA GPU, and what it can do at most.
#[derive(Clone, Debug, Serialize)]
pub struct Gpu {
    /// Among those of the process.
    pub index: usize,
    /// As its driver calls it.
    pub name: String,
    /// Its compute capability, such as 9.0.
    pub capability: String,
    /// The driver's version of CUDA, such as 12.8.
    pub cuda: String,
    /// Bytes of its memory.
    pub total_bytes: usize,
    /// Those that nobody has.
    pub free_bytes: usize,
    /// What its memory moves at most, by clock and bus.
    pub peak_gb_per_s: f64,
    /// What its memory reads and writes when it is copied within itself: measured.
    pub copy_gb_per_s: f64,
    /// Multiply-adds in f32, by its clock.
    pub f32_gmac_per_s: f64,
    /// Multiply-adds of halves into f32 on tensor cores, by its clock; GeForce cards do half of it.
    pub f16_gmac_per_s: f64,
}

impl Gpu {
    /// GPU `index`, or the one that has most memory free; measures for about a tenth of a second.
    ///
    /// # Errors
    /// `Unsupported`: this build has no GPUs, no driver is there, or it or the GPU is too old; `Usage`: no such index; what the driver says.
    pub fn measure(index: Option<usize>) -> Result<Self> {
        #[cfg(feature = "cuda")]
        let measured = crate::kernels::cuda::Gpu::open(index).and_then(|gpu| gpu.limits());
        #[cfg(not(feature = "cuda"))]
        let measured = {
            let _ = index;
            Err(crate::model::device::no_gpus())
        };
        measured
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_servers_and_boards_are_found() {
        let server =
            "processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC 9R14\n\nprocessor\t: 1\nmodel name\t: other\n";
        assert_eq!(cpu_name_in(server).as_deref(), Some("AMD EPYC 9R14"));
        let board = "processor : 0\nCPU part : 0xd0b\n\nHardware :\nModel : Raspberry Pi 5\n";
        assert_eq!(cpu_name_in(board).as_deref(), Some("Raspberry Pi 5"));
        assert_eq!(cpu_name_in("processor : 0\nno colon"), None);
    }

    #[test]
    fn the_page_size_is_the_value_of_its_key() {
        let words = |words: &[usize]| words.iter().flat_map(|w| w.to_ne_bytes()).collect::<Vec<_>>();
        assert_eq!(page_size_in(&words(&[33, 6, 6, 16384, 0, 0])), Some(16384));
        assert_eq!(page_size_in(&words(&[33, 6, 6])), None);
        assert_eq!(page_size_in(&[1, 2, 3]), None);
        if cfg!(target_os = "linux") {
            assert!(page_size().is_some_and(usize::is_power_of_two));
        }
    }
}

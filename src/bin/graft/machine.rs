//! `graft inspect --machine`: what Graft runs on, and what that can do at most.

use std::fmt;

use graft::Result;
use graft::kernels::Cpu;
use graft::kernels::cpu::peaks;
use graft::machine::{Gpu, cpu_name, page_size};
use serde::Serialize;

use crate::output::{Done, print, print_json};

/// The limits of what runs a model.
#[derive(Clone, Copy, Serialize)]
pub struct Limits {
    /// Measured. Of a GPU: read and written, in a copy.
    pub read_gb_per_s: f64,
    /// Of a GPU's memory, by clock and bus.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_gb_per_s: Option<f64>,
    pub f32_gmac_per_s: f64,
    #[serde(flatten)]
    pub fast: Fast,
}

/// The multiply-adds of `Fast`: measured on the CPU, by its clock of a GPU.
#[derive(Clone, Copy, Serialize)]
pub enum Fast {
    #[serde(rename = "int8_gmac_per_s")]
    Int8(f64),
    #[serde(rename = "f16_gmac_per_s")]
    F16(f64),
}

impl Fast {
    pub fn name(self) -> &'static str {
        match self {
            Fast::Int8(_) => "int8",
            Fast::F16(_) => "f16",
        }
    }

    pub fn gmac_per_s(self) -> f64 {
        let (Fast::Int8(gmac) | Fast::F16(gmac)) = self;
        gmac
    }
}

impl Limits {
    /// Of the CPU. Takes about a second.
    pub fn measure(threads: usize) -> Self {
        let peaks = peaks::measure(threads);
        Limits {
            read_gb_per_s: peaks.read_gb_s,
            peak_gb_per_s: None,
            f32_gmac_per_s: peaks.fma_gmac_s,
            fast: Fast::Int8(peaks.int8_gmac_s),
        }
    }

    pub fn of_gpu(gpu: &Gpu) -> Self {
        Limits {
            read_gb_per_s: gpu.copy_gb_per_s,
            peak_gb_per_s: Some(gpu.peak_gb_per_s),
            f32_gmac_per_s: gpu.f32_gmac_per_s,
            fast: Fast::F16(gpu.f16_gmac_per_s),
        }
    }

    /// Multiply-adds of attention: the CPU's are in f32, a GPU's as products are.
    pub fn attention_gmac_per_s(&self) -> f64 {
        match self.fast {
            Fast::Int8(_) => self.f32_gmac_per_s,
            Fast::F16(gmac) => gmac,
        }
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.peak_gb_per_s {
            None => write!(f, "read {:.1} GB/s", self.read_gb_per_s)?,
            Some(peak) => write!(f, "copy {:.1} of {peak:.1} GB/s", self.read_gb_per_s)?,
        }
        let (name, fast) = (self.fast.name(), self.fast.gmac_per_s());
        write!(f, " · f32 {:.0} GMAC/s · {name} {fast:.0} GMAC/s", self.f32_gmac_per_s)
    }
}

#[derive(Serialize)]
struct Machine {
    cpu: Option<String>,
    arch: &'static str,
    logical_cpus: usize,
    threads: usize,
    /// Best first.
    levels: Vec<&'static str>,
    isa: &'static str,
    /// The environment variable, if it is set.
    graft_isa: Option<String>,
    page_bytes: Option<usize>,
    limits: Limits,
}

impl Machine {
    fn look() -> Result<Self> {
        let cpu = Cpu::new(None)?;
        Ok(Machine {
            cpu: cpu_name(),
            arch: std::env::consts::ARCH,
            logical_cpus: std::thread::available_parallelism().map_or(1, usize::from),
            threads: cpu.threads(),
            levels: Cpu::levels(),
            isa: cpu.isa(),
            graft_isa: std::env::var("GRAFT_ISA").ok().filter(|v| !v.is_empty()),
            page_bytes: page_size(),
            limits: Limits::measure(cpu.threads()),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let unknown = || "unknown".to_string();
        let chosen = match &self.graft_isa {
            Some(_) => "because GRAFT_ISA says so",
            None => "the best; GRAFT_ISA=LEVEL chooses another",
        };
        writeln!(
            f,
            "CPU        {} ({})",
            self.cpu.clone().unwrap_or_else(unknown),
            self.arch
        )?;
        writeln!(
            f,
            "threads    {} by default, one per physical core; {} logical CPUs",
            self.threads, self.logical_cpus
        )?;
        writeln!(
            f,
            "levels     {}, best first; in use: {} ({chosen})",
            self.levels.join(", "),
            self.isa
        )?;
        let pages = self.page_bytes.map_or_else(unknown, |n| format!("{n} bytes"));
        writeln!(f, "page size  {pages}")?;
        writeln!(f, "limits     {} ({} threads)", self.limits, self.threads)
    }
}

pub fn run(json: bool) -> Done {
    let machine = Machine::look()?;
    if json {
        print_json(&machine)
    } else {
        print(&machine.to_string())
    }
}

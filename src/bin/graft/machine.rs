//! `graft inspect --machine`: what Graft runs on, and what that can do at most.

use std::fmt;

use graft::Result;
use graft::kernels::Cpu;
use graft::kernels::cpu::peaks;
use graft::machine::{cpu_name, page_size};
use serde::Serialize;

use crate::output::{Done, print, print_json};

/// The limits of this machine, measured.
#[derive(Clone, Copy, Serialize)]
pub struct Limits {
    pub read_gb_per_s: f64,
    pub f32_gmac_per_s: f64,
    pub int8_gmac_per_s: f64,
}

impl Limits {
    /// Takes about a second.
    pub fn measure(threads: usize) -> Self {
        let peaks = peaks::measure(threads);
        Limits {
            read_gb_per_s: peaks.read_gb_s,
            f32_gmac_per_s: peaks.fma_gmac_s,
            int8_gmac_per_s: peaks.int8_gmac_s,
        }
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "read {:.1} GB/s · f32 {:.0} GMAC/s · int8 {:.0} GMAC/s",
            self.read_gb_per_s, self.f32_gmac_per_s, self.int8_gmac_per_s
        )
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

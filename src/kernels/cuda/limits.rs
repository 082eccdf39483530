//! What a GPU can do at most: arithmetic and memory by its clocks and widths, and copying as it is measured.

use std::ffi::c_int;
use std::sync::Arc;
use std::time::Instant;

use super::driver::version_text;
use super::{Gpu, Memory};
use crate::error::Result;
use crate::machine;

/// Multiply-adds of a multiprocessor at each clock, of the first compute capability that has them: in f32, and of halves into f32 on tensor
/// cores. (GeForce cards do half of the latter.) A GPU that is newer than the list counts as the last before it.
const RATES: [(i32, f64, f64); 6] = [
    (75, 64.0, 512.0),
    (80, 64.0, 1024.0),
    (86, 128.0, 512.0),
    (90, 128.0, 2048.0),
    (100, 128.0, 4096.0),
    (120, 128.0, 512.0),
];

impl Gpu {
    /// What it is and can do at most. Copies for about a tenth of a second.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn limits(self: &Arc<Self>) -> Result<machine::Gpu> {
        let attribute = |number| self.attribute(number).map(f64::from);
        let (major, minor) = (self.attribute(75)?, self.attribute(76)?);
        let (clock, multiprocessors) = (attribute(13)?, attribute(16)?);
        let (memory_clock, bus) = (attribute(36)?, attribute(37)?);
        let known = RATES.iter().rev().find(|rate| rate.0 <= 10 * major + minor);
        let (_, f32, f16) = known.unwrap_or(&RATES[0]);
        // Clocks are in kHz, the bus in bits, of which each clock moves two.
        let gmac_per_s = |rate: &f64| rate * multiprocessors * clock * 1e3 / 1e9;
        let (free_bytes, total_bytes) = self.memory()?;
        Ok(machine::Gpu {
            index: usize::try_from(self.index).unwrap_or(0),
            name: self.name.clone(),
            capability: format!("{major}.{minor}"),
            cuda: version_text(self.driver.version()),
            total_bytes,
            free_bytes,
            peak_gb_per_s: 2.0 * memory_clock * 1e3 * bus / 8.0 / 1e9,
            copy_gb_per_s: self.copy_speed(free_bytes)?,
            f32_gmac_per_s: gmac_per_s(f32),
            f16_gmac_per_s: gmac_per_s(f16),
        })
    }

    /// By the numbers of `CUdevice_attribute`.
    fn attribute(&self, number: c_int) -> Result<c_int> {
        let mut value = 0;
        // SAFETY: writes to a number that lives.
        self.driver.check("cuDeviceGetAttribute", unsafe {
            (self.driver.device_attribute)(&mut value, number, self.device)
        })?;
        Ok(value)
    }

    /// GB that the memory reads and writes a second, when it is copied within itself.
    fn copy_speed(self: &Arc<Self>, free: usize) -> Result<f64> {
        /// More than any cache holds.
        const MOST: usize = 256 << 20;
        let bytes = MOST.min(free / 4).next_multiple_of(4);
        let (from, to) = (Memory::new(self, bytes)?, Memory::new(self, bytes)?);
        self.zero(from.at(), bytes)?;
        let seconds = |copies: usize| {
            self.wait()?;
            let start = Instant::now();
            (0..copies).try_for_each(|_| self.copy(to.at(), from.at(), bytes))?;
            self.wait()?;
            Ok(start.elapsed().as_secs_f64() / copies as f64)
        };
        // The first pays for pages; the second says how many take 20 ms.
        seconds(1)?;
        let copies = ((0.02 / seconds(1)?) as usize).clamp(1, 1000);
        let best = (0..5).try_fold(f64::INFINITY, |best, _| seconds(copies).map(|s: f64| best.min(s)))?;
        Ok(2.0 * bytes as f64 / best / 1e9)
    }
}

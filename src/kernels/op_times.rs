//! What a device's operations took, for `graft bench --ops`.
//!
//! Nobody asks most of the time: then an operation pays for one relaxed load. While it records, each operation takes the
//! time twice and a lock once, some 0.1 µs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::quant::BlockFormat;

/// One call of an operation: which, and how much there is to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work<'a> {
    /// `matmul`, `rms_norm`, …
    pub op: &'static str,
    /// The weights that it reads, with their formats: `attn_q`, the same for all layers.
    pub weights: &'a [(&'a str, BlockFormat)],
    /// Multiply-adds of f32 in matrix products; operations on elements have none.
    pub macs: usize,
    /// The same of integers.
    pub integer_macs: usize,
    /// Bytes that have to come from memory: weights, keys, values. Where there are none of these: activations read and written.
    pub bytes: usize,
}

impl Work<'_> {
    /// An operation on elements, `bytes` read and written.
    pub fn elements(op: &'static str, bytes: usize) -> Self {
        Work {
            op,
            bytes,
            ..Work::default()
        }
    }
}

/// All calls of one operation on the same kinds of weights.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // as in `Work`, summed up
pub struct OpTime {
    pub op: &'static str,
    pub weights: Vec<(String, BlockFormat)>,
    pub calls: usize,
    pub time: Duration,
    pub macs: usize,
    pub integer_macs: usize,
    pub bytes: usize,
}

/// The sums of a device.
#[derive(Default)]
pub struct OpTimes {
    on: AtomicBool,
    /// A few dozen kinds: searched one by one.
    sums: Mutex<Vec<OpTime>>,
}

impl OpTimes {
    /// Forgets what was recorded and records from now on.
    pub fn start(&self) {
        self.sums().clear();
        self.on.store(true, Ordering::Relaxed);
    }

    /// Ends recording; gives what was recorded, in the order of first calls.
    pub fn stop(&self) -> Vec<OpTime> {
        self.on.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.sums())
    }

    /// Runs an operation, and records it if somebody wants to know.
    #[inline]
    pub fn time(&self, work: Work, run: impl FnOnce()) {
        if !self.on.load(Ordering::Relaxed) {
            return run();
        }
        let start = Instant::now();
        run();
        self.add(work, start.elapsed());
    }

    fn add(&self, work: Work, time: Duration) {
        let mut sums = self.sums();
        let names = |s: &OpTime| {
            s.weights
                .iter()
                .map(|(name, format)| (name.as_str(), *format))
                .eq(work.weights.iter().copied())
        };
        let same = |s: &OpTime| s.op == work.op && names(s);
        let at = sums.iter().position(same).unwrap_or_else(|| {
            sums.push(OpTime {
                op: work.op,
                weights: work
                    .weights
                    .iter()
                    .map(|(name, format)| (name.to_string(), *format))
                    .collect(),
                calls: 0,
                time: Duration::ZERO,
                macs: 0,
                integer_macs: 0,
                bytes: 0,
            });
            sums.len() - 1
        });
        let sum = &mut sums[at];
        sum.calls += 1;
        sum.time += time;
        sum.macs += work.macs;
        sum.integer_macs += work.integer_macs;
        sum.bytes += work.bytes;
    }

    /// Sums are whole at any moment, so a panic elsewhere has not spoilt them.
    fn sums(&self) -> MutexGuard<'_, Vec<OpTime>> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Oracle: the calls, counted by hand.
    #[test]
    fn calls_add_up_by_kind_while_recording() {
        let times = OpTimes::default();
        let mut runs = 0;
        let mut call = |weight, format, macs| {
            let work = Work {
                op: "matmul",
                weights: &[(weight, format)],
                macs,
                integer_macs: 2 * macs,
                bytes: 10,
            };
            times.time(work, || runs += 1);
        };
        call("attn_q", BlockFormat::F32, 1); // nobody asked yet
        times.start();
        call("attn_q", BlockFormat::F32, 2);
        call("attn_q", BlockFormat::F16, 4);
        call("attn_k", BlockFormat::F32, 8);
        call("attn_q", BlockFormat::F32, 16);
        let sums = times.stop();
        call("attn_q", BlockFormat::F32, 32);
        assert_eq!(runs, 6, "recorded or not, the operation runs");
        let seen: Vec<_> = sums
            .iter()
            .map(|s| (s.weights[0].0.as_str(), s.calls, (s.macs, s.integer_macs), s.bytes))
            .collect();
        assert_eq!(
            seen,
            [
                ("attn_q", 2, (18, 36), 20),
                ("attn_q", 1, (4, 8), 10),
                ("attn_k", 1, (8, 16), 10)
            ]
        );
        times.start();
        assert!(times.stop().is_empty());
    }
}

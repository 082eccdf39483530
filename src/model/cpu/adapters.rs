//! Operations with adapters, for those of any device: what it has in the CPU's memory too runs there by these.

use crate::kernels::cpu::{self, Acts, Finish, Panels, Readers};
use crate::kernels::op_times::Work;
use crate::kernels::{Cpu, Precision};
use crate::model::backend::{Affine, Backend, Epilogue, GatherOn, LowRankOn, Update};

use super::{CpuWeight, product};

/// [`Backend::linear`] for the adapters of device `b`.
#[allow(clippy::too_many_arguments)] // the operation's
pub fn linear<B: Backend, const N: usize>(
    cpu: &Cpu,
    b: &B,
    to: [(&CpuWeight, &mut Vec<f32>); N],
    acts: &Acts,
    precision: Precision,
    epilogues: [Epilogue<B>; N],
    gates: &[usize],
    next: &[B::Factor],
) {
    let weights = to.each_ref().map(|(w, _)| w.kind());
    let mut work = product(&weights, to.each_ref().map(|(w, _)| *w), acts, precision);
    for l in epilogues.iter().flat_map(|e| e.updates).map(|u| &u.low_rank) {
        let (factor_a, factor_b) = (b.host_factor(&l.a), b.host_factor(&l.b));
        work.macs += acts.rows() * factor_a.rows() * (factor_a.cols() + factor_b.rows());
        work.bytes += factor_a.bytes() + factor_b.bytes();
    }
    let updates = EpilogueUpdates {
        b,
        of: epilogues.each_ref().map(|e| e.updates),
        gates,
        next,
    };
    let finish = epilogues.each_ref().map(|e| Finish {
        bias: e.bias.map(|bias| b.read_vector(bias)),
        factors: e.affine.map(|(factors, _)| b.read_vector(factors)),
        shift: e
            .affine
            .and_then(|(_, shift)| shift.as_ref())
            .map(|shift| b.read_vector(shift)),
    });
    cpu.times().time(work, || {
        let to = to.map(|(w, y)| (w.view(), &mut y[..]));
        Cpu::linear(cpu, to, acts, precision, &updates, finish);
    });
}

/// The updates of epilogues.
struct EpilogueUpdates<'a, B: Backend, const N: usize> {
    b: &'a B,
    of: [&'a [Update<B>]; N],
    gates: &'a [usize],
    next: &'a [B::Factor],
}

impl<B: Backend, const N: usize> cpu::Updates for EpilogueUpdates<'_, B, N> {
    fn get(&self, part: usize, i: usize) -> Option<cpu::LowRank<'_>> {
        let update = self.of[part].get(i)?;
        let from = update.gate.map_or(0, |gate| self.gates[gate]);
        Some(on_cpu(self.b, &update.low_rank, update.scale, from))
    }

    fn next(&self, i: usize) -> Option<&Panels> {
        self.next.get(i).map(|factor| self.b.host_factor(factor))
    }
}

/// The update as the kernels take it.
fn on_cpu<'a, B: Backend>(b: &B, l: &'a LowRankOn<B>, scale: f32, from: usize) -> cpu::LowRank<'a> {
    cpu::LowRank {
        a: b.host_factor(&l.a),
        b: b.host_factor(&l.b),
        mid: l.mid.as_ref().map(|mid| b.read_vector(mid)),
        out: l.out.as_ref().map(|out| b.read_vector(out)),
        scale,
        from,
    }
}

/// [`Backend::low_rank`] for an update of device `b`.
#[allow(clippy::too_many_arguments)] // the operation's
pub fn low_rank<B: Backend>(
    cpu: &Cpu,
    b: &B,
    l: &LowRankOn<B>,
    scale: f32,
    from: usize,
    precision: Precision,
    x: &[f32],
    y: &mut [f32],
) {
    let l = on_cpu(b, l, scale, from);
    let work = Work {
        op: "low_rank",
        macs: (x.len() + y.len()) * l.a.rows(),
        bytes: l.a.bytes() + l.b.bytes(),
        ..Work::default()
    };
    cpu.times().time(work, || Cpu::low_rank(cpu, &l, precision, x, y));
}

/// [`Backend::gather_low_rank`] for an update of device `b`.
pub fn gather_low_rank<B: Backend>(
    cpu: &Cpu,
    b: &B,
    l: &GatherOn<B>,
    scale: f32,
    from: usize,
    ids: &[u32],
    y: &mut [f32],
) {
    let (table, factor) = (b.host(&l.table), b.host_factor(&l.b));
    let work = Work {
        op: "low_rank",
        macs: y.len() * factor.cols(),
        bytes: factor.bytes(),
        ..Work::default()
    };
    let [mid, out] = [&l.mid, &l.out].map(|v| v.as_ref().map(|v| b.read_vector(v)));
    cpu.times().time(work, || {
        Cpu::gather_low_rank(cpu, table.view(), factor, mid, out, scale, from, ids, y);
    });
}

/// [`Backend::affine`] for factors of device `b`.
pub fn affine<B: Backend>(cpu: &Cpu, b: &B, y: &mut [f32], (factors, shift): &Affine<B>) {
    let work = Work::elements("affine", 2 * size_of_val(y));
    let shift = shift.as_ref().map(|shift| b.read_vector(shift));
    cpu.times()
        .time(work, || Cpu::affine(cpu, y, b.read_vector(factors), shift));
}

/// [`Backend::affine_pack`] for factors of device `b`.
pub fn affine_pack<B: Backend, const N: usize>(
    cpu: &Cpu,
    b: &B,
    x: &[f32],
    (factors, shift): &Affine<B>,
    weights: [&CpuWeight; N],
    precision: Precision,
    acts: &mut Acts,
) {
    let formats = weights.map(|w| w.format);
    let readers = Readers::weights(&formats, precision);
    let work = Work::elements("affine_pack", 2 * size_of_val(x));
    let shift = shift.as_ref().map(|shift| b.read_vector(shift));
    cpu.times().time(work, || {
        Cpu::affine_pack(cpu, x, b.read_vector(factors), shift, readers, acts);
    });
}

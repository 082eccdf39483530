//! What an attached adapter takes in the CPU's memory.

use std::collections::HashSet;
use std::mem::size_of;
use std::sync::Arc;

use super::attach::{Attached, PrefixOn, SiteOps};
use super::device::{Action, ByWeight, Dora, Op, Step};
use super::forms::Blocks;
use crate::kernels::Cpu;
use crate::kernels::cpu::Panels;
use crate::model::cpu::CpuWeight;

impl Attached<Cpu> {
    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        let mut sum = Sum::default();
        sum.bytes += self.sites.len() * size_of::<SiteOps<Cpu>>();
        for site in &self.sites {
            site.weight.iter().for_each(|w| sum.weight(w));
            for vector in [&site.bias, &site.norm].into_iter().flatten() {
                sum.once(Arc::as_ptr(vector).cast(), size_of_val(&vector[..]));
            }
            site.ins.iter().chain(&site.outs).for_each(|op| sum.op(op));
        }
        sum.bytes += match &self.prefix {
            None => 0,
            Some((_, PrefixOn::Embeddings(rows))) => size_of_val(&rows[..]),
            Some((_, PrefixOn::KeysAndValues(layers))) => layers
                .iter()
                .map(|(k, v)| size_of_val(&k[..]) + size_of_val(&v[..]))
                .sum(),
        };
        sum.bytes
    }
}

/// A sum in which what is shared counts once.
#[derive(Default)]
struct Sum {
    known: HashSet<*const u8>,
    bytes: usize,
}

impl Sum {
    fn once(&mut self, at: *const u8, bytes: usize) {
        if self.known.insert(at) {
            self.bytes += bytes;
        }
    }

    fn weight(&mut self, w: &CpuWeight) {
        self.once(w.bytes().as_ptr(), w.bytes().len());
    }

    fn factor(&mut self, f: &Panels) {
        self.once(f.address(), f.size());
    }

    fn vector(&mut self, v: Option<&Vec<f32>>) {
        self.bytes += v.map_or(0, |v| size_of_val(&v[..]));
    }

    fn blocks(&mut self, b: &Blocks) {
        self.vector(Some(&b.blocks));
        self.bytes += b.order.as_ref().map_or(0, |order| size_of_val(&order[..]));
    }

    fn op(&mut self, op: &Op<Cpu>) {
        self.bytes += size_of::<Op<Cpu>>();
        op.steps.iter().for_each(|step| self.step(step));
        match &op.by_weight {
            ByWeight::Fixed | ByWeight::Scaled => {}
            ByWeight::Factors(l) => self.vector(Some(l)),
            ByWeight::Dora(dora) => self.dora(dora),
        }
    }

    fn step(&mut self, step: &Step<Cpu>) {
        self.bytes += size_of::<Step<Cpu>>() + size_of::<Action<Cpu>>();
        match &*step.action {
            Action::LowRank(l) => {
                self.factor(&l.a);
                self.factor(&l.b);
                self.vector(l.mid.as_deref());
                self.vector(l.out.as_deref());
            }
            Action::Gather(g) => {
                self.weight(&g.table);
                self.factor(&g.b);
                self.vector(g.mid.as_deref());
                self.vector(g.out.as_deref());
            }
            Action::Dense(d) => self.weight(d),
            Action::Kron(w1, w2) => {
                self.weight(w1);
                self.weight(w2);
            }
            Action::Affine((factors, shift)) => {
                self.vector(Some(factors));
                self.vector(shift.as_ref());
            }
            Action::Bias(bias) => self.vector(Some(bias)),
            Action::Pairs(p) => {
                self.vector(Some(&p.f));
                self.vector(Some(&p.h));
                self.bytes += size_of_val(&p.partner[..]);
            }
            Action::Blocks(blocks) => self.blocks(blocks),
            Action::Rows(ids, rows) => {
                self.bytes += size_of_val(&ids[..]);
                self.weight(rows);
            }
        }
    }

    fn dora(&mut self, dora: &Dora) {
        self.bytes += size_of::<Dora>();
        self.vector(Some(&dora.magnitude));
        self.vector(dora.bias.as_ref());
        self.bytes += dora.squares.iter().map(|v| size_of_val(&v[..])).sum::<usize>();
    }
}

//! What an attached adapter takes in the CPU's memory.

use std::collections::HashSet;
use std::mem::size_of;
use std::sync::Arc;

use super::attach::{Attached, PrefixOn, SiteOps};
use super::device::{Action, ByWeight, Dora, Op, Step};
use super::forms::Blocks;
use crate::kernels::cpu::Panels;
use crate::model::Device;
use crate::model::backend::Backend;

impl Attached<Device> {
    /// Bytes that it takes.
    pub fn bytes(&self, device: &Device) -> usize {
        let mut sum = Sum {
            device,
            known: HashSet::new(),
            bytes: 0,
        };
        sum.bytes += self.sites.len() * size_of::<SiteOps<Device>>();
        for site in &self.sites {
            site.weight.iter().for_each(|w| sum.weight(w));
            for vector in [&site.bias, &site.norm].into_iter().flatten() {
                sum.once(Arc::as_ptr(vector).cast(), size_of_val(device.read_vector(vector)));
            }
            site.ins.iter().chain(&site.outs).for_each(|op| sum.op(op));
        }
        sum.bytes += match &self.prefix {
            None => 0,
            Some((_, PrefixOn::Embeddings(rows))) => size_of_val(&device.read(rows)[..]),
            Some((_, PrefixOn::KeysAndValues(layers))) => layers
                .iter()
                .map(|(k, v)| size_of_val(&device.read(k)[..]) + size_of_val(&device.read(v)[..]))
                .sum(),
        };
        sum.bytes
    }
}

/// A sum in which what is shared counts once.
struct Sum<'a> {
    device: &'a Device,
    known: HashSet<*const u8>,
    bytes: usize,
}

impl Sum<'_> {
    fn once(&mut self, at: *const u8, bytes: usize) {
        if self.known.insert(at) {
            self.bytes += bytes;
        }
    }

    fn weight(&mut self, w: &<Device as Backend>::Weight) {
        let w = self.device.host(w);
        self.once(w.bytes().as_ptr(), w.bytes().len());
    }

    fn factor(&mut self, f: &<Device as Backend>::Factor) {
        let f: &Panels = self.device.host_factor(f);
        self.once(f.address(), f.size());
    }

    fn numbers(&mut self, v: &[f32]) {
        self.bytes += size_of_val(v);
    }

    fn vector(&mut self, v: Option<&<Device as Backend>::Vector>) {
        self.bytes += v.map_or(0, |v| size_of_val(self.device.read_vector(v)));
    }

    fn blocks(&mut self, b: &Blocks) {
        self.numbers(&b.blocks);
        self.bytes += b.order.as_ref().map_or(0, |order| size_of_val(&order[..]));
    }

    fn op(&mut self, op: &Op<Device>) {
        self.bytes += size_of::<Op<Device>>();
        op.steps.iter().for_each(|step| self.step(step));
        match &op.by_weight {
            ByWeight::Fixed | ByWeight::Scaled => {}
            ByWeight::Factors(l) => self.numbers(l),
            ByWeight::Dora(dora) => self.dora(dora),
        }
    }

    fn step(&mut self, step: &Step<Device>) {
        self.bytes += size_of::<Step<Device>>() + size_of::<Action<Device>>();
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
                let p = self.device.host_pairs(p);
                self.numbers(&p.f);
                self.numbers(&p.h);
                self.bytes += size_of_val(&p.partner[..]);
            }
            Action::Blocks(blocks) => self.blocks(self.device.host_blocks(blocks)),
            Action::Rows(ids, rows) => {
                self.bytes += size_of_val(self.device.host_ids(ids));
                self.weight(rows);
            }
        }
    }

    fn dora(&mut self, dora: &Dora) {
        self.bytes += size_of::<Dora>();
        self.numbers(&dora.magnitude);
        self.numbers(dora.bias.as_deref().unwrap_or_default());
        self.bytes += dora.squares.iter().map(|v| size_of_val(&v[..])).sum::<usize>();
    }
}

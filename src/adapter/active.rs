//! The adapters that a session has switched on, as one program for each site.
//!
//! Adapters stand in a list. Neighbours of the same method form a group, as PEFT keeps them in one layer: their operations follow each other
//! in the order of the list (for BOFT and HRA the last one's input operation comes first). Groups nest, as in PEFT's `PeftMixedModel`: a
//! later group takes the earlier ones as its base module, so its input operations come before theirs and its output operations after.

use std::sync::Arc;

use super::attach::{Attached, PrefixOn};
use super::device::{Action, Op, Step};
use crate::error::{Error, Result};
use crate::model::backend::{Affine, Backend, Update};
use crate::model::spec::Spec;
use crate::model::{Part, Site};

/// One group's operations at a site.
pub struct Level<B: Backend> {
    /// On the input.
    pub ins: Vec<Step<B>>,
    /// On the output; sums among them see this level's input before `ins`.
    pub outs: Vec<Step<B>>,
}

/// What runs at a site instead of the plain module.
pub struct Program<B: Backend> {
    /// In place of the base's matrix.
    pub weight: Option<Arc<B::Weight>>,
    /// In place of the base's bias.
    pub bias: Option<Arc<B::Vector>>,
    /// Sums of the innermost level with plain updates come first, computed with the product itself.
    pub updates: Vec<Update<B>>,
    /// Outermost first.
    pub levels: Vec<Level<B>>,
    /// A of the updates of the maps that follow in the pass: the device may fetch them.
    pub next: Vec<B::Factor>,
}

impl<B: Backend> Program<B> {
    fn plain() -> Self {
        Program {
            weight: None,
            bias: None,
            updates: Vec::new(),
            levels: Vec::new(),
            next: Vec::new(),
        }
    }

    /// Moves the updates that come first of all, if they see the matrix's own input, to [`Program::updates`].
    fn take_updates(&mut self) {
        let [Level { ins, outs }] = &mut self.levels[..] else {
            return;
        };
        if !ins.is_empty() {
            return;
        }
        let n = outs
            .iter()
            .take_while(|s| matches!(*s.action, Action::LowRank(_)))
            .count();
        for step in outs.drain(..n) {
            if let Action::LowRank(low_rank) = &*step.action {
                self.updates.push(Update {
                    low_rank: low_rank.clone(),
                    scale: step.scale,
                    gate: step.gate,
                });
            }
        }
        if outs.is_empty() {
            self.levels.clear();
        }
    }

    /// Output operations in their order, without the factors that may be the first: an epilogue of the product.
    pub fn outs(&self) -> (Option<&Affine<B>>, impl Iterator<Item = &Step<B>>) {
        let mut outs = self.levels.iter().rev().flat_map(|level| &level.outs).peekable();
        let first = outs.next_if(|step| step.gate.is_none() && matches!(*step.action, Action::Affine(_)));
        let affine = first.and_then(|step| match &*step.action {
            Action::Affine(affine) => Some(affine),
            _ => None,
        });
        (affine, outs)
    }

    /// Whether no other than a changed input reaches the matrix.
    pub fn changes_input(&self) -> bool {
        self.levels.first().is_some_and(|level| !level.ins.is_empty())
    }

    /// Whether the input reaches the matrix as it is.
    pub fn keeps_input(&self) -> bool {
        self.levels.iter().all(|level| level.ins.is_empty())
    }
}

/// The adapters of a session.
pub struct Active<B: Backend> {
    /// By [`Site::index`]; empty where no adapter is on.
    programs: Vec<Program<B>>,
    plain: Program<B>,
    /// By [`Site::index`].
    norms: Vec<Option<Arc<B::Vector>>>,
    /// The base layer of each layer.
    pub layers: Vec<usize>,
    /// Token sequences at which updates begin.
    pub gates: Vec<Vec<u32>>,
    /// The adapter that stands before the first token.
    prefix: Option<Arc<Attached<B>>>,
    /// Rows of the embedding and of the head.
    pub vocab: (usize, usize),
}

impl<B: Backend> Active<B> {
    /// No adapters.
    pub fn none(spec: &Spec) -> Self {
        Active {
            programs: Vec::new(),
            plain: Program::plain(),
            norms: Vec::new(),
            layers: (0..spec.n_layers).collect(),
            gates: Vec::new(),
            prefix: None,
            vocab: (spec.vocab_size, spec.vocab_size),
        }
    }

    /// `adapters`, each with its weight, in the order of the list.
    ///
    /// # Errors
    /// A weight other than 1 for a method that has none; adapters that cannot be on at once: two that replace the same parameter, the
    /// layers, the vocabulary, or that stand before the first token.
    pub fn new(backend: &B, spec: &Spec, adapters: &[(Arc<Attached<B>>, f32)]) -> Result<Self> {
        let mut active = Self::none(spec);
        if adapters.is_empty() {
            return Ok(active);
        }
        let mut gates = Vec::with_capacity(adapters.len());
        for (a, weight) in adapters {
            if *weight != 1.0 && !a.scalable {
                let e = Error::usage(format!("an adapter of the method {} has no weight", a.method));
                return Err(e.expected(1).found(weight));
            }
            gates.push(a.invocation.as_ref().map(|tokens| {
                active.gates.push(tokens.clone());
                active.gates.len() - 1
            }));
        }
        let twice = |what: &str| Error::usage(format!("only one active adapter can replace {what}"));
        let mut layers = adapters.iter().filter_map(|(a, _)| a.layers.as_ref());
        if let Some(first) = layers.next() {
            active.layers.clone_from(first);
            // The sites of others are those of the plain model.
            if adapters.len() > 1 && adapters.iter().any(|(a, _)| a.layers.as_ref() != Some(first)) {
                return Err(twice("the layers"));
            }
        }
        let plain = active.vocab;
        for (a, _) in adapters.iter().filter(|(a, _)| a.vocab != plain) {
            if active.vocab != plain && active.vocab != a.vocab {
                return Err(twice("the vocabulary"));
            }
            active.vocab = a.vocab;
        }
        for (a, _) in adapters.iter().filter(|(a, _)| a.prefix.is_some()) {
            if active.prefix.replace(a.clone()).is_some() {
                return Err(twice("what stands before the first token"));
            }
        }
        let groups: Vec<Vec<usize>> = groups(adapters.iter().map(|(a, _)| a.method));
        for index in 0..Site::count(active.layers.len()) {
            let mut program = Program::plain();
            let mut norm = None;
            for group in &groups {
                let mut level = Level {
                    ins: Vec::new(),
                    outs: Vec::new(),
                };
                let steps = |ops: &[Op<B>], i: usize, into: &mut Vec<Step<B>>| -> Result<()> {
                    for op in ops {
                        into.extend(op.at(backend, adapters[i].1, gates[i])?);
                    }
                    Ok(())
                };
                let reversed = matches!(adapters[group[0]].0.method, "BOFT" | "HRA");
                for at in 0..group.len() {
                    let i = if reversed {
                        group[group.len() - 1 - at]
                    } else {
                        group[at]
                    };
                    steps(&adapters[i].0.sites[index].ins, i, &mut level.ins)?;
                }
                for &i in group {
                    let site = &adapters[i].0.sites[index];
                    steps(&site.outs, i, &mut level.outs)?;
                    let once = replace(&site.weight, &mut program.weight)
                        && replace(&site.bias, &mut program.bias)
                        && replace(&site.norm, &mut norm);
                    if !once {
                        return Err(twice("a module"));
                    }
                }
                push(&mut program.levels, level);
            }
            if index != Site::Embed.index() {
                program.take_updates();
            }
            active.programs.push(program);
            active.norms.push(norm);
        }
        active.link();
        Ok(active)
    }

    /// Tells each map which updates the pass meets next; behind the last layer comes the first one of the next pass.
    fn link(&mut self) {
        let maps = |layer: usize| Part::PASS.iter().map(move |together| (layer, *together));
        let all: Vec<_> = (0..self.layers.len()).flat_map(maps).collect();
        for (at, &(layer, together)) in all.iter().enumerate() {
            let (behind, those) = all[(at + 1) % all.len()];
            let programs = those
                .iter()
                .map(|part| &self.programs[Site::Layer(behind, *part).index()]);
            let next = programs.flat_map(|p| p.updates.iter().map(|u| u.low_rank.a.clone()));
            self.programs[Site::Layer(layer, together[0]).index()].next = next.collect();
        }
    }

    /// What runs at `site`.
    pub fn program(&self, site: Site) -> &Program<B> {
        self.programs.get(site.index()).unwrap_or(&self.plain)
    }

    /// The weights that an adapter has for a norm.
    pub fn replaced_norm(&self, site: Site) -> Option<&B::Vector> {
        self.norms.get(site.index()).and_then(Option::as_deref)
    }

    /// The weights of a norm: the adapter's, or the base's.
    pub fn norm<'a>(&'a self, site: Site, base: &'a B::Vector) -> &'a B::Vector {
        self.replaced_norm(site).unwrap_or(base)
    }

    /// For each gate the index of the first token that it lets through, where `new` follow `had`: where its sequence last begins, if it ends
    /// among `new`, as PEFT cuts a prompt; all of `new`, if it stands before them; none, if it stands nowhere.
    pub fn gates_from(&self, had: &[u32], new: &[u32]) -> Vec<usize> {
        let before = had.len();
        let at = |i: usize| had.get(i).or_else(|| new.get(i - before));
        let begins = |gate: &[u32], i: usize| gate.iter().enumerate().all(|(j, id)| at(i + j) == Some(id));
        let last = |gate: &Vec<u32>| {
            let starts = (before + new.len() + 1).saturating_sub(gate.len());
            match (0..starts).rev().find(|i| begins(gate, *i)) {
                Some(i) if i + gate.len() > before => i,
                Some(_) => 0,
                None => usize::MAX,
            }
        };
        self.gates.iter().map(last).collect()
    }

    /// Whether the same adapter stands before the first token (or none).
    pub fn same_prefix(&self, other: &Self) -> bool {
        match (&self.prefix, &other.prefix) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        }
    }

    /// What stands before the first token, and how many positions it takes.
    pub fn prefix(&self) -> Option<(usize, &PrefixOn<B>)> {
        self.prefix.as_ref()?.prefix.as_ref().map(|(n, prefix)| (*n, prefix))
    }
}

/// Puts `new`, if there is one, in the place of nothing; `false` if something is there.
fn replace<T>(new: &Option<Arc<T>>, old: &mut Option<Arc<T>>) -> bool {
    match new {
        Some(new) => old.replace(new.clone()).is_none(),
        None => true,
    }
}

/// Adds a level outside of all others. One that leaves the input alone runs behind the level within it.
fn push<B: Backend>(levels: &mut Vec<Level<B>>, level: Level<B>) {
    if level.ins.is_empty() && level.outs.is_empty() {
        return;
    }
    match levels.first_mut() {
        Some(inner) if level.ins.is_empty() => inner.outs.extend(level.outs),
        _ => levels.insert(0, level),
    }
}

/// Runs of equal neighbours, as indices.
fn groups<'a>(methods: impl Iterator<Item = &'a str>) -> Vec<Vec<usize>> {
    let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
    for (i, method) in methods.enumerate() {
        match groups.last_mut() {
            Some((last, indices)) if *last == method => indices.push(i),
            _ => groups.push((method, vec![i])),
        }
    }
    groups.into_iter().map(|g| g.1).collect()
}

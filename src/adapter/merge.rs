//! Adapters in the base's weights: the program of a site, applied to its matrix instead of to its values.
//!
//! All of it is in the order of the model's file, in f32, one matrix at a time.

use std::sync::Arc;

use super::Lowered;
use super::active::{Active, Program};
use super::device::{Action, Step};
use super::forms::Blocks;
use crate::error::{Error, Result};
use crate::kernels::Precision;
use crate::kernels::cpu::{Acts, LowRank, Panels, Readers, Weight};
use crate::linalg::transpose;
use crate::model::backend::{Backend, LowRankOn};
use crate::model::spec::Spec;
use crate::model::{Device, Site, device};
use crate::quant::BlockFormat;

/// That `active` can be merged at all.
///
/// # Errors
/// What depends on the text (a prompt, tokens from which updates begin) or repeats layers is not in the weights.
pub fn check(active: &Active<Device>, spec: &Spec) -> Result<()> {
    refuse(
        active.prefix().is_some(),
        !active.gates.is_empty(),
        active.layers.iter().copied().ne(0..spec.n_layers),
        active.vocab != (spec.vocab_size, spec.vocab_size),
    )
}

/// As [`check`], as far as the file alone tells: a vocabulary and biases are the model's.
///
/// # Errors
/// As [`check`].
pub fn check_file(lowered: &Lowered) -> Result<()> {
    let layers = lowered.layers.iter().flatten().copied();
    let n = lowered.layers.as_ref().map_or(0, Vec::len);
    refuse(
        lowered.prefix.is_some(),
        lowered.invocation.is_some(),
        layers.ne(0..n),
        false,
    )
}

fn refuse(prefix: bool, gates: bool, layers: bool, vocabulary: bool) -> Result<()> {
    let what = match (prefix, gates, layers, vocabulary) {
        (true, ..) => "stands before the text",
        (_, true, ..) => "begins at certain tokens",
        (_, _, true, _) => "repeats layers",
        (.., true) => "has a larger vocabulary than the model's tokenizer",
        _ => return Ok(()),
    };
    Err(Error::unsupported(format!(
        "an adapter that {what} cannot be merged into weights"
    )))
}

/// Whether the module's matrix is another under `program`.
pub fn changes_matrix(program: &Program<Device>) -> bool {
    program.weight.is_some()
        || !program.updates.is_empty()
        || steps(program).any(|step| !matches!(*step.action, Action::Bias(_)))
}

/// The module's bias under `program`; `None` where it has none.
pub fn bias(b: &Device, program: &Program<Device>, base: Option<&[f32]>, rows: usize) -> Option<Vec<f32>> {
    let own = program.bias.as_ref().map(|own| b.read_vector(own));
    let base = own.or(base);
    let mut there = base.is_some();
    let mut bias = base.map_or_else(|| vec![0.0; rows], <[f32]>::to_vec);
    for step in program.levels.iter().rev().flat_map(|level| &level.outs) {
        match &*step.action {
            Action::Bias(add) => {
                there = true;
                let add = b.read_vector(add);
                bias.iter_mut().zip(add).for_each(|(b, a)| *b += step.scale * a);
            }
            Action::Affine((factors, shift)) => {
                let (factors, shift) = (b.read_vector(factors), shift.as_ref().map(|s| b.read_vector(s)));
                bias.iter_mut().zip(factors).for_each(|(b, f)| *b *= f);
                for (b, s) in bias.iter_mut().zip(shift.iter().copied().flatten()) {
                    *b += s;
                }
            }
            Action::Pairs(p) => {
                let (p, old) = (b.host_pairs(p), bias.clone());
                for (j, b) in bias.iter_mut().enumerate() {
                    *b = p.f[j] * old[j] + p.h[j] * old[p.partner[j] as usize];
                }
            }
            _ => {}
        }
    }
    there.then_some(bias)
}

/// The matrix `w`, `[rows][cols]`, of a linear module under `program`, in place. It is the base's, or what the program has instead
/// ([`Program::weight`]).
pub fn linear(b: &Device, program: &Program<Device>, w: &mut Vec<f32>, cols: usize) {
    for update in &program.updates {
        low_rank(b, &update.low_rank, update.scale, w, cols);
    }
    for level in program.levels.iter().rev() {
        // x := T x before W is W T; the last of them reaches W first.
        for step in level.ins.iter().rev() {
            input(b, step, w, cols);
        }
        for step in &level.outs {
            output(b, step, w, cols);
        }
    }
}

/// The embedding under `program`, in place: what each token's row becomes.
pub fn embedding(b: &Device, program: &Program<Device>, table: &mut [f32], cols: usize) -> Result<()> {
    /// Rows that are done together: bounds the memory for what lies between.
    const ROWS: usize = 1024;
    let mut x = <Device as Backend>::Buf::default();
    for (n, rows) in table.chunks_mut(ROWS * cols).enumerate() {
        let ids: Vec<u32> = (n * ROWS..n * ROWS + rows.len() / cols).map(|id| id as u32).collect();
        b.write(rows, &mut x);
        for step in program.levels.iter().rev().flat_map(|level| &level.outs) {
            step.on_embeddings(b, 0, &ids, &mut x);
        }
        rows.copy_from_slice(&b.read(&x));
        b.check()?;
    }
    Ok(())
}

/// Whether embedding and head, which are one tensor in the base, stay one.
pub fn stay_tied(b: &Device, active: &Active<Device>) -> bool {
    let (embed, head) = (active.program(Site::Embed), active.program(Site::Head));
    let same_matrix = |x: &Arc<_>, y: &Arc<_>| same_matrix(b, x, y);
    let same = |one: &Step<Device>, other: &Step<Device>| match (&*one.action, &*other.action) {
        (Action::Rows(ids, rows), Action::Rows(other_ids, others)) => {
            b.host_ids(ids) == b.host_ids(other_ids) && same_matrix(rows, others)
        }
        _ => false,
    };
    let weights = match (&embed.weight, &head.weight) {
        (None, None) => true,
        (Some(a), Some(b)) => same_matrix(a, b),
        _ => false,
    };
    let (a, b): (Vec<_>, Vec<_>) = (steps(embed).collect(), steps(head).collect());
    let updates = embed.updates.is_empty() && head.updates.is_empty();
    weights && updates && a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| same(a, b))
}

/// Whether two matrices hold the same: files store what a tied pair shares once or twice.
fn same_matrix(device: &Device, a: &Arc<<Device as Backend>::Weight>, b: &Arc<<Device as Backend>::Weight>) -> bool {
    let there = Arc::ptr_eq(a, b);
    let (a, b) = (device.host(a), device.host(b));
    there || (a.format(), a.rows(), a.cols(), a.bytes()) == (b.format(), b.rows(), b.cols(), b.bytes())
}

fn steps(program: &Program<Device>) -> impl Iterator<Item = &Step<Device>> {
    program
        .levels
        .iter()
        .flat_map(|level| level.ins.iter().chain(&level.outs))
}

/// W := W T for x := T x.
fn input(b: &Device, step: &Step<Device>, w: &mut Vec<f32>, cols: usize) {
    let cpu = device::cpu(b);
    match &*step.action {
        Action::Affine((factors, _)) => cpu.affine(w, b.read_vector(factors), None),
        // A row of W meets a column of each block where x meets a row.
        Action::Blocks(there) => {
            let there = b.host_blocks(there);
            let (size, mut blocks) = (there.size, there.blocks.clone());
            for block in blocks.chunks_exact_mut(size * size) {
                for i in 0..size {
                    for j in 0..i {
                        block.swap(i * size + j, j * size + i);
                    }
                }
            }
            let transposed = Blocks {
                blocks,
                ..there.clone()
            };
            Backend::blocks(cpu, w, &transposed);
        }
        // W (I + B A) = W + (W B) A.
        Action::LowRank(l) => {
            let (factor_a, factor_b) = (b.host_factor(&l.a), b.host_factor(&l.b));
            let rank = factor_a.rows();
            let (at, bt) = (
                transpose(rank, cols, &factor_a.to_rows()),
                transpose(cols, rank, &factor_b.to_rows()),
            );
            let pack = |rows: usize, cols: usize, values: &[f32]| {
                let mut bytes = Vec::new();
                crate::quant::f32::append(values, &mut bytes);
                Panels::new(rows, cols, BlockFormat::F32, &bytes)
            };
            let (a, b) = (pack(rank, cols, &bt), pack(cols, rank, &at));
            let update = LowRank {
                a: &a,
                b: &b,
                mid: None,
                out: None,
                scale: step.scale,
                from: 0,
            };
            let mut before = Vec::new();
            for rows in w.chunks_mut(CHUNK * cols) {
                before.clear();
                before.extend_from_slice(rows);
                cpu.low_rank(&update, Precision::Exact, &before, rows);
            }
        }
        _ => unreachable!("an operation that `attach` does not put on an input"),
    }
}

/// Rows of W that are done together: bounds the memory for their packed form.
const CHUNK: usize = 1024;

/// W under an operation on the output.
fn output(b: &Device, step: &Step<Device>, w: &mut [f32], cols: usize) {
    match &*step.action {
        Action::LowRank(l) => low_rank(b, l, step.scale, w, cols),
        Action::Dense(d) => {
            let mut row = vec![0.0; cols];
            for (i, out) in w.chunks_exact_mut(cols).enumerate() {
                b.read_rows(d, i, &mut row);
                out.iter_mut().zip(&row).for_each(|(w, d)| *w += step.scale * d);
            }
        }
        Action::Kron(w1, w2) => {
            let (f1, f2) = (values(b, w1), values(b, w2));
            let (w1, w2) = (b.host(w1), b.host(w2));
            let (i1, o2, i2) = (w1.cols(), w2.rows(), w2.cols());
            for (i, out) in w.chunks_exact_mut(cols).enumerate() {
                let (a, b) = (&f1[i / o2 * i1..][..i1], &f2[i % o2 * i2..][..i2]);
                for (out, a) in out.chunks_exact_mut(i2).zip(a) {
                    let a = a * step.scale;
                    out.iter_mut().zip(b).for_each(|(w, b)| *w += a * b);
                }
            }
        }
        Action::Affine((factors, _)) => {
            for (out, f) in w.chunks_exact_mut(cols).zip(b.read_vector(factors)) {
                out.iter_mut().for_each(|w| *w *= f);
            }
        }
        Action::Pairs(p) => {
            let p = b.host_pairs(p);
            // Pairs are disjoint: each is done when its lower row comes.
            for j in 0..p.f.len() {
                let k = p.partner[j] as usize;
                if j < k {
                    let (low, high) = w.split_at_mut(k * cols);
                    let (a, b) = (&mut low[j * cols..][..cols], &mut high[..cols]);
                    for (a, b) in a.iter_mut().zip(b) {
                        (*a, *b) = (p.f[j] * *a + p.h[j] * *b, p.f[k] * *b + p.h[k] * *a);
                    }
                }
            }
        }
        Action::Rows(ids, rows) => {
            for (i, id) in b.host_ids(ids).iter().enumerate() {
                b.read_rows(rows, i, &mut w[*id as usize * cols..][..cols]);
            }
        }
        Action::Bias(_) => {}
        Action::Blocks(_) | Action::Gather(_) => unreachable!("an operation of the embedding"),
    }
}

/// W += scale * diag(out) B diag(mid) A.
fn low_rank(device: &Device, l: &LowRankOn<Device>, scale: f32, w: &mut [f32], cols: usize) {
    let cpu = device::cpu(device);
    let (a, b) = (device.host_factor(&l.a), device.host_factor(&l.b));
    let (mid, out) = (&l.mid, &l.out);
    let [mid, out] = [mid, out].map(|v| v.as_ref().map(|v| device.read_vector(v)));
    let rank = a.rows();
    let at = transpose(rank, cols, &a.to_rows());
    let mut b = b.to_rows();
    for (i, row) in b.chunks_exact_mut(rank).enumerate() {
        let factor = scale * out.as_ref().map_or(1.0, |out| out[i]);
        for (k, v) in row.iter_mut().enumerate() {
            *v *= factor * mid.as_ref().map_or(1.0, |mid| mid[k]);
        }
    }
    let a = Weight::f32(cols, rank, &at);
    let mut acts = Acts::default();
    for (b, rows) in b.chunks(CHUNK * rank).zip(w.chunks_mut(CHUNK * cols)) {
        cpu.pack(
            b,
            rank,
            Readers::weights(&[BlockFormat::F32], Precision::Exact),
            &mut acts,
        );
        cpu.matmul_add(a, &acts, rows);
    }
}

/// A matrix in f32.
pub fn values(b: &Device, w: &<Device as Backend>::Weight) -> Vec<f32> {
    let host = b.host(w);
    let mut values = vec![0.0; host.rows() * host.cols()];
    b.read_rows(w, 0, &mut values);
    values
}

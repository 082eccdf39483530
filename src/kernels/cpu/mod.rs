//! CPU operations.
//!
//! Conventions: activations are row-major `[tokens][features]` f32; `m` = tokens, `k` = input features, `n` = output features.
//!
//! Every method of [`Cpu`] checks its lengths (and panics if the caller broke them: the shapes come from a validated model, so that
//! is a defect of Graft), splits the work into chunks for the team and calls the [`Isa`] table. Results do not depend on the number of
//! threads nor on who did which chunk: each output element is computed by one thread in an order that depends on shapes alone.

mod acts;
mod adapters;
mod adapters_back;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avxvnni;
mod awaited;
mod backward;
mod crossovers;
mod isa;
mod kv_buf;
#[cfg(target_arch = "aarch64")]
mod neon;
mod panels;
pub mod peaks;
mod scalar;
mod scratch;
#[cfg(test)]
mod tests;
mod types;
mod words;

use std::ops::Range;
use std::sync::Arc;

pub use acts::{Acts, ActsSize, PARTNERS, Partner, Readers, partner};
use adapters::Fetched;
pub use adapters::{Finish, Updates};
pub use attention::back_scratch_bytes;
pub use backward::Strided;
pub use panels::Panels;
pub use types::{Act, Attention, KvBuf, LowRank, Precision, RopeTable, Weight, pairs};
pub use words::matmul_back_bytes;

use super::op_times::OpTimes;
use crate::Result;
use crate::model::dropout::Dropout;
use crate::pool::{Executor, Team, physical_cores};
use acts::{BLOCK, Has, I8_LINES, I16_LINES, WHOLE_TILES, interleave, product_of};
use awaited::Awaited;
use crossovers::PANELS_FROM;
use isa::Isa;
use types::Out;
use words::{AHEAD, COLUMNS, SPAN};

/// The CPU backend: function table of the chosen ISA level plus the threads.
pub struct Cpu {
    isa: &'static Isa,
    team: Arc<dyn Executor>,
    times: OpTimes,
}

/// Makes some rows and gives them to its second argument.
type RowsOf<'a> = dyn Fn(Range<usize>, &mut dyn FnMut(&[f32])) + Sync + 'a;

/// Elements below which an elementwise operation is not worth waking a second thread.
const GRAIN: usize = 8192;

/// Pieces of an operation for each thread: so many that none waits long for another's last.
const PIECES: usize = 16;

impl Cpu {
    /// `threads`: None = physical cores. The level is the CPU's best, or what the environment variable `GRAFT_ISA` names.
    ///
    /// # Errors
    /// `Usage` for a thread count of 0 or absurd size or an unknown `GRAFT_ISA`, `Unsupported` for a level that the CPU has not,
    /// `Limit` if the system refuses threads.
    pub fn new(threads: Option<usize>) -> Result<Self> {
        Self::on(Arc::new(Team::new(threads.unwrap_or_else(physical_cores))?))
    }

    /// A backend on threads that others may use too: a [`Team`] of several models, or the application's own. The level is chosen as
    /// in [`new`](Self::new).
    ///
    /// # Errors
    /// As [`new`](Self::new), for `GRAFT_ISA`.
    pub fn on(team: Arc<dyn Executor>) -> Result<Self> {
        let isa = isa::choose()?;
        Ok(Cpu {
            isa,
            team,
            times: OpTimes::default(),
        })
    }

    /// A backend of the level called `isa` (`scalar`, `avx2`, …), whatever `GRAFT_ISA` says.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_isa(threads: Option<usize>, isa: &str) -> Result<Self> {
        Ok(Cpu {
            isa: isa::named(isa)?,
            team: Arc::new(Team::new(threads.unwrap_or_else(physical_cores))?),
            times: OpTimes::default(),
        })
    }

    /// The levels that this CPU has, best first.
    pub fn levels() -> Vec<&'static str> {
        isa::LEVELS
            .iter()
            .filter(|isa| (isa.available)())
            .map(|isa| isa.name)
            .collect()
    }

    /// Name of the level in use: `scalar`, `avx2`, …
    pub fn isa(&self) -> &'static str {
        self.isa.name
    }

    /// Threads that work on an operation.
    pub fn threads(&self) -> usize {
        self.team.threads()
    }

    /// What the operations took, where the model calls them.
    pub fn times(&self) -> &OpTimes {
        &self.times
    }

    /// The threads, for a backend that shares them.
    pub fn shared_team(&self) -> Arc<dyn Executor> {
        self.team.clone()
    }

    /// The threads, for other loops that want them.
    pub fn team(&self) -> &dyn Executor {
        &*self.team
    }

    /// `out[t] = scale * row ids[t]` of `w` (dequantized exactly). ids are < w.rows (checked: panics otherwise).
    pub fn embed(&self, w: Weight, ids: &[u32], scale: f32, out: &mut [f32]) {
        w.check();
        assert_eq!(out.len(), ids.len() * w.cols, "embed: output length");
        if w.cols == 0 {
            return;
        }
        for (&id, row) in ids.iter().zip(out.chunks_exact_mut(w.cols)) {
            assert!((id as usize) < w.rows, "embed: id {id} of {} rows", w.rows);
            w.format.dequantize(w.row(id as usize), row);
            if scale != 1.0 {
                row.iter_mut().for_each(|v| *v *= scale);
            }
        }
    }

    /// Each row of `weight.len()`: x / sqrt(mean(x^2) + eps) * weight.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        assert_eq!(x.len(), out.len(), "rms_norm: lengths");
        self.rows(out, weight.len(), 1, |t, row| {
            row.copy_from_slice(&x[t * weight.len()..][..weight.len()]);
            // SAFETY: the level was chosen for this CPU; equal lengths.
            unsafe { (self.isa.rms_norm)(row, weight, eps) }
        });
    }

    /// The same in place (q/k norm per head; post norms).
    pub fn rms_norm_inplace(&self, x: &mut [f32], weight: &[f32], eps: f32) {
        self.rows(x, weight.len(), 1, |_, row| {
            // SAFETY: the level was chosen for this CPU; equal lengths.
            unsafe { (self.isa.rms_norm)(row, weight, eps) }
        });
    }

    /// Each row of x, `[m][cols]`, loses numbers.
    pub fn drop_out(&self, x: &mut [f32], cols: usize, dropout: &Dropout) {
        self.rows(x, cols, 1, |index, row| dropout.row(index, row));
    }

    /// Copies/quantizes `x` (`[m][k]`) into `acts` in every form that its readers need.
    pub fn pack(&self, x: &[f32], k: usize, readers: Readers, acts: &mut Acts) {
        assert!(
            k > 0 && x.len().is_multiple_of(k),
            "pack: {} elements are not rows of {k}",
            x.len()
        );
        let m = x.len() / k;
        self.pack_rows(m, k, readers.forms(m, k), k, acts, &|rows, pack| {
            pack(&x[rows.start * k..rows.end * k]);
        });
    }

    /// [`rms_norm`](Self::rms_norm) of `x` to `normed`, and [`pack`](Self::pack) of that, in one go: a row is packed while it is in the
    /// cache of the core that normed it.
    #[allow(clippy::too_many_arguments)] // those of two operations
    pub fn norm_pack(
        &self,
        x: &[f32],
        weight: &[f32],
        eps: f32,
        normed: &mut [f32],
        readers: Readers,
        acts: &mut Acts,
    ) {
        let k = weight.len();
        assert!(
            k > 0 && x.len().is_multiple_of(k),
            "norm_pack: {} elements are not rows of {k}",
            x.len()
        );
        assert_eq!(x.len(), normed.len(), "norm_pack: lengths");
        let m = normed.len() / k;
        let out = Out::new(normed, k);
        self.pack_rows(m, k, readers.forms(m, k), k, acts, &|rows, pack| {
            // SAFETY: `pack_rows` asks for each row once.
            let normed = unsafe { out.rows(rows.clone()) };
            normed.copy_from_slice(&x[rows.start * k..rows.end * k]);
            for row in normed.chunks_exact_mut(k) {
                // SAFETY: the level was chosen for this CPU; equal lengths.
                unsafe { (self.isa.rms_norm)(row, weight, eps) }
            }
            pack(normed);
        });
    }

    /// [`pack`](Self::pack) of factors ⊙ x + shift for each row x.
    pub fn affine_pack(&self, x: &[f32], factors: &[f32], shift: Option<&[f32]>, readers: Readers, acts: &mut Acts) {
        let k = factors.len();
        assert!(
            k > 0 && x.len().is_multiple_of(k) && shift.is_none_or(|s| s.len() == k),
            "affine_pack: {} elements are not rows of {k}",
            x.len()
        );
        let m = x.len() / k;
        self.pack_rows(m, k, readers.forms(m, k), k, acts, &|rows, pack| {
            scratch::with_f32(rows.len() * k, |changed| {
                changed.copy_from_slice(&x[rows.start * k..rows.end * k]);
                for row in changed.chunks_exact_mut(k) {
                    adapters::scale(row, factors, shift);
                }
                pack(changed);
            });
        });
    }

    /// Packs m rows of k, which `rows` gives to its second argument: each once, by tiles, on any thread. `cost` is how many elements making a row is worth.
    fn pack_rows(&self, m: usize, k: usize, has: Has, cost: usize, acts: &mut Acts, rows: &RowsOf) {
        assert!(
            !(has.i8 || has.i16 || has.words) || k.is_multiple_of(BLOCK),
            "pack: rows of {k} are not blocks of {BLOCK}"
        );
        acts.reserve(m, k, has);
        if m == 0 {
            return;
        }
        let (tile, f32_tile) = (acts.tile(), acts.f32_tile());
        let room = if has.whole { 0 } else { acts.outlier_room() };
        let words = |lines: usize| tile * (k / BLOCK) * lines;
        let (i8, i16) = (
            Chunks::new(&mut acts.i8, words(I8_LINES)),
            Chunks::new(&mut acts.i16, words(I16_LINES)),
        );
        let (outliers, counts) = (
            Chunks::new(&mut acts.outliers, room),
            Chunks::new(&mut acts.outlier_counts, 1),
        );
        let x = Chunks::new(&mut acts.x, f32_tile * k);
        let (codes, scales) = (
            Chunks::new(&mut acts.words, SPAN),
            Chunks::new(&mut acts.word_scales, 1),
        );
        let unit = if m < PANELS_FROM { 1 } else { WHOLE_TILES };
        self.split(m.div_ceil(unit), (GRAIN / (unit * cost)).max(1), &|range| {
            for first in range.map(|index| index * unit) {
                rows(first..(first + unit).min(m), &mut |rows| {
                    if has.x {
                        for (i, rows) in rows.chunks(f32_tile * k).enumerate() {
                            // SAFETY: `split` gives each unit, which is whole tiles, to one chunk.
                            interleave(rows, k, f32_tile, unsafe { x.get(first / f32_tile + i) });
                        }
                    }
                    if has.words {
                        for (t, row) in rows.chunks_exact(k).enumerate() {
                            for (span, x) in row.chunks(SPAN).enumerate() {
                                let index = span * m + first + t;
                                // SAFETY: as above; k is whole blocks; the level fits the CPU.
                                unsafe { scales.get(index)[0] = (self.isa.pack_words)(x, AHEAD.x, codes.get(index)) };
                            }
                        }
                    }
                    for (i, rows) in rows.chunks(tile * k).enumerate() {
                        let index = first / tile + i;
                        // SAFETY: as above; the level fits the CPU; k is whole blocks.
                        unsafe {
                            if has.i8 {
                                let found = (self.isa.pack_i8)(rows, k, tile, i8.get(index), outliers.get(index));
                                counts.get(index)[0] = found as u32;
                            }
                            if has.i16 {
                                (self.isa.pack_i16)(rows, k, tile, i16.get(index));
                            }
                        }
                    }
                });
            }
        });
    }

    /// `y[m][n] = x w^T`.
    pub fn matmul(&self, w: Weight, acts: &Acts, precision: Precision, y: &mut [f32]) {
        self.matmul_all([(w, y)], acts, precision);
    }

    /// The same for several matrices that read the same activations, as one job for the team: a small matrix would keep only some
    /// threads busy, and each job costs a barrier.
    pub fn matmul_all<const N: usize>(&self, to: [(Weight, &mut [f32]); N], acts: &Acts, precision: Precision) {
        self.linear(to, acts, precision, &(), [Finish::default(); N]);
    }

    /// The same with the low-rank updates of each matrix, and what finishes its columns: each thread does that with what it has just
    /// computed.
    pub fn linear<const N: usize>(
        &self,
        to: [(Weight, &mut [f32]); N],
        acts: &Acts,
        precision: Precision,
        updates: &impl Updates,
        finish: [Finish; N],
    ) {
        let parts = to.map(|(w, y)| {
            w.check();
            assert_eq!(w.cols, acts.k, "matmul: columns of the weight and of the input");
            assert_eq!(Some(y.len()), acts.m.checked_mul(w.rows), "matmul: output length");
            let partner = product_of(w.format, precision, acts.m);
            let packed = match partner {
                Partner::F32 => acts.has.x,
                Partner::I8 => acts.has.i8,
                Partner::I16 => acts.has.i16,
                Partner::Words => acts.has.words,
            };
            let name = w.format.name();
            assert!(packed, "matmul: the input was not packed for {name} in {precision:?}");
            (w, partner, Out::new(y, w.rows))
        });
        if acts.m == 0 {
            return;
        }
        let heights = parts.map(|(w, ..)| w.rows);
        let fetched = Fetched::default();
        let (starts, width) = adapters::starts::<_, N>(updates);
        let fetches = acts.m < PANELS_FROM && (width > 0 || updates.next(0).is_some());
        // Updates cost something for each piece: on SmolLM2 with all linear layers adapted generation loses 13 % with 16, 10 % with 6.
        let pieces = if fetches { 6 } else { PIECES };
        let in_words = parts.iter().any(|(_, partner, _)| *partner == Partner::Words);
        let panel = self.isa.panel_rows.max(if in_words { COLUMNS } else { 0 });
        let multiply = |u: Option<&Awaited<Acts>>| {
            self.split_panels(panel, pieces, &heights, acts.k, acts.m, &|part, rows| {
                let (w, partner, y) = parts[part];
                if let Some(u) = u {
                    u.offer(|u| self.products(updates, starts, width, acts, u));
                }
                if fetches {
                    self.fetch(updates, part, rows.clone(), heights.iter().sum(), &fetched);
                }
                // SAFETY: the weight was checked, `split_rows` gives each column of y to one chunk, the form is packed.
                unsafe {
                    match partner {
                        Partner::F32 => (self.isa.matmul_f32)(w, acts, y, false, rows.clone()),
                        Partner::Words => self.matmul_words(w, acts, y, rows.clone()),
                        _ => (self.isa.matmul_int)(w, acts, y, rows.clone()),
                    }
                    if let Some(u) = u {
                        self.add_updates(updates, part, starts[part], u.get(), y, rows.clone());
                    }
                    self.finish(finish[part], acts.m, y, rows);
                }
            });
        };
        if width == 0 {
            return multiply(None);
        }
        scratch::with_acts(|u| {
            let u = Awaited::new(u);
            // Of many tokens all threads make a part of it. Of a few one thread does, while the others begin with the weights.
            if acts.m >= PANELS_FROM {
                u.offer(|u| self.products(updates, starts, width, acts, u));
            }
            multiply(Some(&u));
        });
    }

    /// `y[m][n] += x w^T`, x packed in f32.
    pub fn matmul_add(&self, w: Weight, acts: &Acts, y: &mut [f32]) {
        self.matmul_f32(w, acts, y, true);
    }

    /// y[m][n] (+)= x w^T in f32.
    pub(super) fn matmul_f32(&self, w: Weight, acts: &Acts, y: &mut [f32], add: bool) {
        w.check();
        assert!(
            acts.has.x && acts.k == w.cols,
            "matmul: the input was not packed for f32"
        );
        assert_eq!(y.len(), acts.m * w.rows, "matmul: output length");
        let y = Out::new(y, w.rows);
        self.split_rows(&[w.rows], w.cols, y.m(), &|_, rows| {
            // SAFETY: as in `matmul_all`.
            unsafe { (self.isa.matmul_f32)(w, acts, y, add, rows) }
        });
    }

    /// y += x.
    pub fn add(&self, y: &mut [f32], x: &[f32]) {
        assert_eq!(y.len(), x.len(), "add: lengths");
        self.elements(y, |at, y| {
            // SAFETY: the level fits the CPU; equal lengths.
            unsafe { (self.isa.add)(y, &x[at..][..y.len()]) }
        });
    }

    /// y = x.
    pub fn copy(&self, x: &[f32], y: &mut [f32]) {
        assert_eq!(y.len(), x.len(), "copy: lengths");
        self.elements(y, |at, y| y.copy_from_slice(&x[at..][..y.len()]));
    }

    /// x = 0.
    pub fn zeros(&self, x: &mut [f32]) {
        self.elements(x, |_, x| x.fill(0.0));
    }

    /// x = scale * x.
    pub fn scale(&self, x: &mut [f32], scale: f32) {
        self.elements(x, |_, x| x.iter_mut().for_each(|v| *v *= scale));
    }

    /// Rotates `x` = `[m][heads][head_dim]` in place.
    pub fn rope(&self, x: &mut [f32], heads: usize, head_dim: usize, table: &RopeTable) {
        let half = table.dims / 2;
        assert!(
            table.dims.is_multiple_of(2) && table.dims <= head_dim,
            "rope: {} of {head_dim} dimensions",
            table.dims
        );
        let width = heads * head_dim;
        assert!(width > 0 && x.len().is_multiple_of(width), "rope: input length");
        let m = x.len() / width;
        assert!(
            table.cos.len() >= m * half && table.sin.len() >= m * half,
            "rope: table too short"
        );
        self.rows(x, width, 1, |t, row| {
            let (cos, sin) = (&table.cos[t * half..][..half], &table.sin[t * half..][..half]);
            // SAFETY: the level fits the CPU; lengths checked above.
            unsafe { (self.isa.rope)(row, head_dim, cos, sin, table.interleaved) }
        });
    }

    /// gate = act(gate) * up.
    pub fn gated(&self, act: Act, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "gated: lengths");
        self.elements(gate, |at, gate| {
            // SAFETY: the level fits the CPU; equal lengths.
            unsafe { (self.isa.gated)(act, gate, &up[at..][..gate.len()]) }
        });
    }

    /// x = cap * tanh(x / cap).
    pub fn softcap(&self, x: &mut [f32], cap: f32) {
        self.elements(x, |_, x| {
            // SAFETY: the level fits the CPU.
            unsafe { (self.isa.softcap)(x, cap) }
        });
    }

    /// Calls `f(first element, elements)` for pieces of `x`, in parallel if it is long.
    fn elements(&self, x: &mut [f32], f: impl Fn(usize, &mut [f32]) + Sync) {
        // Pieces start at multiples of a vector, so that vector and tail elements are the same on any number of threads.
        const UNIT: usize = 1024;
        if x.is_empty() {
            return;
        }
        let len = x.len();
        let out = Out::new(x, len);
        self.split(len.div_ceil(UNIT), GRAIN / UNIT, &|units| {
            let at = units.start * UNIT;
            // SAFETY: `split` gives each unit to one chunk.
            f(at, unsafe { out.at(0, at, (units.end * UNIT).min(len) - at) });
        });
    }

    /// Calls `f(index, row)` for each row of `width` elements, in parallel if there are many.
    fn rows(&self, x: &mut [f32], width: usize, cost: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
        assert!(
            width > 0 && x.len().is_multiple_of(width),
            "{} elements are not rows of {width}",
            x.len()
        );
        let m = x.len() / width;
        let out = Out::new(x, width);
        self.split(m, (GRAIN / (width * cost)).max(1), &|range| {
            for t in range {
                // SAFETY: `split` gives each row to one chunk.
                f(t, unsafe { out.at(t, 0, width) });
            }
        });
    }

    /// Calls `f` for ranges that cover `0..n`, at least `grain` long, several for each thread: neighbours one after the other, so that
    /// what one fetches ahead the next one finds, and so many that no thread waits long for another's last.
    fn split(&self, n: usize, grain: usize, f: &(dyn Fn(Range<usize>) + Sync)) {
        self.split_by(PIECES, n, grain, f);
    }

    /// [`split`](Self::split) with at most `pieces` for each thread.
    fn split_by(&self, pieces: usize, n: usize, grain: usize, f: &(dyn Fn(Range<usize>) + Sync)) {
        let pieces = (n / grain.max(1)).clamp(1, self.threads() * pieces);
        let step = n.div_ceil(pieces).max(1);
        self.team
            .run(n.div_ceil(step), &|c| f(c * step..((c + 1) * step).min(n)));
    }

    /// Calls `f(matrix, rows)` for ranges of output rows of matrices of k columns that meet m tokens; ranges start at multiples of
    /// the panels' height.
    fn split_rows(&self, rows: &[usize], k: usize, m: usize, f: &(dyn Fn(usize, Range<usize>) + Sync)) {
        self.split_panels(self.isa.panel_rows, PIECES, rows, k, m, f);
    }

    /// [`split_rows`](Self::split_rows) with panels of so many rows, and at most `pieces` for each thread.
    fn split_panels(
        &self,
        panel: usize,
        pieces: usize,
        rows: &[usize],
        k: usize,
        m: usize,
        f: &(dyn Fn(usize, Range<usize>) + Sync),
    ) {
        /// Multiply-adds that are worth a chunk of their own: about a microsecond on one core.
        const WORTH: usize = 1 << 15;
        let grain = (WORTH / (panel * k * m).max(1)).max(1);
        let panels = rows.iter().map(|rows| rows.div_ceil(panel)).sum();
        self.split_by(pieces, panels, grain, &|range| {
            // Panels are counted through all matrices.
            let mut first = 0;
            for (i, &rows) in rows.iter().enumerate() {
                let end = first + rows.div_ceil(panel);
                let (from, to) = (range.start.clamp(first, end), range.end.clamp(first, end));
                if from < to {
                    f(i, (from - first) * panel..((to - first) * panel).min(rows));
                }
                first = end;
            }
        });
    }
}

/// A slice cut into equal pieces that different threads fill.
struct Chunks<'a, T> {
    ptr: *mut T,
    len: usize,
    piece: usize,
    _lifetime: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: `get` is unsafe; its callers promise that no piece is used twice at once.
unsafe impl<T: Send> Sync for Chunks<'_, T> {}

impl<'a, T> Chunks<'a, T> {
    fn new(all: &'a mut [T], piece: usize) -> Self {
        Chunks {
            ptr: all.as_mut_ptr(),
            len: all.len(),
            piece,
            _lifetime: std::marker::PhantomData,
        }
    }

    /// Piece `index`.
    ///
    /// # Safety
    /// Nobody else uses this piece while the slice lives.
    #[allow(clippy::mut_from_ref)]
    unsafe fn get(&self, index: usize) -> &mut [T] {
        assert!((index + 1) * self.piece <= self.len, "piece out of range");
        // SAFETY: in range as just checked; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(index * self.piece), self.piece) }
    }
}

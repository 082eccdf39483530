//! The table of functions of one ISA level, and the one place where a level is chosen.
//!
//! Functions see one unit of work (a row, a tile, a range of output rows); [`Cpu`](super::Cpu) checks shapes and splits operations into units.

use std::ops::Range;

use super::acts::{Acts, Outlier};
#[cfg(target_arch = "aarch64")]
use super::neon;
use super::panels::{Codes, How, Records};
use super::scalar;
use super::types::{Act, Attention, KvBuf, Out, Weight};
use super::words::{COLUMNS, SPAN};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512, avxvnni};
use crate::{Error, Result};

/// See [`Isa::pack_i8`].
pub(crate) type PackI8 =
    unsafe fn(x: &[f32], k: usize, tile: usize, out: &mut [u32], outliers: &mut [Outlier]) -> usize;

/// See [`Isa::matmul_int`].
pub(crate) type MatmulInt = unsafe fn(w: Weight, acts: &Acts, y: Out, rows: Range<usize>);

/// See [`Isa::panel`].
pub(crate) type PanelOf =
    unsafe fn(w: &[f32], n: usize, x: &[f32], tokens: usize, y: Out, at: (usize, usize), how: How);

/// See [`Isa::gated_back`].
pub(crate) type GatedBack =
    unsafe fn(act: Act, gate: &[f32], up: &[f32], dh: &[f32], d_gate: &mut [f32], d_up: &mut [f32]);

/// Packs rows of w, whole eights and at most [`SPAN`](super::words::SPAN), in columns from `column` on, as many as `scales`, whole blocks of w
/// and whole panels, for [`Words`]: panels one after the other. `unpacked` has room for all.
pub(crate) type WordPanels = unsafe fn(
    w: Weight,
    rows: Range<usize>,
    column: usize,
    unpacked: &mut [f32],
    panels: &mut [i16],
    scales: &mut [f32],
);

/// Packs [`COLUMNS`](super::words::COLUMNS) rows of w from `row` on, zeros past the last, in `columns`, whole blocks and at most
/// [`SPAN`](super::words::SPAN), for [`Words`]: the rows of w are the columns of the panel. `unpacked` has room for all.
pub(crate) type WordRows = unsafe fn(
    w: Weight,
    row: usize,
    columns: Range<usize>,
    unpacked: &mut [f32],
    panel: &mut [i16],
    scales: &mut [f32],
);

/// See [`Isa::codes`].
pub(crate) type CodesOf = unsafe fn(p: Codes, panels: Range<usize>, x: Records, y: Out, column: usize, how: How);

/// One level's kernels.
///
/// # Safety
/// Every function may be called only on a CPU with the level's features; [`choose`] hands out no other table. Further conditions
/// stand at the field; slices carry their own lengths, which the functions check or which [`Cpu`](super::Cpu) has checked.
pub(crate) struct Isa {
    /// `scalar`, `avx2`, …
    pub name: &'static str,
    /// Whether this CPU can run it.
    pub available: fn() -> bool,
    /// Output rows that the matrix kernels make together: work is split at multiples of it.
    pub panel_rows: usize,
    /// One row: x = x / sqrt(mean(x^2) + eps) * weight. `x.len() == weight.len()`.
    pub rms_norm: unsafe fn(x: &mut [f32], weight: &[f32], eps: f32),
    /// One token's heads, `[heads][head_dim]`; `cos`, `sin` have dims/2 elements, dims <= head_dim.
    pub rope: unsafe fn(x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32], interleaved: bool),
    /// gate = act(gate) * up, equal lengths.
    pub gated: unsafe fn(act: Act, gate: &mut [f32], up: &[f32]),
    /// y += x, equal lengths.
    pub add: unsafe fn(y: &mut [f32], x: &[f32]),
    /// x = cap * tanh(x / cap).
    pub softcap: unsafe fn(x: &mut [f32], cap: f32),
    /// f32 to f16 bits, round to nearest even, equal lengths.
    pub to_f16: unsafe fn(x: &[f32], out: &mut [u16]),
    /// Quantizes rows of k (`x` = `[rows][k]`, rows <= tile) to the int8 records of one tile; returns the number of outliers. Without room
    /// for them they stay in their blocks.
    pub pack_i8: PackI8,
    /// The same to int16 records, without outliers.
    pub pack_i16: unsafe fn(x: &[f32], k: usize, tile: usize, out: &mut [u32]),
    /// Columns `rows` of y = x w^T (or += if `add`), x being the f32 form of `acts`, which is present, of as many rows as y.
    /// `w` is checked, `rows` is within it, nobody else uses these columns of `y`.
    pub matmul_f32: unsafe fn(w: Weight, acts: &Acts, y: Out, add: bool, rows: Range<usize>),
    /// The same, = only, with the packed form of the format's [`partner`](super::acts::partner), which is I8 or I16 and present.
    pub matmul_int: MatmulInt,
    /// Products of the tokens of one tile with the `n` rows of a panel in f32, `[columns][16]`: from row and column `at` of y on. `x` is a
    /// row of as many columns (one token), or a tile of f32 activations, of which `tokens` count. Nobody else uses this part of `y`.
    pub panel: PanelOf,
    /// Products of some tiles with some panels in int8: rows of y as in the batch, columns from `column` on, 16 for each panel (of all,
    /// not only these). Nobody else uses this part of `y`.
    pub codes: CodesOf,
    /// Asks for bytes that this thread will read: soon, in some microseconds, or later (which is what the second-level cache holds).
    pub fetch: fn(bytes: &[u8], soon: bool),
    /// Unnormalized attention: see [`AttentionPart`].
    pub attention: unsafe fn(part: AttentionPart),
    /// A product of two matrices in f32: see [`Product`].
    pub product: unsafe fn(p: Product),
    /// Codes, of at most `code`, of a row of gradients or activations, whole sixteens and at most [`SPAN`](super::words::SPAN); returns their
    /// scale.
    pub pack_words: unsafe fn(x: &[f32], code: f32, out: &mut [i16]) -> f32,
    /// See [`WordPanels`].
    pub word_panels: WordPanels,
    /// See [`WordRows`].
    pub word_rows: WordRows,
    /// Products of activations or gradients with a panel of weights: see [`Words`].
    pub word_products: unsafe fn(p: Words),
    /// What [`gated`](Self::gated) makes of gradients: of h = act(gate) * up and dh, `d_gate` and `d_up`. Equal lengths.
    pub gated_back: GatedBack,
    /// x = exp(x - highest); returns the sum.
    pub exps: unsafe fn(x: &mut [f32], highest: f32) -> f32,
}

/// y[t][j] = (or +=) the sum over c of x[t][c] w[c][j]: unlike the weights of the forward pass the right factor lies as it is summed, a row
/// for each c, which is what gradients need; the left one may lie in any order.
pub(crate) struct Product<'a> {
    /// Element c of row t at `t * x_row + c * x_col`.
    pub x: &'a [f32],
    pub x_row: usize,
    pub x_col: usize,
    /// Row c at `c * pitch`, at least `columns` long.
    pub w: &'a [f32],
    pub pitch: usize,
    /// Terms of a sum.
    pub depth: usize,
    /// Rows of x and y.
    pub rows: usize,
    /// Columns of w and y.
    pub columns: usize,
    /// Row and column `at` of it is the first. Nobody else uses this part.
    pub y: Out<'a>,
    pub at: (usize, usize),
    /// += instead of =.
    pub add: bool,
}

impl Product<'_> {
    /// Panics unless all that is read is there.
    pub fn check(&self) {
        if self.rows == 0 || self.columns == 0 {
            return;
        }
        let last = |n: usize| n.saturating_sub(1);
        assert!(
            self.depth == 0
                || self.x.len() > last(self.rows) * self.x_row + last(self.depth) * self.x_col
                    && self.w.len() >= last(self.depth) * self.pitch + self.columns,
            "product: a factor is too short"
        );
        assert!(
            self.at.0 + self.rows <= self.y.m() && self.at.1 + self.columns <= self.y.n(),
            "product: the result is too small"
        );
    }
}

/// Rows of activations or gradients and a panel of weights in words, [`COLUMNS`](super::words::COLUMNS) wide: row t and column j of y = or += the sum over c of x[t][c] panel[c][j], times both scales.
pub(crate) struct Words<'a> {
    /// `[depth / 2][COLUMNS][2]`: two rows' codes of a column side by side; depth at most [`SPAN`](super::words::SPAN).
    pub panel: &'a [i16],
    /// Of the columns.
    pub scales: &'a [f32],
    /// `[rows][SPAN]`, of which depth count.
    pub x: &'a [i16],
    /// Of the rows.
    pub x_scales: &'a [f32],
    /// As many rows. Nobody else uses these columns.
    pub y: Out<'a>,
    /// The first of them.
    pub column: usize,
    /// += instead of =.
    pub add: bool,
}

impl Words<'_> {
    /// Rows of the panel. Panics unless all that is read and written is there.
    pub fn depth(&self) -> usize {
        let depth = self.panel.len() / COLUMNS;
        assert!(
            depth <= SPAN
                && depth.is_multiple_of(2)
                && self.scales.len() == COLUMNS
                && self.x.len() == self.x_scales.len() * SPAN
                && self.x_scales.len() == self.y.m()
                && self.column + COLUMNS <= self.y.n(),
            "words: lengths"
        );
        depth
    }
}

/// One unit of attention: some query rows of all heads that share some kv heads, against some keys.
pub(crate) struct AttentionPart<'a> {
    /// The whole call.
    pub a: &'a Attention,
    /// `[m][heads * head_dim]`
    pub q: &'a [f32],
    /// Keys; at least `capacity * kv_heads * head_dim` elements, as `v`.
    pub k: &'a KvBuf,
    /// Values, of the same element type.
    pub v: &'a KvBuf,
    /// Which kv heads.
    pub kv_heads: Range<usize>,
    /// Query rows.
    pub rows: Range<usize>,
    /// Key positions; each row sees those that [`Attention::visible`] has too.
    pub keys: Range<usize>,
    /// For each of the kv heads, each row and each of its heads/kv_heads heads: `head_dim` sums of exp(score - max) * v, then max, then sum
    /// of exp(score - max). No visible key: zeros, -inf, 0.
    pub out: &'a mut [f32],
}

/// All levels, best first. To add a level: its folder, and its line here.
pub(crate) static LEVELS: &[&Isa] = &[
    #[cfg(target_arch = "x86_64")]
    &avx512::ISA,
    #[cfg(target_arch = "x86_64")]
    &avxvnni::ISA,
    #[cfg(all(test, target_arch = "x86_64"))]
    &avxvnni::twin::ISA,
    #[cfg(target_arch = "x86_64")]
    &avx2::ISA,
    #[cfg(target_arch = "aarch64")]
    &neon::I8MM,
    #[cfg(target_arch = "aarch64")]
    &neon::DOTPROD,
    #[cfg(target_arch = "aarch64")]
    &neon::NEON,
    &scalar::ISA,
];

/// The best level of this CPU, or the one that the environment variable `GRAFT_ISA` names.
///
/// # Errors
/// `Usage` if `GRAFT_ISA` names an unknown level, `Unsupported` if the CPU does not have it.
pub(crate) fn choose() -> Result<&'static Isa> {
    match std::env::var("GRAFT_ISA") {
        Ok(name) if !name.is_empty() => named(&name),
        _ => Ok(LEVELS.iter().find(|isa| (isa.available)()).unwrap_or(&&scalar::ISA)),
    }
}

/// The level called `name`.
pub(crate) fn named(name: &str) -> Result<&'static Isa> {
    let names = || LEVELS.iter().map(|isa| isa.name).collect::<Vec<_>>().join(", ");
    let isa = LEVELS.iter().find(|isa| isa.name == name).ok_or_else(|| {
        Error::usage("unknown instruction set level")
            .item("GRAFT_ISA")
            .expected(names())
            .found(name)
    })?;
    if !(isa.available)() {
        return Err(Error::unsupported("this CPU does not have the instruction set level")
            .item("GRAFT_ISA")
            .found(name));
    }
    Ok(isa)
}

//! What the operations of [`Cpu`](super::Cpu) are told: plain data.

use std::ops::Range;

use super::panels::Panels;
use crate::quant::BlockFormat;

/// A weight matrix as it lies in the file: `rows` (outputs) of `cols` (inputs) in blocks of `format`.
#[derive(Clone, Copy)]
pub struct Weight<'a> {
    /// Block format.
    pub format: BlockFormat,
    /// Output features n.
    pub rows: usize,
    /// Input features k; a multiple of the block length.
    pub cols: usize,
    /// `rows * bytes_for(cols)` bytes.
    pub data: &'a [u8],
}

impl<'a> Weight<'a> {
    /// A row-major f32 matrix in memory.
    ///
    /// # Panics
    /// If `data` has not `rows * cols` elements.
    pub fn f32(rows: usize, cols: usize, data: &'a [f32]) -> Self {
        assert_eq!(
            rows.checked_mul(cols),
            Some(data.len()),
            "f32 weight: length differs from its shape"
        );
        // SAFETY: f32 has no padding, u8 has no alignment and no invalid values; same memory, same lifetime.
        let data = unsafe { std::slice::from_raw_parts(data.as_ptr().cast::<u8>(), size_of_val(data)) };
        Weight {
            format: BlockFormat::F32,
            rows,
            cols,
            data,
        }
    }

    /// Bytes of one row.
    ///
    /// # Panics
    /// If `cols` is no multiple of the block length.
    pub fn row_bytes(&self) -> usize {
        self.format
            .bytes_for(self.cols)
            .expect("a weight's columns are whole blocks")
    }

    /// The blocks of row `row`.
    pub fn row(&self, row: usize) -> &'a [u8] {
        let bytes = self.row_bytes();
        &self.data[row * bytes..][..bytes]
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))] // for levels with vectors
    /// The blocks of the N rows from `row` on, where they lie, or, at the end of the matrix, copied to `spare` and filled up with zero
    /// blocks: kernels do so many rows at once.
    pub(crate) fn rows_or_zeros<'s, const N: usize>(&self, row: usize, spare: &'s mut Vec<u8>) -> &'s [u8]
    where
        'a: 's,
    {
        let bytes = self.row_bytes();
        let data = &self.data[(row * bytes).min(self.data.len())..];
        if data.len() >= N * bytes {
            return &data[..N * bytes];
        }
        spare.clear();
        spare.extend_from_slice(data);
        spare.resize(N * bytes, 0);
        spare
    }

    /// Panics unless the data is exactly what the shape needs: every unsafe kernel relies on this.
    pub(crate) fn check(&self) {
        let bytes = self.row_bytes().checked_mul(self.rows);
        assert_eq!(
            bytes,
            Some(self.data.len()),
            "weight: bytes differ from {} x {}",
            self.rows,
            self.cols
        );
    }
}

/// How exactly to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Precision {
    /// Activations f32, weights dequantized exactly, f32 accumulation. The reference.
    Exact,
    /// Activations quantized to int8 or int16 in blocks where the weight format has an integer kernel. The default.
    #[default]
    Fast,
    /// Between the two, where products of many rows meet such a format: activations in 14 bits and weights in 11, at three quarters of the speed of
    /// `Fast`. A few rows are `Exact`. What training in `Fast` uses: see [`words`](super::words).
    Fine,
}

impl Precision {
    /// What passes of a training compute with: gradients of single tensors would be too far from those of [`Exact`](Self::Exact) with
    /// activations of 8 bits.
    pub fn for_training(self) -> Self {
        match self {
            Precision::Fast => Precision::Fine,
            other => other,
        }
    }
}

/// cos/sin for RoPE at each position of a batch: `[m][dims/2]` each.
#[derive(Default)]
pub struct RopeTable {
    /// Rotated dimensions (<= head_dim), even.
    pub dims: usize,
    /// Pairing: true = (2i, 2i+1) (GGUF "normal", llama), false = (i, i + dims/2) (neox).
    pub interleaved: bool,
    /// `[m][dims/2]`
    pub cos: Vec<f32>,
    /// `[m][dims/2]`
    pub sin: Vec<f32>,
}

/// Gate function of the MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// x * sigmoid(x)
    Silu,
    /// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
    GeluTanh,
}

/// One layer's K or V: ring of `capacity` positions, `[capacity][kv_heads * head_dim]`, position p at slot p % capacity.
#[derive(Clone, Debug)]
pub enum KvBuf {
    /// f16 bits (Fast)
    F16(Vec<u16>),
    /// f32 (Exact)
    F32(Vec<f32>),
}

impl KvBuf {
    /// Elements.
    pub fn len(&self) -> usize {
        match self {
            KvBuf::F16(v) => v.len(),
            KvBuf::F32(v) => v.len(),
        }
    }

    /// Bytes of an element.
    pub fn value_size(&self) -> usize {
        match self {
            KvBuf::F16(_) => size_of::<u16>(),
            KvBuf::F32(_) => size_of::<f32>(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Facts of an attention call.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// K/V heads; divides `heads`; query head h reads kv head h / (heads/kv_heads).
    pub kv_heads: usize,
    /// Elements of a head (same for k and v).
    pub head_dim: usize,
    /// Multiplies q·k.
    pub scale: f32,
    /// cap * tanh(score / cap) before the softmax.
    pub softcap: Option<f32>,
    /// Query at p sees keys j with p - j < window.
    pub window: Option<usize>,
    /// Slots of the ring.
    pub capacity: usize,
    /// Position of the first query row; row t has position `pos + t`, whose K/V are already in the ring.
    pub pos: usize,
}

impl Attention {
    /// Positions that query row `row` sees.
    pub fn visible(&self, row: usize) -> std::ops::Range<usize> {
        let pos = self.pos + row;
        let window = self.window.unwrap_or(usize::MAX);
        (pos + 1).saturating_sub(window)..pos + 1
    }
}

/// Pairs of a query and a key that it sees, for `rows` queries from position `pos` on: the work of attention.
pub fn pairs(pos: usize, rows: usize, window: Option<usize>) -> usize {
    let window = window.unwrap_or(usize::MAX);
    // The first of the rows see everything before them, one key more each; the others see a window.
    let growing = window.saturating_sub(pos).min(rows);
    growing * pos + growing * (growing + 1) / 2 + (rows - growing) * window
}

/// Low-rank update y += scale * out ⊙ B (mid ⊙ (A x)).
#[derive(Clone, Copy)]
pub struct LowRank<'a> {
    /// `[r][k]`
    pub a: &'a Panels,
    /// `[n][r]`
    pub b: &'a Panels,
    /// `[r]`
    pub mid: Option<&'a [f32]>,
    /// `[n]`
    pub out: Option<&'a [f32]>,
    /// Multiplies the update.
    pub scale: f32,
    /// Rows before this one have no update.
    pub from: usize,
}

/// A row-major `[m][n]` output that several threads fill, each other elements.
#[derive(Clone, Copy)]
pub(crate) struct Out<'a> {
    ptr: *mut f32,
    m: usize,
    n: usize,
    _lifetime: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: `at` is unsafe, and its callers promise that no two threads touch the same element at once.
unsafe impl Sync for Out<'_> {}
// SAFETY: as above; the pointer itself may go anywhere while the exclusive borrow lasts.
unsafe impl Send for Out<'_> {}

impl<'a> Out<'a> {
    /// All of `y` as rows of `n`.
    pub fn new(y: &'a mut [f32], n: usize) -> Self {
        let m = y.len().checked_div(n).unwrap_or(0);
        assert_eq!(m * n, y.len(), "output is not whole rows of {n}");
        Out {
            ptr: y.as_mut_ptr(),
            m,
            n,
            _lifetime: std::marker::PhantomData,
        }
    }

    /// Rows.
    pub fn m(&self) -> usize {
        self.m
    }

    /// Elements of a row.
    pub fn n(&self) -> usize {
        self.n
    }

    /// All of rows `rows`.
    ///
    /// # Safety
    /// As [`at`](Self::at).
    ///
    /// # Panics
    /// If they do not exist.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn rows(&self, rows: Range<usize>) -> &'a mut [f32] {
        assert!(rows.start <= rows.end && rows.end <= self.m, "output rows out of range");
        // SAFETY: in range as just checked; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(rows.start * self.n), rows.len() * self.n) }
    }

    /// Elements `col .. col + len` of row `row`.
    ///
    /// # Safety
    /// Nobody else uses these elements while the slice lives.
    ///
    /// # Panics
    /// If they do not exist.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn at(&self, row: usize, col: usize, len: usize) -> &mut [f32] {
        assert!(
            row < self.m && col <= self.n && len <= self.n - col,
            "output element out of range"
        );
        // SAFETY: in range as just checked; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(row * self.n + col), len) }
    }
}

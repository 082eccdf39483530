//! A matrix on a GPU, in planes: see `docs/cuda.md`.

use std::sync::{Arc, PoisonError};

use super::memory::{Lift, Memory};
use super::{Arg, Gpu};
use crate::error::{Error, Result};
use crate::quant::BlockFormat;

/// A matrix `[rows][cols]` on a GPU.
pub struct Matrix {
    format: BlockFormat,
    rows: usize,
    cols: usize,
    memory: Memory,
}

/// Fields of a block that a plane each has: offset in the block, bytes. One field: the matrix is as in the file.
fn planes(format: BlockFormat) -> &'static [(usize, usize)] {
    use BlockFormat as F;
    match format {
        F::Q4_0 | F::IQ4_NL => &[(2, 16), (0, 2)],
        F::Q4_1 => &[(4, 16), (0, 4)],
        F::Q5_0 => &[(6, 16), (2, 4), (0, 2)],
        F::Q5_1 => &[(8, 16), (4, 4), (0, 4)],
        F::Q8_0 => &[(2, 32), (0, 2)],
        F::MXFP4 => &[(1, 16), (0, 1)],
        F::Q2_K => &[(16, 64), (0, 16), (80, 4)],
        F::Q3_K => &[(32, 64), (0, 32), (96, 12), (108, 2)],
        F::Q6_K => &[(0, 128), (128, 64), (192, 16), (208, 2)],
        F::IQ4_XS => &[(8, 128), (0, 8)],
        F::Q4_K => &[(0, 144)],
        F::Q5_K => &[(0, 176)],
        F::F32 => &[(0, 4)],
        F::F16 | F::BF16 => &[(0, 2)],
    }
}

/// What kernels call a format.
pub(super) fn name_of(format: BlockFormat) -> &'static str {
    use BlockFormat as F;
    match format {
        F::F32 => "f32",
        F::F16 => "f16",
        F::BF16 => "bf16",
        F::Q4_0 => "q4_0",
        F::Q4_1 => "q4_1",
        F::Q5_0 => "q5_0",
        F::Q5_1 => "q5_1",
        F::Q8_0 => "q8_0",
        F::Q2_K => "q2_k",
        F::Q3_K => "q3_k",
        F::Q4_K => "q4_k",
        F::Q5_K => "q5_k",
        F::Q6_K => "q6_k",
        F::IQ4_NL => "iq4_nl",
        F::IQ4_XS => "iq4_xs",
        F::MXFP4 => "mxfp4",
    }
}

/// Bytes that a matrix of so many bytes in the file takes on a GPU.
pub fn device_bytes(format: BlockFormat, bytes: usize) -> usize {
    let blocks = bytes / format.info().block_bytes.max(1);
    let of_planes = planes(format)
        .iter()
        .map(|(_, len)| (blocks * len).next_multiple_of(256));
    of_planes.sum()
}

impl Matrix {
    /// Copies a matrix up, whose rows lie in `bytes` as in a file.
    ///
    /// # Errors
    /// `Limit`: the GPU's memory; what the driver says.
    pub fn new(gpu: &Arc<Gpu>, format: BlockFormat, rows: usize, cols: usize, bytes: &[u8]) -> Result<Self> {
        let row = format
            .bytes_for(cols)
            .ok_or_else(|| Error::internal("rows are not whole blocks"))?;
        if row.checked_mul(rows) != Some(bytes.len()) {
            return Err(Error::internal("a matrix has another length than its shape"));
        }
        let memory = Memory::new(gpu, device_bytes(format, bytes.len()))?;
        let matrix = Matrix {
            format,
            rows,
            cols,
            memory,
        };
        matrix.lift(gpu, bytes)?;
        Ok(matrix)
    }

    fn lift(&self, gpu: &Gpu, bytes: &[u8]) -> Result<()> {
        let fields = planes(self.format);
        let block = self.format.info().block_bytes;
        let total = bytes.len() / block;
        let mut lift = gpu.lift.lock().unwrap_or_else(PoisonError::into_inner);
        gpu.bind()?;
        if lift.is_none() {
            *lift = Some(Lift::new(gpu)?);
        }
        let Some(lift) = lift.as_mut() else { return Ok(()) };
        let blocks = Lift::CHUNK / block;
        let raw = match fields {
            [_] => None,
            _ => Some(gpu.temp(blocks.min(total) * block)?),
        };
        for (i, chunk) in bytes.chunks(blocks * block).enumerate() {
            let Some(raw) = &raw else {
                lift.put(gpu, self.at() + (i * blocks * block) as u64, chunk)?;
                continue;
            };
            lift.put(gpu, raw.at(), chunk)?;
            let count = chunk.len() / block;
            let mut args = vec![
                Arg::At(raw.at()),
                Arg::At(self.at()),
                Arg::Long((i * blocks) as i64),
                Arg::Long(count as i64),
                Arg::Long(total as i64),
                Arg::Int(block),
                Arg::Int(fields.len()),
            ];
            for f in 0..4 {
                let (offset, len) = fields.get(f).copied().unwrap_or_default();
                args.extend([Arg::Int(offset), Arg::Int(len)]);
            }
            args.push(Arg::Int(0));
            gpu.launch("planes", [chunk.len().div_ceil(256), 1, 1], 256, &args)?;
        }
        Ok(())
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// How its rows are packed.
    pub fn format(&self) -> BlockFormat {
        self.format
    }

    /// Where it is.
    pub fn at(&self) -> u64 {
        self.memory.at()
    }
}

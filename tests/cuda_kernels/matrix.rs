//! Matrices of every format, in the file's blocks and on the device.

use graft::quant::{BlockFormat, FORMATS};

use crate::Random;
use crate::device::{Arg, Buf, Device};

/// A matrix of random blocks: every code and sub-scale occurs.
pub struct Matrix {
    pub format: BlockFormat,
    pub rows: usize,
    pub cols: usize,
    /// As in the file.
    pub bytes: Vec<u8>,
    /// `[rows][cols]`
    pub values: Vec<f32>,
}

/// Where a block has halves.
fn halves(format: BlockFormat) -> &'static [usize] {
    use BlockFormat::*;
    match format {
        Q4_0 | Q5_0 | Q8_0 | IQ4_NL | IQ4_XS => &[0],
        Q4_1 | Q5_1 | Q4_K | Q5_K => &[0, 2],
        Q2_K => &[80, 82],
        Q3_K => &[108],
        Q6_K => &[208],
        F32 | F16 | BF16 | MXFP4 => &[],
    }
}

/// A format's planes: offset and length of each in the block.
pub fn planes(format: BlockFormat) -> &'static [(i32, i32)] {
    use BlockFormat::*;
    match format {
        Q4_0 | IQ4_NL => &[(2, 16), (0, 2)],
        Q4_1 => &[(4, 16), (0, 4)],
        Q5_0 => &[(6, 16), (2, 4), (0, 2)],
        Q5_1 => &[(8, 16), (4, 4), (0, 4)],
        Q8_0 => &[(2, 32), (0, 2)],
        MXFP4 => &[(1, 16), (0, 1)],
        Q2_K => &[(16, 64), (0, 16), (80, 4)],
        Q3_K => &[(32, 64), (0, 32), (96, 12), (108, 2)],
        Q4_K => &[(0, 144)],
        Q5_K => &[(0, 176)],
        Q6_K => &[(0, 128), (128, 64), (192, 16), (208, 2)],
        IQ4_XS => &[(8, 128), (0, 8)],
        F32 => &[(0, 4)],
        F16 | BF16 => &[(0, 2)],
    }
}

impl Matrix {
    pub fn random(format: BlockFormat, rows: usize, cols: usize, random: &mut Random) -> Matrix {
        let info = format.info();
        let mut bytes = Vec::new();
        for _ in 0..rows * cols / info.block_len {
            let mut block: Vec<u8> = (0..info.block_bytes).map(|_| random.byte()).collect();
            let value = 0.1 * random.float();
            match format {
                BlockFormat::F32 => block.copy_from_slice(&value.to_le_bytes()),
                BlockFormat::F16 => block.copy_from_slice(&half::f16::from_f32(value).to_le_bytes()),
                BlockFormat::BF16 => block.copy_from_slice(&half::bf16::from_f32(value).to_le_bytes()),
                BlockFormat::MXFP4 => block[0] = 120 + random.byte() % 8,
                _ => {
                    for at in halves(format) {
                        let scale = half::f16::from_f32(0.01 * random.float());
                        block[*at..at + 2].copy_from_slice(&scale.to_le_bytes());
                    }
                }
            }
            bytes.extend(block);
        }
        let mut values = vec![0.0; rows * cols];
        format.dequantize(&bytes, &mut values);
        Matrix {
            format,
            rows,
            cols,
            bytes,
            values,
        }
    }

    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.cols..][..self.cols]
    }

    /// Its name in kernels.
    pub fn name(&self) -> String {
        self.format.name().to_lowercase()
    }

    /// The arguments of `planes` for blocks `first ..` of it.
    fn planes_args(&self, raw: &Buf, w: &Buf, first: usize, count: usize, back: i32) -> Vec<Arg> {
        let info = self.format.info();
        let total = self.rows * self.cols / info.block_len;
        let fields = planes(self.format);
        let mut args = vec![raw.arg(), w.arg()];
        args.extend([first, count, total].map(|n| Arg::Long(n as i64)));
        args.extend([info.block_bytes as i32, fields.len() as i32].map(Arg::Int));
        for i in 0..4 {
            let (offset, len) = fields.get(i).copied().unwrap_or_default();
            args.extend([Arg::Int(offset), Arg::Int(len)]);
        }
        args.push(Arg::Int(back));
        args
    }

    /// On the device, in planes, in two chunks.
    pub fn upload(&self, device: &Device) -> Buf {
        let info = self.format.info();
        let fields = planes(self.format);
        if fields.len() == 1 {
            return device.put(&self.bytes);
        }
        let blocks = self.rows * self.cols / info.block_len;
        let bytes: usize = fields
            .iter()
            .map(|(_, len)| (blocks * *len as usize).next_multiple_of(256))
            .sum();
        let w = device.alloc(bytes);
        let cut = blocks / 3;
        for (first, count) in [(0, cut), (cut, blocks - cut)] {
            if count > 0 {
                let raw = device.put(&self.bytes[first * info.block_bytes..][..count * info.block_bytes]);
                let args = self.planes_args(&raw, &w, first, count, 0);
                device.launch("planes", crate::grid(count * info.block_bytes), 256, &args);
            }
        }
        w
    }
}

/// All formats, with shapes whose rows are whole blocks: few columns, odd numbers of blocks, dense rows of any length.
pub fn each(random: &mut Random, mut f: impl FnMut(Matrix, &mut Random)) {
    for info in FORMATS {
        let shapes: &[(usize, usize)] = match info.block_len {
            1 => &[(3, 5), (70, 96), (9, 1001), (33, 768)],
            32 => &[(3, 32), (70, 96), (33, 416), (17, 1120)],
            _ => &[(3, 256), (70, 256), (33, 512), (17, 1280)],
        };
        for &(rows, cols) in shapes {
            f(Matrix::random(info.format, rows, cols, random), random);
        }
    }
}

#[test]
fn planes_and_rows_are_exact() {
    let device = Device::get();
    each(&mut Random(1), |m, random| {
        let at = format!("{} {}x{}", m.name(), m.rows, m.cols);
        let w = m.upload(&device);
        let info = m.format.info();
        if planes(m.format).len() > 1 {
            let (raw, blocks) = (device.alloc(m.bytes.len()), m.rows * m.cols / info.block_len);
            device.launch(
                "planes",
                crate::grid(m.bytes.len()),
                256,
                &m.planes_args(&raw, &w, 0, blocks, 1),
            );
            assert_eq!(raw.read::<u8>(), m.bytes, "{at}: back");
        }
        // Rows in any order, one left as it is, one that is not there.
        let mut ids: Vec<i32> = (0..m.rows as i32)
            .map(|_| (random.next() % m.rows as u64) as i32)
            .collect();
        ids[0] = -1;
        ids.push(m.rows as i32);
        let before: Vec<f32> = random.floats(ids.len() * m.cols);
        let out = device.put(&before);
        let table = device.put(&ids);
        let mut args = vec![w.arg()];
        args.extend(crate::ints(&[m.rows, m.cols]));
        args.extend([table.arg(), Arg::Int(ids.len() as i32), Arg::Float(1.0), out.arg()]);
        device.launch(&format!("embed_{}", m.name()), [ids.len(), 1, 1], 128, &args);
        let got: Vec<f32> = out.read();
        for (t, (id, row)) in ids.iter().zip(got.chunks(m.cols)).enumerate() {
            match *id {
                -1 => assert_eq!(row, &before[..m.cols], "{at}"),
                id if id as usize == m.rows => assert!(row.iter().all(|v| v.is_nan()), "{at}"),
                id => {
                    for (g, want) in row.iter().zip(m.row(id as usize)) {
                        // Zero has a sign where the file's formula gives it one.
                        let same = (g + 0.0).to_bits() == (want + 0.0).to_bits();
                        assert!(same, "{at}, row {t}: {g:e}, expected {want:e}");
                    }
                }
            }
        }
    });
}

//! What an [`Offload`](super::Offload) computes with: on the CPU, on the GPU or on both.

use std::borrow::Cow;
use std::sync::Arc;

use crate::error::Result;
use crate::kernels::cpu::{self, KvBuf, Panels};
use crate::kernels::cuda::{Address, Gpu, Matrix, Memory, Temp};
use crate::kernels::{Cpu, Precision};
use crate::model::backend::Backend;
use crate::model::cpu::CpuWeight;
use crate::quant::BlockFormat;

/// A matrix: always where the CPU finds it (a mapped file takes no memory by that), and on the GPU if it runs there.
#[derive(Clone)]
pub struct Weight {
    pub(super) host: CpuWeight,
    pub(super) gpu: Option<Arc<Matrix>>,
}

/// A vector, on both.
#[derive(Clone)]
pub struct Vector {
    pub(super) host: Arc<Vec<f32>>,
    pub(super) gpu: Option<Arc<Memory>>,
}

impl Vector {
    pub(super) fn new(gpu: Option<&Arc<Gpu>>, values: Vec<f32>) -> Result<Self> {
        let host = Arc::new(values);
        let up = |gpu: &Arc<Gpu>| {
            let memory = Memory::new(gpu, size_of_val(&host[..]))?;
            gpu.put_f32(memory.at(), &host)?;
            Ok(Arc::new(memory))
        };
        Ok(Vector {
            gpu: gpu.map(up).transpose()?,
            host,
        })
    }

    /// Where it is on the GPU, of a vector made for one.
    pub(super) fn at(&self) -> Address {
        self.gpu.as_ref().map_or(0, |memory| memory.at())
    }
}

/// What an adapter's operation reads, on the CPU, and its parts on the GPU, if there is one.
pub struct Both<T> {
    pub(super) host: T,
    gpu: Vec<Memory>,
}

impl<T> Both<T> {
    /// `host`, and `parts` of it, of 4 bytes a number.
    pub(super) fn new(gpu: Option<&Arc<Gpu>>, host: T, parts: impl Fn(&T) -> Vec<Vec<[u8; 4]>>) -> Result<Self> {
        let up = |gpu: &Arc<Gpu>| {
            let parts = parts(&host);
            let memory = parts.iter().map(|part| {
                let memory = Memory::new(gpu, part.as_flattened().len())?;
                gpu.put(memory.at(), part.as_flattened()).map(|()| memory)
            });
            memory.collect::<Result<Vec<_>>>()
        };
        let gpu = gpu.map(up).transpose()?.unwrap_or_default();
        Ok(Both { host, gpu })
    }

    /// Where a part is; 0 where there is no such part.
    pub(super) fn at(&self, part: usize) -> Address {
        self.gpu.get(part).map_or(0, Memory::at)
    }
}

/// A factor of a low-rank update, on both.
#[derive(Clone)]
pub struct Factor {
    pub(super) host: Panels,
    pub(super) gpu: Option<Arc<Matrix>>,
}

/// Activations. They lie where they were made; who needs them elsewhere copies them.
#[derive(Default)]
pub struct Buf {
    len: usize,
    place: Place,
    host: Vec<f32>,
    gpu: Option<Memory>,
}

/// Where a buffer's numbers are.
#[derive(Default)]
enum Place {
    #[default]
    Cpu,
    Gpu,
    /// Nowhere yet: zeros.
    Zeros,
    /// Nowhere yet: those of a factor, or of it turned.
    Of(Factor, bool),
}

/// A buffer on the GPU, perhaps copied up for a moment.
pub(super) struct In<'a> {
    at: Address,
    _copied: Option<Temp<'a>>,
}

impl In<'_> {
    pub fn at(&self) -> Address {
        self.at
    }
}

impl Buf {
    /// Numbers.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether they are on the GPU.
    pub(super) fn on_gpu(&self) -> bool {
        matches!(self.place, Place::Gpu)
    }

    /// Whether they are zeros that nobody has written yet.
    pub(super) fn is_zeros(&self) -> bool {
        matches!(self.place, Place::Zeros)
    }

    /// Of which factor they are, or of which turned, if nobody has written them yet.
    pub(super) fn factor(&self) -> Option<(&Factor, bool)> {
        match &self.place {
            Place::Of(factor, turned) => Some((factor, *turned)),
            _ => None,
        }
    }

    /// From now on so many numbers, which are any.
    pub(super) fn resize(&mut self, len: usize) {
        self.len = len;
        if self.factor().is_some() {
            self.place = Place::Cpu;
        }
    }

    /// From now on so many zeros: where, says who changes them first.
    pub(super) fn set_zeros(&mut self, len: usize) {
        (self.len, self.place) = (len, Place::Zeros);
    }

    /// From now on the numbers of a factor, or of it turned, row by row: made where they are read.
    pub(super) fn set_factor(&mut self, factor: &Factor, turned: bool) {
        self.len = factor.host.rows() * factor.host.cols();
        self.place = Place::Of(factor.clone(), turned);
    }

    /// To read on the CPU. After a fault of the GPU they are zeros.
    #[allow(clippy::owned_cow)] // the CPU's operations take its buffers
    pub(super) fn host(&self, gpu: Option<&Arc<Gpu>>) -> Cow<'_, Vec<f32>> {
        if matches!(self.place, Place::Cpu) && self.host.len() == self.len {
            return Cow::Borrowed(&self.host);
        }
        let mut values = vec![0.0; self.len];
        self.read(gpu, &mut values);
        Cow::Owned(values)
    }

    fn read(&self, gpu: Option<&Arc<Gpu>>, values: &mut [f32]) {
        match &self.place {
            Place::Cpu => {}
            Place::Gpu => {
                if let (Some(gpu), Some(memory)) = (gpu, &self.gpu) {
                    gpu.run(|| gpu.get_f32(memory.at(), &mut values[..self.len]));
                }
            }
            Place::Zeros => values.fill(0.0),
            Place::Of(factor, turned) => {
                let (rows, cols, numbers) = (factor.host.rows(), factor.host.cols(), factor.host.to_rows());
                for (i, v) in values.iter_mut().enumerate() {
                    *v = numbers[if *turned { i % rows * cols + i / rows } else { i }];
                }
            }
        }
    }

    /// To write on the CPU.
    pub(super) fn host_out(&mut self, cpu: &Cpu) -> &mut Vec<f32> {
        Backend::resize(cpu, &mut self.host, self.len);
        self.place = Place::Cpu;
        &mut self.host
    }

    /// To write on the CPU with another length, which [`Buf::settle`] takes over.
    pub(super) fn host_any(&mut self) -> &mut Vec<f32> {
        self.place = Place::Cpu;
        &mut self.host
    }

    /// As long as what was written.
    pub(super) fn settle(&mut self) {
        self.len = self.host.len();
    }

    /// To change on the CPU.
    pub(super) fn host_change(&mut self, cpu: &Cpu, gpu: Option<&Arc<Gpu>>) -> &mut Vec<f32> {
        if !matches!(self.place, Place::Cpu) || self.host.len() != self.len {
            let mut host = std::mem::take(&mut self.host);
            Backend::resize(cpu, &mut host, self.len);
            self.read(gpu, &mut host);
            self.host = host;
        }
        self.place = Place::Cpu;
        &mut self.host
    }

    /// To read on the GPU.
    pub(super) fn on<'a>(&self, gpu: &'a Arc<Gpu>) -> Result<In<'a>> {
        if let (Place::Gpu, Some(memory)) = (&self.place, &self.gpu) {
            return Ok(In {
                at: memory.at(),
                _copied: None,
            });
        }
        if let Place::Of(Factor { gpu: Some(matrix), .. }, turned) = &self.place {
            return matrix_numbers(gpu, matrix, *turned);
        }
        let temp = gpu.temp(self.len * size_of::<f32>())?;
        match self.place {
            Place::Zeros => gpu.zero(temp.at(), self.len * size_of::<f32>())?,
            _ => gpu.put_f32(temp.at(), &self.host(None))?,
        }
        Ok(In {
            at: temp.at(),
            _copied: Some(temp),
        })
    }

    /// To write on the GPU.
    pub(super) fn out_on(&mut self, gpu: &Arc<Gpu>) -> Result<Address> {
        let at = Memory::grow(gpu, &mut self.gpu, self.len * size_of::<f32>())?;
        self.place = Place::Gpu;
        Ok(at)
    }

    /// To change on the GPU.
    pub(super) fn change_on(&mut self, gpu: &Arc<Gpu>) -> Result<Address> {
        if let (Place::Gpu, Some(memory)) = (&self.place, &self.gpu) {
            return Ok(memory.at());
        }
        let bytes = self.len * size_of::<f32>();
        let at = Memory::grow(gpu, &mut self.gpu, bytes)?;
        match &self.place {
            Place::Zeros => gpu.zero(at, bytes)?,
            Place::Of(..) => gpu.copy(at, self.on(gpu)?.at(), bytes)?,
            _ => gpu.put_f32(at, &self.host(None))?,
        }
        self.place = Place::Gpu;
        Ok(at)
    }
}

/// The numbers of a matrix, or of it turned, in f32: itself where it is that.
fn matrix_numbers<'a>(gpu: &'a Arc<Gpu>, matrix: &Matrix, turned: bool) -> Result<In<'a>> {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let mut numbers = In {
        at: matrix.at(),
        _copied: None,
    };
    if matrix.format() != BlockFormat::F32 {
        let temp = gpu.temp(rows * cols * size_of::<f32>())?;
        gpu.unpack(matrix, 0, rows, temp.at())?;
        numbers = In {
            at: temp.at(),
            _copied: Some(temp),
        };
    }
    if turned {
        let temp = gpu.temp(rows * cols * size_of::<f32>())?;
        gpu.turn(numbers.at, rows, cols, temp.at())?;
        numbers = In {
            at: temp.at(),
            _copied: Some(temp),
        };
    }
    Ok(numbers)
}

/// Activations made ready, where the weights that read them are.
#[derive(Default)]
pub struct Acts {
    pub(super) host: cpu::Acts,
    pub(super) on_gpu: bool,
    pub(super) m: usize,
    pub(super) k: usize,
    /// Their forms, and whether they hold these.
    pub(super) ints: Form,
    pub(super) halves: Form,
    pub(super) floats: Form,
}

/// A form of activations on the GPU.
#[derive(Default)]
pub(super) struct Form {
    pub memory: Option<Memory>,
    pub there: bool,
}

impl Form {
    /// Room for it.
    pub fn make(&mut self, gpu: &Arc<Gpu>, bytes: usize) -> Result<Address> {
        self.there = false;
        let at = Memory::grow(gpu, &mut self.memory, bytes)?;
        self.there = true;
        Ok(at)
    }

    /// Where it is, if it holds the activations.
    pub fn at(&self) -> Option<Address> {
        self.memory.as_ref().filter(|_| self.there).map(Memory::at)
    }
}

/// A ring, where its layer's keys are made.
pub enum Kv {
    /// On the CPU.
    Cpu(KvBuf),
    /// On the GPU.
    Gpu(GpuKv),
}

/// A ring on the GPU.
pub struct GpuKv {
    pub(super) memory: Memory,
    pub(super) precision: Precision,
    pub(super) len: usize,
}

impl GpuKv {
    /// Bytes of a number.
    pub(super) fn value_size(&self) -> usize {
        KvBuf::value_bytes(self.precision)
    }
}

/// Rotations, on each device that layers run on.
#[derive(Default)]
pub struct RopeTable {
    pub(super) host: cpu::RopeTable,
    /// The frequencies that are on the GPU.
    pub(super) known: Vec<f32>,
    pub(super) inv_freq: Option<Memory>,
    pub(super) cos: Option<Memory>,
    pub(super) sin: Option<Memory>,
    pub(super) half: usize,
    pub(super) m: usize,
    pub(super) interleaved: bool,
}

//! Memory of a GPU: what is held, what is borrowed for a moment, and the way up from the CPU's memory.

use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::{Arc, PoisonError, Weak};

use super::Gpu;
use super::driver::{Address, Handle};
use crate::error::{Error, Result};

/// Memory on a GPU, freed when dropped.
pub struct Memory {
    gpu: Arc<Gpu>,
    at: Address,
    bytes: usize,
}

impl Memory {
    /// So many bytes with any contents.
    ///
    /// # Errors
    /// `Limit`: the GPU has not so many left.
    pub fn new(gpu: &Arc<Gpu>, bytes: usize) -> Result<Self> {
        let bytes = bytes.max(1);
        Ok(Memory {
            at: gpu.alloc(bytes)?,
            gpu: gpu.clone(),
            bytes,
        })
    }

    /// Where it is: a multiple of 256.
    pub fn at(&self) -> Address {
        self.at
    }

    /// Bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes `memory` hold at least so many bytes; what was there is lost where that is more than there were.
    ///
    /// # Errors
    /// As [`Memory::new`]; there is none then.
    pub fn grow(gpu: &Arc<Gpu>, memory: &mut Option<Memory>, bytes: usize) -> Result<Address> {
        if memory.as_ref().is_none_or(|m| m.bytes < bytes) {
            // Never two of them.
            *memory = None;
            *memory = Some(Memory::new(gpu, bytes)?);
        }
        Ok(memory.as_ref().map_or(0, |m| m.at))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.gpu.free(self.at);
    }
}

/// Memory that an operation needs until its kernels are launched: the next one in the stream may have it then.
pub struct Temp<'a> {
    gpu: &'a Gpu,
    at: Address,
    bytes: usize,
}

impl Temp<'_> {
    /// Where it is.
    pub fn at(&self) -> Address {
        self.at
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        let mut spare = self.gpu.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.push((self.at, self.bytes));
    }
}

impl Gpu {
    /// Memory for an operation.
    ///
    /// # Errors
    /// As [`Memory::new`].
    pub fn temp(&self, bytes: usize) -> Result<Temp<'_>> {
        const LARGE: usize = 1 << 20;
        let bytes = match bytes {
            0..LARGE => bytes.max(256).next_power_of_two(),
            _ => bytes.next_multiple_of(LARGE),
        };
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        // By address, not by place: the same for each token, so that its calls are the same.
        let fits = |(i, (at, has)): (usize, &(Address, usize))| (*has >= bytes).then_some((*has, *at, i));
        let best = spare.iter().enumerate().filter_map(fits).min();
        if let Some((has, _, i)) = best.filter(|(has, ..)| *has <= 2 * bytes.max(LARGE)) {
            let (at, _) = spare.swap_remove(i);
            return Ok(Temp {
                gpu: self,
                at,
                bytes: has,
            });
        }
        drop(spare);
        let at = self.alloc(bytes)?;
        Ok(Temp { gpu: self, at, bytes })
    }

    /// Borrowed memory with these bytes.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn temp_of(&self, bytes: &[u8]) -> Result<Temp<'_>> {
        let temp = self.temp(bytes.len())?;
        self.put(temp.at, bytes)?;
        Ok(temp)
    }

    /// Borrowed memory with these ids, places or other whole numbers.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn temp_ids(&self, ids: impl IntoIterator<Item = i32>) -> Result<Temp<'_>> {
        self.temp_of(&ids.into_iter().flat_map(i32::to_le_bytes).collect::<Vec<_>>())
    }

    /// Borrowed memory with these numbers.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn temp_f32(&self, values: &[f32]) -> Result<Temp<'_>> {
        let temp = self.temp(size_of_val(values))?;
        self.put_f32(temp.at, values).map(|()| temp)
    }

    /// Memory with these bytes, the same for the same bytes: what launches read again and again. `None` when there are too many of them.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn constant(&self, bytes: &[u8]) -> Result<Option<Address>> {
        /// How many are held at most. They stay: another thread may be about to launch what reads them.
        const MOST: usize = 1 << 14;
        let mut constants = self.constants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = constants.get(bytes) {
            return Ok(Some(*at));
        }
        if constants.len() >= MOST {
            return Ok(None);
        }
        let at = self.alloc(bytes.len().max(1))?;
        constants.insert(bytes.into(), at);
        self.put(at, bytes).map(|()| Some(at))
    }

    fn alloc(&self, bytes: usize) -> Result<Address> {
        self.bind()?;
        let mut at = 0;
        let mut alloc = || {
            // SAFETY: writes an address to a number that lives.
            self.driver
                .check("cuMemAlloc", unsafe { (self.driver.alloc)(&mut at, bytes) })
        };
        // What is spare may be what is missing.
        if let Err(e) = alloc() {
            let spare = std::mem::take(&mut *self.spare.lock().unwrap_or_else(PoisonError::into_inner));
            let (any, freed) = (!spare.is_empty(), spare.into_iter());
            freed.for_each(|(at, _)| self.free(at));
            match any {
                true => alloc(),
                false => Err(e),
            }
            .map_err(|e| match self.memory() {
                Ok((free, total)) => e.expected(format_args!("{bytes} bytes free (of {total} there are {free})")),
                Err(_) => e,
            })?;
        }
        Ok(at)
    }

    /// Frees memory when all that was launched is done with it.
    fn free(&self, at: Address) {
        // After an error of the driver there is nobody to tell, and nothing to do: the context is lost.
        if self.bind().and_then(|()| self.wait()).is_ok() {
            // SAFETY: what was allocated, freed once; nothing that runs uses it.
            unsafe { (self.driver.free)(at) };
        }
    }

    /// Frees what no [`Memory`] holds.
    pub(super) fn free_spare(&mut self) {
        let spare = std::mem::take(self.spare.get_mut().unwrap_or_else(PoisonError::into_inner));
        let constants = std::mem::take(self.constants.get_mut().unwrap_or_else(PoisonError::into_inner));
        let positions = std::mem::take(self.positions.get_mut().unwrap_or_else(PoisonError::into_inner));
        let spare = spare.into_iter().map(|s| s.0);
        let all = spare.chain(constants.into_values()).chain(positions);
        all.for_each(|at| self.free(at));
    }

    /// Copies bytes up. They may change when this returns.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn put(&self, at: Address, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.flush()?;
        self.bind()?;
        // SAFETY: the caller's range is memory of the device; the driver has read what is not pinned when it returns.
        self.driver.check("cuMemcpyHtoDAsync", unsafe {
            (self.driver.to_device)(at, bytes.as_ptr().cast(), bytes.len(), self.stream)
        })
    }

    /// Copies numbers up.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn put_f32(&self, at: Address, values: &[f32]) -> Result<()> {
        // SAFETY: f32 has no padding, u8 no alignment: the same memory.
        self.put(at, unsafe {
            std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values))
        })
    }

    /// Waits for all that was launched and copies bytes down.
    ///
    /// # Errors
    /// Those of the driver, also of what ran before.
    pub fn get(&self, at: Address, bytes: &mut [u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.flush()?;
        self.bind()?;
        // SAFETY: the caller's range is memory of the device; `wait` ends after the copy.
        self.driver.check("cuMemcpyDtoHAsync", unsafe {
            (self.driver.to_host)(bytes.as_mut_ptr().cast(), at, bytes.len(), self.stream)
        })?;
        self.wait()
    }

    /// The same of numbers.
    ///
    /// # Errors
    /// As [`Gpu::get`].
    pub fn get_f32(&self, at: Address, values: &mut [f32]) -> Result<()> {
        // SAFETY: as in `put_f32`; all bits are valid numbers.
        self.get(at, unsafe {
            std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values))
        })
    }
}

/// Large copies up: while the device takes one chunk from pinned memory, the next one is filled.
pub(super) struct Lift {
    pinned: [*mut c_void; 2],
    done: [Handle; 2],
    next: usize,
}

// SAFETY: the pointers are to memory that only this struct knows; who has it alone uses it.
unsafe impl Send for Lift {}

impl Lift {
    /// Bytes of a chunk: a multiple of all sizes of blocks is not asked for.
    pub const CHUNK: usize = 8 << 20;

    pub fn new(gpu: &Gpu) -> Result<Self> {
        let mut lift = Lift {
            pinned: [null_mut(); 2],
            done: [0; 2],
            next: 0,
        };
        let made = (0..2).try_for_each(|i| {
            // SAFETY: both write to what lives.
            unsafe {
                let code = (gpu.driver.host_alloc)(&mut lift.pinned[i], Self::CHUNK, 0);
                gpu.driver.check("cuMemHostAlloc", code)?;
                // 2: without times.
                gpu.driver
                    .check("cuEventCreate", (gpu.driver.event_create)(&mut lift.done[i], 2))?;
                gpu.driver
                    .check("cuEventRecord", (gpu.driver.event_record)(lift.done[i], gpu.stream))
            }
        });
        match made {
            Ok(()) => Ok(lift),
            Err(e) => {
                lift.free(gpu);
                Err(e)
            }
        }
    }

    /// Copies at most [`Lift::CHUNK`] bytes up.
    pub fn put(&mut self, gpu: &Gpu, at: Address, bytes: &[u8]) -> Result<()> {
        if bytes.len() > Self::CHUNK {
            return Err(Error::internal("a chunk of weights is too large"));
        }
        gpu.flush()?;
        let i = self.next;
        self.next = 1 - i;
        // SAFETY: the chunk's memory is as large, and the device is done with what was in it; the caller's range is memory of the device.
        unsafe {
            gpu.driver
                .check("cuEventSynchronize", (gpu.driver.event_wait)(self.done[i]))?;
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.pinned[i].cast(), bytes.len());
            let code = (gpu.driver.to_device)(at, self.pinned[i], bytes.len(), gpu.stream);
            gpu.driver.check("cuMemcpyHtoDAsync", code)?;
            gpu.driver
                .check("cuEventRecord", (gpu.driver.event_record)(self.done[i], gpu.stream))
        }
    }

    /// Ends it. The stream has come to rest.
    pub fn free(&mut self, gpu: &Gpu) {
        for (pinned, done) in self.pinned.iter_mut().zip(&mut self.done) {
            // SAFETY: what was made here, ended once.
            unsafe {
                if *done != 0 {
                    (gpu.driver.event_destroy)(std::mem::take(done));
                }
                if !pinned.is_null() {
                    (gpu.driver.host_free)(std::mem::replace(pinned, null_mut()));
                }
            }
        }
    }
}

/// The number in which a thread's kernels find the position of a single row.
struct Position {
    gpu: Weak<Gpu>,
    at: Address,
    pos: usize,
}

impl Drop for Position {
    fn drop(&mut self) {
        if let Some(gpu) = self.gpu.upgrade() {
            gpu.positions
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(self.at);
        }
    }
}

thread_local! {
    /// For each GPU that this thread has used.
    static POSITIONS: RefCell<Vec<Position>> = const { RefCell::new(Vec::new()) };
}

impl Gpu {
    /// Where kernels of this thread find `pos` for a single row, and what they add to it: with the number in the device's memory their arguments
    /// are those of the last position. More rows have their position as it is.
    ///
    /// # Errors
    /// Those of the driver.
    pub(crate) fn position(self: &Arc<Self>, m: usize, pos: usize) -> Result<(Address, usize)> {
        if m != 1 {
            return Ok((0, pos));
        }
        POSITIONS.with_borrow_mut(|positions| {
            positions.retain(|p| p.gpu.strong_count() > 0);
            let mine = |p: &Position| std::ptr::eq(p.gpu.as_ptr(), Arc::as_ptr(self));
            let index = match positions.iter().position(mine) {
                Some(index) => index,
                None => {
                    let spare = self.positions.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    positions.push(Position {
                        at: spare.map_or_else(|| self.alloc(size_of::<i32>()), Ok)?,
                        gpu: Arc::downgrade(self),
                        pos: usize::MAX,
                    });
                    positions.len() - 1
                }
            };
            let mine = &mut positions[index];
            if mine.pos != pos {
                let number =
                    i32::try_from(pos).map_err(|_| Error::limit("a position is too large for a GPU").found(pos))?;
                // Not there until it is.
                mine.pos = usize::MAX;
                self.put(mine.at, &number.to_le_bytes())?;
                mine.pos = pos;
            }
            Ok((mine.at, 0))
        })
    }
}

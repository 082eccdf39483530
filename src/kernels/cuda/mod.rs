//! An NVIDIA GPU: the driver, memory, and kernels by their names. `docs/cuda.md` has the kernels' arguments and shapes.
//!
//! All that is launched goes to one stream, so that it runs in the order in which it was launched, from whichever threads.

mod back;
mod driver;
mod limits;
mod matrix;
mod memory;
mod ops;
mod queue;
mod sample;

use std::collections::HashMap;
use std::ffi::{CString, c_char};
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::ThreadId;

use driver::{Driver, Handle};
use flate2::read::GzDecoder;
use memory::Lift;

use crate::error::{Error, Result};

pub(crate) use back::Multiply;
pub use driver::Address;
pub use matrix::{Matrix, device_bytes};
pub use memory::{Memory, Temp};
pub use ops::{Group, Product, Segment};
pub use queue::Launched;
use queue::{ARGS, Call, Known, Queue};

/// A GPU. Models that run on it share it.
pub struct Gpu {
    driver: &'static Driver,
    index: i32,
    device: i32,
    name: String,
    context: Handle,
    stream: Handle,
    /// Bytes of memory.
    total: usize,
    /// Whether products of many rows are those of integers.
    multiplies_ints: bool,
    modules: Vec<Handle>,
    functions: Mutex<HashMap<String, Handle>>,
    known: Known,
    queue: Mutex<Queue>,
    /// Numbers of positions that no thread has: see [`Gpu::position`].
    positions: Mutex<Vec<Address>>,
    /// Memory that operations have borrowed, and its bytes.
    spare: Mutex<Vec<(Address, usize)>>,
    /// Small tables that kernels read, by their bytes.
    constants: Mutex<HashMap<Box<[u8]>, Address>>,
    lift: Mutex<Option<Lift>>,
    /// The first error of each thread's operations since [`Gpu::check`].
    faults: Mutex<HashMap<ThreadId, Error>>,
    /// How many there are.
    faulty: AtomicUsize,
}

/// An argument of a kernel.
#[derive(Clone, Copy)]
pub(crate) enum Arg {
    /// An address, or 0.
    At(Address),
    /// An i32: more is refused.
    Int(usize),
    Long(i64),
    Float(f32),
}

/// The kernels' text, compressed: a fifth of it is what the library grows by.
const BASE: &[u8] = include_bytes!("ptx/base.ptx.gz");
const TENSOR_75: &[u8] = include_bytes!("ptx/tensor_75.ptx.gz");
const TENSOR_80: &[u8] = include_bytes!("ptx/tensor_80.ptx.gz");
const TENSOR_90: &[u8] = include_bytes!("ptx/tensor_90.ptx.gz");
/// For GPUs that multiply many rows as integers: none before compute capability 8.0.
const INTS: &[u8] = include_bytes!("ptx/ints_80.ptx.gz");

/// The text of a module, with a 0 behind it.
fn unpacked(packed: &[u8]) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let read = GzDecoder::new(packed).read_to_end(&mut text);
    read.map_err(|e| Error::internal(format!("the kernels' text does not unpack: {e}")))?;
    text.push(0);
    Ok(text)
}

/// The first PTX for Hopper needs a driver with CUDA 11.8.
const HOPPER_DRIVER: i32 = 11080;

impl Gpu {
    /// GPU `index`, or the one that has most memory free.
    ///
    /// # Errors
    /// `Unsupported`: no driver, one that is too old, no GPU or one that is too old; `Usage`: no such index; what the driver says.
    pub fn open(index: Option<usize>) -> Result<Arc<Gpu>> {
        static OPEN: Mutex<Vec<(i32, Weak<Gpu>)>> = Mutex::new(Vec::new());
        let driver = Driver::get()?;
        let mut count = 0;
        // SAFETY: writes to a number that lives.
        driver.check("cuDeviceGetCount", unsafe { (driver.device_count)(&mut count) })?;
        let wrong = |found: usize| {
            let e = Error::usage("no such GPU").item("device");
            e.expected(format_args!("cuda:0 to cuda:{}", (count - 1).max(0)))
                .found(format_args!("cuda:{found}"))
        };
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at = |index: i32| {
            if let Some(gpu) = open.iter().find_map(|(i, gpu)| gpu.upgrade().filter(|_| *i == index)) {
                return Ok(gpu);
            }
            let gpu = Arc::new(Gpu::new(driver, index)?);
            open.retain(|(_, gpu)| gpu.strong_count() > 0);
            open.push((index, Arc::downgrade(&gpu)));
            Ok(gpu)
        };
        match index {
            Some(index) => match i32::try_from(index) {
                Ok(i) if i < count => at(i),
                _ => Err(wrong(index)),
            },
            None if count == 0 => driver.check("cuDeviceGetCount", 100).and(Err(wrong(0))),
            None if count == 1 => at(0),
            None => {
                let (mut best, mut failed) = (None, None);
                for i in 0..count {
                    match at(i).and_then(|gpu| Ok((gpu.memory()?.0, gpu))) {
                        Ok((free, gpu)) if best.as_ref().is_none_or(|(most, _)| free > *most) => {
                            best = Some((free, gpu))
                        }
                        Ok(_) => {}
                        Err(e) => failed = Some(e),
                    }
                }
                best.map(|(_, gpu)| gpu)
                    .ok_or_else(|| failed.unwrap_or_else(|| wrong(0)))
            }
        }
    }

    fn new(driver: &'static Driver, index: i32) -> Result<Gpu> {
        let (mut device, mut name, mut capability) = (0, [0u8; 256], [0, 0]);
        // SAFETY: all of them write to what lives and is as large as they are told.
        unsafe {
            driver.check("cuDeviceGet", (driver.device)(&mut device, index))?;
            let text: *mut c_char = name.as_mut_ptr().cast();
            driver.check("cuDeviceGetName", (driver.device_name)(text, name.len() as i32, device))?;
            // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
            for (attribute, value) in [75, 76].into_iter().zip(&mut capability) {
                driver.check(
                    "cuDeviceGetAttribute",
                    (driver.device_attribute)(value, attribute, device),
                )?;
            }
        }
        let name = name
            .split(|c| *c == 0)
            .next()
            .map(String::from_utf8_lossy)
            .unwrap_or_default()
            .into_owned();
        let capability = 10 * capability[0] + capability[1];
        if capability < 75 {
            let e = Error::unsupported("the GPU is too old").item(name);
            return Err(e.expected("compute capability 7.5 or later").found(format_args!(
                "{}.{}",
                capability / 10,
                capability % 10
            )));
        }
        let tensor = match capability {
            90.. if driver.version() >= HOPPER_DRIVER => TENSOR_90,
            80.. => TENSOR_80,
            _ => TENSOR_75,
        };
        let mut gpu = Gpu {
            driver,
            index,
            device,
            multiplies_ints: ops::multiplies_ints(&name, capability),
            name,
            context: 0,
            stream: 0,
            total: 0,
            modules: Vec::new(),
            functions: Mutex::default(),
            known: Known::default(),
            queue: Mutex::default(),
            positions: Mutex::default(),
            spare: Mutex::default(),
            constants: Mutex::default(),
            lift: Mutex::default(),
            faults: Mutex::default(),
            faulty: AtomicUsize::new(0),
        };
        // SAFETY: they write handles to what lives; the texts end with 0. What is made is ended by `drop`, also after an error here.
        unsafe {
            driver.check(
                "cuDevicePrimaryCtxRetain",
                (driver.context_retain)(&mut gpu.context, device),
            )?;
            gpu.bind()?;
            // 1: does not wait for the default stream, of which others of the process may make use.
            driver.check("cuStreamCreate", (driver.stream_create)(&mut gpu.stream, 1))?;
            let ints = gpu.multiplies_ints.then_some(INTS);
            for packed in [BASE, tensor].into_iter().chain(ints) {
                let text = unpacked(packed)?;
                let mut module = 0;
                driver.check(
                    "cuModuleLoadData",
                    (driver.module_load)(&mut module, text.as_ptr().cast()),
                )?;
                gpu.modules.push(module);
            }
        }
        gpu.known = Known::find(|name| gpu.function(name))?;
        gpu.total = gpu.memory()?.1;
        Ok(gpu)
    }

    /// The device's name, as the driver has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its index among the process's GPUs.
    pub fn index(&self) -> i32 {
        self.index
    }

    /// Bytes that are free, and all.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.bind()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: writes to numbers that live.
        self.driver.check("cuMemGetInfo", unsafe {
            (self.driver.memory_info)(&mut free, &mut total)
        })?;
        Ok((free, total))
    }

    /// Makes the context this thread's: any thread may come, and others of the process may have changed it.
    fn bind(&self) -> Result<()> {
        // SAFETY: a context that lives as long as `self`.
        self.driver
            .check("cuCtxSetCurrent", unsafe { (self.driver.context_set)(self.context) })
    }

    /// Waits for all that was launched.
    ///
    /// # Errors
    /// Those of what ran.
    pub fn wait(&self) -> Result<()> {
        self.flush()?;
        // SAFETY: a stream that lives as long as `self`.
        self.driver
            .check("cuStreamSynchronize", unsafe { (self.driver.stream_wait)(self.stream) })
    }

    /// Does `f` unless something went wrong on this thread before; what goes wrong waits for [`Gpu::check`].
    pub fn run(&self, f: impl FnOnce() -> Result<()>) {
        if self.faulty.load(Ordering::Relaxed) > 0 && self.faults().contains_key(&std::thread::current().id()) {
            return;
        }
        if let Err(e) = f() {
            self.fault(std::thread::current().id(), e);
        }
    }

    /// Keeps the first error of a thread.
    fn fault(&self, thread: ThreadId, e: Error) {
        self.faults().entry(thread).or_insert_with(|| {
            self.faulty.fetch_add(1, Ordering::Relaxed);
            e
        });
    }

    /// What went wrong on this thread since the last call.
    ///
    /// # Errors
    /// That.
    pub fn check(&self) -> Result<()> {
        if self.faulty.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        match self.faults().remove(&std::thread::current().id()) {
            Some(e) => {
                self.faulty.fetch_sub(1, Ordering::Relaxed);
                Err(e)
            }
            None => Ok(()),
        }
    }

    fn faults(&self) -> MutexGuard<'_, HashMap<ThreadId, Error>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn function(&self, name: &str) -> Result<Handle> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(name) {
            return Ok(*function);
        }
        let text = CString::new(name).map_err(|_| Error::internal("a kernel's name"))?;
        let mut last = Err(Error::internal("no kernels"));
        for module in &self.modules {
            let mut function = 0;
            // SAFETY: a module that lives as long as `self`, text that ends with 0; writes a handle to what lives.
            let code = unsafe { (self.driver.function)(&mut function, *module, text.as_ptr()) };
            last = self.driver.check("cuModuleGetFunction", code).map(|()| function);
            if last.is_ok() {
                break;
            }
        }
        let function = last.map_err(|e| e.expected(name))?;
        functions.insert(name.to_owned(), function);
        Ok(function)
    }

    /// The name of a kernel that was launched.
    fn name_of(&self, function: Handle) -> String {
        let functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        let known = functions.iter().find(|(_, known)| **known == function);
        known.map_or_else(String::new, |(name, _)| name.clone())
    }

    /// Launches kernel `name` on `grid` blocks of `threads`, behind all that waits ([`Gpu::flush`]); nothing if the grid is empty.
    ///
    /// # Errors
    /// `Limit`: dimensions beyond a GPU's.
    pub(crate) fn launch(&self, name: &str, grid: [usize; 3], threads: usize, args: &[Arg]) -> Result<()> {
        if grid.contains(&0) {
            return Ok(());
        }
        let too_large = |n: usize| {
            Error::limit("a dimension is too large for a GPU")
                .item(name.to_owned())
                .found(n)
        };
        let most = [i32::MAX as usize, 65535, 65535];
        if let Some((n, _)) = grid.iter().zip(most).find(|(n, most)| *n > most) {
            return Err(too_large(*n));
        }
        let mut words = [0u64; ARGS];
        if args.len() > ARGS {
            return Err(Error::internal("a kernel has too many arguments").item(name.to_owned()));
        }
        for (arg, word) in args.iter().zip(&mut words) {
            *word = match *arg {
                Arg::At(at) => at,
                Arg::Int(n) => i32::try_from(n).map_err(|_| too_large(n))? as u64,
                Arg::Long(n) => n as u64,
                Arg::Float(v) => u64::from(v.to_bits()),
            };
        }
        self.push(Call {
            function: self.function(name)?,
            grid: grid.map(|n| n as u32),
            threads: threads as u32,
            words,
        })
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        let _ = self.bind().and_then(|()| self.wait());
        self.end_queue();
        self.free_spare();
        if let Some(mut lift) = self.lift.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            lift.free(self);
        }
        // SAFETY: what was made, ended once; nothing of it runs or is known to anybody.
        unsafe {
            for module in self.modules.drain(..) {
                (self.driver.module_unload)(module);
            }
            if self.stream != 0 {
                (self.driver.stream_destroy)(self.stream);
            }
            if self.context != 0 {
                (self.driver.context_release)(self.device);
            }
        }
    }
}

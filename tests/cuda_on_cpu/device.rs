//! A CUDA device that is the CPU: builds the shim with the system's C++ compiler, loads it and calls its driver interface. Or a GPU:
//! `GRAFT_CUDA_DRIVER` names the driver's library instead.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, OnceLock};

/// The PTX that the library has, by the compute capability and the driver that it needs: as the library chooses.
const BASE: &[u8] = include_bytes!("../../src/kernels/cuda/ptx/base.ptx.gz");
const TENSOR: [(c_int, c_int, &[u8]); 3] = [
    (90, 11080, include_bytes!("../../src/kernels/cuda/ptx/tensor_90.ptx.gz")),
    (80, 0, include_bytes!("../../src/kernels/cuda/ptx/tensor_80.ptx.gz")),
    (0, 0, include_bytes!("../../src/kernels/cuda/ptx/tensor_75.ptx.gz")),
];

const INTS: (c_int, &[u8]) = (80, include_bytes!("../../src/kernels/cuda/ptx/ints_80.ptx.gz"));

/// The text of a module.
pub fn unpacked(packed: &[u8]) -> String {
    let mut text = String::new();
    let read = flate2::read::GzDecoder::new(packed).read_to_string(&mut text);
    read.expect("what scripts/cuda-ptx has written");
    text
}

/// Compiles the shim, or takes what `GRAFT_CUDA_DRIVER` names, and gives the library's path. It has the soname `libcuda.so`: once it is
/// loaded, whoever asks for the driver gets it.
pub fn library() -> PathBuf {
    match std::env::var("GRAFT_CUDA_DRIVER") {
        // What scripts/test says, so that the other tests take no GPU.
        Ok(path) if path != "none" => return path.into(),
        _ => {}
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda_on_cpu");
    let done = Command::new(root.join("scripts/test-cuda"))
        .arg("build")
        .arg(&out)
        .status()
        .expect("scripts/test-cuda runs");
    assert!(done.success(), "scripts/test-cuda build failed");
    out.join("libcuda.so")
}

/// Runs one of the wrong kernels: what it printed, and what it complained about.
pub fn broken(kernel: &str, seed: u64) -> (String, String) {
    let program = library().with_file_name("broken");
    let out = Command::new(program)
        .arg(kernel)
        .arg(seed.to_string())
        .output()
        .expect("broken runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
    (text(&out.stdout), text(&out.stderr))
}

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlerror() -> *const c_char;
}

/// What is loaded.
struct Driver {
    library: usize,
    context: usize,
    /// Compute capability: 80 is 8.0.
    capability: c_int,
    modules: Vec<usize>,
}

/// The device, which one test has at a time.
pub struct Device {
    driver: &'static Driver,
    _one: MutexGuard<'static, ()>,
}

/// An argument of a kernel.
#[derive(Clone, Copy)]
pub enum Arg {
    Ptr(u64),
    Int(i32),
    Long(i64),
    Float(f32),
}

/// Device memory.
pub struct Buf {
    pub at: u64,
    pub bytes: usize,
    driver: &'static Driver,
}

impl Driver {
    fn load() -> Driver {
        let path = CString::new(library().to_str().unwrap()).unwrap();
        const NOW_AND_FOR_ALL: c_int = 2 | 0x100;
        // SAFETY: a path that ends with 0; loading runs the library's own constructors.
        let library = unsafe { dlopen(path.as_ptr(), NOW_AND_FOR_ALL) };
        if library.is_null() {
            // SAFETY: after a failure there is a message.
            panic!("{:?}", unsafe { CStr::from_ptr(dlerror()) });
        }
        let mut driver = Driver {
            library: library as usize,
            context: 0,
            capability: 0,
            modules: Vec::new(),
        };
        let mut context: *mut c_void = null_mut();
        // SAFETY: the functions have these types in the driver's interface; what they write to lives.
        unsafe {
            let init: extern "C" fn(c_uint) -> c_int = std::mem::transmute(driver.symbol("cuInit"));
            assert_eq!(init(0), 0);
            let retain: extern "C" fn(*mut *mut c_void, c_int) -> c_int =
                std::mem::transmute(driver.symbol("cuDevicePrimaryCtxRetain"));
            assert_eq!(retain(&mut context, 0), 0);
            driver.context = context as usize;
            driver.bind();
            let load: extern "C" fn(*mut *mut c_void, *const c_void) -> c_int =
                std::mem::transmute(driver.symbol("cuModuleLoadData"));
            let attribute: extern "C" fn(*mut c_int, c_int, c_int) -> c_int =
                std::mem::transmute(driver.symbol("cuDeviceGetAttribute"));
            let version: extern "C" fn(*mut c_int) -> c_int = std::mem::transmute(driver.symbol("cuDriverGetVersion"));
            let (mut major, mut minor, mut cuda) = (0, 0, 0);
            assert_eq!(
                [
                    attribute(&mut major, 75, 0),
                    attribute(&mut minor, 76, 0),
                    version(&mut cuda)
                ],
                [0; 3]
            );
            let own = 10 * major + minor;
            driver.capability = own;
            let fits = |(capability, driver, _): &&(c_int, c_int, &[u8])| own >= *capability && cuda >= *driver;
            let (_, _, tensor) = TENSOR.iter().find(fits).expect("the last fits all");
            let ints = (own >= INTS.0).then_some(INTS.1);
            for packed in [BASE, tensor].into_iter().chain(ints) {
                let text = CString::new(unpacked(packed)).expect("text");
                let mut module = null_mut();
                assert_eq!(load(&mut module, text.as_ptr().cast()), 0);
                driver.modules.push(module as usize);
            }
        }
        driver
    }

    fn symbol(&self, name: &str) -> *mut c_void {
        let name = CString::new(name).unwrap();
        // SAFETY: a loaded library, which stays, and a name that ends with 0.
        let symbol = unsafe { dlsym(self.library as *mut c_void, name.as_ptr()) };
        assert!(!symbol.is_null(), "{name:?} is not in the library");
        symbol
    }

    fn bind(&self) {
        // SAFETY: its type in the driver's interface.
        let set: extern "C" fn(*mut c_void) -> c_int = unsafe { std::mem::transmute(self.symbol("cuCtxSetCurrent")) };
        assert_eq!(set(self.context as *mut c_void), 0);
    }
}

impl Device {
    /// The device; waits until no other test has it.
    pub fn get() -> Device {
        static DRIVER: OnceLock<Driver> = OnceLock::new();
        static ONE: Mutex<()> = Mutex::new(());
        let one = ONE.lock().unwrap_or_else(|e| e.into_inner());
        let driver = DRIVER.get_or_init(Driver::load);
        driver.bind();
        Device { driver, _one: one }
    }

    /// Names of the kernels that were compiled for the CPU.
    pub fn kernels(&self) -> Vec<String> {
        // SAFETY: its type in the shim; the text is static.
        let names = unsafe {
            let names: extern "C" fn() -> *const c_char =
                std::mem::transmute(self.driver.symbol("graft_fake_cuda_kernels"));
            CStr::from_ptr(names())
        };
        names.to_str().unwrap().split_whitespace().map(String::from).collect()
    }

    /// Memory of so many bytes (at least one), all ones.
    pub fn alloc(&self, bytes: usize) -> Buf {
        let bytes = bytes.max(1);
        let mut at = 0;
        // SAFETY: its type in the driver's interface.
        let alloc: extern "C" fn(*mut u64, usize) -> c_int =
            unsafe { std::mem::transmute(self.driver.symbol("cuMemAlloc_v2")) };
        assert_eq!(alloc(&mut at, bytes), 0);
        // SAFETY: its type in the driver's interface.
        let fill: extern "C" fn(u64, u8, usize) -> c_int =
            unsafe { std::mem::transmute(self.driver.symbol("cuMemsetD8_v2")) };
        assert_eq!(fill(at, 0xff, bytes), 0);
        Buf {
            at,
            bytes,
            driver: self.driver,
        }
    }

    /// Memory with these numbers.
    pub fn put<T: Copy>(&self, values: &[T]) -> Buf {
        let buf = self.alloc(size_of_val(values));
        // SAFETY: its type in the driver's interface; the range is that of the slice.
        unsafe {
            let copy: extern "C" fn(u64, *const c_void, usize) -> c_int =
                std::mem::transmute(self.driver.symbol("cuMemcpyHtoD_v2"));
            assert_eq!(copy(buf.at, values.as_ptr().cast(), size_of_val(values)), 0);
        }
        buf
    }

    /// Whether it has kernels on integers of tensor cores.
    pub fn multiplies_ints(&self) -> bool {
        self.driver.capability >= INTS.0
    }

    /// Whether a kernel can be had: whether PTX and shim both have it.
    pub fn has(&self, name: &str) -> bool {
        self.function(name).is_some()
    }

    fn function(&self, name: &str) -> Option<*mut c_void> {
        let c_name = CString::new(name).unwrap();
        // SAFETY: its type in the driver's interface.
        let get: extern "C" fn(*mut *mut c_void, *mut c_void, *const c_char) -> c_int =
            unsafe { std::mem::transmute(self.driver.symbol("cuModuleGetFunction")) };
        self.driver.modules.iter().find_map(|module| {
            let mut f = null_mut();
            (get(&mut f, *module as *mut c_void, c_name.as_ptr()) == 0).then_some(f)
        })
    }

    /// Runs a kernel; panics unless the driver takes it.
    pub fn launch(&self, name: &str, grid: [usize; 3], threads: usize, args: &[Arg]) {
        let f = self.function(name).unwrap_or_else(|| panic!("no kernel {name}"));
        let mut words: Vec<u64> = args
            .iter()
            .map(|arg| match *arg {
                Arg::Ptr(p) => p,
                Arg::Int(i) => u64::from(i as u32),
                Arg::Long(l) => l as u64,
                Arg::Float(f) => u64::from(f.to_bits()),
            })
            .collect();
        let mut pointers: Vec<*mut c_void> = words.iter_mut().map(|w| (w as *mut u64).cast()).collect();
        type Launch = extern "C" fn(
            *mut c_void,
            c_uint,
            c_uint,
            c_uint,
            c_uint,
            c_uint,
            c_uint,
            c_uint,
            *mut c_void,
            *mut *mut c_void,
            *mut *mut c_void,
        ) -> c_int;
        // SAFETY: its type in the driver's interface; the arguments live until it returns.
        let launch: Launch = unsafe { std::mem::transmute(self.driver.symbol("cuLaunchKernel")) };
        let [x, y, z] = grid.map(|n| n as c_uint);
        let code = launch(
            f,
            x,
            y,
            z,
            threads as c_uint,
            1,
            1,
            0,
            null_mut(),
            pointers.as_mut_ptr(),
            null_mut(),
        );
        assert_eq!(code, 0, "{name}");
        // SAFETY: as above.
        let wait: extern "C" fn() -> c_int = unsafe { std::mem::transmute(self.driver.symbol("cuCtxSynchronize")) };
        assert_eq!(wait(), 0);
    }
}

impl Buf {
    /// As an argument.
    pub fn arg(&self) -> Arg {
        Arg::Ptr(self.at)
    }

    /// Its numbers.
    pub fn read<T: Copy + Default>(&self) -> Vec<T> {
        let mut out = vec![T::default(); self.bytes / size_of::<T>()];
        // SAFETY: its type in the driver's interface; the range is that of the vector; all bits are valid numbers.
        unsafe {
            let copy: extern "C" fn(*mut c_void, u64, usize) -> c_int =
                std::mem::transmute(self.driver.symbol("cuMemcpyDtoH_v2"));
            assert_eq!(copy(out.as_mut_ptr().cast(), self.at, size_of_val(&out[..])), 0);
        }
        out
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        // SAFETY: its type in the driver's interface.
        let free: extern "C" fn(u64) -> c_int = unsafe { std::mem::transmute(self.driver.symbol("cuMemFree_v2")) };
        assert_eq!(free(self.at), 0);
    }
}

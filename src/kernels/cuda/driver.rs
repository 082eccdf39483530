//! The driver's functions that Graft calls, found when they are first needed: a program that has them in it starts without a driver.
//!
//! Handles are pointers that only the driver looks behind; here they are numbers. Results are numbers too: a driver may be newer than any
//! list of its errors.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr::null;
use std::sync::OnceLock;

use libloading::Library;

use crate::error::{Error, ErrorKind, Result};

/// A context, module, function, stream, event or graph.
pub type Handle = usize;
/// An address in a device's memory.
pub type Address = u64;

/// The library's names, as the driver's installer gives them. `GRAFT_CUDA_DRIVER` names another.
const NAMES: &[&str] = if cfg!(windows) {
    &["nvcuda.dll"]
} else {
    &["libcuda.so.1", "libcuda.so"]
};

/// The oldest version that takes the kernels (PTX 7.4): CUDA 11.4, driver 470.
const OLDEST: c_int = 11040;

macro_rules! functions {
    ($($name:ident: $symbol:literal ($($argument:ty),*);)*) => {
        /// The driver.
        pub struct Driver {
            /// CUDA's version as the driver has it: 1000 * major + 10 * minor.
            version: c_int,
            $(pub(super) $name: unsafe extern "system" fn($($argument),*) -> c_int,)*
            _library: Library,
        }

        impl Driver {
            fn of(library: Library) -> Result<Self> {
                $(
                    // SAFETY: the driver's interface gives the function this type for good (its name has the version).
                    let $name = unsafe { library.get::<unsafe extern "system" fn($($argument),*) -> c_int>($symbol) };
                    let $name = *$name.map_err(|_| {
                        let name = String::from_utf8_lossy($symbol).into_owned();
                        Error::unsupported("NVIDIA's driver is too old").item(name).expected("the function").found("none")
                    })?;
                )*
                Ok(Driver { version: 0, $($name,)* _library: library })
            }
        }
    };
}

functions! {
    init: b"cuInit" (c_uint);
    driver_version: b"cuDriverGetVersion" (*mut c_int);
    error_name: b"cuGetErrorName" (c_int, *mut *const c_char);
    error_text: b"cuGetErrorString" (c_int, *mut *const c_char);
    device_count: b"cuDeviceGetCount" (*mut c_int);
    device: b"cuDeviceGet" (*mut c_int, c_int);
    device_name: b"cuDeviceGetName" (*mut c_char, c_int, c_int);
    device_attribute: b"cuDeviceGetAttribute" (*mut c_int, c_int, c_int);
    context_retain: b"cuDevicePrimaryCtxRetain" (*mut Handle, c_int);
    context_release: b"cuDevicePrimaryCtxRelease_v2" (c_int);
    context_set: b"cuCtxSetCurrent" (Handle);
    memory_info: b"cuMemGetInfo_v2" (*mut usize, *mut usize);
    alloc: b"cuMemAlloc_v2" (*mut Address, usize);
    free: b"cuMemFree_v2" (Address);
    host_alloc: b"cuMemHostAlloc" (*mut *mut c_void, usize, c_uint);
    host_free: b"cuMemFreeHost" (*mut c_void);
    to_device: b"cuMemcpyHtoDAsync_v2" (Address, *const c_void, usize, Handle);
    to_host: b"cuMemcpyDtoHAsync_v2" (*mut c_void, Address, usize, Handle);
    on_device: b"cuMemcpyDtoDAsync_v2" (Address, Address, usize, Handle);
    fill: b"cuMemsetD8Async" (Address, u8, usize, Handle);
    stream_create: b"cuStreamCreate" (*mut Handle, c_uint);
    stream_destroy: b"cuStreamDestroy_v2" (Handle);
    stream_wait: b"cuStreamSynchronize" (Handle);
    capture_begin: b"cuStreamBeginCapture_v2" (Handle, c_int);
    capture_end: b"cuStreamEndCapture" (Handle, *mut Handle);
    graph_instantiate: b"cuGraphInstantiateWithFlags" (*mut Handle, Handle, u64);
    graph_launch: b"cuGraphLaunch" (Handle, Handle);
    graph_end: b"cuGraphExecDestroy" (Handle);
    graph_destroy: b"cuGraphDestroy" (Handle);
    event_create: b"cuEventCreate" (*mut Handle, c_uint);
    event_destroy: b"cuEventDestroy_v2" (Handle);
    event_record: b"cuEventRecord" (Handle, Handle);
    event_wait: b"cuEventSynchronize" (Handle);
    module_load: b"cuModuleLoadData" (*mut Handle, *const c_void);
    module_unload: b"cuModuleUnload" (Handle);
    function: b"cuModuleGetFunction" (*mut Handle, Handle, *const c_char);
    launch: b"cuLaunchKernel" (
        Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut *mut c_void, *mut *mut c_void
    );
}

impl Driver {
    /// The driver, ready.
    ///
    /// # Errors
    /// `Unsupported`: there is none, one that is too old, or one without a device.
    pub fn get() -> Result<&'static Driver> {
        static DRIVER: OnceLock<Result<Driver>> = OnceLock::new();
        match DRIVER.get_or_init(Self::load) {
            Ok(driver) => Ok(driver),
            Err(e) => Err(e.again()),
        }
    }

    fn load() -> Result<Driver> {
        let own = std::env::var("GRAFT_CUDA_DRIVER").ok();
        let names = own.as_deref().map_or_else(|| NAMES.to_vec(), |own| vec![own]);
        // SAFETY: what runs when NVIDIA's driver is loaded is its own; programs that use CUDA all load it.
        let library = names.iter().find_map(|name| unsafe { Library::new(*name) }.ok());
        let library = library.ok_or_else(|| {
            let e = Error::unsupported("no NVIDIA driver on this machine");
            e.expected(names.join(" or ")).found("no such library")
        })?;
        let mut driver = Driver::of(library)?;
        let mut version = 0;
        // SAFETY: writes to a number that lives.
        driver.check("cuDriverGetVersion", unsafe { (driver.driver_version)(&mut version) })?;
        driver.version = version;
        if version < OLDEST {
            let e = Error::unsupported("NVIDIA's driver is too old").item("cuDriverGetVersion");
            return Err(e
                .expected(format_args!("CUDA {} or later (driver 470)", version_text(OLDEST)))
                .found(format_args!("CUDA {}", version_text(version))));
        }
        // SAFETY: takes no pointers.
        driver.check("cuInit", unsafe { (driver.init)(0) })?;
        Ok(driver)
    }

    /// CUDA's version as the driver has it: 1000 * major + 10 * minor.
    pub fn version(&self) -> i32 {
        self.version
    }

    /// An error that names the call, unless `code` is 0.
    pub fn check(&self, call: &str, code: c_int) -> Result<()> {
        const OUT_OF_MEMORY: c_int = 2;
        const NO_DEVICE: c_int = 100;
        if code == 0 {
            return Ok(());
        }
        let text = |get: unsafe extern "system" fn(c_int, *mut *const c_char) -> c_int| {
            let mut text: *const c_char = null();
            // SAFETY: writes a pointer to static text, or fails and leaves null.
            let known = unsafe { get(code, &mut text) } == 0 && !text.is_null();
            // SAFETY: as above: text that ends with 0.
            known.then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
        };
        let (kind, what) = match code {
            OUT_OF_MEMORY => (ErrorKind::Limit, "not enough memory for the GPU"),
            NO_DEVICE => (ErrorKind::Unsupported, "no NVIDIA GPU that the driver can use"),
            _ => (ErrorKind::Io, "NVIDIA's driver refused"),
        };
        let name = text(self.error_name).unwrap_or_else(|| "an unknown error".into());
        let more = text(self.error_text).map_or_else(String::new, |text| format!(": {text}"));
        Err(Error::new(kind, what)
            .item(call)
            .found(format_args!("{name} ({code}){more}")))
    }
}

/// `11.4` of 11040.
pub(super) fn version_text(version: c_int) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

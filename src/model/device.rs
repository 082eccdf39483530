//! The device that models run on.

use crate::error::{Error, Result};
use crate::format::Gguf;
use crate::kernels::{Cpu, Precision};

use super::spec::Spec;

/// What runs models: the CPU.
#[cfg(not(feature = "cuda"))]
pub type Device = Cpu;
/// What runs models: the CPU, and a GPU where there is one.
#[cfg(feature = "cuda")]
pub type Device = super::offload::Offload;

/// What is to run a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// An NVIDIA GPU where there is one and this build can use it, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The NVIDIA GPU of this index; without one that which has most memory free.
    Cuda(Option<usize>),
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Cuda(None) => f.write_str("cuda"),
            DeviceChoice::Cuda(Some(index)) => write!(f, "cuda:{index}"),
        }
    }
}

impl std::str::FromStr for DeviceChoice {
    type Err = Error;

    /// `auto`, `cpu`, `cuda` or `cuda:1`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            let e = Error::usage("unknown device").item("--device");
            e.expected("auto, cpu, cuda or cuda:N").found(text)
        };
        match (text, text.strip_prefix("cuda:")) {
            ("auto", _) => Ok(DeviceChoice::Auto),
            ("cpu", _) => Ok(DeviceChoice::Cpu),
            ("cuda", _) => Ok(DeviceChoice::Cuda(None)),
            (_, Some(index)) => index.parse().map(|i| DeviceChoice::Cuda(Some(i))).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

/// The device for a model: `layers` of it on a GPU, or as many as fit, with room for a training on sequences of so many tokens. Besides what there is to say: where what runs, or, of
/// [`DeviceChoice::Auto`], why no GPU is used.
///
/// # Errors
/// A GPU was asked for and cannot be had.
#[cfg(feature = "cuda")]
pub fn open(
    cpu: Cpu,
    choice: DeviceChoice,
    layers: Option<usize>,
    training: Option<(usize, Precision)>,
    spec: &Spec,
    gguf: &Gguf,
) -> Result<(Device, Option<String>)> {
    use super::offload::{Offload, Plan};
    use crate::kernels::cuda::Gpu;
    let index = match choice {
        DeviceChoice::Cpu => return Ok((Offload::on_cpu(cpu), None)),
        _ if layers == Some(0) => return Ok((Offload::on_cpu(cpu), None)),
        DeviceChoice::Auto => None,
        DeviceChoice::Cuda(index) => index,
    };
    let gpu = Gpu::open(index).and_then(|gpu| Ok((Plan::new(&gpu, spec, gguf, layers, training)?, gpu)));
    match (gpu, choice) {
        (Ok((plan, gpu)), _) => {
            let (on, all) = plan.layers();
            let said = format!("{on} of {all} layers on GPU {}, {}", gpu.index(), gpu.name());
            Ok((Offload::new(cpu, gpu, plan), Some(said)))
        }
        (Err(e), DeviceChoice::Auto) => Ok((Offload::on_cpu(cpu), Some(format!("on the CPU: {e}")))),
        (Err(e), _) => Err(e),
    }
}

/// The device for a model: this build knows the CPU alone.
///
/// # Errors
/// A GPU was asked for.
#[cfg(not(feature = "cuda"))]
pub fn open(
    cpu: Cpu,
    choice: DeviceChoice,
    _layers: Option<usize>,
    _training: Option<(usize, Precision)>,
    _spec: &Spec,
    _gguf: &Gguf,
) -> Result<(Device, Option<String>)> {
    match choice {
        DeviceChoice::Auto | DeviceChoice::Cpu => Ok((cpu, None)),
        DeviceChoice::Cuda(_) => Err(no_gpus()),
    }
}

/// A GPU was asked for where this build knows the CPU alone.
#[cfg(not(feature = "cuda"))]
pub(crate) fn no_gpus() -> Error {
    let e = Error::unsupported("this build of Graft has no GPUs").item("device");
    e.expected("a build with the feature cuda, or another device: auto or cpu")
        .found("cuda")
}

/// The CPU: its threads, how long operations take on it, what is computed of weights once.
pub fn cpu(device: &Device) -> &Cpu {
    #[cfg(feature = "cuda")]
    let device = device.cpu();
    device
}

/// The index of the GPU that has layers, and how many.
pub fn gpu(device: &Device) -> Option<(usize, usize)> {
    #[cfg(feature = "cuda")]
    let gpu = device.gpu().zip(device.plan()).map(|(gpu, plan)| {
        let index = usize::try_from(gpu.index()).unwrap_or(0);
        (index, plan.layers().0)
    });
    #[cfg(not(feature = "cuda"))]
    let gpu = {
        let _ = device;
        None
    };
    gpu
}

/// Operations that ran on the CPU though what they read was on a GPU.
pub fn fallen(device: &Device) -> Vec<&'static str> {
    #[cfg(feature = "cuda")]
    let fallen = device.fallen();
    #[cfg(not(feature = "cuda"))]
    let (fallen, _) = (Vec::new(), device);
    fallen
}

/// The same device with the same threads, for another model.
///
/// # Errors
/// As [`Cpu::on`].
pub fn share(device: &Device) -> Result<Device> {
    #[cfg(feature = "cuda")]
    let shared = device.share();
    #[cfg(not(feature = "cuda"))]
    let shared = Cpu::on(device.shared_team());
    shared
}

#[cfg(test)]
mod tests {
    use super::DeviceChoice::{self, Auto, Cuda};

    #[test]
    fn devices_have_names() {
        let parse = |text: &str| text.parse::<DeviceChoice>();
        for (text, choice) in [
            ("auto", Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda", Cuda(None)),
            ("cuda:12", Cuda(Some(12))),
        ] {
            assert_eq!(parse(text).unwrap(), choice);
            assert_eq!(choice.to_string(), text);
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda0"] {
            assert!(parse(text).unwrap_err().to_string().contains("cuda:N"), "{text}");
        }
    }
}

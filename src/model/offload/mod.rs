//! The CPU and, for some or all layers, a GPU. Each operation runs where its weights (its ring, or else its input) are; activations that come
//! from elsewhere are copied there. With the last layers on the GPU, which is where they go first, a pass crosses over once.

mod backend;
mod backprop;
mod place;
mod products;
mod values;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::error::Result;
use crate::kernels::Cpu;
use crate::kernels::cuda::{Gpu, Matrix};

pub use place::Plan;
pub use values::{Acts, Buf, Factor, Kv, RopeTable, Vector, Weight};

/// The CPU, and a GPU if there is one and anything runs on it.
pub struct Offload {
    cpu: Cpu,
    gpu: Option<OnGpu>,
}

/// What runs on the GPU.
struct OnGpu {
    gpu: Arc<Gpu>,
    plan: Plan,
    /// The embedding, which a tied head has too.
    embed: Mutex<Weak<Matrix>>,
    /// Operations that no kernel could do, though what they read was there.
    fallen: Mutex<Vec<&'static str>>,
}

impl Offload {
    /// All on the CPU.
    pub fn on_cpu(cpu: Cpu) -> Self {
        Offload { cpu, gpu: None }
    }

    /// What `plan` says on the GPU, the rest on the CPU.
    pub fn new(cpu: Cpu, gpu: Arc<Gpu>, plan: Plan) -> Self {
        Offload {
            cpu,
            gpu: Some(OnGpu {
                gpu,
                plan,
                embed: Mutex::default(),
                fallen: Mutex::default(),
            }),
        }
    }

    /// The CPU.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// The GPU, if anything is to run there.
    pub fn gpu(&self) -> Option<&Arc<Gpu>> {
        self.gpu.as_ref().map(|on| &on.gpu)
    }

    /// What runs where: of how many layers the last ones are on the GPU.
    pub fn plan(&self) -> Option<&Plan> {
        self.gpu.as_ref().map(|on| &on.plan)
    }

    /// Operations that so far ran on the CPU, with copies, though what they read was on the GPU: no kernel has them for such values. In the
    /// order of the first calls.
    pub fn fallen(&self) -> Vec<&'static str> {
        let fallen = self.gpu.as_ref().map(|on| on.fallen.lock());
        fallen.map_or_else(Vec::new, |fallen| {
            fallen.unwrap_or_else(PoisonError::into_inner).clone()
        })
    }

    /// Takes note of such an operation.
    fn falls(&self, op: &'static str) {
        if let Some(on) = &self.gpu {
            let mut fallen = on.fallen.lock().unwrap_or_else(PoisonError::into_inner);
            if !fallen.contains(&op) {
                fallen.push(op);
            }
        }
    }

    /// The same for another model, on the same threads.
    ///
    /// # Errors
    /// As [`Cpu::on`].
    pub fn share(&self) -> Result<Self> {
        let cpu = Cpu::on(self.cpu.shared_team())?;
        Ok(match &self.gpu {
            None => Self::on_cpu(cpu),
            Some(on) => Self::new(cpu, on.gpu.clone(), on.plan.clone()),
        })
    }
}

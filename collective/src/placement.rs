//! Where a process computes: its GPU, or its share of the machine's cores.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use crate::cuda;
use crate::error::Result;

/// The device that a recipe asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// A GPU where CUDA loads and finds one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU; an error where there is none.
    Cuda,
}

impl DeviceChoice {
    /// The device of process number `local_rank` of this machine. Processes beyond the number of GPUs share them.
    pub fn device(self, local_rank: usize) -> Result<Device> {
        if self == DeviceChoice::Cuda {
            cuda::require()?;
        }
        let gpus = if self == DeviceChoice::Cpu { 0 } else { cuda::count() };
        Ok(if gpus == 0 { Device::Cpu } else { Device::Cuda(local_rank % gpus) })
    }
}

/// Which element type the networks run in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MixedPrecision {
    /// f32 throughout.
    #[default]
    No,
    /// Frozen weights in bf16, autocast; parameters, latents and losses stay f32.
    Bf16,
    /// Frozen weights in f16, autocast; the loss is scaled so that small gradients do not vanish.
    Fp16,
}

impl MixedPrecision {
    /// The frozen weights' element type.
    pub fn kind(self) -> Kind {
        match self {
            MixedPrecision::No => Kind::Float,
            MixedPrecision::Bf16 => Kind::BFloat16,
            MixedPrecision::Fp16 => Kind::Half,
        }
    }

    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            MixedPrecision::No => "no",
            MixedPrecision::Bf16 => "bf16",
            MixedPrecision::Fp16 => "fp16",
        }
    }
}

/// Gives libtorch `wanted` threads in this process, or the share of one of `local_size` processes: several with all
/// cores each would only wait for one another.
pub fn share_cores(wanted: Option<usize>, local_size: usize, device: Device) {
    const ENOUGH_BESIDE_A_GPU: usize = 8;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = (cores / local_size.max(1)).max(1);
    let share = if device.is_cuda() { share.min(ENOUGH_BESIDE_A_GPU) } else { share };
    tch::set_num_threads(wanted.unwrap_or(share) as i32);
}

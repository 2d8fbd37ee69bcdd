//! Where a process computes: on its GPU, or on its share of the machine's cores.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use crate::cuda;
use crate::error::Result;
use crate::rendezvous::process_env;

/// The device that a recipe asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// A GPU if CUDA loads and finds one, otherwise the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU; an error if there is none.
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

/// Gives libtorch `wanted` threads in this process; by default as many as OMP_NUM_THREADS says, or else this
/// process's share among `local_size`: several processes with all cores each would only wait for one another.
pub fn share_cores(wanted: Option<usize>, local_size: usize, device: Device) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads(wanted, process_env("OMP_NUM_THREADS"), cores / local_size.max(1), device.is_cuda());
    tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
}

fn threads(wanted: Option<usize>, omp_num_threads: Option<String>, share: usize, beside_a_gpu: bool) -> usize {
    const ENOUGH_BESIDE_A_GPU: usize = 8;
    // Further numbers of a list are for nested regions; OpenMP itself ignores what is no number.
    let outermost = |list: String| list.split(',').next()?.trim().parse().ok().filter(|&threads| threads > 0);
    let share = if beside_a_gpu { share.min(ENOUGH_BESIDE_A_GPU) } else { share };
    wanted.or_else(|| omp_num_threads.and_then(outermost)).unwrap_or(share.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_comes_before_the_variable_and_that_before_the_share() {
        let variable = |text: &str| Some(text.to_string());
        assert_eq!(threads(Some(3), variable("2"), 16, false), 3);
        assert_eq!(threads(None, variable("2"), 16, false), 2);
        assert_eq!(threads(None, variable(" 12,4"), 16, true), 12);
        for ignored in ["", "0", "many", "-1"] {
            assert_eq!(threads(None, variable(ignored), 16, false), 16, "{ignored:?}");
        }
        assert_eq!([threads(None, None, 16, true), threads(None, None, 0, true)], [8, 1]);
    }
}

//! CUDA, loaded only when asked for: one binary serves machines with and without it.

use std::sync::OnceLock;

use crate::error::{Error, Result};
use crate::ffi;

/// Loads libtorch_cuda.so from the folder of the libtorch_cpu.so in use. Call it before the first use of a CUDA
/// device; later calls return the result of the first.
pub fn load() -> Result<()> {
    static LOADED: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    let loaded = LOADED.get_or_init(ffi::device::load_cuda);
    loaded.clone().map_err(|cause| Error::Unavailable {
        what: "CUDA",
        problem: format!(
            "{cause}. Lay out libtorch with CUDA (`make setup CUDA=1`), or point LD_LIBRARY_PATH at PyTorch 2.11+cu130"
        ),
    })
}

/// Whether CUDA loads here and finds a GPU.
pub fn available() -> bool {
    load().is_ok() && tch::Cuda::is_available()
}

/// How many GPUs this process sees; 0 if CUDA does not load.
pub fn count() -> usize {
    if available() {
        tch::Cuda::device_count().max(0) as usize
    } else {
        0
    }
}

/// Bytes held by libtorch's caching allocator on one GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// In tensors now.
    pub allocated: u64,
    /// The most in tensors since the last reset.
    pub peak_allocated: u64,
    /// Taken from the driver now.
    pub reserved: u64,
    /// The most taken from the driver since the last reset.
    pub peak_reserved: u64,
}

/// The allocator's statistics of GPU `device`.
pub fn memory(device: usize) -> Result<Memory> {
    require()?;
    let [allocated, peak_allocated, reserved, peak_reserved] =
        ffi::device::cuda_memory(device).map_err(Error::torch("read CUDA memory statistics"))?;
    Ok(Memory { allocated, peak_allocated, reserved, peak_reserved })
}

/// Resets both peaks of GPU `device`.
pub fn reset_peak(device: usize) -> Result<()> {
    require()?;
    ffi::device::cuda_reset_peak(device).map_err(Error::torch("reset CUDA memory peaks"))
}

pub(crate) fn require() -> Result<()> {
    load()?;
    if tch::Cuda::is_available() {
        return Ok(());
    }
    let problem = "no GPU is visible (see nvidia-smi and CUDA_VISIBLE_DEVICES)".into();
    Err(Error::Unavailable { what: "CUDA", problem })
}

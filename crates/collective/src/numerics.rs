//! Speed against exactness: TF32 and deterministic kernels.

use crate::error::{Error, Result};
use crate::ffi;

/// Lets CUDA matrix products and convolutions of f32 run in TF32 (10 bits of mantissa), or forbids it.
pub fn tf32(on: bool) -> Result<()> {
    ffi::device::tf32(on).map_err(Error::torch("switch TF32"))
}

/// Asks for kernels that give the same bits each time. Operations that have none warn and go on.
/// On CUDA, cuBLAS also wants `CUBLAS_WORKSPACE_CONFIG=:4096:8` in the environment.
pub fn deterministic(on: bool) -> Result<()> {
    ffi::device::deterministic(on).map_err(Error::torch("switch determinism"))
}

//! Switches between speed and exactness: TF32 and deterministic kernels.

use crate::error::{Error, Result};
use crate::ffi;

/// Allows or forbids TF32 (10 bits of mantissa) in CUDA matrix products and convolutions of f32.
pub fn tf32(on: bool) -> Result<()> {
    ffi::device::tf32(on).map_err(Error::torch("switch TF32"))
}

/// Asks for kernels that give the same bits each time. Operations without one only warn. On CUDA, cuBLAS also needs
/// `CUBLAS_WORKSPACE_CONFIG=:4096:8` in the environment.
pub fn deterministic(on: bool) -> Result<()> {
    ffi::device::deterministic(on).map_err(Error::torch("switch determinism"))
}

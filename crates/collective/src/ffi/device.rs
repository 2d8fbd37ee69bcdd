//! Device switches and statistics (csrc/device.cpp).

use std::ffi::{c_char, c_int};

use super::{check, Outcome};

extern "C" {
    fn collective_load_cuda() -> *mut c_char;
    fn collective_cuda_memory(device: c_int, out: *mut i64) -> *mut c_char;
    fn collective_cuda_reset_peak(device: c_int) -> *mut c_char;
    fn collective_autocast_enter(
        cuda: c_int, enabled: c_int, dtype: c_int, was_enabled: *mut c_int, was_dtype: *mut c_int,
    ) -> *mut c_char;
    fn collective_autocast_leave(cuda: c_int, was_enabled: c_int, was_dtype: c_int) -> *mut c_char;
    fn collective_tf32(on: c_int) -> *mut c_char;
    fn collective_deterministic(on: c_int) -> *mut c_char;
}

/// c10::ScalarType::Half
pub const HALF: i32 = 5;
/// c10::ScalarType::BFloat16
pub const BFLOAT16: i32 = 15;

/// Autocast has one switch for each type of device.
#[derive(Clone, Copy)]
pub enum AutocastDevice {
    /// Every CPU tensor.
    Cpu = 0,
    /// The tensors of all GPUs.
    Cuda = 1,
}

/// The state of one of autocast's switches.
#[derive(Clone, Copy)]
pub struct Autocast {
    enabled: c_int,
    dtype: c_int,
}

pub fn load_cuda() -> Outcome<()> {
    // SAFETY: runs libtorch_cuda.so's initialisers, which are made to run at any time before the first CUDA call.
    check(unsafe { collective_load_cuda() })
}

/// Allocated, its peak, reserved, its peak; bytes.
pub fn cuda_memory(device: usize) -> Outcome<[u64; 4]> {
    let mut bytes = [0i64; 4];
    // SAFETY: the callee writes four numbers, and only on success.
    check(unsafe { collective_cuda_memory(device as c_int, bytes.as_mut_ptr()) })?;
    Ok(bytes.map(|b| b.max(0) as u64))
}

pub fn cuda_reset_peak(device: usize) -> Outcome<()> {
    // SAFETY: no pointers; failures come back as a message.
    check(unsafe { collective_cuda_reset_peak(device as c_int) })
}

/// Switches autocast to `dtype`, or off, for this thread and returns the former state.
pub fn autocast_enter(device: AutocastDevice, dtype: Option<i32>) -> Outcome<Autocast> {
    let mut former = Autocast { enabled: 0, dtype: 0 };
    let (enabled, dtype) = (dtype.is_some().into(), dtype.unwrap_or(BFLOAT16));
    let (was_enabled, was_dtype) = (&mut former.enabled, &mut former.dtype);
    // SAFETY: both fields outlive the call.
    check(unsafe { collective_autocast_enter(device as c_int, enabled, dtype, was_enabled, was_dtype) })?;
    Ok(former)
}

/// Undoes one `autocast_enter` of this thread.
pub fn autocast_leave(device: AutocastDevice, former: Autocast) {
    // SAFETY: no pointers. It only writes thread-local flags; a message, if any, is freed by `check`.
    let left = check(unsafe { collective_autocast_leave(device as c_int, former.enabled, former.dtype) });
    if let Err(message) = left {
        tracing::warn!("leave autocast: {message}");
    }
}

pub fn tf32(on: bool) -> Outcome<()> {
    // SAFETY: no pointers; writes flags of ATen's global context.
    check(unsafe { collective_tf32(on.into()) })
}

pub fn deterministic(on: bool) -> Outcome<()> {
    // SAFETY: no pointers; writes flags of ATen's global context.
    check(unsafe { collective_deterministic(on.into()) })
}

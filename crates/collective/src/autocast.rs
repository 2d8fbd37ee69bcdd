//! Mixed precision: eligible operations run in a narrower kind, the rest in f32.

use std::marker::PhantomData;

use tch::{Device, Kind};

use crate::ffi;

/// Restores the former state when dropped, also on a panic.
struct Guard {
    device: ffi::device::AutocastDevice,
    former: ffi::device::Autocast,
    // Autocast is a state of the thread: the guard must be dropped on the thread that made it.
    _stays: PhantomData<*const ()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        ffi::device::autocast_leave(self.device, self.former);
    }
}

/// Runs `body` with autocast to `kind` (bf16 or f16) on `device`; with other kinds, such as f32, without. Calls nest,
/// and autocast ends when `body` returns or panics. Backward passes belong outside.
pub fn autocast<T>(device: Device, kind: Kind, body: impl FnOnce() -> T) -> T {
    let dtype = match kind {
        Kind::Half => ffi::device::HALF,
        Kind::BFloat16 => ffi::device::BFLOAT16,
        _ => return body(),
    };
    switched(device, Some(dtype), body)
}

/// Runs `body` without autocast on `device`: for a network that overflows in the narrower kind.
pub fn without_autocast<T>(device: Device, body: impl FnOnce() -> T) -> T {
    switched(device, None, body)
}

fn switched<T>(device: Device, dtype: Option<i32>, body: impl FnOnce() -> T) -> T {
    let device = match device {
        Device::Cuda(_) => ffi::device::AutocastDevice::Cuda,
        _ => ffi::device::AutocastDevice::Cpu,
    };
    let former = ffi::device::autocast_enter(device, dtype).expect("invariant: CPU and CUDA have autocast");
    let _guard = Guard { device, former, _stays: PhantomData };
    body()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Tensor;

    fn product() -> Kind {
        let a = Tensor::ones([4, 4], (Kind::Float, Device::Cpu));
        a.matmul(&a).kind()
    }

    #[test]
    fn the_kind_holds_inside_and_nests() {
        let kinds = autocast(Device::Cpu, Kind::BFloat16, || {
            let inner = autocast(Device::Cpu, Kind::Half, product);
            (inner, product())
        });
        assert_eq!(kinds, (Kind::Half, Kind::BFloat16));
        assert_eq!(product(), Kind::Float);
        assert_eq!(autocast(Device::Cpu, Kind::Float, product), Kind::Float);
    }

    #[test]
    fn without_it_f32_stays_f32_and_it_comes_back() {
        let kinds = autocast(Device::Cpu, Kind::Half, || (without_autocast(Device::Cpu, product), product()));
        assert_eq!(kinds, (Kind::Float, Kind::Half));
        assert_eq!(without_autocast(Device::Cpu, product), Kind::Float);
    }

    #[test]
    fn a_panic_ends_it() {
        let panicked = std::panic::catch_unwind(|| autocast(Device::Cpu, Kind::BFloat16, || panic!("on purpose")));
        assert!(panicked.is_err());
        assert_eq!(product(), Kind::Float);
    }
}

//! The c10d backends (csrc/group.cpp).

use std::ffi::{c_char, c_int, CStr};
use std::ptr::{null_mut, NonNull};
use std::time::Duration;

use tch::Tensor;
use torch_sys::C_tensor;

use super::store::{RawStore, Store};
use super::{c_string, check, Outcome};

/// The C++ side's `struct Group`.
#[repr(C)]
pub struct RawGroup {
    _opaque: [u8; 0],
}

/// The C++ side's `struct Work`.
#[repr(C)]
pub struct RawWork {
    _opaque: [u8; 0],
}

extern "C" {
    fn collective_missing_symbol(nccl: c_int) -> *const c_char;
    fn collective_group_open(
        store: *mut RawStore, prefix: *const c_char, nccl: c_int, rank: c_int, world: c_int, timeout_ms: i64,
        out: *mut *mut RawGroup,
    ) -> *mut c_char;
    fn collective_group_close(group: *mut RawGroup);
    fn collective_all_reduce(g: *mut RawGroup, t: *const C_tensor, op: c_int, out: *mut *mut RawWork) -> *mut c_char;
    fn collective_broadcast(g: *mut RawGroup, t: *const C_tensor, root: c_int, out: *mut *mut RawWork) -> *mut c_char;
    fn collective_all_gather(
        group: *mut RawGroup, outputs: *const *const C_tensor, count: usize, input: *const C_tensor,
        out: *mut *mut RawWork,
    ) -> *mut c_char;
    fn collective_barrier(group: *mut RawGroup, out: *mut *mut RawWork) -> *mut c_char;
    fn collective_work_wait(work: *mut RawWork) -> *mut c_char;
    fn collective_work_free(work: *mut RawWork);
}

/// c10d::ReduceOp::RedOpType
#[derive(Clone, Copy)]
#[repr(i32)]
pub enum RawReduceOp {
    /// SUM
    Sum = 0,
    /// MIN
    Min = 3,
    /// MAX
    Max = 4,
}

/// The mangled name of the first constructor that the loaded libraries lack.
pub fn missing_symbol(nccl: bool) -> Option<String> {
    // SAFETY: returns null or a string literal.
    let name = unsafe { collective_missing_symbol(nccl.into()) };
    // SAFETY: not null here, and a literal lives for ever.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
}

/// One Gloo backend, and one NCCL backend if asked for.
pub struct Group {
    raw: NonNull<RawGroup>,
}

// SAFETY: c10d's backends have no thread affinity; `&mut`-like exclusivity is not needed to move them.
unsafe impl Send for Group {}

impl Group {
    /// Connects to all other ranks through keys of the store that start with `prefix`.
    pub fn open(
        store: &Store, prefix: &str, nccl: bool, (rank, world_size): (usize, usize), timeout: Duration,
    ) -> Outcome<Group> {
        let prefix = c_string(prefix);
        let (rank, world) = (rank as c_int, world_size as c_int);
        let timeout_ms = timeout.as_millis() as i64;
        let mut raw = null_mut();
        // SAFETY: store and prefix outlive the call (c10d keeps its own reference to the store); `raw` is written on
        // success only.
        check(unsafe {
            collective_group_open(store.as_ptr(), prefix.as_ptr(), nccl.into(), rank, world, timeout_ms, &mut raw)
        })?;
        Ok(Group { raw: NonNull::new(raw).expect("invariant: success gives a group") })
    }

    pub fn all_reduce(&self, tensor: &Tensor, op: RawReduceOp) -> Outcome<Work> {
        // SAFETY: group and tensor outlive the call; the work keeps its own reference to the tensor's storage.
        Work::from(|out| unsafe { collective_all_reduce(self.raw.as_ptr(), tensor.as_ptr(), op as c_int, out) })
    }

    pub fn broadcast(&self, tensor: &Tensor, root: usize) -> Outcome<Work> {
        // SAFETY: as in `all_reduce`.
        Work::from(|out| unsafe { collective_broadcast(self.raw.as_ptr(), tensor.as_ptr(), root as c_int, out) })
    }

    /// `outputs`: one tensor for each rank, in the shape of `input`.
    pub fn all_gather(&self, outputs: &[Tensor], input: &Tensor) -> Outcome<Work> {
        let pointers: Vec<*const C_tensor> = outputs.iter().map(Tensor::as_ptr).collect();
        // SAFETY: as in `all_reduce`; the array of pointers is read during the call only.
        Work::from(|out| unsafe {
            collective_all_gather(self.raw.as_ptr(), pointers.as_ptr(), pointers.len(), input.as_ptr(), out)
        })
    }

    pub fn barrier(&self) -> Outcome<Work> {
        // SAFETY: the group outlives the call.
        Work::from(|out| unsafe { collective_barrier(self.raw.as_ptr(), out) })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `open` and is closed once.
        unsafe { collective_group_close(self.raw.as_ptr()) }
    }
}

/// A collective in progress, with references to its tensors.
pub struct Work {
    raw: NonNull<RawWork>,
}

// SAFETY: c10d::Work synchronises internally and may be waited for from any thread.
unsafe impl Send for Work {}

impl Work {
    fn from(start: impl FnOnce(*mut *mut RawWork) -> *mut c_char) -> Outcome<Work> {
        let mut raw = null_mut();
        check(start(&mut raw))?;
        Ok(Work { raw: NonNull::new(raw).expect("invariant: success gives a work") })
    }

    /// Blocks until it is done or the group's timeout has passed.
    pub fn wait(&self) -> Outcome<()> {
        // SAFETY: the work lives as long as self.
        check(unsafe { collective_work_wait(self.raw.as_ptr()) })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // SAFETY: the pointer came from csrc/ and is freed once; an unfinished c10d work keeps itself alive.
        unsafe { collective_work_free(self.raw.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn libtorch_exports_the_mangled_gloo_constructors() {
        assert_eq!(super::missing_symbol(false), None);
    }
}

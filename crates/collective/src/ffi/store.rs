//! The rendezvous store (csrc/store.cpp).

use std::ffi::{c_char, c_int};
use std::net::TcpListener;
use std::os::fd::IntoRawFd;
use std::ptr::{null_mut, NonNull};
use std::time::Duration;

use super::{c_string, check, take_string, Outcome};

/// The C++ side's `struct Store`.
#[repr(C)]
pub struct RawStore {
    _opaque: [u8; 0],
}

extern "C" {
    fn collective_store_open(
        host: *const c_char, port: u16, serves: c_int, listen_fd: c_int, timeout_ms: i64, out: *mut *mut RawStore,
    ) -> *mut c_char;
    fn collective_store_close(store: *mut RawStore);
    fn collective_store_set(store: *mut RawStore, key: *const c_char, value: *const c_char) -> *mut c_char;
    fn collective_store_get(store: *mut RawStore, key: *const c_char, out: *mut *mut c_char) -> *mut c_char;
    fn collective_store_add(store: *mut RawStore, key: *const c_char, amount: i64, out: *mut i64) -> *mut c_char;
    fn collective_store_has(store: *mut RawStore, key: *const c_char, out: *mut c_int) -> *mut c_char;
    fn collective_store_wait(store: *mut RawStore, prefix: *const c_char, count: usize, timeout: i64) -> *mut c_char;
}

/// A connection to the key-value server through which the ranks find each other.
pub struct Store {
    raw: NonNull<RawStore>,
}

// SAFETY: TCPStore guards each of its operations with a mutex and keeps no thread-local state.
unsafe impl Send for Store {}
// SAFETY: as above; a second thread waits for the first one's operation.
unsafe impl Sync for Store {}

impl Store {
    /// Connects, retrying until the timeout.
    pub fn connect(host: &str, port: u16, timeout: Duration) -> Outcome<Store> {
        Store::open(host, port, false, -1, timeout)
    }

    /// Serves on a port and connects to it.
    pub fn serve(host: &str, port: u16, timeout: Duration) -> Outcome<Store> {
        Store::open(host, port, true, -1, timeout)
    }

    /// Serves on a socket that listens already, and connects to it.
    pub fn adopt(listener: TcpListener, timeout: Duration) -> Outcome<Store> {
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        let host = if address.ip().is_unspecified() { "127.0.0.1".into() } else { address.ip().to_string() };
        Store::open(&host, address.port(), true, listener.into_raw_fd(), timeout)
    }

    fn open(host: &str, port: u16, serves: bool, listen_fd: c_int, timeout: Duration) -> Outcome<Store> {
        let host = c_string(host);
        let mut raw = null_mut();
        // SAFETY: the host outlives the call, and `raw` is written on success only.
        check(unsafe {
            collective_store_open(host.as_ptr(), port, serves.into(), listen_fd, timeout.as_millis() as i64, &mut raw)
        })?;
        Ok(Store { raw: NonNull::new(raw).expect("invariant: success gives a store") })
    }

    /// Writes a key.
    pub fn set(&self, key: &str, value: &str) -> Outcome<()> {
        let (key, value) = (c_string(key), c_string(value));
        // SAFETY: the store lives as long as self; both strings outlive the call.
        check(unsafe { collective_store_set(self.raw.as_ptr(), key.as_ptr(), value.as_ptr()) })
    }

    /// Reads a key, waiting for it.
    pub fn get(&self, key: &str) -> Outcome<String> {
        let key = c_string(key);
        let mut value = null_mut();
        // SAFETY: as in `set`; `value` is written on success only.
        check(unsafe { collective_store_get(self.raw.as_ptr(), key.as_ptr(), &mut value) })?;
        Ok(take_string(value))
    }

    /// Adds to a counter, which starts at 0, and returns it.
    pub fn add(&self, key: &str, amount: i64) -> Outcome<i64> {
        let key = c_string(key);
        let mut sum = 0;
        // SAFETY: as in `get`.
        check(unsafe { collective_store_add(self.raw.as_ptr(), key.as_ptr(), amount, &mut sum) })?;
        Ok(sum)
    }

    /// Whether a key exists.
    pub fn has(&self, key: &str) -> Outcome<bool> {
        let key = c_string(key);
        let mut found = 0;
        // SAFETY: as in `get`.
        check(unsafe { collective_store_has(self.raw.as_ptr(), key.as_ptr(), &mut found) })?;
        Ok(found != 0)
    }

    /// Waits until `prefix0` … `prefix<count - 1>` all exist.
    pub fn wait(&self, prefix: &str, count: usize, timeout: Duration) -> Outcome<()> {
        let prefix = c_string(prefix);
        // SAFETY: as in `set`.
        check(unsafe { collective_store_wait(self.raw.as_ptr(), prefix.as_ptr(), count, timeout.as_millis() as i64) })
    }

    pub(super) fn as_ptr(&self) -> *mut RawStore {
        self.raw.as_ptr()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `open` and is closed once.
        unsafe { collective_store_close(self.raw.as_ptr()) }
    }
}

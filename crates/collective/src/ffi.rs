//! The C ABI of csrc/ and the safe values over it. Unsafe code of this crate: here, its children, and launch/system.rs.
#![allow(unsafe_code)]

pub mod device;
pub mod group;
pub mod store;

use std::ffi::{c_char, c_void, CStr, CString};

extern "C" {
    fn collective_free(memory: *mut c_void);
}

/// libtorch's words for what went wrong.
pub type Outcome<T> = Result<T, String>;

/// Takes over a message that csrc/guard.h returned; null is success.
fn check(message: *mut c_char) -> Outcome<()> {
    if message.is_null() {
        return Ok(());
    }
    let text = take_string(message);
    // c10 appends a note on C++ traces in further lines; Gloo puts the place in its own source in front.
    let line = text.lines().next().unwrap_or("no message").trim();
    let place = |line: &str| line.starts_with("[/").then(|| line.find("] ")).flatten();
    Err(place(line).map_or(line, |end| line[end + 1..].trim_start()).to_string())
}

/// Takes over a string that csrc/ has malloc'd.
fn take_string(text: *mut c_char) -> String {
    // SAFETY: csrc/ returns NUL-terminated strings from strdup and keeps no reference to them.
    let copy = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    // SAFETY: the string came from strdup, is freed once, and was copied above.
    unsafe { collective_free(text.cast()) };
    copy
}

fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).expect("invariant: NULs were replaced")
}

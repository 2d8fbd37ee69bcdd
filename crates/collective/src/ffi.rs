//! The C ABI of csrc/ and safe types over it. This crate's unsafe code is here, in the child modules, and in
//! launch/system.rs.
#![allow(unsafe_code)]

pub mod device;
pub mod group;
pub mod store;

use std::ffi::{c_char, c_void, CStr, CString};

extern "C" {
    fn collective_free(memory: *mut c_void);
}

/// libtorch's message on what went wrong.
pub type Outcome<T> = Result<T, String>;

/// Takes ownership of a message that csrc/guard.h returned; null is success.
fn check(message: *mut c_char) -> Outcome<()> {
    if message.is_null() {
        return Ok(());
    }
    let text = take_string(message);
    // c10 appends a C++ trace in further lines; Gloo begins with a position in its own source.
    let line = text.lines().next().unwrap_or("no message").trim();
    let place = |line: &str| line.starts_with("[/").then(|| line.find("] ")).flatten();
    Err(place(line).map_or(line, |end| line[end + 1..].trim_start()).to_string())
}

/// Takes ownership of a string that csrc/ has malloc'd.
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

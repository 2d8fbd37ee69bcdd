//! How libtorch's OpenMP threads wait for one another, decided before libtorch is loaded.
//!
//! libgomp's threads spin at every barrier, 300 000 times before they sleep if there are enough cores. Beside one
//! other busy process, the thread that the others wait for then gets no core: training with two threads falls to a
//! thirtieth of its speed (tests/benches/threads.py). GOMP_SPINCOUNT limits the spinning, but libgomp reads it in its
//! own initialiser, before `main`.
//!
//! A program calls [`openmp_spins_briefly!`](crate::openmp_spins_briefly) once. The loader then calls [`at_start`]
//! after it has mapped the libraries and before it initialises any (System V ABI, ".preinit_array"). The C library
//! has no environment of its own at that moment, so the program is executed again with the variable added. That costs
//! the mapping, about 10 ms, but not libtorch's 200 ms of initialisers.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, CStr};

/// How often a thread looks for work before it sleeps; this costs an idle machine next to nothing.
const SPIN_COUNT: &CStr = c"GOMP_SPINCOUNT=1000";
/// If one of these is set, the user has decided how threads wait.
const SAID_BY: [&[u8]; 2] = [b"GOMP_SPINCOUNT=", b"OMP_WAIT_POLICY="];
const LONGEST_PATH: usize = libc::PATH_MAX as usize;

/// Makes this program's OpenMP threads spin only briefly, unless GOMP_SPINCOUNT or OMP_WAIT_POLICY is set. Use it
/// once, beside `main`.
#[macro_export]
macro_rules! openmp_spins_briefly {
    () => {
        // It must be in the program's own object file, or the linker might drop it.
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        #[allow(unsafe_code)]
        #[used]
        #[link_section = ".preinit_array"]
        static OPENMP_SPINS_BRIEFLY: $crate::openmp::AtStart = $crate::openmp::at_start;
    };
}

/// What glibc calls for an entry of .preinit_array: argc, argv and envp of `main`.
pub type AtStart = unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char);

/// Executes this program again with GOMP_SPINCOUNT set; returns if the user has set it, or if executing fails.
///
/// # Safety
/// `argv` and `envp` are null-terminated arrays of C strings, as the loader hands them to .preinit_array.
pub unsafe extern "C" fn at_start(_argc: c_int, argv: *const *const c_char, envp: *const *const c_char) {
    // If the program is run as an argument of the loader (`ld.so ./trainer`), this process's executable is the
    // loader.
    // SAFETY: getauxval reads a table of this process and takes any number.
    let by_the_kernel = unsafe { libc::getauxval(libc::AT_BASE) } != 0;
    let mut environment = Vec::new();
    let mut at = envp;
    // SAFETY: the array ends with a null pointer, and `at` goes no further.
    while let Some(entry) = unsafe { at.as_ref() }.filter(|entry| !entry.is_null()) {
        environment.push(*entry);
        // SAFETY: the entry is not the last, which is null.
        at = unsafe { at.add(1) };
    }
    // SAFETY: entries of the environment are C strings.
    let text = |entry: &*const c_char| unsafe { CStr::from_ptr(*entry) }.to_bytes();
    let said = environment.iter().any(|entry| SAID_BY.iter().any(|name| text(entry).starts_with(name)));
    if said || !by_the_kernel {
        return;
    }
    environment.extend([SPIN_COUNT.as_ptr(), std::ptr::null()]);
    let mut path = [0 as c_char; LONGEST_PATH];
    // SAFETY: readlink writes at most the length it is given; the last byte stays NUL.
    let length = unsafe { libc::readlink(c"/proc/self/exe".as_ptr(), path.as_mut_ptr(), LONGEST_PATH - 1) };
    if length > 0 {
        // By its path, so that `ps` shows the program's name. If the file is gone (replaced during the start), this
        // returns, and the threads spin as libgomp decides.
        // SAFETY: the path is NUL-terminated, both arrays are null-terminated, and all strings outlive the call.
        unsafe { libc::execve(path.as_ptr(), argv, environment.as_ptr()) };
    }
}

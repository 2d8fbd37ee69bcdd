//! The system calls that a supervisor needs beyond std::process.
//!
//! Signals are caught here and not by signal-hook: between two tries of a launch they must end the program as they always
//! do, and signal-hook leaves a signal without effect once its action is taken away.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};

const CAUGHT: [i32; 2] = [libc::SIGINT, libc::SIGTERM];
static PENDING: [AtomicBool; 2] = [AtomicBool::new(false), AtomicBool::new(false)];

extern "C" fn note(signal: libc::c_int) {
    for (caught, pending) in CAUGHT.iter().zip(&PENDING) {
        if *caught == signal {
            pending.store(true, Ordering::SeqCst);
        }
    }
}

/// SIGINT and SIGTERM are recorded instead of ending the process, until this is dropped.
pub struct Signals {
    former: Vec<(i32, libc::sigaction)>,
}

impl Signals {
    pub fn catch() -> io::Result<Signals> {
        let mut signals = Signals { former: Vec::new() };
        for signal in CAUGHT {
            // SAFETY: sigaction is plain data, for which zeros are a valid value: no flags, an empty mask.
            let (mut action, mut former): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
            action.sa_sigaction = note as *const () as usize;
            action.sa_flags = libc::SA_RESTART;
            // SAFETY: both structs outlive the call; the handler only stores to atomics, which is async-signal-safe.
            if unsafe { libc::sigaction(signal, &action, &mut former) } != 0 {
                return Err(io::Error::last_os_error());
            }
            signals.former.push((signal, former));
        }
        Ok(signals)
    }

    /// A signal that came since the last call.
    pub fn take(&self) -> Option<i32> {
        let came = CAUGHT.iter().zip(&PENDING).find(|(_, pending)| pending.swap(false, Ordering::SeqCst));
        came.map(|(signal, _)| *signal)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for (signal, former) in &self.former {
            // SAFETY: restores what sigaction returned for this very signal.
            unsafe { libc::sigaction(*signal, former, std::ptr::null_mut()) };
        }
    }
}

/// Puts the child into a process group of its own, so that a terminal's Ctrl-C reaches it once, through us; and has it
/// receive SIGTERM if we die.
pub fn bind_to_parent(command: &mut Command) {
    command.process_group(0);
    let parent = std::process::id();
    let bind = move || {
        // SAFETY: prctl and getppid are async-signal-safe and take no pointers here.
        let orphan = unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as libc::c_ulong) != 0 || libc::getppid() as u32 != parent
        };
        if orphan {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two async-signal-safe calls and allocates nothing.
    unsafe { command.pre_exec(bind) };
}

/// Sends a signal to a child that has not been waited for.
pub fn send(child: &Child, signal: i32) {
    // SAFETY: takes no pointers; the child has not been reaped, so its id is still its own.
    unsafe { libc::kill(child.id() as libc::pid_t, signal) };
}

/// The signal's number and usual name.
pub fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGILL => "SIGILL",
        libc::SIGINT => "SIGINT",
        libc::SIGKILL => "SIGKILL, as the kernel does when memory runs out",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGTERM => "SIGTERM",
        _ => return format!("signal {signal}"),
    };
    format!("signal {signal} ({name})")
}

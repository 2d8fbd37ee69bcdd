//! The disk that checkpoints are written to, with one method for each operation that can fail. Tests replace it by
//! one with faults.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A disk, or one that fails on purpose.
pub trait Disk {
    /// Creates or replaces a file.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Returns once a file's bytes, or a folder's entries, would survive a power cut.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Renames a folder.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Creates a folder and those above it.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder and all its contents, if it exists.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Bytes that this user may still write to the disk of `folder`.
    fn free_bytes(&self, folder: &Path) -> io::Result<u64>;
    /// A file's bytes.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }
    /// What lies in a folder.
    fn entries(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    }
    /// Waits before an operation is tried again.
    fn wait(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// The disk as it is.
#[derive(Clone, Copy, Debug)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        std::fs::write(path, bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        durable::sync(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(folder)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

/// How an operation fails.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// With an error; the next ones succeed again.
    Refused,
    /// Half done, and no later operation is done.
    PowerCut,
}

/// The real disk up to operation number `at`, which fails.
#[cfg(test)]
pub struct Failing {
    at: usize,
    fault: Fault,
    done: std::cell::RefCell<Vec<String>>,
}

#[cfg(test)]
impl Failing {
    pub fn new(at: usize, fault: Fault) -> Self {
        Self { at, fault, done: std::cell::RefCell::default() }
    }

    /// Whether the fault has happened.
    pub fn reached(&self) -> bool {
        self.done.borrow().len() > self.at
    }

    /// The operation that failed.
    pub fn last(&self) -> String {
        self.done.borrow().get(self.at).cloned().unwrap_or_default()
    }

    fn operation(
        &self, name: &str, path: &Path, half: impl FnOnce() -> io::Result<()>, whole: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let number = self.done.borrow().len();
        self.done.borrow_mut().push(format!("operation {number}: {name} {}", path.display()));
        match (number.cmp(&self.at), self.fault) {
            (std::cmp::Ordering::Less, _) | (std::cmp::Ordering::Greater, Fault::Refused) => whole(),
            (std::cmp::Ordering::Equal, Fault::PowerCut) => half().and(Err(io::Error::other("the power failed"))),
            (std::cmp::Ordering::Equal, Fault::Refused) => Err(io::ErrorKind::StorageFull.into()),
            (std::cmp::Ordering::Greater, Fault::PowerCut) => Err(io::Error::other("there is no power")),
        }
    }
}

#[cfg(test)]
impl Disk for Failing {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let half = || RealDisk.write(path, &bytes[..bytes.len() / 2]);
        self.operation("write", path, half, || RealDisk.write(path, bytes))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.operation("sync", path, || Ok(()), || RealDisk.sync(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operation("rename", to, || Ok(()), || RealDisk.rename(from, to))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.operation("create", path, || Ok(()), || RealDisk.create_folder(path))
    }

    /// Half of a removal: either the manifest or the last file is gone, whichever comes first in the folder's order.
    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let half = || match std::fs::read_dir(path).into_iter().flatten().flatten().next() {
            Some(entry) => std::fs::remove_file(entry.path()),
            None => Ok(()),
        };
        self.operation("remove", path, half, || RealDisk.remove_folder(path))
    }

    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        let free = RealDisk.free_bytes(folder)?;
        self.operation("statvfs", folder, || Ok(()), || Ok(())).map(|()| free)
    }
}

/// The real disk, but a number of reads fail before reading works again.
#[cfg(test)]
pub struct Hiccup {
    kind: io::ErrorKind,
    left: std::cell::Cell<usize>,
    waits: std::cell::Cell<usize>,
}

#[cfg(test)]
impl Hiccup {
    pub fn new(kind: io::ErrorKind, times: usize) -> Self {
        Self { kind, left: times.into(), waits: 0.into() }
    }

    /// How often the caller waited.
    pub fn waits(&self) -> usize {
        self.waits.get()
    }

    fn answer<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.left.get() {
            0 => work(),
            left => {
                self.left.set(left - 1);
                Err(self.kind.into())
            }
        }
    }
}

#[cfg(test)]
impl Disk for Hiccup {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        RealDisk.write(path, bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_folder(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_folder(path)
    }

    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(folder)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.answer(|| RealDisk.read(path))
    }

    fn entries(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        self.answer(|| RealDisk.entries(folder))
    }

    fn wait(&self, _: Duration) {
        self.waits.set(self.waits.get() + 1);
    }
}

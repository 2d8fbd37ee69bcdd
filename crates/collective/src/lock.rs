//! One program at a time on an output folder.
//!
//! The folder's `.lock` names its holder and is locked by the system (`flock`) as long as the holder lives. However
//! the holder ends, the system releases the lock, and the next program takes the folder. If the file system has no
//! locks, the name in the file decides: a holder on this machine that is gone is replaced; one of another machine
//! cannot be checked and counts as alive.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file's name in the folder.
const FILE: &str = ".lock";
/// How often to look for the name of a holder that has just locked the file.
const LOOKS: usize = 20;
/// The pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Why a folder cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "{}: {holder} is writing there; wait until it has ended, or name another output folder{}", folder.display(),
        elsewhere(holder, folder)
    )]
    Held {
        /// The folder.
        folder: PathBuf,
        /// Who has it.
        holder: Holder,
    },
    /// The folder or the file in it cannot be made, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// A process that has taken a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    program: String,
    process: u32,
    host: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.process {
            0 => f.write_str("another process"),
            process => write!(f, "{} (process {process} on {})", self.program, self.host),
        }
    }
}

impl Holder {
    fn this(program: &str) -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self { program: program.into(), process: std::process::id(), host: host.trim().into() }
    }

    /// From the lines of a lock file; none if nobody has signed it.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let (program, process, host) = (lines.next()?, lines.next()?.parse().ok()?, lines.next()?);
        Some(Self { program: program.into(), process, host: host.into() })
    }

    fn lines(&self) -> String {
        format!("{}\n{}\n{}\n", self.program, self.process, self.host)
    }

    /// Whether it has ended, as far as this machine knows. Only this process itself has its own number.
    fn is_gone(&self, this: &Holder) -> bool {
        let here = self.host == this.host;
        here && (self.process == this.process || !Path::new("/proc").join(self.process.to_string()).exists())
    }
}

/// What to do about a holder that this machine cannot check.
fn elsewhere(holder: &Holder, folder: &Path) -> String {
    match holder.host == Holder::this("").host {
        true => String::new(),
        false => format!(" (if nothing runs there any more, delete {})", folder.join(FILE).display()),
    }
}

/// A folder that no other program writes to, until this is dropped or the process ends.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    _file: File,
}

impl FolderLock {
    /// Makes the folder if it is missing, and takes it for `program`.
    pub fn take(folder: &Path, program: &str) -> Result<Self, LockError> {
        Self::take_with(folder, program, File::try_lock)
    }

    fn take_with(
        folder: &Path, program: &str, lock: impl Fn(&File) -> Result<(), TryLockError>,
    ) -> Result<Self, LockError> {
        let (path, this) = (folder.join(FILE), Holder::this(program));
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| LockError::Io { path, source }
        };
        let held = |holder| LockError::Held { folder: folder.to_path_buf(), holder };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        loop {
            let mut options = OpenOptions::new();
            let opened = options.read(true).write(true).create(true).truncate(false).open(&path);
            let mut file = opened.map_err(failed(&path))?;
            let former = match lock(&file) {
                Ok(()) => read(&mut file).map_err(failed(&path))?,
                Err(TryLockError::WouldBlock) => return Err(held(signed(&mut file).map_err(failed(&path))?)),
                Err(TryLockError::Error(error)) => {
                    tracing::debug!("{}: has no locks ({error}); who is named in it holds it", path.display());
                    match read(&mut file).map_err(failed(&path))? {
                        Some(holder) if !holder.is_gone(&this) => return Err(held(holder)),
                        former => former,
                    }
                }
            };
            // Its last holder may have removed the file after it was opened here.
            if !is_at(&file, &path).map_err(failed(&path))? {
                continue;
            }
            if let Some(former) = former {
                tracing::info!("{}: taken over from {former}, which has ended", folder.display());
            }
            sign(&mut file, &this).map_err(failed(&path))?;
            return Ok(Self { path, _file: file });
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // This happens while the file is still locked. A file that stays only says who was here last.
        let _ = fs::remove_file(&self.path);
    }
}

fn read(file: &mut File) -> io::Result<Option<Holder>> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_string(&mut text)?;
    Ok(Holder::parse(&text))
}

/// The holder of a locked file, which signs it a moment after locking it.
fn signed(file: &mut File) -> io::Result<Holder> {
    for _ in 0..LOOKS {
        if let Some(holder) = read(file)? {
            return Ok(holder);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(Holder { program: String::new(), process: 0, host: Holder::this("").host })
}

fn sign(file: &mut File, holder: &Holder) -> io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(holder.lines().as_bytes())?;
    file.sync_all()
}

/// Whether `file` is still the file at `path`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let (open, there) = (file.metadata()?, fs::metadata(path));
    match there {
        Ok(there) => Ok((open.dev(), open.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("collective-lock-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn a_folder_is_taken_once_and_free_again_after() {
        let folder = folder("once");
        let lock = FolderLock::take(&folder, "trainer").expect("free");
        let error = FolderLock::take(&folder, "evaluator").expect_err("taken").to_string();
        let this = format!("trainer (process {} on {})", std::process::id(), Holder::this("").host);
        assert!(error.contains(&this) && error.contains("another output folder"), "{error}");
        drop(lock);
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 0, "nothing is left");
        drop(FolderLock::take(&folder, "trainer").expect("free again"));
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn what_a_killed_holder_left_is_taken_over() {
        let folder = folder("stale");
        fs::create_dir_all(&folder).expect("made");
        fs::write(folder.join(FILE), "trainer\n4194305\nelsewhere\n").expect("written");
        drop(FolderLock::take(&folder, "trainer").expect("nobody has it locked"));
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn without_locks_the_dead_of_this_machine_are_taken_over_and_others_are_named() {
        let folder = folder("lockless");
        let none = |_: &File| Err(TryLockError::Error(io::ErrorKind::Unsupported.into()));
        let host = Holder::this("").host;
        fs::create_dir_all(&folder).expect("made");
        // Above every process number on Linux.
        fs::write(folder.join(FILE), format!("trainer\n4194305\n{host}\n")).expect("written");
        drop(FolderLock::take_with(&folder, "trainer", none).expect("it is gone"));
        for (holder, hint) in
            [(format!("trainer\n1\n{host}\n"), None), ("trainer\n7\nelsewhere\n".into(), Some("delete"))]
        {
            fs::write(folder.join(FILE), &holder).expect("written");
            let error = FolderLock::take_with(&folder, "trainer", none).expect_err("held").to_string();
            assert!(error.contains("trainer (process"), "{error}");
            assert!(hint.is_none_or(|hint| error.contains(hint) && error.contains("on elsewhere")), "{error}");
        }
        fs::remove_dir_all(folder).expect("removed");
    }
}

//! Files that appear as a whole or not at all, and outlive a power cut.
//!
//! There is one rule: the bytes are on the disk before the name is, and the name is on the disk before the call
//! returns. So a reader finds the old file or the new one, whoever was killed and whenever the power failed, and two
//! writers of one path may write at the same time.
//!
//! ```
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("state.json");
//! durable::write(&path, b"{}")?;
//! assert_eq!(std::fs::read(&path)?, b"{}");
//! # std::io::Result::Ok(())
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// The last part of an unfinished file's name, which only a killed writer leaves; it can be deleted.
pub const SUFFIX: &str = ".partial";

/// Creates or replaces `path` with these bytes.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with(path, |file| file.write_all(bytes))
}

/// Creates or replaces `path` with what `fill` writes; if `fill` fails, everything stays as it was.
pub fn write_with<E: From<io::Error>>(path: &Path, fill: impl FnOnce(&mut File) -> Result<(), E>) -> Result<(), E> {
    let folder = folder_of(path);
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?);
    prefix.push(".");
    // Opened here and not by tempfile, whose files are their owner's alone and whose errors name paths of their own.
    let open = |path: &Path| OpenOptions::new().write(true).create_new(true).open(path);
    let mut aside = tempfile::Builder::new().prefix(&prefix).suffix(SUFFIX).make_in(folder, open)?;
    fill(aside.as_file_mut())?;
    aside.as_file().sync_all()?;
    aside.persist(path).map_err(|failed| failed.error)?;
    Ok(sync(folder)?)
}

/// Renames a file or a folder whose bytes are on the disk already; both must lie on one disk.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync(folder_of(to))?;
    match folder_of(from) == folder_of(to) {
        true => Ok(()),
        false => sync(folder_of(from)),
    }
}

/// Returns once a file's bytes, or a folder's names, are on the disk.
pub fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Returns once everything in `folder` is on the disk.
pub fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_all(&path)?
        } else {
            sync(&path)?
        }
    }
    sync(folder)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_file_is_replaced_and_nothing_else_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        write(&path, b"old").expect("written");
        write(&path, b"new").expect("written");
        assert_eq!(fs::read(&path).expect("there"), b"new");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn what_fails_half_way_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        write(&path, b"old").expect("written");
        let failed = write_with(&path, |file| {
            file.write_all(b"ne")?;
            Err(io::Error::other("no more"))
        });
        assert_eq!(failed.expect_err("it failed").to_string(), "no more");
        assert_eq!(fs::read(&path).expect("there"), b"old");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn it_is_as_readable_as_any_other_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write(&ours, b"").expect("written");
        fs::write(&plain, b"").expect("written");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[test]
    fn an_error_is_the_systems_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let missing = write(&folder.path().join("nowhere/a"), b"").expect_err("no such folder");
        assert_eq!(
            missing.raw_os_error(),
            fs::read(folder.path().join("nowhere/a")).expect_err("nothing").raw_os_error()
        );
    }

    #[test]
    fn a_path_without_a_folder_lies_in_this_one() {
        assert_eq!(folder_of(Path::new("a")), Path::new("."));
        assert_eq!(folder_of(Path::new("a/b")), Path::new("a"));
        assert!(write(Path::new("/"), b"").is_err(), "a folder is no file");
    }
}

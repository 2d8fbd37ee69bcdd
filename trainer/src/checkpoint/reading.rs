//! Reading a checkpoint back. A file that differs from what was written is damaged. A file that cannot be read may be
//! whole, so reading is tried again: network file systems fail for moments (EIO, ESTALE, EACCES, time-outs), and
//! skipping a good checkpoint would lose work.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::disk::Disk;
use super::{former, Entry, Manifest, Snapshot, FORMAT_VERSION, MANIFEST, STATE};
use crate::checkpoint::tensor_file;

/// How long to wait before each further try.
const PATIENCE: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(9)];

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is missing or does not match the manifest.
    #[error("{}: {reason:#}", path.display())]
    Damaged {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it.
        reason: anyhow::Error,
    },
    /// The system could not read a file that exists.
    #[error(
        "{}: cannot be read ({source}), tried {} times; it is not taken for damaged: try again when the storage answers, or \
         begin elsewhere with --resume PATH or --resume none",
        path.display(), PATIENCE.len() + 1
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

type Result<T> = std::result::Result<T, Error>;

fn damaged(path: &Path, reason: impl Into<anyhow::Error>) -> Error {
    Error::Damaged { path: path.to_path_buf(), reason: reason.into() }
}

/// Checks every file against the manifest and returns the step; the error names the file at fault.
pub fn verify(disk: &dyn Disk, folder: &Path) -> Result<u64> {
    let manifest = read_manifest(disk, folder)?;
    for (name, entry) in &manifest.files {
        read_checked(disk, &folder.join(name), entry)?;
    }
    Ok(manifest.step)
}

/// Reads and verifies a checkpoint; one of an earlier version is converted. The error names the file at fault.
pub fn load(disk: &dyn Disk, folder: &Path) -> Result<Snapshot> {
    let manifest = read_manifest(disk, folder)?;
    let mut snapshot = Snapshot { files: BTreeMap::new(), state: serde_json::Value::Null };
    for (name, entry) in &manifest.files {
        let path = folder.join(name);
        let bytes = read_checked(disk, &path, entry)?;
        if let Some(stem) = name.strip_suffix(".safetensors") {
            let tensors = tensor_file::from_bytes(&path, &bytes).map_err(|e| damaged(&path, e))?;
            snapshot.files.insert(stem.into(), tensors);
        } else if name == STATE {
            snapshot.state = serde_json::from_slice(&bytes).map_err(|e| damaged(&path, e))?;
        }
    }
    if snapshot.state.get("step").and_then(serde_json::Value::as_u64) != Some(manifest.step) {
        let reason = anyhow::anyhow!("damaged: step {} is not that of {STATE}", manifest.step);
        return Err(damaged(&folder.join(MANIFEST), reason));
    }
    if manifest.format_version < FORMAT_VERSION {
        former::upgrade(&mut snapshot).map_err(|e| damaged(folder, e))?;
    }
    Ok(snapshot)
}

fn read_manifest(disk: &dyn Disk, folder: &Path) -> Result<Manifest> {
    let path = folder.join(MANIFEST);
    let bytes = read(disk, &path, "not a checkpoint")?;
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|e| damaged(&path, anyhow::Error::from(e).context("damaged")))?;
    if !(1..=FORMAT_VERSION).contains(&manifest.format_version) {
        let (found, known) = (manifest.format_version, FORMAT_VERSION);
        return Err(damaged(&path, anyhow::anyhow!("format version {found}, this program reads 1 to {known}")));
    }
    if let Some(name) = manifest.files.keys().find(|name| name.contains(['/', '\\']) || name.starts_with('.')) {
        return Err(damaged(&path, anyhow::anyhow!("file name {name:?} leads outside the folder")));
    }
    Ok(manifest)
}

fn read_checked(disk: &dyn Disk, path: &Path, entry: &Entry) -> Result<Vec<u8>> {
    let bytes = read(disk, path, "damaged checkpoint")?;
    if bytes.len() as u64 != entry.bytes {
        let (found, stated) = (bytes.len(), entry.bytes);
        let reason = anyhow::anyhow!("damaged checkpoint: {found} bytes where the manifest says {stated}");
        return Err(damaged(path, reason));
    }
    if blake3::hash(&bytes).to_hex().as_str() != entry.blake3 {
        return Err(damaged(path, anyhow::anyhow!("damaged checkpoint: its bytes do not have the manifest's hash")));
    }
    Ok(bytes)
}

/// A file's bytes; if there is no such file, `without` says what the folder is.
fn read(disk: &dyn Disk, path: &Path, without: &'static str) -> Result<Vec<u8>> {
    match patiently(disk, path, || disk.read(path)) {
        Ok(bytes) => Ok(bytes),
        Err(source) if is_absence(&source) => Err(damaged(path, anyhow::Error::from(source).context(without))),
        Err(source) => Err(Error::Unreadable { path: path.to_path_buf(), source }),
    }
}

/// Repeats `work`, a little later each time, as long as the system cannot tell what is there.
pub fn patiently<T>(disk: &dyn Disk, path: &Path, work: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let mut waits = PATIENCE.iter();
    loop {
        match (work(), waits.next()) {
            (Err(error), Some(&wait)) if !is_absence(&error) => {
                tracing::warn!("{}: {error}; tried again in {} s", path.display(), wait.as_secs());
                disk.wait(wait);
            }
            (done, _) => return done,
        }
    }
}

/// Whether the system says that there is no such file, rather than that it cannot tell.
fn is_absence(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | IsADirectory | NotADirectory)
}

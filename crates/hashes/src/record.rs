//! What a hash was computed of, and the file that says so.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// Files changed more lately than this may change again without another time of modification.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// One file as it was when it was hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Version {
    path: PathBuf,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    inode: u64,
}

/// The files that a hash was computed of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    what: String,
    files: Vec<Version>,
    #[serde(default)]
    hash: String,
}

impl Record {
    /// The files at `paths` as they are now, links followed.
    pub(super) fn of(what: &str, paths: &[&Path]) -> io::Result<Self> {
        let version = |path: &&Path| {
            let path = fs::canonicalize(path)?;
            let metadata = fs::metadata(&path)?;
            let modified = (metadata.mtime(), metadata.mtime_nsec());
            Ok(Version { size: metadata.len(), modified, inode: metadata.ino(), path })
        };
        let files = paths.iter().map(version).collect::<io::Result<_>>()?;
        Ok(Self { what: what.into(), files, hash: String::new() })
    }

    /// The record's name in the cache: the same for every version of the same files.
    pub(super) fn file_name(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let paths = self.files.iter().map(|file| file.path.as_os_str().as_encoded_bytes());
        for part in std::iter::once(self.what.as_bytes()).chain(paths) {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        format!("{}.json", hasher.finalize().to_hex())
    }

    /// The hash in the record at `place`, if it is of these versions.
    pub(super) fn hash_in(&self, place: &Path) -> Option<String> {
        let found: Record = serde_json::from_slice(&fs::read(place).ok()?).ok()?;
        let hash = found.hash.clone();
        let is_hash = !hash.is_empty() && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        (Self { hash: String::new(), ..found } == *self && is_hash).then_some(hash)
    }

    /// Whether no file was changed so lately that another change could have the same time. A time in the future never
    /// settles.
    pub(super) fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let until = now.saturating_sub(SETTLED_AFTER).as_secs() as i64;
        self.files.iter().all(|file| file.modified.0 < until)
    }

    /// Writes the record as a whole, whoever else writes it.
    pub(super) fn keep(&self, place: &Path, hash: &str) -> io::Result<()> {
        let record = Self { hash: hash.into(), ..self.clone() };
        durable::write(place, &serde_json::to_vec(&record)?)
    }
}

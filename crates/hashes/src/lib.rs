//! Hashes of large files, computed once a machine and version of a file: not by every process, and not at every start.
//!
//! A record in the cache folder says what was hashed: each file's path, size, time of modification and inode, and the
//! hash. It is used as long as all of these are what they were. A file that was changed less than two seconds ago is
//! hashed and not recorded, since another change within its clock's step would go unseen. Processes that want the same
//! hash at once wait for the one that computes it. Without a cache folder, and where a record or a lock fails, hashes
//! are computed anew: a record only ever saves work.
//!
//! What a record cannot see is a file that rots on its disk without being written. `dataloader verify` uses no records.

mod record;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use record::Record;

/// The folder of records; none before [`remember_in`].
static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// What [`of_file`] computes.
const BYTES: &str = "bytes";

/// The name of the records' folder in a user's cache.
const OWN: &str = "emotion-editor/hashes";

/// Keeps records in the user's cache from now on: below XDG_CACHE_HOME, or ~/.cache. Only a program's `main` calls
/// this; without it, or without a home, every hash is computed. A second call changes nothing.
pub fn remember(variable: impl Fn(&str) -> Option<String>) {
    let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = path("XDG_CACHE_HOME").or_else(|| path("HOME").map(|home| home.join(".cache")));
    if let Some(cache) = cache.filter(|cache| cache.is_absolute()) {
        let _ = FOLDER.set(cache.join(OWN));
    }
}

/// blake3 of a file's bytes, in hexadecimal digits.
pub fn of_file(path: &Path) -> io::Result<String> {
    of(BYTES, &[path], || bytes_of(path))
}

/// The hash that `compute` makes of the content of `paths` and of nothing else; `what` tells it from other hashes of
/// the same files.
pub fn of<E>(what: &str, paths: &[&Path], compute: impl FnOnce() -> Result<String, E>) -> Result<String, E> {
    match FOLDER.get() {
        Some(folder) => of_in(folder, what, paths, compute),
        None => compute(),
    }
}

fn of_in<E>(
    folder: &Path, what: &str, paths: &[&Path], compute: impl FnOnce() -> Result<String, E>,
) -> Result<String, E> {
    let Ok(before) = Record::of(what, paths) else { return compute() };
    let place = folder.join(before.file_name());
    if let Some(hash) = before.hash_in(&place) {
        return Ok(hash);
    }
    // Whoever comes second finds the record once it has the lock; without a lock both compute.
    let _turn = lock(folder, &place).inspect_err(|e| tracing::debug!("{}: no lock ({e})", place.display())).ok();
    if let Some(hash) = before.hash_in(&place) {
        return Ok(hash);
    }
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    tracing::debug!("hashing {}", names.join(", "));
    let hash = compute()?;
    let unchanged = Record::of(what, paths).is_ok_and(|after| after == before);
    if unchanged && before.is_settled() {
        if let Err(error) = before.keep(&place, &hash) {
            tracing::debug!("{}: {error}; the hash is computed again the next time", place.display());
        }
    }
    Ok(hash)
}

/// Waits for whoever computes the same. The lock is a file beside the record, which stays: whoever removed it would let
/// two in.
fn lock(folder: &Path, place: &Path) -> io::Result<File> {
    fs::create_dir_all(folder)?;
    let file = File::options().create(true).truncate(false).write(true).open(place.with_extension("lock"))?;
    file.lock()?;
    Ok(file)
}

fn bytes_of(path: &Path) -> io::Result<String> {
    Ok(blake3::Hasher::new().update_reader(File::open(path)?)?.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::time::{Duration, SystemTime};

    /// A file that has not been written for a while, in a folder with room for records.
    fn old_file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("shard");
        fs::write(&path, bytes).expect("written");
        age(&path, 60);
        (folder, path)
    }

    fn age(path: &Path, secs: u64) {
        let then = SystemTime::now() - Duration::from_secs(secs);
        File::options().write(true).open(path).and_then(|file| file.set_modified(then)).expect("aged");
    }

    /// The hash, and whether it was computed.
    fn hash(folder: &Path, path: &Path) -> (String, bool) {
        let computed = Cell::new(false);
        let hash = of_in::<io::Error>(&folder.join("records"), "bytes", &[path], || {
            computed.set(true);
            bytes_of(path)
        });
        (hash.expect("readable"), computed.get())
    }

    fn of_bytes(bytes: &[u8]) -> String {
        blake3::hash(bytes).to_hex().to_string()
    }

    #[test]
    fn a_file_is_hashed_once_and_again_when_it_differs() {
        let (folder, path) = old_file(b"abc");
        assert_eq!(hash(folder.path(), &path), (of_bytes(b"abc"), true));
        assert_eq!(hash(folder.path(), &path), (of_bytes(b"abc"), false));
        // Another size, another time, another inode with the same size and time: never the record's hash.
        fs::write(&path, b"abcd").expect("written");
        age(&path, 60);
        assert_eq!(hash(folder.path(), &path), (of_bytes(b"abcd"), true));
        fs::write(&path, b"abce").expect("written");
        age(&path, 30);
        assert_eq!(hash(folder.path(), &path), (of_bytes(b"abce"), true));
        let (time, other) =
            (fs::metadata(&path).and_then(|m| m.modified()).expect("a time"), folder.path().join("other"));
        fs::write(&other, b"abcf").expect("written");
        File::options().write(true).open(&other).and_then(|file| file.set_modified(time)).expect("set");
        fs::rename(&other, &path).expect("moved");
        assert_eq!(hash(folder.path(), &path), (of_bytes(b"abcf"), true));
    }

    #[test]
    fn a_file_just_written_is_not_recorded() {
        let (folder, path) = old_file(b"abc");
        fs::write(&path, b"xyz").expect("written");
        assert_eq!(hash(folder.path(), &path), (of_bytes(b"xyz"), true));
        assert_eq!(hash(folder.path(), &path), (of_bytes(b"xyz"), true));
    }

    #[test]
    fn a_damaged_record_and_an_unwritable_folder_only_cost_time() {
        let (folder, path) = old_file(b"abc");
        hash(folder.path(), &path);
        for entry in fs::read_dir(folder.path().join("records")).expect("a folder").flatten() {
            fs::write(entry.path(), b"{\"files\": [").expect("written");
        }
        assert_eq!(hash(folder.path(), &path), (of_bytes(b"abc"), true));
        assert_eq!(hash(folder.path(), &path), (of_bytes(b"abc"), false), "it was mended");
        fs::remove_dir_all(folder.path().join("records")).expect("removed");
        fs::write(folder.path().join("records"), b"no folder").expect("written");
        assert_eq!(hash(folder.path(), &path), (of_bytes(b"abc"), true));
        let none = folder.path().join("none");
        assert!(of_in(folder.path(), "bytes", &[&none], || bytes_of(&none)).is_err());
    }

    #[test]
    fn of_several_at_once_one_computes() {
        let (folder, path) = old_file(&vec![7; 1 << 20]);
        let computed = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| hash(folder.path(), &path).1)).collect();
            threads.into_iter().map(|t| t.join().expect("no panic")).filter(|computed| *computed).count()
        });
        assert_eq!(computed, 1);
    }

    #[test]
    fn other_hashes_of_the_same_file_have_records_of_their_own() {
        let (folder, path) = old_file(b"abc");
        let of = |what: &str, hash: &str| {
            of_in::<io::Error>(&folder.path().join("records"), what, &[&path], || Ok(hash.into())).expect("a hash")
        };
        assert_eq!((of("unet", "ab"), of("vae", "cd"), of("unet", "ef")), ("ab".into(), "cd".into(), "ab".into()));
    }
}

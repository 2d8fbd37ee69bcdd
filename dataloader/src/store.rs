//! Where a data set's files lie: a folder, or whatever a URL names (`file`, `s3`, `gs`, `az`, `http`).
//!
//! A file of an object store is copied to the disk piece by piece before it is read: its hash is checked before its
//! first use, so all of it is needed, and memory stays bounded whatever its size.

mod access;
mod cache;
mod client;

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};
use recipe::secrets::masked;
use tokio::runtime::Runtime;

use crate::error::{Error, Result};
pub use access::{Access, CacheSection};
use cache::{Cache, Turn};
use client::client;

/// Bytes of one request. A failed request is repeated, not the whole file.
const PIECE: u64 = 8 << 20;
/// Requests at once; times [`PIECE`], this is the memory of a download.
const PIECES_AT_ONCE: usize = 4;
/// Attempts at a piece, in addition to the repeats of the store's own client.
const ATTEMPTS: u32 = 3;
const BACKOFF: Duration = Duration::from_millis(250);

/// A folder of files, local or remote.
#[derive(Debug)]
pub struct Store {
    url: String,
    place: PlaceOf,
}

#[derive(Debug)]
enum PlaceOf {
    Folder(PathBuf),
    Objects { store: Arc<dyn ObjectStore>, prefix: ObjectPath, runtime: Runtime, cache: Cache },
}

impl Store {
    /// The folder or object store at `url`.
    pub fn open(url: &str, access: &Access) -> Result<Self> {
        let place = match url.split_once("://") {
            None => PlaceOf::Folder(PathBuf::from(url)),
            Some(("file", path)) => PlaceOf::Folder(PathBuf::from(path)),
            Some(_) => objects(url, access)?,
        };
        Ok(Self { url: masked(url.trim_end_matches('/')).into_owned(), place })
    }

    /// The URL or path as given, without passwords and signatures: it is only shown.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The URL or path of one file.
    pub fn url_of(&self, name: &str) -> String {
        format!("{}/{name}", self.url)
    }

    /// The bytes of a small file, or None if there is no such file.
    pub fn read(&self, name: &str) -> Result<Option<Bytes>> {
        match &self.place {
            PlaceOf::Folder(folder) => match std::fs::read(folder.join(name)) {
                Ok(bytes) => Ok(Some(bytes.into())),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(Error::store(self.url_of(name), e)),
            },
            PlaceOf::Objects { store, prefix, runtime, .. } => {
                let path = prefix.clone().join(name);
                let get = || async { store.get(&path).await?.bytes().await };
                found(runtime.block_on(patiently(get)), || self.url_of(name))
            }
        }
    }

    /// A file of which pieces can be read, or None if there is no such file. `blake3` is its expected hash, which is
    /// its name in the cache.
    pub fn open_file(&self, name: &str, blake3: &str) -> Result<Option<Pieces>> {
        let failed = |e: std::io::Error| Error::store(self.url_of(name), e);
        match &self.place {
            PlaceOf::Folder(folder) => match File::open(folder.join(name)) {
                Ok(file) => Pieces::of(file, Some(folder.join(name))).map(Some).map_err(failed),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(failed(e)),
            },
            PlaceOf::Objects { store, prefix, runtime, cache } => {
                if let Some(file) = cache.get(blake3) {
                    return Pieces::of(file, Some(cache.path(blake3))).map(Some).map_err(failed);
                }
                let path = prefix.clone().join(name);
                let head = runtime.block_on(patiently(|| async { store.head(&path).await }));
                let Some(head) = found(head, || self.url_of(name))? else { return Ok(None) };
                let mut room = match cache.room(blake3, head.size).map_err(failed)? {
                    // Another process of this machine has downloaded it meanwhile.
                    Turn::There(file) => return Pieces::of(file, Some(cache.path(blake3))).map(Some).map_err(failed),
                    Turn::Ours(room) => room,
                };
                tracing::debug!("downloading {}", self.url_of(name));
                runtime.block_on(download(store, &path, head.size, room.file())).map_err(|e| self.failed(name, e))?;
                let kept = room.is_kept().then(|| cache.path(blake3));
                room.keep().and_then(|file| Pieces::of(file, kept)).map(Some).map_err(failed)
            }
        }
    }

    /// Removes the file of `blake3` from the cache: its bytes were wrong.
    pub fn forget(&self, blake3: &str) {
        if let PlaceOf::Objects { cache, .. } = &self.place {
            cache.forget(blake3);
        }
    }

    fn failed(&self, name: &str, error: Broken) -> Error {
        match error {
            Broken::Store(e) => Error::store(self.url_of(name), e),
            Broken::Disk(e) => Error::store(format!("{} (on the way to the disk)", self.url_of(name)), e),
        }
    }
}

/// Why a download ended early.
enum Broken {
    Store(object_store::Error),
    Disk(std::io::Error),
}

/// Copies an object of `size` bytes into `file`, in order, in pieces that are repeated when they fail.
async fn download(
    store: &Arc<dyn ObjectStore>, path: &ObjectPath, size: u64, file: &mut File,
) -> std::result::Result<(), Broken> {
    let piece = |start: u64| {
        let range = start..(start + PIECE).min(size);
        patiently(move || {
            let range = range.clone();
            async move {
                let wanted = range.end - range.start;
                let bytes = store.get_range(path, range).await?;
                match bytes.len() as u64 == wanted {
                    true => Ok(bytes),
                    false => Err(object_store::Error::Generic {
                        store: "download",
                        source: format!("{} bytes came of {wanted}", bytes.len()).into(),
                    }),
                }
            }
        })
    };
    let starts = (0..size).step_by(PIECE as usize);
    let mut pieces = futures::stream::iter(starts.map(piece)).buffered(PIECES_AT_ONCE);
    while let Some(bytes) = pieces.try_next().await.map_err(Broken::Store)? {
        file.write_all(&bytes).map_err(Broken::Disk)?;
    }
    Ok(())
}

/// Repeats after failures that may pass, with growing pauses. The store's client has already repeated what it can;
/// what is left are bodies that break off or stall.
async fn patiently<T, F, W>(ask: F) -> object_store::Result<T>
where
    F: Fn() -> W,
    W: std::future::Future<Output = object_store::Result<T>>,
{
    use object_store::Error::{Generic, JoinError};
    let mut backoff = BACKOFF;
    for _ in 1..ATTEMPTS {
        match ask().await {
            Err(error @ (Generic { .. } | JoinError { .. })) => tracing::debug!("asked again: {error}"),
            answer => return answer,
        }
        tokio::time::sleep(backoff).await;
        backoff *= 2;
    }
    ask().await
}

/// None for a file that does not exist.
fn found<T>(answer: object_store::Result<T>, url: impl Fn() -> String) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(e) => Err(Error::store(url(), e)),
    }
}

fn objects(url: &str, access: &Access) -> Result<PlaceOf> {
    let (store, prefix) = client(url, access)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|e| Error::store(url, e))?;
    Ok(PlaceOf::Objects { store, prefix, runtime, cache: Cache::new(&access.cache) })
}

/// An open file of a store.
#[derive(Debug)]
pub struct Pieces {
    file: File,
    bytes: u64,
    /// Where it lies, if it stays there.
    path: Option<PathBuf>,
}

impl Pieces {
    /// Those of a file; `path` is where it lies, if it stays there.
    pub fn of(file: File, path: Option<PathBuf>) -> std::io::Result<Self> {
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes, path })
    }

    /// blake3 of the whole, which this machine computes once for each version of the file ([`hashes`]).
    pub fn hash(&self) -> std::io::Result<String> {
        let Some(path) = &self.path else { return self.own_hash() };
        let hash = hashes::of_file(path)?;
        // The file at the path may have been replaced since this one was opened.
        let (open, there) = (self.file.metadata()?, std::fs::metadata(path));
        let identity = |m: &std::fs::Metadata| (m.dev(), m.ino(), m.len(), m.mtime(), m.mtime_nsec());
        match there {
            Ok(there) if identity(&there) == identity(&open) => Ok(hash),
            _ => self.own_hash(),
        }
    }

    fn own_hash(&self) -> std::io::Result<String> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(ReadFrom { file: self.file.try_clone()?, offset: 0 })?;
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Fills `buffer` with the bytes at `offset`.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    /// A second handle on the same file.
    pub fn try_clone(&self) -> std::io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, bytes: self.bytes, path: self.path.clone() })
    }
}

/// Reads from an offset without moving the file's cursor, which all handles on a file share.
struct ReadFrom {
    file: File,
    offset: u64,
}

impl Read for ReadFrom {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

impl Length for Pieces {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for Pieces {
    type T = BufReader<Box<dyn Read + Send>>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(BufReader::new(Box::new(ReadFrom { file: self.file.try_clone()?, offset: start })))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        if start.saturating_add(length as u64) > self.len() {
            return Err(ParquetError::EOF(format!("bytes {start}+{length} lie past the end of the file")));
        }
        let mut buffer = vec![0; length];
        self.file.read_exact_at(&mut buffer, start)?;
        Ok(buffer.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_file_are_those_asked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a"), b"0123456789").expect("written");
        let near = Store::open(&folder.path().to_string_lossy(), &Access::default()).expect("a folder");
        let pieces = near.open_file("a", "").expect("readable").expect("there");
        assert_eq!(Length::len(&pieces), 10);
        assert_eq!(&pieces.get_bytes(3, 4).expect("inside")[..], b"3456");
        assert!(pieces.get_bytes(8, 4).is_err());
        assert!(pieces.get_bytes(u64::MAX, 4).is_err());
        assert_eq!(pieces.hash().expect("readable"), blake3::hash(b"0123456789").to_hex().to_string());
        assert!(near.read("b").expect("readable").is_none());
        assert!(near.open_file("b", "").expect("readable").is_none());
    }

    #[test]
    fn an_unknown_scheme_says_what_is_known() {
        let error = Store::open("ftp://host/data", &Access::default()).expect_err("unknown").to_string();
        assert!(error.contains("ftp://host/data") && error.contains("s3://"), "{error}");
    }
}

//! Where a data set's files lie: a folder, or whatever a URL names (`file`, `s3`, `gs`, `az`, `http`).

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};
use tokio::runtime::Runtime;

use crate::error::{Error, Result};

/// A folder of files, near or far.
#[derive(Debug)]
pub struct Store {
    url: String,
    place: PlaceOf,
}

#[derive(Debug)]
enum PlaceOf {
    Folder(PathBuf),
    Objects { store: Arc<dyn ObjectStore>, prefix: ObjectPath, runtime: Runtime },
}

impl Store {
    /// The folder or object store at `url`; `options` are the store's settings by object_store's names.
    pub fn open(url: &str, options: &[(String, String)]) -> Result<Self> {
        let place = match url.split_once("://") {
            None => PlaceOf::Folder(PathBuf::from(url)),
            Some(("file", path)) => PlaceOf::Folder(PathBuf::from(path)),
            Some(_) => objects(url, options)?,
        };
        Ok(Self { url: url.trim_end_matches('/').to_string(), place })
    }

    /// The URL or path as given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The URL or path of one file.
    pub fn url_of(&self, name: &str) -> String {
        format!("{}/{name}", self.url)
    }

    /// The bytes of a file, or None if there is no such file.
    pub fn read(&self, name: &str) -> Result<Option<Bytes>> {
        let failed = |message: String| Error::store(self.url_of(name), message);
        match &self.place {
            PlaceOf::Folder(folder) => match std::fs::read(folder.join(name)) {
                Ok(bytes) => Ok(Some(bytes.into())),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(failed(e.to_string())),
            },
            PlaceOf::Objects { store, prefix, runtime } => {
                let path = prefix.clone().join(name);
                let get = async { store.get(&path).await?.bytes().await };
                match runtime.block_on(get) {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(e) => Err(failed(e.to_string())),
                }
            }
        }
    }

    /// A file to read pieces of, or None if there is no such file.
    pub fn open_file(&self, name: &str) -> Result<Option<Pieces>> {
        let PlaceOf::Folder(folder) = &self.place else {
            return Ok(self.read(name)?.map(Pieces::Memory));
        };
        match File::open(folder.join(name)) {
            Ok(file) => Ok(Some(Pieces::File(file))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::store(self.url_of(name), e)),
        }
    }
}

fn objects(url: &str, options: &[(String, String)]) -> Result<PlaceOf> {
    let parsed = url::Url::parse(url).map_err(|e| Error::invalid(url, format!("not a URL: {e}")))?;
    let options = options.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    let (store, prefix) = object_store::parse_url_opts(&parsed, options)
        .map_err(|e| Error::invalid(url, format!("{e}; give a folder, s3://, gs://, az:// or http(s)://")))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|e| Error::store(url, e))?;
    Ok(PlaceOf::Objects { store: store.into(), prefix, runtime })
}

/// An open file of a store.
#[derive(Debug)]
pub enum Pieces {
    /// A local file.
    File(File),
    /// A fetched object.
    Memory(Bytes),
}

impl Pieces {
    /// blake3 of the whole.
    pub fn hash(&self) -> std::io::Result<String> {
        let mut hasher = blake3::Hasher::new();
        match self {
            Pieces::File(file) => {
                hasher.update_reader(ChunkReader::get_read(file, 0).map_err(std::io::Error::other)?)?
            }
            Pieces::Memory(bytes) => hasher.update(bytes),
        };
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// A second handle on the same file.
    pub fn try_clone(&self) -> std::io::Result<Self> {
        Ok(match self {
            Pieces::File(file) => Pieces::File(file.try_clone()?),
            Pieces::Memory(bytes) => Pieces::Memory(bytes.clone()),
        })
    }
}

impl Length for Pieces {
    fn len(&self) -> u64 {
        match self {
            Pieces::File(file) => Length::len(file),
            Pieces::Memory(bytes) => bytes.len() as u64,
        }
    }
}

impl ChunkReader for Pieces {
    type T = Box<dyn Read + Send>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        match self {
            Pieces::File(file) => Ok(Box::new(ChunkReader::get_read(file, start)?)),
            Pieces::Memory(bytes) => Ok(Box::new(bytes.slice(inside(bytes, start, 0)?..).reader())),
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        match self {
            Pieces::File(file) => read_at(file, start, length),
            Pieces::Memory(bytes) => {
                let start = inside(bytes, start, length)?;
                Ok(bytes.slice(start..start + length))
            }
        }
    }
}

/// Reads at an offset without moving the file's cursor, so that threads can share a handle.
fn read_at(file: &File, start: u64, length: usize) -> ParquetResult<Bytes> {
    use std::os::unix::fs::FileExt;
    if start.saturating_add(length as u64) > Length::len(file) {
        return Err(ParquetError::EOF(format!("bytes {start}+{length} lie past the end of the file")));
    }
    let mut buffer = vec![0; length];
    file.read_exact_at(&mut buffer, start)?;
    Ok(buffer.into())
}

fn inside(bytes: &Bytes, start: u64, length: usize) -> ParquetResult<usize> {
    let end = start.checked_add(length as u64).filter(|&end| end <= bytes.len() as u64);
    end.map(|_| start as usize)
        .ok_or_else(|| ParquetError::EOF(format!("bytes {start}+{length} lie past the end of {}", bytes.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_objects_answer_alike() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a"), b"0123456789").expect("written");
        let near = Store::open(&folder.path().to_string_lossy(), &[]).expect("a folder");
        let file = near.open_file("a").expect("readable").expect("there");
        let memory = Pieces::Memory(Bytes::from_static(b"0123456789"));
        for pieces in [file, memory] {
            assert_eq!(Length::len(&pieces), 10);
            assert_eq!(&pieces.get_bytes(3, 4).expect("inside")[..], b"3456");
            assert!(pieces.get_bytes(8, 4).is_err());
            assert!(pieces.get_bytes(u64::MAX, 4).is_err());
            assert_eq!(pieces.hash().expect("readable"), blake3::hash(b"0123456789").to_hex().to_string());
        }
        assert!(near.read("b").expect("readable").is_none());
    }

    #[test]
    fn an_unknown_scheme_says_what_is_known() {
        let error = Store::open("ftp://host/data", &[]).expect_err("unknown").to_string();
        assert!(error.contains("ftp://host/data") && error.contains("s3://"), "{error}");
    }
}

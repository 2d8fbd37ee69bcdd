//! A manifest and its shards, each fetched and verified before its first use.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::format::manifest::{self, Manifest};
use crate::reading::shard_file::ShardFile;
use crate::store::{Access, Store};

/// A folder or object store with a manifest and the shards it lists.
#[derive(Debug)]
pub struct Shards {
    store: Store,
    manifest: Manifest,
    files: Vec<Mutex<Option<Arc<ShardFile>>>>,
}

impl Shards {
    /// Reads and checks the manifest at a folder or URL.
    pub fn open(url: &str, access: &Access) -> Result<Self> {
        let store = Store::open(url, access)?;
        let Some(bytes) = store.read(manifest::FILE)? else {
            return Err(Error::NotADataset { url: store.url().to_string() });
        };
        let manifest = Manifest::parse(&store.url_of(manifest::FILE), &bytes)?;
        let files = manifest.shards.iter().map(|_| Mutex::new(None)).collect();
        Ok(Self { store, manifest, files })
    }

    /// The folder or URL.
    pub fn url(&self) -> &str {
        self.store.url()
    }

    /// What the data set states about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The shard at `index` of the manifest: hashed before its first use, unless its rows have checksums of their own,
    /// as those of inversions.
    pub fn file(&self, index: usize) -> Result<Arc<ShardFile>> {
        let mut slot = self.files[index].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = slot.as_ref() {
            return Ok(file.clone());
        }
        let open = if self.manifest.inversion.is_some() { ShardFile::open_unhashed } else { ShardFile::open };
        let file = Arc::new(open(&self.store, &self.manifest.shards[index])?);
        *slot = Some(file.clone());
        Ok(file)
    }

    /// Hashes the shard at `index`, whatever its rows have.
    pub fn hash(&self, index: usize) -> Result<()> {
        ShardFile::open(&self.store, &self.manifest.shards[index]).map(drop)
    }

    /// Forgets the copy of the shard at `index` that lies in the cache of an object store.
    pub fn forget(&self, index: usize) {
        self.store.forget(&self.manifest.shards[index].blake3);
    }

    /// The error of a shard at `index` that is not what the manifest says.
    pub fn damaged(&self, index: usize, message: impl ToString) -> Error {
        Error::shard(self.store.url_of(&self.manifest.shards[index].file), message)
    }
}

//! A data set: its manifest, and its shards as they are needed, each verified before its first use.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::manifest::{self, Manifest};
use crate::row::{Place, Row, RowRef};
use crate::schema::Widths;
use crate::shard_file::ShardFile;
use crate::store::Store;

/// A folder or object store with a manifest and the shards it lists.
#[derive(Debug)]
pub struct Dataset {
    store: Store,
    manifest: Manifest,
    shards: Vec<Mutex<Option<Arc<ShardFile>>>>,
    light: OnceLock<Vec<RowRef>>,
}

impl Dataset {
    /// Opens a folder or URL: reads and checks its manifest. Shards are opened, and their hashes checked, on first use.
    pub fn open(url: &str) -> Result<Self> {
        Self::open_with(url, &[])
    }

    /// As [`Dataset::open`], with the object store's settings by object_store's names.
    pub fn open_with(url: &str, options: &[(String, String)]) -> Result<Self> {
        let store = Store::open(url, options)?;
        let Some(bytes) = store.read(manifest::FILE)? else {
            return Err(Error::NotADataset { url: store.url().to_string() });
        };
        let manifest = Manifest::parse(&store.url_of(manifest::FILE), &bytes)?;
        let shards = manifest.shards.iter().map(|_| Mutex::new(None)).collect();
        Ok(Self { store, manifest, shards, light: OnceLock::new() })
    }

    /// The folder or URL.
    pub fn url(&self) -> &str {
        self.store.url()
    }

    /// What the data set states about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Lengths of latents and embeddings.
    pub fn widths(&self) -> Widths {
        let clip = self.manifest.clip.as_ref().and_then(|c| c.dimension).map(|d| d as usize);
        Widths { latent: self.manifest.latent.len(), clip }
    }

    /// Hashes every shard that has not been; fails at the first damaged one.
    pub fn verify(&self) -> Result<()> {
        (0..self.shards.len()).try_for_each(|shard| self.shard(shard).map(drop))
    }

    /// Refuses a data set whose latents another autoencoder made.
    pub fn check_vae(&self, hash: &str) -> Result<()> {
        let vae = &self.manifest.vae;
        if vae.hash == hash {
            return Ok(());
        }
        Err(Error::invalid(
            self.url(),
            format!(
                "its latents are of the VAE {} (hash {:.12}…), the model's VAE has hash {:.12}…; \
                 re-run `dataloader shard` with the model's VAE",
                vae.name, vae.hash, hash
            ),
        ))
    }

    /// The light columns of the rows that pass, in the data set's order.
    pub fn rows(&self, filter: &Filter) -> Result<Vec<RowRef>> {
        Ok(self.light()?.iter().filter(|row| filter.passes(row)).cloned().collect())
    }

    /// All rows of one row group.
    pub fn group(&self, shard: u32, group: u32) -> Result<Vec<Row>> {
        let file = self.shard(shard as usize)?;
        let rows = file.rows(group as usize)?;
        let widths = self.widths();
        let fits = |row: &Row| {
            row.latent_mean.len() == widths.latent && row.clip_embedding.as_ref().map(Vec::len) == widths.clip
        };
        match rows.iter().all(fits) {
            true => Ok(rows),
            false => Err(Error::shard(
                self.store.url_of(&self.manifest.shards[shard as usize].file),
                "latents or embeddings are not of the manifest's size",
            )),
        }
    }

    /// The shard at `index` of the manifest, verified.
    pub fn shard(&self, index: usize) -> Result<Arc<ShardFile>> {
        let mut slot = self.shards[index].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = slot.as_ref() {
            return Ok(file.clone());
        }
        let file = Arc::new(ShardFile::open(&self.store, &self.manifest.shards[index])?);
        *slot = Some(file.clone());
        Ok(file)
    }

    fn light(&self) -> Result<&[RowRef]> {
        if let Some(rows) = self.light.get() {
            return Ok(rows);
        }
        let mut rows = Vec::with_capacity(self.manifest.rows() as usize);
        for (shard, stated) in self.manifest.shards.iter().enumerate() {
            let file = self.shard(shard)?;
            for group in 0..file.num_groups() {
                for (row, entry) in file.entries(group)?.into_iter().enumerate() {
                    if entry.split != stated.split {
                        let message = format!("row {} is of split {:?}", entry.path, entry.split);
                        return Err(Error::shard(self.store.url_of(&stated.file), message));
                    }
                    let place = Place { shard: shard as u32, group: group as u32, row: row as u32 };
                    rows.push(RowRef { place, entry: Arc::new(entry) });
                }
            }
        }
        Ok(self.light.get_or_init(|| rows))
    }
}

//! A folder of rows that are computed once. Any number of runs, on any machines that share it, add to it at one time.
//!
//! A file never changes, has the rows' keys for its name, and is whole from its first moment: it is written under a
//! random name, synced and renamed. So nobody waits for anybody, two writers of the same rows write the same file, and
//! a kill loses the block under way alone. Small files are merged into large ones (`merging.rs`). A merged file is
//! there before the small ones go; a reader that finds a file gone looks again.

mod merging;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use arrow::array::{Array, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::Schema;
use parquet::arrow::ArrowWriter;

use super::columns::{inversions_schema, references_schema, IMAGE_ID, TIMESTEP};
use crate::error::{Error, Result};
use crate::format::manifest::Latent;
use crate::making::writer::properties;
use crate::reading::shard_file::ShardFile;
use crate::store::Pieces;

const SUFFIX: &str = ".parquet";
/// The suffix of a file that is being written.
const PART: &str = ".part";
/// How often a reader looks for a row that was merged away under its eyes.
const LOOKS: usize = 5;

/// What a row is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The image.
    pub image_id: String,
    /// The timestep, of rows that are of one.
    pub timestep: Option<i32>,
}

/// The rows of a pool, and how many of them lie together.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The columns.
    pub schema: Arc<Schema>,
    /// Rows in a row group, about 20 MB of memory.
    rows_per_group: usize,
    /// Rows in a full file.
    rows_per_file: usize,
}

impl Layout {
    /// Inversions over `num_timesteps` of latents of this shape.
    pub fn inversions(latent: &Latent, num_timesteps: usize) -> Self {
        Self { schema: Arc::new(inversions_schema(latent, num_timesteps)), rows_per_group: 16, rows_per_file: 512 }
    }

    /// Embeddings of `width` numbers.
    pub fn references(width: usize) -> Self {
        Self { schema: Arc::new(references_schema(width)), rows_per_group: 256, rows_per_file: 1 << 16 }
    }
}

/// The rows in a folder.
#[derive(Debug)]
pub struct Pool {
    folder: PathBuf,
    layout: Layout,
    index: RwLock<Index>,
    /// Files that this process has written and that are not full.
    own: Mutex<Vec<String>>,
}

#[derive(Debug, Default)]
struct Index {
    files: BTreeMap<String, Arc<PoolFile>>,
    rows: HashMap<Key, (Arc<PoolFile>, u64)>,
}

/// A file of a pool, opened when a row of it is first read.
#[derive(Debug)]
struct PoolFile {
    path: PathBuf,
    rows: u64,
    open: Mutex<Option<Arc<ShardFile>>>,
}

impl Pool {
    /// The rows that `folder` has; none if there is no such folder.
    pub fn open(folder: &Path, layout: Layout) -> Result<Self> {
        let pool = Self { folder: folder.into(), layout, index: RwLock::default(), own: Mutex::default() };
        pool.refresh()?;
        Ok(pool)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The columns.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.layout.schema
    }

    /// Whether the row was there when this process last looked.
    pub fn has(&self, key: &Key) -> bool {
        self.index.read().unwrap_or_else(PoisonError::into_inner).rows.contains_key(key)
    }

    /// Looks for what other processes have written and merged. Removes files that are not whole, with a warning.
    pub fn refresh(&self) -> Result<()> {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..LOOKS {
            let names = self.names()?;
            index.keep(&names);
            let mut gone = false;
            for name in names {
                if index.files.contains_key(&name) {
                    continue;
                }
                match self.look_into(&name)? {
                    Some((file, keys)) => index.add(&name, file, keys),
                    None => gone = true,
                }
            }
            if !gone {
                break;
            }
        }
        Ok(())
    }

    /// What `read` takes from a row's file and its number in it; an inner error is a damage.
    pub fn read<T>(
        &self, key: &Key, read: impl Fn(&ShardFile, u64) -> Result<std::result::Result<T, String>>,
    ) -> Result<T> {
        for look in 1..=LOOKS {
            let place = self.index.read().unwrap_or_else(PoisonError::into_inner).rows.get(key).cloned();
            let Some((file, row)) = place else {
                self.refresh()?;
                continue;
            };
            let damaged = |message| Error::Precomputed { file: file.path.display().to_string(), message };
            match file.open().and_then(|open| read(&open, row)) {
                Ok(found) => return found.map_err(damaged),
                // It was merged into another.
                Err(_) if look < LOOKS && !file.path.exists() => self.refresh()?,
                Err(Error::Shard { message, .. }) => return Err(damaged(message)),
                Err(error) => return Err(error),
            }
        }
        let Key { image_id, timestep } = key;
        let at = timestep.map_or(String::new(), |t| format!(" at timestep {t}"));
        Err(Error::file(
            &self.folder,
            format!("image {image_id}{at} is not there any more; start again, to compute it"),
        ))
    }

    /// Adds rows as a file of their own. Merges the files of this process once they fill one.
    pub fn publish(&self, rows: &RecordBatch) -> Result<()> {
        let keys = keys_of(rows).map_err(|message| Error::file(&self.folder, message))?;
        let name = name_of(&keys);
        fs::create_dir_all(&self.folder).map_err(|e| Error::file(&self.folder, e))?;
        self.write(&name, |writer| {
            writer.write(rows).and_then(|()| writer.flush()).map_err(|e| Error::file(&self.folder.join(&name), e))
        })?;
        self.add(&name, keys);
        let full = {
            let mut own = lock(&self.own);
            own.push(name);
            let rows: u64 = own.iter().map(|name| self.rows_in(name)).sum();
            (rows >= self.layout.rows_per_file as u64).then(|| std::mem::take(&mut *own))
        };
        full.map_or(Ok(()), |names| self.merge(&names))
    }

    fn add(&self, name: &str, keys: Vec<Key>) {
        let path = self.folder.join(name);
        let file = PoolFile { path, rows: keys.len() as u64, open: Mutex::default() };
        self.index.write().unwrap_or_else(PoisonError::into_inner).add(name, file, keys);
    }

    fn rows_in(&self, name: &str) -> u64 {
        self.index.read().unwrap_or_else(PoisonError::into_inner).files.get(name).map_or(0, |file| file.rows)
    }

    /// The files that are there.
    fn names(&self) -> Result<BTreeSet<String>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries.map_err(|e| Error::file(&self.folder, e))?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter(|name| name.ends_with(SUFFIX) && !name.starts_with('.')).collect())
    }

    /// A file and its rows' keys; none if it has gone, or was damaged and is gone now.
    fn look_into(&self, name: &str) -> Result<Option<(PoolFile, Vec<Key>)>> {
        let path = self.folder.join(name);
        let looked = match open(&path) {
            Err(Error::Store { .. }) if !path.exists() => return Ok(None),
            opened => opened.and_then(|file| keys(&file)),
        };
        match looked {
            Ok(keys) => Ok(Some((PoolFile { path, rows: keys.len() as u64, open: Mutex::default() }, keys))),
            Err(Error::Shard { message, .. }) => {
                tracing::warn!("{}: damaged ({message}); what is in it is made again", path.display());
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::file(&path, error)),
                    _ => Ok(None),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Writes the file `name` aside, and puts it in its place if nobody else has.
    fn write(&self, name: &str, fill: impl FnOnce(&mut ArrowWriter<&File>) -> Result<()>) -> Result<()> {
        let path = self.folder.join(name);
        let failed = |error: std::io::Error| Error::file(&path, error);
        // As readable as any other new file, by the umask; temporary files are their owner's alone otherwise.
        let readable = Permissions::from_mode(0o666);
        let mut builder = tempfile::Builder::new();
        let aside = builder.prefix(".").suffix(PART).permissions(readable).tempfile_in(&self.folder).map_err(failed)?;
        let schema = &self.layout.schema;
        let mut writer = ArrowWriter::try_new(aside.as_file(), schema.clone(), Some(properties(schema)))
            .map_err(|e| Error::file(&path, e))?;
        fill(&mut writer)?;
        writer.close().map_err(|e| Error::file(&path, e))?;
        aside.as_file().sync_all().map_err(failed)?;
        if !path.exists() {
            aside.persist(&path).map_err(|e| failed(e.error))?;
        }
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

impl Index {
    fn add(&mut self, name: &str, file: PoolFile, keys: Vec<Key>) {
        let file = Arc::new(file);
        for (row, key) in keys.into_iter().enumerate() {
            let place = self.rows.entry(key).or_insert_with(|| (file.clone(), row as u64));
            // What is merged has more rows than what it is merged from, and outlives it.
            if place.0.rows < file.rows {
                *place = (file.clone(), row as u64);
            }
        }
        self.files.insert(name.into(), file);
    }

    /// Forgets the files that have gone.
    fn keep(&mut self, names: &BTreeSet<String>) {
        let before = self.files.len();
        self.files.retain(|name, _| names.contains(name));
        if self.files.len() < before {
            let there: BTreeSet<&Path> = self.files.values().map(|file| file.path.as_path()).collect();
            self.rows.retain(|_, (file, _)| there.contains(file.path.as_path()));
        }
    }
}

impl PoolFile {
    fn open(&self) -> Result<Arc<ShardFile>> {
        let mut slot = lock(&self.open);
        match slot.as_ref() {
            Some(file) => Ok(file.clone()),
            None => Ok(slot.insert(Arc::new(open(&self.path)?)).clone()),
        }
    }
}

fn open(path: &Path) -> Result<ShardFile> {
    let opened = |file| Pieces::of(file, Some(path.to_path_buf()));
    let pieces = File::open(path).and_then(opened).map_err(|e| Error::file(path, e))?;
    ShardFile::of(path.display().to_string(), pieces)
}

/// The key of every row of a file.
pub fn keys(file: &ShardFile) -> Result<Vec<Key>> {
    let mut keys = Vec::new();
    for group in 0..file.num_groups() {
        let batch = file.columns(group, |name| [IMAGE_ID, TIMESTEP].contains(&name))?;
        keys.extend(keys_of(&batch).map_err(|message| file.damaged(message))?);
    }
    Ok(keys)
}

fn keys_of(rows: &RecordBatch) -> std::result::Result<Vec<Key>, String> {
    let column = |name: &str| rows.column_by_name(name);
    let ids = column(IMAGE_ID).and_then(|c| c.as_any().downcast_ref::<StringArray>());
    let ids = ids.ok_or_else(|| format!("column {IMAGE_ID} is missing, or no text"))?;
    let timesteps = column(TIMESTEP).and_then(|c| c.as_any().downcast_ref::<Int32Array>());
    let key = |row| Key { image_id: ids.value(row).into(), timestep: timesteps.map(|t| t.value(row)) };
    Ok((0..rows.num_rows()).map(key).collect())
}

/// A file's name: a hash of its rows' keys, and their number.
fn name_of(keys: &[Key]) -> String {
    let mut hasher = blake3::Hasher::new();
    for Key { image_id, timestep } in keys {
        hasher.update(image_id.as_bytes()).update(&timestep.unwrap_or(-1).to_le_bytes());
    }
    format!("{:.16}-{}{SUFFIX}", hasher.finalize().to_hex(), keys.len())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

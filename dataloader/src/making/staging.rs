//! How a new data set is made: shard by shard, and then published as a whole.
//!
//! Finished shards lie in `.staging`, each with a receipt beside it; a killed run goes on after the last of them.
//! Several processes may fill one folder. A commit removes the old manifest, moves the shards, and writes the new
//! manifest last. A commit that was interrupted anywhere is completed by [`recover`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::Schema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::format::manifest::{self, Manifest, Quarantined, Shard, Split};
use crate::format::schema::Widths;
#[cfg(feature = "encode")]
use crate::making::worker_rank::WorkerRank;
use crate::making::writer::{measure, RowWriter, ShardWriter};

const STAGING: &str = ".staging";
/// The suffix that a receipt's name adds to its shard's.
const RECEIPT: &str = ".receipt.json";
/// A staging folder that is being deleted.
const SPENT: &str = ".staging.spent";

/// A data set that is being made.
#[derive(Debug)]
pub struct Staging {
    folder: PathBuf,
}

/// A finished shard, and the results for the images that were to be in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// The shard as the manifest will list it.
    pub shard: Shard,
    /// Images that turned out to be unusable during encoding.
    pub quarantined: Vec<Quarantined>,
    /// Images that went through the models.
    pub encoded: usize,
    /// Images taken from an earlier data set.
    pub reused: usize,
}

impl Staging {
    /// Begins a data set in `folder`, or continues one.
    pub fn open(folder: &Path) -> Result<Self> {
        let staging = Self { folder: folder.into() };
        fs::create_dir_all(staging.path()).map_err(|e| Error::file(&staging.path(), e))?;
        Ok(staging)
    }

    /// The folder of unfinished files.
    pub fn path(&self) -> PathBuf {
        self.folder.join(STAGING)
    }

    /// Starts a shard.
    pub fn start_shard(&self, file: &str, split: &str, key: &str, widths: Widths) -> Result<RowWriter> {
        RowWriter::create(&self.path(), file, split, key, widths)
    }

    /// Starts a shard with another schema than that of images.
    pub fn start(&self, file: &str, split: &str, key: &str, schema: &Arc<Schema>) -> Result<ShardWriter> {
        ShardWriter::create(&self.path(), file, split, key, schema)
    }

    /// The receipt of the shard `file`, if the shard exists, is whole, and was made from the inputs of `key`.
    pub fn receipt(&self, file: &str, key: &str) -> Result<Option<Receipt>> {
        let Ok(bytes) = fs::read(self.receipt_path(file)) else { return Ok(None) };
        let Ok(receipt) = serde_json::from_slice::<Receipt>(&bytes) else { return Ok(None) };
        let path = self.path().join(file);
        if receipt.shard.key != key || receipt.shard.file != file || !path.is_file() {
            return Ok(None);
        }
        let (bytes, blake3) = measure(&path)?;
        Ok((bytes == receipt.shard.bytes && blake3 == receipt.shard.blake3).then_some(receipt))
    }

    /// Signs that process `worker_rank` has done `what` with the inputs of `key`.
    #[cfg(feature = "encode")]
    pub fn sign(&self, what: &str, worker_rank: &WorkerRank, key: &str) -> Result<()> {
        write_whole(&self.signature(what, worker_rank.rank, worker_rank.size, key), b"")
    }

    /// The processes that have not signed that yet.
    #[cfg(feature = "encode")]
    pub fn unsigned(&self, what: &str, worker_rank: &WorkerRank, key: &str) -> Vec<usize> {
        (0..worker_rank.size).filter(|&rank| !self.signature(what, rank, worker_rank.size, key).exists()).collect()
    }

    #[cfg(feature = "encode")]
    fn signature(&self, what: &str, rank: usize, size: usize, key: &str) -> PathBuf {
        self.path().join(format!("{what}-{rank}-of-{size}-{key}"))
    }

    /// The shards that have receipts, valid or not.
    pub fn left(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.path()).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| name.strip_suffix(RECEIPT).map(str::to_string)).collect()
    }

    /// Whether a finished shard `file` of this key exists; its bytes are not read.
    pub fn is_left(&self, file: &str, key: &str) -> bool {
        let receipt = fs::read(self.receipt_path(file)).ok();
        let receipt = receipt.and_then(|bytes| serde_json::from_slice::<Receipt>(&bytes).ok());
        receipt.is_some_and(|receipt| receipt.shard.key == key)
    }

    /// Writes the receipt of a finished shard, after everything else of it.
    pub fn leave(&self, receipt: &Receipt) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(receipt).expect("a receipt is plain data");
        write_whole(&self.receipt_path(&receipt.shard.file), &bytes)?;
        sync_folder(&self.path())
    }

    /// Completes `manifest` with the shards' facts and puts the data set in its place.
    pub fn commit(self, shards: Vec<Shard>, manifest: Manifest) -> Result<Manifest> {
        let splits = splits_of(&shards);
        let format_version = manifest::version_of(&splits, manifest.inversion.as_ref());
        let sealed = Manifest { format_version, shards, splits, ..manifest }.to_bytes();
        let path = self.path().join(manifest::FILE);
        write_whole(&path, &sealed)?;
        sync_folder(&self.path())?;
        recover(&self.folder)?;
        Manifest::parse(&path.display().to_string(), &sealed)
    }

    fn receipt_path(&self, file: &str) -> PathBuf {
        self.path().join(format!("{file}{RECEIPT}"))
    }
}

/// Whether a commit in `folder` was interrupted, so that [`recover`] has something to do.
pub fn is_cut_off(folder: &Path) -> bool {
    folder.join(STAGING).join(manifest::FILE).exists()
}

/// Completes an interrupted commit in `folder`, if there is one.
pub fn recover(folder: &Path) -> Result<()> {
    let (staging, spent) = (folder.join(STAGING), folder.join(SPENT));
    if spent.exists() {
        fs::remove_dir_all(&spent).map_err(|e| Error::file(&spent, e))?;
    }
    let staged = staging.join(manifest::FILE);
    let Ok(bytes) = fs::read(&staged) else { return Ok(()) };
    let manifest = Manifest::parse(&staged.display().to_string(), &bytes)?;
    let listed = folder.join(manifest::FILE);
    let stale: Vec<Shard> = in_place(folder).map_or_else(Vec::new, |manifest| manifest.shards);
    if listed.exists() {
        fs::remove_file(&listed).map_err(|e| Error::file(&listed, e))?;
        sync_folder(folder)?;
    }
    for shard in &manifest.shards {
        let from = staging.join(&shard.file);
        if from.exists() {
            fs::rename(&from, folder.join(&shard.file)).map_err(|e| Error::file(&from, e))?;
        }
    }
    for Shard { file, .. } in stale.iter().filter(|old| manifest.shards.iter().all(|s| s.file != old.file)) {
        // A stale shard that remains is listed nowhere and does no harm.
        let _ = fs::remove_file(folder.join(file));
    }
    sync_folder(folder)?;
    durable::rename(&staged, &listed).map_err(|e| Error::file(&listed, e))?;
    fs::rename(&staging, &spent).map_err(|e| Error::file(&staging, e))?;
    fs::remove_dir_all(&spent).map_err(|e| Error::file(&spent, e))
}

fn splits_of(shards: &[Shard]) -> BTreeMap<String, Split> {
    let mut splits: BTreeMap<String, Split> = BTreeMap::new();
    for shard in shards {
        splits.entry(shard.split.clone()).or_default().add(shard);
    }
    splits
}

/// The manifest of the data set in `folder`, if there is one that can be read.
pub fn in_place(folder: &Path) -> Option<Manifest> {
    let bytes = fs::read(folder.join(manifest::FILE)).ok()?;
    Manifest::parse("", &bytes).ok()
}

/// Writes a file that is either whole or absent.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    durable::write(path, bytes).map_err(|e| Error::file(path, e))
}

fn sync_folder(folder: &Path) -> Result<()> {
    durable::sync(folder).map_err(|e| Error::file(folder, e))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::format::row::tests::row;
    use crate::format::row::Entry;
    use crate::making::writer::ROWS_PER_GROUP;
    use crate::reading::dataset::Dataset;
    use crate::reading::filter::Filter;
    use emotions::Emotion;

    const WIDTHS: Widths = Widths { latent: 16, clip: Some(8) };

    /// A manifest for rows of [`row`], without shards and counts.
    pub(crate) fn open_manifest() -> Manifest {
        let mut manifest = manifest::tests::example();
        manifest.transform.resolution = 8;
        manifest.clip = Some(manifest::Model { name: "clip".into(), hash: "ef".into(), dimension: Some(8) });
        manifest
    }

    /// `counts` rows by split, every third of them awe, with latents that tell rows apart.
    pub(crate) fn write_dataset(folder: &Path, counts: &[(&str, usize)]) -> Manifest {
        let staging = Staging::open(folder).expect("a folder");
        let shards = counts.iter().map(|(split, count)| write_shard(&staging, split, *count)).collect();
        staging.commit(shards, open_manifest()).expect("committed")
    }

    fn write_shard(staging: &Staging, split: &str, count: usize) -> Shard {
        let file = format!("{split}-00000-of-00001.parquet");
        let mut writer = staging.start_shard(&file, split, "key", WIDTHS).expect("started");
        for n in 0..count {
            let mut row = row(&format!("{split}/{n:04}.png"));
            row.entry = Arc::new(Entry {
                split: split.to_string(),
                emotion: (n % 3 == 0).then_some(Emotion::Awe),
                attributes: serde_json::json!({"emotions": ["fear"], "n": n}),
                emotions: vec![Emotion::Fear],
                ..(*row.entry).clone()
            });
            row.encoding.latent_mean[0] = half::f16::from_f32(n as f32);
            row.image = image_bytes(n as u8);
            writer.push(row).expect("pushed");
        }
        writer.finish().expect("finished")
    }

    fn image_bytes(shade: u8) -> bytes::Bytes {
        let image = image::RgbImage::from_pixel(8, 8, image::Rgb([shade; 3]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, image::ImageFormat::Png).expect("encoded");
        bytes.into_inner().into()
    }

    fn open(folder: &Path) -> Dataset {
        Dataset::open(&folder.to_string_lossy()).expect("a data set")
    }

    #[test]
    fn rows_come_back_as_they_went_in() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut full = row("ü/a b.png");
        full.entry = Arc::new(Entry {
            emotion: Some(Emotion::Sadness),
            namespace: Some("evoked".into()),
            label: Some("grief".into()),
            subject: Some("Ada".into()),
            state: Some("sadness".into()),
            valence: Some(-2.5),
            arousal: Some(6.0),
            ambiguity: Some(0.0),
            crop: [1, 2, 3, 4],
            ..(*full.entry).clone()
        });
        let staging = Staging::open(folder.path()).expect("a folder");
        let mut writer = staging.start_shard("train-00000-of-00001.parquet", "train", "k", WIDTHS).expect("started");
        writer.push(full.clone()).expect("pushed");
        writer.push(row("b")).expect("pushed");
        let shard = writer.finish().expect("finished");
        staging.commit(vec![shard], open_manifest()).expect("committed");
        assert_eq!(open(folder.path()).shard_rows(0).expect("readable"), [full, row("b")]);
    }

    #[test]
    fn row_groups_are_small_and_files_are_reproducible() {
        let (a, b) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let first = write_dataset(a.path(), &[("train", 600), ("test", 5)]);
        let second = write_dataset(b.path(), &[("train", 600), ("test", 5)]);
        assert_eq!(first, second);
        let dataset = open(a.path());
        let rows = dataset.rows(&Filter::default()).expect("rows");
        let groups: Vec<usize> = rows.chunk_by(|a, b| a.place.group == b.place.group).map(<[_]>::len).collect();
        assert!(groups.iter().all(|&rows| rows <= ROWS_PER_GROUP) && groups.len() == 4, "{groups:?}");
        assert_eq!(first.splits["train"].labels["awe"], 200);
    }

    #[test]
    fn a_new_data_set_replaces_the_old_and_its_stale_shards() {
        let folder = tempfile::tempdir().expect("a folder");
        write_dataset(folder.path(), &[("train", 5), ("val", 2)]);
        fs::write(folder.path().join("notes.txt"), "mine").expect("written");
        write_dataset(folder.path(), &[("train", 7)]);
        assert_eq!(open(folder.path()).rows(&Filter::default()).expect("rows").len(), 7);
        assert!(!folder.path().join("val-00000-of-00001.parquet").exists());
        assert!(!folder.path().join(STAGING).exists());
        assert!(folder.path().join("notes.txt").exists());
    }

    #[test]
    fn a_commit_cut_off_anywhere_is_completed() {
        for moved in 0..=2 {
            let (old, new) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
            write_dataset(old.path(), &[("test", 4), ("train", 5)]);
            let manifest = write_dataset(new.path(), &[("test", 6), ("train", 7)]);
            // As if killed after the manifest was removed and some shards were moved.
            let staging = old.path().join(STAGING);
            fs::create_dir(&staging).expect("made");
            fs::rename(new.path().join(manifest::FILE), staging.join(manifest::FILE)).expect("moved");
            fs::remove_file(old.path().join(manifest::FILE)).expect("removed");
            for (n, shard) in manifest.shards.iter().enumerate() {
                let to = if n < moved { old.path() } else { staging.as_path() };
                fs::rename(new.path().join(&shard.file), to.join(&shard.file)).expect("moved");
            }
            assert!(Dataset::open(&old.path().to_string_lossy()).is_err());
            assert!(is_cut_off(old.path()));
            recover(old.path()).expect("recovered");
            let dataset = open(old.path());
            dataset.verify().expect("sound");
            assert_eq!(dataset.manifest(), &manifest);
        }
    }

    #[test]
    fn an_unfinished_run_leaves_the_old_data_set_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let before = write_dataset(folder.path(), &[("train", 5)]);
        let staging = Staging::open(folder.path()).expect("a folder");
        let mut writer = staging.start_shard("train-00000-of-00001.parquet", "train", "k", WIDTHS).expect("started");
        writer.push(row("x")).expect("pushed");
        drop(writer);
        recover(folder.path()).expect("nothing to recover");
        let dataset = open(folder.path());
        dataset.verify().expect("sound");
        assert_eq!(dataset.manifest(), &before);
    }

    #[test]
    fn a_receipt_counts_only_for_its_own_key_and_whole_shards() {
        let folder = tempfile::tempdir().expect("a folder");
        let staging = Staging::open(folder.path()).expect("a folder");
        let shard = write_shard(&staging, "train", 4);
        let file = shard.file.clone();
        assert_eq!(staging.receipt(&file, "key").expect("readable"), None, "a shard without receipt is not finished");
        let receipt = Receipt { shard, quarantined: vec![], encoded: 4, reused: 0 };
        staging.leave(&receipt).expect("left");
        assert!(staging.is_left(&file, "key") && !staging.is_left(&file, "other"));
        assert_eq!(staging.receipt(&file, "key").expect("readable"), Some(receipt));
        assert_eq!(staging.receipt(&file, "other").expect("readable"), None);
        let path = staging.path().join(&file);
        let mut bytes = fs::read(&path).expect("a shard");
        bytes[100] ^= 1;
        fs::write(&path, &bytes).expect("damaged");
        assert_eq!(staging.receipt(&file, "key").expect("readable"), None);
        fs::write(staging.receipt_path(&file), "{").expect("damaged");
        assert_eq!(staging.receipt(&file, "key").expect("readable"), None);
    }
}

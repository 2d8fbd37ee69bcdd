//! Rows to Parquet files, and the staging that makes a new data set appear at once.
//!
//! Shards and manifest are written into `.staging`. Committing withdraws the old manifest, moves the shards, and puts
//! the new manifest last. A commit that was cut off anywhere is completed by [`recover`]; an unfinished staging folder
//! is thrown away.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::Schema;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::columns::batch_from_rows;
use crate::error::{Error, Result};
use crate::manifest::{self, Manifest, Shard, Split};
use crate::row::Row;
use crate::schema::{hugging_face_features, schema, Widths, CLIP, HUGGING_FACE_KEY, IMAGE, LATENTS};

/// Rows per row group, at most: what a reader decodes at once.
pub const ROWS_PER_GROUP: usize = 256;

const STAGING: &str = ".staging";
const ZSTD_LEVEL: i32 = 3;

/// A data set in the making.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    schema: Arc<Schema>,
    shards: Vec<Shard>,
    splits: BTreeMap<String, Split>,
    open: Option<OpenShard>,
}

struct OpenShard {
    file: String,
    split: String,
    rows: u64,
    pending: Vec<Row>,
    parquet: ArrowWriter<BufWriter<File>>,
}

impl std::fmt::Debug for OpenShard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenShard").field("file", &self.file).field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl Writer {
    /// Begins a data set in `folder`; what an unfinished earlier run left behind is removed.
    pub fn new(folder: &Path, widths: Widths) -> Result<Self> {
        let staging = folder.join(STAGING);
        if staging.exists() {
            fs::remove_dir_all(&staging).map_err(|e| failed(&staging, e))?;
        }
        fs::create_dir_all(&staging).map_err(|e| failed(&staging, e))?;
        let schema = Arc::new(schema(widths));
        Ok(Self { folder: folder.into(), schema, shards: vec![], splits: BTreeMap::new(), open: None })
    }

    /// Starts the shard `file`, whose rows are all of `split`. The shard before it is closed.
    pub fn start_shard(&mut self, file: &str, split: &str) -> Result<()> {
        self.close_shard()?;
        let path = self.folder.join(STAGING).join(file);
        let sink = BufWriter::new(File::create(&path).map_err(|e| failed(&path, e))?);
        let parquet = ArrowWriter::try_new(sink, self.schema.clone(), Some(properties(&self.schema)))
            .map_err(|e| failed(&path, e))?;
        self.open = Some(OpenShard { file: file.into(), split: split.into(), rows: 0, pending: vec![], parquet });
        Ok(())
    }

    /// Adds a row to the open shard.
    pub fn push(&mut self, row: Row) -> Result<()> {
        let open = self.open.as_mut().expect("a shard is started before rows are pushed");
        let counts = self.splits.entry(open.split.clone()).or_default();
        counts.rows += 1;
        *counts.labels.entry(row.emotion.map_or("none", |e| e.name()).to_string()).or_default() += 1;
        open.rows += 1;
        open.pending.push(row);
        if open.pending.len() == ROWS_PER_GROUP {
            return open.flush(&self.schema).map_err(|message| self.shard_failed(message));
        }
        Ok(())
    }

    /// Closes the last shard, seals `manifest` with the shards' facts, and puts the data set in its place.
    pub fn finish(mut self, manifest: Manifest) -> Result<Manifest> {
        self.close_shard()?;
        let manifest =
            Manifest { shards: std::mem::take(&mut self.shards), splits: std::mem::take(&mut self.splits), ..manifest };
        let path = self.folder.join(STAGING).join(manifest::FILE);
        let unlisted = path.with_extension("unfinished");
        let mut file = File::create(&unlisted).map_err(|e| failed(&unlisted, e))?;
        let sealed = manifest.to_bytes();
        file.write_all(&sealed).and_then(|()| file.sync_all()).map_err(|e| failed(&unlisted, e))?;
        fs::rename(&unlisted, &path).map_err(|e| failed(&path, e))?;
        sync_folder(&self.folder.join(STAGING))?;
        recover(&self.folder)?;
        Manifest::parse(&path.display().to_string(), &sealed)
    }

    fn close_shard(&mut self) -> Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let path = self.folder.join(STAGING).join(&open.file);
        open.flush(&self.schema).map_err(|message| failed(&path, message))?;
        let (file, split, rows) = (open.file, open.split, open.rows);
        let sink = open.parquet.into_inner().map_err(|e| failed(&path, e))?;
        let handle = sink.into_inner().map_err(|e| failed(&path, e.error()))?;
        handle.sync_all().map_err(|e| failed(&path, e))?;
        let (bytes, blake3) = measure(&path)?;
        self.shards.push(Shard { file, split, rows, bytes, blake3 });
        Ok(())
    }

    fn shard_failed(&self, message: String) -> Error {
        let file = self.open.as_ref().map_or("", |open| open.file.as_str());
        failed(&self.folder.join(STAGING).join(file), message)
    }
}

impl OpenShard {
    fn flush(&mut self, schema: &Arc<Schema>) -> std::result::Result<(), String> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let rows: Vec<&Row> = self.pending.iter().collect();
        let batch = batch_from_rows(schema.clone(), &rows)?;
        let written = self.parquet.write(&batch).and_then(|()| self.parquet.flush());
        self.pending.clear();
        written.map_err(|e: ParquetError| e.to_string())
    }
}

/// Completes a commit that was cut off in `folder`, if there is one.
pub fn recover(folder: &Path) -> Result<()> {
    let staging = folder.join(STAGING);
    let staged = staging.join(manifest::FILE);
    let Ok(bytes) = fs::read(&staged) else { return Ok(()) };
    let manifest = Manifest::parse(&staged.display().to_string(), &bytes)?;
    let listed = folder.join(manifest::FILE);
    let stale = shards_of(&listed);
    if listed.exists() {
        fs::remove_file(&listed).map_err(|e| failed(&listed, e))?;
        sync_folder(folder)?;
    }
    for shard in &manifest.shards {
        let from = staging.join(&shard.file);
        if from.exists() {
            fs::rename(&from, folder.join(&shard.file)).map_err(|e| failed(&from, e))?;
        }
    }
    for file in stale.iter().filter(|file| manifest.shards.iter().all(|s| s.file != **file)) {
        // A stale shard that stays is listed nowhere and harms nothing.
        let _ = fs::remove_file(folder.join(file));
    }
    sync_folder(folder)?;
    fs::rename(&staged, &listed).map_err(|e| failed(&listed, e))?;
    sync_folder(folder)?;
    fs::remove_dir_all(&staging).map_err(|e| failed(&staging, e))
}

fn shards_of(path: &Path) -> Vec<String> {
    let manifest = fs::read(path).ok().and_then(|bytes| Manifest::parse("", &bytes).ok());
    manifest.map_or_else(Vec::new, |m| m.shards.into_iter().map(|s| s.file).collect())
}

fn properties(schema: &Schema) -> WriterProperties {
    let features = KeyValue::new(HUGGING_FACE_KEY.to_string(), hugging_face_features(schema));
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL).expect("a valid level")))
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
        .set_key_value_metadata(Some(vec![features]))
        .set_created_by(concat!("dataloader ", env!("CARGO_PKG_VERSION")).to_string());
    let lists = LATENTS.into_iter().chain([CLIP]).map(|name| vec![name.into(), "list".into(), "item".into()]);
    for path in lists.chain([vec![IMAGE.into(), "bytes".into()]]).map(ColumnPath::from) {
        // Nothing repeats in these and nobody compares them: a dictionary or bounds would only cost.
        properties = properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path.clone(), Encoding::PLAIN)
            .set_column_statistics_enabled(path, EnabledStatistics::None);
    }
    properties.build()
}

fn measure(path: &Path) -> Result<(u64, String)> {
    let file = File::open(path).map_err(|e| failed(path, e))?;
    let bytes = file.metadata().map_err(|e| failed(path, e))?.len();
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(BufReader::new(file)).map_err(|e| failed(path, e))?;
    Ok((bytes, hasher.finalize().to_hex().to_string()))
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| failed(folder, e))
}

fn failed(path: &Path, reason: impl ToString) -> Error {
    Error::store(path.display().to_string(), reason)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::dataset::Dataset;
    use crate::emotion::Emotion;
    use crate::filter::Filter;
    use crate::row::tests::row;

    /// A manifest for rows of [`row`], shards and counts open.
    pub(crate) fn open_manifest() -> Manifest {
        let mut manifest = manifest::tests::example();
        manifest.transform.resolution = 8;
        manifest.clip = Some(manifest::Model { name: "clip".into(), hash: "ef".into(), dimension: Some(8) });
        manifest
    }

    /// `counts` rows by split, every third of them awe, with latents that tell rows apart.
    pub(crate) fn write_dataset(folder: &Path, counts: &[(&str, usize)]) -> Manifest {
        let mut writer = Writer::new(folder, Widths { latent: 16, clip: Some(8) }).expect("a folder");
        for (split, count) in counts {
            writer.start_shard(&format!("{split}-00000-of-00001.parquet"), split).expect("started");
            for n in 0..*count {
                let mut row = row(&format!("{split}/{n:04}.png"));
                row.entry.split = split.to_string();
                row.entry.emotion = (n % 3 == 0).then_some(Emotion::Awe);
                row.entry.attributes = serde_json::json!({"emotions": ["fear"], "n": n});
                row.entry.emotions = vec![Emotion::Fear];
                row.latent_mean[0] = half::f16::from_f32(n as f32);
                row.image = image_bytes(n as u8);
                writer.push(row).expect("pushed");
            }
        }
        writer.finish(open_manifest()).expect("finished")
    }

    fn image_bytes(shade: u8) -> bytes::Bytes {
        let image = image::RgbImage::from_pixel(8, 8, image::Rgb([shade; 3]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, image::ImageFormat::Png).expect("encoded");
        bytes.into_inner().into()
    }

    #[test]
    fn rows_come_back_as_they_went_in() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = Writer::new(folder.path(), Widths { latent: 16, clip: Some(8) }).expect("a folder");
        let mut full = row("ü/a b.png");
        full.entry.emotion = Some(Emotion::Sadness);
        full.entry.namespace = Some("evoked".into());
        full.entry.label = Some("grief".into());
        (full.entry.valence, full.entry.arousal, full.entry.ambiguity) = (Some(-2.5), Some(6.0), Some(0.0));
        full.entry.crop = [1, 2, 3, 4];
        writer.start_shard("train-00000-of-00001.parquet", "train").expect("started");
        writer.push(full.clone()).expect("pushed");
        writer.push(row("b")).expect("pushed");
        writer.finish(open_manifest()).expect("finished");
        let dataset = Dataset::open(&folder.path().to_string_lossy()).expect("a data set");
        assert_eq!(dataset.group(0, 0).expect("readable"), [full, row("b")]);
    }

    #[test]
    fn row_groups_are_small_and_files_are_reproducible() {
        let (a, b) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let first = write_dataset(a.path(), &[("train", 600), ("test", 5)]);
        let second = write_dataset(b.path(), &[("train", 600), ("test", 5)]);
        assert_eq!(first, second);
        let dataset = Dataset::open(&a.path().to_string_lossy()).expect("a data set");
        assert_eq!(dataset.shard(0).expect("sound").num_groups(), 3);
        assert_eq!(dataset.group(0, 2).expect("readable").len(), 600 - 2 * ROWS_PER_GROUP);
        assert_eq!(first.splits["train"].labels["awe"], 200);
    }

    #[test]
    fn a_new_data_set_replaces_the_old_and_its_stale_shards() {
        let folder = tempfile::tempdir().expect("a folder");
        write_dataset(folder.path(), &[("train", 5), ("val", 2)]);
        fs::write(folder.path().join("notes.txt"), "mine").expect("written");
        write_dataset(folder.path(), &[("train", 7)]);
        let dataset = Dataset::open(&folder.path().to_string_lossy()).expect("a data set");
        assert_eq!(dataset.rows(&Filter::default()).expect("rows").len(), 7);
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
            // As if killed after withdrawing the manifest and moving some shards.
            let staging = old.path().join(STAGING);
            fs::create_dir(&staging).expect("made");
            fs::rename(new.path().join(manifest::FILE), staging.join(manifest::FILE)).expect("moved");
            fs::remove_file(old.path().join(manifest::FILE)).expect("removed");
            for (n, shard) in manifest.shards.iter().enumerate() {
                let to = if n < moved { old.path() } else { staging.as_path() };
                fs::rename(new.path().join(&shard.file), to.join(&shard.file)).expect("moved");
            }
            assert!(Dataset::open(&old.path().to_string_lossy()).is_err());
            recover(old.path()).expect("recovered");
            let dataset = Dataset::open(&old.path().to_string_lossy()).expect("a data set");
            dataset.verify().expect("sound");
            assert_eq!(dataset.manifest(), &manifest);
        }
    }

    #[test]
    fn an_unfinished_run_leaves_the_old_data_set_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let before = write_dataset(folder.path(), &[("train", 5)]);
        let mut writer = Writer::new(folder.path(), Widths { latent: 16, clip: Some(8) }).expect("a folder");
        writer.start_shard("train-00000-of-00001.parquet", "train").expect("started");
        writer.push(row("x")).expect("pushed");
        drop(writer);
        recover(folder.path()).expect("nothing to recover");
        let dataset = Dataset::open(&folder.path().to_string_lossy()).expect("a data set");
        dataset.verify().expect("sound");
        assert_eq!(dataset.manifest(), &before);
    }
}

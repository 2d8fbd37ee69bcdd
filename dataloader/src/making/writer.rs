//! Rows to one Parquet file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::error::{Error, Result};
use crate::format::columns::batch_from_rows;
use crate::format::manifest::{stays_inside, Shard, Split};
use crate::format::row::Row;
use crate::format::schema::{hugging_face_features, schema, Widths, HUGGING_FACE_KEY, IMAGE};

/// The most rows in a row group, which is what a reader decodes at once.
pub const ROWS_PER_GROUP: usize = 256;

/// How rows lie in pages. Shards of another layout are written again, without encoding their rows again.
pub const LAYOUT: u32 = 2;

const ZSTD_LEVEL: i32 = 3;

/// A shard that is being written. It is written beside its final path and renamed when it is whole.
pub struct ShardWriter {
    folder: PathBuf,
    /// Its entry in the manifest.
    pub(crate) shard: Shard,
    part: PathBuf,
    parquet: ArrowWriter<BufWriter<File>>,
}

impl std::fmt::Debug for ShardWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardWriter").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl ShardWriter {
    /// Starts the shard `file` in `folder`; all its rows are of `split`, and `key` stands for its inputs.
    pub fn create(folder: &Path, file: &str, split: &str, key: &str, schema: &Arc<Schema>) -> Result<Self> {
        if !stays_inside(file) {
            // A source's own name for a split is part of it.
            return Err(Error::invalid("output", format!("a shard named {file:?} would lie outside the folder")));
        }
        let part = folder.join(format!("{file}.{}.part", std::process::id()));
        let sink = BufWriter::new(File::create(&part).map_err(|e| Error::file(&part, e))?);
        let parquet =
            ArrowWriter::try_new(sink, schema.clone(), Some(properties(schema))).map_err(|e| Error::file(&part, e))?;
        let shard = Shard {
            file: file.into(),
            split: split.into(),
            rows: 0,
            labels: BTreeMap::new(),
            states: BTreeMap::new(),
            image_ids: vec![],
            bytes: 0,
            blake3: String::new(),
            key: key.into(),
        };
        Ok(Self { folder: folder.into(), shard, part, parquet })
    }

    /// Adds rows as one row group.
    pub fn write_group(&mut self, rows: &RecordBatch) -> Result<()> {
        self.shard.rows += rows.num_rows() as u64;
        let written: std::result::Result<(), ParquetError> =
            self.parquet.write(rows).and_then(|()| self.parquet.flush());
        written.map_err(|e| Error::file(&self.part, e))
    }

    /// Syncs the file to the disk and renames it.
    pub fn finish(self) -> Result<Shard> {
        let Self { folder, mut shard, part, parquet } = self;
        let sink = parquet.into_inner().map_err(|e| Error::file(&part, e))?;
        let handle = sink.into_inner().map_err(|e| Error::file(&part, e.error()))?;
        handle.sync_all().map_err(|e| Error::file(&part, e))?;
        (shard.bytes, shard.blake3) = measure(&part)?;
        durable::rename(&part, &folder.join(&shard.file)).map_err(|e| Error::file(&part, e))?;
        Ok(shard)
    }
}

/// A shard of images that is being written.
#[derive(Debug)]
pub struct RowWriter {
    writer: ShardWriter,
    schema: Arc<Schema>,
    pending: Vec<Row>,
    counts: Split,
}

impl RowWriter {
    /// As [`ShardWriter::create`], for rows with latents and embeddings of these lengths.
    pub fn create(folder: &Path, file: &str, split: &str, key: &str, widths: Widths) -> Result<Self> {
        let schema = Arc::new(schema(widths));
        Ok(Self {
            writer: ShardWriter::create(folder, file, split, key, &schema)?,
            schema,
            pending: vec![],
            counts: Split::default(),
        })
    }

    /// Adds a row.
    pub fn push(&mut self, row: Row) -> Result<()> {
        self.counts.count(&row);
        self.pending.push(row);
        match self.pending.len() {
            ROWS_PER_GROUP => self.flush(),
            _ => Ok(()),
        }
    }

    /// Syncs the file to the disk and renames it.
    pub fn finish(mut self) -> Result<Shard> {
        self.flush()?;
        (self.writer.shard.labels, self.writer.shard.states) = (self.counts.labels, self.counts.states);
        self.writer.finish()
    }

    fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let rows: Vec<&Row> = self.pending.iter().collect();
        let failed = |message| Error::file(&self.writer.part, message);
        let batch = batch_from_rows(self.schema.clone(), &rows).map_err(failed)?;
        self.pending.clear();
        self.writer.write_group(&batch)
    }
}

/// How the columns of `schema` are written.
pub(crate) fn properties(schema: &Schema) -> WriterProperties {
    let features = KeyValue::new(HUGGING_FACE_KEY.to_string(), hugging_face_features(schema));
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL).expect("a valid level")))
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
        .set_write_batch_size(1) // page limits are checked after this many rows
        .set_key_value_metadata(Some(vec![features]))
        .set_created_by(concat!("dataloader ", env!("CARGO_PKG_VERSION")).to_string());
    for path in schema.fields().iter().filter_map(|field| heavy(field)) {
        // These rows are read one at a time, so each has a page of its own. Images are compressed already, and
        // latents would shrink by a tenth, which is not worth the time to decompress them. A dictionary and
        // statistics would be of no use.
        properties = properties
            .set_column_data_page_row_count_limit(path.clone(), 1)
            .set_column_compression(path.clone(), Compression::UNCOMPRESSED)
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path.clone(), Encoding::PLAIN)
            .set_column_statistics_enabled(path, EnabledStatistics::None);
    }
    properties.build()
}

/// The leaf of a column whose rows are read one by one: images, and numbers in lists or
/// as bytes.
fn heavy(field: &Field) -> Option<ColumnPath> {
    let inner = match field.data_type() {
        DataType::FixedSizeList(..) => vec!["list", "item"],
        DataType::FixedSizeBinary(_) => vec![],
        _ if field.name() == IMAGE => vec!["bytes"],
        _ => return None,
    };
    let path = std::iter::once(field.name().as_str()).chain(inner);
    Some(ColumnPath::from(path.map(String::from).collect::<Vec<_>>()))
}

/// Size and blake3 of a file.
pub(crate) fn measure(path: &Path) -> Result<(u64, String)> {
    let file = File::open(path).map_err(|e| Error::file(path, e))?;
    let bytes = file.metadata().map_err(|e| Error::file(path, e))?.len();
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(BufReader::new(file)).map_err(|e| Error::file(path, e))?;
    Ok((bytes, hasher.finalize().to_hex().to_string()))
}

//! One shard, opened only after its bytes have proved to be the manifest's.

use std::sync::Arc;

use arrow::array::RecordBatch;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::ProjectionMask;
use parquet::file::reader::Length;
use rayon::prelude::*;

use crate::columns::{entries_from_batch, rows_from_parts};
use crate::error::{Error, Result};
use crate::lists::Lists;
use crate::manifest::Shard;
use crate::row::{Entry, Row};
use crate::schema::{is_light, CLIP, IMAGE, LATENTS};
use crate::store::{Pieces, Store};

/// A verified shard.
#[derive(Debug)]
pub struct ShardFile {
    url: String,
    pieces: Arc<Pieces>,
    metadata: ArrowReaderMetadata,
}

impl ShardFile {
    /// Opens the shard that `stated` describes, hashing it whole.
    pub fn open(store: &Store, stated: &Shard) -> Result<Self> {
        let url = store.url_of(&stated.file);
        let damaged = |message: String| Error::shard(&url, message);
        let missing = || damaged("the file is missing".into());
        let pieces = store.open_file(&stated.file, &stated.blake3)?.ok_or_else(missing)?;
        let bytes = Length::len(&pieces);
        if bytes != stated.bytes {
            store.forget(&stated.blake3);
            return Err(damaged(format!("{bytes} bytes, the manifest states {}", stated.bytes)));
        }
        let hash = pieces.hash().map_err(|e| Error::store(&url, e))?;
        if hash != stated.blake3 {
            store.forget(&stated.blake3);
            return Err(damaged(format!("blake3 {hash}, the manifest states {}", stated.blake3)));
        }
        let metadata =
            ArrowReaderMetadata::load(&pieces, ArrowReaderOptions::new()).map_err(|e| damaged(e.to_string()))?;
        let rows = metadata.metadata().file_metadata().num_rows();
        if rows != stated.rows as i64 {
            return Err(damaged(format!("{rows} rows, the manifest states {}", stated.rows)));
        }
        Ok(Self { url, pieces: Arc::new(pieces), metadata })
    }

    /// Number of row groups.
    pub fn num_groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    /// The light columns of one row group.
    pub fn entries(&self, group: usize) -> Result<Vec<Entry>> {
        entries_from_batch(&self.read(group, is_light)?).map_err(|e| Error::shard(&self.url, e))
    }

    /// All columns of one row group.
    pub fn rows(&self, group: usize) -> Result<Vec<Row>> {
        let damaged = |message: String| Error::shard(&self.url, message);
        let batch = self.read(group, |name| is_light(name) || name == IMAGE)?;
        let lists = |name: &str| {
            let (schema, metadata) = (self.metadata.schema(), self.metadata.metadata());
            Lists::read(&self.pieces, schema, metadata, group, name).map_err(damaged)
        };
        let latent = |name: &&str| lists(name)?.ok_or_else(|| damaged(format!("column {name} is missing")));
        let latents: Vec<Lists> = LATENTS.par_iter().map(latent).collect::<Result<_>>()?;
        rows_from_parts(&batch, &latents, lists(CLIP)?.as_ref()).map_err(damaged)
    }

    /// One row group's columns that are `wanted`.
    fn read(&self, group: usize, wanted: impl Fn(&str) -> bool) -> Result<RecordBatch> {
        let damaged = |message: String| Error::shard(&self.url, message);
        let pieces = self.pieces.try_clone().map_err(|e| Error::store(&self.url, e))?;
        let schema = self.metadata.schema();
        let columns = schema.fields().iter().enumerate().filter(|(_, f)| wanted(f.name())).map(|(n, _)| n);
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), columns);
        let rows = self.metadata.metadata().row_group(group).num_rows() as usize;
        let mut reader = ParquetRecordBatchReaderBuilder::new_with_metadata(pieces, self.metadata.clone())
            .with_projection(mask)
            .with_row_groups(vec![group])
            .with_batch_size(rows)
            .build()
            .map_err(|e| damaged(e.to_string()))?;
        let batch = reader.next().ok_or_else(|| damaged(format!("row group {group} is empty")))?;
        batch.map_err(|e| damaged(e.to_string()))
    }
}

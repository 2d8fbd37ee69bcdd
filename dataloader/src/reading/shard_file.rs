//! One Parquet file of rows. A shard of images is opened only after its bytes match the manifest's hash.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use bytemuck::Pod;
use bytes::Bytes;
use half::f16;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::ProjectionMask;
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::reader::Length;

use crate::error::{Error, Result};
use crate::format::columns::entries_from_batch;
use crate::format::manifest::Shard;
use crate::format::row::Entry;
use crate::format::schema::{is_light, CLIP, IMAGE, LATENTS};
use crate::reading::batch::Slot;
use crate::reading::cells::Cells;
use crate::store::{Pieces, Store};

/// An open file.
#[derive(Debug)]
pub struct ShardFile {
    url: String,
    pieces: Arc<Pieces>,
    metadata: ArrowReaderMetadata,
}

impl ShardFile {
    /// Opens the shard that `stated` describes, and hashes all of it.
    pub fn open(store: &Store, stated: &Shard) -> Result<Self> {
        let (url, pieces) = Self::pieces(store, stated)?;
        let hash = pieces.hash().map_err(|e| Error::store(&url, e))?;
        if hash != stated.blake3 {
            store.forget(&stated.blake3);
            return Err(Error::shard(&url, format!("blake3 {hash}, the manifest states {}", stated.blake3)));
        }
        Self::with_rows(url, pieces, stated)
    }

    /// Opens the shard that `stated` describes; of its content only the footer is read. For rows with checksums of
    /// their own.
    pub fn open_unhashed(store: &Store, stated: &Shard) -> Result<Self> {
        let (url, pieces) = Self::pieces(store, stated)?;
        Self::with_rows(url, pieces, stated).inspect_err(|_| store.forget(&stated.blake3))
    }

    /// The shard's URL, and its file if it has the stated size.
    fn pieces(store: &Store, stated: &Shard) -> Result<(String, Pieces)> {
        let url = store.url_of(&stated.file);
        let damaged = |message: String| Error::shard(&url, message);
        let missing = || damaged("the file is missing".into());
        let pieces = store.open_file(&stated.file, &stated.blake3)?.ok_or_else(missing)?;
        let bytes = Length::len(&pieces);
        if bytes != stated.bytes {
            store.forget(&stated.blake3);
            return Err(damaged(format!("{bytes} bytes, the manifest states {}", stated.bytes)));
        }
        Ok((url, pieces))
    }

    fn with_rows(url: String, pieces: Pieces, stated: &Shard) -> Result<Self> {
        let file = Self::of(url, pieces)?;
        match file.num_rows() {
            rows if rows == stated.rows => Ok(file),
            rows => Err(file.damaged(format!("{rows} rows, the manifest states {}", stated.rows))),
        }
    }

    /// The shard in an open file, which errors name by `url`.
    pub fn of(url: String, pieces: Pieces) -> Result<Self> {
        let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Required);
        match ArrowReaderMetadata::load(&pieces, options) {
            Ok(metadata) => Ok(Self { url, pieces: Arc::new(pieces), metadata }),
            // The storage did not answer, which says nothing of the file.
            Err(ParquetError::External(error)) => Err(Error::store(url, error)),
            Err(error) => Err(Error::shard(url, error)),
        }
    }

    /// The error of a file that is not what it should be.
    pub fn damaged(&self, message: impl ToString) -> Error {
        Error::shard(&self.url, message)
    }

    /// Its rows.
    pub fn num_rows(&self) -> u64 {
        self.metadata.metadata().file_metadata().num_rows() as u64
    }

    /// Row group of row number `row` of the file, and the row's number in it.
    pub fn locate(&self, row: u64) -> Result<(usize, usize)> {
        let mut rest = row as usize;
        for (group, rows) in self.metadata.metadata().row_groups().iter().map(|g| g.num_rows() as usize).enumerate() {
            match rest < rows {
                true => return Ok((group, rest)),
                false => rest -= rows,
            }
        }
        Err(Error::shard(&self.url, format!("row {row} does not exist, it has {}", self.num_rows())))
    }

    /// Number of row groups.
    pub fn num_groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    /// The light columns of one row group.
    pub fn entries(&self, group: usize) -> Result<Vec<Entry>> {
        entries_from_batch(&self.columns(group, is_light)?).map_err(|e| Error::shard(&self.url, e))
    }

    /// The compressed training image of one row.
    pub fn image(&self, group: usize, row: usize) -> Result<Bytes> {
        self.of_column(IMAGE, |leaf| self.cells(group, leaf)?.bytes(row))
    }

    /// Reads the latents of one row into their places, and its embedding if `slot` has room for one.
    pub fn fill(&self, group: usize, row: usize, slot: Slot<'_>) -> Result<()> {
        for (name, numbers) in LATENTS.into_iter().zip(slot.latents) {
            self.fill_list(name, group, row, numbers)?;
        }
        slot.clip_embedding.map_or(Ok(()), |numbers| self.fill_list(CLIP, group, row, numbers))
    }

    /// The embedding of one row, if the shard has them.
    pub fn clip_embedding(&self, group: usize, row: usize) -> Result<Option<Vec<f16>>> {
        let there = self.metadata.schema().field_with_name(CLIP).is_ok();
        there.then(|| self.list(CLIP, group, row)).transpose()
    }

    /// The list of numbers in one row of the column `name`, whose items must be `T`s.
    pub fn list<T: Pod>(&self, name: &str, group: usize, row: usize) -> Result<Vec<T>> {
        let mut numbers = bytemuck::zeroed_vec(self.width::<T>(name)?);
        self.fill_list(name, group, row, &mut numbers)?;
        Ok(numbers)
    }

    /// As many of the `T`s in one row of the binary column `name` as fill `numbers`, beginning with the first.
    pub fn start_of<T: Pod>(&self, name: &str, group: usize, row: usize, numbers: &mut [T]) -> Result<()> {
        let width = self.binary_width::<T>(name)?;
        self.of_column(name, |leaf| self.cells(group, leaf)?.part(row, width, 1, 0, numbers))
    }

    /// How many `T`s each row of the binary column `name` has.
    pub fn binary_width<T: Pod>(&self, name: &str) -> Result<usize> {
        match self.metadata.schema().field_with_name(name).map(|f| f.data_type()) {
            Ok(DataType::FixedSizeBinary(bytes)) => Ok(usize::try_from(*bytes).unwrap_or(0) / size_of::<T>()),
            _ => Err(Error::shard(&self.url, format!("column {name}: it is missing, or not of fixed size"))),
        }
    }

    fn fill_list<T: Pod>(&self, name: &str, group: usize, row: usize, numbers: &mut [T]) -> Result<()> {
        let (width, room) = (self.width::<T>(name)?, numbers.len());
        if width != room {
            let message = format!("column {name}: lists of {width} numbers, the manifest states {room}");
            return Err(Error::shard(&self.url, message));
        }
        self.of_column(name, |leaf| self.cells(group, leaf)?.list(row, numbers))
    }

    /// How many `T`s each list of the column `name` has.
    fn width<T: Pod>(&self, name: &str) -> Result<usize> {
        match self.metadata.schema().field_with_name(name).map(|f| f.data_type()) {
            Ok(DataType::FixedSizeList(item, width)) if item.data_type().primitive_width() == Some(size_of::<T>()) => {
                Ok(usize::try_from(*width).unwrap_or(0))
            }
            Ok(found) => {
                let message = format!("column {name}: it is {found}, which this program does not write");
                Err(Error::shard(&self.url, message))
            }
            Err(_) => Err(Error::shard(&self.url, format!("column {name}: it is missing"))),
        }
    }

    fn cells(&self, group: usize, leaf: usize) -> std::result::Result<Cells<'_>, String> {
        Cells::new(&self.pieces, self.metadata.metadata(), group, leaf)
    }

    /// What `read` gets from the first leaf of the column `name`.
    fn of_column<T>(&self, name: &str, read: impl FnOnce(usize) -> std::result::Result<T, String>) -> Result<T> {
        let leaves = self.metadata.parquet_schema().columns();
        let leaf = leaves.iter().position(|leaf| leaf.path().parts()[0] == name).ok_or("it is missing".to_string());
        leaf.and_then(read).map_err(|message| Error::shard(&self.url, format!("column {name}: {message}")))
    }

    /// One row group's columns of which `is_wanted` accepts the name.
    pub fn columns(&self, group: usize, is_wanted: impl Fn(&str) -> bool) -> Result<RecordBatch> {
        let damaged = |message: String| Error::shard(&self.url, message);
        let pieces = self.pieces.try_clone().map_err(|e| Error::store(&self.url, e))?;
        let schema = self.metadata.schema();
        let columns = schema.fields().iter().enumerate().filter(|(_, f)| is_wanted(f.name())).map(|(n, _)| n);
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

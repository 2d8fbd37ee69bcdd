//! The column of images. Row groups are read when they are needed, so that data sets may be larger than memory.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::ProjectionMask;
use serde_json::Value;

use super::cells::ClassLabels;
use crate::error::{Error, Result};
use crate::format::schema::HUGGING_FACE_KEY;

/// A row's image.
#[derive(Clone)]
pub struct ParquetImage {
    pub(super) file: Arc<ImageFile>,
    pub(super) group: usize,
    pub(super) row: usize,
}

impl ParquetImage {
    /// The compressed image; the error is the reason for quarantine.
    pub fn read(&self) -> std::result::Result<Bytes, String> {
        let images = self.file.images(self.group)?;
        match images.is_valid(self.row) {
            true => Ok(Bytes::copy_from_slice(images.as_binary::<i64>().value(self.row))),
            false => Err(format!("column {} holds no image bytes in this row", self.file.column)),
        }
    }

    /// The file it lies in.
    pub fn file(&self) -> &Path {
        &self.file.path
    }
}

impl fmt::Debug for ParquetImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, row group {}, row {}", self.file.path.display(), self.group, self.row)
    }
}

/// A row group's images, read by the first thread that needs them.
type Slot = Arc<OnceLock<std::result::Result<ArrayRef, String>>>;

/// A Parquet file with a column of images.
pub(super) struct ImageFile {
    path: PathBuf,
    column: String,
    metadata: ArrowReaderMetadata,
    labels: ClassLabels,
    /// The row groups that were read last, oldest first: one for each thread, since each may be in another.
    read: Mutex<VecDeque<(usize, Slot)>>,
}

impl ImageFile {
    /// Opens a file whose images lie in `column`.
    pub fn open(path: &Path, column: &str) -> Result<Self> {
        let refuse = |message: String| Error::invalid(path.display().to_string(), message);
        let file = File::open(path).map_err(|e| Error::file(path, e))?;
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())
            .map_err(|e| refuse(format!("not a readable Parquet file: {e}")))?;
        if let Ok(field) = metadata.schema().field_with_name(column) {
            if !holds_images(field.data_type()) {
                let message =
                    format!("column {column}: it is {}; give bytes, or a struct with `bytes`", field.data_type());
                return Err(refuse(message));
            }
        }
        let labels = class_labels(&metadata);
        Ok(Self { path: path.into(), column: column.into(), metadata, labels, read: Mutex::default() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    pub fn num_groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    pub fn num_rows(&self, group: usize) -> usize {
        usize::try_from(self.metadata.metadata().row_group(group).num_rows()).unwrap_or(0)
    }

    /// The columns that `datasets` describes as class labels.
    pub fn class_labels(&self) -> &ClassLabels {
        &self.labels
    }

    /// These columns of one row group.
    pub fn light(&self, group: usize, columns: &BTreeSet<&str>) -> Result<RecordBatch> {
        let refuse = |message| Error::invalid(self.path.display().to_string(), message);
        self.batch(group, |name| columns.contains(name)).map_err(refuse)
    }

    fn images(&self, group: usize) -> std::result::Result<ArrayRef, String> {
        let slot = {
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            match read.iter().position(|(known, _)| *known == group).and_then(|at| read.remove(at)) {
                Some(known) => read.push_back(known),
                None => read.push_back((group, Slot::default())),
            }
            if read.len() > rayon::current_num_threads() + 1 {
                read.pop_front();
            }
            read.back().expect("just put there").1.clone()
        };
        slot.get_or_init(|| self.read_images(group)).clone()
    }

    fn read_images(&self, group: usize) -> std::result::Result<ArrayRef, String> {
        let batch = self.batch(group, |name| name == self.column)?;
        let column = batch.column_by_name(&self.column).ok_or("the column of images is gone")?;
        let bytes = column.as_struct_opt().map_or(Some(column), |parts| parts.column_by_name("bytes"));
        cast(bytes.ok_or("it has no `bytes`")?, &DataType::LargeBinary).map_err(|e| e.to_string())
    }

    fn batch(&self, group: usize, wanted: impl Fn(&str) -> bool) -> std::result::Result<RecordBatch, String> {
        let file = File::open(&self.path).map_err(|e| e.to_string())?;
        let fields = self.schema().fields().iter().enumerate();
        let columns = fields.filter(|(_, field)| wanted(field.name())).map(|(n, _)| n);
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), columns);
        let mut reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_projection(mask)
            .with_row_groups(vec![group])
            .with_batch_size(self.num_rows(group).max(1))
            .build()
            .map_err(|e| format!("not a readable Parquet file: {e}"))?;
        let batch = reader.next().ok_or_else(|| format!("row group {group} is empty"))?;
        batch.map_err(|e| format!("row group {group} cannot be read: {e}"))
    }
}

fn holds_images(kind: &DataType) -> bool {
    let bytes = |kind: &DataType| matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
    match kind {
        DataType::Struct(fields) => fields.iter().any(|field| field.name() == "bytes" && bytes(field.data_type())),
        kind => bytes(kind),
    }
}

/// The names of the classes in `datasets`' description of the columns, which lies in the file's metadata.
fn class_labels(metadata: &ArrowReaderMetadata) -> ClassLabels {
    let Some(text) = metadata.schema().metadata().get(HUGGING_FACE_KEY) else { return ClassLabels::new() };
    let described: Value = serde_json::from_str(text).unwrap_or_default();
    let Some(features) = described["info"]["features"].as_object() else { return ClassLabels::new() };
    let names = |feature: &Value| -> Option<Vec<String>> {
        let names = feature["names"].as_array().filter(|_| feature["_type"] == "ClassLabel")?;
        names.iter().map(|name| name.as_str().map(str::to_string)).collect()
    };
    features.iter().filter_map(|(column, feature)| Some((column.clone(), names(feature)?))).collect()
}

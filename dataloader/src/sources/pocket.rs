//! The embedded emoji: one Parquet file of transparent images with labels, an emotion map and published splits.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};

use super::{Content, Item, Listing};
use crate::error::{Error, Result};

/// The section `source` of kind `pocket`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PocketConfig {
    /// The Parquet file.
    pub path: PathBuf,
}

/// The emoji of a Parquet file.
pub(super) fn list(config: &PocketConfig) -> Result<Listing> {
    let path = &config.path;
    let refuse = |message: String| Error::invalid(path.display().to_string(), message);
    let file = File::open(path).map_err(|e| refuse(e.to_string()))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(|builder| builder.build())
        .map_err(|e| refuse(format!("not a readable Parquet file: {e}")))?;
    let mut items = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|e| refuse(format!("not a readable Parquet file: {e}")))?;
        items.extend(items_of(&batch, path)?);
    }
    Ok(Listing { items, ..Listing::default() })
}

fn items_of(batch: &RecordBatch, path: &Path) -> Result<Vec<Item>> {
    let refuse = |message: String| Error::invalid(path.display().to_string(), message);
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| refuse(format!("column {name} is missing")));
    let images = column("image")?.as_binary_opt::<i32>().ok_or_else(|| refuse("column image is not binary".into()))?;
    let texts = |name: &str| Texts::of(column(name)?).ok_or_else(|| refuse(format!("column {name} is not text")));
    let lists =
        |name: &str| Lists::of(column(name)?).ok_or_else(|| refuse(format!("column {name} is not lists of text")));
    let (set, hexcode, label, kind) = (texts("set")?, texts("hexcode")?, texts("label")?, texts("kind")?);
    let (base, split, emotion) = (texts("base")?, texts("split")?, texts("emotion")?);
    let (tags, emotions) = (lists("tags")?, lists("emotions")?);
    let item = |row: usize| -> Result<Item> {
        let attributes = json!({
            "kind": kind.get(row), "set": set.get(row), "hexcode": hexcode.get(row), "label": label.get(row),
            "tags": tags.get(row), "base": base.get(row), "emotions": emotions.get(row),
        });
        let emotion = emotion.get(row).map(|word| word.parse()).transpose();
        Ok(Item {
            path: format!("{}/{}", set.get(row).unwrap_or_default(), hexcode.get(row).unwrap_or_default()),
            content: Content::Bytes(Bytes::copy_from_slice(images.value(row))),
            split: split.get(row).map(str::to_string),
            emotion: emotion.map_err(|e: emotions::UnknownEmotion| refuse(format!("row {row}: {e}")))?,
            namespace: Some("expressed".into()),
            label: label.get(row).map(str::to_string),
            subject: None,
            state: None,
            valence: None,
            arousal: None,
            ambiguity: None,
            attributes,
        })
    };
    (0..batch.num_rows()).map(item).collect()
}

/// A column of text with nulls.
struct Texts<'a>(&'a arrow::array::StringArray);

impl<'a> Texts<'a> {
    fn of(column: &'a ArrayRef) -> Option<Self> {
        column.as_string_opt::<i32>().map(Self)
    }

    fn get(&self, row: usize) -> Option<&'a str> {
        self.0.is_valid(row).then(|| self.0.value(row))
    }
}

/// A column of lists of text.
struct Lists<'a>(&'a arrow::array::ListArray);

impl<'a> Lists<'a> {
    fn of(column: &'a ArrayRef) -> Option<Self> {
        column.as_list_opt::<i32>().filter(|list| list.values().as_string_opt::<i32>().is_some()).map(Self)
    }

    fn get(&self, row: usize) -> Value {
        let words = self.0.value(row);
        words.as_string::<i32>().iter().flatten().collect()
    }
}

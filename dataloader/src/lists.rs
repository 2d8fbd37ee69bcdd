//! The columns of half-precision lists, taken out of their Parquet pages as they lie there.
//!
//! A shard's lists are all of one length, never null, and written plain: behind its levels a page holds the numbers end
//! to end. Arrow's reader rebuilds each list from the levels of each number, which takes most of a shard's reading.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use half::f16;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageReader};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::SerializedPageReader;

use crate::store::Pieces;

/// Lists of equal length, laid end to end.
pub struct Lists {
    values: Vec<f16>,
    width: usize,
}

impl Lists {
    /// The column `name` of row group `group`; None if the file has no such column.
    pub fn read(
        pieces: &Arc<Pieces>, schema: &Schema, metadata: &ParquetMetaData, group: usize, name: &str,
    ) -> Result<Option<Self>, String> {
        let Ok(field) = schema.field_with_name(name) else { return Ok(None) };
        let DataType::FixedSizeList(_, width) = field.data_type() else {
            return Err(format!("column {name} is {}, which this program does not write", field.data_type()));
        };
        let leaves = metadata.file_metadata().schema_descr().columns();
        let is_it = |leaf: &parquet::schema::types::ColumnDescPtr| leaf.path().parts()[0] == name;
        let leaf = leaves.iter().position(is_it).ok_or_else(|| format!("column {name} is missing"))?;
        let group = metadata.row_group(group);
        let (rows, width) = (group.num_rows() as usize, usize::try_from(*width).unwrap_or(0));
        let pages = SerializedPageReader::new(pieces.clone(), group.column(leaf), rows, None);
        let values =
            numbers(pages.map_err(|e| e.to_string())?, rows * width).map_err(|e| format!("column {name}: {e}"))?;
        Ok(Some(Self { values, width }))
    }

    /// List `row`.
    pub fn get(&self, row: usize) -> Vec<f16> {
        self.values[row * self.width..(row + 1) * self.width].to_vec()
    }
}

/// The `count` numbers of a column chunk.
fn numbers(mut pages: impl PageReader, count: usize) -> Result<Vec<f16>, String> {
    let mut values = Vec::with_capacity(count);
    while let Some(page) = pages.get_next_page().map_err(|e| e.to_string())? {
        let encoding = page.encoding();
        if encoding != Encoding::PLAIN {
            return Err(format!("its encoding {encoding} is not what this program writes"));
        }
        let numbers = match &page {
            Page::DataPage { buf, .. } => behind_levels(buf).ok_or("a page ends within its levels")?,
            Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
                let levels = (def_levels_byte_len + rep_levels_byte_len) as usize;
                buf.get(levels..).ok_or("a page ends within its levels")?
            }
            Page::DictionaryPage { .. } => return Err("it has a dictionary, which this program does not write".into()),
        };
        values.extend(numbers.chunks_exact(2).map(|pair| f16::from_le_bytes([pair[0], pair[1]])));
    }
    match values.len() == count {
        true => Ok(values),
        false => Err(format!("{} numbers, {count} belong there", values.len())),
    }
}

/// What follows a page's repetition and definition levels, each of which states its length.
fn behind_levels(mut page: &[u8]) -> Option<&[u8]> {
    for _ in 0..2 {
        let (length, rest) = page.split_first_chunk::<4>()?;
        page = rest.get(u32::from_le_bytes(*length) as usize..)?;
    }
    Some(page)
}

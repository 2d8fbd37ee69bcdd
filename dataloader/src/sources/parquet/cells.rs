//! Light columns of another program's Parquet file: words, numbers, and the cells that become attributes.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{cast_with_options, CastOptions};
use arrow::datatypes::{DataType, Float32Type, Int64Type};
use serde_json::{Map, Value};

type Result<T> = std::result::Result<T, String>;

/// The names of class labels, by column.
pub type ClassLabels = BTreeMap<String, Vec<String>>;

/// One column's cells; empty for a column that the recipe does not name.
pub struct Cells<'a> {
    column: Option<ArrayRef>,
    /// The names behind integers.
    names: Option<&'a [String]>,
}

impl<'a> Cells<'a> {
    /// The column `name` as text; numbers of class labels become their names.
    pub fn words(batch: &RecordBatch, name: Option<&str>, labels: &'a ClassLabels) -> Result<Self> {
        let Some(name) = name else { return Ok(Self { column: None, names: None }) };
        let names = labels.get(name).map(Vec::as_slice);
        let kind = if names.is_some() { DataType::Int64 } else { DataType::Utf8 };
        let column = cast_to(batch, name, &kind)?;
        if let (Some(names), Some(numbers)) = (names, column.as_primitive_opt::<Int64Type>()) {
            // `datasets` writes −1 for an unknown label.
            let wrong = numbers.iter().flatten().find(|&n| n < -1 || n >= names.len() as i64);
            if let Some(number) = wrong {
                return Err(format!("column {name}: class {number}; there are {} classes", names.len()));
            }
        }
        Ok(Self { column: Some(column), names })
    }

    /// The column `name` as numbers.
    pub fn numbers(batch: &RecordBatch, name: Option<&str>) -> Result<Self> {
        let column = name.map(|name| cast_to(batch, name, &DataType::Float32)).transpose()?;
        Ok(Self { column, names: None })
    }

    /// A row's word; none if it is missing or empty.
    pub fn word(&self, row: usize) -> Option<String> {
        let column = self.column.as_ref().filter(|column| column.is_valid(row))?;
        let word = match self.names {
            Some(names) => names.get(usize::try_from(column.as_primitive::<Int64Type>().value(row)).ok()?)?.as_str(),
            None => column.as_string::<i32>().value(row),
        };
        Some(word.trim().to_string()).filter(|word| !word.is_empty())
    }

    /// A row's number, if it has a finite one.
    pub fn number(&self, row: usize) -> Option<f32> {
        let column = self.column.as_ref().filter(|column| column.is_valid(row))?;
        Some(column.as_primitive::<Float32Type>().value(row)).filter(|number| number.is_finite())
    }
}

fn cast_to(batch: &RecordBatch, name: &str, kind: &DataType) -> Result<ArrayRef> {
    let column = batch.column_by_name(name).ok_or_else(|| format!("column {name} is missing"))?;
    // A cell of another type is an error, not an empty cell.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, kind, &options)
        .map_err(|e| format!("column {name}: it is {}, not to be read as {kind}: {e}", column.data_type()))
}

/// Each row's cells in the columns `names` as a JSON object; empty cells are left out.
pub fn attributes(batch: &RecordBatch, names: &[String]) -> Result<Vec<Map<String, Value>>> {
    if names.is_empty() {
        return Ok(vec![Map::new(); batch.num_rows()]);
    }
    let columns: std::result::Result<Vec<usize>, _> = names.iter().map(|name| batch.schema().index_of(name)).collect();
    let failed = |e: arrow::error::ArrowError| format!("columns {}: {e}", names.join(", "));
    let chosen = columns.and_then(|columns| batch.project(&columns)).map_err(failed)?;
    let mut writer = arrow::json::ArrayWriter::new(Vec::new());
    writer.write(&chosen).and_then(|()| writer.finish()).map_err(failed)?;
    serde_json::from_slice(&writer.into_inner()).map_err(|e| format!("columns {}: {e}", names.join(", ")))
}

/// Whether a column can become an attribute: bytes, and types that contain them, cannot.
pub fn is_describable(kind: &DataType) -> bool {
    match kind {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => false,
        DataType::Struct(fields) => fields.iter().all(|field| is_describable(field.data_type())),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => is_describable(item.data_type()),
        DataType::Dictionary(_, value) => is_describable(value),
        _ => true,
    }
}

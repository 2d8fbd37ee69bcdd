//! The tables of Hugging Face's imagefolder: metadata.jsonl, metadata.csv and metadata.parquet, a row an image.

use std::fs::File;
use std::path::Path;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use recipe::text_file;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

use super::kinds::Table;
use crate::error::{Error, Result};

/// The end of names of columns that name images; `file_name` alone names the row's own image.
const NAMES_AN_IMAGE: &str = "_file_name";

/// A row; keys beyond these become attributes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Row {
    /// File and line, for messages.
    #[serde(skip)]
    pub place: String,
    /// The image's path from the table's folder.
    #[serde(deserialize_with = "word")]
    pub file_name: Option<String>,
    #[serde(deserialize_with = "word")]
    pub split: Option<String>,
    #[serde(deserialize_with = "word")]
    pub emotion: Option<String>,
    #[serde(deserialize_with = "word")]
    pub label: Option<String>,
    pub valence: Option<f32>,
    pub arousal: Option<f32>,
    pub ambiguity: Option<f32>,
    #[serde(flatten)]
    pub attributes: Map<String, Value>,
}

impl Row {
    fn new(place: String, object: Map<String, Value>) -> Result<Self> {
        let refuse = |message: String| Error::invalid(&place, message);
        let mut row: Row = serde_json::from_value(Value::Object(object)).map_err(|e| refuse(e.to_string()))?;
        if row.file_name.is_none() {
            row.file_name = Some(row.only_image().map_err(refuse)?);
        }
        Ok(Self { place, ..row })
    }

    /// The image of a row without `file_name`, if exactly one other column names one, as `datasets` allows.
    fn only_image(&self) -> std::result::Result<String, String> {
        let named: Vec<(&String, &str)> = self.other_images().collect();
        match named[..] {
            [(_, only)] => Ok(only.to_string()),
            [] => Err("has no file_name".into()),
            _ => {
                let columns: Vec<&str> = named.iter().map(|(column, _)| column.as_str()).collect();
                Err(format!(
                    "{} name an image each; call that of the image to be read file_name",
                    columns.join(" and ")
                ))
            }
        }
    }

    /// The images that columns beside `file_name` name.
    pub fn other_images(&self) -> impl Iterator<Item = (&String, &str)> {
        let named = self.attributes.iter().filter(|(column, _)| column.ends_with(NAMES_AN_IMAGE));
        named.filter_map(|(column, value)| Some((column, value.as_str()?)))
    }
}

/// Text, or a number or boolean as text: a class is often a number.
fn word<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text).filter(|text| !text.trim().is_empty())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Bool(truth) => Ok(Some(truth.to_string())),
        other => Err(serde::de::Error::custom(format!("{other} is neither a word nor a number"))),
    }
}

/// The rows of the table at `path`. An empty table is refused: it was meant to say something.
pub fn read(path: &Path, table: Table) -> Result<Vec<Row>> {
    let name = path.display().to_string();
    let rows = match table {
        Table::Jsonl => jsonl(&name, &text(path)?),
        Table::Csv => csv(&name, &text(path)?),
        Table::Parquet => parquet(&name, path),
    }?;
    match rows.is_empty() {
        true => Err(Error::invalid(name, "has no rows; fill it, or delete it")),
        false => Ok(rows),
    }
}

fn text(path: &Path) -> Result<String> {
    text_file::read(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::InvalidData => Error::invalid(path.display().to_string(), e.to_string()),
        _ => Error::file(path, e),
    })
}

fn jsonl(name: &str, text: &str) -> Result<Vec<Row>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let row = |(n, line): (usize, &str)| {
        let place = format!("{name}, line {}", n + 1);
        let object = serde_json::from_str(line).map_err(|e| Error::invalid(&place, e.to_string()))?;
        Row::new(place, object)
    };
    lines.map(row).collect()
}

fn csv(name: &str, text: &str) -> Result<Vec<Row>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let heading = reader.headers().map_err(|e| Error::invalid(name, e.to_string()))?.clone();
    let mut rows = Vec::new();
    let mut record = csv::StringRecord::new();
    loop {
        let place = format!("{name}, line {}", reader.position().line());
        if !reader.read_record(&mut record).map_err(|e| Error::invalid(&place, e.to_string()))? {
            return Ok(rows);
        }
        let cells = heading.iter().zip(record.iter()).filter(|(_, cell)| !cell.is_empty());
        rows.push(Row::new(place, cells.map(|(column, cell)| (column.into(), value(column, cell))).collect())?);
    }
}

/// A cell: a number or a boolean if it can be read as one and its column is not for words.
fn value(column: &str, cell: &str) -> Value {
    let words = ["file_name", "split", "emotion", "label"];
    if words.contains(&column) || column.ends_with(NAMES_AN_IMAGE) {
        return cell.into();
    }
    let trimmed = cell.trim();
    let float = || trimmed.parse().ok().and_then(Number::from_f64);
    match trimmed.parse::<i64>().ok().map(Number::from).or_else(float) {
        Some(number) => Value::Number(number),
        None if trimmed.eq_ignore_ascii_case("true") => true.into(),
        None if trimmed.eq_ignore_ascii_case("false") => false.into(),
        None => cell.into(),
    }
}

fn parquet(name: &str, path: &Path) -> Result<Vec<Row>> {
    let file = File::open(path).map_err(|e| Error::file(path, e))?;
    let refuse = |message: String| Error::invalid(name, message);
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build());
    let mut writer = arrow::json::ArrayWriter::new(Vec::new());
    for batch in reader.map_err(|e| refuse(e.to_string()))? {
        batch.and_then(|batch| writer.write(&batch)).map_err(|e| refuse(e.to_string()))?;
    }
    writer.finish().map_err(|e| refuse(e.to_string()))?;
    let written = writer.into_inner();
    let objects: Vec<Map<String, Value>> = match written.is_empty() {
        true => Vec::new(),
        false => serde_json::from_slice(&written).map_err(|e| refuse(e.to_string()))?,
    };
    objects.into_iter().enumerate().map(|(n, object)| Row::new(format!("{name}, row {n}"), object)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_numbers_where_they_read_as_such_and_words_stay_words() {
        let text = "file_name,label,valence,depth,sharp,note\n007.jpg,12,-1.5,3,True,\"a, b\"\n1.jpg,,,,,\n";
        let rows = csv("m.csv", text).expect("read");
        assert_eq!((rows[0].file_name.as_deref(), rows[0].label.as_deref()), (Some("007.jpg"), Some("12")));
        assert_eq!(rows[0].valence, Some(-1.5));
        let attributes = serde_json::json!({"depth": 3, "sharp": true, "note": "a, b"});
        assert_eq!(Value::Object(rows[0].attributes.clone()), attributes);
        assert_eq!((rows[1].label.as_deref(), rows[1].attributes.len()), (None, 0));
        assert_eq!(rows[1].place, "m.csv, line 3");
    }

    #[test]
    fn a_row_names_one_image() {
        let file_name =
            |line: &str| jsonl("m", line).map(|mut rows| rows.remove(0).file_name).map_err(|e| e.to_string());
        assert_eq!(file_name(r#"{"photo_file_name": "a.jpg"}"#), Ok(Some("a.jpg".into())));
        assert_eq!(file_name(r#"{"file_name": "a.jpg", "mask_file_name": "b.png"}"#), Ok(Some("a.jpg".into())));
        let two = file_name(r#"{"photo_file_name": "a.jpg", "mask_file_name": "b.png"}"#).expect_err("refused");
        assert!(two.contains("mask_file_name") && two.contains("photo_file_name"), "{two}");
        assert!(file_name("{}").expect_err("refused").contains("m, line 1: has no file_name"));
        assert!(file_name(r#"{"file_name": "a", "label": []}"#).is_err());
        assert_eq!(jsonl("m", r#"{"file_name": "a", "label": 3}"#).expect("read")[0].label.as_deref(), Some("3"));
    }

    #[test]
    fn fuzz_metadata() {
        let lines = b"{\"file_name\": \"a.jpg\", \"emotion\": \"awe\", \"valence\": 1.0}\n{\"file_name\": \"b.jpg\", \"label\": 3}\n";
        let cells = b"file_name,emotion,valence\na.jpg,awe,1.5\nb.jpg,,\n";
        crate::fuzz::fuzz("metadata", &[lines, cells], |input| {
            let Ok(text) = text_file::decode(input.to_vec()) else { return "no text".into() };
            match jsonl("m", &text).or_else(|_| csv("m", &text)) {
                Ok(rows) => {
                    assert!(rows.iter().all(|row| row.file_name.is_some()));
                    format!("read {}", "x".repeat(rows.len().min(4)))
                }
                Err(error) => error.to_string(),
            }
        });
    }
}

//! Images in a column of Parquet files, as the Hugging Face hub stores data sets; the recipe names the columns with
//! the labels.

mod cells;
mod images;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::cells::{attributes, is_describable, Cells};
use self::images::ImageFile;
use super::{pair, split_named, Content, HashSplit, Item, Listing, Namespace};
use crate::error::{Error, Result};

pub use images::ParquetImage;

/// The section `source` of kind `parquet`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParquetConfig {
    /// A file, a folder of them, or a pattern such as `data/train-*.parquet`.
    pub path: PathBuf,
    /// Which columns hold what.
    #[serde(default)]
    pub columns: Columns,
    /// What its labels mean: what viewers felt, or what people in the picture show.
    #[serde(default)]
    pub namespace: Namespace,
    /// How to divide images that neither a column nor their file's name puts into a split.
    #[serde(default)]
    pub splits: HashSplit,
}

/// The names of columns; other columns are not read. Words may be text or `datasets`' class labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    /// Compressed images: `datasets`' struct of bytes and path, or bytes alone.
    pub image: String,
    /// A name for each row, unique over all files. Without it a row is named by its file and number.
    pub path: Option<String>,
    /// One of the eight emotions; `neutral` or nothing for none.
    pub emotion: Option<String>,
    /// The data set's own label. It is the emotion too, if no column is and the label is one of the eight.
    pub label: Option<String>,
    /// Names who or what the picture shows.
    pub subject: Option<String>,
    /// Names the state of the subject. Without it, the emotion or the label is the state.
    pub state: Option<String>,
    /// The published split. Without it, files named as `train-00000-of-00002.parquet` are of the split they name.
    pub split: Option<String>,
    /// What the picture shows, in words: the attribute `caption`.
    pub caption: Option<String>,
    /// −3 to 3.
    pub valence: Option<String>,
    /// 0 to 6.
    pub arousal: Option<String>,
    /// 0 to 6.
    pub ambiguity: Option<String>,
    /// Which columns become attributes. Without it, all that are not named elsewhere and hold no bytes.
    pub attributes: Option<Vec<String>>,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            image: "image".into(),
            path: None,
            emotion: None,
            label: None,
            subject: None,
            state: None,
            split: None,
            caption: None,
            valence: None,
            arousal: None,
            ambiguity: None,
            attributes: None,
        }
    }
}

impl Columns {
    /// The columns with one meaning each, by the key that names them.
    fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let named = [
            ("path", &self.path),
            ("emotion", &self.emotion),
            ("label", &self.label),
            ("subject", &self.subject),
            ("state", &self.state),
            ("split", &self.split),
            ("caption", &self.caption),
            ("valence", &self.valence),
            ("arousal", &self.arousal),
            ("ambiguity", &self.ambiguity),
        ];
        let image = std::iter::once(("image", self.image.as_str()));
        image.chain(named.into_iter().filter_map(|(key, name)| Some((key, name.as_deref()?))))
    }
}

/// The images of Parquet files.
pub(super) fn list(config: &ParquetConfig) -> Result<Listing> {
    let mut items = Vec::new();
    for (name, path) in files(&config.path)? {
        let file = Arc::new(ImageFile::open(&path, &config.columns.image)?);
        items.extend(items_of(config, &name, &file)?);
    }
    let mut names = BTreeSet::new();
    if let Some(item) = items.iter().find(|item| !names.insert(&item.path)) {
        let column = config.columns.path.as_deref().unwrap_or_default();
        let message = format!("column {column}: {:?} names two rows; name each row once, or leave it out", item.path);
        return Err(Error::invalid("source.columns.path", message));
    }
    Ok(Listing { items, ..Listing::default() })
}

/// The files of a path or pattern, sorted by name; their names must differ.
fn files(path: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let refuse = |message: String| Error::invalid("source.path", format!("{}: {message}", path.display()));
    let pattern = match path.is_dir() {
        true => format!("{}/**/*.parquet", glob::Pattern::escape(&path.to_string_lossy())),
        false if path.exists() => glob::Pattern::escape(&path.to_string_lossy()),
        false => path.to_string_lossy().into_owned(),
    };
    let found = glob::glob(&pattern).map_err(|e| refuse(format!("not a pattern of files: {e}")))?;
    let found: Vec<PathBuf> =
        found.collect::<std::result::Result<_, _>>().map_err(|e: glob::GlobError| refuse(e.to_string()))?;
    let found: Vec<PathBuf> = found.into_iter().filter(|path| path.is_file()).collect();
    let Some(first) = found.first() else { return Err(refuse("no Parquet file is there".into())) };
    let shared = found.iter().skip(1).fold(first.parent().unwrap_or(first).to_path_buf(), |shared, path| {
        shared.ancestors().find(|folder| path.starts_with(folder)).map(Path::to_path_buf).unwrap_or_default()
    });
    let name = |path: &PathBuf| path.strip_prefix(&shared).unwrap_or(path).to_string_lossy().into_owned();
    Ok(found.iter().map(|path| (name(path), path.clone())).collect())
}

fn items_of(config: &ParquetConfig, name: &str, file: &Arc<ImageFile>) -> Result<Vec<Item>> {
    let refuse = |message: String| Error::invalid(file.path().display().to_string(), message);
    let described = described(&config.columns, file).map_err(refuse)?;
    let read: Vec<&str> = config.columns.named().skip(1).map(|(_, column)| column).collect();
    let light: BTreeSet<&str> = read.into_iter().chain(described.iter().map(String::as_str)).collect();
    let split = Path::new(name)
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| split_named(name.split(['-', '.', '_']).next().unwrap_or_default()).map(str::to_string));
    let mut items = Vec::new();
    for group in (0..file.num_groups()).filter(|&group| file.num_rows(group) > 0) {
        let batch = file.light(group, &light)?;
        let rows = Rows { config, name, file, first: items.len(), group, split: &split };
        items.extend(rows.items(&batch, &described).map_err(refuse)?);
    }
    Ok(items)
}

/// The columns that become attributes. Every column that a recipe names must exist.
fn described(columns: &Columns, file: &ImageFile) -> std::result::Result<Vec<String>, String> {
    let schema = file.schema();
    let there: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let attributes = columns.attributes.iter().flatten().map(|name| ("attributes", name.as_str()));
    if let Some((key, name)) = columns.named().chain(attributes).find(|(_, name)| !there.contains(name)) {
        return Err(format!("source.columns.{key}: no column {name:?}; there are {}", there.join(", ")));
    }
    if let Some(named) = &columns.attributes {
        return Ok(named.clone());
    }
    let used: BTreeSet<&str> = columns.named().map(|(_, name)| name).collect();
    let (free, bytes): (Vec<_>, Vec<_>) = schema
        .fields()
        .iter()
        .filter(|field| !used.contains(field.name().as_str()))
        .partition(|field| is_describable(field.data_type()));
    for field in bytes {
        tracing::warn!("{}: column {} is left out: it holds bytes", file.path().display(), field.name());
    }
    Ok(free.into_iter().map(|field| field.name().clone()).collect())
}

/// One row group of a file.
struct Rows<'a> {
    config: &'a ParquetConfig,
    /// The file's name.
    name: &'a str,
    file: &'a Arc<ImageFile>,
    /// Rows of the file before the group.
    first: usize,
    group: usize,
    /// The split that the file's name means.
    split: &'a Option<String>,
}

impl Rows<'_> {
    fn items(&self, batch: &RecordBatch, described: &[String]) -> std::result::Result<Vec<Item>, String> {
        let columns = &self.config.columns;
        let words = |name: &Option<String>| Cells::words(batch, name.as_deref(), self.file.class_labels());
        let numbers = |name: &Option<String>| Cells::numbers(batch, name.as_deref());
        let (paths, emotions, labels) = (words(&columns.path)?, words(&columns.emotion)?, words(&columns.label)?);
        let (subjects, states, splits) = (words(&columns.subject)?, words(&columns.state)?, words(&columns.split)?);
        let captions = words(&columns.caption)?;
        let (valence, arousal) = (numbers(&columns.valence)?, numbers(&columns.arousal)?);
        let ambiguity = numbers(&columns.ambiguity)?;
        let attributes = attributes(batch, described)?;
        let item = |(row, mut attributes): (usize, serde_json::Map<String, Value>)| {
            let number = self.first + row;
            let (emotion, label) = (emotions.word(row), labels.word(row));
            let category = match (&emotion, &label) {
                (Some(word), _) => pair::emotion_of(word).map_err(|e| format!("row {number}: {e}"))?,
                (None, label) => label.as_ref().and_then(|word| word.parse().ok()),
            };
            if let Some(caption) = captions.word(row) {
                attributes.insert("caption".into(), Value::String(caption));
            }
            let label = label.or(emotion);
            let split = splits.word(row).map(|word| split_named(&word).map_or(word, str::to_string));
            let item = Item {
                path: paths.word(row).unwrap_or_else(|| format!("{}#{number:07}", self.name)),
                content: Content::Parquet(ParquetImage { file: self.file.clone(), group: self.group, row }),
                split: split.or_else(|| self.split.clone().filter(|_| columns.split.is_none())),
                emotion: category,
                namespace: label.is_some().then(|| self.config.namespace.name().to_string()),
                label,
                subject: subjects.word(row),
                state: states.word(row),
                valence: valence.number(row),
                arousal: arousal.number(row),
                ambiguity: ambiguity.number(row),
                attributes: Value::Object(attributes),
            };
            Ok(item.with_pair())
        };
        attributes.into_iter().enumerate().map(item).collect()
    }
}

//! Plain folders of images in the layout of Hugging Face's imagefolder (`datasets`, folder_based_builder.py):
//! `<root>/[<split>/][<label>/]*.jpg`, with or without tables (metadata.jsonl, .csv or .parquet, in any folder),
//! whose rows add to what the folders say. Every entry below the root is read, quarantined or counted.

mod entries;
mod kinds;
mod metadata;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

pub use self::entries::Entries;
use self::metadata::Row;
use self::names::{split_among, Names};
use super::pair::{self, PairKeys};
use super::{split_named, Content, HashSplit, Item, Listing, Namespace};
use crate::error::{Error, Result};
use crate::format::manifest::Quarantined;

/// The section `source` of kind `folder`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderConfig {
    /// The folder.
    pub path: PathBuf,
    /// What its labels mean: what viewers felt, or what people in the picture show.
    #[serde(default)]
    pub namespace: Namespace,
    /// The keys of the metadata that name an image's subject and the subject's state.
    #[serde(default)]
    pub pairs: PairKeys,
    /// How to divide images that neither a folder nor metadata puts into a split.
    #[serde(default)]
    pub splits: HashSplit,
    /// Images to leave out, by file name without its suffix.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// The images below a folder.
pub(super) fn list(config: &FolderConfig) -> Result<Listing> {
    let root = &config.path;
    if !root.is_dir() {
        return Err(Error::invalid("source.path", format!("{}: no such folder", root.display())));
    }
    let Entries { images, tables, foreign_tables, mut quarantined, mut account } = Entries::below(root)?;
    if let Some(table) = foreign_tables.first() {
        let message =
            "is not read; imagefolder's tables are metadata.jsonl, metadata.csv and metadata.parquet: convert \
                       it, or give it another name";
        return Err(Error::invalid(root.join(table).display().to_string(), message));
    }
    let paths: Vec<String> = images.into_iter().collect();
    let mut described = Described::new(root, &paths);
    for (path, table) in &tables {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        described.take(&root.join(path), folder, metadata::read(&root.join(path), *table)?)?;
    }
    let Described { mut rows, parts, missing, .. } = described;
    quarantined.extend(missing);
    let excluded = Excluded::new(&config.exclude, &paths)?;
    let folders: BTreeSet<&str> = tables.keys().map(|path| path.rsplit_once('/').map_or("", |(f, _)| f)).collect();
    let mut items = Vec::with_capacity(paths.len());
    for (n, path) in paths.iter().enumerate() {
        let row = rows.remove(&n);
        match row {
            _ if excluded.has(path) => account.excluded += 1,
            None if parts.contains(&n) => account.parts_of_rows += 1,
            row => {
                account.without_row += u64::from(row.is_none() && is_below(path, &folders));
                items.push(item(config, path, row)?);
            }
        }
    }
    Ok(Listing { items, quarantined, account, ..Listing::default() })
}

/// Whether a file lies in one of these folders or deeper.
fn is_below(path: &str, folders: &BTreeSet<&str>) -> bool {
    folders
        .iter()
        .any(|folder| path.strip_prefix(folder).is_some_and(|rest| folder.is_empty() || rest.starts_with('/')))
}

/// What tables say of the images, by the images' numbers.
struct Described<'a> {
    names: Names<'a>,
    rows: BTreeMap<usize, Row>,
    /// Images that columns beside `file_name` name.
    parts: BTreeSet<usize>,
    /// Rows whose image is not there.
    missing: Vec<Quarantined>,
}

impl<'a> Described<'a> {
    fn new(root: &'a Path, paths: &'a [String]) -> Self {
        let names = Names::new(root, paths);
        Self { names, rows: BTreeMap::new(), parts: BTreeSet::new(), missing: Vec::new() }
    }

    /// Applies the rows of the table at `path` in `folder`. A table without any row that matches an image is an
    /// error: it lies in the wrong place.
    fn take(&mut self, path: &Path, folder: &str, rows: Vec<Row>) -> Result<()> {
        let before = self.rows.len();
        let count = rows.len();
        let mut first = None;
        for row in rows {
            let refuse = |message: String| Error::invalid(&row.place, message);
            for (_, name) in row.other_images() {
                self.parts.extend(self.names.find(folder, name).map_err(refuse)?);
            }
            let name = row.file_name.as_deref().unwrap_or_default();
            match self.names.find(folder, name).map_err(refuse)? {
                Ok(n) => match self.rows.get(&n) {
                    Some(other) => return Err(refuse(format!("{name} is described twice, before in {}", other.place))),
                    None => drop(self.rows.insert(n, row)),
                },
                Err(gone) => {
                    first.get_or_insert_with(|| gone.clone());
                    let reason = format!("{}: there is no such image", row.place);
                    self.missing.push(Quarantined { path: gone, reason });
                }
            }
        }
        match first {
            Some(first) if self.rows.len() == before => Err(Error::invalid(
                path.display().to_string(),
                format!(
                    "none of its {count} rows names an image that is there; the first means {first}: file_name is the \
                     path from the table's own folder on"
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// The images that the recipe leaves out, by file name without its suffix.
struct Excluded(BTreeSet<String>);

impl Excluded {
    /// Every name must be an image's: otherwise a list for another data set, or a misspelt name, would go unnoticed.
    fn new(names: &[String], paths: &[String]) -> Result<Self> {
        let there: BTreeSet<String> =
            if names.is_empty() { BTreeSet::new() } else { paths.iter().map(|p| stem(p)).collect() };
        if let Some(name) = names.iter().find(|name| !there.contains(&composed(name))) {
            let message = format!("{name:?}: no image has this name (without its suffix)");
            return Err(Error::invalid("source.exclude", message));
        }
        Ok(Self(names.iter().map(|name| composed(name)).collect()))
    }

    fn has(&self, path: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&stem(path))
    }
}

fn stem(path: &str) -> String {
    composed(&Path::new(path).file_stem().unwrap_or_default().to_string_lossy())
}

/// A name in Unicode's form C, so that one word is one label on every system.
fn composed(name: &str) -> String {
    name.nfc().collect()
}

/// The split and the label that a file's folders name: the label is the folder after the split's, or the one before
/// it.
fn said_by_folders(path: &str) -> (Option<&'static str>, Option<String>) {
    let mut folders: Vec<&str> = path.split('/').collect();
    folders.pop();
    match split_among(&folders) {
        None => (None, folders.first().map(|label| composed(label))),
        Some((n, split)) => {
            let label = folders.get(n + 1).or_else(|| n.checked_sub(1).map(|before| &folders[before]));
            (Some(split), label.map(|label| composed(label)))
        }
    }
}

fn item(config: &FolderConfig, path: &str, row: Option<Row>) -> Result<Item> {
    let (split, label) = said_by_folders(path);
    let mut row = row.unwrap_or_default();
    let (subject, state) =
        config.pairs.take(&mut row.attributes).map_err(|e| Error::invalid(&row.place, format!("{path}: {e}")))?;
    let label = row.label.or(label);
    let emotion = match (&row.emotion, &label) {
        (Some(word), _) => pair::emotion_of(word).map_err(|e| Error::invalid(&row.place, format!("{path}: {e}")))?,
        (None, label) => label.as_ref().and_then(|word| word.parse().ok()),
    };
    let label = label.or_else(|| row.emotion.filter(|_| emotion.is_none()));
    let named = row.split.map(|word| split_named(&word).map_or(word, str::to_string));
    Ok(Item {
        content: Content::File(config.path.join(path)),
        split: named.or(split.map(str::to_string)),
        namespace: (emotion.is_some() || label.is_some()).then(|| config.namespace.name().to_string()),
        emotion,
        label,
        subject,
        state,
        valence: row.valence,
        arousal: row.arousal,
        ambiguity: row.ambiguity,
        attributes: Value::Object(row.attributes),
        path: path.into(),
    }
    .with_pair())
}

#[cfg(test)]
mod tests {
    use super::*;
    use emotions::Emotion;
    use std::fs;

    fn config(path: &Path) -> FolderConfig {
        FolderConfig {
            path: path.into(),
            namespace: Namespace::Evoked,
            pairs: PairKeys::default(),
            splits: HashSplit::default(),
            exclude: Vec::new(),
        }
    }

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, FolderConfig) {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, content).expect("written");
        }
        let config = config(folder.path());
        (folder, config)
    }

    #[test]
    fn folders_give_split_label_and_emotion() {
        let files = [("train/awe/a.JPG", ""), ("joy/b.png", ""), ("c.webp", ""), ("notes.txt", ""), (".x/d.png", "")];
        let (_folder, config) = tree(&files);
        let mut items = list(&config).expect("listed").items;
        items.sort_by(|a, b| a.path.cmp(&b.path));
        let seen: Vec<_> =
            items.iter().map(|i| (i.path.as_str(), i.split.as_deref(), i.label.as_deref(), i.emotion)).collect();
        assert_eq!(
            seen,
            [
                ("c.webp", None, None, None),
                ("joy/b.png", None, Some("joy"), None),
                ("train/awe/a.JPG", Some("train"), Some("awe"), Some(Emotion::Awe)),
            ]
        );
        assert_eq!(items[0].namespace, None);
        assert_eq!(items[1].namespace.as_deref(), Some("evoked"));
    }

    #[test]
    fn a_table_of_another_kind_is_refused() {
        let (_folder, config) = tree(&[("0.jpg", ""), ("train/metadata.json", "[]")]);
        let error = list(&config).expect_err("refused").to_string();
        assert!(error.contains("train/metadata.json") && error.contains("metadata.jsonl"), "{error}");
    }

    #[test]
    fn named_images_are_left_out_and_every_name_must_be_one() {
        let (_folder, config) = tree(&[("1.jpg", ""), ("11.jpg", ""), ("test/111.png", "")]);
        let left = |exclude: &[&str]| {
            let exclude = exclude.iter().map(|name| name.to_string()).collect();
            list(&FolderConfig { exclude, ..config.clone() })
        };
        let mut paths: Vec<String> = left(&["11", "111"]).expect("listed").items.into_iter().map(|i| i.path).collect();
        paths.sort();
        assert_eq!(paths, ["1.jpg"]);
        let error = left(&["11", "1111"]).expect_err("there is no 1111").to_string();
        assert!(error.contains("source.exclude") && error.contains("1111"), "{error}");
    }

    #[test]
    fn metadata_adds_and_missing_images_are_counted() {
        let lines = concat!(
            r#"{"file_name": "a.png", "emotion": "fear", "split": "test", "valence": -2, "scene": "cave"}"#,
            "\n\n",
            r#"{"file_name": "gone.png"}"#
        );
        let (_folder, config) = tree(&[("a.png", ""), ("metadata.jsonl", lines)]);
        let listing = list(&config).expect("listed");
        let item = &listing.items[0];
        assert_eq!(
            (item.emotion, item.split.as_deref(), item.valence),
            (Some(Emotion::Fear), Some("test"), Some(-2.0))
        );
        assert_eq!(item.attributes["scene"], "cave");
        assert_eq!(listing.quarantined[0].path, "gone.png");
    }

    #[test]
    fn broken_metadata_names_its_line() {
        for (text, part) in [
            ("{\"file_name\": \"a.png\"}\n{", "line 2"),
            ("{\"file_name\": \"a.png\", \"emotion\": \"joy\"}", "unknown emotion"),
            ("{\"file_name\": \"a.png\"}\n{\"file_name\": \"a.png\"}", "twice"),
        ] {
            let (_folder, config) = tree(&[("a.png", ""), ("metadata.jsonl", text)]);
            let error = list(&config).expect_err("refused").to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn tables_that_are_of_no_use_are_refused_and_images_without_a_row_are_counted() {
        let row = r#"{"file_name": "0.jpg", "emotion": "awe"}"#;
        let (_folder, config) = tree(&[("train/0.jpg", ""), ("metadata.jsonl", row)]);
        let error = list(&config).expect_err("refused").to_string();
        assert!(error.contains("none of its 1 rows") && error.contains("0.jpg"), "{error}");
        let (_folder, config) = tree(&[("0.jpg", ""), ("metadata.csv", "file_name,emotion\n")]);
        assert!(list(&config).expect_err("refused").to_string().contains("has no rows"));
        let (_folder, config) = tree(&[("a/0.jpg", ""), ("a/1.jpg", ""), ("b/2.jpg", ""), ("a/metadata.jsonl", row)]);
        let listing = list(&config).expect("listed");
        assert_eq!((listing.items.len(), listing.account.without_row), (3, 1));
        let two = [("a/0.jpg", ""), ("a/metadata.jsonl", row), ("metadata.csv", "file_name,emotion\na/0.jpg,fear\n")];
        let (_folder, config) = tree(&two);
        assert!(list(&config).expect_err("refused").to_string().contains("described twice"));
    }

    #[test]
    fn other_columns_images_are_parts_of_their_row() {
        let row = r#"{"file_name": "0.jpg", "mask_file_name": "0_mask.png", "emotion": "awe"}"#;
        let (_folder, config) = tree(&[("0.jpg", ""), ("0_mask.png", ""), ("metadata.jsonl", row)]);
        let listing = list(&config).expect("listed");
        assert_eq!((listing.items.len(), listing.account.parts_of_rows), (1, 1));
        assert_eq!(listing.items[0].attributes["mask_file_name"], "0_mask.png");
    }

    #[test]
    fn an_excluded_image_is_not_missed_by_its_row() {
        let lines = "{\"file_name\": \"0.jpg\"}\n{\"file_name\": \"1.jpg\"}\n";
        let (_folder, config) = tree(&[("0.jpg", ""), ("1.jpg", ""), ("metadata.jsonl", lines)]);
        let listing = list(&FolderConfig { exclude: vec!["1".into()], ..config }).expect("listed");
        assert_eq!((listing.items.len(), listing.quarantined.len(), listing.account.excluded), (1, 0, 1));
    }

    #[test]
    fn a_missing_folder_is_named() {
        assert!(list(&config("no/such".as_ref())).expect_err("refused").to_string().contains("no/such"));
    }
}

//! Where images and labels come from. Each kind of source is one file that lists its images as [`Item`]s; the code
//! after that does not depend on the kind.

mod emoset;
pub mod fetch;
mod findingemo;
mod folder;
mod pair;
mod parquet;
mod plutchik;

use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use emotions::{Emotion, Namespace};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::format::account::Account;
use crate::format::manifest::Quarantined;

pub use emoset::EmosetConfig;
pub use findingemo::FindingemoConfig;
pub use folder::{Entries, FolderConfig};
pub use parquet::{ParquetConfig, ParquetImage};

/// The section `source` of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum SourceConfig {
    /// EmoSet-118K as released.
    Emoset(EmosetConfig),
    /// FindingEmo's annotations, and the images that could be fetched.
    Findingemo(FindingemoConfig),
    /// A folder of images, by label if it has sub-folders.
    Folder(FolderConfig),
    /// Parquet files with images in a column, as the Hugging Face hub has them.
    Parquet(Box<ParquetConfig>),
}

impl SourceConfig {
    /// The name in the column `source`.
    pub fn name(&self) -> &'static str {
        match self {
            SourceConfig::Emoset(_) => "emoset",
            SourceConfig::Findingemo(_) => "findingemo",
            SourceConfig::Folder(_) => "folder",
            SourceConfig::Parquet(_) => "parquet",
        }
    }

    /// Refuses impossible values.
    pub fn check(&self) -> Result<()> {
        match self {
            SourceConfig::Findingemo(config) => config.splits.check(),
            SourceConfig::Folder(config) => config.splits.check(),
            SourceConfig::Parquet(config) => config.splits.check(),
            SourceConfig::Emoset(_) => Ok(()),
        }
    }

    /// Lists the images, sorted by path, without reading them.
    pub fn list(&self) -> Result<Listing> {
        let mut listing = match self {
            SourceConfig::Emoset(config) => emoset::list(config)?,
            SourceConfig::Findingemo(config) => findingemo::list(config)?,
            SourceConfig::Folder(config) => folder::list(config)?,
            SourceConfig::Parquet(config) => parquet::list(config)?,
        };
        listing.items.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(listing)
    }

    /// How images without a published split are divided.
    pub fn splits(&self) -> HashSplit {
        match self {
            SourceConfig::Findingemo(config) => config.splits.clone(),
            SourceConfig::Folder(config) => config.splits.clone(),
            SourceConfig::Parquet(config) => config.splits.clone(),
            SourceConfig::Emoset(_) => HashSplit::default(),
        }
    }
}

/// The content of a source.
#[derive(Debug, Default)]
pub struct Listing {
    /// Images to read.
    pub items: Vec<Item>,
    /// Images that the source describes but does not contain; that is no error.
    pub missing: Vec<Item>,
    /// Images that are known to be unusable before they are read.
    pub quarantined: Vec<Quarantined>,
    /// What the source holds beside images.
    pub account: Account,
}

/// What a source says of one image.
#[derive(Clone, Debug)]
pub struct Item {
    /// Path in the source, unique.
    pub path: String,
    /// The compressed image.
    pub content: Content,
    /// The published split, if any.
    pub split: Option<String>,
    /// Mikels' category, if any.
    pub emotion: Option<Emotion>,
    /// `evoked` or `expressed`, if there is a label.
    pub namespace: Option<String>,
    /// The source's own label.
    pub label: Option<String>,
    /// Who or what the picture shows, if the source says.
    pub subject: Option<String>,
    /// The state the subject is in: an emotion's name, `neutral`, or another word.
    pub state: Option<String>,
    /// −3 to 3.
    pub valence: Option<f32>,
    /// 0 to 6.
    pub arousal: Option<f32>,
    /// 0 to 6.
    pub ambiguity: Option<f32>,
    /// What else the source says, a JSON object.
    pub attributes: Value,
}

/// A compressed image, read already or not yet.
#[derive(Clone, Debug)]
pub enum Content {
    /// A file.
    File(PathBuf),
    /// Bytes in memory.
    Bytes(Bytes),
    /// A row of a Parquet file.
    Parquet(ParquetImage),
}

/// Words in names of folders, files and cells that name a split, and the split: the words of `datasets`
/// (SPLIT_KEYWORDS).
const SPLITS: [(&str, &str); 10] = [
    ("train", "train"),
    ("training", "train"),
    ("val", "val"),
    ("valid", "val"),
    ("validation", "val"),
    ("dev", "val"),
    ("test", "test"),
    ("testing", "test"),
    ("eval", "test"),
    ("evaluation", "test"),
];

/// The split that the name of a folder or file stands for, if any.
fn split_named(name: &str) -> Option<&'static str> {
    SPLITS.iter().find(|(known, _)| *known == name).map(|(_, split)| *split)
}

/// Refuses a path that would lead outside of its folder.
pub(crate) fn inside(path: &str) -> std::result::Result<(), String> {
    let ordinary = |part: Component<'_>| matches!(part, Component::Normal(_));
    if !path.is_empty() && !path.contains('\0') && Path::new(path).components().all(ordinary) {
        return Ok(());
    }
    Err(format!("the path {path:?} leads outside the data set's folder"))
}

/// Splits by content if none is published: a pure function of `seed` and an image's subject, or its pixels if it has
/// none. So copies of an image and pictures of one subject fall into one split, and new images move no others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HashSplit {
    /// Share of the images held out as `test`.
    pub test_fraction: f64,
    /// Share of the images held out as `val`.
    pub val_fraction: f64,
    /// Another seed gives another division.
    pub seed: u64,
}

impl HashSplit {
    /// The split of the subject of this name, or of the image with this id.
    pub fn of(&self, name: &str) -> &'static str {
        let hash = blake3::hash(format!("{}:{name}", self.seed).as_bytes());
        let head = u32::from_le_bytes(hash.as_bytes()[..4].try_into().expect("four bytes"));
        let place = f64::from(head) / 2f64.powi(32);
        match () {
            () if place < self.test_fraction => "test",
            () if place < self.test_fraction + self.val_fraction => "val",
            () => "train",
        }
    }

    fn check(&self) -> Result<()> {
        let (test, val) = (self.test_fraction, self.val_fraction);
        if test >= 0.0 && val >= 0.0 && test + val <= 1.0 {
            return Ok(());
        }
        Err(Error::invalid("source.splits", format!("test {test} and val {val} are not shares of one whole")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_split_has_its_shares_and_stays() {
        let split = HashSplit { test_fraction: 0.2, val_fraction: 0.1, seed: 0 };
        let count = |name: &str| (0..10_000).filter(|n| split.of(&n.to_string()) == name).count();
        assert!((1850..2150).contains(&count("test")), "{}", count("test"));
        assert!((850..1150).contains(&count("val")), "{}", count("val"));
        assert_eq!(split.of("a"), split.of("a"));
        let other = HashSplit { seed: 1, ..split.clone() };
        assert!((0..100).any(|n| other.of(&n.to_string()) != split.of(&n.to_string())));
    }

    #[test]
    fn impossible_shares_are_refused() {
        let split = |test_fraction| HashSplit { test_fraction, ..HashSplit::default() };
        assert!(split(1.5).check().is_err());
        assert!(split(-0.1).check().is_err());
        assert!(split(f64::NAN).check().is_err());
        assert!(split(1.0).check().is_ok());
    }
}

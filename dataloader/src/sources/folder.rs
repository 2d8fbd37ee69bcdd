//! Plain folders of images as Hugging Face's imagefolder has them: `<root>/[<split>/][<label>/]*.jpg`, with an optional
//! `metadata.jsonl` whose lines add to what the folders say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::pair::{self, PairKeys};
use super::{split_named, Content, HashSplit, Item, Listing, Namespace};
use crate::error::{Error, Result};
use crate::manifest::Quarantined;

const SUFFIXES: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];
const METADATA: &str = "metadata.jsonl";

/// The section `source` of kind `folder`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderConfig {
    /// The folder.
    pub path: PathBuf,
    /// What its labels mean: what viewers felt, or what people in the picture show.
    #[serde(default)]
    pub namespace: Namespace,
    /// The metadata's keys that name an image's subject and the subject's state.
    #[serde(default)]
    pub pairs: PairKeys,
    /// How images that no folder and no metadata puts into a split are divided.
    #[serde(default)]
    pub splits: HashSplit,
    /// Images to leave out, by file name without its suffix.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// A line of metadata.jsonl; keys beyond these become attributes.
#[derive(Debug, Deserialize)]
struct Metadata {
    file_name: String,
    split: Option<String>,
    emotion: Option<String>,
    label: Option<String>,
    valence: Option<f32>,
    arousal: Option<f32>,
    ambiguity: Option<f32>,
    #[serde(flatten)]
    attributes: Map<String, Value>,
}

/// The images below a folder.
pub(super) fn list(config: &FolderConfig) -> Result<Listing> {
    let root = &config.path;
    if !root.is_dir() {
        return Err(Error::invalid("source.path", format!("{}: no such folder", root.display())));
    }
    let mut paths = Vec::new();
    walk(root, "", &mut paths)?;
    leave_out(&config.exclude, &mut paths)?;
    let mut metadata = read_metadata(root)?;
    let mut items = Vec::with_capacity(paths.len());
    for path in paths {
        let line = metadata.remove(&path);
        items.push(item(config, path, line)?);
    }
    let missing = "listed in metadata.jsonl, but there is no such image";
    let quarantined = metadata.into_keys().map(|path| Quarantined { path, reason: missing.into() }).collect();
    Ok(Listing { items, quarantined, ..Listing::default() })
}

/// Every name must be that of an image: a list for another data set, or a misspelt name, would go unnoticed.
fn leave_out(names: &[String], paths: &mut Vec<String>) -> Result<()> {
    let stem = |path: &String| Path::new(path).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let there: BTreeSet<String> = paths.iter().filter_map(stem).collect();
    if let Some(name) = names.iter().find(|name| !there.contains(*name)) {
        let message = format!("{name:?}: no image has this name (without its suffix)");
        return Err(Error::invalid("source.exclude", message));
    }
    paths.retain(|path| stem(path).is_none_or(|stem| !names.contains(&stem)));
    Ok(())
}

fn walk(folder: &Path, prefix: &str, found: &mut Vec<String>) -> Result<()> {
    let failed = |e: std::io::Error| Error::store(folder.display().to_string(), e);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().into_string().map_err(|name| {
            Error::invalid(folder.display().to_string(), format!("{name:?} is not UTF-8; rename it"))
        })?;
        if name.starts_with('.') {
            continue;
        }
        let path = format!("{prefix}{name}");
        let suffix = Path::new(&name).extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        if entry.path().is_dir() {
            walk(&entry.path(), &format!("{path}/"), found)?;
        } else if suffix.is_some_and(|s| SUFFIXES.contains(&s.as_str())) {
            found.push(path);
        }
    }
    Ok(())
}

fn read_metadata(root: &Path) -> Result<BTreeMap<String, Metadata>> {
    let path = root.join(METADATA);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(Error::store(path.display().to_string(), e)),
    };
    let mut lines = BTreeMap::new();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let refuse = |message: String| Error::invalid(format!("{}, line {}", path.display(), n + 1), message);
        let metadata: Metadata = serde_json::from_str(line).map_err(|e| refuse(e.to_string()))?;
        let name = metadata.file_name.clone();
        if lines.insert(name.clone(), metadata).is_some() {
            return Err(refuse(format!("{name} is described twice")));
        }
    }
    Ok(lines)
}

fn item(config: &FolderConfig, path: String, line: Option<Metadata>) -> Result<Item> {
    let mut folders: Vec<&str> = path.split('/').collect();
    folders.pop();
    let split = folders.first().and_then(|first| split_named(first));
    let label = folders.get(usize::from(split.is_some())).map(|label| label.to_string());
    let mut line = line.unwrap_or_else(|| Metadata::empty(&path));
    let place = || format!("{METADATA}: {path}");
    let (subject, state) = config.pairs.take(&mut line.attributes).map_err(|e| Error::invalid(place(), e))?;
    let label = line.label.or(label);
    let emotion = match (&line.emotion, &label) {
        (Some(word), _) => pair::emotion_of(word).map_err(|e| Error::invalid(place(), e.to_string()))?,
        (None, label) => label.as_ref().and_then(|word| word.parse().ok()),
    };
    let label = label.or_else(|| line.emotion.filter(|_| emotion.is_none()));
    Ok(Item {
        content: Content::File(config.path.join(&path)),
        split: line.split.or(split.map(str::to_string)),
        namespace: (emotion.is_some() || label.is_some()).then(|| config.namespace.name().to_string()),
        emotion,
        label,
        subject,
        state,
        valence: line.valence,
        arousal: line.arousal,
        ambiguity: line.ambiguity,
        attributes: Value::Object(line.attributes),
        path,
    }
    .with_pair())
}

impl Metadata {
    fn empty(path: &str) -> Self {
        Self {
            file_name: path.into(),
            split: None,
            emotion: None,
            label: None,
            valence: None,
            arousal: None,
            ambiguity: None,
            attributes: Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emotion::Emotion;

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
        let (_folder, config) = tree(&[("a.png", ""), (METADATA, lines)]);
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
            let (_folder, config) = tree(&[("a.png", ""), (METADATA, text)]);
            let error = list(&config).expect_err("refused").to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_missing_folder_is_named() {
        assert!(list(&config("no/such".as_ref())).expect_err("refused").to_string().contains("no/such"));
    }
}

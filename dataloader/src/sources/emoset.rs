//! EmoSet-118K (Yang et al., *EmoSet: A Large-scale Visual Emotion Dataset with Rich Attributes*, ICCV 2023) as
//! released: split files that list images, and an annotation file for each image. Its labels are what viewers felt.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use emotions::Emotion;
use rayon::prelude::*;
use recipe::text_file;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{inside, Content, Item, Listing};
use crate::error::{Error, Result};
use crate::format::manifest::Quarantined;

/// The split files, the one held out most strictly first: an image that is listed twice stays there.
const SPLITS: [&str; 3] = ["test", "val", "train"];

/// Keys of an annotation that have columns of their own.
const IN_COLUMNS: [&str; 2] = ["image_id", "emotion"];

/// The section `source` of kind `emoset`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmosetConfig {
    /// The folder that holds train.json, val.json and test.json, image/ and annotation/.
    pub path: PathBuf,
}

/// A line of a split file; the annotation comes last in both forms that were released.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    /// As in the authors' loader.
    WithId(String, IgnoredAny, String, String),
    /// As in the download.
    Plain(String, String, String),
}

/// An image that a split file lists.
struct Listed {
    emotion: Emotion,
    image: String,
    annotation: String,
    split: &'static str,
}

/// The images of every split file that exists.
pub(super) fn list(config: &EmosetConfig) -> Result<Listing> {
    let root = &config.path;
    let mut images: BTreeMap<String, Listed> = BTreeMap::new();
    let mut listing = Listing::default();
    let mut found = false;
    for split in SPLITS {
        for listed in read_split(root, split)?.inspect(|_| found = true).unwrap_or_default() {
            match images.get(&listed.image) {
                Some(first) => listing.quarantined.push(Quarantined {
                    path: listed.image,
                    reason: format!("listed again in {split}.json; it stays in {}.json", first.split),
                }),
                None => drop(images.insert(listed.image.clone(), listed)),
            }
        }
    }
    if !found {
        let message = format!("{} has none of train.json, val.json and test.json", root.display());
        return Err(Error::invalid("source.path", message));
    }
    let annotated: Vec<std::result::Result<Item, Quarantined>> =
        images.into_values().collect::<Vec<_>>().into_par_iter().map(|listed| item(root, listed)).collect();
    for item in annotated {
        match item {
            Ok(item) => listing.items.push(item),
            Err(quarantined) => listing.quarantined.push(quarantined),
        }
    }
    Ok(listing)
}

/// The lines of a split file, or None if there is no such file.
fn read_split(root: &Path, split: &'static str) -> Result<Option<Vec<Listed>>> {
    let path = root.join(format!("{split}.json"));
    let text = match text_file::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::store(path.display().to_string(), e)),
    };
    parse_split(&path.display().to_string(), &text, split).map(Some)
}

fn parse_split(name: &str, text: &str, split: &'static str) -> Result<Vec<Listed>> {
    let rows: Vec<Value> = serde_json::from_str(text).map_err(|e| Error::invalid(name, format!("not a list: {e}")))?;
    let listed = |(number, row): (usize, Value)| {
        let refuse = |message: String| Error::invalid(format!("{name}, row {number}"), message);
        let shape = "expected [emotion, image path, annotation path] or [emotion, id, image path, annotation path]";
        let line = Line::deserialize(&row).map_err(|_| refuse(format!("{shape}, found {}", brief(&row))))?;
        let (emotion, image, annotation) = match line {
            Line::Plain(emotion, image, annotation) | Line::WithId(emotion, _, image, annotation) => {
                (emotion, image, annotation)
            }
        };
        let emotion = emotion.parse().map_err(|e: emotions::UnknownEmotion| refuse(e.to_string()))?;
        for path in [&image, &annotation] {
            inside(path).map_err(&refuse)?;
        }
        Ok(Listed { emotion, image, annotation, split })
    };
    rows.into_iter().enumerate().map(listed).collect()
}

fn brief(row: &Value) -> String {
    row.to_string().chars().take(80).collect()
}

/// The image with its annotation. Without an annotation the attributes are empty; an annotation that contradicts the
/// split file's label makes the image unusable.
fn item(root: &Path, listed: Listed) -> std::result::Result<Item, Quarantined> {
    let Listed { emotion, image, annotation, split } = listed;
    let mut attributes = match fs::read(root.join(&annotation)) {
        Ok(bytes) => serde_json::from_slice(text_file::without_mark(&bytes)).unwrap_or_else(|error| {
            tracing::warn!("{annotation}: its attributes are left out: {error}");
            Map::new()
        }),
        Err(error) => {
            tracing::debug!("{annotation}: {error}");
            Map::new()
        }
    };
    let stated = attributes.get("emotion").and_then(Value::as_str).and_then(|word| word.parse::<Emotion>().ok());
    if let Some(stated) = stated.filter(|stated| *stated != emotion) {
        let reason = format!("{split}.json says {emotion}, {annotation} says {stated}");
        return Err(Quarantined { path: image, reason });
    }
    attributes.retain(|key, _| !IN_COLUMNS.contains(&key.as_str()));
    Ok(Item {
        content: Content::File(root.join(&image)),
        path: image,
        split: Some(split.into()),
        emotion: Some(emotion),
        namespace: Some("evoked".into()),
        label: Some(emotion.name().into()),
        subject: None,
        state: None,
        valence: None,
        arousal: None,
        ambiguity: None,
        attributes: Value::Object(attributes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, EmosetConfig) {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, content).expect("written");
        }
        let config = EmosetConfig { path: folder.path().into() };
        (folder, config)
    }

    const AWE: &str = r#"["awe", "image/awe/awe_00001.jpg", "annotation/awe/awe_00001.json"]"#;
    const FEAR: &str = r#"["Fear", "fear_00002", "image/fear/fear_00002.jpg", "annotation/fear/fear_00002.json"]"#;

    #[test]
    fn both_forms_of_a_row_and_their_annotations_are_read() {
        let annotation = r#"{"image_id": "awe_00001", "emotion": "awe", "brightness": 0.4, "object": ["Tree", "Sky"]}"#;
        let (_folder, config) = tree(&[
            ("train.json", &format!("[{AWE}]")),
            ("test.json", &format!("[{FEAR}]")),
            ("annotation/awe/awe_00001.json", annotation),
        ]);
        let mut items = list(&config).expect("listed").items;
        items.sort_by(|a, b| a.path.cmp(&b.path));
        let seen: Vec<_> = items.iter().map(|i| (i.path.as_str(), i.split.as_deref(), i.emotion)).collect();
        assert_eq!(
            seen,
            [
                ("image/awe/awe_00001.jpg", Some("train"), Some(Emotion::Awe)),
                ("image/fear/fear_00002.jpg", Some("test"), Some(Emotion::Fear)),
            ]
        );
        assert_eq!(items[0].attributes, serde_json::json!({"brightness": 0.4, "object": ["Tree", "Sky"]}));
        assert_eq!(items[1].attributes, serde_json::json!({}));
        assert!(items.iter().all(|i| i.namespace.as_deref() == Some("evoked")));
    }

    #[test]
    fn an_image_listed_twice_stays_in_the_stricter_split() {
        let (_folder, config) =
            tree(&[("train.json", &format!("[{AWE}, {FEAR}]")), ("test.json", &format!("[{AWE}]"))]);
        let listing = list(&config).expect("listed");
        let split = |path: &str| listing.items.iter().find(|i| i.path.contains(path)).and_then(|i| i.split.as_deref());
        assert_eq!((split("awe"), split("fear")), (Some("test"), Some("train")));
        assert!(listing.quarantined[0].reason.contains("again in train.json"), "{:?}", listing.quarantined);
    }

    #[test]
    fn a_contradicting_annotation_is_quarantined_and_a_broken_one_only_loses_its_attributes() {
        let (_folder, config) = tree(&[
            ("train.json", &format!("[{AWE}, {FEAR}]")),
            ("annotation/awe/awe_00001.json", r#"{"emotion": "sadness"}"#),
            ("annotation/fear/fear_00002.json", "{"),
        ]);
        let listing = list(&config).expect("listed");
        assert_eq!(listing.items.len(), 1);
        assert_eq!(listing.items[0].attributes, serde_json::json!({}));
        assert!(listing.quarantined[0].reason.contains("sadness"));
    }

    #[test]
    fn bad_rows_name_file_and_row() {
        for (row, part) in [
            (r#"["joy", "a.jpg", "a.json"]"#, "unknown emotion"),
            (r#"["awe", "a.jpg"]"#, "expected [emotion"),
            (r#"["awe", "../a.jpg", "a.json"]"#, "outside"),
            (r#"["awe", "/etc/passwd", "a.json"]"#, "outside"),
            ("7", "expected [emotion"),
        ] {
            let (_folder, config) = tree(&[("val.json", &format!("[{FEAR}, {row}]"))]);
            let error = list(&config).expect_err("refused").to_string();
            assert!(error.contains("val.json, row 1") && error.contains(part), "{error}");
        }
        let (_folder, config) = tree(&[("train.json", "{}")]);
        assert!(list(&config).expect_err("refused").to_string().contains("train.json"));
        let (_folder, config) = tree(&[("info.json", "{}")]);
        assert!(list(&config).expect_err("refused").to_string().contains("none of train.json"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}", rows in "\\[(\\[\"awe\",\"[a-z./]{0,9}\",\"[a-z./]{0,9}\"\\],?){0,4}\\]") {
            let _ = parse_split("train.json", &text, "train");
            let _ = parse_split("train.json", &rows, "train");
        }
    }

    #[test]
    fn fuzz_split_files() {
        let plain = br#"[["awe", "image/awe/a.jpg", "annotation/awe/a.json"], ["fear", "b.jpg", "b.json"]]"#;
        let with_id = br#"[["awe", 7, "image/awe/a.jpg", "annotation/awe/a.json"]]"#;
        crate::fuzz::fuzz("split files", &[plain, with_id], |input| {
            let Ok(text) = std::str::from_utf8(input) else { return "no text".into() };
            match parse_split("train.json", text, "train") {
                Ok(listed) => {
                    assert!(listed.iter().all(|l| inside(&l.image).is_ok() && inside(&l.annotation).is_ok()));
                    format!("read {}", "x".repeat(listed.len().min(4)))
                }
                Err(error) => error.to_string(),
            }
        });
    }

    #[test]
    fn fuzz_annotations() {
        let (folder, _) = tree(&[]);
        fs::write(folder.path().join("a.jpg"), "").expect("written");
        let good = br#"{"image_id": "a", "emotion": "awe", "brightness": 0.5, "object": ["tree", "sky"]}"#;
        crate::fuzz::fuzz("annotations", &[good], |input| {
            fs::write(folder.path().join("a.json"), input).expect("written");
            let (image, annotation) = ("a.jpg".to_string(), "a.json".to_string());
            match item(folder.path(), Listed { emotion: Emotion::Awe, image, annotation, split: "train" }) {
                Ok(item) => item.attributes.to_string(),
                Err(quarantined) => quarantined.reason,
            }
        });
    }
}

//! FindingEmo (Mertens et al., *FindingEmo: An Image Dataset for Emotion Recognition in the Wild*, NeurIPS 2024): a
//! table of annotations, and images that everyone downloads for themselves from the annotated URLs. Its labels are what
//! people in the picture show.

use std::collections::BTreeSet;
use std::path::PathBuf;

use recipe::text_file;
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};

use super::{inside, plutchik, Content, HashSplit, Item, Listing};
use crate::error::{Error, Result};

/// The section `source` of kind `findingemo`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FindingemoConfig {
    /// `annotations_single.ann` of PyPI's findingemo-light.
    pub annotations: PathBuf,
    /// The folder that holds Run_1/ and Run_2/. Images that are missing there are only counted.
    pub images: PathBuf,
    /// How the images are divided, since no split is published.
    #[serde(default)]
    pub splits: HashSplit,
}

/// A line of the annotations; lists are words between commas.
#[derive(Debug, Deserialize)]
struct Annotation {
    index: String,
    user: String,
    image_path: String,
    tags: String,
    age: String,
    valence: Option<f32>,
    arousal: Option<f32>,
    emotion: String,
    dec_factors: String,
    ambiguity: Option<f32>,
    datetime: String,
}

/// The annotated images.
pub(super) fn list(config: &FindingemoConfig) -> Result<Listing> {
    let name = config.annotations.display().to_string();
    let bytes = std::fs::read(&config.annotations).map_err(|e| {
        let hint = "it is in PyPI's findingemo-light: pip download --no-deps findingemo-light==1.0.0, then unzip";
        Error::invalid("source.annotations", format!("{name}: {e}; {hint}"))
    })?;
    let mut listing = Listing::default();
    for mut item in parse(&name, &bytes)? {
        let file = config.images.join(&item.path);
        let there = file.is_file();
        item.content = Content::File(file);
        match there {
            true => listing.items.push(item),
            false => listing.missing.push(item),
        }
    }
    Ok(listing)
}

/// The rows of the annotations `name`; images are looked up later.
fn parse(name: &str, bytes: &[u8]) -> Result<Vec<Item>> {
    let mut reader = csv::Reader::from_reader(text_file::without_mark(bytes));
    let mut seen = BTreeSet::new();
    let mut items = Vec::new();
    let headers = reader.headers().map_err(|e| Error::invalid(name, e.to_string()))?.clone();
    let mut record = csv::StringRecord::new();
    loop {
        let line = reader.position().line();
        let refuse = |message: String| Error::invalid(format!("{name}, line {line}"), message);
        if !reader.read_record(&mut record).map_err(|e| refuse(e.to_string()))? {
            return Ok(items);
        }
        let annotation: Annotation = record.deserialize(Some(&headers)).map_err(|e| refuse(e.to_string()))?;
        let item = item(annotation).map_err(&refuse)?;
        if !seen.insert(item.path.clone()) {
            return Err(refuse(format!("{} is annotated twice", item.path)));
        }
        items.push(item);
    }
}

fn item(annotation: Annotation) -> std::result::Result<Item, String> {
    let path = annotation.image_path.strip_prefix('/').unwrap_or(&annotation.image_path);
    inside(path)?;
    let known = plutchik::label(&annotation.emotion);
    let label = known.ok_or_else(|| format!("{:?} is none of Plutchik's 24 emotions", annotation.emotion))?;
    let within = |what: &str, value: Option<f32>, low: f32, high: f32| match value {
        Some(v) if !(low..=high).contains(&v) => Err(format!("{what} {v} is not between {low} and {high}")),
        value => Ok(value),
    };
    Ok(Item {
        path: path.to_string(),
        content: Content::Bytes(bytes::Bytes::new()),
        split: None,
        emotion: label.mikels,
        namespace: Some("expressed".into()),
        subject: None,
        state: None,
        valence: within("valence", annotation.valence, -3.0, 3.0)?,
        arousal: within("arousal", annotation.arousal, 0.0, 6.0)?,
        ambiguity: within("ambiguity", annotation.ambiguity, 0.0, 6.0)?,
        attributes: json!({
            "petal": label.petal, "intensity": label.intensity, "tags": words(&annotation.tags),
            "age": words(&annotation.age), "dec_factors": words(&annotation.dec_factors),
            "index": annotation.index, "user": annotation.user, "datetime": annotation.datetime,
        }),
        label: Some(annotation.emotion),
    })
}

/// The words of a list; "Undefined" stands for none.
fn words(list: &str) -> Value {
    list.split(',').map(str::trim).filter(|word| !word.is_empty() && *word != "Undefined").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use emotions::Emotion;
    use proptest::prelude::*;

    const HEADER: &str = "index,user,image_path,tags,age,valence,arousal,emotion,dec_factors,ambiguity,datetime\n";

    fn read(lines: &str) -> std::result::Result<Vec<Item>, String> {
        parse("a.ann", format!("{HEADER}{lines}").as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_row_keeps_everything_that_was_annotated() {
        let lines = "6,u1,\"/Run_1/Violent, youth: 100%?/a*.jpg\",\"Text,Copyright\",\"Youth,Adults\",-2,5,Rage,\"Context,Staging\",3,2023-09-01\n";
        let item = read(lines).expect("read").remove(0);
        assert_eq!(item.path, "Run_1/Violent, youth: 100%?/a*.jpg");
        assert_eq!((item.emotion, item.label.as_deref()), (Some(Emotion::Anger), Some("Rage")));
        assert_eq!((item.valence, item.arousal, item.ambiguity), (Some(-2.0), Some(5.0), Some(3.0)));
        assert_eq!(item.namespace.as_deref(), Some("expressed"));
        assert_eq!(item.attributes["petal"], "anger");
        assert_eq!(item.attributes["tags"], json!(["Text", "Copyright"]));
        assert_eq!(item.attributes["dec_factors"], json!(["Context", "Staging"]));
    }

    #[test]
    fn a_label_without_counterpart_keeps_its_name() {
        let item = read("0,u,/Run_2/a/b.jpg,Undefined,Adults,1,2,Trust,Context,0,d\n").expect("read").remove(0);
        assert_eq!((item.emotion, item.label.as_deref()), (None, Some("Trust")));
        assert_eq!(item.attributes["tags"], json!([]));
    }

    #[test]
    fn bad_rows_name_their_line() {
        let good = "0,u,/Run_2/a/b.jpg,Undefined,Adults,1,2,Trust,Context,0,d\n";
        for (row, part) in [
            ("0,u,/Run_2/a/c.jpg,Undefined,Adults,1,2,Bliss,Context,0,d\n", "none of Plutchik's"),
            ("0,u,/Run_2/a/c.jpg,Undefined,Adults,4,2,Trust,Context,0,d\n", "valence 4"),
            ("0,u,/Run_2/a/c.jpg,Undefined,Adults,x,2,Trust,Context,0,d\n", "invalid float"),
            ("0,u,/Run_2/../../c.jpg,Undefined,Adults,1,2,Trust,Context,0,d\n", "outside"),
            (good, "twice"),
            ("0,u\n", "2 fields"),
        ] {
            let error = read(&format!("{good}{row}")).expect_err("refused");
            assert!(error.contains("a.ann, line 3") && error.contains(part), "{error}");
        }
    }

    #[test]
    fn images_that_are_not_there_are_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let annotations = folder.path().join("a.ann");
        let row = |n: u32| format!("{n},u,/Run_1/q/{n}.jpg,Undefined,Adults,1,2,Joy,Context,0,d\n");
        std::fs::write(&annotations, format!("{HEADER}{}{}", row(1), row(2))).expect("written");
        std::fs::create_dir_all(folder.path().join("Run_1/q")).expect("made");
        std::fs::write(folder.path().join("Run_1/q/2.jpg"), "").expect("written");
        let config = FindingemoConfig { annotations, images: folder.path().into(), splits: HashSplit::default() };
        let listing = list(&config).expect("listed");
        assert_eq!((listing.items.len(), listing.missing.len()), (1, 1));
        assert_eq!(listing.missing[0].path, "Run_1/q/1.jpg");
        let none = FindingemoConfig { annotations: "no/such.ann".into(), ..config };
        assert!(list(&none).expect_err("refused").to_string().contains("findingemo-light"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), lines in "[0-9a-z,\"/\n]{0,120}") {
            let _ = parse("a.ann", &bytes);
            let _ = read(&lines);
        }
    }

    #[test]
    fn fuzz_annotations_in_csv() {
        let line = "6,u1,\"/Run_1/Violent, youth/a*.jpg\",\"Text,Copyright\",\"Youth,Adults\",-2,5,Rage,\"Context,Staging\",3,2023-09-01\n";
        let second = "7,u2,/Run_1/b.jpg,Undefined,Undefined,2,1,Joy,Undefined,0,2023-09-02\n";
        crate::fuzz::fuzz("FindingEmo", &[format!("{HEADER}{line}{second}").as_bytes()], |input| {
            match parse("a.ann", input) {
                Ok(items) => {
                    assert!(items.iter().all(|item| inside(&item.path).is_ok()));
                    assert!(items.iter().all(|item| item.valence.is_none_or(|v| (-3.0..=3.0).contains(&v))));
                    format!("read {}", "x".repeat(items.len().min(4)))
                }
                Err(error) => error.to_string(),
            }
        });
    }
}

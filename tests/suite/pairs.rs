//! Parquet files as sources, and pairs: the rows that `datasets` and pyarrow read from other people's files, subjects that
//! no split tears apart, and folders whose metadata names subjects.
//!
//! Fixtures: `python tests/fixtures/parquet/make.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use dataloader::format::manifest::{FORMAT_VERSION, WITHOUT_PAIRS};
use dataloader::making::config::{PhotoLimits, ShardConfig};
use dataloader::making::worker_rank::WorkerRank;
use dataloader::making::{photo, shard};
use dataloader::reading::{inspect, verify};
use dataloader::sources::Item;
use dataloader::{Access, Dataset, Filter, Manifest, RowRef};
use emotions::Emotion;
use hub::Hub;
use serde_json::Value;

use crate::fixtures::{fixture, pocket};

const HUB: &str = "{kind: parquet, path: HUB, columns: {label: label, subject: person, caption: text}}";
const PLAIN: &str =
    "{kind: parquet, path: PLAIN, namespace: expressed, columns: {image: picture, emotion: state, subject: who, \
                     split: part, valence: valence}}";

/// A recipe that shards `source` at a size which the pocket's autoencoder takes in no time, without CLIP.
fn recipe(folder: &Path, source: &str) -> ShardConfig {
    let place = |name: &str| fixture("parquet").join(name).display().to_string();
    let source = source.replace("HUB", &place("hub")).replace("PLAIN", &place("plain.parquet"));
    let text = format!(
        "source: {source}\nresolution: 16\nvae: {}\noutput: {}\nquarantine: {{max_fraction: 0.5}}\n",
        pocket("vae").display(),
        folder.join("out").display()
    );
    let path = folder.join("recipe.yaml");
    fs::write(&path, text).expect("written");
    recipe::load(&path, &[]).expect("a valid recipe")
}

fn list(source: &str) -> BTreeMap<String, Item> {
    let folder = tempfile::tempdir().expect("a folder");
    let listing = recipe(folder.path(), source).source.list().expect("listed");
    listing.items.into_iter().map(|item| (item.path.clone(), item)).collect()
}

/// What the other tools read of the files `name`.
fn expected(name: &str) -> BTreeMap<String, Value> {
    let text = fs::read_to_string(fixture("parquet/expected.json")).expect("a fixture");
    let all: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_str(&text).expect("JSON");
    all[name].clone()
}

fn make(config: &ShardConfig) -> (Manifest, Vec<RowRef>) {
    let hub = Hub::offline("none");
    let summary = shard::run(config, &hub, &WorkerRank::ALONE).expect("encoded").expect("one process puts it together");
    let dataset = Dataset::open(&config.output.to_string_lossy()).expect("a data set");
    (summary.manifest, dataset.rows(&Filter::default()).expect("rows"))
}

#[test]
fn rows_are_those_that_datasets_reads() {
    let (items, expected) = (list(HUB), expected("hub"));
    assert_eq!(items.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (path, item) in &items {
        let row = &expected[path];
        let label = row["label"].as_str().expect("a label");
        assert_eq!(item.label.as_deref(), Some(label), "{path}");
        assert_eq!(item.emotion, label.parse().ok(), "{path}");
        assert_eq!((item.subject.as_deref(), item.state.as_deref()), (row["subject"].as_str(), Some(label)), "{path}");
        assert_eq!(item.split.as_deref(), Some(if path.starts_with("train") { "train" } else { "val" }), "{path}");
        assert_eq!(item.attributes, serde_json::json!({"size": row["size"], "caption": row["caption"]}), "{path}");
        let limits = PhotoLimits::default();
        let photo = photo::decode(item, &photo::read(item, &limits).expect("read"), &limits).expect("decoded");
        assert_eq!(serde_json::json!(photo.get_pixel(3, 5).0), row["pixels"], "{path}");
    }
}

#[test]
fn rows_are_those_that_pyarrow_reads() {
    let (items, expected) = (list(PLAIN), expected("plain"));
    assert_eq!(items.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (path, item) in &items {
        let row = &expected[path];
        let state = row["state"].as_str().map(str::to_lowercase);
        assert_eq!(item.emotion, state.as_ref().and_then(|state| state.parse().ok()), "{path}");
        assert_eq!((item.subject.clone(), &item.state), (Some(row["who"].to_string()), &state), "{path}");
        assert_eq!(item.valence.map(f64::from), row["valence"].as_f64(), "{path}");
        for key in ["style", "looks"] {
            assert_eq!(item.attributes.get(key).unwrap_or(&Value::Null), &row[key], "{path}");
        }
        assert!(item.attributes.get("thumbnail").is_none(), "bytes are no attribute");
    }
}

#[test]
fn shards_store_pairs_and_no_split_tears_a_subject_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = recipe(folder.path(), PLAIN);
    let (manifest, rows) = make(&config);
    let reasons: Vec<_> = manifest.quarantined.iter().map(|q| (q.path.as_str(), q.reason.as_str())).collect();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons[0].1.contains("no image bytes") && reasons[1].1.contains("format"), "{reasons:?}");
    let mut seen: Vec<_> = rows.iter().map(|r| (r.subject.as_deref(), r.state.as_deref(), r.split.as_str())).collect();
    seen.sort_unstable();
    let seven = |state| (Some("7"), Some(state), "test");
    assert_eq!(seen, [seven("awe"), seven("awe"), seven("neutral"), seven("sadness"), (Some("8"), None, "val")]);
    assert_eq!(manifest.format_version, FORMAT_VERSION);
    let test = BTreeMap::from([("awe".into(), 2), ("neutral".into(), 1), ("sadness".into(), 1)]);
    assert_eq!(manifest.splits["test"].states, test);
    let (again, _) = make(&config);
    assert_eq!(again, manifest, "made again, it is the same");

    let url = config.output.to_string_lossy();
    assert!(verify::verify(&url, &Access::default(), &mut |_: &str| ()).expect("a data set").is_sound());
    let text = inspect::inspect(&url, &Access::default(), &[0]).expect("described");
    let cells = |name: &str| {
        let line = text.lines().find(|l| l.starts_with(name)).map(|l| l.split_whitespace().collect::<Vec<_>>());
        line.unwrap_or_else(|| panic!("no line {name}: {text}"))
    };
    assert_eq!(cells("state "), ["state", "test", "val"]);
    assert_eq!(cells("subjects "), ["subjects", "1", "1"]);
    assert_eq!(cells("neutral "), ["neutral", "1", "0"]);
    assert!(text.contains("subject \"7\" in state"), "{text}");
}

#[test]
fn a_split_by_hash_keeps_the_pictures_of_a_subject_together() {
    let folder = tempfile::tempdir().expect("a folder");
    let photos = folder.path().join("photos");
    fs::create_dir_all(&photos).expect("made");
    let mut lines = String::new();
    for n in 0..40_u32 {
        let name = format!("{n:02}.png");
        image::RgbImage::from_fn(16, 16, |x, y| image::Rgb([(n * 6) as u8, (x * 9) as u8, (y * 7 + n) as u8]))
            .save(photos.join(&name))
            .expect("written");
        let emotion = ["neutral", "awe", "fear", "sadness"][n as usize % 4];
        lines += &format!("{{\"file_name\": \"{name}\", \"who\": {}, \"emotion\": \"{emotion}\"}}\n", n / 4);
    }
    fs::write(photos.join("metadata.jsonl"), lines).expect("written");
    let source = format!(
        "{{kind: folder, path: {}, pairs: {{subject: who}}, splits: {{test_fraction: 0.4, seed: 3}}}}",
        photos.display()
    );
    let (manifest, rows) = make(&recipe(folder.path(), &source));
    let mut splits: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in &rows {
        splits.entry(row.subject.as_deref().expect("a subject")).or_default().insert(&row.split);
        assert_eq!(row.state.as_deref(), Some(row.emotion.map_or("neutral", Emotion::name)));
    }
    assert!(splits.len() == 10 && splits.values().all(|splits| splits.len() == 1), "{splits:?}");
    assert!(manifest.splits.len() == 2, "{:?}", manifest.splits.keys());
}

#[test]
fn what_a_recipe_names_must_be_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |source: &str| recipe(folder.path(), source).source.list().expect_err("refused").to_string();
    for (source, parts) in [
        ("{kind: parquet, path: HUB, columns: {emotion: feeling}}", ["source.columns.emotion", "label"]),
        ("{kind: parquet, path: HUB, columns: {image: label}}", ["label", "bytes"]),
        ("{kind: parquet, path: HUB/none-*.parquet}", ["source.path", "no Parquet file"]),
        ("{kind: parquet, path: HUB, columns: {path: person}}", ["source.columns.path", "Ada"]),
        ("{kind: parquet, path: PLAIN, columns: {image: picture, valence: style}}", ["style", "Float32"]),
        ("{kind: parquet, path: PLAIN, columns: {image: picture, emotion: part}}", ["row 0", "unknown emotion"]),
    ] {
        let error = refused(source);
        assert!(parts.iter().all(|part| error.contains(part)), "{source}: {error}");
    }
}

/// A data set without pairs is of the version that every release reads; shards that lack the two columns still are read.
#[test]
fn data_sets_without_pairs_keep_the_old_version() {
    let folder = tempfile::tempdir().expect("a folder");
    let (manifest, rows) = make(&recipe(folder.path(), "{kind: parquet, path: HUB, columns: {label: label}}"));
    assert_eq!(manifest.format_version, WITHOUT_PAIRS);
    assert!(rows.iter().all(|row| row.subject.is_none() && row.state.is_none()));
    let text = fs::read_to_string(folder.path().join("out/manifest.json")).expect("a manifest");
    assert!(!text.contains("states"), "{text}");
}

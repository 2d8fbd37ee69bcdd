//! Folders as people have them: the layouts of Hugging Face's imagefolder as `datasets` reads them (fixtures: make.py in
//! tests/fixtures/imagefolder), and texts and files as Windows, macOS and phones write them.

use std::collections::BTreeMap;
use std::path::Path;

use dataloader::making::config::ShardConfig;
use dataloader::making::worker_rank::WorkerRank;
use dataloader::making::{shard, survey};
use dataloader::sources::{Item, Listing};
use emotions::Emotion;
use hub::Hub;

use crate::fixtures::{fixture, pocket};

fn config(source: &str, output: &Path) -> ShardConfig {
    let text = format!(
        "source: {source}\nresolution: 16\nvae: {}\noutput: {}\nquarantine: {{max_fraction: 1.0}}\n",
        pocket("vae").display(),
        output.display()
    );
    recipe::parse(Path::new("recipe.yaml"), &text, &[]).expect("a valid recipe")
}

fn list(source: &str) -> Listing {
    config(source, Path::new("none")).source.list().expect("listed")
}

fn folder(path: &Path) -> String {
    format!("{{kind: folder, path: {}}}", path.display())
}

fn emotions(items: &[Item]) -> BTreeMap<&str, Option<Emotion>> {
    items.iter().map(|item| (item.path.as_str(), item.emotion)).collect()
}

#[test]
fn imagefolders_are_read_as_datasets_reads_them() {
    let text = std::fs::read_to_string(fixture("imagefolder/expected.json")).expect("the fixture");
    let expected: BTreeMap<String, Vec<serde_json::Value>> = serde_json::from_str(&text).expect("JSON");
    assert!(expected.len() >= 8, "{:?}", expected.keys());
    for (layout, rows) in expected {
        let listing = list(&folder(&fixture("imagefolder/layouts").join(&layout)));
        assert!(listing.quarantined.is_empty(), "{layout}: {:?}", listing.quarantined);
        let mut found = Vec::new();
        for item in &listing.items {
            // `datasets` passes over images without a row; here they are read, and counted.
            if layout == "without_rows" && item.emotion.is_none() {
                continue;
            }
            found.push(serde_json::json!({
                "path": item.path,
                "split": item.split.as_deref().unwrap_or("train"),
                "emotion": item.emotion.map(Emotion::name),
                "valence": item.valence,
            }));
        }
        assert_eq!(found, rows, "{layout}");
        assert_eq!(listing.account.without_row, u64::from(layout == "without_rows"), "{layout}");
        assert!(listing.account.other_files.is_empty(), "{layout}: every table was read");
    }
}

#[test]
fn byte_order_marks_are_no_part_of_a_text() {
    let root = fixture("inputs/bom");
    let listing = list(&folder(&root.join("folder")));
    assert_eq!(
        emotions(&listing.items),
        BTreeMap::from([("0.jpg", Some(Emotion::Awe)), ("1.jpg", Some(Emotion::Fear))])
    );
    let listing = list(&format!("{{kind: emoset, path: {}}}", root.join("emoset").display()));
    assert_eq!(listing.items.len(), 2);
    let images = root.join("findingemo/images");
    let annotations = root.join("findingemo/a.ann");
    let source = format!("{{kind: findingemo, annotations: {}, images: {}}}", annotations.display(), images.display());
    assert_eq!((list(&source).items.len(), list(&source).missing.len()), (2, 0));
}

#[test]
fn names_are_the_same_in_either_normal_form() {
    let listing = list(&folder(&fixture("inputs/nfd")));
    assert!(listing.quarantined.is_empty() && listing.account.is_empty(), "{listing:?}");
    let emotions: Vec<Option<Emotion>> = listing.items.iter().map(|item| item.emotion).collect();
    assert_eq!(emotions, [Some(Emotion::Sadness), Some(Emotion::Awe)]);
}

#[test]
fn a_phones_folder_is_read_or_quarantined_and_the_rest_is_counted() {
    let here = tempfile::tempdir().expect("a folder");
    let photos = here.path().join("photos");
    std::fs::create_dir(&photos).expect("made");
    for entry in std::fs::read_dir(fixture("photos/formats")).expect("the fixture").flatten() {
        std::fs::copy(entry.path(), photos.join(entry.file_name())).expect("copied");
    }
    for name in ["0.jpg", "1.jpg"] {
        std::fs::copy(fixture("inputs").join(name), photos.join(name)).expect("copied");
    }
    std::fs::write(photos.join("notes.txt"), "").expect("written");
    std::fs::write(photos.join("film.mp4"), "").expect("written");
    let config = config(&folder(&photos), &here.path().join("out"));
    let text = survey::survey(&config).expect("surveyed");
    assert!(text.contains("2 files of other kinds: .mp4 1, .txt 1"), "{text}");
    let hub = Hub::offline("none");
    let summary = shard::run(&config, &hub, &WorkerRank::ALONE).expect("made").expect("one process puts it together");
    let manifest = &summary.manifest;
    // Whatever can be decoded, every picture is a row or named: nothing is passed over.
    assert_eq!(manifest.rows() as usize + manifest.quarantined.len(), 8);
    assert!(manifest.rows() >= 3, "0.jpg, 1.jpg and mobile.jfif are JPEGs");
    assert!(manifest.quarantined.iter().all(|q| !q.path.ends_with("jfif") && !q.reason.is_empty()));
    let line = summary.describe(&config.output);
    assert!(line.contains("2 files of other kinds: .mp4 1, .txt 1"), "{line}");
    assert_eq!(manifest.account.other_files.values().sum::<u64>(), 2);
}

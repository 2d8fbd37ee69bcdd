//! The data sets as they are released, 2,000 images each with every known defect planted: exactly the planted ones are
//! left out, each with its reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dataloader::making::config::ShardConfig;
use dataloader::making::shard;
use dataloader::making::worker_rank::WorkerRank;
use dataloader::{Dataset, Filter, Manifest};
use emotions::Emotion;
use hub::Hub;
use image::codecs::jpeg::JpegEncoder;
use image::RgbImage;

use crate::fixtures::{fixture, pocket};

/// Images of each tree, defects among them.
const IMAGES: usize = 2000;

/// Planted files that no image can be read from, and a part of the reason that must be given.
const DEFECTS: [(&str, &str); 5] = [
    ("bomb.png", "megapixels"),
    ("empty.jpg", "empty"),
    ("html.jpg", "web page"),
    ("truncated.png", ""),
    ("truncated.jpg", "cut off"),
];

/// Odd files that are images all the same.
const ODD: [&str; 8] = [
    "animated.gif",
    "cmyk.jpg",
    "grey.png",
    "grey16.png",
    "one_pixel.png",
    "rotated.jpg",
    "transparent.png",
    "wrong_suffix.png",
];

/// A small JPEG unlike all others.
fn jpeg(number: usize) -> Vec<u8> {
    let shade = |k: usize| (number * 37 / (k + 1) % 256) as u8;
    let photo = RgbImage::from_fn(24, 20, |x, y| {
        image::Rgb([shade(0) ^ (x * 9) as u8, shade(8).wrapping_add((y * 11) as u8), (number / 8) as u8])
    });
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(&photo).expect("encoded");
    bytes
}

/// The bytes of a planted defect or odd image.
fn odd(name: &str) -> Vec<u8> {
    match name {
        "truncated.jpg" => {
            let whole = jpeg(0);
            whole[..whole.len() * 2 / 3].to_vec()
        }
        name => fs::read(fixture("dataloader").join(name)).expect("a fixture"),
    }
}

fn put(root: &Path, path: &str, bytes: &[u8]) {
    let place = root.join(path);
    fs::create_dir_all(place.parent().expect("a parent")).expect("made");
    fs::write(place, bytes).expect("written");
}

/// What image `number` of a tree holds: defects and odd ones are strewn in, every fortieth is a copy of the one before.
fn content(number: usize) -> (Vec<u8>, Option<&'static str>) {
    match number {
        n if n % 100 == 50 => {
            let (name, reason) = DEFECTS[n / 100 % DEFECTS.len()];
            (odd(name), Some(reason))
        }
        n if n % 100 == 75 && n / 100 < ODD.len() => (odd(ODD[n / 100]), None),
        n if n % 40 == 1 => (jpeg(n - 1), None),
        n => (jpeg(n), None),
    }
}

/// Shards a source at a size that the pocket's autoencoder takes in no time, without CLIP.
fn run(folder: &Path, source: &str) -> (Manifest, ShardConfig) {
    let path = folder.join("recipe.yaml");
    let text = format!(
        "source: {source}\nresolution: 16\nvae: {}\noutput: {}\nbatch_size: 32\nrows_per_shard: 500\nquarantine: {{max_fraction: 0.1}}\n",
        pocket("vae").display(),
        folder.join("out").display()
    );
    fs::write(&path, text).expect("written");
    let config: ShardConfig = recipe::load(&path, &[]).expect("a valid recipe");
    let hub = Hub::offline("none");
    let summary =
        shard::run(&config, &hub, &WorkerRank::ALONE).expect("encoded").expect("one process puts it together");
    (summary.manifest, config)
}

/// Every planted image is quarantined with its reason, and nothing else is.
#[track_caller]
fn assert_quarantined(manifest: &Manifest, planted: &BTreeMap<String, &str>) {
    let found: BTreeMap<&str, &str> =
        manifest.quarantined.iter().map(|q| (q.path.as_str(), q.reason.as_str())).collect();
    let paths: Vec<&&str> = found.keys().collect();
    assert_eq!(paths, planted.keys().map(|p| p.as_str()).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    for (path, part) in planted {
        assert!(found[path.as_str()].contains(part), "{path}: {:?} should say {part:?}", found[path.as_str()]);
    }
}

fn rows(config: &ShardConfig) -> Vec<dataloader::RowRef> {
    let dataset = Dataset::open(&config.output.to_string_lossy()).expect("a data set");
    dataset.rows(&Filter::default()).expect("rows")
}

/// Copies of one image never lie in two splits.
#[track_caller]
fn assert_copies_together(config: &ShardConfig) {
    let mut split_of: BTreeMap<String, String> = BTreeMap::new();
    let (mut copies, rows) = (0, rows(config));
    for row in &rows {
        let split = split_of.entry(row.image_id.clone()).or_insert_with(|| row.split.clone());
        assert_eq!(*split, row.split, "{}", row.path);
    }
    copies += rows.len() - split_of.len();
    assert!(copies >= 30, "the tree has only {copies} copies");
}

#[test]
fn emoset_as_released_loses_exactly_the_planted_images() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("EmoSet-118K");
    let mut planted: BTreeMap<String, &str> = BTreeMap::new();
    let mut lists: BTreeMap<&str, Vec<serde_json::Value>> = BTreeMap::new();
    for n in 0..IMAGES {
        let emotion = Emotion::ALL[n % 8];
        let id = format!("{emotion}_{n:05}");
        let (image, annotation) = (format!("image/{emotion}/{id}.jpg"), format!("annotation/{emotion}/{id}.json"));
        let split = ["train", "train", "train", "val", "test"][n / 8 % 5];
        let (bytes, reason) = content(n);
        let row = match n % 2 {
            0 => serde_json::json!([emotion.name(), image, annotation]),
            _ => serde_json::json!([emotion.name(), id, image, annotation]),
        };
        lists.entry(split).or_default().push(row.clone());
        if let Some(reason) = reason {
            planted.insert(image.clone(), reason);
        }
        match n {
            500 => drop(planted.insert(image, "No such file")),
            502 => {
                put(&root, &image, &bytes);
                put(&root, &annotation, br#"{"emotion": "sadness"}"#);
                planted.insert(image, "says sadness");
            }
            504 => {
                put(&root, &image, &bytes); // its annotation is missing, which is no fault of the image
            }
            n => {
                put(&root, &image, &bytes);
                let attributes =
                    serde_json::json!({"image_id": id, "emotion": emotion, "brightness": (n % 11) as f64 / 10.0});
                put(&root, &annotation, attributes.to_string().as_bytes());
            }
        }
    }
    for (split, list) in &lists {
        put(&root, &format!("{split}.json"), serde_json::to_string(list).expect("plain data").as_bytes());
    }
    let (manifest, config) = run(folder.path(), &format!("{{kind: emoset, path: {}}}", root.display()));
    assert_quarantined(&manifest, &planted);
    assert_eq!(manifest.rows() as usize, IMAGES - planted.len());
    for row in rows(&config) {
        let emotion = row.path.split('/').nth(1).and_then(|word| word.parse().ok());
        assert_eq!((row.emotion, row.namespace.as_deref()), (emotion, Some("evoked")), "{}", row.path);
        assert!(row.path.contains("_00504") || row.attributes["brightness"].is_number(), "{}", row.attributes);
    }
    assert_copies_together(&config);
}

#[test]
fn findingemo_as_released_counts_what_is_missing_and_loses_exactly_the_planted_images() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("images");
    let labels = ["Joy", "Ecstasy", "Grief", "Trust", "Loathing", "Amazement", "Serenity", "Rage", "Terror", "Boredom"];
    let mut planted: BTreeMap<String, &str> = BTreeMap::new();
    let mut annotations =
        "index,user,image_path,tags,age,valence,arousal,emotion,dec_factors,ambiguity,datetime\n".to_string();
    let mut missing = 0;
    for n in 0..IMAGES {
        // Base names collide, and some hold what file names seldom hold.
        let name = ["team-work.jpg", "a, b.jpg", "100%25.jpg", "who?.jpg", "x*y:z.png"][n % 5];
        let path = format!("Run_{}/Happy people {}/{name}", 1 + n % 2, n / 5);
        let label = labels[n % labels.len()];
        let valence = (n % 7) as i64 - 3;
        annotations += &format!(
            "{n},u{},\"/{path}\",\"Text,Copyright\",\"Adults,Seniors\",{valence},{},{label},Context,{},2023-09-01\n",
            n % 9,
            n % 7,
            n % 7
        );
        let (bytes, reason) = content(n);
        if n % 3 == 2 {
            missing += 1;
            continue;
        }
        put(&root, &path, &bytes);
        planted.extend(reason.map(|reason| (path, reason)));
    }
    put(folder.path(), "a.ann", annotations.as_bytes());
    let source = format!(
        "{{kind: findingemo, annotations: {}, images: {}, splits: {{test_fraction: 0.2, val_fraction: 0.1}}}}",
        folder.path().join("a.ann").display(),
        root.display()
    );
    let (manifest, config) = run(folder.path(), &source);
    assert_quarantined(&manifest, &planted);
    assert_eq!(manifest.missing, missing);
    assert_eq!(manifest.rows() as usize, IMAGES - missing as usize - planted.len());
    let rows = rows(&config);
    assert!(rows.iter().all(|row| row.namespace.as_deref() == Some("expressed")));
    let ecstasy = rows.iter().find(|row| row.label.as_deref() == Some("Ecstasy")).expect("some");
    assert_eq!(ecstasy.emotion, Some(Emotion::Excitement));
    assert!(rows.iter().all(|row| row.label.as_deref() != Some("Joy") || row.emotion.is_none()));
    let test = manifest.splits["test"].rows as f64 / manifest.rows() as f64;
    assert!((0.15..0.25).contains(&test), "{test}");
    let strict = Filter { valence_agrees: true, max_ambiguity: Some(3.0), ..Filter::default() };
    let dataset = Dataset::open(&config.output.to_string_lossy()).expect("a data set");
    for row in dataset.rows(&strict).expect("rows") {
        let (emotion, valence) = (row.emotion.expect("mapped"), row.valence.expect("stated"));
        assert_eq!(emotion.is_positive(), valence > 0.0, "{}", row.path);
        assert!(row.ambiguity.expect("stated") <= 3.0);
    }
    assert!(!dataset.rows(&strict).expect("rows").is_empty());
}

#[test]
fn a_plain_folder_loses_exactly_the_planted_images() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("photos");
    let mut planted: BTreeMap<String, &str> = BTreeMap::new();
    for n in 0..IMAGES {
        let label = ["awe", "picnic", "fear"][n % 3];
        let path = format!("{label}/{n:04}.{}", ["jpg", "png", "webp"][n % 3]);
        let (bytes, reason) = content(n);
        put(&root, &path, &bytes);
        planted.extend(reason.map(|reason| (path, reason)));
    }
    let source = format!("{{kind: folder, path: {}, splits: {{test_fraction: 0.2}}}}", root.display());
    let (manifest, config) = run(folder.path(), &source);
    assert_quarantined(&manifest, &planted);
    assert_eq!(manifest.rows() as usize, IMAGES - planted.len());
    assert_copies_together(&config);
}

#[test]
fn limits_are_the_recipes_and_name_themselves() {
    let folder = tempfile::tempdir().expect("a folder");
    let root: PathBuf = folder.path().join("photos");
    put(&root, "small.jpg", &jpeg(1));
    put(&root, "one.png", &odd("one_pixel.png"));
    let path = folder.path().join("recipe.yaml");
    let run = |limits: &str| {
        let text = format!(
            "source: {{kind: folder, path: {}}}\nresolution: 16\nvae: {}\noutput: {}\nquarantine: {{max_fraction: 1.0}}\nlimits: {limits}\n",
            root.display(),
            pocket("vae").display(),
            folder.path().join("out").display()
        );
        fs::write(&path, text).expect("written");
        let config: ShardConfig = recipe::load(&path, &[]).expect("a valid recipe");
        shard::run(&config, &Hub::offline("none"), &WorkerRank::ALONE)
    };
    let reasons = |limits: &str| {
        let manifest = run(limits).expect("encoded").expect("put together").manifest;
        manifest.quarantined.into_iter().map(|q| q.reason).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(reasons("{}"), "");
    assert!(reasons("{min_side: 8}").contains("smaller than limits.min_side 8"));
    assert!(reasons("{max_megapixels: 0.0001}").contains("above the limit of 0.0001 megapixels"));
    assert!(run("{max_megabytes: 0.00001}").expect_err("all too large").to_string().contains("max_megabytes"));
}

//! The metrics against the libraries that defined them, on real photos.
//!
//! Fixture: python tests/fixtures/metrics/make.py FOLDER

use std::fs;
use std::rc::Rc;

use diffusion::networks::lpips::{Backbone, Lpips};
use emotions::Emotion;
use evaluator::config::Template;
use evaluator::evaluation::batch::tensor_of;
use evaluator::evaluation::observe::Observer;
use evaluator::metrics::statistics::bootstrap::Bootstrap;
use evaluator::metrics::statistics::confusion::Confusion;
use evaluator::metrics::{self, clip, psnr, sharpness, ssim, Asked, Networks, Observed, Pair};
use image::RgbImage;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::fixtures::{fixture, pocket, root};

pub const TOLERANCE: f64 = 1e-4;

fn expected() -> Value {
    let text = fs::read_to_string(fixture("metrics/expected.json")).expect("the fixture is readable");
    serde_json::from_str(&text).expect("the fixture is JSON")
}

pub fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
}

/// The four sources, or (with `_edit`) their edits.
pub fn photos(suffix: &str) -> Vec<RgbImage> {
    let names = expected()["names"].as_array().expect("a list").clone();
    let read = |name: &Value| {
        let path = fixture("metrics").join(format!("{}{suffix}.png", name.as_str().expect("a name")));
        image::open(path).expect("a picture").to_rgb8()
    };
    names.iter().map(read).collect()
}

fn unit_range(pictures: &[RgbImage]) -> Tensor {
    (tensor_of(pictures) + 1.0) / 2.0
}

/// What the metrics look through, without VGG.
pub fn networks(observer: &Observer) -> Networks {
    let weights = root().join("assets/lpips/lpips_alex.safetensors");
    Networks {
        lpips: Rc::new(Lpips::load(&weights, Backbone::Alex, Device::Cpu).expect("LPIPS")),
        lpips_vgg: None,
        classifier: observer.classifier().clone(),
        clarity: None,
    }
}

pub fn observer() -> Observer {
    Observer::load(&pocket("judge_alexnet"), &pocket("clip"), None, Device::Cpu).expect("the judges")
}

#[track_caller]
pub fn assert_near(name: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (place, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance, "{name}[{place}]: {a} instead of {b}");
    }
}

#[test]
fn psnr_and_ssim_are_scikit_images() {
    let (expected, source, edit) = (expected(), unit_range(&photos("")), unit_range(&photos("_edit")));
    assert_near("psnr", &psnr::psnr(&edit, &source), &numbers(&expected["psnr"]), TOLERANCE);
    assert_near("ssim", &ssim::ssim(&edit, &source), &numbers(&expected["ssim"]), TOLERANCE);
}

#[test]
fn sharpness_is_the_variance_of_scipys_laplacian() {
    let values: Vec<Vec<f64>> = expected()["sharpness"].as_array().expect("a list").iter().map(numbers).collect();
    for (column, suffix) in ["", "_edit"].into_iter().enumerate() {
        let found = sharpness::sharpness(&unit_range(&photos(suffix)));
        let expected: Vec<f64> = values.iter().map(|pair| pair[column]).collect();
        assert_near("sharpness", &found, &expected, 1e-6);
    }
}

#[test]
fn clip_cosines_and_lpips_are_those_of_transformers_and_lpips() {
    let (expected, observer) = (expected(), observer());
    let templates: Vec<Template> = [("a person", "a person showing {emotion}"), ("a face", "a sad face")]
        .map(|(source, target)| Template { source: source.into(), target: target.into() })
        .to_vec();
    let direction = observer.text_direction(&templates, Emotion::Sadness);
    let (source, edit) = (observer.observe(&photos("")), observer.observe(&photos("_edit")));
    let found = clip::cosine(&edit.embeddings, &source.embeddings);
    assert_near("clip_i", &found, &numbers(&expected["clip_i"]), TOLERANCE);
    let found = clip::direction(&source.embeddings, &edit.embeddings, &direction.expand_as(&edit.embeddings));
    assert_near("clip_direction", &found, &numbers(&expected["clip_direction"]), 10.0 * TOLERANCE);
    let found = value_of("lpips", &source, &edit, &direction);
    assert_near("lpips", &found, &numbers(&expected["lpips"]), TOLERANCE);
}

/// One metric's values for a batch whose target is sadness throughout.
fn value_of(key: &str, source: &Observed, edit: &Observed, direction: &Tensor) -> Vec<f64> {
    let targets = vec![Emotion::Sadness; edit.images.size()[0] as usize];
    let text_directions = direction.expand_as(&edit.embeddings);
    let pair = Pair { source, edit, targets: &targets, text_directions: &text_directions, truth: None };
    let metrics = metrics::all(networks(&observer()), Asked::default());
    metrics.iter().find(|m| m.about().key == key).expect("a metric").values(&pair)
}

#[test]
fn confusion_and_macro_f1_are_scikit_learns() {
    let classes = &expected()["classes"];
    let emotions = |key: &str| -> Vec<Emotion> {
        numbers(&classes[key]).into_iter().map(|class| Emotion::ALL[class as usize]).collect()
    };
    let confusion = Confusion::of(emotions("asked").into_iter().zip(emotions("found")));
    assert_eq!(serde_json::to_value(&confusion).expect("plain data"), classes["confusion"]);
    let macro_f1 = classes["macro_f1"].as_f64().expect("a number");
    assert_near("macro_f1", &[confusion.macro_f1()], &[macro_f1], 1e-12);
    let recall: Vec<f64> = Emotion::ALL.iter().map(|&e| confusion.accuracy_of(e).unwrap_or(0.0)).collect();
    assert_near("recall", &recall, &numbers(&classes["recall"]), 1e-12);
    assert_eq!(confusion.accuracy_of(Emotion::Awe), None, "awe was never asked for");
}

#[test]
fn bootstrap_intervals_are_scipys_percentiles() {
    let bootstrap = Bootstrap { samples: 20_000, seed: 7 };
    for (name, case) in expected()["bootstrap"].as_object().expect("cases") {
        let found = bootstrap.interval(&[numbers(&case["values"])]).expect("an interval");
        // Two runs of the bootstrap differ by the draws: a few percent of the standard error at this size.
        let tolerance = 0.06 * case["standard_error"].as_f64().expect("a number");
        assert_near(name, &found, &numbers(&case["interval"]), tolerance);
    }
}

#[test]
fn metrics_know_identity_symmetry_and_bounds() {
    let observer = observer();
    let (source, edit) = (observer.observe(&photos("")), observer.observe(&photos("_edit")));
    let direction = Tensor::ones([1, source.embeddings.size()[1]], (Kind::Float, Device::Cpu));
    let same = |key: &str| value_of(key, &source, &source, &direction);
    assert_near("lpips of itself", &same("lpips"), &[0.0; 4], 0.0);
    assert_near("ssim of itself", &same("ssim"), &[1.0; 4], 1e-9);
    assert_near("sharpness of itself", &same("sharpness"), &[1.0; 4], 0.0);
    assert_near("clip_i of itself", &same("clip_i"), &[1.0; 4], 1e-6);
    assert_near("emo_s of itself", &same("emo_s"), &[0.0; 4], 0.0);
    assert!(same("psnr").iter().all(|v| *v == f64::INFINITY));
    assert!(same("clip_direction").iter().all(|v| v.is_nan()), "no change has no direction");
    for key in ["lpips", "ssim", "psnr", "clip_i"] {
        let (there, back) = (value_of(key, &source, &edit, &direction), value_of(key, &edit, &source, &direction));
        assert_near(key, &there, &back, 1e-6);
    }
    for (key, low, high) in [
        ("ssim", -1.0, 1.0),
        ("clip_i", -1.0, 1.0),
        ("clip_direction", -1.0, 1.0),
        ("emo_a", 0.0, 1.0),
        ("emo_a_polarity", 0.0, 1.0),
        ("emo_s", -1.0, 1.0),
        ("esmi", 0.0, 1.0),
        ("lpips", 0.0, f64::INFINITY),
    ] {
        let values = value_of(key, &source, &edit, &direction);
        assert!(values.iter().all(|v| (low..=high).contains(v)), "{key}: {values:?}");
    }
}

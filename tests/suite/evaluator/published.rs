//! Two papers' own arithmetic: EmoEdit's columns against the libraries its evaluation code calls, ESMI against grad-cam.
//!
//! Fixture: python tests/fixtures/metrics/make_published.py

use emotions::Emotion;
use evaluator::metrics::{self, Asked, Observed, Pair};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::metrics::{assert_near, networks, observer, photos, TOLERANCE};
use super::read_json;
use crate::fixtures::fixture;

fn column(rows: &Value, key: &str) -> Vec<f64> {
    rows.as_array().expect("a list").iter().map(|row| row[key].as_f64().expect("a number")).collect()
}

fn value_of(key: &str, source: &Observed, edit: &Observed) -> Vec<f64> {
    let targets = vec![Emotion::Sadness; edit.images.size()[0] as usize];
    let text_directions = Tensor::ones_like(&edit.embeddings);
    let pair = Pair { source, edit, targets: &targets, text_directions: &text_directions, truth: None };
    let metrics = metrics::all(networks(&observer()), Asked { emoedit: true, ..Asked::default() });
    metrics.iter().find(|m| m.about().key == key).expect("a metric").values(&pair)
}

#[test]
fn emoedits_columns_are_those_of_the_libraries_it_calls() {
    let (expected, observer) = (read_json(&fixture("metrics/published.json")), observer());
    let (source, edit) = (observer.observe(&photos("")), observer.observe(&photos("_edit")));
    for key in ["lpips", "psnr", "ssim", "emo_a_polarity"] {
        let found = value_of(&format!("emoedit_{key}"), &source, &edit);
        assert_near(key, &found, &column(&expected["emoedit"], key), TOLERANCE);
    }
    // Squares that wrap at 256: of the order of a hundred.
    assert_near(
        "mse",
        &value_of("emoedit_mse", &source, &edit),
        &column(&expected["emoedit"], "mse"),
        100.0 * TOLERANCE,
    );
    let same = value_of("emoedit_lpips", &source, &source);
    assert_near("lpips of itself", &same, &[0.0; 4], 0.0);
    assert!(value_of("emoedit_psnr", &source, &source).iter().all(|v| *v == f64::INFINITY));
}

#[test]
fn esmi_sees_the_region_that_grad_cam_sees() {
    let (expected, observer) = (read_json(&fixture("metrics/published.json")), observer());
    let (source, edit) = (observer.observe(&photos("")), observer.observe(&photos("_edit")));
    assert_near("esmi", &value_of("esmi", &source, &edit), &column(&expected["esmi"], "esmi"), TOLERANCE);
    assert_near("esmi of no edit", &value_of("esmi", &source, &source), &[0.0; 4], 0.0);
}

#[test]
fn a_map_is_made_without_touching_the_classifier() {
    let observer = observer();
    let images = Tensor::rand([2, 3, 64, 64], (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
    let before = observer.classifier().logits(&images);
    let map = observer.classifier().saliency(&images).expect("AlexNet has a map");
    assert!(!map.requires_grad() && map.min().double_value(&[]) >= 0.0);
    assert_eq!(observer.classifier().logits(&images), before);
}

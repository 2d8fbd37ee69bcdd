//! The scoring classifier against PyTorch.
//!
//! Fixture: python tests/fixtures/classifier/make.py

use std::fs;

use evaluator::classifier::Classifier;
use tch::{Device, Kind};

use super::{read_json, Workshop};
use crate::fixtures::{assert_close, pocket, tensors};

const TOLERANCE: f64 = 1e-4;

#[test]
fn the_classifier_gives_pytorchs_logits() {
    let classifier = Classifier::load(&pocket("emotion_classifier"), Device::Cpu).expect("a classifier");
    let fixture = tensors("classifier/input.safetensors");
    let logits = classifier.logits(&fixture["images"]);
    assert_close("logits", &logits, &fixture["logits"], TOLERANCE);
    let total = classifier.probabilities(&fixture["images"]).sum_dim_intlist(1, false, Kind::Double);
    assert!((total - 1.0).abs().max().double_value(&[]) < 1e-6);
}

#[test]
fn a_classifier_of_a_loss_is_refused() {
    let workshop = Workshop::new();
    let folder = workshop.path("judge");
    fs::create_dir_all(&folder).expect("made");
    fs::copy(pocket("emotion_classifier/model.safetensors"), folder.join("model.safetensors")).expect("copied");
    let mut config = read_json(&pocket("emotion_classifier/config.json"));
    config["takes_part_in_losses"] = true.into();
    fs::write(folder.join("config.json"), config.to_string()).expect("written");
    workshop.refused(&[&format!("models.classifier={}", folder.display())], &["takes_part_in_losses"]);
}

//! torchvision's and pytorch-fid's networks, as classifiers and under FID, on weights drawn by name.
//!
//! Fixture: python tests/fixtures/torchvision/make.py

use std::fs;
use std::path::Path;

use emotions::Emotion;
use evaluator::evaluation::observe::Observer;
use evaluator::metrics::clarity::Clarity;
use evaluator::metrics::sets::fid::frechet_distance;
use evaluator::metrics::sets::population::Population;
use evaluator::metrics::sets::seen::Seen;
use judge::classifier::Classifier;
use serde_json::{json, Value};
use tch::{Device, Kind, Tensor};

use super::metrics::{assert_near, photos};
use super::read_json;
use crate::fixtures::{assert_close, fixture, pocket, tensors};
use crate::parity::unet::draw;

const TOLERANCE: f64 = 1e-4;

/// Writes the weights that the fixture's script drew.
fn write_drawn(network: &str, path: &Path) {
    let shapes = read_json(&fixture("torchvision/shapes.json"));
    let shape = |value: &Value| -> Vec<i64> {
        value.as_array().expect("a shape").iter().map(|side| side.as_i64().expect("a side")).collect()
    };
    let shapes = shapes[network].as_object().expect("a network");
    let drawn = |(name, value): (&String, &Value)| (name.clone(), parameter(name, &shape(value)));
    Tensor::write_safetensors(&shapes.iter().map(drawn).collect::<Vec<_>>(), path).expect("written");
}

fn parameter(name: &str, shape: &[i64]) -> Tensor {
    let values = draw(name, shape);
    if name.ends_with("bias") || name.ends_with("running_mean") {
        return values * 0.25;
    }
    match shape.len() {
        1 => values * 0.25 + 1.0,
        _ => values * (2.0 / shape[1..].iter().product::<i64>() as f64).sqrt(),
    }
}

/// A classifier's folder with drawn weights, its classes in the fixture's order.
fn classifier(depth: &str, folder: &Path) -> Classifier {
    write_drawn(depth, &folder.join("model.safetensors"));
    let config = json!({"architecture": depth, "labels": Emotion::ALL, "input_size": 64, "mean": [0.45, 0.45, 0.45],
                        "std": [0.25, 0.25, 0.25], "takes_part_in_losses": false});
    fs::write(folder.join("config.json"), config.to_string()).expect("written");
    Classifier::load(folder, Device::Cpu, || unreachable!("it reads pixels")).expect("a classifier")
}

#[test]
fn resnets_give_torchvisions_logits_and_a_map() {
    let fixture = tensors("torchvision/expected.safetensors");
    let images = fixture["images"].to_kind(Kind::Float) / 127.5 - 1.0;
    for depth in ["resnet18", "resnet50"] {
        let folder = tempfile::tempdir().expect("a folder");
        let classifier = classifier(depth, folder.path());
        assert_eq!(classifier.architecture(), depth);
        assert_close(depth, &classifier.logits(&images), &fixture[depth], TOLERANCE);
        assert_eq!(classifier.saliency(&images).expect("a map").size(), [2, 2, 2], "a 32nd of 64 pixels");
    }
}

#[test]
fn the_clarity_is_the_surer_classifiers_certainty() {
    let fixture = tensors("torchvision/expected.safetensors");
    let folder = tempfile::tempdir().expect("a folder");
    // Two networks that differ in how large their logits are.
    let written = ["scenes", "objects"].map(|name| {
        let path = folder.path().join(name).with_extension("safetensors");
        write_drawn("resnet50", &path);
        let scale = fixture[&format!("{name}_scale")].double_value(&[]);
        let quieter = |(name, tensor): (String, Tensor)| {
            let tensor = if name == "fc.weight" { tensor * scale } else { tensor };
            (name, tensor)
        };
        let weights = Tensor::read_safetensors(&path).expect("readable");
        Tensor::write_safetensors(&weights.into_iter().map(quieter).collect::<Vec<_>>(), &path).expect("written");
        path
    });
    let clarity = Clarity::load(&written[0], &written[1], Device::Cpu).expect("complete");
    let found = clarity.certainty(&(fixture["images"].to_kind(Kind::Float) / 255.0));
    let expected = Vec::<f64>::try_from(fixture["sem_c"].to_kind(Kind::Double)).expect("numbers");
    assert_near("sem_c", &found, &expected, TOLERANCE);
}

#[test]
fn inceptions_features_are_pytorch_fids_and_fid_is_their_distance() {
    let fixture = tensors("torchvision/expected.safetensors");
    let folder = tempfile::tempdir().expect("a folder");
    let weights = folder.path().join("inception.safetensors");
    write_drawn("inception", &weights);
    let observer = Observer::load(&pocket("judge_alexnet"), &pocket("clip"), None, Device::Cpu);
    let observer = observer.expect("the judges").with_inception(Some(&weights)).expect("complete");
    let photos = photos("");
    let chosen = [photos[0].clone(), photos[2].clone()];
    let seen = observer.observe(&chosen);
    assert_close("features", seen.inception.as_ref().expect("asked for"), &fixture["inception"], TOLERANCE);
    let mut population = Population::new(observer.clip().projection_dim(), true);
    let seen = Seen::new(&seen, None, &[0, 1]);
    population.add(&seen);
    let moments = population.inception.as_ref().expect("asked for");
    assert!(frechet_distance(moments, moments).expect("two sets") < TOLERANCE);
    assert!(seen.fits(observer.clip().projection_dim(), true) && !seen.fits(observer.clip().projection_dim(), false));
}

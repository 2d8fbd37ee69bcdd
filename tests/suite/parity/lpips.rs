//! Parity of LPIPS with the lpips package.
//!
//! Fixture: python tests/fixtures/lpips/make.py (torch 2.11.0, lpips 0.1.4)

use std::path::PathBuf;

use diffusion::networks::lpips::{Backbone, Lpips};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::unet::draw;
use crate::fixtures::{assert_close, root, shared_reference, tensors};

fn alex_file() -> PathBuf {
    root().join("assets/lpips/lpips_alex.safetensors")
}

fn alex() -> Lpips {
    Lpips::load(&alex_file(), Backbone::Alex, Device::Cpu).expect("the embedded weights are there")
}

/// Bytes to [-1, 1].
fn scaled(bytes: &Tensor) -> Tensor {
    bytes.to_kind(Kind::Float) / 127.5 - 1.0
}

fn assert_distances(metric: &Lpips, file: &str, sets: &[&str]) {
    let data = tensors(file);
    for set in sets {
        let (a, b) = (scaled(&data[&format!("{set}_a")]), scaled(&data[&format!("{set}_b")]));
        let (found, expected) = (metric.distance(&a, &b), &data[&format!("{set}_distance")]);
        let difference = (&found - expected).abs().max().double_value(&[]);
        assert!(difference <= 1e-4, "{file}: {set}: differs by {difference:.2e}");
        assert_close("symmetry", &metric.distance(&b, &a), &found, 1e-4);
    }
}

#[test]
fn alex_distances_equal_the_package() {
    assert_distances(&alex(), "lpips/alex.safetensors", &["square", "wide"]);
}

/// VGG-16 with the weights that the fixture's script drew.
fn drawn_vgg(folder: &std::path::Path) -> Lpips {
    let places = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28];
    let widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512];
    let mut weights: Vec<(String, Tensor)> = Vec::new();
    for (i, place) in places.iter().enumerate() {
        let (inputs, outputs) = (widths[i], widths[i + 1]);
        let name = format!("net.features.{place}.weight");
        let scale = (2.0 / (inputs * 9) as f64).sqrt();
        weights.push((name.clone(), draw(&name, &[outputs, inputs, 3, 3]) * scale));
        let name = format!("net.features.{place}.bias");
        weights.push((name.clone(), draw(&name, &[outputs]) * 0.25));
    }
    for (i, channels) in [64, 128, 256, 512, 512].into_iter().enumerate() {
        let name = format!("lin{i}.model.1.weight");
        weights.push((name.clone(), draw(&name, &[1, channels, 1, 1]).abs()));
    }
    let file = folder.join("vgg.safetensors");
    Tensor::write_safetensors(&weights, &file).expect("the folder is writable");
    Lpips::load(&file, Backbone::Vgg, Device::Cpu).expect("the weights are complete")
}

#[test]
fn vgg_distances_equal_the_package() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert_distances(&drawn_vgg(folder.path()), "lpips/vgg.safetensors", &["square"]);
}

#[test]
fn an_image_is_at_no_distance_from_itself() {
    let image = scaled(&tensors("lpips/alex.safetensors")["square_b"]);
    assert_eq!(alex().distance(&image, &image), Tensor::zeros([6], (Kind::Float, Device::Cpu)));
}

#[test]
fn kept_features_give_the_same_distance_and_a_gradient() {
    let (metric, data) = (alex(), tensors("lpips/alex.safetensors"));
    let (a, b) = (scaled(&data["wide_a"]), scaled(&data["wide_b"]).set_requires_grad(true));
    let distance = metric.distance_of(&metric.unit_features(&a), &metric.unit_features(&b));
    assert_eq!(distance.detach(), metric.distance(&a, &b.detach()));
    distance.sum(Kind::Float).backward();
    let slope = b.grad().abs().max().double_value(&[]);
    assert!(slope.is_finite() && slope > 0.0, "{slope}");
}

/// A photo beside the repository as (1, 3, h, w) in [-1, 1].
fn example(path: PathBuf) -> Tensor {
    let photo = image::open(path).expect("a PNG").to_rgb8();
    let (w, h) = photo.dimensions();
    scaled(&Tensor::from_slice(photo.as_raw()).view([i64::from(h), i64::from(w), 3]).permute([2, 0, 1]).unsqueeze(0))
}

fn assert_reference(metric: &Lpips, key: &str) {
    let Some(path) = shared_reference("lpips/reference.json") else { return };
    let text = std::fs::read_to_string(path).expect("the reference is readable");
    let reference: Value = serde_json::from_str(&text).expect("the reference parses");
    let pairs = reference["lpips"][key].as_object().expect("distances by pair");
    assert_eq!(pairs.len(), 3);
    for (pair, expected) in pairs {
        let (a, b) = pair.split_once('-').expect("two names");
        let Some(a) = shared_reference(&format!("lpips/{a}.png")) else { return };
        let Some(b) = shared_reference(&format!("lpips/{b}.png")) else { return };
        let found = metric.distance(&example(a), &example(b)).double_value(&[0]);
        let expected = expected.as_f64().expect("a distance");
        assert!((found - expected).abs() <= 1e-4, "{key}: {pair}: {found} is not {expected}");
    }
}

#[test]
fn alex_distances_equal_the_shared_reference() {
    assert_reference(&alex(), "alex");
}

#[test]
fn vgg_distances_equal_the_shared_reference() {
    let Some(file) = shared_reference("lpips/lpips_vgg_fp16.safetensors") else { return };
    let metric = Lpips::load(&file, Backbone::Vgg, Device::Cpu).expect("the weights are complete");
    assert_reference(&metric, "vgg_fp16");
    assert!(Lpips::load(&alex_file(), Backbone::Vgg, Device::Cpu).is_err(), "AlexNet is not VGG");
}

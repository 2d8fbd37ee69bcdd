//! What validation says of the pictures that it shows.

use std::fs;

use diffusion::images;
use emotions::Emotion;
use image::imageops::crop_imm;
use image::RgbImage;
use judge::Classifier;
use tch::{Device, Kind};

use super::*;
use crate::fixtures::fixture;

/// Pixels of a side, and the held-out faces of the recipe.
const SIDE: u32 = 64;
const FACES: u32 = 2;

#[test]
fn emo_a_and_emo_s_are_the_judges_word_on_the_pictures_shown() {
    let scene = Scene::new();
    let judge = pocket("judge_alexnet");
    let set = format!("validation.classifier={}", judge.display());
    let best = "checkpoint.keep_best={metric: validation/emo_s, better: higher}";
    scene.run(0, &["--nproc-per-node", "2", "--set", &set, "--set", best]);

    let grid = image::open(scene.run_dir().join("samples/step-6/sadness.png")).expect("a grid").to_rgb8();
    let column = |k: u32| -> Vec<RgbImage> {
        (0..FACES).map(|row| crop_imm(&grid, k * SIDE, row * SIDE, SIDE, SIDE).to_image()).collect()
    };
    let classifier = Classifier::load(&judge, Device::Cpu, || unreachable!("it reads pixels")).expect("a judge");
    let probabilities = |pictures: Vec<RgbImage>| {
        let pictures: Vec<Tensor> = pictures.iter().map(images::to_tensor).collect();
        classifier.probabilities(&Tensor::cat(&pictures, 0)).to_kind(Kind::Double)
    };
    let (before, after) = (probabilities(column(0)), probabilities(column(2)));
    let sadness = Emotion::ALL.iter().position(|e| e.name() == "sadness").expect("one of eight") as i64;
    let expected = [
        ("validation/emo_a", after.argmax(1, false).eq(sadness).to_kind(Kind::Double).mean(Kind::Double)),
        ("validation/emo_s", (&after - &before).select(1, sadness).mean(Kind::Double)),
    ];
    let text = fs::read_to_string(scene.run_dir().join("validation.jsonl")).expect("what validation found");
    let found: serde_json::Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    for (tag, expected) in expected {
        let (found, expected) = (found[tag].as_f64().expect("a number"), expected.double_value(&[]));
        assert!((found - expected).abs() < 1e-6, "{tag}: {found}, the judge says {expected}");
    }
}

/// The held-out faces are all amused: none of them can be edited towards amusement.
#[test]
fn nothing_is_edited_towards_what_it_shows_already() {
    let scene = Scene::new();
    let sets = ["emotions=[sadness, amusement]", "train.max_train_steps=1", "validation.validation_steps=1"];
    let text = scene.run(0, &sets.iter().flat_map(|set| ["--set", set]).collect::<Vec<_>>());
    assert!(text.contains("amusement: every source of the held-out \"test\" shows it already"), "{text}");
    let samples = scene.run_dir().join("samples/step-1");
    assert!(samples.join("sadness.png").is_file() && !samples.join("amusement.png").exists());
    let only = Scene::new();
    let text = only.run(2, &["--set", "emotions=[amusement]"]);
    assert!(text.contains("no row passes the filter"), "{text}");
}

#[test]
fn a_judge_with_the_losss_eyes_is_refused() {
    let judge = format!("validation.classifier={}", fixture("classifier/emoedit").display());
    let eyes = format!("validation.classifier_clip={}", pocket("clip").display());
    let text = Scene::new().run(2, &["--set", &judge, "--set", &eyes]);
    assert!(text.contains("validation.classifier") && text.contains("shares the loss's eyes"), "{text}");
    let text = Scene::new().run(2, &["--set", "validation.classifier=no/such/judge"]);
    assert!(text.contains("no/such/judge"), "{text}");
}

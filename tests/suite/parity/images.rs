//! Photos against Pillow 13.0.0, preprocessing against transformers 5.23.0's CLIPImageProcessor and torch 2.11.0's
//! antialiased bicubic: `python tests/fixtures/images/make.py PHOTOS` (tests/fixtures/images/NOTICE.md names them).

use std::collections::BTreeMap;

use diffusion::images::{self, ClipPreprocess};
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::fixtures::{fixture, tensors};

const EXPECTED: &str = "images/expected.safetensors";

fn difference(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.size(), expected.size(), "shape");
    (found.to_kind(Kind::Double) - expected.to_kind(Kind::Double)).abs().max().double_value(&[])
}

#[test]
fn photos_are_read_upright_opaque_and_in_colour() {
    let mut seen = 0;
    for (name, expected) in tensors(EXPECTED) {
        let Some(file) = name.strip_prefix("photo.") else { continue };
        let photo = images::read_photo(&fixture("images").join(file)).unwrap_or_else(|e| panic!("{e}"));
        let size = [i64::from(photo.height()), i64::from(photo.width()), 3];
        let found = Tensor::from_slice(photo.as_raw()).view(size);
        // JPEG decoders may differ by their rounding, and alpha by one level; everything else is exact.
        let allowed = match file {
            f if f.ends_with("jpg") => 6.0,
            f if f.contains("alpha") || f.contains("rgba") => 1.0,
            _ => 0.0,
        };
        let found = difference(&found, &expected);
        assert!(found <= allowed, "{file}: differs by {found} levels");
        seen += 1;
    }
    assert!(seen >= 20, "only {seen} photos");
}

#[test]
fn what_is_no_photo_is_refused_in_one_line() {
    for (file, reason) in [
        ("text.png", "format"),
        ("cut.png", "not a readable image"),
        ("bomb.png", "100000x100000"),
        ("none.png", "No such file"),
    ] {
        let message = images::read_photo(&fixture("images").join(file)).expect_err(file).to_string();
        assert!(message.contains(file) && message.contains(reason), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
    assert!(images::read_photo(&fixture("images")).is_err());
}

/// Each case's preprocessing, photo and name.
fn cases() -> Vec<(ClipPreprocess, image::RgbImage, String)> {
    let text = std::fs::read_to_string(fixture("images/cases.json")).expect("the fixture is there");
    let cases: BTreeMap<String, Value> = serde_json::from_str(&text).expect("JSON");
    let case = |(name, case): (String, Value)| {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("preprocessor_config.json"), case["config"].to_string()).expect("written");
        let preprocess = ClipPreprocess::read(folder.path()).expect("a CLIP configuration");
        let photo = fixture("images").join(case["photo"].as_str().expect("a name"));
        (preprocess, images::read_photo(&photo).expect("a photo"), name)
    };
    cases.into_iter().map(case).collect()
}

#[test]
fn clip_sees_what_pillow_resizes() {
    let expected = tensors(EXPECTED);
    for (preprocess, photo, name) in cases() {
        let found = difference(&preprocess.from_image(&photo), &expected[&format!("image.{name}")]);
        // Pillow 13.0.0 takes the columns first for some sizes, this one among them, where its Resample.c long took the
        // rows. One level of 255 is 0.0150 at most.
        let allowed = if name == "stretched" { 0.0151 } else { 1e-5 };
        assert!(found <= allowed, "{name}: differs by {found:.1e}");
    }
}

#[test]
fn clip_sees_tensors_as_torch_resizes() {
    let expected = tensors(EXPECTED);
    for (preprocess, photo, name) in cases() {
        let found = preprocess.from_tensor(&images::to_tensor(&photo));
        let found = difference(&found, &expected[&format!("tensor.{name}")]);
        assert!(found <= 1e-4, "{name}: differs by {found:.1e}");
    }
}

#[test]
fn both_ways_into_clip_agree_to_the_rounding_of_pixels() {
    for (preprocess, photo, name) in cases() {
        let (image, tensor) = (preprocess.from_image(&photo), preprocess.from_tensor(&images::to_tensor(&photo)));
        let mean = (image - tensor).abs().mean(Kind::Float).double_value(&[]);
        assert!(mean <= 0.01, "{name}: differs by {mean:.1e} on average");
    }
}

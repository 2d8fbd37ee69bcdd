//! The metrics of whole sets against scipy and torchmetrics, and what must hold of them whatever the pictures.
//!
//! Fixture: python tests/fixtures/metrics/make_sets.py

use evaluator::metrics::sets::diversity::mean_distance;
use evaluator::metrics::sets::fid::frechet_distance;
use evaluator::metrics::sets::kld::divergence;
use evaluator::metrics::sets::moments::Moments;
use evaluator::metrics::sets::population::Population;
use evaluator::metrics::sets::seen::Seen;
use image::imageops::crop_imm;
use image::RgbImage;
use proptest::prelude::*;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::metrics::{assert_near, numbers, observer, photos, TOLERANCE};
use super::read_json;
use crate::fixtures::fixture;

/// Features of a property's vectors; more vectors than that, so that covariances have full rank.
const FEATURES: i64 = 4;

/// Every window of the photos, in make_sets.py's order.
fn windows(suffix: &str, expected: &Value) -> Vec<RgbImage> {
    let number = |key: &str| expected[key].as_u64().expect("a number") as u32;
    let (window, step) = (number("window"), number("step") as usize);
    let cut = |photo: &RgbImage| -> Vec<RgbImage> {
        let rows = (0..=photo.height() - window).step_by(step);
        let places = rows.flat_map(|y| (0..=photo.width() - window).step_by(step).map(move |x| (x, y)));
        places.map(|(x, y)| crop_imm(photo, x, y, window, window).to_image()).collect()
    };
    photos(suffix).iter().flat_map(cut).collect()
}

#[test]
fn frechet_distance_and_diversity_are_scipys() {
    let (expected, observer) = (read_json(&fixture("metrics/sets.json")), observer());
    let (sources, edits) = (windows("", &expected), windows("_edit", &expected));
    let projection = observer.clip().projection_dim();
    let (mut edited, mut references) = (Population::new(projection, false), Population::new(projection, false));
    for (source, edit) in sources.chunks(44).zip(edits.chunks(44)) {
        let (source, edit) = (observer.observe(source), observer.observe(edit));
        let rows: Vec<i64> = (0..source.images.size()[0]).collect();
        edited.add(&Seen::new(&edit, Some(&source), &rows));
        references.add(&Seen::new(&source, None, &rows));
    }
    assert_eq!(edited.count(), expected["n"].as_f64().expect("a number"));
    let distance = frechet_distance(&edited.features, &references.features).expect("two sets");
    for library in ["scipy", "torchmetrics"] {
        let expected = expected["clip_fid"][library].as_f64().expect("a number");
        assert_near(library, &[distance], &[expected], TOLERANCE);
    }
    let found = [mean_distance(&edited.embeddings), mean_distance(&edited.changes)].map(|d| d.expect("pairs"));
    let expected = ["sem_d", "change_diversity"].map(|key| expected[key].as_f64().expect("a number"));
    assert_near("diversity", &found, &expected, TOLERANCE);
}

#[test]
fn divergence_is_scipys_entropy() {
    let case = &read_json(&fixture("metrics/sets.json"))["kld"];
    let found = divergence(&numbers(&case["p"]), &numbers(&case["q"]));
    assert_near("kld", &[found], &[case["value"].as_f64().expect("a number")], 1e-9);
}

#[test]
fn a_set_of_one_has_no_spread() {
    let (mut one, mut two) = (Moments::new(FEATURES), Moments::new(FEATURES));
    one.add(&Tensor::ones([1, FEATURES], (Kind::Double, Device::Cpu)));
    two.add(&Tensor::ones([2, FEATURES], (Kind::Double, Device::Cpu)));
    assert_eq!((frechet_distance(&one, &two), frechet_distance(&two, &one)), (None, None));
    assert_eq!(mean_distance(&(&Tensor::ones([1, FEATURES], (Kind::Double, Device::Cpu))).into()), None);
}

fn moments(values: &[f64]) -> Moments {
    let mut moments = Moments::new(FEATURES);
    moments.add(&Tensor::from_slice(values).view([-1, FEATURES]));
    moments
}

/// Eight to twenty vectors.
fn vectors() -> impl Strategy<Value = Vec<f64>> {
    (8..20usize).prop_flat_map(|n| prop::collection::vec(-3.0..3.0f64, n * FEATURES as usize))
}

fn shares() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(0.001..1.0f64, 8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_frechet_distance_is_a_distance(a in vectors(), b in vectors(), shift in -2.0..2.0f64) {
        let (first, second) = (moments(&a), moments(&b));
        let distance = frechet_distance(&first, &second).expect("two sets");
        let back = frechet_distance(&second, &first).expect("two sets");
        prop_assert!(distance >= 0.0 && (distance - back).abs() < 1e-6 * (1.0 + distance), "{distance} {back}");
        prop_assert!(frechet_distance(&first, &first).expect("two sets") < 1e-6);
        let moved = moments(&a.iter().map(|v| v + shift).collect::<Vec<_>>());
        let moved = frechet_distance(&first, &moved).expect("two sets");
        prop_assert!((moved - FEATURES as f64 * shift * shift).abs() < 1e-6, "a shift alone counts by its square");
    }

    #[test]
    fn the_divergence_is_zero_for_equals_and_else_above(p in shares(), q in shares()) {
        prop_assert!(divergence(&p, &p) < 1e-12);
        let scaled: Vec<f64> = p.iter().map(|v| v * 7.0).collect();
        prop_assert!(divergence(&p, &q) >= 0.0 && (divergence(&scaled, &q) - divergence(&p, &q)).abs() < 1e-9);
    }

    #[test]
    fn the_diversity_is_the_mean_over_all_pairs(values in vectors()) {
        let rows: Vec<&[f64]> = values.chunks(FEATURES as usize).collect();
        let length = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
        prop_assume!(rows.iter().all(|row| length(row) > 1e-3));
        let cosine = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>() / length(a) / length(b);
        let pairs: Vec<f64> = (0..rows.len())
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| 1.0 - cosine(rows[i], rows[j]))
            .collect();
        let expected = pairs.iter().sum::<f64>() / pairs.len() as f64;
        let found = mean_distance(&(&Tensor::from_slice(&values).view([-1, FEATURES])).into()).expect("pairs");
        prop_assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    }
}

//! Edits held against true pictures, methods held against one another, and edits that fail.
//!
//! Fixture: python tests/fixtures/pairs/make.py

use std::fs;
use std::path::Path;

use emotions::Emotion;
use evaluator::evaluation::batch::{tensor_of, Batch};
use evaluator::evaluation::made::make;
use evaluator::evaluation::true_pictures::TruePictures;
use evaluator::evaluation::truth::SeenTruth;
use evaluator::methods::{About, Method};
use evaluator::metrics::change_outside::{change_outside, expression_region};
use evaluator::metrics::statistics::agreement::Agreement;
use evaluator::metrics::statistics::bootstrap::Bootstrap;
use evaluator::metrics::statistics::holm;
use evaluator::metrics::statistics::paired::{least_difference, Difference};
use evaluator::metrics::{Asked, Observed, Pair};
use evaluator::scores::measure;
use image::{Rgb, RgbImage};
use serde_json::Value;
use tch::{Kind, Tensor};

use super::metrics::{assert_near, networks, numbers, observer};
use super::{read_json, Workshop};
use crate::fixtures::{fixture, pocket};

fn expected() -> Value {
    read_json(&fixture("pairs/expected.json"))
}

fn picture(name: &str) -> RgbImage {
    image::open(fixture("pairs").join(format!("{name}.png"))).expect("a picture").to_rgb8()
}

fn unit_range(name: &str) -> Tensor {
    (tensor_of(&[picture(name)]) + 1.0) / 2.0
}

#[test]
fn the_expression_region_is_scipys_dilation() {
    let expected = &expected()["region"];
    let (source, edit, truth) = (unit_range("source"), unit_range("edit"), unit_range("truth"));
    let region = expression_region(&source, &truth);
    let rows = region.sum_dim_intlist([0i64, 1, 3].as_slice(), false, Kind::Double);
    assert_near("region", &Vec::<f64>::try_from(&rows).expect("numbers"), &numbers(&expected["rows"]), 0.0);
    let wanted = expected["change_outside"].as_f64().expect("a number");
    assert_near("change outside", &change_outside(&source, &edit, &region), &[wanted], 1e-4);
    assert!(change_outside(&source, &source, &region)[0].is_nan(), "no change inside");
    assert!(change_outside(&source, &edit, &region.zeros_like())[0].is_nan(), "no region");
}

#[test]
fn holms_p_values_and_kappa_are_statsmodels() {
    let expected = expected();
    let adjusted = holm::adjusted(&numbers(&expected["holm"]["p"]));
    assert_near("holm", &adjusted, &numbers(&expected["holm"]["adjusted"]), 1e-12);
    let classes = |key: &str| numbers(&expected["kappa"][key]).into_iter().map(|class| Emotion::ALL[class as usize]);
    let found: Vec<_> =
        classes("first").zip(classes("second")).map(|(a, b)| (Emotion::Awe, Some(a), Some(b))).collect();
    let agreement = Agreement::of(&found).expect("pictures");
    let found = [agreement.agreement, agreement.kappa.expect("more than chance")];
    let wanted = ["agreement", "kappa"].map(|key| expected["kappa"][key].as_f64().expect("a number"));
    assert_near("agreement", &found, &wanted, 1e-9);
}

#[test]
fn paired_differences_are_scipys_and_statsmodels() {
    let expected = expected();
    let bootstrap = Bootstrap { samples: 20_000, seed: 1 };
    for case in expected["paired"].as_array().expect("cases") {
        let (featured, other) = (numbers(&case["featured"]), numbers(&case["other"]));
        let differences: Vec<f64> = featured.iter().zip(&other).map(|(a, b)| a - b).collect();
        let found = Difference::of(std::slice::from_ref(&differences), &bootstrap).expect("pairs");
        let wanted = |key: &str| case[key].as_f64().expect("a number");
        let [low, high] = found.interval.expect("finite");
        let spread = wanted("least") / 2.8; // a standard error: what resampling leaves open is a small part of it
        assert_near("difference", &[found.difference], &[wanted("difference")], 1e-12);
        assert_near("interval", &[low, high], &numbers(&case["interval"]), 0.1 * spread);
        assert_near("p", &[found.p.expect("resamples")], &[wanted("p")], 0.01);
        assert_near("least", &[found.least.expect("several")], &[wanted("least")], 1e-4 * wanted("least"));
    }
    // Of 470 pairs whose differences spread by 0.387, five points can be seen.
    let points: Vec<f64> = (0..470).map(|n| if n % 2 == 0 { 0.387 } else { -0.387 }).collect();
    assert_near("points", &[least_difference(&points).expect("several")], &[0.05], 1e-3);
}

#[test]
fn the_nearest_of_several_true_pictures_counts() {
    let (observer, (source, truth)) = (observer(), (picture("source"), picture("truth")));
    let networks = networks(&observer);
    let other = RgbImage::from_pixel(source.width(), source.height(), Rgb([9, 9, 200]));
    let seen = observer.observe(&[source.clone(), source.clone()]);
    // The first source has two true pictures, the second has none.
    let pictures = TruePictures { pictures: vec![(0, other), (0, truth.clone())] };
    let truths = SeenTruth::new(&pictures, &seen, &networks.lpips).expect("true pictures");
    let edit = observer.observe(&[truth.clone(), truth.clone()]);
    let nearest = truths.nearest(&edit, &networks.lpips);
    assert_eq!((nearest.chosen[0], nearest.chosen[1], &nearest.drawings[..]), (Some(1), None, &[2, 0][..]));
    assert_eq!(nearest.picture(0).expect("a picture"), truth);
    assert!(nearest.from_edit[0].abs() < 1e-6 && nearest.from_source[0] > 0.0 && nearest.from_edit[1].is_nan());

    let metrics = evaluator::metrics::all(networks, Asked { truth: true, ..Asked::default() });
    let value = |edit: &Observed, key: &str| {
        let targets = [Emotion::Sadness; 2];
        let directions = seen.embeddings.zeros_like();
        let lpips = super::metrics::networks(&observer).lpips;
        let truth = truths.nearest(edit, &lpips);
        let pair = Pair { source: &seen, edit, targets: &targets, text_directions: &directions, truth: Some(&truth) };
        metrics.iter().find(|m| m.about().key == key).expect("a metric").values(&pair)
    };
    let same = observer.observe(&[source.clone(), source]);
    let gains = [value(&edit, "truth_gain"), value(&same, "truth_gain")];
    assert_near("gain of the truth and of no edit", &[gains[0][0], gains[1][0]], &[1.0, 0.0], 1e-5);
    assert!(gains.iter().all(|gain| gain[1].is_nan()), "no true picture, no gain");
    assert_eq!(value(&edit, "truth_psnr")[0], f64::INFINITY);
    assert!(value(&edit, "change_outside")[0] < 0.05, "but for one pixel the truth changes nothing outside");
}

/// Returns the photos, the second of a batch without a number in one pixel; or gives up.
#[derive(Debug)]
struct Faulty {
    gives_up: bool,
}

impl Method for Faulty {
    fn about(&self) -> About {
        About { key: "faulty", name: "Faulty", definition: "", control: false }
    }

    fn edits(&self, batch: &Batch) -> evaluator::Result<Vec<Tensor>> {
        if self.gives_up {
            return Err(tch::TchError::Torch("it gave up".into()).into());
        }
        let edits = batch.images.copy();
        let _ = edits.get(1).get(0).get(3).get(4).fill_(f64::NAN);
        Ok(vec![edits])
    }
}

#[test]
fn edits_that_fail_are_misses() {
    let observer = observer();
    let faces = ["awe/test-1-8-bigEars-awe-0.png", "fear/test-1-17-bigSmile-fear-0.png"]
        .map(|face| image::open(fixture("metrics/faces/test").join(face)).expect("a picture").to_rgb8());
    let batch = Batch::new(0, faces.to_vec());
    let (made, _) = make(&Faulty { gives_up: true }, &batch).expect("the evaluation goes on");
    assert_eq!(made[0].failed, [true, true]);
    let (made, seconds) = make(&Faulty { gives_up: false }, &batch).expect("edits");
    assert_eq!((&made[0].failed[..], made.len()), (&[false, true][..], 1));
    assert!(seconds >= 0.0);

    let source = observer.observe(&batch.pictures);
    let edit = observer.observe(&made[0].pictures);
    // Both photos are what is asked for, so that both would be hits.
    let targets: Vec<Emotion> =
        source.predicted().into_iter().map(|found| found.expect("it knows the eight")).collect();
    let metrics = evaluator::metrics::all(networks(&observer), Asked::default());
    let directions = source.embeddings.zeros_like();
    let pair = Pair { source: &source, edit: &edit, targets: &targets, text_directions: &directions, truth: None };
    let cases = measure(&metrics, &pair, &[], 0, &made[0].failed, |_| false);
    let value = |row: usize, key: &str| cases[row].values[key];
    assert_eq!([value(0, "emo_a"), value(1, "emo_a"), value(1, "emo_a_polarity")], [1.0, 0.0, 0.0]);
    let before = source.probability_of(&targets)[1];
    assert_eq!((value(0, "emo_s"), value(1, "emo_s")), (0.0, -before));
    assert!(value(1, "lpips").is_nan() && cases[1].failed && cases[1].found().is_none() && !cases[1].is_hit());
}

/// A face of 64 px: who it is shows in its colours, its mouth in its state.
fn face(person: u8, mouth: u32) -> RgbImage {
    RgbImage::from_fn(64, 64, |x, y| {
        let (dx, dy) = (x.abs_diff(32), y.abs_diff(32));
        match (dx * dx + dy * dy < 26 * 26, x, y) {
            (true, 20..26 | 38..44, 22..28) => Rgb([20, 20, 30]),
            (true, _, _) if dx < 12 && y >= 42 + mouth * dx / 8 && y < 46 + mouth * dx / 8 => Rgb([120, 20, 30]),
            (true, ..) => Rgb([230, 190 - 12 * person, 120 + 8 * person]),
            (false, ..) => Rgb([40 * person, 90, 200 - 30 * person]),
        }
    })
}

/// Five persons: of the first there are two sad pictures, of the fourth a sad one that is the neutral one, of the fifth
/// none.
fn paired_faces(folder: &Path) {
    fs::create_dir_all(folder).expect("made");
    let mut lines = String::new();
    let mut draw = |name: &str, person: u8, mouth: u32, state: &str| {
        face(person, mouth).save(folder.join(name)).expect("written");
        lines += &format!(
            "{{\"file_name\": \"{name}\", \"subject\": \"p{person}\", \"emotion\": \"{state}\", \"split\": \"test\"}}\n"
        );
    };
    for person in 0..5 {
        draw(&format!("{person}.png"), person, 0, "neutral");
    }
    for (name, person, mouth) in
        [("0s.png", 0, 4), ("0t.png", 0, 7), ("1s.png", 1, 4), ("2s.png", 2, 6), ("3s.png", 3, 0)]
    {
        draw(name, person, mouth, "sadness");
    }
    fs::write(folder.join("metadata.jsonl"), lines).expect("written");
}

/// A judge that is another one: the embedded classifier with its last layer a little larger.
fn second_judge(folder: &Path) {
    fs::create_dir_all(folder).expect("made");
    for entry in fs::read_dir(pocket("judge_alexnet")).expect("readable") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, folder.join(path.file_name().expect("a name"))).expect("copied");
    }
    let path = folder.join("model.safetensors");
    let tensors = Tensor::read_safetensors(&path).expect("readable");
    let changed: Vec<(String, Tensor)> = tensors.into_iter().map(|(name, tensor)| (name, tensor * 1.01)).collect();
    Tensor::write_safetensors(&changed, &path).expect("written");
}

/// A workshop whose sources are neutral faces with true sad ones.
fn paired() -> (Workshop, Vec<String>) {
    let workshop = Workshop::new();
    paired_faces(&workshop.path("persons"));
    workshop.encode(&workshop.path("persons"), "pairs");
    second_judge(&workshop.path("second_judge"));
    let sets = vec![
        format!("sources.shards={}", workshop.path("pairs").display()),
        "sources.filter.state=neutral".into(),
        format!("models.judges=[{}]", workshop.path("second_judge").display()),
        "strengths=[1.0]".into(),
    ];
    (workshop, sets)
}

#[test]
fn a_report_holds_edits_against_true_pictures() {
    let (workshop, sets) = paired();
    let steps = "{\"step\": 1, \"perf/step_seconds\": 30.0}\n{\"step\": 2, \"perf/step_seconds\": 60.0}\n{\"st";
    fs::write(workshop.path("run/metrics.jsonl"), steps).expect("written");
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    let folder = workshop.evaluate(&sets).expect("evaluated").folder;
    let report = read_json(&folder.join("report.json"));
    let method = |key: &str, of: &str| report["methods"][key][of].clone();
    let number = |key: &str, of: &str| method(key, of).as_f64().unwrap_or_else(|| panic!("{key}.{of} is no number"));

    assert_eq!((number("no_edit", "n"), number("oracle", "n")), (5.0, 4.0), "the fifth has no true picture");
    let truth = serde_json::json!({"pairs": 4, "undefined": 1, "drawings": 1.25});
    assert_eq!((&method("no_edit", "truth"), &method("joint", "truth")), (&truth, &truth));
    let by_count = serde_json::json!({"sources": 4, "by_true_pictures": {"1": 3, "2": 1}});
    assert_eq!(report["provenance"]["truth"]["sadness"], by_count);

    assert_near("no edit", &[number("no_edit", "truth_gain")], &[0.0], 1e-9);
    assert!(method("no_edit", "change_outside").is_null(), "nothing changed");
    assert!(number("oracle", "truth_gain") > number("vae_round_trip", "truth_gain"));
    assert!(number("oracle", "truth_psnr") > number("no_edit", "truth_psnr"));
    assert_eq!(method("shuffled", "truth_gain"), Value::Null, "it is scored against other emotions");

    // Both judges, their agreement on the sad pictures, and what they see over all edits.
    let names: Vec<_> = report["provenance"]["judges"].as_array().expect("judges").iter().map(|j| &j["name"]).collect();
    assert_eq!(names, ["judge_alexnet", "second_judge"]);
    assert_eq!(report["provenance"]["judges_on_real_images"]["n"], 5);
    assert!(report["provenance"]["judges_on_real_images"]["agreement"][0]["agreement"].is_number());
    assert!(method("joint", "emo_a_judge_2").is_number() && method("joint", "emo_s_judge_2").is_number());
    for judge in method("joint", "predicted_shares").as_array().expect("judges") {
        let classes = judge["shares"].as_object().expect("classes").values().chain([&judge["none"]]);
        let total: f64 = classes.filter_map(Value::as_f64).sum();
        assert_near("shares", &[total], &[1.0], 1e-9);
    }
    let compared = &report["comparisons"]["oracle"]["truth_gain"];
    assert_eq!(compared["overall"]["n"], 3, "pairs with a gain on both sides");
    assert_eq!(compared["overall"]["p"], compared["emotions"]["sadness"]["p_holm"], "one emotion needs no correction");
    assert_eq!(report["comparisons"]["no_edit"]["emo_a_judge_2"]["overall"]["n"], 5);

    let cost = |key: &str| {
        let costs = report["costs"].as_array().expect("costs").iter();
        costs.filter(|cost| cost["method"] == key).map(|cost| cost["parameters"].as_u64()).next().expect("a cost")
    };
    let minutes = report["costs"].as_array().expect("costs").iter().find(|cost| cost["method"] == "joint");
    assert_eq!(minutes.expect("a cost")["training_minutes"], 1.5, "a line that was cut does not count");
    assert!(cost("joint").expect("it was trained") > 1000 && cost("no_edit").is_none());
    let seconds = read_json(&folder.join("costs.json"));
    assert!(seconds.as_array().expect("costs").iter().all(|cost| cost["seconds_an_edit"].as_f64() >= Some(0.0)));

    let (page, text) = (fs::read_to_string(folder.join("index.html")), fs::read_to_string(folder.join("report.md")));
    let (page, text) = (page.expect("a page"), text.expect("a text"));
    for part in ["Truth gain", "Oracle", "Emo-A, judge 2", "least to be seen", "seconds an edit", "second_judge"] {
        assert!(page.contains(part) && text.contains(part), "{part}");
    }
    assert!(page.contains("<b>Truth</b>") && page.contains("the nearest of 2"), "the true picture stands in the grids");
}

#[test]
fn a_run_without_numbers_misses_everything_and_the_report_says_so() {
    let workshop = Workshop::new();
    let path = workshop.path("run").join(diffusion::run::DELTA_FILE);
    spoil(&path);
    let folder = workshop.evaluate(&["strengths=[1.0]"]).expect("evaluated").folder;
    let report = read_json(&folder.join("report.json"));
    let joint = &report["methods"]["joint"];
    assert_eq!((&joint["failed"], &joint["n"], joint["emo_a"].as_f64()), (&4.into(), &4.into(), Some(0.0)));
    assert!(joint["emo_s"].as_f64() < Some(0.0) && joint["lpips"].is_null());
    assert_eq!(report["methods"]["no_edit"]["failed"], 0);
    assert_eq!(report["comparisons"]["no_edit"]["emo_a"]["overall"]["n"], 4, "they stay in the pairs");
    let page = fs::read_to_string(folder.join("index.html")).expect("a page");
    assert!(page.contains("sadness ✗ failed") || page.contains("failed edits"), "the page says so");
}

/// Puts NaN for every number of a run's deltas, its metadata left as it is.
fn spoil(path: &Path) {
    let bytes = fs::read(path).expect("readable");
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let mut spoiled = bytes[..8 + header].to_vec();
    spoiled.extend(f32::NAN.to_le_bytes().repeat((bytes.len() - 8 - header) / 4));
    fs::write(path, spoiled).expect("written");
}

#[test]
fn judges_and_states_that_make_no_sense_are_refused() {
    let workshop = Workshop::new();
    let own = format!("models.judges=[{}]", pocket("judge_alexnet").display());
    workshop.refused(&[&own], &["models.judges", "is a judge already"]);
    workshop.refused(&["models.classifier=null"], &["models.judges", "0 judges"]);
    workshop.refused(&["models.judges=[no/such]"], &["models.judges.0", "no/such"]);
    workshop.refused(&["sources.filter.state=neutral"], &["\"state\":\"neutral\""]);
}

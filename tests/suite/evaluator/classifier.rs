//! The scoring classifiers against PyTorch, and their fitting.
//!
//! Fixtures: python tests/fixtures/classifier/make.py; python tests/fixtures/classifier/make_converted.py

use std::fs;
use std::path::Path;

use clap::Parser;
use evaluator::cli::{fit_classifier, Cli, Command, FitArgs};
use evaluator::evaluation::observe::Observer;
use evaluator::metrics::statistics::calibration::{expected_error, negative_log_likelihood, temperature};
use judge::classifier::{clip_of, Classifier};
use proptest::prelude::*;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::metrics::{assert_near, numbers, photos, TOLERANCE};
use super::{offline, read_json, Workshop};
use crate::fixtures::{assert_close, fixture, pocket, tensors};

#[test]
fn the_classifier_gives_pytorchs_logits() {
    let no_clip = || unreachable!("it reads pixels");
    let classifier = Classifier::load(&pocket("judge_alexnet"), Device::Cpu, no_clip).expect("a classifier");
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
    fs::copy(pocket("judge_alexnet/model.safetensors"), folder.join("model.safetensors")).expect("copied");
    let mut config = read_json(&pocket("judge_alexnet/config.json"));
    config["takes_part_in_losses"] = true.into();
    fs::write(folder.join("config.json"), config.to_string()).expect("written");
    workshop.refused(&[&format!("models.classifier={}", folder.display())], &["takes_part_in_losses"]);
}

fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().expect("a list").iter().map(numbers).collect()
}

#[test]
fn converted_classifiers_give_the_probabilities_of_their_authors_networks() {
    let expected = read_json(&fixture("classifier/converted.json"));
    for layout in ["emoedit", "emogen"] {
        let folder = fixture(&format!("classifier/{layout}"));
        assert_eq!(clip_of(&folder).expect("readable").as_deref(), Some("assets/pocket/clip"));
        let observer = Observer::load(&folder, &pocket("clip"), None, Device::Cpu).expect("the judges");
        let found = observer.observe(&photos("")).probabilities;
        for (row, expected) in rows(&expected[layout]).iter().enumerate() {
            let found = Vec::<f64>::try_from(found.get(row as i64).to_kind(Kind::Double)).expect("a row");
            // Pillow enlarges in fixed point of 8 bits; these untrained heads show it.
            assert_near(layout, &found, expected, 3.0 * TOLERANCE);
        }
        assert!(observer.classifier().saliency(&Tensor::zeros([1, 3, 8, 8], (Kind::Float, Device::Cpu))).is_none());
    }
}

#[test]
fn a_classifier_of_another_clip_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::copy(fixture("classifier/emogen/model.safetensors"), folder.path().join("model.safetensors")).expect("copied");
    let mut config = read_json(&fixture("classifier/emogen/config.json"));
    config["clip"]["hash"] = "0".repeat(64).into();
    fs::write(folder.path().join("config.json"), config.to_string()).expect("written");
    let error = Observer::load(folder.path(), &pocket("clip"), None, Device::Cpu).expect_err("another CLIP");
    assert!(error.is_bad_input() && error.to_string().contains("models.classifier_clip"), "{error}");
}

#[test]
fn a_classifier_that_reads_the_losss_clip_is_refused_unless_it_is_allowed() {
    let workshop = Workshop::new();
    workshop.say_loss_clip();
    let judge = format!("models.classifier={}", fixture("classifier/emoedit").display());
    let eyes = format!("models.classifier_clip={}", pocket("clip").display());
    workshop.refused(&[&judge, &eyes], &["took part in the loss", "allow_classifier_on_loss_clip"]);
    let allowed = "models.allow_classifier_on_loss_clip=true";
    let outcome = workshop.evaluate(&[&judge, &eyes, allowed, "strengths=[1.0]"]).expect("evaluated");
    let report = read_json(&outcome.folder.join("report.json"));
    assert_eq!(report["provenance"]["classifier"]["shares_clip_with_losses"], true);
    assert_eq!(report["methods"]["joint"]["esmi"], Value::Null, "it has no map");
    let page = fs::read_to_string(outcome.folder.join("index.html")).expect("readable");
    assert!(page.contains("The classifier reads the CLIP of the runs"), "the page says so");
}

#[test]
fn calibration_is_that_of_torchmetrics_and_scipy() {
    let case = &read_json(&fixture("classifier/converted.json"))["calibration"];
    let logits: Vec<f64> = rows(&case["logits"]).concat();
    let logits = Tensor::from_slice(&logits).view([-1, 8]);
    let labels = Tensor::from_slice(&numbers(&case["labels"])).to_kind(Kind::Int64);
    let found = temperature(&logits, &labels);
    let after = &logits / found;
    let found = [
        negative_log_likelihood(&logits, &labels),
        expected_error(&logits, &labels),
        found,
        negative_log_likelihood(&after, &labels),
        expected_error(&after, &labels),
    ];
    let keys = ["loss", "error", "temperature", "loss_after", "error_after"];
    let expected = keys.map(|key| case[key].as_f64().expect("a number"));
    assert_near("calibration", &found, &expected, TOLERANCE);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn calibration_errors_lie_between_0_and_1(values in prop::collection::vec(-9.0..9.0f64, 80)) {
        let logits = Tensor::from_slice(&values).view([10, 8]);
        let labels = logits.argmax(1, false);
        let error = expected_error(&logits, &labels);
        let confidence = logits.softmax(1, Kind::Double).amax([1i64].as_slice(), false).mean(Kind::Double);
        prop_assert!((error - (1.0 - confidence.double_value(&[]))).abs() < 1e-9, "always right: all that lacks is confidence");
        let wrong = (labels + 1i64).remainder(8);
        prop_assert!((0.0..=1.0).contains(&expected_error(&logits, &wrong)));
        let best = temperature(&logits, &wrong);
        prop_assert!(negative_log_likelihood(&(&logits / best), &wrong) <= negative_log_likelihood(&logits, &wrong) + 1e-9);
    }
}

/// Fits by a recipe over the shards of faces.
fn fit(folder: &Path, sets: &[&str]) -> evaluator::Result<String> {
    let text = format!(
        "# A classifier of faces.\ndata: {{shards: {shards}, train: {{split: train}}, test: {{split: train}},\n  \
         validation: {{fraction: 0.3}}}}\nclip: {clip}\nhidden: [16]\n\
         train: {{batch_size: 4, max_epochs: 6, patience: 3}}\noutput_dir: {output}\n",
        shards = super::face_shards().display(),
        clip = pocket("clip").display(),
        output = folder.join("judge").display(),
    );
    let recipe = folder.join("classifier.yaml");
    fs::write(&recipe, text).expect("written");
    let recipe = recipe.display().to_string();
    let mut args = vec!["fit-classifier", "--config", &recipe];
    args.extend(sets.iter().flat_map(|set| ["--set", *set]));
    fit_classifier(&FitArgs::parse_from(args), &offline(), &|_| None)
}

#[test]
fn a_fitted_classifier_is_the_same_again_scores_as_its_card_says_and_learns() {
    let folder = tempfile::tempdir().expect("a folder");
    let line = fit(folder.path(), &["train.max_epochs=40", "train.patience=40", "train.dropout=0"]).expect("fitted");
    assert!(line.starts_with("test: ") && line.ends_with("README.md"), "{line}");
    let judge = folder.path().join("judge");
    let first = fs::read(judge.join("model.safetensors")).expect("readable");
    fit(folder.path(), &["train.max_epochs=40", "train.patience=40", "train.dropout=0"]).expect("fitted again");
    assert_eq!(
        fs::read(judge.join("model.safetensors")).expect("readable"),
        first,
        "the same recipe, the same weights"
    );

    let card = read_json(&judge.join("metrics.json"));
    assert_eq!(card["made_from"]["clip"]["embeddings"], "stored");
    assert_eq!(card["test"]["n"], card["test"]["confusion"].as_array().expect("rows").iter().map(total).sum::<u64>());
    let accuracy = card["test"]["accuracy"].as_f64().expect("a number");
    assert!(accuracy > 0.5, "most test rows were learnt from here: {accuracy}");
    let readme = fs::read_to_string(judge.join("README.md")).expect("readable");
    for word in ["calibration error", "blake3", "seed 0", "amusement"] {
        assert!(readme.contains(word), "{word} is not in the card");
    }
    assert!((accuracy - accuracy_of(&judge)).abs() < 0.05, "stored embeddings are rounded to 16 bits, no more");
}

fn total(row: &Value) -> u64 {
    numbers(row).into_iter().sum::<f64>() as u64
}

/// The share of the faces that a classifier reads rightly from their pixels.
fn accuracy_of(judge: &Path) -> f64 {
    let observer = Observer::load(judge, &pocket("clip"), None, Device::Cpu).expect("the judges");
    let dataset = dataloader::Dataset::open(&super::face_shards().display().to_string()).expect("a data set");
    let rows = dataset.rows(&dataloader::Filter::default()).expect("rows");
    let right = |row: &&dataloader::format::row::RowRef| {
        let picture = dataset.read(row).expect("a row").image().expect("a picture");
        observer.observe(&[picture]).predicted()[0] == row.emotion
    };
    let labelled: Vec<_> = rows.iter().filter(|row| row.emotion.is_some()).collect();
    labelled.iter().copied().filter(right).count() as f64 / labelled.len() as f64
}

#[test]
fn embeddings_are_computed_where_the_shards_have_none_of_this_clip() {
    let folder = tempfile::tempdir().expect("a folder");
    let clip = folder.path().join("clip");
    fs::create_dir(&clip).expect("made");
    for name in ["config.json", "preprocessor_config.json"] {
        fs::copy(pocket("clip").join(name), clip.join(name)).expect("copied");
    }
    // The same tensors in another file: another hash.
    let weights = Tensor::read_safetensors(pocket("clip/model.safetensors")).expect("readable");
    let weights: Vec<_> = weights.into_iter().map(|(name, tensor)| (name, tensor.to_kind(Kind::Float))).collect();
    Tensor::write_safetensors(&weights, clip.join("model.safetensors")).expect("written");
    fit(folder.path(), &[&format!("clip={}", clip.display())]).expect("fitted");
    let card = read_json(&folder.path().join("judge/metrics.json"));
    assert_eq!(card["made_from"]["clip"]["embeddings"], "computed");
}

#[test]
fn a_wrong_recipe_of_a_classifier_is_refused_and_writes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    for (set, word) in [
        ("train.dropout=1", "train.dropout"),
        ("data.validation.fraction=0", "data.validation"),
        ("data.test={split: none}", "none"),
        ("hiden=[3]", "hidden"),
        ("hidden=[0]", "hidden"),
    ] {
        let error = fit(folder.path(), &[set]).expect_err("bad input is refused");
        assert!(error.is_bad_input() && error.to_string().contains(word), "{set}: {error}");
    }
    assert!(!folder.path().join("judge").exists());
}

#[test]
fn a_report_needs_no_word_and_a_fit_its_own() {
    let report = Cli::parse_from(["evaluator", "--config", "a.yaml"]);
    assert!(report.command.is_none() && report.report.is_some_and(|args| args.config == Path::new("a.yaml")));
    let fit = Cli::parse_from(["evaluator", "fit-classifier", "--config", "b.yaml"]);
    assert!(matches!(fit.command, Some(Command::FitClassifier(args)) if args.config == Path::new("b.yaml")));
    assert!(Cli::try_parse_from(["evaluator", "--date", "2026-01-31"]).is_err(), "--config is asked for");
}

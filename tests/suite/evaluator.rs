//! The evaluator: its metrics against the libraries that defined them, its classifier against PyTorch, a whole report.
//!
//! Fixtures: python tests/fixtures/metrics/make.py FOLDER; python tests/fixtures/classifier/make.py

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use dataloader::config::ShardConfig;
use dataloader::share::Share;
use dataloader::{recipe, shard, Emotion};
use diffusion::delta::DeltaSet;
use diffusion::detail::Detail;
use diffusion::hub::Hub;
use diffusion::networks::lpips::{Backbone, Lpips};
use diffusion::pipeline::Pipeline;
use diffusion::process::asyrp::{Condition, Process};
use diffusion::run::{dimensions, Base, DeltaConfig, EditSettings, Learned, Prompts, Run, RunConfig, TokenConfig};
use diffusion::tokens::{TokenSettings, Tokens};
use evaluator::classifier::Classifier;
use evaluator::cli::{self, Args};
use evaluator::config::Template;
use evaluator::metrics::bootstrap::Bootstrap;
use evaluator::metrics::confusion::Confusion;
use evaluator::metrics::{self, clip, psnr, sharpness, ssim, Observed, Pair};
use evaluator::observe::Observer;
use evaluator::ranks::Ranks;
use evaluator::sources::tensor_of;
use image::RgbImage;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::fixtures::{assert_close, fixture, pocket, program, root, tensors};

const TOLERANCE: f64 = 1e-4;

fn expected() -> Value {
    let text = fs::read_to_string(fixture("metrics/expected.json")).expect("the fixture is readable");
    serde_json::from_str(&text).expect("the fixture is JSON")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
}

/// The four sources, or (with `_edit`) their edits.
fn photos(suffix: &str) -> Vec<RgbImage> {
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

fn lpips() -> Lpips {
    Lpips::load(&root().join("assets/lpips/lpips_alex.safetensors"), Backbone::Alex, Device::Cpu).expect("LPIPS")
}

fn observer() -> Observer {
    Observer::load(&pocket("emotion_classifier"), &pocket("clip"), Device::Cpu).expect("the judges")
}

#[track_caller]
fn assert_near(name: &str, found: &[f64], expected: &[f64], tolerance: f64) {
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
    let templates: Vec<Template> = [("an emoji", "an emoji evoking {emotion}"), ("a face", "a sad face")]
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
    let pair = Pair { source, edit, targets: &targets, text_directions: &text_directions };
    let metrics = metrics::all(lpips());
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
fn the_classifier_gives_pytorchs_logits() {
    let classifier = Classifier::load(&pocket("emotion_classifier"), Device::Cpu).expect("a classifier");
    let fixture = tensors("classifier/input.safetensors");
    let logits = classifier.logits(&fixture["images"]);
    assert_close("logits", &logits, &fixture["logits"], TOLERANCE);
    let total = classifier.probabilities(&fixture["images"]).sum_dim_intlist(1, false, Kind::Double);
    assert!((total - 1.0).abs().max().double_value(&[]) < 1e-6);
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
        ("lpips", 0.0, f64::INFINITY),
    ] {
        let values = value_of(key, &source, &edit, &direction);
        assert!(values.iter().all(|v| (low..=high).contains(v)), "{key}: {values:?}");
    }
}

/// A folder with shards of four held-out faces and an untrained joint run.
struct Workshop {
    folder: tempfile::TempDir,
}

impl Workshop {
    fn new() -> Self {
        let workshop = Self { folder: tempfile::tempdir().expect("a folder") };
        workshop.encode_faces();
        workshop.save_untrained_run();
        workshop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn encode_faces(&self) {
        let text = format!(
            "source: {{kind: folder, path: {}}}\nresolution: 64\nvae: {}\noutput: {}\n",
            fixture("metrics/faces").display(),
            pocket("vae").display(),
            self.path("shards").display(),
        );
        let config: ShardConfig = recipe::parse(Path::new("shards.yaml"), &text, &[]).expect("a valid recipe");
        shard::run(&config, &offline(), &Share::ALONE).expect("encoded");
    }

    fn save_untrained_run(&self) {
        let pipeline = Pipeline::load(&pocket(""), Device::Cpu, Kind::Float).expect("the pocket pipeline");
        let emotions = vec!["sadness".to_string()];
        let settings = TokenSettings {
            placeholder_token: "<{emotion}>".into(),
            initializer_token: "{emotion}".into(),
            num_vectors: 2,
        };
        let (tokenizer, encoder) = (&pipeline.tokenizer, &pipeline.text_encoder);
        let (tokens, _) = Tokens::new(tokenizer, encoder, &emotions, &settings, Device::Cpu).expect("tokens");
        let deltas = DeltaSet::new(dimensions(&pipeline, false), &emotions, 0, Device::Cpu);
        let config = untrained(&pipeline, emotions);
        let learned = Learned { tokens: Some(tokens), deltas: Some(deltas) };
        Run::save(&self.path("run"), &config, &learned).expect("saved");
    }

    /// A recipe over the workshop's shards and run.
    fn recipe(&self) -> PathBuf {
        let text = format!(
            "# Four faces and an untrained run.\n\
             emotion: sadness\n\
             sources:\n  shards: {shards}\n  filter: {{split: test}}\n\
             models:\n  base: {base}\n  classifier: {classifier}\n  clip: {clip}\n  lpips: {lpips}\n  device: cpu\n\
             runs:\n  - {{method: joint, run: {run}}}\n\
             strengths: [0.0, 1.0]\n\
             headline: {{strength: 1.0, equal_lpips: joint}}\n\
             bootstrap: {{samples: 200, seed: 0}}\n\
             gates:\n  - {{metric: methods.no_edit.lpips, bound: \"<= 0\"}}\n\
             batch_size: 3\n\
             output_dir: {output}\n",
            shards = self.path("shards").display(),
            base = pocket("").display(),
            classifier = pocket("emotion_classifier").display(),
            clip = pocket("clip").display(),
            lpips = root().join("assets/lpips/lpips_alex.safetensors").display(),
            run = self.path("run").display(),
            output = self.path("reports").display(),
        );
        let path = self.path("evaluate.yaml");
        fs::write(&path, text).expect("written");
        path
    }

    fn evaluate(&self, sets: &[&str]) -> evaluator::Result<cli::Outcome> {
        let recipe = self.recipe().display().to_string();
        let mut args = vec!["evaluator", "--config", &recipe, "--date", "2026-01-31"];
        args.extend(sets.iter().flat_map(|set| ["--set", *set]));
        let outcome = cli::run(&Args::parse_from(args), "2000-01-01", offline(), &|_| None, &Ranks::alone())?;
        Ok(outcome.expect("one process alone writes the report"))
    }

    #[track_caller]
    fn refused(&self, sets: &[&str], parts: &[&str]) {
        let error = self.evaluate(sets).expect_err("bad input is refused");
        assert!(error.is_bad_input(), "{error}: exit code 2");
        let message = error.to_string();
        assert!(!message.contains('\n'), "one line: {message}");
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    }
}

fn offline() -> Hub {
    Hub { home: "none".into(), offline: true }
}

fn untrained(pipeline: &Pipeline, emotions: Vec<String>) -> RunConfig {
    RunConfig {
        format_version: diffusion::run::FORMAT_VERSION,
        base: Base { name: "assets/pocket".into(), hashes: pipeline.hashes.clone() },
        loss_clip: None,
        emotions,
        tokens: Some(TokenConfig { placeholder_token: "<{emotion}>".into(), num_vectors: 2 }),
        delta: Some(DeltaConfig { condition_on_token: false }),
        prompts: Prompts { source: String::new(), target: "an emoji evoking {token}".into() },
        edit: EditSettings {
            process: Process::Asymmetric,
            condition: Condition::Decoder,
            num_inversion_steps: 10,
            t_edit: 350,
            t_boost: 0,
            detail: Detail::Residual,
        },
        resolution: 64,
        seed: 0,
    }
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("readable")).expect("JSON")
}

#[test]
fn a_whole_report_is_written_at_once() {
    let workshop = Workshop::new();
    let outcome = workshop.evaluate(&[]).expect("evaluated");
    assert!(outcome.passed);
    assert!(outcome.table.contains("No edit") && outcome.table.contains("Joint"), "{}", outcome.table);
    let entries = fs::read_dir(workshop.path("reports")).expect("a folder");
    let left: Vec<_> = entries.map(|e| e.expect("an entry").file_name()).collect();
    assert_eq!(left, ["2026-01-31"], "nothing but the report is left");

    let report = read_json(&outcome.folder.join("report.json"));
    check_methods(&report["methods"]);
    assert_eq!(report["methods"], report["emotions"]["sadness"]["methods"], "one emotion is its own mean");
    check_strength_zero(&report["curves"]["joint"][0]);
    check_pages(&outcome.folder, &report, workshop.folder.path());

    let first = fs::read(outcome.folder.join("report.json")).expect("readable");
    let again = workshop.evaluate(&[]).expect("evaluated again");
    let second = fs::read(again.folder.join("report.json")).expect("readable");
    assert_eq!(second, first, "the same inputs, the same report");
}

#[test]
fn two_processes_write_the_report_of_one() {
    let workshop = Workshop::new();
    let one = workshop.evaluate(&["batch_size=2"]).expect("evaluated");
    let alone = read_json(&one.folder.join("report.json"));
    let recipe = workshop.recipe();
    let mut command = Command::new(program("evaluator"));
    command.arg("--config").arg(recipe).args(["--date", "2026-02-01", "--nproc-per-node", "2"]);
    let ran = command.args(["--set", "batch_size=2"]).env("OMP_NUM_THREADS", "1").output().expect("it starts");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(String::from_utf8_lossy(&ran.stdout).matches("No edit").count(), 1, "one process prints the table");
    let shared = read_json(&workshop.path("reports").join("2026-02-01/report.json"));
    for part in ["methods", "curves", "cases"] {
        assert!(!shared[part].is_null() && shared[part] == alone[part], "{part} differs");
    }
    let left = fs::read_dir(workshop.path("reports")).expect("a folder").count();
    assert_eq!(left, 2, "two reports and nothing else");
}

fn check_methods(methods: &Value) {
    for (key, n) in [("no_edit", 4), ("vae_round_trip", 4), ("shuffled", 4), ("joint", 4)] {
        let method = &methods[key];
        assert_eq!(method["n"], n, "{key}");
        for metric in ["emo_a", "emo_s", "lpips", "ssim", "clip_i", "sharpness", "emo_a_polarity"] {
            assert!(method[metric].is_f64(), "{key}.{metric} is {}", method[metric]);
            assert_eq!(method[format!("{metric}_interval")].as_array().map(Vec::len), Some(2), "{key}.{metric}");
        }
        assert_eq!(
            method["by_source"]["shows_target"]["n"].as_u64().expect("a count")
                + method["by_source"]["does_not_show_target"]["n"].as_u64().expect("a count"),
            4
        );
    }
    let no_edit = &methods["no_edit"];
    assert_eq!(no_edit["lpips"], 0.0);
    assert_eq!((&no_edit["psnr"], &no_edit["psnr_text"]), (&Value::Null, &Value::from("inf")));
    assert_eq!(no_edit["clip_direction"], Value::Null);
    assert_eq!(no_edit["by_source"]["shows_target"]["n"], 1, "one of the faces is sad");
    assert!(methods["vae_round_trip"]["psnr"].as_f64().expect("finite") > 15.0);
}

/// With the detail residual, strength 0 is the photo itself.
fn check_strength_zero(point: &Value) {
    assert_eq!(point["strength"], 0.0);
    assert_eq!(point["lpips"], 0.0);
    assert_eq!(point["psnr_text"], "inf");
    assert_eq!(point["emo_s"], 0.0);
}

fn check_pages(folder: &Path, report: &Value, workshop: &Path) {
    let html = fs::read_to_string(folder.join("index.html")).expect("readable");
    let markdown = fs::read_to_string(folder.join("report.md")).expect("readable");
    for outside in ["src=\"http", "href=\"http", "url(", "<script", "<link"] {
        assert!(!html.contains(outside), "the page needs {outside}");
    }
    for text in [&html, &markdown, &report.to_string()] {
        assert!(!text.contains(&*workshop.to_string_lossy()), "an absolute path is in the report");
        assert!(text.contains("No edit"));
    }
    assert!(html.contains("data:image/png;base64,") && html.contains("<svg"));
    let shown = report["cases"][0]["groups"]["best"][0]["images"].as_array().expect("pictures");
    assert_eq!(shown.len(), 3, "source, round trip and joint; the shuffled control has no picture: {shown:?}");
    for name in shown {
        assert!(folder.join("images").join(name.as_str().expect("a name")).is_file());
    }
    assert!(!folder.join("kept").exists(), "pictures that are not shown are gone");
}

#[test]
fn a_gate_that_does_not_hold_fails_the_run_after_the_report() {
    let workshop = Workshop::new();
    let gates = "gates=[{metric: methods.joint.emo_a, minus: methods.no_edit.emo_a, bound: \">= 0.9\"}]";
    let outcome = workshop.evaluate(&[gates, "strengths=[1.0]"]).expect("evaluated");
    assert!(!outcome.passed && outcome.table.contains("FAILED"));
    assert!(outcome.folder.join("index.html").is_file());
}

#[test]
fn bad_input_is_refused_in_one_line_and_leaves_nothing() {
    let workshop = Workshop::new();
    workshop.refused(&["strenghts=[1]"], &["strenghts", "strengths"]);
    workshop.refused(&["runs.0.run=runs/none"], &["runs/none", "edit_config.json"]);
    workshop.refused(&["runs.0.method=asyrp"], &["runs.0.method", "joint"]);
    workshop.refused(&["emotion=awe"], &["sadness", "awe"]);
    workshop.refused(&["sources.shards=nowhere"], &["nowhere"]);
    workshop.refused(&["sources.filter.split=val"], &["val", "no row"]);
    workshop.refused(&["models.lpips=none.safetensors"], &["models.lpips", "none.safetensors"]);
    workshop.refused(&["models.clip=./none"], &["none"]);
    workshop.refused(&["gates=[{metric: joint, bound: \">= 1\"}]"], &["gates.0", "methods."]);
    workshop.refused(&["models.classifier=./none"], &["models.classifier", "none"]);
    let left = fs::read_dir(workshop.path("reports")).map(|entries| entries.count()).unwrap_or(0);
    assert_eq!(left, 0, "no part of a report is left");
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

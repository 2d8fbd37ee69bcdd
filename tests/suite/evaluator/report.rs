//! A whole report: written at once, the same from one process or two, with its gates.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{read_json, Workshop};
use crate::fixtures::program;

#[test]
fn a_whole_report_is_written_at_once() {
    let workshop = Workshop::new();
    let outcome = workshop.evaluate(&[]).expect("evaluated");
    assert!(outcome.passed);
    assert!(outcome.table.contains("No edit") && outcome.table.contains("Joint"), "{}", outcome.table);
    let entries = fs::read_dir(workshop.path("reports")).expect("a folder");
    let mut left: Vec<_> = entries.map(|e| e.expect("an entry").file_name()).collect();
    left.sort();
    assert_eq!(left, ["2026-01-31", "history.jsonl"], "nothing but the report and the history is left");

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
    assert_eq!(left, 3, "two reports, the history and nothing else");
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
    for metric in ["kld", "sem_d", "esmi"] {
        assert!(methods["joint"][metric].is_f64(), "joint.{metric} is {}", methods["joint"][metric]);
    }
    assert_eq!(methods["joint"]["clip_fid"], Value::Null, "one sad face has no covariance");
    assert_eq!(methods["no_edit"]["change_diversity"], Value::Null, "nothing changed");
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
    assert!(!folder.join("work").exists(), "pictures that are not shown are gone");
}

#[test]
fn emoedits_arithmetic_stands_beside_the_usual_one() {
    let workshop = Workshop::new();
    let outcome = workshop.evaluate(&["compatibility=emoedit", "strengths=[1.0]", "references.max_images=1"]);
    let folder = outcome.expect("evaluated").folder;
    let report = read_json(&folder.join("report.json"));
    assert_eq!(report["provenance"]["references"]["n"]["sadness"], 1);
    let round_trip = &report["methods"]["vae_round_trip"];
    for key in ["lpips", "psnr", "ssim", "mse", "emo_a_polarity"] {
        let theirs = &round_trip[format!("emoedit_{key}")];
        let differs = *theirs != round_trip[key] || key == "emo_a_polarity"; // which may agree
        assert!(theirs.is_f64() && differs, "{key}: {theirs}");
    }
    let page = fs::read_to_string(folder.join("index.html")).expect("readable");
    for words in ["EmoEdit's arithmetic", "Further measures", "own images, of which there are: sadness 1."] {
        let escaped = words.replace('\'', "&#x27;");
        assert!(page.contains(words) || page.contains(&escaped), "{words}");
    }
}

#[test]
fn a_gate_that_does_not_hold_fails_the_run_after_the_report() {
    let workshop = Workshop::new();
    let gates = "gates=[{metric: methods.joint.emo_a, minus: methods.no_edit.emo_a, bound: \">= 0.9\"}]";
    let outcome = workshop.evaluate(&[gates, "strengths=[1.0]"]).expect("evaluated");
    assert!(!outcome.passed && outcome.table.contains("FAILED"));
    assert!(outcome.folder.join("index.html").is_file());
}

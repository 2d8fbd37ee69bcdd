//! Night after night: killed and restarted, one at a time, held against the night before and against papers.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use evaluator::cli::{self, Args};
use evaluator::evaluation::ranks::Ranks;
use serde_json::Value;

use super::{offline, read_json, Workshop};
use crate::fixtures::program;

const DATE: &str = "2026-01-31";

/// The evaluator as a process, a batch a source.
fn start(workshop: &Workshop) -> Child {
    let mut command = Command::new(program("evaluator"));
    command.arg("--config").arg(workshop.recipe()).args(["--date", DATE, "--set", "batch_size=1"]);
    command.args(["--set", "strengths=[0.0, 0.5, 1.0, 1.5]"]).env("OMP_NUM_THREADS", "1");
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts")
}

fn finished_parts(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok());
    entries.filter(|entry| entry.path().extension().is_some_and(|suffix| suffix == "json")).count()
}

#[test]
fn a_killed_night_goes_on_and_gives_the_same_report() {
    let workshop = Workshop::new();
    let reports = workshop.path("reports");
    let whole = start(&workshop).wait_with_output().expect("it ends");
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    let unbroken = fs::read(reports.join(DATE).join("report.json")).expect("readable");
    fs::remove_dir_all(&reports).expect("removed");

    let work = reports.join(format!(".{DATE}.partial/work"));
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut killed = start(&workshop);
    while finished_parts(&work) == 0 {
        assert!(
            killed.try_wait().expect("running").is_none() && Instant::now() < deadline,
            "no batch was ever finished"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    killed.kill().expect("SIGKILL");
    killed.wait().expect("it ends");
    assert!(!reports.join(DATE).exists(), "half a report is never published");
    let before = finished_parts(&work);
    assert!(before < 5, "four sources and the sad references: some were left to do");

    let resumed = start(&workshop).wait_with_output().expect("it ends");
    let log = String::from_utf8_lossy(&resumed.stderr);
    assert!(resumed.status.success() && log.contains(&format!("going on from {before} finished batches")), "{log}");
    assert!(fs::read(reports.join(DATE).join("report.json")).expect("readable") == unbroken, "another report");
    assert!(!work.exists());
}

#[test]
fn a_second_evaluator_is_turned_away() {
    let workshop = Workshop::new();
    let mut first = start(&workshop);
    let partial = workshop.path("reports").join(format!(".{DATE}.partial"));
    while !partial.exists() {
        assert!(first.try_wait().expect("running").is_none(), "it ended first");
        std::thread::sleep(Duration::from_millis(2));
    }
    let error = workshop.evaluate(&[]).expect_err("taken");
    assert!(error.is_bad_input(), "{error}");
    let named = format!("evaluator (process {} on ", first.id());
    assert!(error.to_string().contains(&named) && error.to_string().contains("is writing there"), "{error}");
    assert!(first.wait().expect("it ends").success(), "the first is not disturbed");
}

/// The report of a night, and what went to standard output.
fn night(workshop: &Workshop, date: &str, sets: &[&str]) -> (Value, String, String) {
    let recipe = workshop.recipe().display().to_string();
    let mut args = vec!["evaluator", "--config", &recipe, "--date", date, "--set", "strengths=[1.0]"];
    args.extend(sets.iter().flat_map(|set| ["--set", *set]));
    let outcome = cli::run(&Args::parse_from(args), date, offline(), &|_| None, &Ranks::alone()).expect("evaluated");
    let outcome = outcome.expect("one process alone writes the report");
    let page = fs::read_to_string(outcome.folder.join("index.html")).expect("readable");
    let report = read_json(&outcome.folder.join("report.json"));
    super::fits_the_schema(&report);
    (report, page, outcome.table)
}

#[test]
fn a_night_is_compared_with_the_last_under_the_same_conditions() {
    let workshop = Workshop::new();
    let gate =
        "gates=[{metric: methods.joint.emo_s, minus: history.previous.methods.joint.values.emo_s, bound: \">= 0\"}]";
    let (first, page, _) = night(&workshop, "2026-01-01", &[gate]);
    assert_eq!((&first["history"]["previous"], first["passed"].as_bool()), (&Value::Null, Some(true)));
    assert!(page.contains("no comparable night before") && !page.contains("Over the nights"));
    let (other, page, _) = night(&workshop, "2026-01-02", &["sources.max_images=2"]);
    assert_eq!(other["history"]["previous"], Value::Null, "two of the photos alone");
    assert!(page.contains("Over the nights") && !page.contains("Since 2026-01-01"));
    let (third, page, table) = night(&workshop, "2026-01-03", &[gate]);
    assert_eq!(third["history"]["previous"]["date"], "2026-01-01");
    let scores = &third["history"]["previous"]["methods"]["joint"]["values"];
    assert_eq!(scores["lpips"], third["methods"]["joint"]["lpips"], "the same run on the same photos");
    assert_eq!(third["gates"][0]["value"], 0.0);
    let comparable: Vec<_> =
        third["history"]["nights"].as_array().expect("nights").iter().map(|n| &n["comparable"]).collect();
    assert_eq!(comparable, [&Value::from(true), &Value::from(false), &Value::from(true)]);
    assert!(page.contains("Since 2026-01-01") && page.contains("One night between"), "the one between is named");
    assert!(table.contains("Since 2026-01-01: Joint Emo-A %"), "{table}");
}

#[test]
fn papers_figures_stand_beside_the_reports_own() {
    let workshop = Workshop::new();
    let papers = format!("published=[{}]", crate::fixtures::root().join("manifests/published/emoedit.yaml").display());
    let (report, page, _) = night(&workshop, DATE, &[&papers, "compatibility=emoedit"]);
    assert_eq!(report["published"][0]["methods"][8]["values"]["emo_a"], 0.5009);
    assert!(page.contains("EmoEdit: Evoking Emotions") && page.contains("50.1") && page.contains("here: Joint"));
    let wrong = workshop.path("papers.yaml");
    fs::write(&wrong, "source: a\nprotocol: b\nmetrics: [emo_a]\nmethods: [{name: x, values: {lpips: 0.1}}]\n")
        .expect("written");
    workshop.refused(&[&format!("published=[{}]", wrong.display())], &["published.0", "x has lpips", "metrics"]);
}

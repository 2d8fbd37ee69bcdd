//! Planted cheats: what scores without editing must be seen, and what judges its own work must be refused.

use std::fs;
use std::rc::Rc;

use emotions::Emotion;
use evaluator::error::Result;
use evaluator::evaluation::batch::{tensor_of, Batch};
use evaluator::evaluation::evaluate::evaluate;
use evaluator::evaluation::evaluation_plan::{observer, EmotionMethods, EvaluationPlan};
use evaluator::evaluation::parts::Parts;
use evaluator::evaluation::ranks::Ranks;
use evaluator::evaluation::sources::Sources;
use evaluator::methods::{About, Method, NoEdit};
use evaluator::report::history::History;
use evaluator::report::{html, json, markdown, terminal, Report};
use tch::Tensor;

use super::{read_json, Workshop};
use crate::fixtures::{fixture, pocket};

/// Returns one picture of the target emotion, whatever the source.
struct Cheat {
    target: Tensor, // (1, 3, h, w)
}

impl Method for Cheat {
    fn about(&self) -> About {
        let definition = "A picture of the target emotion in the place of every source.";
        About { key: "cheat", name: "Cheat", definition, control: false }
    }

    fn strengths(&self) -> &[f64] {
        &[1.0]
    }

    fn headline(&self) -> Option<f64> {
        Some(1.0)
    }

    fn edits(&self, batch: &Batch) -> Result<Vec<Tensor>> {
        Ok(vec![self.target.expand([batch.pictures.len() as i64, -1, -1, -1], false)])
    }
}

/// The report of a cheat that knows one sad face of the training images.
fn report_of_a_cheat(workshop: &Workshop) -> Report {
    let plan = workshop.plan(&["headline={}", "runs=[]", "gates=[]"]);
    let sources = Sources::open(&plan.config.sources, &plan.config.store).expect("sources");
    let sad = image::open(fixture("methods/style/train/sadness/train-1-0-openPeeps-sadness-0.png"))
        .expect("a picture")
        .to_rgb8();
    let cheat = Cheat { target: tensor_of(&[sad]) };
    let emotion_methods = EmotionMethods { emotion: Emotion::Sadness, methods: vec![Rc::new(NoEdit), Rc::new(cheat)] };
    let folder = workshop.path("cheat");
    fs::create_dir_all(folder.join("images")).expect("made");
    let observer = observer(&plan).expect("the judges");
    let evaluation_plan = EvaluationPlan { sources, methods_by_emotion: vec![emotion_methods], style: None, observer };
    let parts = Parts::open(&folder.join("work"), "a cheat").expect("made");
    let evaluation =
        evaluate(&plan, evaluation_plan, &parts, folder.join("work/pictures"), &Ranks::alone()).expect("evaluated");
    let history = History::read(&folder, "2026-01-31").expect("none");
    Report::new(&plan, &evaluation.expect("one process alone has it"), &history, &folder).expect("summarised")
}

#[test]
fn a_copied_target_scores_and_is_marked_as_a_lost_source() {
    let report = report_of_a_cheat(&Workshop::new());
    let numbers = json::render(&report);
    let (cheat, no_edit) = (&numbers["methods"]["cheat"], &numbers["methods"]["no_edit"]);
    assert_eq!(cheat["emo_a"], 1.0, "the judge is pleased");
    assert!(cheat["emo_s"].as_f64() > Some(0.1));
    assert!(cheat["clip_i"].as_f64() < Some(0.9) && cheat["ssim"].as_f64() < Some(0.9), "{cheat}");
    assert_eq!(cheat["flags"][0]["reason"], "source lost");
    assert_eq!((&cheat["flags"][0]["edits"], &cheat["flags"][0]["of"]), (&4.into(), &4.into()));
    assert_eq!(no_edit["flags"].as_array().map(Vec::len), Some(0));
    let pages = [html::render(&report).expect("rendered"), markdown::render(&report), terminal::render(&report)];
    assert!(pages.iter().all(|page| page.contains("⚑ source lost in 4 of 4")));
}

#[test]
fn a_shuffled_target_leaves_nothing_of_a_perfect_score() {
    let numbers = json::render(&report_of_a_cheat(&Workshop::new()));
    let shuffled = &numbers["methods"]["shuffled"];
    assert_eq!((&shuffled["n"], &shuffled["emo_a"]), (&4.into(), &0.0.into()), "(100 − 100) / 7 %");
}

#[test]
fn a_classifier_with_the_weights_of_a_runs_loss_is_refused() {
    let workshop = Workshop::new();
    let path = workshop.path("run/edit_config.json");
    let mut config = read_json(&path);
    let judge = pocket("judge_alexnet");
    let hash = diffusion::weights::hash(&judge, "model").expect("weights");
    config["loss_clip"] = serde_json::json!({"name": "somewhere/else", "hash": hash});
    fs::write(&path, config.to_string()).expect("written");
    workshop.refused(&[], &["models.classifier", "somewhere/else", "run"]);
    let baseline = format!("methods=[{{method: sdedit_token, run: {}}}]", workshop.path("run").display());
    workshop.refused(&["runs=[]", "headline={}", &baseline], &["models.classifier", "somewhere/else"]);
}

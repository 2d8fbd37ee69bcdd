//! The published JSON schemas, read by a validator we did not write: recipes and reports pass, misspelt ones do not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{json, Value};

use crate::fixtures::{program, root};

/// A schema that values are held against.
pub struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    pub fn new(text: &str) -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("schema.json", serde_json::from_str(text).expect("JSON")).expect("an address");
        let index = compiler.compile("schema.json", &mut schemas).unwrap_or_else(|e| panic!("no valid schema: {e:#}"));
        Self { schemas, index }
    }

    pub fn is_valid(&self, value: &Value) -> bool {
        self.schemas.validate(value, self.index).is_ok()
    }

    #[track_caller]
    pub fn accepts(&self, value: &Value, what: &str) {
        self.schemas.validate(value, self.index).unwrap_or_else(|e| panic!("{what}: {e:#}"));
    }
}

/// What a program prints as a schema.
fn schema(name: &str, of: &[&str]) -> Schema {
    let printed = Command::new(program(name)).arg("schema").args(of).output().expect("it starts");
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    Schema::new(&String::from_utf8_lossy(&printed.stdout))
}

/// The recipes whose head runs `command`.
fn recipes(command: &str) -> Vec<PathBuf> {
    let folders = ["configs", "configs/pocket"].map(|folder| fs::read_dir(root().join(folder)).expect("recipes"));
    let paths = folders.into_iter().flatten().map(|entry| entry.expect("an entry").path());
    let runs = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .take_while(|line| line.starts_with('#'))
            .any(|line| line.starts_with(&format!("# {command} --config")))
    };
    paths.filter(|path| path.extension().is_some_and(|suffix| suffix == "yaml")).filter(runs).collect()
}

fn yaml(path: &Path) -> Value {
    recipe::load(path, &[]).expect("YAML")
}

#[test]
fn every_recipe_fits_its_programs_schema() {
    let programs: [(&str, &[&str], &str, usize); 3] = [
        ("trainer", &[], "trainer", 10),
        ("evaluator", &["recipe"], "evaluator", 4),
        ("evaluator", &["classifier"], "evaluator fit-classifier", 1),
    ];
    for (name, of, command, at_least) in programs {
        let (schema, recipes) = (schema(name, of), recipes(command));
        assert!(recipes.len() >= at_least, "{command}: {} recipes", recipes.len());
        for path in recipes {
            let mut recipe = yaml(&path);
            schema.accepts(&recipe, &path.display().to_string());
            recipe["misspelt"] = json!(1);
            assert!(!schema.is_valid(&recipe), "{}: a key that no recipe has", path.display());
        }
    }
}

/// Changes that a reader of reports must not meet.
#[test]
fn a_report_with_anything_missing_or_of_another_kind_does_not_fit() {
    let (schema, report) = (schema("evaluator", &["report"]), small_report());
    schema.accepts(&report, "a small report");
    for (pointer, wrong) in [
        ("/date", json!("yesterday")),
        ("/methods/joint/emo_a", json!("0.5")),
        ("/methods/joint/emo_a_interval", json!([0.1])),
        ("/methods/joint/confusion", json!([[1]])),
        ("/emotions", json!({"joy": {"methods": {}, "curves": {}}})),
        ("/provenance/classifier/takes_part_in_losses", json!(true)),
        ("/gates/0/passed", json!(null)),
    ] {
        let mut changed = report.clone();
        *changed.pointer_mut(pointer).expect("there") = wrong;
        assert!(!schema.is_valid(&changed), "{pointer}");
    }
    for key in report.as_object().expect("an object").keys() {
        let mut changed = report.clone();
        changed.as_object_mut().expect("an object").remove(key);
        assert!(!schema.is_valid(&changed), "without {key}");
    }
}

/// The parts of a report that the schema speaks of, by hand; whole ones are checked where they are made.
fn small_report() -> Value {
    let measures = json!({"strength": 1.0, "n": 1, "emo_a": 1.0, "emo_a_interval": [1.0, 1.0], "lpips": 0.1,
                          "lpips_interval": null, "psnr": null, "psnr_interval": null, "psnr_text": "inf"});
    let mut method = measures.clone();
    let rest = json!({"name": "Joint", "control": false, "macro_f1": null, "emo_a_per_class": {"awe": 1.0},
                      "confusion": vec![vec![0; 8]; 8], "flags": [],
                      "by_source": {"shows_target": measures, "does_not_show_target": measures}});
    method.as_object_mut().expect("an object").extend(rest.as_object().expect("an object").clone());
    let methods = json!({"no_edit": method, "vae_round_trip": method, "joint": method});
    let curves = json!({"joint": [measures]});
    let hash = "0".repeat(64);
    json!({
        "format_version": 2, "title": "t", "date": "2026-01-31", "methods": methods, "curves": curves,
        "emotions": {"awe": {"methods": methods, "curves": curves}}, "featured_method": "joint", "cases": [],
        "gates": [{"metric": "methods.joint.emo_a", "minus": null, "bound": ">= 0.5", "value": 1.0, "passed": true,
                   "first_night": false}],
        "passed": true, "confidence": 0.95,
        "metrics": [{"key": "emo_a", "title": "Emo-A", "definition": "", "better": "higher", "unit": "%", "decimals": 1,
                     "percent": true, "family": "headline"}],
        "history": {"previous": null, "nights": [{"date": "2026-01-31", "title": "t", "passed": true,
                    "conditions": "c", "comparable": true, "methods": {}}]},
        "published": [],
        "provenance": {"sources": {"n": 1, "shards": "s", "filter": {}, "target_excluded_from_headline": true,
                                   "manifest": hash},
                       "classifier": {"name": "c", "hash": hash, "architecture": "a", "takes_part_in_losses": false},
                       "clip": {"name": "c", "hash": hash, "took_part_in_losses": true}, "references": {},
                       "lpips": {"backbone": "alex", "version": "0.1", "hash": hash}, "base": {}, "methods": [],
                       "runs": [], "bootstrap": {}, "device": "cpu", "versions": {}, "recipe": ""},
    })
}

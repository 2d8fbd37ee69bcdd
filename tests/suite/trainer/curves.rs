//! Golden loss curves, one a mode: a refactor leaves them as they are.
//!
//! Fixture: GOLDEN=write cargo test --release -p tests --test suite -- curves   (written by the trainer itself, on
//! purpose: it notices change, the peers' tests say what is right)

use std::fs;

use serde_json::{json, Value};

use super::*;
use crate::fixtures::fixture;

const MODES: [(&str, &[&str]); 4] = [
    ("joint", &[]),
    ("asyrp", &["tokens=off"]),
    ("textual_inversion", &["delta=off", "loss.clip=0", "loss.reconstruction=0"]),
    ("multi_emotion", &["emotions=[sadness, amusement]", "delta.condition_on_token=true", "edit.trajectory=source"]),
];

/// What may differ between machines: the order in which their vector units sum.
const TOLERANCE: f64 = 2e-3;

#[test]
fn curves_of_every_mode_are_those_of_before() {
    let path = fixture("trainer/curves.json");
    let found: Vec<(&str, Value)> = MODES.iter().map(|(mode, sets)| (*mode, curve(sets))).collect();
    if std::env::var("GOLDEN").as_deref() == Ok("write") {
        let lines: Vec<String> = found.iter().map(|(mode, curve)| format!("  {}: {curve}", json!(mode))).collect();
        fs::write(path, format!("{{\n{}\n}}\n", lines.join(",\n"))).expect("written");
        return;
    }
    let text = fs::read_to_string(path).expect("the fixture is readable");
    let golden: Value = serde_json::from_str(&text).expect("the fixture is JSON");
    for (mode, curve) in found {
        let expected = golden[mode].as_object().expect("a curve for every mode");
        assert_eq!(curve.as_object().expect("tags").len(), expected.len(), "{mode}: other terms");
        for (tag, expected) in expected {
            let numbers = |v: &Value| v.as_array().into_iter().flatten().filter_map(Value::as_f64).collect::<Vec<_>>();
            let (found, expected) = (numbers(&curve[tag]), numbers(expected));
            assert_eq!(found.len(), expected.len(), "{mode} {tag}");
            for (step, (a, b)) in found.iter().zip(&expected).enumerate() {
                let allowed = TOLERANCE * b.abs().max(0.01);
                assert!((a - b).abs() <= allowed, "{mode} {tag}, step {}: {a} was {b}", step + 1);
            }
        }
    }
}

/// Each loss term's values, step by step.
fn curve(sets: &[&str]) -> Value {
    let scene = Scene::new();
    let mut arguments = vec!["--set", "validation.validation_steps=0"];
    sets.iter().for_each(|set| arguments.extend(["--set", set]));
    scene.run(0, &arguments);
    let mut curves: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in metrics(&scene) {
        let line: serde_json::Map<String, Value> = serde_json::from_str(&line).expect("JSON");
        for (tag, value) in line.into_iter().filter(|(tag, _)| tag.starts_with("loss/")) {
            curves.entry(tag).or_default().push(value);
        }
    }
    json!(curves)
}

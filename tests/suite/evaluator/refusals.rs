//! Bad input ends in one line with exit code 2, and leaves no part of a report.

use std::fs;

use super::Workshop;

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

//! Every switch of the objective, and steps that are no numbers.

use std::fs;

use super::*;

/// Every switch of the objective, two steps each.
#[test]
fn every_variant_trains() {
    let variants: [&[&str]; 7] = [
        &["tokens=off"],
        &["delta=off", "loss.clip=0", "loss.reconstruction=0"],
        &["edit.trajectory=source", "edit.process=anchored", "edit.condition=both"],
        &["edit.process=anchored", "loss.directional=log", "direction.kind=text", "train.optimizer.rule=sgd"],
        &["emotions=[sadness, amusement]", "delta.condition_on_token=true", "edit.trajectory=source"],
        &["edit.t_edit=auto", "edit.t_boost=auto", "edit.detail=none", "loss.min_snr_gamma=5"],
        &["train.mixed_precision=bf16", "direction.kind=prototype", "loss.directional=linear"],
    ];
    for sets in variants {
        let scene = Scene::new();
        let mut arguments = vec!["--set", "train.max_train_steps=2", "--set", "validation.validation_steps=2"];
        sets.iter().for_each(|set| arguments.extend(["--set", set]));
        scene.run(0, &arguments);
        assert_eq!(steps_done(&scene), 2, "{sets:?}");
        assert!(scene.run_dir().join("edit_config.json").is_file(), "{sets:?}");
    }
}

#[test]
fn steps_that_are_not_finite_are_skipped_counted_and_end_the_run() {
    let scene = Scene::new();
    let sets = ["loss.reconstruction=1.0e300", "train.max_skipped_steps=3", "checkpoint.checkpointing_steps=1"];
    let arguments: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let text = scene.run(1, &arguments);
    assert!(text.contains("step skipped, 2 in a row") && text.contains("3 steps in a row"), "{text}");
    let saved = read(&fs::read(scene.checkpoint(2).join("tokens.safetensors")).expect("a checkpoint"));
    assert_eq!(saved["tokens"].isfinite().all().int64_value(&[]), 1, "never checkpointed");
    let state = fs::read_to_string(scene.checkpoint(2).join("state.json")).expect("a state");
    assert!(state.contains("\"skipped\": 2") && state.contains("\"updates\": 0"), "{state}");
}

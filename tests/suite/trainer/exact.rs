//! N steps, an end, M more in a new process: the bytes of N + M. One, two and four ranks: the same course.

use std::fs;

use super::*;

/// A run of six steps with `sets`, and one that begins at its third step's checkpoint: weights, moments, losses.
#[track_caller]
fn assert_resumes_exactly(sets: &[&str]) {
    let arguments: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let (whole, parted) = (Scene::new(), Scene::new());
    whole.run(0, &arguments);
    copy_folder(&whole.checkpoint(3), &parted.checkpoint(3));
    let before: Vec<String> = metrics_text(&whole).lines().take(3).map(|line| format!("{line}\n")).collect();
    fs::write(parted.run_dir().join("metrics.jsonl"), before.concat()).expect("written");
    let text = parted.run(0, &arguments);
    assert!(text.contains("checkpoint-3"), "{text}");
    let (found, expected) = (every_file(&parted), every_file(&whole));
    for (name, bytes) in expected {
        assert!(found[&name] == bytes, "{sets:?}: {name} differs");
    }
    assert_eq!(metrics(&parted), metrics(&whole), "{sets:?}");
}

fn metrics_text(scene: &Scene) -> String {
    fs::read_to_string(scene.run_dir().join("metrics.jsonl")).expect("metrics")
}

/// The last checkpoint's tensors by file.
fn every_file(scene: &Scene) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(scene.checkpoint(6)).expect("a checkpoint").flatten().map(|entry| entry.path());
    let tensors = files.filter(|path| path.extension().is_some_and(|e| e == "safetensors"));
    let name = |path: &Path| path.file_name().expect("a file").to_string_lossy().into_owned();
    tensors.map(|path| (name(&path), fs::read(&path).expect("read"))).collect()
}

/// Five sources of each emotion in batches of 2: step 3 is in the middle of an epoch, and of a descent.
#[test]
fn in_mid_epoch_with_accumulation() {
    assert_resumes_exactly(&["train.gradient_accumulation_steps=2"]);
}

#[test]
fn at_bf16_with_a_moving_average() {
    let sets =
        ["train.mixed_precision=bf16", "train.train_batch_size=1", "train.ema_decay=0.9", "edit.trajectory=source"];
    assert_resumes_exactly(&sets);
}

#[test]
fn with_all_emotions_taking_turns() {
    assert_resumes_exactly(&["emotions=[sadness, amusement]", "delta.condition_on_token=true", "edit.t_edit=800"]);
}

/// Step 3 is saved between two reads, step 5 is read beside step 4 and step 6.
#[test]
fn numbers_that_are_read_together_are_those_read_one_by_one() {
    let scene = Scene::new();
    scene.run(0, &["--set", "watch.log_steps=4"]);
    assert_same_course(&scene);
    assert_resumes_exactly(&["watch.log_steps=5", "edit.trajectory=source"]);
}

/// The same global batch of 4, computed one image at a time: whoever computes it, the sum is the same up to its order.
#[test]
fn one_two_and_four_ranks_agree_after_twenty_steps() {
    let end = |ranks: &str, batch: &str| {
        let scene = Scene::new();
        let batch = format!("train.train_batch_size={batch}");
        let sets = [&batch, "train.micro_batch_size=1", "train.max_train_steps=20", "checkpoint.checkpointing_steps=0"];
        let mut arguments = vec!["--nproc-per-node", ranks, "--set", "validation.validation_steps=0"];
        sets.iter().for_each(|set| arguments.extend(["--set", set]));
        scene.run(0, &arguments);
        ["tokens", "delta"].map(|name| {
            let file = scene.checkpoint(20).join(format!("{name}.safetensors"));
            read(&fs::read(file).expect("a checkpoint"))
        })
    };
    let one = end("1", "4");
    for (ranks, batch) in [("2", "2"), ("4", "1")] {
        let several = end(ranks, batch);
        for (name, tensor) in one.iter().flatten() {
            let other = several.iter().find_map(|file| file.get(name)).expect("the same tensors");
            let difference = (tensor - other).abs().max().double_value(&[]);
            assert!(difference <= 1e-5, "{ranks} ranks: {name} differs by {difference:e}");
        }
    }
}

//! Every switch of the objective, and steps that are no numbers.

use std::fs;

use super::*;

/// Every switch of the objective, two steps each.
#[test]
fn every_variant_trains() {
    let variants: [&[&str]; 11] = [
        &["tokens=off"],
        &["delta=off", "loss.clip=0", "loss.reconstruction=0"],
        &["edit.trajectory=source", "edit.process=anchored", "edit.condition=both"],
        &["edit.process=anchored", "loss.directional=log", "direction.kind=text", "train.optimizer.rule=sgd"],
        &["emotions=[sadness, amusement]", "delta.condition_on_token=true", "edit.trajectory=source"],
        &["edit.t_edit=auto", "edit.t_boost=auto", "edit.detail=none", "loss.min_snr_gamma=5"],
        &[
            "loss.contrast=0.3",
            "loss.clip=0",
            "loss.delta_denoising=0.5",
            "edit.guidance_scale=2",
            "edit.mask.threshold=0.3",
        ],
        &["tokens=off", "loss.clip=0", "loss.reconstruction=0", "loss.delta_denoising=1"],
        &["train.mixed_precision=bf16", "direction.kind=prototype", "loss.directional=linear"],
        &[
            "loss.reconstruction_by_cosine=true",
            "watch.histogram_steps=1",
            "watch.prometheus=127.0.0.1:0",
            "model.preview_scale=0.5",
        ],
        &[
            "train.allow_tf32=true",
            "train.deterministic=true",
            "loss.alignment=0.1",
            "train.gradient_checkpointing=true",
        ],
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
    assert_eq!(saved["sadness"].isfinite().all().int64_value(&[]), 1, "never checkpointed");
    let state = fs::read_to_string(scene.checkpoint(2).join("state.json")).expect("a state");
    assert!(state.contains("\"skipped\": 2") && state.contains("\"updates\": 0"), "{state}");
}

/// The host learns of them late, and nothing has moved meanwhile.
#[test]
fn steps_that_are_not_finite_are_skipped_before_they_are_read() {
    let scene = Scene::new();
    let sets = ["loss.reconstruction=1.0e300", "train.max_skipped_steps=5", "watch.log_steps=4", "train.ema_decay=0.9"];
    let arguments: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let text = scene.run(1, &arguments);
    assert!(text.contains("step 3: the gradient is not finite; step skipped, 3 in a row"), "{text}");
    assert!(text.contains("5 steps in a row"), "{text}");
    let file = |name: &str| read(&fs::read(scene.checkpoint(3).join(name)).expect("a checkpoint"));
    let fresh = Scene::new();
    fresh.run(1, &[&arguments[..], &["--set", "checkpoint.checkpointing_steps=1"]].concat());
    let first = read(&fs::read(fresh.checkpoint(1).join("tokens.safetensors")).expect("a checkpoint"));
    assert_eq!(file("tokens.safetensors")["sadness"], first["sadness"]);
    assert_eq!(file("ema.safetensors")["sadness"], first["sadness"]);
}

/// CPUs compute f16 slowly: one image, and the denoising loss alone.
#[test]
fn f16_trains_with_a_scaled_loss() {
    let scene = Scene::new();
    let sets = [
        "train.mixed_precision=fp16",
        "train.train_batch_size=1",
        "train.max_train_steps=2",
        "validation.validation_steps=0",
        "delta=off",
        "loss.clip=0",
        "loss.reconstruction=0",
    ];
    scene.run(0, &sets.iter().flat_map(|set| ["--set", set]).collect::<Vec<_>>());
    let state = fs::read_to_string(scene.checkpoint(2).join("state.json")).expect("a state");
    assert!(state.contains("\"loss_scale\": 65536") && state.contains("\"loss_scale_held\": 2"), "{state}");
    let line: serde_json::Value = serde_json::from_str(&metrics(&scene)[1]).expect("JSON");
    assert!(line["train/loss_scale"] == 65536.0 && line["norm/grad"].as_f64().is_some_and(|norm| norm > 0.0), "{line}");
}

/// The gradient is the same; sums only round otherwise, over a block's inputs or in kernels that lie otherwise.
#[test]
fn blocks_computed_again_and_kernels_laid_channels_last_give_the_same_gradient() {
    let end = |sets: &[&str]| {
        let scene = Scene::new();
        let mut arguments = vec!["--set", "train.max_train_steps=3", "--set", "train.optimizer.rule=sgd"];
        sets.iter().for_each(|set| arguments.extend(["--set", set]));
        scene.run(0, &arguments);
        ["tokens", "delta"].map(|name| {
            let file = scene.checkpoint(3).join(format!("{name}.safetensors"));
            read(&fs::read(file).expect("a checkpoint"))
        })
    };
    for condition in ["edit.condition=decoder", "edit.condition=both"] {
        let kept = end(&[condition]);
        for switch in ["train.gradient_checkpointing=true", "train.channels_last=true"] {
            let other = end(&[condition, switch]);
            for (name, tensor) in kept.iter().flatten() {
                let other = other.iter().find_map(|file| file.get(name)).expect("the same tensors");
                let difference = (tensor - other).abs().max().double_value(&[]);
                assert!(difference < 1e-6, "{condition}, {switch}: {name} differs by {difference:e}");
            }
        }
    }
}

/// What is exported is the average, what is trained on is not.
#[test]
fn a_moving_average_is_exported_and_comes_back_from_a_checkpoint() {
    let sets = ["--set", "train.ema_decay=0.9", "--set", "checkpoint.checkpointing_steps=2"];
    let (whole, parted) = (Scene::new(), Scene::new());
    whole.run(0, &sets);
    let file = |scene: &Scene, name: &str| fs::read(scene.checkpoint(6).join(name)).expect("a checkpoint");
    let learned = read(&fs::read(whole.run_dir().join("learned_embeds.safetensors")).expect("tokens"));
    let (average, trained) = (read(&file(&whole, "ema.safetensors")), read(&file(&whole, "tokens.safetensors")));
    assert_eq!(learned["<sadness>"], average["sadness"]);
    assert_ne!(average["sadness"], trained["sadness"]);
    parted.run(0, &[&sets[..], &["--set", "train.max_train_steps=6"]].concat());
    fs::remove_dir_all(parted.checkpoint(6)).expect("removed");
    parted.run(0, &sets);
    assert!(file(&parted, "ema.safetensors") == file(&whole, "ema.safetensors"));
}

/// Adam's moments would go on moving the tensors of emotions whose turn it is not.
#[test]
fn the_tensors_of_an_emotion_keep_still_while_others_have_their_turn() {
    let scene = Scene::new();
    let sets = [
        "emotions=[sadness, amusement]",
        "edit.trajectory=source",
        "train.max_train_steps=4",
        "train.optimizer.adam_weight_decay=0.1",
        "checkpoint.checkpointing_steps=1",
        "validation.validation_steps=0",
    ];
    scene.run(0, &sets.iter().flat_map(|set| ["--set", set]).collect::<Vec<_>>());
    let at = |step: u64| -> BTreeMap<String, Tensor> {
        let files =
            ["tokens", "delta", "optimizer"].map(|name| scene.checkpoint(step).join(format!("{name}.safetensors")));
        files.iter().flat_map(|file| read(&fs::read(file).expect("a checkpoint"))).collect()
    };
    let of = |tensors: &BTreeMap<String, Tensor>, emotion: &str| -> Vec<Tensor> {
        let its = |name: &str| name.split('.').any(|part| part == emotion);
        tensors.iter().filter(|(name, _)| its(name)).map(|(_, tensor)| tensor.shallow_clone()).collect()
    };
    let steps: Vec<_> = (1..=4).map(at).collect();
    for (turn, moving, still) in [(1, "amusement", "sadness"), (2, "sadness", "amusement"), (3, "amusement", "sadness")]
    {
        let (before, after) = (&steps[turn - 1], &steps[turn]);
        assert!(
            of(before, still).len() > 20 && of(before, still) == of(after, still),
            "{still} moved in step {}",
            turn + 1
        );
        assert_ne!(of(before, moving), of(after, moving), "{moving} keeps still in its own turn");
    }
    let counted = ["sadness", "amusement"].map(|emotion| steps[2][&format!("tokens.{emotion}.step")].double_value(&[]));
    assert_eq!(counted, [2.0, 1.0]);
}

/// A scheduler whose last timestep has ᾱ = 0: numbers all along, whatever the network predicts.
#[test]
fn a_schedule_of_zero_terminal_snr_trains() {
    for (prediction, gamma) in [("v_prediction", "5"), ("v_prediction", "null"), ("epsilon", "5")] {
        let scene = Scene::new();
        let base = refusals::altered_pipeline(scene.folder.path(), |base| {
            let path = base.join("scheduler/scheduler_config.json");
            let text = fs::read_to_string(&path).expect("read");
            let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            config["rescale_betas_zero_snr"] = true.into();
            config["prediction_type"] = prediction.into();
            fs::write(path, config.to_string()).expect("written");
        });
        let gamma = format!("loss.min_snr_gamma={gamma}");
        let sets = [&base, &gamma, "train.max_train_steps=2", "validation.validation_steps=2"];
        let text = scene.run(0, &sets.iter().flat_map(|set| ["--set", set]).collect::<Vec<_>>());
        assert!(!text.contains("not finite"), "{prediction}: {text}");
        let grid = image::open(scene.run_dir().join("samples/step-2/sadness.png")).expect("a grid").to_rgb8();
        let edits = image::imageops::crop_imm(&grid, 128, 0, 64, 128).to_image();
        assert!(edits.pixels().filter(|pixel| pixel.0 == [0; 3]).count() < 64 * 64, "{prediction}: the edit is black");
    }
}

//! Damaged checkpoints, those of another run, and those of an earlier version.

use std::fs;
use std::path::Path;

use diffusion::tokens::Tokens;

use super::*;
use crate::fixtures::fixture;

/// The unbroken run's checkpoints in a new scene.
fn with_checkpoints() -> Scene {
    let scene = Scene::new();
    for step in [3, 6] {
        copy_folder(&unbroken().checkpoint(step), &scene.checkpoint(step));
    }
    scene
}

#[test]
fn a_damaged_checkpoint_is_passed_by_loudly_and_refused_by_name() {
    type Damage = fn(&mut Vec<u8>);
    let damage: [(&str, Damage); 3] = [
        ("delta.safetensors", |bytes| bytes.truncate(bytes.len() / 2)),
        ("optimizer.safetensors", |bytes| *bytes.last_mut().expect("bytes") ^= 1),
        ("state.json", |bytes| bytes.clear()),
    ];
    for (name, damage) in damage {
        let scene = with_checkpoints();
        let path = scene.checkpoint(6).join(name);
        let mut bytes = fs::read(&path).expect("read");
        damage(&mut bytes);
        fs::write(&path, bytes).expect("written");
        let explicit = scene.checkpoint(6);
        let text = scene.run(2, &["--resume", &explicit.to_string_lossy()]);
        assert!(text.contains(name) && text.contains("damaged"), "{text}");
        let text = scene.run(0, &["--resume", "latest"]);
        assert!(text.contains(name) && text.contains("checkpoint-3"), "{text}");
        let (found, expected) = (tensors_of(&scene.checkpoint(6)), tensors_of(&unbroken().checkpoint(6)));
        assert!(found == expected, "{name}: the run from step 3 took another course");
    }
}

#[test]
fn a_checkpoint_of_another_type_is_refused_by_tensor() {
    let scene = with_checkpoints();
    let path = scene.checkpoint(6).join("tokens.safetensors");
    let half: Vec<(String, Tensor)> =
        read(&fs::read(&path).expect("read")).into_iter().map(|(k, t)| (k, t.to_kind(tch::Kind::Half))).collect();
    Tensor::write_safetensors(&half, &path).expect("written");
    reseal(&scene.checkpoint(6), "tokens.safetensors");
    let explicit = scene.checkpoint(6);
    let text = scene.run(2, &["--resume", &explicit.to_string_lossy()]);
    assert!(text.contains("tensor sadness") && text.contains("F16"), "{text}");
}

#[test]
fn the_dry_run_refuses_a_checkpoint_that_does_not_fit() {
    let scene = with_checkpoints();
    let planned = scene.command(&["--dry-run", "--set", "train.train_batch_size=7"]).output().expect("started");
    let text = String::from_utf8_lossy(&planned.stdout);
    assert!(planned.status.success(), "{text}");
    assert!(text.contains("checkpoint-6, written with a global batch of"), "{text}");
    let path = scene.checkpoint(6).join("delta.safetensors");
    let cut = |(name, tensor): (String, Tensor)| match name.ends_with("conv1.bias") {
        true => (name, tensor.narrow(0, 0, 3).copy()),
        false => (name, tensor),
    };
    let narrow: Vec<(String, Tensor)> = read(&fs::read(&path).expect("read")).into_iter().map(cut).collect();
    Tensor::write_safetensors(&narrow, &path).expect("written");
    reseal(&scene.checkpoint(6), "delta.safetensors");
    let text = scene.run(2, &["--dry-run"]);
    for part in ["delta.safetensors", "conv1.bias has shape [3]", "this recipe needs"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

/// Nothing is set aside, trained or overwritten by what cannot go on.
#[test]
fn a_recipe_that_means_something_else_is_refused_with_the_way_out() {
    let scene = with_checkpoints();
    for (set, parts) in [
        ("emotions=[amusement]", ["emotions was [\"sadness\"]", "is [\"amusement\"]"]),
        ("tokens.num_vectors=3", ["tokens.num_vectors was 2", "is 3"]),
        ("delta.condition_on_token=true", ["delta.condition_on_token was false", "is true"]),
        (
            "prompts.target=a face full of {token}",
            ["prompts.target was \"a person showing {token}\"", "is \"a face full of"],
        ),
        ("edit.process=anchored", ["edit.process was \"asymmetric\"", "is \"anchored\""]),
    ] {
        for arguments in [&["--set", set][..], &["--set", set, "--dry-run"]] {
            let text = scene.run(2, arguments);
            for part in parts.iter().chain(&["checkpoint-6", "output_dir", "--resume none"]) {
                assert!(text.contains(part), "{set}: {part:?} is not in {text}");
            }
        }
    }
    let other = refusals::altered_pipeline(scene.folder.path(), |base| {
        let path = base.join("unet/diffusion_pytorch_model.safetensors");
        let mut bytes = fs::read(&path).expect("read");
        *bytes.last_mut().expect("bytes") ^= 1;
        fs::write(path, bytes).expect("written");
    });
    let text = scene.run(2, &["--set", &other]);
    assert!(text.contains("model.base: its unet had weights"), "{text}");
    assert!(tensors_of(&scene.checkpoint(6)) == tensors_of(&unbroken().checkpoint(6)));
}

#[test]
fn how_long_and_how_fast_may_change_and_the_base_may_move() {
    let scene = with_checkpoints();
    let moved = refusals::altered_pipeline(scene.folder.path(), |_| {});
    let sets = ["train.max_train_steps=7", "train.learning_rate.delta=2.0e-3", "watch.log_steps=2", &moved];
    let text = scene.run(0, &sets.iter().flat_map(|set| ["--set", set]).collect::<Vec<_>>());
    assert!(text.contains("resuming from") && text.contains("train.learning_rate.delta was 0.001, is 0.002"), "{text}");
    assert!(scene.checkpoint(7).is_dir());
}

/// The latents under way are of the former sources: mid-descent they are not mixed with the new ones'.
#[test]
fn latents_of_other_sources_are_left_behind() {
    let scene = with_checkpoints();
    fs::remove_dir_all(scene.checkpoint(6)).expect("removed");
    let text = scene.run(0, &["--set", "train.seed=1"]);
    assert!(text.contains("train.seed was 0, is 1") && text.contains("latents under way are left behind"), "{text}");
}

/// A run of two emotions, tokens alone, three steps with a moving average: checkpoint and export as version 0.1.0 wrote them
/// before tokens were stored by name (paths made relative, the manifest resealed), with
/// `emotions: [sadness, amusement]`, `delta: off`, `loss: {clip: 0, reconstruction: 0}`, `train.ema_decay: 0.9`.
#[test]
fn a_checkpoint_of_the_first_format_goes_on_with_its_emotions_by_name() {
    let former = fixture("trainer/format-1");
    let sets = [
        "emotions=[sadness, amusement]",
        "delta=off",
        "loss.clip=0",
        "loss.reconstruction=0",
        "train.ema_decay=0.9",
        "prompts.target=an emoji evoking {token}",
        "direction.templates=[{source: an emoji, target: \"an emoji evoking {emotion}\"}]",
    ];
    let further = ["train.max_train_steps=3", "validation.validation_steps=0", "checkpoint.checkpointing_steps=1"];
    let arguments: Vec<&str> = sets.iter().chain(&further).flat_map(|set| ["--set", set]).collect();
    let scene = Scene::new();
    copy_folder(&former.join("checkpoint-3"), &scene.checkpoint(3));
    let state = scene.checkpoint(3).join("state.json");
    let text =
        fs::read_to_string(&state).expect("read").replace("\"assets/pocket", &format!("\"{}", pocket("").display()));
    fs::write(&state, text).expect("written");
    reseal(&scene.checkpoint(3), "state.json");

    let text = scene.run(2, &[&arguments[..], &["--set", "emotions=[amusement, sadness]"]].concat());
    assert!(text.contains("emotions was [\"sadness\",\"amusement\"], is [\"amusement\",\"sadness\"]"), "{text}");
    scene.run(0, &[&arguments[..], &["--set", "train.max_train_steps=4"]].concat());

    let file = |folder: &Path, name: &str| read(&fs::read(folder.join(name)).expect("a checkpoint's file"));
    let (before, after) = (former.join("checkpoint-3"), scene.checkpoint(4));
    let stored = |name: &str, tensor: &str, row: i64| file(&before, name)[tensor].get(row);
    // Step 4 is amusement's: sadness keeps still to the last bit, moments and count of steps included.
    let (tokens, optimizer) = (file(&after, "tokens.safetensors"), file(&after, "optimizer.safetensors"));
    assert_eq!(tokens["sadness"], stored("tokens.safetensors", "tokens", 0));
    assert_ne!(tokens["amusement"], stored("tokens.safetensors", "tokens", 1));
    for moment in ["exp_avg", "exp_avg_sq"] {
        let former = stored("optimizer.safetensors", &format!("tokens.tokens.{moment}"), 0);
        assert_eq!(optimizer[&format!("tokens.sadness.{moment}")], former);
    }
    let steps = ["amusement", "sadness"].map(|e| optimizer[&format!("tokens.{e}.step")].double_value(&[]));
    assert_eq!(steps, [4.0, 3.0], "the first format counted for all at once");

    let old = fs::read(former.join("learned_embeds.safetensors")).expect("the export");
    let emotions = ["sadness", "amusement"].map(String::from);
    let learned =
        Tokens::load(&former, &emotions, "<{emotion}>", [2, 128], tch::Device::Cpu).expect("the former export");
    for (emotion, vectors) in learned.named_parameters() {
        assert_eq!(vectors, read(&old)[&format!("<{emotion}>")], "{emotion}");
    }
}

/// Makes the manifest agree with a changed file.
fn reseal(folder: &Path, name: &str) {
    let path = folder.join("manifest.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    let bytes = fs::read(folder.join(name)).expect("read");
    manifest["files"][name]["bytes"] = bytes.len().into();
    manifest["files"][name]["blake3"] = blake3::hash(&bytes).to_hex().to_string().into();
    fs::write(path, manifest.to_string()).expect("written");
}

//! Damaged checkpoints, and those of another run.

use std::fs;
use std::path::Path;

use super::*;

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
fn a_checkpoint_of_another_shape_or_type_is_refused_by_tensor() {
    let scene = with_checkpoints();
    let text = scene.run(2, &["--set", "tokens.num_vectors=3"]);
    assert!(
        text.contains("tokens.safetensors") && text.contains("[1, 2, 128]") && text.contains("[1, 3, 128]"),
        "{text}"
    );
    let scene = with_checkpoints();
    let path = scene.checkpoint(6).join("tokens.safetensors");
    let half: Vec<(String, Tensor)> =
        read(&fs::read(&path).expect("read")).into_iter().map(|(k, t)| (k, t.to_kind(tch::Kind::Half))).collect();
    Tensor::write_safetensors(&half, &path).expect("written");
    reseal(&scene.checkpoint(6), "tokens.safetensors");
    let explicit = scene.checkpoint(6);
    let text = scene.run(2, &["--resume", &explicit.to_string_lossy()]);
    assert!(text.contains("tensor tokens") && text.contains("F16"), "{text}");
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

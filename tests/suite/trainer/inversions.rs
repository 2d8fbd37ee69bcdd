//! Inversions: the cache, and the shards of `dataloader invert`.

use std::fs;
use std::process::Command;

use ::dataloader::{Access, Inversions};

use super::*;

#[test]
fn a_damaged_inversion_is_made_again() {
    let (first, second) = (Scene::new(), Scene::new());
    let inversions = first.folder.path().join("inversions");
    for scene in [&first, &second] {
        let path = format!("{}/inversions\n", shards().folder.path().display());
        scene.edit(&path, &format!("{}\n", inversions.display()));
    }
    first.run(0, &[]);
    let cache = fs::read_dir(&inversions).expect("a cache").flatten().next().expect("one key").path();
    let file = fs::read_dir(cache).expect("files").flatten().next().expect("an inversion").path();
    let good = fs::read(&file).expect("read");
    fs::write(&file, &good[..good.len() / 2]).expect("written");
    let text = second.run(0, &[]);
    assert!(text.contains("damaged inversion"), "{text}");
    assert_eq!(tensors_of(&first.checkpoint(6)), tensors_of(&second.checkpoint(6)));
}

/// Two runs on one cache, the second without what was damaged in between.
#[test]
fn what_clip_sees_of_the_sources_is_made_once_and_again_where_damaged() {
    let scenes = [(); 2].map(|()| Scene::new());
    let inversions = scenes[0].folder.path().join("inversions");
    let set = format!("data.sources.trajectories={}", inversions.display());
    let sets = ["--set", &set, "--set", "edit.trajectory=source", "--set", "validation.validation_steps=0"];
    scenes[0].run(0, &sets);
    let files = || -> Vec<PathBuf> {
        walk(&inversions).into_iter().filter(|file| file.to_string_lossy().contains("/references-")).collect()
    };
    let written = |file: &PathBuf| fs::metadata(file).expect("there").modified().expect("a time");
    let made = files();
    assert!(!made.is_empty() && made.len() <= 12, "at most one for each of 6 × 2 visits: {made:?}");
    let (damaged, times) = (&made[0], made.iter().map(written).collect::<Vec<_>>());
    fs::write(damaged, b"cut short").expect("written");
    let text = scenes[1].run(0, &[&sets[..], &["--nproc-per-node", "1"]].concat());
    assert_eq!(files(), made, "{text}");
    for (file, time) in made.iter().zip(times) {
        assert_eq!(written(file) == time, file != damaged, "{}", file.display());
    }
    let tensors = |scene: &Scene| {
        ["tokens", "delta"]
            .map(|name| fs::read(scene.checkpoint(6).join(format!("{name}.safetensors"))).expect("a checkpoint"))
    };
    assert!(tensors(&scenes[0]) == tensors(&scenes[1]));
}

/// `dataloader invert` with the weights and timesteps of [`recipe`]; what it says.
fn invert(output: &Path, more: &[&str]) -> String {
    let path = output.with_extension("yaml");
    let (pocket, data) = (pocket(""), shards().folder.path());
    let text = format!(
        "base: {}\nsources: {{shards: {}/data}}\nprompt: \"\"\nnum_inversion_steps: 8\ninversion_batch_size: 4\n\
         images_per_shard: 5\noutput: {}\ndevice: cpu\n",
        pocket.display(),
        data.display(),
        output.display()
    );
    fs::write(&path, text).expect("written");
    let mut command = Command::new(program("dataloader"));
    command.arg("invert").arg("--config").arg(path).args(more).env("OMP_NUM_THREADS", "1");
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", errors(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn shards_of_inversions_train_the_same_weights_as_the_cache() {
    let scene = Scene::new();
    let inversions = scene.folder.path().join("inversions");
    let said = invert(&inversions, &[]);
    assert!(said.contains("8 timesteps of 13 images in 3 shards; 13 inverted, 0 kept"), "{said}");
    let said = invert(&inversions, &["--nproc-per-node", "2"]);
    assert!(said.contains("0 inverted, 13 kept"), "{said}");
    let url = inversions.display().to_string();
    let set = format!("data.sources.inversions={url}");
    let cache = format!("data.sources.trajectories={}", scene.folder.path().join("none").display());
    scene.run(0, &["--set", &set, "--set", &cache]);
    assert!(tensors_of(&scene.checkpoint(6)) == tensors_of(&unbroken().checkpoint(6)));
    let files = walk(&scene.folder.path().join("none"));
    assert!(files.is_empty(), "nothing was inverted again: {files:?}");
    let dry = scene.command(&["--dry-run", "--set", &set]).output().expect("started");
    let plan = String::from_utf8_lossy(&dry.stdout).into_owned();
    assert!(plan.contains("5 of 5 sources"), "{plan}");
}

#[test]
fn two_processes_invert_what_one_does_and_damage_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    invert(&one, &[]);
    invert(&two, &["--nproc-per-node", "2"]);
    let manifests = [&one, &two].map(|place| fs::read(place.join("manifest.json")).expect("a manifest"));
    assert!(manifests[0] == manifests[1], "the shards' hashes are in it");
    let shard = one.join("train-00000-of-00002.parquet");
    let mut bytes = fs::read(&shard).expect("a shard");
    bytes[5000] ^= 1;
    fs::write(&shard, bytes).expect("damaged");
    let verify = |place: &Path| Command::new(program("dataloader")).arg("verify").arg(place).output().expect("it runs");
    assert_eq!(verify(&two).status.code(), Some(0));
    let verdict = verify(&one);
    let said = String::from_utf8_lossy(&verdict.stdout).into_owned();
    assert!(verdict.status.code() == Some(2) && said.contains("train-00000-of-00002.parquet"), "{said}");
    let said = invert(&one, &[]);
    assert!(said.contains("5 inverted, 8 kept"), "{said}");
    assert_eq!(
        Inversions::open(&one.display().to_string(), &Access::default()).expect("sound").verify().ok(),
        Some(104)
    );
}

#[test]
fn inversions_of_another_prompt_or_none_at_all_are_refused_by_key() {
    let scene = Scene::new();
    let inversions = scene.folder.path().join("inversions");
    invert(&inversions, &["--set", "prompt=a photo"]);
    let set = |path: &Path| format!("data.sources.inversions={}", path.display());
    let text = scene.run(2, &["--set", &set(&inversions)]);
    assert!(text.contains("inversion.prompt \"a photo\"") && text.contains("dataloader invert"), "{text}");
    let text = scene.run(2, &["--dry-run", "--set", &set(&shards().folder.path().join("data"))]);
    assert!(text.contains("no trajectories"), "{text}");
    let text = scene.run(2, &["--set", &format!("data.sources.shards={}", inversions.display())]);
    assert!(text.contains("data.sources.inversions"), "{text}");
}

/// Every file below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

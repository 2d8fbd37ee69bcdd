//! The dry run, and what is refused before a step is made.

use super::*;

#[test]
fn a_dry_run_prints_the_plan_and_writes_nothing() {
    let scene = Scene::new();
    let output = scene.command(&["--dry-run", "--nproc-per-node", "2"]).output().expect("started");
    let plan = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    for part in ["6 of 4 images", "sadness: 5 sources, 5 emotion images", "memory", "checkpoint", "trained"] {
        assert!(plan.contains(part), "{part:?} is not in\n{plan}");
    }
    assert!(!scene.run_dir().exists());
}

#[track_caller]
fn refused(scene: &Scene, arguments: &[&str], parts: &[&str]) {
    let text = scene.run(2, arguments);
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("error:")).collect();
    assert_eq!(lines.len(), 1, "one line, not\n{text}");
    for part in parts {
        assert!(lines[0].contains(part), "{part:?} is not in {}", lines[0]);
    }
}

#[test]
fn bad_recipes_end_with_one_line_and_code_2() {
    let scene = Scene::new();
    scene.edit("  lr_warmup_steps: 2", "  lr_warmup_stps: 2");
    refused(&scene, &[], &["recipe.yaml, line 23", "lr_warmup_stps", "did you mean `lr_warmup_steps`"]);
    let scene = Scene::new();
    refused(&scene, &["--set", "tokens.num_vectors=0"], &["tokens.num_vectors", "at least 1"]);
    refused(&scene, &["--set", "prompts.target=a person"], &["prompts.target", "{token}"]);
    refused(&scene, &["--set", "model.base=/no/such/folder"], &["/no/such/folder"]);
    refused(&scene, &["--set", "tokens=off", "--set", "delta=off"], &["nothing to learn"]);
    refused(&scene, &["--set", "data.sources.shards=/no/such/shards"], &["/no/such/shards"]);
    refused(&scene, &["--set", "emotions=[joy]"], &["joy"]);
    refused(&scene, &["--set", "edit.t_edit=high"], &["t_edit", "auto"]);
    refused(&scene, &["--resume", "/no/such/checkpoint"], &["/no/such/checkpoint"]);
    assert!(!scene.run_dir().exists(), "nothing is written for a bad recipe");
}

/// A copy of the pocket pipeline with one part changed.
pub fn altered_pipeline(folder: &Path, alter: impl Fn(&Path)) -> String {
    let base = folder.join("base");
    for part in ["unet", "vae", "text_encoder", "tokenizer", "scheduler"] {
        copy_folder(&pocket(part), &base.join(part));
    }
    alter(&base);
    format!("model.base={}", base.display())
}

#[test]
fn pickle_weights_and_a_foreign_vae_are_refused() {
    let scene = Scene::new();
    let pickled = altered_pipeline(scene.folder.path(), |base| {
        let weights = base.join("unet/diffusion_pytorch_model.safetensors");
        fs::rename(weights, base.join("unet/diffusion_pytorch_model.bin")).expect("renamed");
    });
    refused(&scene, &["--set", &pickled], &["diffusion_pytorch_model.bin", "pickle"]);
    let scene = Scene::new();
    let foreign = altered_pipeline(scene.folder.path(), |base| {
        let path = base.join("vae/diffusion_pytorch_model.safetensors");
        let mut bytes = fs::read(&path).expect("read");
        *bytes.last_mut().expect("bytes") ^= 1;
        fs::write(path, bytes).expect("written");
    });
    refused(&scene, &["--set", &foreign], &["VAE", "re-run `dataloader shard`"]);
}

#[test]
fn a_second_trainer_in_one_folder_is_turned_away_and_told_who_is_there() {
    for (first, second) in [(&[][..], &["--nproc-per-node", "2"][..]), (&["--nproc-per-node", "2"], &[])] {
        let scene = Scene::new();
        let mut running = scene.command(first).stderr(Stdio::null()).spawn().expect("started");
        wait_for("the lock", || {
            fs::read_to_string(scene.run_dir().join(".lock")).is_ok_and(|text| text.lines().count() == 3)
        });
        let lock = fs::read_to_string(scene.run_dir().join(".lock")).expect("held");
        let holder: Vec<&str> = lock.lines().collect();
        let text = scene.run(2, second);
        let named = format!("trainer (process {} on {})", holder[1], holder[2]);
        assert!(text.contains(&named) && text.contains("output_dir"), "{text}");
        assert_eq!(running.wait().expect("it ends").code(), Some(0), "the first is not disturbed");
        assert!(tensors_of(&scene.checkpoint(6)).len() == 4 && !scene.run_dir().join(".lock").exists());
    }
}

#[test]
fn a_killed_trainers_folder_is_taken_over() {
    let scene = Scene::new();
    let mut running = scene.command(&[]).stderr(Stdio::null()).spawn().expect("started");
    wait_for("the lock", || scene.run_dir().join(".lock").exists());
    running.kill().expect("killed");
    running.wait().expect("gone");
    assert!(scene.run_dir().join(".lock").exists(), "nobody took it away");
    scene.run(0, &["--set", "train.max_train_steps=1", "--set", "validation.validation_steps=0"]);
}

#[test]
fn the_dry_run_refuses_what_the_run_would() {
    let scene = Scene::new();
    let inpainting = altered_pipeline(scene.folder.path(), |base| {
        let path = base.join("unet/config.json");
        let text = fs::read_to_string(&path).expect("read");
        let changed = text.replace("\"in_channels\": 4", "\"in_channels\": 9");
        assert_ne!(text, changed);
        fs::write(path, changed).expect("written");
    });
    refused(&scene, &["--dry-run", "--set", &inpainting], &["in_channels", "9", "inpainting"]);
    let file = scene.folder.path().join("a_file");
    fs::write(&file, "").expect("written");
    let below_a_file = format!("output_dir={}", file.join("run").display());
    refused(&scene, &["--dry-run", "--set", &below_a_file], &["output_dir", "a_file is not a folder"]);
    refused(&scene, &["--dry-run", "--set", "checkpoint.min_free_mb=1000000000"], &["output_dir", "MB are free"]);
    assert!(!scene.run_dir().exists());
}

#[test]
fn without_arguments_it_explains_itself() {
    let output = Command::new(program("trainer")).output().expect("started");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), errors(&output));
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains("trainer --config configs/pocket/sadness.yaml"), "{text}");
}

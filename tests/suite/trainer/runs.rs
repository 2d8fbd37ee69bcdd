//! What a run leaves, and that kills, signals and the number of ranks change no byte of it.

use std::fs;
use std::process::Stdio;

use safetensors::SafeTensors;

use super::*;

#[test]
fn a_run_leaves_what_others_read() {
    let run = unbroken().run_dir();
    let config = diffusion::run::Run::open(&run).expect("edit_config.json").config;
    assert_eq!((config.emotions, config.edit.t_edit), (vec!["sadness".to_string()], 500));
    let learned = fs::read(run.join("learned_embeds.safetensors")).expect("tokens");
    let learned = SafeTensors::deserialize(&learned).expect("safetensors");
    assert_eq!(learned.tensor("<sadness>").expect("the placeholder").shape()[0], 2);
    assert!(run.join("h_delta.safetensors").is_file() && run.join("config.resolved.yaml").is_file());
    let sample = image::open(run.join("samples/step-6/sadness.png")).expect("a grid");
    assert_eq!((sample.width(), sample.height()), (3 * 64, 2 * 64));
    assert!(fs::read_dir(run.join("logs")).expect("events").count() == 1);
    assert_eq!(steps_done(unbroken()), 6);
}

#[test]
fn kill_nine_and_resume_gives_the_same_bytes() {
    let scene = Scene::new();
    let mut child = scene.command(&[]).stderr(Stdio::null()).spawn().expect("started");
    wait_for("four steps", || steps_done(&scene) >= 4 || child.try_wait().expect("waited").is_some());
    child.kill().expect("killed");
    child.wait().expect("gone");
    let text = scene.run(0, &["--resume", "latest"]);
    assert!(text.contains("checkpoint-") || text.contains("starting at step 0"), "{text}");
    assert_same_course(&scene);
}

#[test]
fn sigterm_saves_ends_with_75_and_goes_on() {
    let scene = Scene::new();
    let mut child = scene.command(&[]).stderr(Stdio::null()).spawn().expect("started");
    wait_for("the first step", || steps_done(&scene) >= 1 || child.try_wait().expect("waited").is_some());
    send("-TERM", child.id());
    let code = child.wait().expect("gone").code();
    assert_eq!(code, Some(75), "after {} steps", steps_done(&scene));
    let stopped_at = steps_done(&scene) as u64;
    assert!(stopped_at < 6 && scene.checkpoint(stopped_at).is_dir());
    let text = scene.run(0, &[]);
    assert!(text.contains(&format!("checkpoint-{stopped_at}")), "{text}");
    assert_same_course(&scene);
}

#[test]
fn two_ranks_give_the_weights_of_one() {
    let end = |processes: &str, sets: &[&str]| {
        let scene = Scene::new();
        let mut arguments = vec!["--nproc-per-node", processes];
        sets.iter().for_each(|set| arguments.extend(["--set", set]));
        scene.run(0, &arguments);
        tensors_of(&scene.checkpoint(6))
    };
    let ranks = end("2", &[]);
    for sets in [["train.gradient_accumulation_steps=2", ""], ["train.train_batch_size=4", "train.micro_batch_size=2"]]
    {
        let sets: Vec<&str> = sets.into_iter().filter(|set| !set.is_empty()).collect();
        assert!(ranks == end("1", &sets), "two ranks are not one with {sets:?}, bit for bit");
    }
    // Larger tensors round otherwise, and AdamW divides what is left of a gradient near zero by its own size.
    let sgd = "train.optimizer.rule=sgd";
    let (ranks, large) = (end("2", &[sgd]), end("1", &[sgd, "train.train_batch_size=4"]));
    for name in ["tokens.safetensors", "delta.safetensors"] {
        let (a, b) = (read(&ranks[name]), read(&large[name]));
        for (tensor, expected) in b {
            let difference = (&a[&tensor] - expected).abs().max().double_value(&[]);
            assert!(difference <= 1e-5, "{tensor} differs by {difference:e}");
        }
    }
}

#[test]
fn a_killed_rank_starts_the_group_again_from_its_checkpoint() {
    let (unbroken, broken) = (Scene::new(), Scene::new());
    unbroken.run(0, &["--nproc-per-node", "2"]);
    let mut command = broken.command(&["--nproc-per-node", "2", "--max-restarts", "1"]);
    let launcher = command.spawn().expect("started");
    wait_for("four steps", || steps_done(&broken) >= 4 && broken.checkpoint(3).is_dir());
    let ranks = children(launcher.id());
    assert_eq!(ranks.len(), 2, "{ranks:?}");
    send("-KILL", ranks[1]);
    let output = launcher.wait_with_output().expect("gone");
    let text = errors(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("start again (1 of 1)") && text.contains("checkpoint-3"), "{text}");
    assert!(tensors_of(&broken.checkpoint(6)) == tensors_of(&unbroken.checkpoint(6)));
}

#[test]
fn bad_input_is_not_tried_again() {
    let scene = Scene::new();
    let text = scene.run(2, &["--nproc-per-node", "2", "--max-restarts", "3", "--set", "train.seeed=1"]);
    assert!(!text.contains("start again"), "{text}");
    let text = scene.run(2, &["--max-restarts", "3"]);
    assert!(text.contains("--nproc-per-node"), "{text}");
}

#[test]
fn omp_num_threads_counts_where_the_recipe_says_nothing() {
    let said = |recipe: &[&str], processes: &[&str]| {
        let scene = Scene::new();
        if recipe.is_empty() {
            scene.edit("  num_threads: 1\n", "");
        }
        let arguments = [&["--set", "train.max_train_steps=1"], recipe, processes].concat();
        let ran = scene.command(&arguments).env("OMP_NUM_THREADS", "3").output().expect("the trainer starts");
        let text = errors(&ran);
        assert!(ran.status.success(), "{text}");
        let line = text.lines().find_map(|line| line.split_once("libtorch computes with ")).expect("it says how many");
        line.1.to_string()
    };
    assert_eq!(said(&[], &[]), "3 threads a process");
    assert_eq!(said(&[], &["--nproc-per-node", "2"]), "3 threads a process");
    assert_eq!(said(&["--set", "train.num_threads=2"], &[]), "2 threads a process");
}

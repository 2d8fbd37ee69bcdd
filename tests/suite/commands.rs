//! The four programs on the command line: recipes by name, `~`, merge keys, readers that go early, progress without a
//! terminal.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::fixtures::{fixture, pocket, program, root};

#[track_caller]
fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code(), text(stdout), text(stderr))
}

/// A folder of small photos, and a recipe over it in `configs/`.
fn photos(folder: &Path, count: usize) {
    for n in 0..count {
        let photo = image::RgbImage::from_pixel(20, 20, image::Rgb([n as u8, 7, (n * 5) as u8]));
        let place = folder.join("photos").join(["awe", "fear"][n % 2]);
        fs::create_dir_all(&place).expect("made");
        photo.save(place.join(format!("{n}.png"))).expect("written");
    }
    fs::create_dir_all(folder.join("configs/data")).expect("made");
    let vae = fs::canonicalize(pocket("vae")).expect("the pocket is there");
    let text = format!(
        "source: {{kind: folder, path: ~/photos}}\nresolution: 32\nvae: {}\noutput: ~/out\nbatch_size: 1\n",
        vae.display()
    );
    fs::write(folder.join("configs/data/mine.yaml"), text).expect("written");
}

fn dataloader(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("dataloader"));
    command.args(arguments).current_dir(folder).env("HOME", folder).env("OMP_NUM_THREADS", "1").env_remove("RUST_LOG");
    command
}

#[test]
fn recipes_are_found_in_configs_and_a_tilde_is_the_users_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    photos(folder.path(), 4);
    let (code, summary, log) = output(&mut dataloader(folder.path(), &["shard", "--config", "data/mine.yaml"]));
    assert_eq!(code, Some(0), "{log}");
    assert!(summary.contains("4 rows"), "{summary}");
    assert!(folder.path().join("out/manifest.json").exists() && !folder.path().join("~").exists());
    let set = "--set=output=~/again";
    let (code, ..) = output(&mut dataloader(folder.path(), &["shard", "--config=~/configs/data/mine.yaml", set]));
    assert!(code == Some(0) && folder.path().join("again/manifest.json").exists());
    let (code, _, error) = output(&mut dataloader(folder.path(), &["shard", "--config", "mien.yaml"]));
    assert_eq!(code, Some(2));
    assert!(error.contains("mien.yaml: no such file, here or in configs/"), "{error}");
}

#[test]
fn the_trainer_names_a_missing_recipe_once() {
    let mut command = Command::new(program("trainer"));
    let (code, _, error) = output(command.args(["--config", "sadnes.yaml", "--dry-run"]).current_dir(root()));
    assert_eq!(code, Some(2));
    assert_eq!(error.matches("sadnes.yaml").count(), 1, "{error}");
    assert!(error.contains("configs/pocket/sadness.yaml") && !error.contains("os error"), "{error}");
}

#[test]
fn a_recipe_with_a_merge_key_is_a_recipe() {
    let estimate = |set: &str| {
        let recipe = fixture("inputs/merge.yaml");
        let mut command = Command::new(program("trainer"));
        command.args(["estimate", "--set", set, "--config"]).arg(fs::canonicalize(recipe).expect("the fixture"));
        output(command.current_dir(root()))
    };
    let (code, text, error) = estimate("train.seed=1");
    assert_eq!(code, Some(0), "{error}");
    assert!(!text.is_empty());
    let (code, _, error) = estimate("data.sources.filtr={split: test}");
    assert_eq!(code, Some(2));
    assert!(error.contains("filtr") && error.contains("did you mean `filter`"), "{error}");
}

/// The exit code and the log of a program whose reader goes before it has written anything.
fn unread(command: &mut Command) -> (Option<i32>, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_reader_that_goes_early_ends_no_program_in_a_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    photos(folder.path(), 4);
    let recipe = ["--config", "data/mine.yaml"];
    let shard = unread(dataloader(folder.path(), &["shard"]).args(recipe));
    assert_eq!(shard.0, Some(0), "the data set was made: {}", shard.1);
    let out = folder.path().join("out");
    let out = out.to_str().expect("UTF-8");
    for (arguments, code) in [
        (vec!["verify", out], 141), // what was not checked is not called sound
        (vec!["inspect", out], 0),
        (vec!["shard", "--dry-run", "--config", "data/mine.yaml"], 0),
    ] {
        let (found, log) = unread(&mut dataloader(folder.path(), &arguments));
        assert_eq!((found, log.contains("panicked")), (Some(code), false), "{arguments:?}: {log}");
    }
    for (name, arguments, code) in [
        ("trainer", ["schema"], 0),
        ("evaluator", ["schema"], 0),
        ("editor", ["--help"], 0),
        ("trainer", ["--help"], 0),
    ] {
        let (found, log) = unread(Command::new(program(name)).args(arguments).current_dir(root()));
        assert_eq!((found, log.as_str()), (Some(code), ""), "{name} {arguments:?}");
    }
}

#[test]
fn a_log_that_nobody_reads_stops_no_work() {
    let folder = tempfile::tempdir().expect("a folder");
    photos(folder.path(), 4);
    let mut command = dataloader(folder.path(), &["shard", "--config", "data/mine.yaml"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    drop(child.stderr.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("4 rows"));
}

#[test]
fn progress_is_told_by_the_clock_where_there_is_no_terminal() {
    let folder = tempfile::tempdir().expect("a folder");
    photos(folder.path(), 200);
    let arguments = ["shard", "--config", "data/mine.yaml", "--progress-every", "0.01"];
    let (code, _, log) = output(&mut dataloader(folder.path(), &arguments));
    assert_eq!(code, Some(0), "{log}");
    // All images lie in one shard: the lines come from within it.
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("encoding ") && line.contains("/200")).collect();
    assert!(lines.len() >= 2, "{log}");
    assert!(lines[0].contains("images/s") && lines[0].contains(" left"), "{}", lines[0]);
}

/// Once it linked the folder to itself, and libtorch was gone.
#[test]
fn setup_leaves_libtorch_alone_when_it_is_given_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let (scripts, own) = (folder.path().join("scripts"), folder.path().join(".libtorch/torch"));
    for made in [&scripts, &own.join("lib"), &own.join("include")] {
        fs::create_dir_all(made).expect("made");
    }
    let script = scripts.join("setup_libtorch.py");
    fs::copy(root().join("scripts/setup_libtorch.py"), &script).expect("copied");
    fs::write(own.join("lib/libtorch_cpu.so"), "libtorch").expect("written");
    let ran = Command::new("python3").arg(&script).arg("--use").arg(&own).output().expect("python3 starts");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(fs::read_to_string(own.join("lib/libtorch_cpu.so")).expect("still there"), "libtorch");
}

/// The command in a manifest: the list after `command:`.
fn command_of(manifest: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("manifests/kubernetes").join(manifest)).expect("a manifest");
    let (_, rest) = text.split_once("command: [").expect("it has a command");
    let (list, _) = rest.split_once(']').expect("its list ends");
    list.split(',').map(|word| word.trim().to_string()).collect()
}

/// A misspelt argument or key would only be found by a cluster.
#[test]
fn the_commands_of_the_manifests_are_read_by_the_programs_they_call() {
    for (manifest, more, complaint) in [
        ("train-job.yaml", &["--dry-run", "--offline", "--nproc-per-node=1"][..], "model stable-diffusion-v1-5"),
        ("shard-job.yaml", &["--dry-run"], "/data/EmoSet-118K"),
    ] {
        let words = command_of(manifest);
        let arguments = words[1..].iter().filter(|word| *word != "--nproc-per-node" && *word != "gpu");
        let arguments: Vec<&String> = arguments.collect();
        let run = |arguments: &[&String], more: &[&str]| {
            let mut command = Command::new(program(&words[0]));
            output(
                command.args(arguments).args(more).current_dir(root()).env("HF_HOME", "/none").env_remove("RUST_LOG"),
            )
        };
        // Everything is understood; what is missing are the model and the data, which lie on the cluster.
        let (code, _, error) = run(&arguments, more);
        assert!(code == Some(2) && error.contains(complaint) && !error.contains("Usage"), "{manifest}: {error}");
        let misspelt = "output_dri=/x".to_string();
        let wrong =
            [arguments, vec![&words[words.iter().position(|w| w == "--set").expect("it sets keys")], &misspelt]]
                .concat();
        let (code, _, error) = run(&wrong, more);
        assert!(code == Some(2) && error.contains("output_dri"), "{manifest}: {error}");
    }
}

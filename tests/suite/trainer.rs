//! The trainer as its users run it: resume after kill -9 and SIGTERM, ranks against accumulation, damaged checkpoints,
//! bad recipes. Pocket models, a dozen images, a few steps.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray};
use dataloader::config::ShardConfig;
use dataloader::share::Share;
use diffusion::hub::Hub;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use safetensors::SafeTensors;
use tch::Tensor;

use crate::fixtures::{pocket, program, root};

/// Longer than any run here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A dozen emoji faces as shards, made once for all tests.
struct Shards {
    folder: tempfile::TempDir,
}

fn shards() -> &'static Shards {
    static SHARDS: OnceLock<Shards> = OnceLock::new();
    SHARDS.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let photos = folder.path().join("photos");
        write_photos(&photos);
        let recipe = folder.path().join("data.yaml");
        let text = format!(
            "source: {{kind: folder, path: {}}}\nresolution: 64\nvae: {}\nclip: {}\noutput: {}\n",
            photos.display(),
            pocket("vae").display(),
            pocket("clip").display(),
            folder.path().join("data").display()
        );
        fs::write(&recipe, text).expect("written");
        let config: ShardConfig = dataloader::recipe::load(&recipe, &[]).expect("a valid recipe");
        dataloader::shard::run(&config, &Hub { home: "none".into(), offline: true }, &Share::ALONE).expect("encoded");
        Shards { folder }
    })
}

/// Faces of the embedded set: five sad ones and five others to train on, three others held out.
fn write_photos(root: &Path) {
    let file = fs::File::open(pocket("data/pocket_emoji.parquet")).expect("the embedded images");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("parquet").build().expect("parquet");
    let mut left = BTreeMap::from([("train/sadness", 5), ("train/amusement", 5), ("test/amusement", 3)]);
    for batch in reader.map(|b| b.expect("readable")) {
        let column = |name: &str| batch.column_by_name(name).expect("a column").clone();
        let text = |name: &str, row: usize| {
            let column = column(name);
            let column = arrow::compute::cast(&column, &arrow::datatypes::DataType::Utf8).expect("text");
            let strings = column.as_string::<i32>();
            if strings.is_null(row) {
                String::new()
            } else {
                strings.value(row).to_string()
            }
        };
        let images = arrow::compute::cast(&column("image"), &arrow::datatypes::DataType::Binary).expect("bytes");
        for row in 0..batch.num_rows() {
            if text("kind", row) != "face" {
                continue;
            }
            let place = format!("{}/{}", text("split", row), text("emotion", row));
            let Some(count) = left.get_mut(place.as_str()).filter(|count| **count > 0) else { continue };
            *count -= 1;
            let path = root.join(&place).join(format!("{row}.webp"));
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, images.as_binary::<i32>().value(row)).expect("written");
        }
    }
    assert!(left.values().all(|&count| count == 0), "too few faces: {left:?}");
}

/// A recipe of eight rungs, four of them edited, that checkpoints in mid-descent.
fn recipe(output: &Path) -> String {
    let data = shards().folder.path();
    format!(
        r#"model:
  base: {pocket}
  clip: {pocket}/clip
emotions: [sadness]
data:
  emotion_images: {{shards: {data}/data, filter: {{split: train}}}}
  sources:
    shards: {data}/data
    filter: {{split: train}}
    trajectories: {data}/inversions
    inversion_batch_size: 4
tokens: {{num_vectors: 2}}
delta: {{kind: conv}}
edit: {{num_inversion_steps: 8, t_edit: 500, trajectory: edited}}
prompts: {{source: "", target: "an emoji evoking {{token}}"}}
direction: {{kind: mixed, templates: [{{source: "an emoji", target: "an emoji evoking {{emotion}}"}}]}}
loss: {{reconstruction: 0.6}}
train:
  train_batch_size: 2
  max_train_steps: 6
  learning_rate: {{tokens: 5.0e-3, delta: 1.0e-3}}
  lr_scheduler: linear
  lr_warmup_steps: 2
  num_threads: 1
  device: cpu
checkpoint: {{checkpointing_steps: 3, checkpoints_total_limit: 4}}
validation:
  validation_steps: 6
  num_validation_images: 2
  lpips: {lpips}
output_dir: {output}
"#,
        pocket = pocket("").display(),
        data = data.display(),
        lpips = root().join("assets/lpips/lpips_alex.safetensors").display(),
        output = output.display(),
    )
}

/// A folder with a recipe in it whose output lies in `run`.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("recipe.yaml"), recipe(&folder.path().join("run"))).expect("written");
        Self { folder }
    }

    fn run_dir(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("trainer"));
        command.arg("--config").arg(self.folder.path().join("recipe.yaml")).arg("--offline").args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in ["RANK", "WORLD_SIZE", "RUST_LOG"] {
            command.env_remove(name);
        }
        command
    }

    #[track_caller]
    fn run(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("the trainer starts");
        let text = errors(&output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        text
    }

    fn checkpoint(&self, step: u64) -> PathBuf {
        self.run_dir().join(format!("checkpoint-{step}"))
    }

    /// Sets a value of the recipe by replacing text in it.
    #[track_caller]
    fn edit(&self, from: &str, to: &str) {
        let path = self.folder.path().join("recipe.yaml");
        let text = fs::read_to_string(&path).expect("read");
        assert!(text.contains(from), "{from:?} is not in the recipe");
        fs::write(path, text.replace(from, to)).expect("written");
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An unbroken run of six steps, made once.
fn unbroken() -> &'static Scene {
    static RUN: OnceLock<Scene> = OnceLock::new();
    RUN.get_or_init(|| {
        let scene = Scene::new();
        scene.run(0, &[]);
        scene
    })
}

/// The bytes of every file of a checkpoint's tensors.
fn tensors_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = ["tokens", "delta", "optimizer", "trajectory"].map(|name| format!("{name}.safetensors"));
    files.into_iter().map(|name| (name.clone(), fs::read(folder.join(&name)).expect("a checkpoint's file"))).collect()
}

/// metrics.jsonl without what depends on the clock.
fn metrics(scene: &Scene) -> Vec<String> {
    let text = fs::read_to_string(scene.run_dir().join("metrics.jsonl")).expect("metrics");
    let stable = |line: &str| {
        let mut line: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).expect("JSON");
        line.retain(|tag, _| !tag.starts_with("perf/"));
        serde_json::to_string(&line).expect("JSON")
    };
    text.lines().map(stable).collect()
}

#[track_caller]
fn assert_same_course(broken: &Scene) {
    assert_eq!(metrics(broken), metrics(unbroken()));
    let (found, expected) = (tensors_of(&broken.checkpoint(6)), tensors_of(&unbroken().checkpoint(6)));
    for (name, bytes) in expected {
        assert!(found[&name] == bytes, "{name} differs");
    }
    for name in ["learned_embeds.safetensors", "h_delta.safetensors", "edit_config.json"] {
        let read = |scene: &Scene| fs::read(scene.run_dir().join(name)).expect("an export");
        assert!(read(broken) == read(unbroken()), "{name} differs");
    }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn steps_done(scene: &Scene) -> usize {
    fs::read_to_string(scene.run_dir().join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}

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
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
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

fn read(bytes: &[u8]) -> BTreeMap<String, Tensor> {
    let file = SafeTensors::deserialize(bytes).expect("safetensors");
    let tensor = |view: &safetensors::tensor::TensorView<'_>| {
        let shape: Vec<i64> = view.shape().iter().map(|&d| d as i64).collect();
        Tensor::from_data_size(view.data(), &shape, tch::Kind::Float)
    };
    file.iter().map(|(name, view)| (name.to_string(), tensor(&view))).collect()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("listed").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

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
    refused(&scene, &["--set", "prompts.target=an emoji"], &["prompts.target", "{token}"]);
    refused(&scene, &["--set", "model.base=/no/such/folder"], &["/no/such/folder"]);
    refused(&scene, &["--set", "tokens=off", "--set", "delta=off"], &["nothing to learn"]);
    refused(&scene, &["--set", "data.sources.shards=/no/such/shards"], &["/no/such/shards"]);
    refused(&scene, &["--set", "emotions=[joy]"], &["joy"]);
    refused(&scene, &["--set", "edit.t_edit=high"], &["t_edit", "auto"]);
    refused(&scene, &["--resume", "/no/such/checkpoint"], &["/no/such/checkpoint"]);
    assert!(!scene.run_dir().exists(), "nothing is written for a bad recipe");
}

/// A copy of the pocket pipeline with one part changed.
fn altered_pipeline(folder: &Path, alter: impl Fn(&Path)) -> String {
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
fn without_arguments_it_explains_itself() {
    let output = Command::new(program("trainer")).output().expect("started");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), errors(&output));
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains("trainer --config configs/pocket/sadness.yaml"), "{text}");
}

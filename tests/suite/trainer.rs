//! The trainer as its users run it. Pocket models, a dozen images, a few steps.

mod chaos;
mod checkpoints;
mod curves;
mod exact;
mod inversions;
mod refusals;
mod runs;
mod validation;
mod variants;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use dataloader::making::config::ShardConfig;
use dataloader::making::worker_rank::WorkerRank;
use hub::Hub;
use safetensors::SafeTensors;
use tch::Tensor;

use crate::fixtures::{copy_folder, people, pocket, program, root};

/// Longer than any run here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A dozen drawn people as shards, made once for all tests.
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
        let config: ShardConfig = recipe::load(&recipe, &[]).expect("a valid recipe");
        dataloader::making::shard::run(&config, &Hub::offline("none"), &WorkerRank::ALONE).expect("encoded");
        Shards { folder }
    })
}

/// People of the embedded set: five sad ones and five others to train on, three others held out.
fn write_photos(root: &Path) {
    for (split, emotion, count) in [("train", "sadness", 5), ("train", "amusement", 5), ("test", "amusement", 3)] {
        let folder = root.join(split).join(emotion);
        fs::create_dir_all(&folder).expect("made");
        for picture in people(split, emotion, count) {
            fs::write(folder.join(format!("{}.webp", picture.row)), picture.bytes).expect("written");
        }
    }
}

/// A recipe of eight timesteps, four of them edited, that checkpoints in mid-descent.
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
prompts: {{source: "", target: "a person showing {{token}}"}}
direction: {{kind: mixed, templates: [{{source: "a person", target: "a person showing {{emotion}}"}}]}}
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

/// metrics.jsonl without what depends on the clock or the machine.
fn metrics(scene: &Scene) -> Vec<String> {
    let text = fs::read_to_string(scene.run_dir().join("metrics.jsonl")).expect("metrics");
    let stable = |line: &str| {
        let mut line: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).expect("JSON");
        line.retain(|tag, _| !tag.starts_with("perf/") && !tag.starts_with("memory/"));
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

/// The processes that `parent` has started.
fn children(parent: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn send(signal: &str, process: u32) {
    // The process may have ended by itself.
    let _ = Command::new("kill").args([signal, &process.to_string()]).stderr(Stdio::null()).status();
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

/// The tensors of a safetensors file.
fn read(bytes: &[u8]) -> BTreeMap<String, Tensor> {
    let file = SafeTensors::deserialize(bytes).expect("safetensors");
    let tensor = |view: &safetensors::tensor::TensorView<'_>| {
        let shape: Vec<i64> = view.shape().iter().map(|&d| d as i64).collect();
        Tensor::from_data_size(view.data(), &shape, tch::Kind::Float)
    };
    file.iter().map(|(name, view)| (name.to_string(), tensor(&view))).collect()
}

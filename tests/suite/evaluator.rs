//! The evaluator as its users run it: metrics, classifiers and whole reports on held-out faces of the embedded set.

mod cheat;
mod classifier;
mod methods;
mod metrics;
mod networks;
mod nights;
mod pairs;
mod published;
mod refusals;
mod report;
mod sets;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::Parser;
use dataloader::making::config::ShardConfig;
use dataloader::making::shard;
use dataloader::making::worker_rank::WorkerRank;
use diffusion::delta::DeltaSet;
use diffusion::detail::Detail;
use diffusion::pipeline::Pipeline;
use diffusion::process::asyrp::{Condition, Process};
use diffusion::run::{dimensions, Base, DeltaConfig, EditSettings, Learned, Prompts, Run, RunConfig, TokenConfig};
use diffusion::tokens::{TokenSettings, Tokens};
use evaluator::cli::{self, Args};
use evaluator::config::plan::Plan;
use evaluator::config::Config;
use evaluator::evaluation::ranks::Ranks;
use hub::Hub;
use serde_json::Value;
use tch::{Device, Kind};

use crate::fixtures::{fixture, pocket, root};
use crate::schemas::Schema;

/// A folder with shards of four held-out faces and an untrained joint run.
struct Workshop {
    folder: tempfile::TempDir,
}

impl Workshop {
    fn new() -> Self {
        let workshop = Self { folder: tempfile::tempdir().expect("a folder") };
        workshop.encode_faces();
        workshop.save_untrained_run();
        workshop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn encode_faces(&self) {
        self.encode(&fixture("metrics/faces"), "shards");
    }

    /// Shards of an image folder.
    fn encode(&self, pictures: &Path, name: &str) {
        encode(pictures, &self.path(name));
    }

    fn save_untrained_run(&self) {
        let pipeline = Pipeline::load(&pocket(""), Device::Cpu, Kind::Float).expect("the pocket pipeline");
        let emotions = vec!["sadness".to_string()];
        let settings = TokenSettings {
            placeholder_token: "<{emotion}>".into(),
            initializer_token: "{emotion}".into(),
            num_vectors: 2,
        };
        let (tokenizer, encoder) = (&pipeline.tokenizer, &pipeline.text_encoder);
        let (tokens, _) = Tokens::new(tokenizer, encoder, &emotions, &settings, Device::Cpu).expect("tokens");
        let deltas = DeltaSet::new(dimensions(&pipeline, false), &emotions, 0, Device::Cpu);
        let config = untrained(&pipeline, emotions);
        let learned = Learned { tokens: Some(tokens), deltas: Some(deltas) };
        Run::save(&self.path("run"), &config, &learned).expect("saved");
    }

    /// Has the run say that the embedded CLIP was in its loss.
    fn say_loss_clip(&self) {
        let path = self.path("run").join(diffusion::run::CONFIG_FILE);
        let mut config = read_json(&path);
        let hash = diffusion::weights::hash(&pocket("clip"), "model").expect("readable");
        config["loss_clip"] = serde_json::json!({"name": "assets/pocket/clip", "hash": hash});
        fs::write(&path, config.to_string()).expect("written");
    }

    /// A recipe over the workshop's shards and run.
    fn recipe(&self) -> PathBuf {
        let text = format!(
            "# Four faces and an untrained run.\n\
             emotion: sadness\n\
             sources:\n  shards: {shards}\n  filter: {{split: test}}\n\
             models:\n  base: {base}\n  classifier: {classifier}\n  clip: {clip}\n  lpips: {lpips}\n  device: cpu\n\
             runs:\n  - {{method: joint, run: {run}}}\n\
             strengths: [0.0, 1.0]\n\
             headline: {{strength: 1.0, equal_lpips: joint}}\n\
             bootstrap: {{samples: 200, seed: 0}}\n\
             gates:\n  - {{metric: methods.no_edit.lpips, bound: \"<= 0\"}}\n\
             batch_size: 3\n\
             output_dir: {output}\n",
            shards = self.path("shards").display(),
            base = pocket("").display(),
            classifier = pocket("judge_alexnet").display(),
            clip = pocket("clip").display(),
            lpips = root().join("assets/lpips/lpips_alex.safetensors").display(),
            run = self.path("run").display(),
            output = self.path("reports").display(),
        );
        let path = self.path("evaluate.yaml");
        fs::write(&path, text).expect("written");
        path
    }

    /// The recipe with `sets` laid over it, checked.
    fn plan(&self, sets: &[&str]) -> Plan {
        let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
        let config: Config = recipe::load(&self.recipe(), &sets).expect("a valid recipe");
        Plan::new(config, offline(), &Ranks::alone()).expect("a valid plan")
    }

    fn evaluate(&self, sets: &[&str]) -> evaluator::Result<cli::Outcome> {
        let recipe = self.recipe().display().to_string();
        let mut args = vec!["evaluator", "--config", &recipe, "--date", "2026-01-31"];
        args.extend(sets.iter().flat_map(|set| ["--set", *set]));
        let outcome = cli::run(&Args::parse_from(args), "2000-01-01", offline(), &|_| None, &Ranks::alone())?;
        let outcome = outcome.expect("one process alone writes the report");
        fits_the_schema(&read_json(&outcome.folder.join("report.json")));
        Ok(outcome)
    }

    #[track_caller]
    fn refused(&self, sets: &[&str], parts: &[&str]) {
        let error = self.evaluate(sets).expect_err("bad input is refused");
        assert!(error.is_bad_input(), "{error}: exit code 2");
        let message = error.to_string();
        assert!(!message.contains('\n'), "one line: {message}");
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    }
}

/// Every report that a test makes has the published form.
#[track_caller]
fn fits_the_schema(report: &Value) {
    Schema::new(&cli::schema(cli::Described::Report)).accepts(report, "report.json");
}

/// Three faces of each of four emotions, with the embedded CLIP's embeddings, made once for all tests.
fn face_shards() -> PathBuf {
    static SHARDS: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = SHARDS.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let photos = folder.path().join("photos/train");
        for entry in walk(&fixture("metrics/faces/test")) {
            let emotion = entry.parent().and_then(Path::file_name).expect("an emotion").to_owned();
            fs::create_dir_all(photos.join(&emotion)).expect("made");
            let face = image::open(&entry).expect("a picture");
            for (name, turned) in [("a", face.clone()), ("b", face.fliph()), ("c", face.blur(1.0))] {
                turned.save(photos.join(&emotion).join(format!("{name}.png"))).expect("written");
            }
        }
        encode(&folder.path().join("photos"), &folder.path().join("shards"));
        folder
    });
    folder.path().join("shards")
}

/// The files two levels down.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = |folder: &Path| -> Vec<PathBuf> {
        fs::read_dir(folder).expect("readable").map(|e| e.expect("an entry").path()).collect()
    };
    entries(folder).iter().flat_map(|below| entries(below)).collect()
}

/// Shards of an image folder, with CLIP's embeddings.
fn encode(photos: &Path, output: &Path) {
    let text = format!(
        "source: {{kind: folder, path: {}}}\nresolution: 64\nvae: {}\nclip: {}\noutput: {}\n",
        photos.display(),
        pocket("vae").display(),
        pocket("clip").display(),
        output.display(),
    );
    let config: ShardConfig = recipe::parse(Path::new("shards.yaml"), &text, &[]).expect("a valid recipe");
    shard::run(&config, &offline(), &WorkerRank::ALONE).expect("encoded");
}

fn offline() -> Hub {
    Hub::offline("none")
}

fn untrained(pipeline: &Pipeline, emotions: Vec<String>) -> RunConfig {
    RunConfig {
        format_version: diffusion::run::FORMAT_VERSION,
        base: Base { name: "assets/pocket".into(), hashes: pipeline.hashes.clone() },
        loss_clip: None,
        emotions,
        tokens: Some(TokenConfig { placeholder_token: "<{emotion}>".into(), num_vectors: 2 }),
        delta: Some(DeltaConfig { condition_on_token: false }),
        prompts: Prompts { source: String::new(), target: "a person showing {token}".into() },
        edit: EditSettings {
            process: Process::Asymmetric,
            condition: Condition::Decoder,
            num_inversion_steps: 10,
            t_edit: 350,
            t_boost: 0,
            detail: Detail::Residual,
            guidance_scale: 1.0,
            mask: None,
        },
        resolution: 64,
        seed: 0,
    }
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("readable")).expect("JSON")
}

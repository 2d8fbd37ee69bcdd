//! The evaluator's recipe as written; [`plan`] resolves and checks it.

pub mod plan;
pub mod published;
pub mod sweep;

use std::collections::BTreeMap;
use std::path::PathBuf;

use collective::DeviceChoice;
use dataloader::{Access, Filter};
use emotions::Emotion;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::methods::baseline::Baseline;
use crate::methods::style::section::StyleImages;

/// A whole recipe.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The report's heading.
    #[serde(default = "title")]
    pub title: String,
    /// The photos to edit.
    pub sources: Sources,
    /// The images of each emotion that its edits are compared with as a set (FID, KLD).
    #[serde(default)]
    pub references: References,
    /// The networks that edit and score.
    pub models: Models,
    /// How shards in object stores are reached and kept.
    #[serde(default)]
    pub store: Access,
    /// The trained runs. The controls (no edit, VAE round trip) are always there.
    #[serde(default)]
    pub runs: Vec<RunEntry>,
    /// The baselines, each with its own strengths.
    #[serde(default)]
    pub methods: Vec<Baseline>,
    /// The images that style baselines copy.
    #[serde(default)]
    pub style_images: Option<StyleImages>,
    /// The one emotion to evaluate; shorthand for `emotions` with one entry.
    #[serde(default)]
    pub emotion: Option<Emotion>,
    /// The emotions to evaluate; by default all that the runs were trained for.
    #[serde(default)]
    pub emotions: Vec<Emotion>,
    /// The trained runs' strengths on the Emo-A–LPIPS curve.
    #[serde(default = "strengths")]
    pub strengths: Vec<f64>,
    /// Which strength the headline table shows.
    #[serde(default)]
    pub headline: Headline,
    /// Whether the featured method's edits are also scored against a target drawn from the other seven emotions.
    #[serde(default = "yes")]
    pub shuffled: bool,
    /// Also compute a published table's own arithmetic, in columns of that name.
    #[serde(default)]
    pub compatibility: Option<Compatibility>,
    /// Plain-word prompts of the CLIP direction, which are averaged.
    #[serde(default = "templates")]
    pub templates: Vec<Template>,
    /// The intervals.
    #[serde(default)]
    pub bootstrap: BootstrapConfig,
    /// Which pictures the report shows.
    #[serde(default)]
    pub pictures: Pictures,
    /// The limits beyond which an edit counts as a failure.
    #[serde(default)]
    pub failures: FailureLimits,
    /// Files with figures from papers, shown beside the report's own.
    #[serde(default)]
    pub published: Vec<PathBuf>,
    /// Conditions on report.json that decide the exit code.
    #[serde(default)]
    pub gates: Vec<GateEntry>,
    /// Sources edited at once.
    #[serde(default = "batch_size")]
    pub batch_size: usize,
    /// The report is written to `output_dir/<date>`.
    pub output_dir: PathBuf,
}

/// Which rows of which data set are edited.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    /// Folder or URL of shards.
    pub shards: String,
    /// A filter of the rows: name a split that no training saw.
    pub filter: Filter,
    /// Leave sources that already show the target out of the headline; the split table still has them.
    #[serde(default)]
    pub exclude_target: bool,
    /// The most sources to take, evenly spaced in the data set's order.
    #[serde(default)]
    pub max_images: Option<usize>,
}

/// The images of each emotion that edits are compared with as a set.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct References {
    /// Folder or URL of shards; by default the sources'.
    pub shards: Option<String>,
    /// A filter of the rows; by default the sources' split. Each emotion uses the rows labelled with it.
    pub filter: Option<Filter>,
    /// The most images of an emotion, evenly spaced in the data set's order.
    pub max_images: Option<usize>,
}

/// A published table whose arithmetic departs from the usual definitions.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compatibility {
    /// EmoEdit's.
    EmoEdit,
}

/// Folders of the networks.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Models {
    /// Pipeline folder or hub id; by default the one that the runs name.
    #[serde(default)]
    pub base: Option<String>,
    /// The emotion classifier's folder; it must have taken part in no loss. It is the first of the judges.
    #[serde(default)]
    pub classifier: Option<PathBuf>,
    /// Folders of the judges: emotion classifiers that took part in no loss. If `classifier` is given, it comes
    /// first. Every headline is shown under each judge; two of different kind and data say more than one.
    #[serde(default)]
    pub judges: Vec<PathBuf>,
    /// The CLIP that a classifier over embeddings reads, as folder or hub id; by default the one that it names.
    #[serde(default)]
    pub classifier_clip: Option<String>,
    /// Let a classifier judge although it reads the embeddings of a CLIP that took part in a run's loss.
    #[serde(default)]
    pub allow_classifier_on_loss_clip: bool,
    /// The scoring CLIP's folder or hub id.
    pub clip: String,
    /// The LPIPS weights (AlexNet and linear heads in one safetensors file).
    pub lpips: PathBuf,
    /// As `lpips`, over VGG-16: a second LPIPS column.
    #[serde(default)]
    pub lpips_vgg: Option<PathBuf>,
    /// Scene and object classifiers: the column Sem-C.
    #[serde(default)]
    pub clarity: Option<ClarityWeights>,
    /// InceptionV3's weights (safetensors, torchvision's names as pytorch-fid has them): adds the column FID beside
    /// CLIP-FID. Its sums take 34 MB for each method and emotion.
    #[serde(default)]
    pub inception: Option<PathBuf>,
    /// Where to compute.
    #[serde(default)]
    pub device: DeviceChoice,
    /// Never fetch from the hub.
    #[serde(default)]
    pub offline: bool,
}

impl Models {
    /// The folders of the judges, in order.
    pub fn judges(&self) -> impl Iterator<Item = &PathBuf> {
        self.classifier.iter().chain(&self.judges)
    }
}

/// The classifiers of Sem-C: ResNet-50 of torchvision's layout, safetensors.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClarityWeights {
    /// Of scenes, such as Places365's.
    pub scenes: PathBuf,
    /// Of objects, such as torchvision's on ImageNet.
    pub objects: PathBuf,
}

/// The kinds of trained run.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunMethod {
    /// Tokens only.
    TextualInversion,
    /// Δh only.
    Asyrp,
    /// Tokens and Δh.
    Joint,
}

impl RunMethod {
    /// The key in report.json.
    pub fn key(self) -> &'static str {
        match self {
            RunMethod::TextualInversion => "textual_inversion",
            RunMethod::Asyrp => "asyrp",
            RunMethod::Joint => "joint",
        }
    }
}

/// One trained run.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunEntry {
    /// What the run trained.
    pub method: RunMethod,
    /// The run's folder (the trainer's output_dir). A path with `{emotion}` is one folder for each evaluated emotion.
    pub run: String,
    /// The emotion to take from it; by default all that it was trained for.
    #[serde(default)]
    pub emotion: Option<Emotion>,
}

/// Which strength the headline table shows.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Headline {
    /// The trained runs' headline strength, unless `per_method` says otherwise.
    #[serde(default = "one")]
    pub strength: f64,
    /// Headline strengths by method, of runs and baselines.
    #[serde(default)]
    pub per_method: BTreeMap<String, f64>,
    /// Also compare every other method with this one at equal LPIPS.
    #[serde(default)]
    pub equal_lpips: Option<String>,
}

/// A pair of plain-word prompts; `{emotion}` is replaced by the word.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Without the emotion.
    pub source: String,
    /// With the emotion.
    pub target: String,
}

/// The intervals.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BootstrapConfig {
    /// Resamples.
    #[serde(default = "samples")]
    pub samples: usize,
    /// Seed of the resamples and of the shuffled targets.
    #[serde(default)]
    pub seed: u64,
}

/// Which pictures the report shows.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pictures {
    /// Sources for each of best, median and worst.
    #[serde(default = "cases")]
    pub cases: usize,
    /// Sources in the strength sweep.
    #[serde(default = "sweep")]
    pub sweep: usize,
}

/// The limits beyond which an edit counts as a failure.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FailureLimits {
    /// LPIPS above this: the source is lost. It is also lost if another source is nearer to the edit than its own.
    #[serde(default = "lost_lpips")]
    pub lpips_above: f64,
    /// Sharpness ratio below this: blurred.
    #[serde(default = "blurred")]
    pub sharpness_below: f64,
    /// Sharpness ratio above this: noisy.
    #[serde(default = "noisy")]
    pub sharpness_above: f64,
}

/// A condition on report.json.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateEntry {
    /// Path of a number in report.json, such as `methods.joint.emo_a`.
    pub metric: String,
    /// Path of a number to subtract first, such as `methods.no_edit.emo_a`.
    #[serde(default)]
    pub minus: Option<String>,
    /// `>= 0.5` or `<= 0.2`.
    pub bound: String,
}

impl Default for Headline {
    fn default() -> Self {
        Self { strength: one(), per_method: BTreeMap::new(), equal_lpips: None }
    }
}

impl Default for BootstrapConfig {
    fn default() -> Self {
        Self { samples: samples(), seed: 0 }
    }
}

impl Default for Pictures {
    fn default() -> Self {
        Self { cases: cases(), sweep: sweep() }
    }
}

impl Default for FailureLimits {
    fn default() -> Self {
        Self { lpips_above: lost_lpips(), sharpness_below: blurred(), sharpness_above: noisy() }
    }
}

fn title() -> String {
    "Emotion edits of held-out photos".into()
}

fn templates() -> Vec<Template> {
    vec![Template { source: "a photo".into(), target: "a photo evoking {emotion}".into() }]
}

fn strengths() -> Vec<f64> {
    vec![0.5, 1.0, 1.5]
}

fn yes() -> bool {
    true
}

fn one() -> f64 {
    1.0
}

fn samples() -> usize {
    2000
}

fn cases() -> usize {
    4
}

fn sweep() -> usize {
    4
}

fn batch_size() -> usize {
    8
}

fn lost_lpips() -> f64 {
    0.25
}

fn blurred() -> f64 {
    0.5
}

fn noisy() -> f64 {
    2.0
}

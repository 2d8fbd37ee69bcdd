//! The recipe as written: it is composed of sections, each of which refuses unknown keys. `resolved` turns it into
//! checked values.

pub mod resolved;
pub mod switch;
pub mod threshold;
mod train;

use std::net::SocketAddr;
use std::path::PathBuf;

use dataloader::{Access, Filter, Sampling};
use diffusion::detail::Detail;
use diffusion::losses::directional::Directional;
use diffusion::process::asyrp::{Condition, Process};
use diffusion::process::mask::MaskSettings;
use emotions::Emotion;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checkpoint::CheckpointSection;
use crate::config::switch::Switch;
use crate::config::threshold::Threshold;
use crate::objective::direction::section::DirectionSection;
pub use train::TrainSection;

/// A whole recipe.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The frozen networks.
    pub model: ModelSection,
    /// Where hub ids are looked up.
    #[serde(default)]
    pub hub: HubSection,
    /// What is learned: some of Mikels' eight.
    pub emotions: Vec<Emotion>,
    /// The two image streams.
    pub data: DataSection,
    /// How shards in object stores are reached and kept.
    #[serde(default)]
    pub store: Access,
    /// Textual inversion; `off` leaves Asyrp.
    pub tokens: Switch<TokensSection>,
    /// The h-space delta; `off` leaves textual inversion.
    pub delta: Switch<DeltaSection>,
    /// The process of the edit.
    #[serde(default)]
    pub edit: EditSection,
    /// The UNet's prompts.
    pub prompts: PromptsSection,
    /// ΔT.
    pub direction: DirectionSection,
    /// Forms and weights of the losses.
    #[serde(default)]
    pub loss: LossSection,
    /// Steps, batches, rates.
    pub train: TrainSection,
    /// Saving and resuming.
    #[serde(default)]
    pub checkpoint: CheckpointSection,
    /// Pictures of held-out sources while training, and what is measured of them.
    #[serde(default)]
    pub validation: ValidationSection,
    /// What is watched beside losses and rates.
    #[serde(default)]
    pub watch: WatchSection,
    /// Where everything is written.
    pub output_dir: PathBuf,
}

/// The frozen networks, each a folder or a hub id.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// A diffusers pipeline.
    pub base: String,
    /// The CLIP of the losses (a transformers CLIPModel); needed where loss.clip, loss.contrast or
    /// loss.alignment is not 0.
    #[serde(default)]
    pub clip: Option<String>,
    /// An AutoencoderTiny or AutoencoderKL that decodes P_t for CLIP; without it the pipeline's own VAE does.
    #[serde(default)]
    pub preview_decoder: Option<String>,
    /// The share of its sides at which P_t is decoded, above 0 and at most 1. CLIP looks at 224 px in any case, and
    /// half the side costs a quarter.
    #[serde(default = "full_size")]
    pub preview_scale: f64,
}

fn full_size() -> f64 {
    1.0
}

/// Where hub ids are looked up.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HubSection {
    /// Use only what is in the cache.
    pub offline: bool,
}

/// The two image streams.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSection {
    /// Images that show the emotions: for the tokens and the prototype direction.
    #[serde(default)]
    pub emotion_images: Option<ImagesSection>,
    /// Images to be edited.
    pub sources: SourcesSection,
}

/// Rows of a data set.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagesSection {
    /// Folder or URL with a manifest.json.
    pub shards: String,
    /// A filter of the rows.
    #[serde(default)]
    pub filter: Filter,
}

/// The images to be edited, and their inversions.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourcesSection {
    /// Folder or URL with a manifest.json.
    pub shards: String,
    /// A filter of the rows.
    #[serde(default)]
    pub filter: Filter,
    /// How often each emotion's photos are drawn.
    #[serde(default)]
    pub sampling: Sampling,
    /// Keep images that already show the emotion being learned.
    #[serde(default)]
    pub include_target_emotion: bool,
    /// The most images to take, drawn by the seed; by default all.
    #[serde(default)]
    pub limit: Option<usize>,
    /// A data set of `dataloader invert`, as folder or URL; inversions that it lacks are made here.
    #[serde(default)]
    pub inversions: Option<String>,
    /// A folder for inversions and what CLIP sees of them, shared by all runs on the same weights and, where they all
    /// see it, by all machines.
    #[serde(default = "default_trajectories")]
    pub trajectories: PathBuf,
    /// Images inverted at once.
    #[serde(default = "default_inversion_batch")]
    pub inversion_batch_size: usize,
}

fn default_trajectories() -> PathBuf {
    PathBuf::from("runs/cache/trajectories")
}

fn default_inversion_batch() -> usize {
    16
}

/// Emotion tokens.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokensSection {
    /// How a prompt names the learned vectors.
    pub placeholder_token: String,
    /// The word whose embedding they start from.
    pub initializer_token: String,
    /// Vectors per emotion.
    pub num_vectors: usize,
}

impl Default for TokensSection {
    fn default() -> Self {
        Self { placeholder_token: "<{emotion}>".into(), initializer_token: "{emotion}".into(), num_vectors: 4 }
    }
}

/// The architecture of Δh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeltaKind {
    /// `f(h, t)` of two 1×1 convolutions.
    #[default]
    Conv,
}

/// The h-space delta.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeltaSection {
    /// Its architecture.
    pub kind: DeltaKind,
    /// One network that the token conditions, shared by the emotions; otherwise each emotion has its own.
    pub condition_on_token: bool,
}

/// Which latents the edit is trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TrajectoryKind {
    /// The source's own inversion at random timesteps.
    Source,
    /// The edited latent on its way down, one timestep for each optimiser step.
    Edited,
}

/// The process of the edit.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EditSection {
    /// asymmetric or anchored.
    pub process: Process,
    /// Which half of the UNet sees the edited prompt: decoder or both.
    pub condition: Condition,
    /// Timesteps of the inversion.
    pub num_inversion_steps: usize,
    /// t ≥ t_edit is edited: a timestep, or `auto`.
    pub t_edit: Threshold,
    /// t < t_boost is quality-boosted at inference: a timestep, `auto`, or 0 for none.
    pub t_boost: Threshold,
    /// residual, gated or none.
    pub detail: Detail,
    /// g: the edit's P_t is moved away from what the source's prompt says, as by classifier-free guidance; 1 leaves it.
    pub guidance_scale: f64,
    /// Where the edit acts when photos are edited: `off` for everywhere, or {threshold: 0.35}, the share of the largest
    /// difference between edit and source that counts.
    pub mask: Switch<MaskSettings>,
    /// The strength to train at.
    pub strength: f64,
    /// source or edited.
    pub trajectory: TrajectoryKind,
}

impl Default for EditSection {
    fn default() -> Self {
        Self {
            process: Process::Asymmetric,
            condition: Condition::Decoder,
            num_inversion_steps: 40,
            t_edit: Threshold::Auto,
            t_boost: Threshold::At(0),
            detail: Detail::Residual,
            guidance_scale: 1.0,
            mask: Switch::Off,
            strength: 1.0,
            trajectory: TrajectoryKind::Source,
        }
    }
}

/// The UNet's prompts.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromptsSection {
    /// c_src.
    pub source: String,
    /// c_edit; holds {token}.
    pub target: String,
    /// Prompts of the denoising loss, one drawn for each image, each with {token}; by default the target prompt.
    #[serde(default)]
    pub denoising: Vec<String>,
}

/// Forms and weights of the losses. A weight of 0 switches a term off, and it is not computed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LossSection {
    /// linear, log or target.
    pub directional: Directional,
    /// How far along ΔT the target form aims.
    pub beta: f64,
    /// λ_dir.
    pub clip: f64,
    /// λ_rec.
    pub reconstruction: f64,
    /// λ_den.
    pub denoising: f64,
    /// λ_align.
    pub alignment: f64,
    /// λ_con: the contrast of the edit's change over all emotions' directions.
    pub contrast: f64,
    /// Temperature of the contrast.
    pub contrast_temperature: f64,
    /// λ_Δ: the source's prompt with Δh denoises images of the emotion.
    pub delta_denoising: f64,
    /// Temperature of the alignment term.
    pub alignment_temperature: f64,
    /// γ of the denoising term's min-SNR weight; by default there is none.
    pub min_snr_gamma: Option<f64>,
    /// Multiply λ_rec by cos(E_T(source), E_T(target)), the mean over direction.templates: Asyrp's rule.
    pub reconstruction_by_cosine: bool,
}

impl Default for LossSection {
    fn default() -> Self {
        Self {
            directional: Directional::Target,
            beta: 1.0,
            clip: 1.0,
            reconstruction: 3.0,
            denoising: 1.0,
            alignment: 0.0,
            contrast: 0.0,
            contrast_temperature: 0.1,
            delta_denoising: 0.0,
            alignment_temperature: 0.07,
            min_snr_gamma: None,
            reconstruction_by_cosine: false,
        }
    }
}

/// Pictures of held-out sources while training, and what is measured of them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ValidationSection {
    /// Steps between two validations; there is one at the end too, and 0 means none at all.
    pub validation_steps: u64,
    /// How many held-out sources.
    pub num_validation_images: usize,
    /// The split of the sources' data set that is held out.
    pub split: String,
    /// LPIPS weights (AlexNet); without them the distance is not measured.
    pub lpips: Option<PathBuf>,
    /// The folder of an emotion classifier that takes part in no loss, as the evaluator's models.classifier; without
    /// it Emo-A and Emo-S are not measured.
    pub classifier: Option<PathBuf>,
    /// The CLIP whose embeddings the classifier reads, if it reads any: a folder or a hub id; by default the one that
    /// it names.
    pub classifier_clip: Option<String>,
}

impl Default for ValidationSection {
    fn default() -> Self {
        Self {
            validation_steps: 0,
            num_validation_images: 8,
            split: "test".into(),
            lpips: None,
            classifier: None,
            classifier_clip: None,
        }
    }
}

/// What is logged beside losses and rates.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WatchSection {
    /// How many steps' numbers are read from the device at once. Between these reads the host does not wait for the
    /// device, except in NCCL's collectives. A signal is answered at a read. Every step is logged all the same. f16
    /// needs the numbers of each step and reads them every time.
    pub log_steps: u64,
    /// Steps between two histograms of what is learned; 0 for none.
    pub histogram_steps: u64,
    /// Serve the newest values at http://ADDRESS/metrics in Prometheus' format, such as 127.0.0.1:9464.
    pub prometheus: Option<SocketAddr>,
    /// What one device can do at this precision, in TFLOP a second (an H100 SXM in bf16: 989); perf/mfu_pct is
    /// relative to it.
    pub peak_tflops: Option<f64>,
}

impl Default for WatchSection {
    fn default() -> Self {
        Self { log_steps: 1, histogram_steps: 0, prometheus: None, peak_tflops: None }
    }
}

//! What a training run leaves for others: edit_config.json, the emotions' learned_embeds, h_delta.safetensors.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::delta::{DeltaSet, Dimensions};
use crate::detail::Detail;
use crate::error::{Error, Result};
use crate::pipeline::{Hashes, Pipeline};
use crate::process::asyrp::{Condition, Interval, Process};
use crate::process::mask::MaskSettings;
use crate::tokens::{self, Tokens};

/// The version of the format this crate writes, and the only one it reads.
pub const FORMAT_VERSION: u32 = 1;
/// The file of settings.
pub const CONFIG_FILE: &str = "edit_config.json";
/// The deltas.
pub const DELTA_FILE: &str = "h_delta.safetensors";

/// Everything an edit needs to know of the run, beside its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// The pipeline it was trained on.
    pub base: Base,
    /// The CLIP of the directional loss, where there was one: the evaluator must know.
    pub loss_clip: Option<Named>,
    /// What it was trained for.
    pub emotions: Vec<String>,
    /// The learned vectors; none for Asyrp alone.
    pub tokens: Option<TokenConfig>,
    /// Δh; none for textual inversion alone.
    pub delta: Option<DeltaConfig>,
    /// The UNet's prompts.
    pub prompts: Prompts,
    /// The process.
    pub edit: EditSettings,
    /// The side of the training images in pixels.
    pub resolution: i64,
    /// The run's seed.
    pub seed: u64,
}

/// A model by name and hash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Folder or hub id, as the user wrote it.
    pub name: String,
    /// blake3 of the weights.
    pub hash: String,
}

/// The pipeline a run belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// Folder or hub id, as the user wrote it.
    pub name: String,
    /// Its weights.
    pub hashes: Hashes,
}

/// How the learned vectors are spelled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// The placeholder's pattern, `<{emotion}>`.
    pub placeholder_token: String,
    /// n.
    pub num_vectors: usize,
}

/// How Δh is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeltaConfig {
    /// One network for all emotions, conditioned on the token by FiLM.
    pub condition_on_token: bool,
}

/// The UNet's prompts; the target holds `{token}`, which the placeholder (or, without tokens, nothing) replaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompts {
    /// c_src.
    pub source: String,
    /// c_edit at strength 1.
    pub target: String,
}

/// The process of the edit, with every threshold resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditSettings {
    /// What the edit leaves to the source.
    pub process: Process,
    /// Which half of the UNet sees the edited prompt.
    pub condition: Condition,
    /// Timesteps of the inversion.
    pub num_inversion_steps: usize,
    /// t ≥ t_edit: edit.
    pub t_edit: i64,
    /// t < t_boost: quality boosting; 0 switches it off.
    pub t_boost: i64,
    /// What is added after decoding.
    pub detail: Detail,
    /// g of [`guided`](crate::process::asyrp::guided).
    #[serde(default = "unguided")]
    pub guidance_scale: f64,
    /// Where the edit acts; everywhere without it.
    #[serde(default)]
    pub mask: Option<MaskSettings>,
}

fn unguided() -> f64 {
    1.0
}

impl EditSettings {
    /// Where the edit acts.
    pub fn interval(&self) -> Interval {
        Interval { t_edit: self.t_edit, t_boost: self.t_boost }
    }

    /// A warning for whoever edits with these settings: a t_boost without effect, because the edit covers its
    /// timesteps.
    pub fn warning(&self) -> Option<String> {
        let (t_boost, t_edit) = (self.t_boost, self.t_edit);
        (t_boost > t_edit).then(|| {
            format!("edit.t_boost {t_boost} is above edit.t_edit {t_edit}: what is edited is not boosted, so it counts as {t_edit}")
        })
    }
}

/// A run's folder, opened.
#[derive(Clone, Debug)]
pub struct Run {
    /// The folder.
    pub folder: PathBuf,
    /// Its settings.
    pub config: RunConfig,
}

/// A run's learned tensors.
#[derive(Debug)]
pub struct Learned {
    /// The emotion tokens.
    pub tokens: Option<Tokens>,
    /// The h-space deltas.
    pub deltas: Option<DeltaSet>,
}

impl Run {
    /// Reads `folder`/edit_config.json; the weights are read by [`Run::load`].
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(CONFIG_FILE);
        let text = std::fs::read_to_string(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::invalid(
                format!("{}", folder.display()),
                format!("no {CONFIG_FILE} in it; give the output_dir of a finished `trainer` run"),
            ),
            _ => Error::io(&path, e),
        })?;
        let config: RunConfig =
            serde_json::from_str(&text).map_err(|source| Error::Json { path: path.clone(), source })?;
        if config.format_version != FORMAT_VERSION {
            let message = format!("format_version {}, this program reads {FORMAT_VERSION}", config.format_version);
            return Err(Error::invalid(format!("{}", path.display()), message));
        }
        Ok(Self { folder: folder.to_path_buf(), config })
    }

    /// Reads the learned tensors for `pipeline`, whose weights must be those that the run was trained on.
    pub fn load(&self, pipeline: &Pipeline, device: Device) -> Result<Learned> {
        let base = &self.config.base;
        if base.hashes != pipeline.hashes {
            return Err(Error::invalid(
                format!("{}", self.folder.display()),
                format!("was trained on other weights than the given model; it needs {} as it was then", base.name),
            ));
        }
        let emotions = &self.config.emotions;
        let tokens = self.config.tokens.as_ref().map(|t| {
            let size = [t.num_vectors as i64, pipeline.text_encoder.hidden_size()];
            Tokens::load(&self.folder, emotions, &t.placeholder_token, size, device)
        });
        let deltas = self.config.delta.as_ref().map(|d| {
            let dimensions = dimensions(pipeline, d.condition_on_token);
            DeltaSet::load(&self.folder.join(DELTA_FILE), dimensions, emotions, device)
        });
        Ok(Learned { tokens: tokens.transpose()?, deltas: deltas.transpose()? })
    }

    /// Every file of the run that exists: settings, tokens, deltas.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.folder.join(CONFIG_FILE), self.folder.join(DELTA_FILE)];
        files.extend(tokens::files(&self.folder, &self.config.emotions));
        files.retain(|file| file.is_file());
        files
    }

    /// Every learned tensor as it is stored: `tokens.<emotion>` (n, d), and `delta.<name>` for each of the deltas' file.
    pub fn named_tensors(&self) -> Result<Vec<(String, Tensor)>> {
        let read = |path: &Path| {
            Tensor::read_safetensors(path)
                .map_err(|e| Error::Weights { path: path.to_path_buf(), message: e.to_string() })
        };
        let mut named = Vec::new();
        if let Some(settings) = &self.config.tokens {
            let files = tokens::files(&self.folder, &self.config.emotions);
            let stored: HashMap<String, Tensor> =
                files.iter().map(|f| read(f)).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
            for emotion in &self.config.emotions {
                let placeholder = settings.placeholder_token.replace("{emotion}", emotion);
                let path = || files.first().cloned().unwrap_or_default();
                let missing = || Error::MissingTensor { path: path(), name: placeholder.clone() };
                let vectors = stored.get(&placeholder).ok_or_else(missing)?;
                named.push((format!("tokens.{emotion}"), vectors.shallow_clone()));
            }
        }
        if self.config.delta.is_some() {
            let stored = read(&self.folder.join(DELTA_FILE))?;
            named.extend(stored.into_iter().map(|(name, tensor)| (format!("delta.{name}"), tensor)));
        }
        Ok(named)
    }

    /// Writes tokens, deltas and settings into `folder`. An earlier run's settings are removed first, and the new
    /// ones are written last, as a whole: a folder that has settings holds a finished run.
    pub fn save(folder: &Path, config: &RunConfig, learned: &Learned) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let path = folder.join(CONFIG_FILE);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(&path, error)),
            _ => {}
        }
        if let Some(tokens) = &learned.tokens {
            tokens.save(folder)?;
        }
        if let Some(deltas) = &learned.deltas {
            deltas.save(&folder.join(DELTA_FILE), delta_metadata(config))?;
        }
        let text = serde_json::to_string_pretty(config).map_err(|source| Error::Json { path: path.clone(), source })?;
        durable::write(&path, (text + "\n").as_bytes()).map_err(|e| Error::io(&path, e))
    }
}

fn delta_metadata(config: &RunConfig) -> HashMap<String, String> {
    HashMap::from([
        ("format_version".into(), FORMAT_VERSION.to_string()),
        ("base".into(), config.base.name.clone()),
        ("unet_hash".into(), config.base.hashes.unet.clone()),
        ("emotions".into(), config.emotions.join(",")),
        ("num_inversion_steps".into(), config.edit.num_inversion_steps.to_string()),
        ("t_edit".into(), config.edit.t_edit.to_string()),
    ])
}

/// The sizes of a delta on `pipeline`.
pub fn dimensions(pipeline: &Pipeline, condition_on_token: bool) -> Dimensions {
    Dimensions {
        channels: pipeline.unet.bottleneck_channels(),
        temb_channels: pipeline.unet.temb_channels(),
        token_features: condition_on_token.then(|| pipeline.text_encoder.hidden_size()),
    }
}

/// The pooled embedding that conditions a delta: the last hidden state (1, l, d) at the prompt's end, (1, d).
pub fn pooled_token(context: &Tensor, eos: usize) -> Tensor {
    context.select(1, eos as i64)
}

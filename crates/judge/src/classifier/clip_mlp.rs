//! A perceptron over CLIP's image embedding: what EmoEdit (512 → 256 → 8 on ViT-B/32) and EmoGen (768 → 8 on
//! ViT-L/14) score with, and what `evaluator fit-classifier` trains.

use std::path::Path;

use diffusion::weights::Weights;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::head::Head;
use super::labels::Labels;
use super::{check_head, one};
use crate::embedder::unit;
use crate::error::{Error, Result};

/// config.json of architecture `clip_mlp`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `clip_mlp`.
    pub architecture: String,
    /// The classes in the order of the last layer.
    pub labels: Vec<String>,
    /// Which CLIP embeds.
    pub clip: ClipName,
    /// Whether embeddings are scaled to length 1 first; neither EmoEdit nor EmoGen does so.
    pub normalize: bool,
    /// Widths of the perceptron, from the embedding to the classes.
    pub head: Vec<i64>,
    /// The temperature, which divides the logits.
    #[serde(default = "one")]
    pub temperature: f64,
    /// Whether it was part of a training loss; such a classifier must not score.
    pub takes_part_in_losses: bool,
}

/// A CLIP by name and, where it is known, by the hash of its weights.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClipName {
    /// Folder or hub id.
    pub name: String,
    /// blake3 of its weights; none in a converted classifier.
    #[serde(default)]
    pub hash: Option<String>,
}

/// The perceptron.
#[derive(Debug)]
pub struct ClipMlp {
    head: Head,
    normalize: bool,
}

impl ClipMlp {
    /// Reads the tensors `head.N` for a CLIP with `projection` features and weights of `hash`; `path` is the config's.
    pub fn load(
        path: &Path, config: &Config, labels: &Labels, weights: &Weights, projection: i64, hash: &str,
    ) -> Result<Self> {
        if config.clip.hash.as_ref().is_some_and(|trained_on| trained_on != hash) {
            return Err(Error::OtherClip { path: path.to_path_buf(), clip: config.clip.name.clone() });
        }
        check_head(path, &config.head, projection, labels.count())?;
        Ok(Self { head: Head::load(&weights.root(), &config.head)?, normalize: config.normalize })
    }

    /// Embeddings before normalisation (b, p) → logits (b, 8).
    pub fn forward(&self, embeddings: &Tensor) -> Tensor {
        match self.normalize {
            true => self.head.forward(&unit(embeddings)),
            false => self.head.forward(embeddings),
        }
    }
}

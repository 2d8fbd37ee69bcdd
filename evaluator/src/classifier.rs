//! The emotion classifier that scores: ImageNet AlexNet features, pooled, under a small MLP.
//!
//! Shapes: b batch, (h, w) pixels, e embedding.

use std::path::{Path, PathBuf};

use dataloader::Emotion;
use diffusion::networks::layers::Linear;
use diffusion::networks::lpips::AlexFeatures;
use diffusion::weights::{hash, read_json, Weights};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

const ARCHITECTURE: &str = "alexnet_features_mlp";
/// Channels of AlexNet's relu3 and relu5.
const RELU3: i64 = 384;
const RELU5: i64 = 256;
/// The grid that relu5 is averaged over.
const POOLED_SIDE: i64 = 3;

/// config.json of a classifier's folder.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `alexnet_features_mlp`.
    pub architecture: String,
    /// The classes in the order of the last layer.
    pub labels: Vec<Emotion>,
    /// The side that images are resized to.
    pub input_size: i64,
    /// The range the network was trained on; only [−1, 1] is known.
    pub input_range: [f64; 2],
    /// Subtracted per channel.
    pub input_shift: [f64; 3],
    /// Divided by per channel.
    pub input_scale: [f64; 3],
    /// A sentence on the embedding.
    pub features: String,
    /// `bicubic`, as torch's interpolate without antialiasing.
    pub resize: String,
    /// Widths of the MLP, from the embedding to the classes.
    pub head: Vec<i64>,
    /// Whether it was part of a training loss; such a classifier must not score.
    pub takes_part_in_losses: bool,
}

/// A classifier over [`Emotion::ALL`].
#[derive(Debug)]
pub struct Classifier {
    config: Config,
    features: AlexFeatures,
    head: Vec<Linear>,
    order: Tensor, // (8): place of each emotion among the labels
    shift: Tensor, // (1, 3, 1, 1)
    scale: Tensor, // (1, 3, 1, 1)
    name: String,
    hash: String,
}

impl Classifier {
    /// Reads config.json and model.safetensors; refuses a classifier that took part in a loss.
    pub fn load(folder: &Path, device: Device) -> Result<Self> {
        let path = folder.join("config.json");
        let config: Config = serde_json::from_value(read_json(&path)?)
            .map_err(|source| diffusion::Error::Json { path: path.clone(), source })?;
        check(&path, &config)?;
        let weights = Weights::from_folder(folder, "model", device, Kind::Float)?;
        let features = AlexFeatures::load(&weights.root())?;
        let head = load_head(&weights, &config.head)?;
        weights.finish(|_| false)?;
        let per_channel =
            |v: &[f64; 3]| Tensor::from_slice(v).to_kind(Kind::Float).to_device(device).view([1, 3, 1, 1]);
        let name = folder.file_name().map_or_else(|| "classifier".into(), |n| n.to_string_lossy().into_owned());
        Ok(Self {
            features,
            head,
            order: order(&config.labels).to_device(device),
            shift: per_channel(&config.input_shift),
            scale: per_channel(&config.input_scale),
            name,
            hash: hash(folder, "model")?,
            config,
        })
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The folder's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// blake3 of the weights file.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Softmax probabilities over [`Emotion::ALL`] of images (b, 3, h, w) in [−1, 1]; (b, 8).
    pub fn probabilities(&self, images: &Tensor) -> Tensor {
        self.logits(images).softmax(-1, Kind::Float)
    }

    /// As [`Classifier::probabilities`], before the softmax.
    pub fn logits(&self, images: &Tensor) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let mut x = self.embedding(images);
        for (index, layer) in self.head.iter().enumerate() {
            x = if index == 0 { layer.forward(&x) } else { layer.forward(&x.relu()) };
        }
        x.index_select(1, &self.order)
    }

    /// relu5 averaged to 3×3 and flattened, then the maximum of relu3: (b, 3, h, w) → (b, 2688)
    fn embedding(&self, images: &Tensor) -> Tensor {
        let side = self.config.input_size;
        let resized = images.upsample_bicubic2d([side, side], false, None, None).clamp(-1.0, 1.0);
        let features = self.features.forward(&((resized - &self.shift) / &self.scale));
        let averaged = features[4].adaptive_avg_pool2d([POOLED_SIDE, POOLED_SIDE]).flatten(1, -1);
        let strongest = features[2].amax([2i64, 3].as_slice(), false);
        Tensor::cat(&[averaged, strongest], 1)
    }
}

fn check(path: &Path, config: &Config) -> Result<()> {
    let unsupported = |key: &str, message: String| {
        Err(Error::Model(diffusion::Error::Unsupported { path: path.to_path_buf(), key: key.into(), message }))
    };
    if config.takes_part_in_losses {
        return Err(Error::ClassifierInLoss(PathBuf::from(path)));
    }
    if config.architecture != ARCHITECTURE {
        return unsupported("architecture", format!("{}; supported: {ARCHITECTURE}", config.architecture));
    }
    let mut labels = config.labels.clone();
    labels.sort_unstable();
    if labels != Emotion::ALL {
        return unsupported("labels", "must name each of the eight emotions once".into());
    }
    if config.resize != "bicubic" {
        return unsupported("resize", format!("{}; supported: bicubic", config.resize));
    }
    if config.input_range != [-1.0, 1.0] {
        return unsupported("input_range", format!("{:?}; supported: [-1, 1]", config.input_range));
    }
    let embedding = RELU5 * POOLED_SIDE * POOLED_SIDE + RELU3;
    if config.head.len() < 2 || config.head.first() != Some(&embedding) || config.head.last() != Some(&8) {
        return unsupported("head", format!("{:?}; must lead from {embedding} to 8", config.head));
    }
    Ok(())
}

/// PyTorch's Sequential of Linear, ReLU, Dropout, Linear, …: the linear layers are numbered 0, 3, 6, …
fn load_head(weights: &Weights, widths: &[i64]) -> Result<Vec<Linear>> {
    let scope = weights.root().sub("head");
    let layer = |(index, pair): (usize, &[i64])| Ok(Linear::load(&scope.sub(3 * index), pair[0], pair[1])?);
    widths.windows(2).enumerate().map(layer).collect()
}

fn order(labels: &[Emotion]) -> Tensor {
    let place = |e: Emotion| labels.iter().position(|&l| l == e).expect("the labels were checked") as i64;
    Tensor::from_slice(&Emotion::ALL.map(place))
}

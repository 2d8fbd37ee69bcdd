//! ImageNet AlexNet features, pooled, under a small perceptron: the judge of the embedded family.
//!
//! Shapes: b batch, (h, w) pixels, e embedding.

use std::path::Path;

use diffusion::networks::lpips::AlexFeatures;
use diffusion::weights::Weights;
use serde::Deserialize;
use tch::{Kind, Tensor};

use super::head::Head;
use super::labels::Labels;
use super::{check_head, one, unsupported};
use crate::error::Result;

/// Channels of AlexNet's relu3 and relu5.
const RELU3: i64 = 384;
const RELU5: i64 = 256;
/// The grid to which relu5 is averaged.
const POOLED_SIDE: i64 = 3;

/// config.json of architecture `alexnet_features_mlp`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `alexnet_features_mlp`.
    #[serde(rename = "architecture")]
    _architecture: String,
    /// The classes in the order of the last layer.
    pub labels: Vec<String>,
    /// The side that images are resized to.
    pub input_size: i64,
    /// The range the network was trained on; only [−1, 1] is known.
    pub input_range: [f64; 2],
    /// Subtracted per channel.
    pub input_shift: [f64; 3],
    /// Divided by per channel.
    pub input_scale: [f64; 3],
    /// A description of the embedding.
    #[serde(rename = "features")]
    _features: String,
    /// `bicubic`, as torch's interpolate without antialiasing.
    pub resize: String,
    /// Widths of the perceptron, from the embedding to the classes.
    pub head: Vec<i64>,
    /// The temperature, which divides the logits.
    #[serde(default = "one")]
    pub temperature: f64,
    /// Whether it was part of a training loss; such a classifier must not score.
    pub takes_part_in_losses: bool,
}

/// The features and the perceptron over them.
#[derive(Debug)]
pub struct AlexNetMlp {
    features: AlexFeatures,
    head: Head,
    side: i64,
    shift: Tensor, // (1, 3, 1, 1)
    scale: Tensor, // (1, 3, 1, 1)
}

impl AlexNetMlp {
    /// Reads the tensors `features.N` and `head.N`; `path` is the config's.
    pub fn load(path: &Path, config: &Config, labels: &Labels, weights: &Weights) -> Result<Self> {
        if config.resize != "bicubic" {
            return unsupported(path, "resize", format!("{}; supported: bicubic", config.resize));
        }
        if config.input_range != [-1.0, 1.0] {
            return unsupported(path, "input_range", format!("{:?}; supported: [-1, 1]", config.input_range));
        }
        check_head(path, &config.head, RELU5 * POOLED_SIDE * POOLED_SIDE + RELU3, labels.count())?;
        let root = weights.root();
        let features = AlexFeatures::load(&root)?;
        let device = root.tensor_of_any_shape("features.0.weight")?.device();
        let per_channel =
            |v: &[f64; 3]| Tensor::from_slice(v).to_kind(Kind::Float).to_device(device).view([1, 3, 1, 1]);
        Ok(Self {
            features,
            head: Head::load(&root, &config.head)?,
            side: config.input_size,
            shift: per_channel(&config.input_shift),
            scale: per_channel(&config.input_scale),
        })
    }

    /// (b, 3, h, w) in [−1, 1] → relu5 (b, c, y, x), and the logits computed from it (b, classes).
    pub fn forward(&self, images: &Tensor) -> (Tensor, Tensor) {
        let resized = images.upsample_bicubic2d([self.side; 2], false, None, None).clamp(-1.0, 1.0);
        let mut maps = self.features.forward(&((resized - &self.shift) / &self.scale));
        let relu5 = maps.pop().expect("invariant: AlexNet has five feature maps");
        let averaged = relu5.adaptive_avg_pool2d([POOLED_SIDE; 2]).flatten(1, -1);
        let strongest = maps[2].amax([2i64, 3].as_slice(), false);
        let logits = self.head.forward(&Tensor::cat(&[averaged, strongest], 1));
        (relu5, logits)
    }
}

//! torchvision's ResNet-18 or ResNet-50 over the emotions, such as EmoEditor's emotion predictor (Lin et al. 2025).
//!
//! Shapes: b batch, (h, w) pixels.

use std::path::Path;

use diffusion::weights::Weights;
use serde::Deserialize;
use tch::{Kind, Tensor};

use super::labels::Labels;
use super::{one, unsupported};
use crate::error::Result;
use crate::networks::resnet::{Depth, ResNet, TORCHVISION_WIDTH};

/// The smallest side that leaves a pixel at the end.
const SMALLEST_SIDE: i64 = 32;

/// config.json of architectures `resnet18` and `resnet50`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `resnet18` or `resnet50`.
    pub architecture: String,
    /// The classes in the order of the last layer.
    pub labels: Vec<String>,
    /// Channels of the first stage; torchvision's have 64.
    #[serde(default = "torchvision_width")]
    pub width: i64,
    /// The side that images are squashed to, bilinear with antialiasing.
    pub input_size: i64,
    /// Subtracted from images in [0, 1], per channel.
    pub mean: [f64; 3],
    /// Divided by, per channel.
    pub std: [f64; 3],
    /// The temperature, which divides the logits.
    #[serde(default = "one")]
    pub temperature: f64,
    /// Whether it was part of a training loss; such a classifier must not score.
    pub takes_part_in_losses: bool,
}

/// The network and the preprocessing of its images.
#[derive(Debug)]
pub struct ResNetClassifier {
    network: ResNet,
    side: i64,
    mean: Tensor, // (1, 3, 1, 1)
    std: Tensor,  // (1, 3, 1, 1)
}

impl ResNetClassifier {
    /// Reads torchvision's tensors; `path` is the config's.
    pub fn load(path: &Path, config: &Config, labels: &Labels, weights: &Weights) -> Result<Self> {
        if config.input_size < SMALLEST_SIDE || config.std.iter().any(|&s| s <= 0.0) {
            let message = format!("{} and {:?}; at least {SMALLEST_SIDE}, and above 0", config.input_size, config.std);
            return unsupported(path, "input_size and std", message);
        }
        if config.width < 1 {
            return unsupported(path, "width", format!("{}; at least 1", config.width));
        }
        let depth = if config.architecture == "resnet18" { Depth::Eighteen } else { Depth::Fifty };
        let root = weights.root();
        let device = root.tensor_of_any_shape("conv1.weight")?.device();
        let per_channel =
            |v: &[f64; 3]| Tensor::from_slice(v).to_kind(Kind::Float).to_device(device).view([1, 3, 1, 1]);
        let (mean, std) = (per_channel(&config.mean), per_channel(&config.std));
        Ok(Self {
            network: ResNet::load(&root, depth, config.width, labels.count())?,
            side: config.input_size,
            mean,
            std,
        })
    }

    /// (b, 3, h, w) in [−1, 1] → the last feature map, and the logits computed from it (b, classes).
    pub fn forward(&self, images: &Tensor) -> (Tensor, Tensor) {
        let resized = ((images + 1.0) / 2.0).internal_upsample_bilinear2d_aa([self.side; 2], false, None, None);
        let map = self.network.features(&((resized - &self.mean) / &self.std));
        let logits = self.network.classify(&map);
        (map, logits)
    }
}

fn torchvision_width() -> i64 {
    TORCHVISION_WIDTH
}

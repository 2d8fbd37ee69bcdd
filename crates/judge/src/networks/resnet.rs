//! ResNet: He et al., *Deep Residual Learning for Image Recognition* (CVPR 2016), tensors named as in torchvision.
//!
//! Shapes: b batch, h height, w width, k classes.

use diffusion::networks::layers::Linear;
use diffusion::weights::Scope;
use tch::Tensor;

use super::conv_norm::{ConvNorm, Shape};
use crate::error::Result;

const EPS: f64 = 1e-5;
/// Channels of the first stage of torchvision's networks.
pub const TORCHVISION_WIDTH: i64 = 64;
/// Channels inside each stage's blocks, in multiples of the first stage's.
const STAGES: [i64; 4] = [1, 2, 4, 8];

/// The depth, and the kind of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// ResNet-18: two 3×3 convolutions a block.
    Eighteen,
    /// ResNet-50: 1×1, 3×3, 1×1 a block, four times as wide outside; the stride is in the 3×3 (torchvision's v1.5).
    Fifty,
}

/// A frozen network.
#[derive(Debug)]
pub struct ResNet {
    stem: ConvNorm,
    blocks: Vec<Block>,
    head: Linear,
}

#[derive(Debug)]
struct Block {
    convs: Vec<ConvNorm>,
    downsample: Option<ConvNorm>,
}

impl Depth {
    fn blocks(self) -> [usize; 4] {
        match self {
            Depth::Eighteen => [2, 2, 2, 2],
            Depth::Fifty => [3, 4, 6, 3],
        }
    }

    fn expansion(self) -> i64 {
        match self {
            Depth::Eighteen => 1,
            Depth::Fifty => 4,
        }
    }
}

impl ResNet {
    /// Reads `conv1`, `bn1`, `layer1` … `layer4` and `fc` of `classes` below `scope`; `width` is the first stage's.
    pub fn load(scope: &Scope<'_>, depth: Depth, width: i64, classes: i64) -> Result<Self> {
        let stem = conv(scope, "conv1", "bn1", (3, width), 7, 2)?;
        let (mut blocks, mut inputs) = (Vec::new(), width);
        for (stage, (multiple, count)) in STAGES.into_iter().zip(depth.blocks()).enumerate() {
            let width = width * multiple;
            for place in 0..count {
                let stride = if stage > 0 && place == 0 { 2 } else { 1 };
                let below = scope.sub(format!("layer{}", stage + 1)).sub(place);
                blocks.push(Block::load(&below, depth, inputs, width, stride)?);
                inputs = width * depth.expansion();
            }
        }
        Ok(Self { stem, blocks, head: Linear::load(&scope.sub("fc"), inputs, classes)? })
    }

    /// Normalised images (b, 3, h, w) → the last feature map (b, c, h/32, w/32).
    pub fn features(&self, images: &Tensor) -> Tensor {
        let x = self.stem.relu(images).max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false);
        self.blocks.iter().fold(x, |x, block| block.forward(&x))
    }

    /// The last feature map → logits (b, k).
    pub fn classify(&self, features: &Tensor) -> Tensor {
        self.head.forward(&features.adaptive_avg_pool2d([1, 1]).flatten(1, -1))
    }
}

impl Block {
    fn load(scope: &Scope<'_>, depth: Depth, inputs: i64, width: i64, stride: i64) -> Result<Self> {
        let outputs = width * depth.expansion();
        let convs = match depth {
            Depth::Eighteen => vec![
                conv(scope, "conv1", "bn1", (inputs, width), 3, stride)?,
                conv(scope, "conv2", "bn2", (width, width), 3, 1)?,
            ],
            Depth::Fifty => vec![
                conv(scope, "conv1", "bn1", (inputs, width), 1, 1)?,
                conv(scope, "conv2", "bn2", (width, width), 3, stride)?,
                conv(scope, "conv3", "bn3", (width, outputs), 1, 1)?,
            ],
        };
        let downsample = (stride != 1 || inputs != outputs)
            .then(|| conv(&scope.sub("downsample"), "0", "1", (inputs, outputs), 1, stride))
            .transpose()?;
        Ok(Self { convs, downsample })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let (last, first) = self.convs.split_last().expect("invariant: a block has convolutions");
        let inner = first.iter().fold(x.shallow_clone(), |x, conv| conv.relu(&x));
        let shortcut = self.downsample.as_ref().map_or_else(|| x.shallow_clone(), |conv| conv.forward(x));
        (last.forward(&inner) + shortcut).relu()
    }
}

/// A square convolution whose padding keeps the size at stride 1.
fn conv(scope: &Scope<'_>, conv: &str, norm: &str, channels: (i64, i64), kernel: i64, stride: i64) -> Result<ConvNorm> {
    let shape = Shape { channels, kernel: (kernel, kernel), stride, padding: (kernel / 2, kernel / 2) };
    ConvNorm::load(&scope.sub(conv), &scope.sub(norm), shape, EPS)
}

//! InceptionV3 as FID uses it: Szegedy et al., *Rethinking the Inception Architecture* (CVPR 2016), in the variant of
//! the TensorFlow graph that Heusel et al. (2017) used, with tensors named as in torchvision and pytorch-fid.
//!
//! It differs from torchvision's in its poolings: averages ignore the padding, and the last block takes the maximum.
//! Shapes: b batch, h height, w width.

use std::path::Path;

use diffusion::weights::{Placement, Scope, Weights};
use tch::{Device, Kind, Tensor};

use super::conv_norm::{ConvNorm, Shape};
use crate::error::Result;

const EPS: f64 = 1e-3;
/// The side to which images are resized.
const SIDE: i64 = 299;
/// The length of its features.
pub const FEATURES: i64 = 2048;

/// Convolutions one after another, each rectified.
type Chain = Vec<ConvNorm>;

/// How a block pools its input.
#[derive(Clone, Copy, Debug)]
enum Pool {
    Average,
    Maximum,
    /// Of every second pixel, without a convolution after it.
    Reduce,
}

/// One block: its branches side by side. A branch is a chain of convolutions, and after it other chains side by side.
#[derive(Debug)]
struct Mixed {
    branches: Vec<(Chain, Vec<Chain>)>,
    pool: Pool,
    after_pool: Chain,
}

/// A frozen network.
#[derive(Debug)]
pub struct Inception {
    first: [Chain; 2], // a pooling follows each
    mixed: Vec<Mixed>,
}

/// Reads the convolutions below a scope.
struct Reader<'a>(Scope<'a>);

impl Reader<'_> {
    fn conv(&self, name: &str, channels: (i64, i64), kernel: (i64, i64), stride: i64, same: bool) -> Result<ConvNorm> {
        let padding = if same { (kernel.0 / 2, kernel.1 / 2) } else { (0, 0) };
        let scope = self.0.sub(name);
        ConvNorm::load(&scope.sub("conv"), &scope.sub("bn"), Shape { channels, kernel, stride, padding }, EPS)
    }

    /// `branch_1`, `branch_2`, …: each with its outputs and kernel, sizes kept.
    fn chain(&self, branch: &str, inputs: i64, layers: &[(i64, (i64, i64))]) -> Result<Chain> {
        let mut inputs = inputs;
        let mut chain = Vec::with_capacity(layers.len());
        for (place, &(outputs, kernel)) in layers.iter().enumerate() {
            chain.push(self.conv(&format!("{branch}_{}", place + 1), (inputs, outputs), kernel, 1, true)?);
            inputs = outputs;
        }
        Ok(chain)
    }

    /// A single 1×1 convolution.
    fn point(&self, name: &str, inputs: i64, outputs: i64) -> Result<Chain> {
        Ok(vec![self.conv(name, (inputs, outputs), (1, 1), 1, true)?])
    }

    /// InceptionA
    fn fives(&self, inputs: i64, pooled: i64) -> Result<Mixed> {
        let branches = vec![
            (self.point("branch1x1", inputs, 64)?, vec![]),
            (self.chain("branch5x5", inputs, &[(48, (1, 1)), (64, (5, 5))])?, vec![]),
            (self.chain("branch3x3dbl", inputs, &[(64, (1, 1)), (96, (3, 3)), (96, (3, 3))])?, vec![]),
        ];
        Ok(Mixed { branches, pool: Pool::Average, after_pool: self.point("branch_pool", inputs, pooled)? })
    }

    /// InceptionB: half the size
    fn halve_35(&self, inputs: i64) -> Result<Mixed> {
        let mut double = self.chain("branch3x3dbl", inputs, &[(64, (1, 1)), (96, (3, 3))])?;
        double.push(self.conv("branch3x3dbl_3", (96, 96), (3, 3), 2, false)?);
        let single = vec![self.conv("branch3x3", (inputs, 384), (3, 3), 2, false)?];
        Ok(Mixed { branches: vec![(single, vec![]), (double, vec![])], pool: Pool::Reduce, after_pool: vec![] })
    }

    /// InceptionC
    fn sevens(&self, inputs: i64, c: i64) -> Result<Mixed> {
        let (across, down) = ((1, 7), (7, 1));
        let double = [(c, (1, 1)), (c, down), (c, across), (c, down), (192, across)];
        let branches = vec![
            (self.point("branch1x1", inputs, 192)?, vec![]),
            (self.chain("branch7x7", inputs, &[(c, (1, 1)), (c, across), (192, down)])?, vec![]),
            (self.chain("branch7x7dbl", inputs, &double)?, vec![]),
        ];
        Ok(Mixed { branches, pool: Pool::Average, after_pool: self.point("branch_pool", inputs, 192)? })
    }

    /// InceptionD: half the size
    fn halve_17(&self, inputs: i64) -> Result<Mixed> {
        let mut single = self.chain("branch3x3", inputs, &[(192, (1, 1))])?;
        single.push(self.conv("branch3x3_2", (192, 320), (3, 3), 2, false)?);
        let mut double = self.chain("branch7x7x3", inputs, &[(192, (1, 1)), (192, (1, 7)), (192, (7, 1))])?;
        double.push(self.conv("branch7x7x3_4", (192, 192), (3, 3), 2, false)?);
        Ok(Mixed { branches: vec![(single, vec![]), (double, vec![])], pool: Pool::Reduce, after_pool: vec![] })
    }

    /// InceptionE
    fn spread(&self, inputs: i64, pool: Pool) -> Result<Mixed> {
        let fork = |stem: &str| -> Result<Vec<Chain>> {
            let arm = |end: &str, kernel| self.conv(&format!("{stem}{end}"), (384, 384), kernel, 1, true);
            Ok(vec![vec![arm("a", (1, 3))?], vec![arm("b", (3, 1))?]])
        };
        let branches = vec![
            (self.point("branch1x1", inputs, 320)?, vec![]),
            (self.chain("branch3x3", inputs, &[(384, (1, 1))])?, fork("branch3x3_2")?),
            (self.chain("branch3x3dbl", inputs, &[(448, (1, 1)), (384, (3, 3))])?, fork("branch3x3dbl_3")?),
        ];
        Ok(Mixed { branches, pool, after_pool: self.point("branch_pool", inputs, 192)? })
    }
}

impl Inception {
    /// Reads a safetensors file with torchvision's or pytorch-fid's tensors; the classifier's layers are ignored.
    pub fn read(path: &Path, device: Device) -> Result<Self> {
        let weights = Weights::from_file(path, Placement::new(device, Kind::Float))?;
        let network = Self::load(&weights.root())?;
        weights.finish(|name| name.starts_with("fc.") || name.starts_with("AuxLogits."))?;
        Ok(network)
    }

    /// Reads `Conv2d_1a_3x3` … `Mixed_7c` below `scope`.
    pub fn load(scope: &Scope<'_>) -> Result<Self> {
        let root = Reader(scope.clone());
        let block = |name: &str| Reader(scope.sub(format!("Mixed_{name}")));
        Ok(Self {
            first: [
                vec![
                    root.conv("Conv2d_1a_3x3", (3, 32), (3, 3), 2, false)?,
                    root.conv("Conv2d_2a_3x3", (32, 32), (3, 3), 1, false)?,
                    root.conv("Conv2d_2b_3x3", (32, 64), (3, 3), 1, true)?,
                ],
                vec![
                    root.conv("Conv2d_3b_1x1", (64, 80), (1, 1), 1, true)?,
                    root.conv("Conv2d_4a_3x3", (80, 192), (3, 3), 1, false)?,
                ],
            ],
            mixed: vec![
                block("5b").fives(192, 32)?,
                block("5c").fives(256, 64)?,
                block("5d").fives(288, 64)?,
                block("6a").halve_35(288)?,
                block("6b").sevens(768, 128)?,
                block("6c").sevens(768, 160)?,
                block("6d").sevens(768, 160)?,
                block("6e").sevens(768, 192)?,
                block("7a").halve_17(768)?,
                block("7b").spread(1280, Pool::Average)?,
                block("7c").spread(2048, Pool::Maximum)?,
            ],
        })
    }

    /// Images (b, 3, h, w) in [0, 1] → features (b, 2048).
    pub fn features(&self, images: &Tensor) -> Tensor {
        let resized = images.upsample_bilinear2d([SIDE, SIDE], false, None, None) * 2.0 - 1.0;
        let pooled = |x: Tensor, chain: &Chain| run(chain, &x).max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], false);
        let x = self.first.iter().fold(resized, pooled);
        let x = self.mixed.iter().fold(x, |x, block| block.forward(&x));
        x.adaptive_avg_pool2d([1, 1]).flatten(1, -1)
    }
}

impl Mixed {
    fn forward(&self, x: &Tensor) -> Tensor {
        let mut found = Vec::new();
        for (chain, arms) in &self.branches {
            let branch = run(chain, x);
            match &arms[..] {
                [] => found.push(branch),
                arms => found.extend(arms.iter().map(|arm| run(arm, &branch))),
            }
        }
        let pooled = match self.pool {
            Pool::Average => x.avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None),
            Pool::Maximum => x.max_pool2d([3, 3], [1, 1], [1, 1], [1, 1], false),
            Pool::Reduce => x.max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], false),
        };
        found.push(run(&self.after_pool, &pooled));
        Tensor::cat(&found, 1)
    }
}

fn run(chain: &Chain, x: &Tensor) -> Tensor {
    chain.iter().fold(x.shallow_clone(), |x, conv| conv.relu(&x))
}

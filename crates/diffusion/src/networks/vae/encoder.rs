//! The half from images to the posterior's moments.

use tch::Tensor;

use super::blocks::{MidBlock, Resnet, EPS};
use super::Config;
use crate::error::Result;
use crate::networks::layers::{Conv2d, GroupNorm};
use crate::weights::Scope;

/// diffusers' `Encoder`.
#[derive(Debug)]
pub(super) struct Encoder {
    conv_in: Conv2d,
    down: Vec<DownBlock>,
    mid: MidBlock,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Encoder {
    pub(super) fn load(scope: &Scope<'_>, config: &Config) -> Result<Self> {
        let widths = &config.block_out_channels;
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        Ok(Self {
            conv_in: Conv2d::load(&scope.sub("conv_in"), config.in_channels, first, 3, 1, 1)?,
            down: (0..widths.len())
                .map(|i| DownBlock::load(&scope.sub("down_blocks").sub(i), config, i))
                .collect::<Result<_>>()?,
            mid: MidBlock::load(&scope.sub("mid_block"), config, last)?,
            norm_out: GroupNorm::load(&scope.sub("conv_norm_out"), config.norm_num_groups, last, EPS)?,
            conv_out: Conv2d::load(&scope.sub("conv_out"), last, 2 * config.latent_channels, 3, 1, 1)?,
        })
    }

    /// (b, 3, H, W) → (b, 2c, h, w)
    pub(super) fn forward(&self, images: &Tensor) -> Tensor {
        let h = self.down.iter().fold(self.conv_in.forward(images), |h, block| block.forward(&h));
        let h = self.mid.forward(&h);
        self.conv_out.forward(&self.norm_out.forward(&h).silu())
    }
}

/// diffusers' `DownEncoderBlock2D`.
#[derive(Debug)]
struct DownBlock {
    resnets: Vec<Resnet>,
    downsample: Option<Conv2d>,
}

impl DownBlock {
    fn load(scope: &Scope<'_>, config: &Config, index: usize) -> Result<Self> {
        let widths = &config.block_out_channels;
        let (inputs, outputs) = (widths[index.saturating_sub(1)], widths[index]);
        let halves = index + 1 < widths.len();
        Ok(Self {
            resnets: Resnet::load_many(
                &scope.sub("resnets"),
                config.norm_num_groups,
                inputs,
                outputs,
                config.layers_per_block,
            )?,
            downsample: halves
                .then(|| Conv2d::load(&scope.sub("downsamplers.0.conv"), outputs, outputs, 3, 2, 0))
                .transpose()?,
        })
    }

    /// (b, in, h, w) → (b, out, h/2, w/2), the last block keeping h and w
    fn forward(&self, x: &Tensor) -> Tensor {
        let h = self.resnets.iter().fold(x.shallow_clone(), |h, resnet| resnet.forward(&h));
        match &self.downsample {
            // The published weights expect one zero row below and one zero column on the right, and none above or on
            // the left.
            Some(conv) => conv.forward(&h.constant_pad_nd([0, 1, 0, 1])),
            None => h,
        }
    }
}

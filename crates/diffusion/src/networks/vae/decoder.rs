//! The half from latents to images.

use tch::Tensor;

use super::blocks::{MidBlock, Resnet, EPS};
use super::Config;
use crate::error::Result;
use crate::networks::layers::{Conv2d, GroupNorm};
use crate::weights::Scope;

/// diffusers' `Decoder`.
#[derive(Debug)]
pub(super) struct Decoder {
    conv_in: Conv2d,
    mid: MidBlock,
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Decoder {
    pub(super) fn load(scope: &Scope<'_>, config: &Config) -> Result<Self> {
        let widths: Vec<i64> = config.block_out_channels.iter().rev().copied().collect();
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        Ok(Self {
            conv_in: Conv2d::load(&scope.sub("conv_in"), config.latent_channels, first, 3, 1, 1)?,
            mid: MidBlock::load(&scope.sub("mid_block"), config, first)?,
            up: (0..widths.len())
                .map(|i| UpBlock::load(&scope.sub("up_blocks").sub(i), config, &widths, i))
                .collect::<Result<_>>()?,
            norm_out: GroupNorm::load(&scope.sub("conv_norm_out"), config.norm_num_groups, last, EPS)?,
            conv_out: Conv2d::load(&scope.sub("conv_out"), last, config.out_channels, 3, 1, 1)?,
        })
    }

    /// (b, c, h, w) → (b, 3, H, W)
    pub(super) fn forward(&self, latents: &Tensor) -> Tensor {
        let h = self.mid.forward(&self.conv_in.forward(latents));
        let h = self.up.iter().fold(h, |h, block| block.forward(&h));
        self.conv_out.forward(&self.norm_out.forward(&h).silu())
    }
}

/// diffusers' `UpDecoderBlock2D`.
#[derive(Debug)]
struct UpBlock {
    resnets: Vec<Resnet>,
    upsample: Option<Conv2d>,
}

impl UpBlock {
    fn load(scope: &Scope<'_>, config: &Config, widths: &[i64], index: usize) -> Result<Self> {
        let (inputs, outputs) = (widths[index.saturating_sub(1)], widths[index]);
        let doubles = index + 1 < widths.len();
        Ok(Self {
            resnets: Resnet::load_many(
                &scope.sub("resnets"),
                config.norm_num_groups,
                inputs,
                outputs,
                config.layers_per_block + 1,
            )?,
            upsample: doubles
                .then(|| Conv2d::load(&scope.sub("upsamplers.0.conv"), outputs, outputs, 3, 1, 1))
                .transpose()?,
        })
    }

    /// (b, in, h, w) → (b, out, 2h, 2w), the last block keeping h and w
    fn forward(&self, x: &Tensor) -> Tensor {
        let h = self.resnets.iter().fold(x.shallow_clone(), |h, resnet| resnet.forward(&h));
        match &self.upsample {
            Some(conv) => conv.forward(&doubled(&h)),
            None => h,
        }
    }
}

/// Each pixel twice along both sides.
fn doubled(x: &Tensor) -> Tensor {
    let (_, _, h, w) = x.size4().expect("feature maps are (b, c, h, w)");
    x.upsample_nearest2d([2 * h, 2 * w], None, None)
}

//! The UNet's blocks by level: residual layers, spatial transformers where the level attends, a change of resolution.
//!
//! One type covers each direction: diffusers' CrossAttnDownBlock2D is its DownBlock2D with transformers, and the
//! same holds on the way up.

use tch::Tensor;

use super::resnet::{Downsample, ResnetBlock, Upsample};
use super::transformer::SpatialTransformer;
use super::Config;
use crate::error::Result;
use crate::weights::Scope;

/// A residual block and, where the level attends, its spatial transformer.
#[derive(Debug)]
struct Layer {
    resnet: ResnetBlock,
    attention: Option<SpatialTransformer>,
}

impl Layer {
    fn forward(&self, x: &Tensor, activated_temb: &Tensor, context: &Tensor) -> Tensor {
        let x = self.resnet.forward(x, activated_temb);
        match &self.attention {
            Some(attention) => attention.forward(&x, context),
            None => x,
        }
    }
}

/// CrossAttnDownBlock2D or DownBlock2D.
#[derive(Debug)]
pub(super) struct DownBlock {
    layers: Vec<Layer>,
    downsample: Option<Downsample>,
}

impl DownBlock {
    pub(super) fn load_all(scope: &Scope<'_>, config: &Config) -> Result<Vec<Self>> {
        (0..config.levels.len()).map(|i| Self::load(&scope.sub(i), config, i)).collect()
    }

    fn load(scope: &Scope<'_>, config: &Config, index: usize) -> Result<Self> {
        let level = &config.levels[index];
        let above = &config.levels[index.saturating_sub(1)];
        let layer = |i: i64| {
            let inputs = if i == 0 { above.channels } else { level.channels };
            let resnet = ResnetBlock::load(&scope.sub("resnets").sub(i), config, inputs, level.channels)?;
            let scope = scope.sub("attentions").sub(i);
            let attend = || SpatialTransformer::load(&scope, config, level, level.only_cross_attention);
            Ok(Layer { resnet, attention: level.attends_down.then(attend).transpose()? })
        };
        let is_deepest = index + 1 == config.levels.len();
        let downsample = || Downsample::load(&scope.sub("downsamplers").sub(0), config, level.channels);
        Ok(Self {
            layers: (0..level.layers).map(layer).collect::<Result<_>>()?,
            downsample: (!is_deepest).then(downsample).transpose()?,
        })
    }

    /// Each layer's output and the downsampled one are appended to `skips`; the last of them is returned.
    pub(super) fn forward(&self, x: &Tensor, temb: &Tensor, context: &Tensor, skips: &mut Vec<Tensor>) -> Tensor {
        let mut x = x.shallow_clone();
        for layer in &self.layers {
            x = layer.forward(&x, temb, context);
            skips.push(x.shallow_clone());
        }
        if let Some(downsample) = &self.downsample {
            x = downsample.forward(&x);
            skips.push(x.shallow_clone());
        }
        x
    }
}

/// UNetMidBlock2DCrossAttn.
#[derive(Debug)]
pub(super) struct MidBlock {
    first: Layer,
    last: ResnetBlock,
}

impl MidBlock {
    pub(super) fn load(scope: &Scope<'_>, config: &Config) -> Result<Self> {
        let level = config.deepest();
        let resnet = |i: i64| ResnetBlock::load(&scope.sub("resnets").sub(i), config, level.channels, level.channels);
        // diffusers gives its mid block self-attention even where only_cross_attention is set.
        let attention = SpatialTransformer::load(&scope.sub("attentions").sub(0), config, level, false)?;
        Ok(Self { first: Layer { resnet: resnet(0)?, attention: Some(attention) }, last: resnet(1)? })
    }

    pub(super) fn forward(&self, x: &Tensor, temb: &Tensor, context: &Tensor) -> Tensor {
        self.last.forward(&self.first.forward(x, temb, context), temb)
    }
}

/// CrossAttnUpBlock2D or UpBlock2D.
#[derive(Debug)]
pub(super) struct UpBlock {
    layers: Vec<Layer>,
    upsample: Option<Upsample>,
}

impl UpBlock {
    /// The up path in order of execution, deepest level first, as diffusers numbers it.
    pub(super) fn load_all(scope: &Scope<'_>, config: &Config) -> Result<Vec<Self>> {
        let load = |(i, index)| Self::load(&scope.sub(i), config, index);
        (0..config.levels.len()).rev().enumerate().map(load).collect()
    }

    fn load(scope: &Scope<'_>, config: &Config, index: usize) -> Result<Self> {
        let level = &config.levels[index];
        let below = config.levels.get(index + 1).unwrap_or(level);
        let above = &config.levels[index.saturating_sub(1)];
        let layer = |i: i64| {
            let inputs = if i == 0 { below.channels } else { level.channels };
            let skip = if i == level.layers { above.channels } else { level.channels };
            let resnet = ResnetBlock::load(&scope.sub("resnets").sub(i), config, inputs + skip, level.channels)?;
            let scope = scope.sub("attentions").sub(i);
            let attend = || SpatialTransformer::load(&scope, config, level, level.only_cross_attention);
            Ok(Layer { resnet, attention: level.attends_up.then(attend).transpose()? })
        };
        let upsample = || Upsample::load(&scope.sub("upsamplers").sub(0), level.channels);
        Ok(Self {
            layers: (0..=level.layers).map(layer).collect::<Result<_>>()?,
            upsample: (index > 0).then(upsample).transpose()?,
        })
    }

    /// How many of the down path's outputs this block takes, from the end.
    pub(super) fn num_skips(&self) -> usize {
        self.layers.len()
    }

    /// `next_skip` is the first that the following block takes: its size is the one to upsample to.
    pub(super) fn forward(
        &self, x: &Tensor, skips: &[Tensor], temb: &Tensor, context: &Tensor, next_skip: Option<&Tensor>,
    ) -> Tensor {
        let mut x = x.shallow_clone();
        for (layer, skip) in self.layers.iter().zip(skips.iter().rev()) {
            x = layer.forward(&Tensor::cat(&[&x, skip], 1), temb, context);
        }
        match (&self.upsample, next_skip) {
            (Some(upsample), Some(skip)) => upsample.forward(&x, skip),
            _ => x,
        }
    }
}

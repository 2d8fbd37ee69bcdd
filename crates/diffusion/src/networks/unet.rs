//! UNet2DConditionModel of Stable Diffusion 1.x and 2.x (Rombach et al. 2022), cut in two at the bottleneck.
//!
//! Asyrp (Kwon et al. 2023, §3.2) edits h, the output of the mid block, so that seam is in the signature:
//! [`UNet::encode`] gives a [`Bottleneck`], [`UNet::decode`] takes one, [`UNet::forward`] composes them.
//!
//! Shapes: b batch, c channels, h height, w width, n context tokens, d context features, e time embedding (4·c₀).

mod blocks;
mod config;
mod recompute;
mod resnet;
mod timestep;
mod transformer;

use tch::{Device, Kind, Tensor};

use self::blocks::{DownBlock, MidBlock, UpBlock};
pub use self::config::{Config, Level};
pub use self::recompute::{Checkpointing, DecoderPass};
use self::timestep::TimestepEmbedding;
use super::layers::{Conv2d, GroupNorm};
use crate::error::Result;
use crate::weights::Scope;

/// The frozen noise predictor ε(z_t, t, c).
#[derive(Debug)]
pub struct UNet {
    config: Config,
    device: Device,
    kind: Kind,
    conv_in: Conv2d,
    time_embedding: TimestepEmbedding,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

/// What the down path and the mid block hand to the up path: the seam at which h-space is edited.
#[derive(Debug)]
pub struct Bottleneck {
    /// The mid block's output.
    pub h: Tensor, // (b, c, h/8, w/8) for four levels
    /// The down path's outputs, highest resolution first.
    pub skips: Vec<Tensor>,
    /// The timestep embedding, before the activation in each residual block.
    pub temb: Tensor, // (b, e)
}

/// What one up block takes of the down path's outputs.
struct Skips<'s> {
    own: &'s [Tensor],
    next: Option<&'s Tensor>, // the first that the following block takes, for its size
}

impl Bottleneck {
    /// The same bottleneck with h + `delta`; `delta` broadcasts over the batch and may carry a gradient.
    pub fn shifted(&self, delta: &Tensor) -> Bottleneck {
        Bottleneck { h: &self.h + delta, ..self.share() }
    }

    /// Another handle on the same tensors.
    pub fn share(&self) -> Bottleneck {
        let skips = self.skips.iter().map(Tensor::shallow_clone).collect();
        Bottleneck { h: self.h.shallow_clone(), skips, temb: self.temb.shallow_clone() }
    }
}

impl UNet {
    pub(crate) fn from_scope(scope: &Scope<'_>, config: Config, device: Device, kind: Kind) -> Result<Self> {
        let first = config.levels[0].channels;
        let (k_in, k_out) = (config.conv_in_kernel, config.conv_out_kernel);
        Ok(Self {
            device,
            kind,
            conv_in: Conv2d::load(&scope.sub("conv_in"), config.in_channels, first, k_in, 1, (k_in - 1) / 2)?,
            time_embedding: TimestepEmbedding::load(&scope.sub("time_embedding"), &config, device, kind)?,
            down_blocks: DownBlock::load_all(&scope.sub("down_blocks"), &config)?,
            mid_block: MidBlock::load(&scope.sub("mid_block"), &config)?,
            up_blocks: UpBlock::load_all(&scope.sub("up_blocks"), &config)?,
            conv_norm_out: GroupNorm::load(
                &scope.sub("conv_norm_out"),
                config.norm_num_groups,
                first,
                config.norm_eps,
            )?,
            conv_out: Conv2d::load(&scope.sub("conv_out"), first, config.out_channels, k_out, 1, (k_out - 1) / 2)?,
            config,
        })
    }

    /// The down path and the mid block.
    ///
    /// `sample` (b, c, h, w) and `context` (b, n, d) in the network's kind, `timesteps` (b) or (1) of any kind.
    pub fn encode(&self, sample: &Tensor, timesteps: &Tensor, context: &Tensor) -> Bottleneck {
        let temb = self.time_embedding.forward(timesteps); // (b, e)
        let activated = temb.silu();
        let mut x = self.conv_in.forward(sample);
        let mut skips = vec![x.shallow_clone()];
        for block in &self.down_blocks {
            x = block.forward(&x, &activated, context, &mut skips);
        }
        Bottleneck { h: self.mid_block.forward(&x, &activated, context), skips, temb }
    }

    /// The up path: (b, c, h, w), the model's output before the schedule reads it as noise or velocity.
    pub fn decode(&self, bottleneck: &Bottleneck, context: &Tensor) -> Tensor {
        let stage = |x, k| self.stage(k, &x, self.skips_of(k, &bottleneck.skips), &bottleneck.temb, context);
        (0..self.up_blocks.len()).fold(bottleneck.h.shallow_clone(), stage)
    }

    /// Up block `k` in order of execution; the output's convolution comes with the last.
    fn stage(&self, k: usize, x: &Tensor, skips: Skips<'_>, temb: &Tensor, context: &Tensor) -> Tensor {
        let x = self.up_blocks[k].forward(x, skips.own, &temb.silu(), context, skips.next);
        if k + 1 < self.up_blocks.len() {
            return x;
        }
        self.conv_out.forward(&self.conv_norm_out.forward(&x).silu())
    }

    /// The part of the down path's outputs that up block `k` takes.
    fn skips_of<'s>(&self, k: usize, all: &'s [Tensor]) -> Skips<'s> {
        let after: usize = self.up_blocks[..k].iter().map(UpBlock::num_skips).sum();
        let (rest, own) = all[..all.len() - after].split_at(all.len() - after - self.up_blocks[k].num_skips());
        Skips { own, next: rest.last() }
    }

    /// [`UNet::decode`] of [`UNet::encode`].
    pub fn forward(&self, sample: &Tensor, timesteps: &Tensor, context: &Tensor) -> Tensor {
        self.decode(&self.encode(sample, timesteps, context), context)
    }

    /// The architecture as read.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Channels of h: 1280 in Stable Diffusion.
    pub fn bottleneck_channels(&self) -> i64 {
        self.config.deepest().channels
    }

    /// Side of the latents over side of h, where it divides evenly: 8 in Stable Diffusion.
    pub fn downscale(&self) -> i64 {
        1 << (self.config.levels.len() - 1)
    }

    /// Features of the timestep embedding: 1280 in Stable Diffusion.
    pub fn temb_channels(&self) -> i64 {
        self.config.temb_channels()
    }

    /// Where the weights lie.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The weights' element type.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

//! What encoder and decoder are both made of: residual blocks and the middle block with its attention.

use tch::Tensor;

use super::Config;
use crate::error::Result;
use crate::networks::layers::{attention, Conv2d, GroupNorm, Linear};
use crate::weights::Scope;

/// The epsilon of every normalisation in an AutoencoderKL.
pub(super) const EPS: f64 = 1e-6;

/// GroupNorm, SiLU, convolution, twice, around a skip connection.
#[derive(Debug)]
pub(super) struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl Resnet {
    pub(super) fn load(scope: &Scope<'_>, groups: i64, inputs: i64, outputs: i64) -> Result<Self> {
        let widens = inputs != outputs;
        Ok(Self {
            norm1: GroupNorm::load(&scope.sub("norm1"), groups, inputs, EPS)?,
            conv1: Conv2d::load(&scope.sub("conv1"), inputs, outputs, 3, 1, 1)?,
            norm2: GroupNorm::load(&scope.sub("norm2"), groups, outputs, EPS)?,
            conv2: Conv2d::load(&scope.sub("conv2"), outputs, outputs, 3, 1, 1)?,
            shortcut: widens
                .then(|| Conv2d::load(&scope.sub("conv_shortcut"), inputs, outputs, 1, 1, 0))
                .transpose()?,
        })
    }

    /// `count` blocks named 0, 1, …; the first changes the width.
    pub(super) fn load_many(
        scope: &Scope<'_>, groups: i64, inputs: i64, outputs: i64, count: i64,
    ) -> Result<Vec<Self>> {
        (0..count).map(|i| Self::load(&scope.sub(i), groups, if i == 0 { inputs } else { outputs }, outputs)).collect()
    }

    /// (b, in, h, w) → (b, out, h, w)
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let h = self.conv1.forward(&self.norm1.forward(x).silu());
        let h = self.conv2.forward(&self.norm2.forward(&h).silu());
        match &self.shortcut {
            Some(conv) => h + conv.forward(x),
            None => h + x,
        }
    }
}

/// Single-head self-attention over pixels around a skip connection.
#[derive(Debug)]
struct PixelAttention {
    norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
}

impl PixelAttention {
    fn load(scope: &Scope<'_>, groups: i64, channels: i64) -> Result<Self> {
        let linear = |name: &str| Linear::load(&scope.sub(name), channels, channels);
        Ok(Self {
            norm: GroupNorm::load(&scope.sub("group_norm"), groups, channels, EPS)?,
            to_q: linear("to_q")?,
            to_k: linear("to_k")?,
            to_v: linear("to_v")?,
            to_out: linear("to_out.0")?,
        })
    }

    /// (b, c, h, w) → (b, c, h, w)
    fn forward(&self, x: &Tensor) -> Tensor {
        let pixels = self.norm.forward(x).flatten(2, 3).transpose(1, 2); // (b, h·w, c)
        let (q, k, v) = (self.to_q.forward(&pixels), self.to_k.forward(&pixels), self.to_v.forward(&pixels));
        let out = self.to_out.forward(&attention(&q, &k, &v, 1, false));
        x + out.transpose(1, 2).reshape(x.size()) // x first: its layout is the sum's
    }
}

/// Residual block, attention, residual block at the lowest resolution.
#[derive(Debug)]
pub(super) struct MidBlock {
    before: Resnet,
    attention: Option<PixelAttention>,
    after: Resnet,
}

impl MidBlock {
    pub(super) fn load(scope: &Scope<'_>, config: &Config, channels: i64) -> Result<Self> {
        let groups = config.norm_num_groups;
        Ok(Self {
            before: Resnet::load(&scope.sub("resnets.0"), groups, channels, channels)?,
            attention: config
                .mid_block_add_attention
                .then(|| PixelAttention::load(&scope.sub("attentions.0"), groups, channels))
                .transpose()?,
            after: Resnet::load(&scope.sub("resnets.1"), groups, channels, channels)?,
        })
    }

    /// (b, c, h, w) → (b, c, h, w)
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let h = self.before.forward(x);
        let h = self.attention.as_ref().map_or(h.shallow_clone(), |attention| attention.forward(&h));
        self.after.forward(&h)
    }
}

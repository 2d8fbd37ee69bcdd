//! Residual blocks and changes of resolution (Ho et al. 2020, appendix B; diffusers' ResnetBlock2D and samplers).

use tch::Tensor;

use super::Config;
use crate::error::Result;
use crate::networks::layers::{Conv2d, GroupNorm, Linear};
use crate::weights::Scope;

/// GroupNorm, SiLU, conv, + time, GroupNorm, SiLU, conv, + the input (through a 1×1 conv where channels change).
#[derive(Debug)]
pub(super) struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
}

impl ResnetBlock {
    pub(super) fn load(scope: &Scope<'_>, config: &Config, inputs: i64, outputs: i64) -> Result<Self> {
        let (groups, eps) = (config.norm_num_groups, config.norm_eps);
        let shortcut = || Conv2d::load(&scope.sub("conv_shortcut"), inputs, outputs, 1, 1, 0);
        Ok(Self {
            norm1: GroupNorm::load(&scope.sub("norm1"), groups, inputs, eps)?,
            conv1: Conv2d::load(&scope.sub("conv1"), inputs, outputs, 3, 1, 1)?,
            time_emb_proj: Linear::load(&scope.sub("time_emb_proj"), config.temb_channels(), outputs)?,
            norm2: GroupNorm::load(&scope.sub("norm2"), groups, outputs, eps)?,
            conv2: Conv2d::load(&scope.sub("conv2"), outputs, outputs, 3, 1, 1)?,
            conv_shortcut: (inputs != outputs).then(shortcut).transpose()?,
        })
    }

    /// (b, in, h, w), SiLU of the time embedding (b, e) → (b, out, h, w)
    pub(super) fn forward(&self, x: &Tensor, activated_temb: &Tensor) -> Tensor {
        let time = self.time_emb_proj.forward(activated_temb).unsqueeze(-1).unsqueeze(-1); // (b, out, 1, 1)
        let y = self.conv1.forward(&self.norm1.forward(x).silu()) + time;
        let y = self.conv2.forward(&self.norm2.forward(&y).silu());
        match &self.conv_shortcut {
            Some(conv) => conv.forward(x) + y,
            None => x + y,
        }
    }
}

/// Halves the resolution with a strided convolution.
#[derive(Debug)]
pub(super) struct Downsample {
    conv: Conv2d,
    pad_right_bottom: bool,
}

impl Downsample {
    pub(super) fn load(scope: &Scope<'_>, config: &Config, channels: i64) -> Result<Self> {
        let padding = config.downsample_padding;
        let conv = Conv2d::load(&scope.sub("conv"), channels, channels, 3, 2, padding)?;
        Ok(Self { conv, pad_right_bottom: padding == 0 })
    }

    /// (b, c, h, w) → (b, c, ⌈h/2⌉, ⌈w/2⌉), or ⌊·⌋ with downsample_padding 0
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        if self.pad_right_bottom {
            self.conv.forward(&x.constant_pad_nd([0, 1, 0, 1]))
        } else {
            self.conv.forward(x)
        }
    }
}

/// Nearest-neighbour interpolation to the resolution of the next skip, then a convolution.
#[derive(Debug)]
pub(super) struct Upsample {
    conv: Conv2d,
}

impl Upsample {
    pub(super) fn load(scope: &Scope<'_>, channels: i64) -> Result<Self> {
        Ok(Self { conv: Conv2d::load(&scope.sub("conv"), channels, channels, 3, 1, 1)? })
    }

    /// (b, c, h', w') → (b, c, h, w) of `skip`: twice the size, or one less where the down path met an odd side.
    pub(super) fn forward(&self, x: &Tensor, skip: &Tensor) -> Tensor {
        let size = &skip.size()[2..];
        self.conv.forward(&x.upsample_nearest2d(size, None, None))
    }
}

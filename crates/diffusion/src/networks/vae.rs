//! The variational autoencoder between photos and latents: Rombach et al. 2022, *High-Resolution Image Synthesis
//! with Latent Diffusion Models*, section 3.1; diffusers' AutoencoderKL.
//!
//! Shapes: b batch, c latent channels, H × W the image, h × w the latents.

mod blocks;
mod config;
mod decoder;
mod encoder;

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::networks::layers::Conv2d;
use crate::weights::Scope;

pub use config::Config;
use decoder::Decoder;
use encoder::Encoder;

/// Where diffusers' log-variance is cut off before it is exponentiated.
const LOG_VARIANCE: (f64, f64) = (-30.0, 20.0);

/// The diagonal Gaussian over latents that one image has, before any scaling factor.
#[derive(Debug)]
pub struct Posterior {
    /// Its mean, (b, c, h, w).
    pub mean: Tensor,
    /// Its standard deviation, (b, c, h, w).
    pub std: Tensor,
}

/// A frozen AutoencoderKL.
#[derive(Debug)]
pub struct AutoencoderKl {
    config: Config,
    kind: Kind,
    encoder: Encoder,
    decoder: Decoder,
    quant_conv: Option<Conv2d>,
    post_quant_conv: Option<Conv2d>,
}

impl AutoencoderKl {
    pub(crate) fn from_scope(scope: &Scope<'_>, config: Config, kind: Kind) -> Result<Self> {
        let c = config.latent_channels;
        let pointwise = |name, channels, present: bool| {
            present.then(|| Conv2d::load(&scope.sub(name), channels, channels, 1, 1, 0)).transpose()
        };
        Ok(Self {
            encoder: Encoder::load(&scope.sub("encoder"), &config)?,
            decoder: Decoder::load(&scope.sub("decoder"), &config)?,
            quant_conv: pointwise("quant_conv", 2 * c, config.use_quant_conv)?,
            post_quant_conv: pointwise("post_quant_conv", c, config.use_post_quant_conv)?,
            kind,
            config,
        })
    }

    /// The posterior of images in [-1, 1], (b, 3, H, W) → (b, c, h, w) each; unscaled, as diffusers' `latent_dist`.
    pub fn encode(&self, images: &Tensor) -> Posterior {
        let moments = self.encoder.forward(images); // (b, 2c, h, w)
        let moments = self.quant_conv.as_ref().map_or(moments.shallow_clone(), |conv| conv.forward(&moments));
        let (mean, log_variance) = (moments.narrow(1, 0, self.latent_channels()), self.log_variance(&moments));
        Posterior { mean, std: (log_variance * 0.5).exp() }
    }

    /// Images, about in [-1, 1], of unscaled latents, (b, c, h, w) → (b, 3, H, W).
    pub fn decode(&self, latents: &Tensor) -> Tensor {
        match &self.post_quant_conv {
            Some(conv) => self.decoder.forward(&conv.forward(latents)),
            None => self.decoder.forward(latents),
        }
    }

    fn log_variance(&self, moments: &Tensor) -> Tensor {
        let c = self.latent_channels();
        moments.narrow(1, c, c).clamp(LOG_VARIANCE.0, LOG_VARIANCE.1)
    }

    /// What unscaled latents are multiplied by before the UNet sees them.
    pub fn scaling_factor(&self) -> f64 {
        self.config.scaling_factor
    }

    /// Pixels of the image per latent pixel, along one side: 8 for Stable Diffusion.
    pub fn downscale(&self) -> i64 {
        self.config.downscale()
    }

    /// Channels of the latents: 4 for Stable Diffusion.
    pub fn latent_channels(&self) -> i64 {
        self.config.latent_channels
    }

    /// The weights' element type.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What config.json says.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

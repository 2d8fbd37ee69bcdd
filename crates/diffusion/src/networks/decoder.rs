//! Scaled latents to images, by either kind of autoencoder.

use tch::{Kind, Tensor};

use crate::networks::tiny_vae::AutoencoderTiny;
use crate::networks::vae::AutoencoderKl;

/// A network that turns latents as the UNet sees them into images.
pub trait LatentDecoder: std::fmt::Debug + Send {
    /// Scaled latents (b, c, h, w) of the weights' kind → images, about in [-1, 1], (b, 3, H, W).
    fn decode_scaled(&self, z: &Tensor) -> Tensor;

    /// The weights' element type.
    fn kind(&self) -> Kind;

    /// Channels of the latents, c.
    fn latent_channels(&self) -> i64;
}

impl LatentDecoder for AutoencoderKl {
    fn decode_scaled(&self, z: &Tensor) -> Tensor {
        self.decode(&(z / self.scaling_factor()))
    }

    fn kind(&self) -> Kind {
        self.kind()
    }

    fn latent_channels(&self) -> i64 {
        self.latent_channels()
    }
}

impl LatentDecoder for AutoencoderTiny {
    fn decode_scaled(&self, z: &Tensor) -> Tensor {
        self.decode(&(z / self.scaling_factor()))
    }

    fn kind(&self) -> Kind {
        self.kind()
    }

    fn latent_channels(&self) -> i64 {
        self.latent_channels()
    }
}

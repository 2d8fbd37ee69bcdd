//! Scaled latents to images, through whichever autoencoder there is.

use tch::Tensor;

use crate::networks::tiny_vae::AutoencoderTiny;
use crate::networks::vae::AutoencoderKl;

/// A network that turns latents as the UNet sees them into images.
pub trait LatentDecoder: std::fmt::Debug + Send {
    /// Scaled latents (b, c, h, w) → images, about in [-1, 1], (b, 3, H, W).
    fn decode_scaled(&self, z: &Tensor) -> Tensor;
}

impl LatentDecoder for AutoencoderKl {
    fn decode_scaled(&self, z: &Tensor) -> Tensor {
        self.decode(&(z / self.scaling_factor()))
    }
}

impl LatentDecoder for AutoencoderTiny {
    fn decode_scaled(&self, z: &Tensor) -> Tensor {
        self.decode(&(z / self.scaling_factor()))
    }
}

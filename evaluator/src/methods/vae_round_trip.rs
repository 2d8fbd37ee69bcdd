//! Control: the source through the autoencoder and back, without diffusion.

use std::rc::Rc;

use diffusion::pipeline::Pipeline;
use tch::Tensor;

use super::{About, Method};
use crate::error::Result;
use crate::evaluation::batch::Batch;

/// Encodes to the posterior's mean and decodes.
#[derive(Debug)]
pub struct VaeRoundTrip {
    pipeline: Rc<Pipeline>,
}

impl VaeRoundTrip {
    /// Uses the pipeline's autoencoder.
    pub fn new(pipeline: Rc<Pipeline>) -> Self {
        Self { pipeline }
    }
}

impl Method for VaeRoundTrip {
    fn about(&self) -> About {
        About {
            key: "vae_round_trip",
            name: "VAE round trip",
            definition: "The source encoded and decoded: what every latent edit loses without its detail residual.",
            control: true,
        }
    }

    fn edits(&self, batch: &Batch) -> Result<Vec<Tensor>> {
        Ok(vec![batch.encoded(&self.pipeline).round_trip.shallow_clone()])
    }
}

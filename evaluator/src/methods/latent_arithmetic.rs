//! Arithmetic on attribute vectors in a latent space (Larsen et al. 2016, White 2016), here the VAE's: the mean
//! latent of the emotion's images minus the mean of all images is added to the source's latent.
//!
//! Shapes: b batch, c latent channels, (h, w) latent cells.

use std::rc::Rc;

use diffusion::detail::Detail;
use diffusion::pipeline::Pipeline;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{along, no_detail, About, Method};
use crate::config::sweep::Sweep;
use crate::error::{Error, Result};
use crate::evaluation::batch::Batch;

/// `{method: latent_arithmetic}`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The factor of the direction: 0 is the VAE round trip (the photo itself with another `detail`).
    #[serde(default = "strengths")]
    pub strengths: Vec<f64>,
    /// What is added after decoding.
    #[serde(default = "no_detail")]
    pub detail: Detail,
}

/// Adds one direction to every latent.
#[derive(Debug)]
pub struct LatentArithmetic {
    pipeline: Rc<Pipeline>,
    direction: Tensor, // (1, c, h, w)
    detail: Detail,
    sweep: Sweep,
}

impl LatentArithmetic {
    /// The method's row.
    pub const ABOUT: About = About {
        key: "latent_arithmetic",
        name: "Latent arithmetic",
        definition: "The VAE's mean latent of the target emotion's images minus that of all style images, times the \
                     strength, added to the source's latent; 0 is the VAE round trip.",
        control: false,
    };

    /// Along `direction`, (1, c, h, w).
    pub fn new(pipeline: Rc<Pipeline>, direction: Tensor, detail: Detail, sweep: Sweep) -> Self {
        Self { pipeline, direction, detail, sweep }
    }
}

impl Method for LatentArithmetic {
    fn about(&self) -> About {
        Self::ABOUT
    }

    fn sweep(&self) -> Option<&Sweep> {
        Some(&self.sweep)
    }

    fn edits(&self, batch: &Batch) -> Result<Vec<Tensor>> {
        let _no_grad = tch::no_grad_guard();
        let encoded = batch.encoded(&self.pipeline);
        let (ours, theirs) = (&self.direction.size()[1..], &encoded.latents.size()[1..]);
        if ours != theirs {
            let message = format!("its latents are {ours:?}, the sources' {theirs:?}: take shards of one resolution");
            return Err(Error::config("style_images.shards", message));
        }
        Ok(along(&self.direction, &self.pipeline, encoded, self.detail, &self.sweep))
    }
}

fn strengths() -> Vec<f64> {
    vec![0.5, 1.0, 2.0]
}

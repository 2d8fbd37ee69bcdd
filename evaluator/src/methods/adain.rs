//! AdaIN: Huang and Belongie 2017, eq. 8, on the VAE's latents: their channels get the mean and deviation of the
//! target emotion's.
//!
//! Shapes: b batch, c latent channels, (h, w) latent cells.

use std::rc::Rc;

use diffusion::detail::Detail;
use diffusion::pipeline::Pipeline;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::moments::Moments;
use super::{along, no_detail, About, Method};
use crate::config::sweep::Sweep;
use crate::error::Result;
use crate::evaluation::batch::Batch;

/// Added to every variance, as instance normalisation does.
const EPSILON: f64 = 1e-5;

/// `{method: adain}`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Latents are interpolated: 0 is the VAE round trip (the photo itself with another `detail`), 1 the full
    /// transfer.
    #[serde(default = "strengths")]
    pub strengths: Vec<f64>,
    /// What is added after decoding.
    #[serde(default = "no_detail")]
    pub detail: Detail,
}

/// Gives latents the mean channel statistics of the target emotion's latents.
#[derive(Debug)]
pub struct Adain {
    pipeline: Rc<Pipeline>,
    target: Moments,
    detail: Detail,
    sweep: Sweep,
}

impl Adain {
    /// The method's row.
    pub const ABOUT: About = About {
        key: "adain",
        name: "AdaIN",
        definition: "Mean and deviation of each channel of the VAE's latents moved to the means over the target \
                     emotion's images (Huang and Belongie 2017); strength interpolates, 0 is the VAE round trip.",
        control: false,
    };

    /// With the channel statistics `target`, (1, c, 1, 1).
    pub fn new(pipeline: Rc<Pipeline>, target: Moments, detail: Detail, sweep: Sweep) -> Self {
        Self { pipeline, target, detail, sweep }
    }
}

impl Method for Adain {
    fn about(&self) -> About {
        Self::ABOUT
    }

    fn sweep(&self) -> Option<&Sweep> {
        Some(&self.sweep)
    }

    fn edits(&self, batch: &Batch) -> Result<Vec<Tensor>> {
        let _no_grad = tch::no_grad_guard();
        let encoded = batch.encoded(&self.pipeline);
        let moved = adain(&encoded.latents, &self.target) - &encoded.latents;
        Ok(along(&moved, &self.pipeline, encoded, self.detail, &self.sweep))
    }
}

/// σ(y)·(x − μ(x))/σ(x) + μ(y) for latents x (b, c, h, w) and the moments of y.
pub fn adain(latents: &Tensor, target: &Moments) -> Tensor {
    channels(latents).moved_to(target, latents)
}

/// The moments of latents' channels: (b, c, h, w) → (b, c, 1, 1)
pub fn channels(latents: &Tensor) -> Moments {
    Moments::of(latents, EPSILON)
}

fn strengths() -> Vec<f64> {
    vec![0.5, 1.0]
}

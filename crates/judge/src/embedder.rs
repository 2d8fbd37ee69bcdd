//! A CLIP's image half with its own preprocessing: pictures in, embeddings out.
//!
//! Shapes: b batch, p CLIP's projection.

use std::path::Path;

use diffusion::images::ClipPreprocess;
use diffusion::networks::clip::Clip;
use diffusion::weights::Placement;
use image::RgbImage;
use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// A frozen CLIP, known by its weights' hash.
#[derive(Debug)]
pub struct Embedder {
    clip: Clip,
    preprocess: ClipPreprocess,
    hash: String,
    device: Device,
}

impl Embedder {
    /// Reads a transformers folder.
    pub fn load(folder: &Path, device: Device) -> Result<Self> {
        Self::load_with(folder, Placement::new(device, Kind::Float))
    }

    /// As [`Embedder::load`], its weights placed as `placement` says, which must be f32.
    pub fn load_with(folder: &Path, placement: Placement) -> Result<Self> {
        Ok(Self {
            clip: Clip::load_with(folder, placement)?,
            preprocess: ClipPreprocess::read(folder)?,
            hash: diffusion::weights::hash(folder, "model")?,
            device: placement.device,
        })
    }

    /// The whole network.
    pub fn clip(&self) -> &Clip {
        &self.clip
    }

    /// blake3 of the weights.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Features of an embedding, p.
    pub fn projection_dim(&self) -> i64 {
        self.clip.projection_dim()
    }

    /// Image embeddings before normalisation (b, p).
    pub fn embeddings(&self, pictures: &[RgbImage]) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let pixel_values: Vec<Tensor> = pictures.iter().map(|p| self.preprocess.from_image(p)).collect();
        self.clip.image_embeds(&Tensor::cat(&pixel_values, 0).to_device(self.device))
    }
}

/// Rows of length 1.
pub fn unit(rows: &Tensor) -> Tensor {
    rows / rows.square().sum_dim_intlist(-1, true, Kind::Float).sqrt().clamp_min(1e-12)
}

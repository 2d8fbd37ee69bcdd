//! CLIP, the joint embedding of texts and images: Radford et al. 2021, *Learning Transferable Visual Models From
//! Natural Language Supervision*, figure 3; transformers' CLIPModel.
//!
//! Shapes: b batch, n tokens, d text features, p the shared embedding, s × s the image.

mod config;
mod vision;

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::networks::clip_text::TextEncoder;
use crate::networks::layers::Linear;
use crate::weights::{Placement, Scope, Weights, TRANSFORMERS_STEM};

pub use config::{Config, VisionConfig};
use vision::VisionEncoder;

/// A frozen CLIPModel.
#[derive(Debug)]
pub struct Clip {
    config: Config,
    text: TextEncoder,
    vision: VisionEncoder,
    text_projection: Linear,
    visual_projection: Linear,
}

impl Clip {
    /// Reads `folder`/config.json and `folder`/model.safetensors.
    pub fn load(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        Self::load_with(folder, Placement::new(device, kind))
    }

    /// As [`Clip::load`], its weights placed as `placement` says.
    pub fn load_with(folder: &Path, placement: Placement) -> Result<Self> {
        let config = Config::read(&folder.join("config.json"))?;
        let weights = Weights::from_folder(folder, TRANSFORMERS_STEM, placement)?;
        let clip = Self::from_scope(&weights.root(), config)?;
        // The temperature of CLIP's own training loss scales cosines, not embeddings.
        weights.finish(|name| name == "logit_scale" || name.ends_with("position_ids"))?;
        Ok(clip)
    }

    fn from_scope(scope: &Scope<'_>, config: Config) -> Result<Self> {
        let (d_text, d_image) = (config.text.layers.hidden_size, config.vision.layers.hidden_size);
        let p = config.projection_dim;
        Ok(Self {
            text: TextEncoder::from_scope(&scope.sub("text_model"), config.text.clone())?,
            vision: VisionEncoder::load(&scope.sub("vision_model"), &config.vision)?,
            text_projection: Linear::load_without_bias(&scope.sub("text_projection"), d_text, p)?,
            visual_projection: Linear::load_without_bias(&scope.sub("visual_projection"), d_image, p)?,
            config,
        })
    }

    /// The text half, before its projection.
    pub fn text(&self) -> &TextEncoder {
        &self.text
    }

    /// Text embeddings before normalisation: ids (b, n) → (b, p).
    pub fn text_embeds(&self, ids: &Tensor) -> Tensor {
        self.text_embeds_from(&self.text.embed_tokens(ids), &self.text.eos_positions(ids))
    }

    /// The same from token embeddings (b, n, d) and the place of each end-of-text token (b) → (b, p).
    pub fn text_embeds_from(&self, token_embeddings: &Tensor, eos_positions: &Tensor) -> Tensor {
        let hidden = self.text.forward_embeddings(token_embeddings); // (b, n, d)
        let (b, _, d) = hidden.size3().expect("hidden states are (b, n, d)");
        let index = eos_positions.to_kind(Kind::Int64).view([b, 1, 1]).expand([b, 1, d], false);
        self.text_projection.forward(&hidden.gather(1, &index, false).squeeze_dim(1))
    }

    /// Image embeddings before normalisation: preprocessed pixels (b, 3, s, s) → (b, p).
    pub fn image_embeds(&self, pixel_values: &Tensor) -> Tensor {
        self.visual_projection.forward(&self.vision.forward(pixel_values))
    }

    /// Side of the images, s.
    pub fn image_size(&self) -> i64 {
        self.config.vision.image_size
    }

    /// Features of the shared embedding, p.
    pub fn projection_dim(&self) -> i64 {
        self.config.projection_dim
    }

    /// What config.json says.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

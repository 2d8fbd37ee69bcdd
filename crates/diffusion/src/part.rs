//! The parts of a pipeline that have weights.

use crate::weights::{DIFFUSERS_STEM, TRANSFORMERS_STEM};

/// A part of a pipeline that has weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The noise predictor.
    Unet,
    /// Pixels to latents and back.
    Vae,
    /// Ids to the UNet's condition.
    TextEncoder,
}

impl Part {
    /// Its folder's name in a pipeline.
    pub fn name(self) -> &'static str {
        match self {
            Part::Unet => "unet",
            Part::Vae => "vae",
            Part::TextEncoder => "text_encoder",
        }
    }

    /// The stem of its weights files.
    pub fn stem(self) -> &'static str {
        match self {
            Part::Unet | Part::Vae => DIFFUSERS_STEM,
            Part::TextEncoder => TRANSFORMERS_STEM,
        }
    }
}

//! A Stable Diffusion pipeline as diffusers lays it out on disk: tokenizer, text_encoder, vae, unet, scheduler.

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::networks::clip_text::TextEncoder;
use crate::networks::unet::UNet;
use crate::networks::vae::AutoencoderKl;
use crate::process::schedule::Schedule;
use crate::text::tokenizer::Tokenizer;
use crate::tokens::{embed, Prompt, Tokens};
use crate::weights::{self, Layout};

/// The stem of diffusers' weights files.
pub const DIFFUSERS_STEM: &str = "diffusion_pytorch_model";
/// The stem of transformers' weights files.
pub const TRANSFORMERS_STEM: &str = "model";

/// The frozen parts that every edit needs.
#[derive(Debug)]
pub struct Pipeline {
    /// Words to ids.
    pub tokenizer: Tokenizer,
    /// Ids to the UNet's condition.
    pub text_encoder: TextEncoder,
    /// Pixels to latents and back.
    pub vae: AutoencoderKl,
    /// Predicts the noise.
    pub unet: UNet,
    /// Its noise schedule.
    pub schedule: Schedule,
    /// What the weights are.
    pub hashes: Hashes,
}

/// blake3 of each part's weights: what shards, caches and runs are tied to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hashes {
    /// Of unet/.
    pub unet: String,
    /// Of vae/.
    pub vae: String,
    /// Of text_encoder/.
    pub text_encoder: String,
}

impl Hashes {
    /// Reads the weights files below `folder` and hashes them.
    pub fn of(folder: &Path) -> Result<Self> {
        Ok(Self {
            unet: weights::hash(&part(folder, "unet")?, DIFFUSERS_STEM)?,
            vae: weights::hash(&part(folder, "vae")?, DIFFUSERS_STEM)?,
            text_encoder: weights::hash(&part(folder, "text_encoder")?, TRANSFORMERS_STEM)?,
        })
    }
}

impl Pipeline {
    /// Reads every part below `folder` as `kind` on `device`; the VAE as f32 where that is f16, which it overflows.
    pub fn load(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        Self::load_laid(folder, device, kind, Layout::default())
    }

    /// As [`Pipeline::load`], the kernels of UNet and VAE laid as `layout` says.
    pub fn load_laid(folder: &Path, device: Device, kind: Kind, layout: Layout) -> Result<Self> {
        Ok(Self {
            tokenizer: Tokenizer::load(&part(folder, "tokenizer")?)?,
            text_encoder: TextEncoder::load(&part(folder, "text_encoder")?, device, kind)?,
            vae: AutoencoderKl::load_laid(&part(folder, "vae")?, device, vae_kind(kind), layout)?,
            unet: UNet::load_laid(&part(folder, "unet")?, device, kind, layout)?,
            schedule: Schedule::read(&part(folder, "scheduler")?)?,
            hashes: Hashes::of(folder)?,
        })
    }

    /// The UNet's condition for one prompt, (1, l, d), learned vectors filled in from `tokens`.
    pub fn context(&self, prompt: &Prompt, tokens: Option<&Tokens>) -> Tensor {
        let embeddings = embed(&self.text_encoder, std::slice::from_ref(prompt), tokens);
        self.text_encoder.forward_embeddings(&embeddings)
    }

    /// The scaled latents of `images` (b, 3, h, w) in [−1, 1]: the posterior's mean × scaling_factor, f32.
    pub fn latents_from_images(&self, images: &Tensor) -> Tensor {
        let posterior = self.vae.encode(&images.to_kind(self.vae.kind()));
        posterior.mean.to_kind(Kind::Float) * self.vae.scaling_factor()
    }

    /// Images (b, 3, h, w) of scaled latents, f32, clamped to [−1, 1].
    pub fn images_from_latents(&self, latents: &Tensor) -> Tensor {
        let latents = (latents / self.vae.scaling_factor()).to_kind(self.vae.kind());
        self.vae.decode(&latents).to_kind(Kind::Float).clamp(-1.0, 1.0)
    }

    /// The side that an image's sides must be multiples of: the VAE's and the UNet's downscaling together.
    pub fn side_multiple(&self) -> i64 {
        self.vae.downscale() * self.unet.downscale()
    }
}

/// The kind that a VAE is kept in where the other networks are in `kind`: f32 instead of f16, which it overflows.
pub fn vae_kind(kind: Kind) -> Kind {
    match kind {
        Kind::Half => Kind::Float,
        kind => kind,
    }
}

/// The folder of one part; says what a pipeline folder holds if it is not there.
pub fn part(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    if path.is_dir() {
        return Ok(path);
    }
    Err(Error::invalid(
        format!("{}", folder.display()),
        format!("no {name}/ in it; a diffusers pipeline folder holds tokenizer, text_encoder, vae, unet and scheduler"),
    ))
}

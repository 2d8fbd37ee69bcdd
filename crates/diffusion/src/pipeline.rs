//! A Stable Diffusion pipeline as diffusers lays it out on disk (tokenizer, text_encoder, vae, unet, scheduler), or in one
//! safetensors file.

mod fit;

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use self::fit::check_fit;
pub use self::fit::check_tokenizer;
use crate::error::{Error, Result};
use crate::networks::clip_text::TextEncoder;
use crate::networks::unet::UNet;
use crate::networks::vae::AutoencoderKl;
pub use crate::part::Part;
use crate::process::schedule::Schedule;
use crate::text::tokenizer::Tokenizer;
use crate::tokens::{embed, Prompt, Tokens};
use crate::weights::{Contents, Placement};
pub use crate::weights::{DIFFUSERS_STEM, TRANSFORMERS_STEM};

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
    /// blake3 of its weights.
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
    /// Reads the weights below `folder`, or in a single file, and hashes them.
    pub fn of(folder: &Path) -> Result<Self> {
        let hash = |which: Part| which.hash(&part(folder, which.name())?);
        Ok(Self { unet: hash(Part::Unet)?, vae: hash(Part::Vae)?, text_encoder: hash(Part::TextEncoder)? })
    }
}

/// What a small model says in its model_index.json of the only pictures that it has seen, such as "drawn people".
///
/// The key is ours. diffusers passes keys that begin with an underscore by. None where the file or the key is missing.
pub fn seen_only(folder: &Path) -> Option<String> {
    let text = std::fs::read_to_string(folder.join("model_index.json")).ok()?;
    let index: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(index.get("_seen_only")?.as_str()?.to_string())
}

impl Pipeline {
    /// Reads every part below `folder` as `kind` on `device`. The VAE overflows f16 and is read as f32 instead.
    pub fn load(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        Self::load_with(folder, Placement::new(device, kind))
    }

    /// As [`Pipeline::load`], with the weights placed as `placement` says. Whatever loads from headers alone loads
    /// whole too.
    ///
    /// Fails, before any weights are read, if the parts do not fit each other.
    pub fn load_with(folder: &Path, placement: Placement) -> Result<Self> {
        let tokenizer = Tokenizer::load(&part(folder, "tokenizer")?)?;
        let (schedule, passed_by) = Schedule::read_noting(&part(folder, "scheduler")?)?;
        check_fit(folder, &tokenizer)?;
        if !passed_by.is_empty() && placement.contents == Contents::Values {
            let keys = passed_by.join(", ");
            tracing::info!("{}: the sampler here is DDIM; its own keys are passed by: {keys}", folder.display());
        }
        let vae = Placement { kind: vae_kind(placement.kind), ..placement };
        Ok(Self {
            text_encoder: TextEncoder::load_with(&part(folder, "text_encoder")?, placement)?,
            vae: AutoencoderKl::load_with(&part(folder, "vae")?, vae)?,
            unet: UNet::load_with(&part(folder, "unet")?, placement)?,
            tokenizer,
            schedule,
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

/// The kind of a VAE beside networks in `kind`: f32 instead of f16, which it overflows.
pub fn vae_kind(kind: Kind) -> Kind {
    match kind {
        Kind::Half => Kind::Float,
        kind => kind,
    }
}

/// The folder of one part; the error says what a pipeline folder holds. A single file holds every part.
pub fn part(folder: &Path, name: &str) -> Result<PathBuf> {
    if folder.is_file() {
        return Ok(folder.to_path_buf());
    }
    let path = folder.join(name);
    if path.is_dir() {
        return Ok(path);
    }
    Err(Error::invalid(
        format!("{}", folder.display()),
        format!("no {name}/ in it; a diffusers pipeline folder holds tokenizer, text_encoder, vae, unet and scheduler"),
    ))
}

//! From a path to a part of a pipeline: each lies in a folder of its own, as diffusers lays it out, or all in one
//! safetensors file.
//!
//! The networks know neither; what reads them from either place stands here.

use std::path::Path;

use tch::{Device, Kind};

use crate::error::Result;
use crate::networks::clip_text::{self, TextEncoder};
use crate::networks::unet::{self, UNet};
use crate::networks::vae::{self, AutoencoderKl};
use crate::part::Part;
use crate::process::schedule::Schedule;
use crate::single_file;
use crate::text::tokenizer::Tokenizer;
use crate::weights::{self, names, Placement, Weights};

impl Part {
    /// blake3 of its weights in its own folder, or in a single file.
    pub fn hash(self, path: &Path) -> Result<String> {
        match path.is_file() {
            true => single_file::hash(path, self),
            false => weights::hash(path, self.stem()),
        }
    }

    /// Its weights in its own folder, or in a single file, under the names that its network asks for.
    pub fn weights(self, path: &Path, placement: Placement) -> Result<Weights> {
        let from_folder = || Weights::from_folder(path, self.stem(), placement);
        Ok(match (path.is_file(), self) {
            (false, Part::Unet) => from_folder()?,
            (false, Part::Vae) => from_folder()?.rename(names::vae),
            (false, Part::TextEncoder) => from_folder()?.rename(names::text_encoder),
            (true, Part::Unet) => single_file::unet(path, placement)?.1,
            (true, Part::Vae) => single_file::vae(path, placement)?.1,
            (true, Part::TextEncoder) => single_file::text_encoder(path, placement)?.1,
        })
    }

    /// Numbers in its weights, from their headers alone.
    pub fn num_parameters(self, path: &Path) -> Result<u64> {
        Ok(self.weights(path, headers())?.num_parameters())
    }
}

fn headers() -> Placement {
    Placement::headers(Kind::Float)
}

impl unet::Config {
    /// Reads `folder`/config.json, or the shapes of a single file with a whole Stable Diffusion. A key or value this UNet
    /// does not know is [`Error::Unsupported`](crate::Error::Unsupported).
    pub fn read(folder: &Path) -> Result<Self> {
        match folder.is_file() {
            true => Ok(single_file::unet(folder, headers())?.0),
            false => Self::from_json_file(&folder.join("config.json")),
        }
    }
}

impl vae::Config {
    /// Of an AutoencoderKL's folder, or of a single file with a whole Stable Diffusion or its VAE.
    pub fn of(path: &Path) -> Result<Self> {
        match path.is_file() {
            true => Ok(single_file::vae(path, headers())?.0),
            false => Self::read(&path.join("config.json")),
        }
    }
}

impl clip_text::Config {
    /// Of a CLIPTextModel's folder, or of a single file with a whole Stable Diffusion.
    pub fn of(path: &Path) -> Result<Self> {
        match path.is_file() {
            true => Ok(single_file::text_encoder(path, headers())?.0),
            false => Self::read(&path.join("config.json")),
        }
    }
}

impl UNet {
    /// Reads a diffusers `unet` folder: `config.json` and `diffusion_pytorch_model.safetensors` (or its shards); or the
    /// UNet of a single file.
    pub fn load(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        Self::load_with(folder, Placement::new(device, kind))
    }

    /// As [`UNet::load`], its weights placed as `placement` says.
    pub fn load_with(folder: &Path, placement: Placement) -> Result<Self> {
        let config = unet::Config::read(folder)?;
        let weights = Part::Unet.weights(folder, placement)?;
        let unet = Self::from_scope(&weights.root(), config, placement.device, placement.kind)?;
        weights.finish(|_| false)?;
        Ok(unet)
    }
}

impl AutoencoderKl {
    /// Reads `folder`/config.json and `folder`/diffusion_pytorch_model.safetensors; or the VAE of a single file.
    pub fn load(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        Self::load_with(folder, Placement::new(device, kind))
    }

    /// As [`AutoencoderKl::load`], its weights placed as `placement` says.
    pub fn load_with(folder: &Path, placement: Placement) -> Result<Self> {
        let config = vae::Config::of(folder)?;
        let weights = Part::Vae.weights(folder, placement)?;
        let vae = Self::from_scope(&weights.root(), config, placement.kind)?;
        weights.finish(|_| false)?;
        Ok(vae)
    }
}

impl TextEncoder {
    /// Reads a CLIPTextModel: `folder`/config.json and `folder`/model.safetensors; or the text encoder of a single file.
    pub fn load(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        Self::load_with(folder, Placement::new(device, kind))
    }

    /// As [`TextEncoder::load`], its weights placed as `placement` says.
    pub fn load_with(folder: &Path, placement: Placement) -> Result<Self> {
        let config = clip_text::Config::of(folder)?;
        let weights = Part::TextEncoder.weights(folder, placement)?;
        let encoder = Self::from_scope(&weights.root().sub("text_model"), config)?;
        // The projection of a CLIPTextModelWithProjection is not part of what the UNet sees.
        weights.finish(|name| name.ends_with("position_ids") || name == "text_projection.weight")?;
        Ok(encoder)
    }
}

impl Tokenizer {
    /// Reads vocab.json and merges.txt (or tokenizer.json where there is no vocab.json) with tokenizer_config.json,
    /// special_tokens_map.json and added_tokens.json as far as they exist.
    ///
    /// Truncation and padding that a tokenizer.json was saved with are removed: [`Tokenizer::encode`] does both.
    ///
    /// For a single file with a whole Stable Diffusion it is CLIP's own, which is built in.
    ///
    /// Fails on missing or damaged files, on special tokens that are not in the vocabulary, and on a tokenizer.json
    /// that splits words differently from CLIP.
    pub fn load(folder: &Path) -> Result<Self> {
        match folder.is_file() {
            true => single_file::tokenizer(folder),
            false => Self::from_folder(folder),
        }
    }
}

impl Schedule {
    /// Reads a diffusers `scheduler` folder's scheduler_config.json; absent keys have DDIMScheduler's defaults. For a
    /// single file with a whole Stable Diffusion, the schedule follows from the file.
    ///
    /// Fails with [`Error::Unsupported`](crate::Error::Unsupported) on unknown keys, prediction types and beta
    /// schedules, on scheduler classes without betas, and on clipping or thresholding of x₀, which are for pixel models.
    pub fn read(folder: &Path) -> Result<Self> {
        Ok(Self::read_noting(folder)?.0)
    }

    /// As [`Schedule::read`], with the names of the sampler's own keys that were ignored.
    pub fn read_noting(folder: &Path) -> Result<(Self, Vec<String>)> {
        match folder.is_file() {
            true => single_file::schedule(folder),
            false => Self::from_folder(folder),
        }
    }
}

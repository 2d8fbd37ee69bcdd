//! Training images to latents and embeddings, in batches.
//!
//! Shapes: b batch, (c, h, w) latents, (H, W) pixels.

use std::path::{Path, PathBuf};

use diffusion::images::{self, ClipPreprocess};
use diffusion::networks::clip::Clip;
use diffusion::networks::vae::AutoencoderKl;
use diffusion::pipeline::{Part, TRANSFORMERS_STEM};
use diffusion::{json, weights};
use half::f16;
use hub::Hub;
use image::RgbImage;
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::format::manifest::{Latent, Model};
use crate::format::row::Encoding;
use crate::making::config::ShardConfig;
use crate::making::worker_rank::WorkerRank;

/// The models, found and hashed but not loaded.
#[derive(Clone, Debug)]
pub struct Models {
    vae: PathBuf,
    clip: Option<PathBuf>,
    /// The autoencoder as the manifest records it.
    pub vae_model: Model,
    /// CLIP as the manifest records it.
    pub clip_model: Option<Model>,
    device: Device,
}

impl Models {
    /// Finds the recipe's models and hashes their weights.
    pub fn find(config: &ShardConfig, hub: &Hub, worker_rank: &WorkerRank) -> Result<Self> {
        let device = worker_rank.device(config.device)?;
        let vae = component(&hub.parts(&config.vae, &["vae"])?, "vae");
        let vae_model = Model { name: config.vae.clone(), hash: Part::Vae.hash(&vae)?, dimension: None };
        let clip = config.clip.as_ref().map(|name| hub.model(name)).transpose()?;
        let clip_model = match (&config.clip, &clip) {
            (Some(name), Some(folder)) => {
                let dimension = json::read(&folder.join("config.json"))?["projection_dim"].as_u64();
                Some(Model {
                    name: name.clone(),
                    hash: weights::hash(folder, TRANSFORMERS_STEM)?,
                    dimension: dimension.map(|d| d as u32),
                })
            }
            _ => None,
        };
        Ok(Self { vae, clip, vae_model, clip_model, device })
    }

    /// Loads the models.
    pub fn load(&self) -> Result<Encoder> {
        let vae = AutoencoderKl::load(&self.vae, self.device, Kind::Float)?;
        let clip = match &self.clip {
            Some(folder) => Some((Clip::load(folder, self.device, Kind::Float)?, ClipPreprocess::read(folder)?)),
            None => None,
        };
        Ok(Encoder { vae, clip, device: self.device })
    }
}

/// A pipeline's component if `folder` is a pipeline, otherwise `folder` itself.
fn component(folder: &Path, name: &str) -> PathBuf {
    let inner = folder.join(name);
    if inner.join("config.json").is_file() {
        return inner;
    }
    folder.to_path_buf()
}

/// The loaded models.
#[derive(Debug)]
pub struct Encoder {
    vae: AutoencoderKl,
    clip: Option<(Clip, ClipPreprocess)>,
    device: Device,
}

impl Encoder {
    /// The latents' shape for images of `resolution` pixels.
    pub fn latent(&self, resolution: u32) -> Result<Latent> {
        let downscale = self.vae.downscale() as u32;
        if !resolution.is_multiple_of(downscale) {
            let message = format!("{resolution} is not a multiple of {downscale}, which this VAE needs");
            return Err(Error::invalid("resolution", message));
        }
        let side = resolution / downscale;
        let channels = self.vae.latent_channels() as u32;
        Ok(Latent { channels, height: side, width: side, scaling_factor: self.vae.scaling_factor() })
    }

    /// Encodes square images of one size. For an image whose latents are not finite, the reason is returned instead.
    pub fn encode(&self, batch: &[RgbImage]) -> Result<Vec<std::result::Result<Encoding, String>>> {
        tch::no_grad(|| {
            let tensors: Vec<Tensor> = batch.iter().map(images::to_tensor).collect();
            let pixels = Tensor::cat(&tensors, 0).to_device(self.device); // (b, 3, H, W)
            let plain = self.vae.encode(&pixels);
            let mirrored = self.vae.encode(&pixels.flip([-1]));
            let latents = [plain.mean, plain.std, mirrored.mean, mirrored.std].map(|t| halves(&t));
            let [latent_mean, latent_std, flip_mean, flip_std] = latents;
            let clip = self.clip_embeddings(batch)?;
            let images = (0..batch.len()).map(|n| Encoding {
                latent_mean: latent_mean[n].clone(),
                latent_std: latent_std[n].clone(),
                flip_mean: flip_mean[n].clone(),
                flip_std: flip_std[n].clone(),
                clip_embedding: clip.as_ref().map(|c| c[n].clone()),
            });
            Ok(images.map(finite).collect())
        })
    }

    fn clip_embeddings(&self, batch: &[RgbImage]) -> Result<Option<Vec<Vec<f16>>>> {
        let Some((clip, preprocess)) = &self.clip else { return Ok(None) };
        let pixels: Vec<Tensor> = batch.iter().map(|image| preprocess.from_image(image)).collect();
        let embeddings = clip.image_embeds(&Tensor::cat(&pixels, 0).to_device(self.device)); // (b, p)
        Ok(Some(halves(&embeddings)))
    }
}

/// Each row of (b, …) as half-precision numbers.
fn halves(tensor: &Tensor) -> Vec<Vec<f16>> {
    let flat = tensor.flatten(1, -1).to_kind(Kind::Half).to_device(Device::Cpu).contiguous();
    let width = flat.size()[1] as usize;
    let mut all = vec![f16::ZERO; flat.numel()];
    flat.copy_data(&mut all, flat.numel());
    all.chunks(width.max(1)).map(<[f16]>::to_vec).collect()
}

fn finite(encoding: Encoding) -> std::result::Result<Encoding, String> {
    match encoding.is_finite() {
        true => Ok(encoding),
        false => Err("the models give numbers that are not finite, or too large for half precision".into()),
    }
}

//! What a recipe costs: parameters, multiply-accumulates and memory of a step, from the models' configurations and the
//! headers of their weights.

use std::path::Path;

use diffusion::json;
use diffusion::losses::directional::Directional;
use diffusion::networks::cost::{self, Macs, UnetMacs};
use diffusion::networks::{clip, clip_text, tiny_vae, unet, vae};
use diffusion::pipeline::{part, Part, DIFFUSERS_STEM, TRANSFORMERS_STEM};
use diffusion::process::asyrp::{Condition, Process};
use diffusion::weights::{Placement, Weights};
use tch::Kind;

use crate::config::resolved::Resolved;
use crate::config::TrajectoryKind;
use crate::failure::input;
use crate::run::models::{preview_side, Folders};

/// The networks of a recipe, as their folders describe them.
struct Networks {
    unet: unet::Config,
    text: clip_text::Config,
    clip: Option<clip::Config>,
    decoder: Decoder,
}

/// What decodes P_t for CLIP.
enum Decoder {
    Kl(vae::Config),
    Tiny(tiny_vae::Config),
}

/// One part of a step's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What it is.
    pub name: &'static str,
    /// Multiply-accumulates per image of the batch.
    pub macs: u64,
}

/// What a recipe costs at one size of images.
#[derive(Clone, Debug)]
pub struct Cost {
    /// Parameters of the frozen networks.
    pub frozen: u64,
    /// Parameters that are learned.
    pub trained: u64,
    /// The work of a step, part by part.
    pub pieces: Vec<Piece>,
    /// Numbers kept for the backward pass, per image of a micro-batch.
    pub activations: u64,
}

impl Cost {
    /// Reads the configurations below `folders`; images have `resolution` pixels a side.
    pub fn of(recipe: &Resolved, folders: &Folders, resolution: u32) -> anyhow::Result<Self> {
        let networks = Networks::read(recipe, folders)?;
        let downscale = networks.downscale(folders)?;
        let side = i64::from(resolution) / downscale;
        let preview = preview_side(side, recipe.config.model.preview_scale) * downscale;
        let unet = cost::unet(&networks.unet, side, networks.text.max_position_embeddings);
        Ok(Self {
            frozen: frozen(recipe, folders)?,
            trained: trained(recipe, &networks),
            pieces: pieces(recipe, &networks, unet, preview),
            activations: activations(recipe, &networks, side, preview as u64),
        })
    }

    /// The least FLOP of a step with `images` images of each stream: two for each multiply-accumulate.
    pub fn flop(&self, images: usize) -> f64 {
        2.0 * images as f64 * self.pieces.iter().map(|piece| piece.macs as f64).sum::<f64>()
    }

    /// An estimate of a process's memory in bytes: weights and activations of `size` bytes a number, with `images`
    /// computed at once; and for what is learned, values, gradients and both moments in f32.
    pub fn memory(&self, size: usize, images: usize) -> u64 {
        self.frozen * size as u64 + self.trained * 16 + self.activations * (images * size) as u64
    }
}

impl Networks {
    fn read(recipe: &Resolved, folders: &Folders) -> anyhow::Result<Self> {
        let base = &folders.base;
        let decoder =
            folders.preview_decoder.clone().map_or_else(|| part(base, "vae").map_err(anyhow::Error::from), Ok)?;
        Ok(Self {
            unet: unet::Config::read(&part(base, "unet")?)?,
            text: clip_text::Config::of(&part(base, "text_encoder")?)?,
            clip: folders
                .clip
                .as_ref()
                .filter(|_| recipe.needs_clip())
                .map(|folder| clip::Config::read(&folder.join("config.json")))
                .transpose()?,
            decoder: Decoder::read(&decoder)?,
        })
    }

    /// Pixels per latent pixel, along one side.
    fn downscale(&self, folders: &Folders) -> anyhow::Result<i64> {
        Ok(vae::Config::of(&part(&folders.base, "vae")?)?.downscale())
    }
}

impl Decoder {
    fn read(folder: &Path) -> anyhow::Result<Self> {
        if folder.is_file() {
            return Ok(Decoder::Kl(vae::Config::of(folder)?));
        }
        let path = folder.join("config.json");
        Ok(match json::read(&path)?["_class_name"] == "AutoencoderTiny" {
            true => Decoder::Tiny(tiny_vae::Config::read(&path)?),
            false => Decoder::Kl(vae::Config::read(&path)?),
        })
    }

    fn macs(&self, resolution: i64) -> Macs {
        match self {
            Decoder::Kl(config) => cost::vae_decode(config, resolution),
            Decoder::Tiny(config) => cost::tiny_vae_decode(config, resolution),
        }
    }

    /// Numbers that the backward pass keeps per pixel of the image: for three residual blocks of the widest level, or
    /// for the thin convolutions of a tiny decoder.
    fn numbers_a_pixel(&self) -> u64 {
        match self {
            Decoder::Kl(config) => config.block_out_channels[0] as u64 * 60,
            Decoder::Tiny(config) => config.decoder_width as u64 * 6,
        }
    }
}

fn frozen(recipe: &Resolved, folders: &Folders) -> anyhow::Result<u64> {
    let base = &folders.base;
    let mut count = 0;
    for which in [Part::Unet, Part::Vae, Part::TextEncoder] {
        count += which.num_parameters(&part(base, which.name())?)?;
    }
    if let Some(clip) = folders.clip.as_ref().filter(|_| recipe.needs_clip()) {
        count += num_parameters(clip, TRANSFORMERS_STEM)?;
    }
    if let Some(decoder) = &folders.preview_decoder {
        count += match decoder.is_file() {
            true => input(Part::Vae.num_parameters(decoder))?,
            false => num_parameters(decoder, DIFFUSERS_STEM)?,
        };
    }
    Ok(count)
}

fn num_parameters(folder: &Path, stem: &str) -> anyhow::Result<u64> {
    Ok(Weights::from_folder(folder, stem, Placement::headers(Kind::Float))?.num_parameters())
}

fn trained(recipe: &Resolved, networks: &Networks) -> u64 {
    let (emotions, features) = (recipe.names.len() as u64, networks.text.layers.hidden_size as u64);
    let tokens = recipe.config.tokens.on().map_or(0, |t| emotions * t.num_vectors as u64 * features);
    let (c, e) = (networks.unet.deepest().channels as u64, networks.unet.temb_channels() as u64);
    let delta = recipe.config.delta.on().map_or(0, |section| {
        let one = 2 * (c * c + c) + c * e + c + 2 * c;
        if section.condition_on_token {
            one + 2 * c * (features + 1)
        } else {
            one * emotions
        }
    });
    tokens + delta
}

fn pieces(recipe: &Resolved, networks: &Networks, unet: UnetMacs, preview: i64) -> Vec<Piece> {
    let (edit, loss) = (&recipe.config.edit, &recipe.config.loss);
    let learns_prompt = recipe.config.tokens.on().is_some();
    let both = |macs: Macs| macs.forward() + macs.backward();
    let mut pieces = Vec::new();
    let mut add = |name, macs| pieces.push(Piece { name, macs });
    if recipe.needs_sources() {
        // Under the source's prompt at the edited latent: for D, or for guidance to move away from.
        let own = edit.process == Process::Asymmetric || edit.guidance_scale != 1.0;
        let follows = edit.trajectory == TrajectoryKind::Edited && own;
        if edit.condition == Condition::Decoder || follows {
            add("encoder, source", unet.encode().forward());
        }
        if edit.condition == Condition::Both {
            add("encoder, edited", if learns_prompt { both(unet.encode()) } else { unet.encode().forward() });
        }
        if follows {
            add("decoder, source", unet.up.forward());
        }
        add("decoder, edited", both(unet.up));
    }
    if let Some(clip) = networks.clip.as_ref().filter(|_| recipe.needs_directions()) {
        let passes = [networks.decoder.macs(preview), cost::clip_image(clip)];
        let reference = u64::from(loss.directional == Directional::Target && !recipe.uses_references());
        for (name, pass) in ["preview decoder", "CLIP"].into_iter().zip(passes) {
            add(name, both(pass) + reference * pass.forward());
        }
    }
    if recipe.needs_denoising() {
        add("UNet, denoising", both(unet.encode() + unet.up));
    }
    if recipe.needs_delta_denoising() {
        add("UNet, denoising by the delta", unet.encode().forward() + both(unet.up));
    }
    pieces
}

/// Numbers kept for the backward pass: of an edit, one image's up path and its preview, or of the denoising term, the
/// whole UNet, whichever is more: about 10 for a residual block and 16 for a transformer block, times channels and
/// positions.
fn activations(recipe: &Resolved, networks: &Networks, side: i64, preview: u64) -> u64 {
    let blocks = networks.unet.levels.iter().enumerate();
    let blocks: Vec<u64> = blocks
        .map(|(k, level)| (level.layers as u64 + 1) * level.channels as u64 * ((side * side) as u64 >> (2 * k)) * 26)
        .collect();
    let up: u64 = blocks.iter().sum();
    let kept = match recipe.config.train.gradient_checkpointing {
        true => blocks.iter().max().copied().unwrap_or(0) + up / 26,
        false => up,
    };
    let encoder = up * 2 / 3;
    let with_encoder = recipe.config.edit.condition == Condition::Both && recipe.config.tokens.on().is_some();
    let preview = match recipe.needs_directions() {
        true => networks.decoder.numbers_a_pixel() * preview * preview,
        false => 0,
    };
    // Each term's graph is freed before the next term is computed: the largest counts, not their sum. What decodes the
    // edit is seen in one graph with the pass that made it.
    let edit = if recipe.needs_sources() { kept + if with_encoder { encoder } else { 0 } + preview } else { 0 };
    let denoising = if recipe.needs_denoising() { up + encoder } else { 0 };
    let by_delta = if recipe.needs_delta_denoising() { kept } else { 0 };
    edit.max(denoising).max(by_delta)
}

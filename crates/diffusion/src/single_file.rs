//! A whole Stable Diffusion 1.x or 2.x in one safetensors file, with the names of CompVis's and Stability's own code
//! (`model.diffusion_model.…`, `first_stage_model.…`, `cond_stage_model.…`).
//!
//! Such a file has no configuration. The shapes of its tensors tell the networks' sizes, and the names in the text
//! encoder tell 1.x (CLIP) from 2.x (OpenCLIP). Its tokenizer is CLIP's, which is built in.

mod names;
mod schedule;
mod shapes;

use std::path::Path;

use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::networks::{clip_text, unet, vae};
use crate::part::Part;
use crate::text::tokenizer::Tokenizer;
use crate::weights::{self, Placement, Weights};

pub(crate) use schedule::read as schedule;

/// The prefix of the UNet.
const UNET: &str = "model.diffusion_model.";
/// The prefix of the VAE; a file of a VAE alone has none.
const VAE: &str = "first_stage_model.";
/// The prefix of 1.x's text encoder, transformers' CLIPTextModel.
const CLIP: &str = "cond_stage_model.transformer.";
/// The prefix of 2.x's text encoder, OpenCLIP's text half.
const OPEN_CLIP: &str = "cond_stage_model.model.";

/// What else such files hold: buffers of the training schedule, a moving average, marks of other programs.
const HARMLESS: [&str; 22] = [
    "model_ema.",
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "lvlb_weights",
    "logvar",
    "global_step",
    "denoiser.sigmas",
    "v_pred",
    "ztsnr",
    "cond_stage_model.logit_scale",
    "cond_stage_model.text_projection",
    "first_stage_model.loss.",
];

/// The family that a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// 1.x, with CLIP's text encoder.
    One,
    /// 2.x, with OpenCLIP's.
    Two,
}

/// The UNet of `path`: what it is, and its weights under diffusers' names.
pub(crate) fn unet(path: &Path, placement: Placement) -> Result<(unet::Config, Weights)> {
    check_names(path)?;
    let weights = read(path, UNET, placement)?;
    let config = shapes::unet(path, &weights)?;
    let layers = config.levels[0].layers;
    let weights = weights.convert(|name, tensor| Ok(vec![(names::unet(&name, layers), tensor)]))?;
    Ok((config, weights))
}

/// The VAE of `path`.
pub(crate) fn vae(path: &Path, placement: Placement) -> Result<(vae::Config, Weights)> {
    let weights = read(path, vae_prefix(path)?, placement)?;
    let weights = weights.retain(|name| !name.starts_with("loss.") && !name.starts_with("model_ema."));
    let config = shapes::vae(path, &weights)?;
    let levels = config.block_out_channels.len();
    let weights = weights.convert(|name, tensor| {
        // Attention is a 1×1 convolution in the file and a linear map here.
        let is_map = name.contains(".attn_1.") && tensor.dim() == 4;
        let tensor = if is_map { tensor.f_squeeze_dim(-1)?.f_squeeze_dim(-1)? } else { tensor };
        Ok(vec![(names::vae(&name, levels), tensor)])
    })?;
    Ok((config, weights))
}

/// The text encoder of `path`.
pub(crate) fn text_encoder(path: &Path, placement: Placement) -> Result<(clip_text::Config, Weights)> {
    match family(path)? {
        Family::One => {
            let weights = read(path, CLIP, placement)?.rename(weights::names::text_encoder);
            Ok((shapes::clip(path, &weights)?, weights))
        }
        Family::Two => {
            let weights = read(path, OPEN_CLIP, placement)?;
            let config = shapes::open_clip(path, &weights)?;
            // The UNet of 2.x sees the output of the last layer but one.
            let unseen = format!("transformer.resblocks.{}.", config.layers.num_hidden_layers);
            let weights = weights.retain(|name| {
                !name.starts_with(&unseen) && !["text_projection", "logit_scale", "attn_mask"].contains(&name)
            });
            Ok((config, weights.convert(open_clip)?))
        }
    }
}

/// CLIP's tokenizer with this family's padding: 1.x pads with the end of text, 2.x with zeros.
pub(crate) fn tokenizer(path: &Path) -> Result<Tokenizer> {
    Tokenizer::clip(match family(path)? {
        Family::One => "<|endoftext|>",
        Family::Two => "!",
    })
}

/// blake3 of one part's tensors in `path`.
pub(crate) fn hash(path: &Path, part: Part) -> Result<String> {
    let prefix = match part {
        Part::Unet => UNET,
        Part::Vae => vae_prefix(path)?,
        Part::TextEncoder if family(path)? == Family::One => CLIP,
        Part::TextEncoder => OPEN_CLIP,
    };
    weights::hash_within(path, prefix)
}

/// OpenCLIP keeps queries, keys and values in one matrix; transformers has three.
fn open_clip(name: String, tensor: Tensor) -> Result<Vec<(String, Tensor)>> {
    let renamed = names::open_clip(&name);
    let Some((attention, what)) = renamed.split_once(".in_proj_") else { return Ok(vec![(renamed, tensor)]) };
    let Some(rows) = tensor.size().first().map(|rows| rows / 3) else {
        return Err(Error::invalid(name, "is one number; queries, keys and values lie in one matrix in OpenCLIP"));
    };
    let third = |(n, which): (i64, &str)| {
        Ok((format!("{attention}.{which}_proj.{what}"), tensor.f_narrow(0, n * rows, rows)?.f_contiguous()?))
    };
    [(0, "q"), (1, "k"), (2, "v")].into_iter().map(third).collect()
}

/// The tensors of `path` under `prefix`, which is removed from their names.
fn read(path: &Path, prefix: &str, placement: Placement) -> Result<Weights> {
    let weights = Weights::from_part(path, placement, |name| name.starts_with(prefix))?;
    let weights = weights.rename(|name| name.strip_prefix(prefix).unwrap_or(name).to_string());
    if weights.names().next().is_none() {
        let message =
            format!("holds no {prefix}…: it is not a whole Stable Diffusion 1.x or 2.x; give a diffusers folder");
        return Err(Error::invalid(path.display().to_string(), message));
    }
    if let Some((name, found)) = weights.not_floating().find(|(name, _)| !name.ends_with("position_ids")) {
        return Err(Error::Dtype { path: path.to_path_buf(), name: format!("{prefix}{name}"), found: found.into() });
    }
    Ok(weights)
}

/// The names in the header, without any tensor.
fn header(path: &Path) -> Result<Weights> {
    Weights::from_file(path, Placement::headers(Kind::Float))
}

fn family(path: &Path) -> Result<Family> {
    let header = header(path)?;
    let has = |prefix: &str| header.names().any(|name| name.starts_with(prefix));
    match (has(CLIP), has(OPEN_CLIP)) {
        (true, false) => Ok(Family::One),
        (false, true) => Ok(Family::Two),
        _ if has("conditioner.embedders.") => Err(Error::invalid(
            path.display().to_string(),
            "is Stable Diffusion XL (conditioner.embedders.…), supported are 1.x and 2.x",
        )),
        _ => Err(Error::invalid(
            path.display().to_string(),
            format!("holds no text encoder ({CLIP}… or {OPEN_CLIP}…); give the whole model, or a diffusers folder"),
        )),
    }
}

fn vae_prefix(path: &Path) -> Result<&'static str> {
    Ok(if header(path)?.names().any(|name| name.starts_with(VAE)) { VAE } else { "" })
}

/// Fails on a tensor that belongs to no part and is not known to be harmless.
fn check_names(path: &Path) -> Result<()> {
    let header = header(path)?;
    let known = |name: &str| {
        [UNET, VAE, CLIP, OPEN_CLIP].iter().any(|prefix| name.starts_with(prefix))
            || HARMLESS
                .iter()
                .any(|harmless| name == *harmless || harmless.ends_with('.') && name.starts_with(harmless))
            || name.starts_with("conditioner.embedders.") // Stable Diffusion XL, which is refused by that name
    };
    let unknown: Vec<&str> = header.names().filter(|name| !known(name)).collect();
    match unknown.first() {
        None => Ok(()),
        Some(first) => {
            let (path, count) = (path.to_path_buf(), unknown.len());
            Err(Error::UnusedTensors { path, count, first: (*first).into() })
        }
    }
}

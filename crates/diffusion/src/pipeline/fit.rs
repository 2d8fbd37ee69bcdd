//! Whether the parts of a pipeline belong together, from their configurations.

use std::path::Path;

use super::part;
use crate::error::{Error, Result};
use crate::networks::{clip_text, unet, vae};
use crate::text::tokenizer::Tokenizer;

/// Channels of a photo.
const RGB: i64 = 3;

/// Fails if the pipeline below `folder` would break at its first forward pass; the error names the key.
pub(super) fn check_fit(folder: &Path, tokenizer: &Tokenizer) -> Result<()> {
    let text = clip_text::Config::of(&part(folder, "text_encoder")?)?;
    let vae = vae::Config::of(&part(folder, "vae")?)?;
    let unet = unet::Config::read(&part(folder, "unet")?)?;
    let refuse = |name: &str, key: &str, message: String| {
        let path = if folder.is_file() { folder.to_path_buf() } else { folder.join(name).join("config.json") };
        Err(Error::Unsupported { path, key: key.into(), message })
    };
    if unet.in_channels != vae.latent_channels {
        return refuse("unet", "in_channels", in_channels(unet.in_channels, vae.latent_channels));
    }
    if unet.out_channels != vae.latent_channels {
        let message = format!("is {}, and the latents of vae have {}", unet.out_channels, vae.latent_channels);
        return refuse("unet", "out_channels", message);
    }
    if unet.cross_attention_dim != text.layers.hidden_size {
        let (found, width) = (unet.cross_attention_dim, text.layers.hidden_size);
        let message = format!("is {found}, and text_encoder gives {width} features: they are of different models");
        return refuse("unet", "cross_attention_dim", message);
    }
    if (vae.in_channels, vae.out_channels) != (RGB, RGB) {
        let message = format!("are {} and {}, photos have {RGB}", vae.in_channels, vae.out_channels);
        return refuse("vae", "in_channels, out_channels", message);
    }
    check_tokenizer(&part(folder, "tokenizer")?, tokenizer, &text)
}

/// Fails if `tokenizer`, of `folder`, gives ids or lengths that a text encoder with `config` has no rows for.
pub fn check_tokenizer(folder: &Path, tokenizer: &Tokenizer, config: &clip_text::Config) -> Result<()> {
    let refuse =
        |key: &str, message: String| Err(Error::Unsupported { path: folder.to_path_buf(), key: key.into(), message });
    if i64::from(tokenizer.max_id()) >= config.vocab_size {
        let (id, rows) = (tokenizer.max_id(), config.vocab_size);
        return refuse("vocabulary", format!("has an id {id}, and the text encoder's table has {rows} rows"));
    }
    if tokenizer.max_length() as i64 > config.max_position_embeddings {
        let (length, most) = (tokenizer.max_length(), config.max_position_embeddings);
        return refuse("model_max_length", format!("is {length}, and the text encoder has {most} positions"));
    }
    Ok(())
}

fn in_channels(found: i64, latents: i64) -> String {
    let kind = match found - latents {
        5 => "; it is an inpainting UNet, which also takes a mask and the masked photo",
        n if n == latents => "; it is an InstructPix2Pix UNet, which also takes the photo's latents",
        1 => "; it is a depth-to-image UNet, which also takes a depth map",
        _ => "",
    };
    format!("is {found}, and the latents of vae have {latents}{kind}; use a base model of text to image")
}

//! An AutoencoderTiny's config.json.

use std::path::Path;

use crate::error::Result;
use crate::networks::config::Keys;

/// The shape of an AutoencoderTiny; absent keys have diffusers' defaults, which are TAESD's.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Channels of the images that go in.
    pub in_channels: i64,
    /// Channels of the images that come out.
    pub out_channels: i64,
    /// Channels of the latents.
    pub latent_channels: i64,
    /// Channels of the encoder's feature maps.
    pub encoder_width: i64,
    /// Channels of the decoder's feature maps.
    pub decoder_width: i64,
    /// Residual blocks of each of the encoder's resolutions, from the image down.
    pub num_encoder_blocks: Vec<i64>,
    /// Residual blocks of each of the decoder's resolutions, from the latents up.
    pub num_decoder_blocks: Vec<i64>,
    /// How much each of the decoder's resolutions is larger than the one before.
    pub upsampling_scaling_factor: i64,
    /// What latents are multiplied by before the UNet sees them.
    pub scaling_factor: f64,
}

impl Config {
    /// Reads and checks a config.json.
    pub fn read(path: &Path) -> Result<Self> {
        let mut keys = Keys::read(path)?;
        keys.only("_class_name", &["AutoencoderTiny".to_string()])?;
        let num_encoder_blocks = keys.resolutions("num_encoder_blocks", &[1, 3, 3, 3])?;
        let num_decoder_blocks = keys.positives("num_decoder_blocks", &[3, 3, 3, 1])?;
        let config = Self {
            in_channels: keys.positive("in_channels", 3)?,
            out_channels: keys.positive("out_channels", 3)?,
            latent_channels: keys.positive("latent_channels", 4)?,
            encoder_width: width(&mut keys, "encoder_block_out_channels", num_encoder_blocks.len())?,
            decoder_width: width(&mut keys, "decoder_block_out_channels", num_decoder_blocks.len())?,
            upsampling_scaling_factor: keys.positive("upsampling_scaling_factor", 2)?,
            scaling_factor: keys.scaling_factor(1.0)?,
            num_encoder_blocks,
            num_decoder_blocks,
        };
        only_supported(&mut keys)?;
        keys.finish()?;
        Ok(config)
    }

    /// Pixels of the image per latent pixel, along one side.
    pub fn downscale(&self) -> i64 {
        1 << (self.num_encoder_blocks.len() - 1)
    }
}

/// diffusers joins the resolutions by convolutions that keep their width, so all widths are one.
fn width(keys: &mut Keys, key: &str, resolutions: usize) -> Result<i64> {
    let widths = keys.positives(key, &vec![64; resolutions])?;
    keys.check(widths.len() == resolutions && widths.iter().all(|w| *w == widths[0]), key, || {
        format!("{widths:?} is not supported, only one width, given {resolutions} times")
    })?;
    Ok(widths[0])
}

fn only_supported(keys: &mut Keys) -> Result<()> {
    keys.only("act_fn", &["relu".to_string()])?;
    keys.only("upsample_fn", &["nearest".to_string()])?;
    keys.unshifted()?;
    // latent_magnitude and latent_shift serve diffusers' storage of latents as bytes; block_out_channels repeats
    // decoder_block_out_channels.
    keys.ignore(&["latent_magnitude", "latent_shift", "block_out_channels", "force_upcast", "sample_size"]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::config::tests::{assert_refused, written};

    fn read(text: &str) -> Result<Config> {
        Config::read(written(text).path())
    }

    #[test]
    fn taesds_own_file_is_read() {
        let config = read(
            r#"{"_class_name": "AutoencoderTiny", "_diffusers_version": "0.20.0.dev0", "act_fn": "relu",
                "decoder_block_out_channels": [64, 64, 64, 64], "encoder_block_out_channels": [64, 64, 64, 64],
                "force_upcast": false, "in_channels": 3, "latent_channels": 4, "latent_magnitude": 3,
                "latent_shift": 0.5, "num_decoder_blocks": [3, 3, 3, 1], "num_encoder_blocks": [1, 3, 3, 3],
                "out_channels": 3, "scaling_factor": 1.0, "upsampling_scaling_factor": 2}"#,
        )
        .expect("a supported configuration");
        assert_eq!((config.downscale(), config.encoder_width, config.scaling_factor), (8, 64, 1.0));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let refused = [
            (r#"{"_class_name": "AutoencoderKL"}"#, "_class_name"),
            (r#"{"act_fn": "silu"}"#, "act_fn"),
            (r#"{"upsample_fn": "bilinear"}"#, "upsample_fn"),
            (r#"{"encoder_block_out_channels": [64, 64, 64, 32]}"#, "encoder_block_out_channels"),
            (r#"{"decoder_block_out_channels": [64, 64]}"#, "decoder_block_out_channels"),
            (r#"{"quantised": true}"#, "quantised"),
        ];
        assert_refused(read, &refused);
    }
}

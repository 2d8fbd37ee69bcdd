//! An AutoencoderKL's config.json.

use std::path::Path;

use crate::error::Result;
use crate::networks::config::Keys;

/// The shape of an AutoencoderKL; absent keys have diffusers' defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Channels of the images that go in.
    pub in_channels: i64,
    /// Channels of the images that come out.
    pub out_channels: i64,
    /// Channels of the latents.
    pub latent_channels: i64,
    /// Channels of each resolution, from the image down.
    pub block_out_channels: Vec<i64>,
    /// Residual blocks at each resolution of the encoder; the decoder has one more.
    pub layers_per_block: i64,
    /// Groups of every group normalisation.
    pub norm_num_groups: i64,
    /// Whether the middle blocks attend.
    pub mid_block_add_attention: bool,
    /// Whether a 1×1 convolution follows the encoder.
    pub use_quant_conv: bool,
    /// Whether a 1×1 convolution precedes the decoder.
    pub use_post_quant_conv: bool,
    /// What unscaled latents are multiplied by before the UNet sees them.
    pub scaling_factor: f64,
}

impl Config {
    /// Reads and checks a config.json.
    pub fn read(path: &Path) -> Result<Self> {
        let mut keys = Keys::read(path)?;
        keys.only("_class_name", &["AutoencoderKL".to_string()])?;
        let config = Self::take(&mut keys)?;
        only_supported(&mut keys, config.block_out_channels.len())?;
        config.check(&keys)?;
        keys.finish()?;
        Ok(config)
    }

    fn take(keys: &mut Keys) -> Result<Self> {
        Ok(Self {
            in_channels: keys.positive("in_channels", 3)?,
            out_channels: keys.positive("out_channels", 3)?,
            latent_channels: keys.positive("latent_channels", 4)?,
            block_out_channels: keys.resolutions("block_out_channels", &[64])?,
            layers_per_block: keys.positive("layers_per_block", 1)?,
            norm_num_groups: keys.positive("norm_num_groups", 32)?,
            mid_block_add_attention: keys.take("mid_block_add_attention", true)?,
            use_quant_conv: keys.take("use_quant_conv", true)?,
            use_post_quant_conv: keys.take("use_post_quant_conv", true)?,
            scaling_factor: keys.scaling_factor(0.18215)?,
        })
    }

    fn check(&self, keys: &Keys) -> Result<()> {
        let groups = self.norm_num_groups;
        keys.check(self.block_out_channels.iter().all(|c| c % groups == 0), "norm_num_groups", || {
            format!("{groups} does not divide block_out_channels {:?}", self.block_out_channels)
        })
    }

    /// Pixels of the image per latent pixel, along one side.
    pub fn downscale(&self) -> i64 {
        1 << (self.block_out_channels.len() - 1)
    }
}

fn only_supported(keys: &mut Keys, resolutions: usize) -> Result<()> {
    for (key, block) in [("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")] {
        keys.only(key, &[vec![block.to_string(); resolutions]])?;
    }
    keys.only("act_fn", &["silu".to_string(), "swish".to_string()])?;
    keys.unshifted()?;
    keys.only("latents_mean", &[None::<Vec<f64>>])?;
    keys.only("latents_std", &[None::<Vec<f64>>])?;
    keys.ignore(&["sample_size", "force_upcast"]); // tiling and precision of diffusers' own pipelines
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
    fn stable_diffusions_own_file_is_read() {
        let config = read(
            r#"{"_class_name": "AutoencoderKL", "_diffusers_version": "0.6.0", "act_fn": "silu",
                "block_out_channels": [128, 256, 512, 512], "in_channels": 3, "latent_channels": 4,
                "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D",
                    "DownEncoderBlock2D"],
                "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3, "sample_size": 512,
                "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]}"#,
        )
        .expect("a supported configuration");
        assert_eq!((config.downscale(), config.scaling_factor), (8, 0.18215));
        assert!(config.use_quant_conv && config.mid_block_add_attention);
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let refused = [
            (r#"{"_class_name": "AutoencoderTiny"}"#, "_class_name"),
            (r#"{"down_block_types": ["AttnDownEncoderBlock2D"]}"#, "down_block_types"),
            (r#"{"latents_mean": [0.1, 0.2, 0.3, 0.4]}"#, "latents_mean"),
            (r#"{"shift_factor": 0.1}"#, "shift_factor"),
            (r#"{"act_fn": "relu"}"#, "act_fn"),
            (r#"{"norm_num_groups": 7}"#, "norm_num_groups"),
            (r#"{"scaling_factor": 0.0}"#, "scaling_factor"),
            (r#"{"block_out_channels": []}"#, "block_out_channels"),
            (r#"{"temporal_layers": 2}"#, "temporal_layers"),
        ];
        assert_refused(read, &refused);
    }
}

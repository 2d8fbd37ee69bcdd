//! A CLIPModel's config.json.

use std::path::Path;

use crate::error::Result;
use crate::networks::clip_text::{self, transformer};
use crate::networks::config::Keys;

/// The shape of a CLIPModel; absent keys have transformers' defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The text half.
    pub text: clip_text::Config,
    /// The image half.
    pub vision: VisionConfig,
    /// Features of the shared embedding.
    pub projection_dim: i64,
}

impl Config {
    /// Reads and checks a config.json.
    pub fn read(path: &Path) -> Result<Self> {
        let mut keys = Keys::read(path)?;
        keys.only("model_type", &["clip".to_string()])?;
        let (mut text, mut vision) = (half(&mut keys, "text_config")?, half(&mut keys, "vision_config")?);
        let config = Self {
            text: clip_text::Config::take(&mut text)?,
            vision: VisionConfig::take(&mut vision)?,
            projection_dim: keys.positive("projection_dim", 512)?,
        };
        keys.ignore(&["logit_scale_init_value"]);
        transformer::ignore_bookkeeping(&mut keys);
        for keys in [keys, text, vision] {
            keys.finish()?;
        }
        Ok(config)
    }
}

/// One half's section. Old files carry it twice; as in transformers, `…_config_dict` then replaces the other.
fn half(keys: &mut Keys, name: &str) -> Result<Keys> {
    let section = keys.section(name)?;
    let replacement = keys.section(&format!("{name}_dict"))?;
    Ok(replacement.or(section).unwrap_or_else(|| keys.empty_section(name)))
}

/// The shape of CLIP's image encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    /// The layers.
    pub layers: transformer::Config,
    /// Channels of an image.
    pub num_channels: i64,
    /// Side of an image.
    pub image_size: i64,
    /// Side of a patch.
    pub patch_size: i64,
}

impl VisionConfig {
    fn take(keys: &mut Keys) -> Result<Self> {
        keys.only("model_type", &["clip_vision_model".to_string()])?;
        let config = Self {
            layers: transformer::Config::take(keys, transformer::Config::base(768, 12))?,
            num_channels: keys.positive("num_channels", 3)?,
            image_size: keys.positive("image_size", 224)?,
            patch_size: keys.positive("patch_size", 32)?,
        };
        keys.check(config.patch_size <= config.image_size, "patch_size", || {
            format!("{} is larger than image_size {}", config.patch_size, config.image_size)
        })?;
        keys.ignore(&["projection_dim", "bos_token_id", "eos_token_id", "pad_token_id"]);
        Ok(config)
    }

    /// The class token and one token a patch.
    pub(super) fn tokens(&self) -> i64 {
        (self.image_size / self.patch_size).pow(2) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::config::tests::{assert_refused, written};

    fn read(text: &str) -> Result<Config> {
        Config::read(written(text).path())
    }

    #[test]
    fn an_old_file_with_both_kinds_of_section_is_read_as_transformers_does() {
        let config = read(
            r#"{"architectures": ["CLIPModel"], "initializer_factor": 1.0, "logit_scale_init_value": 2.6592,
                "model_type": "clip", "projection_dim": 768, "torch_dtype": "float32", "transformers_version": null,
                "text_config": {"eos_token_id": 2, "hidden_size": 768, "top_k": 50, "model_type": "clip_text_model"},
                "text_config_dict": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
                    "num_hidden_layers": 12, "projection_dim": 768},
                "vision_config": {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16,
                    "num_hidden_layers": 24, "patch_size": 14, "torchscript": false},
                "vision_config_dict": null}"#,
        )
        .expect("a supported configuration");
        assert_eq!((config.text.layers.hidden_size, config.text.eos_token_id), (768, 49407));
        assert_eq!((config.vision.layers.num_hidden_layers, config.vision.tokens()), (24, 257));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let refused = [
            (r#"{"model_type": "siglip"}"#, "model_type"),
            (r#"{"text_config": {"hidden_act": "relu"}}"#, "text_config.hidden_act"),
            (r#"{"vision_config": {"rotary": true}}"#, "vision_config.rotary"),
            (r#"{"text_config": {"num_attention_heads": 7}}"#, "text_config.num_attention_heads"),
            (r#"{"vision_config": {"patch_size": 300}}"#, "vision_config.patch_size"),
            (r#"{"vision_config": {"image_size": [224, 200]}}"#, "vision_config.image_size"),
            (r#"{"text_config": 3}"#, "text_config"),
            (r#"{"heads": 3}"#, "heads"),
        ];
        assert_refused(read, &refused);
    }
}

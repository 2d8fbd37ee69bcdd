//! The text half of a CLIP config.json.

use std::path::Path;

use crate::error::Result;
use crate::networks::clip_text::transformer;
use crate::networks::config::Keys;

/// The shape of a CLIPTextModel; absent keys have transformers' defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The layers.
    pub layers: transformer::Config,
    /// Rows of the token table.
    pub vocab_size: i64,
    /// The most tokens a prompt can have.
    pub max_position_embeddings: i64,
    /// The end-of-text token; 2 stands for "the highest id".
    pub eos_token_id: i64,
}

impl Config {
    /// Reads and checks a CLIPTextModel's config.json.
    pub fn read(path: &Path) -> Result<Self> {
        let mut keys = Keys::read(path)?;
        let config = Self::take(&mut keys)?;
        keys.finish()?;
        Ok(config)
    }

    pub(in crate::networks) fn take(keys: &mut Keys) -> Result<Self> {
        keys.only("model_type", &["clip_text_model".to_string()])?;
        let config = Self {
            layers: transformer::Config::take(keys, transformer::Config::base(512, 8))?,
            vocab_size: keys.positive("vocab_size", 49408)?,
            max_position_embeddings: keys.positive("max_position_embeddings", 77)?,
            eos_token_id: keys.take("eos_token_id", 49407)?,
        };
        // The projection belongs to CLIPModel, which has its own copy of the key.
        keys.ignore(&["projection_dim", "bos_token_id", "pad_token_id"]);
        Ok(config)
    }
}

//! CLIP's text encoder: Radford et al. 2021, *Learning Transferable Visual Models From Natural Language
//! Supervision*, section 2.4; transformers' CLIPTextModel.
//!
//! Shapes: b batch, n tokens, d features.

mod config;
pub(super) mod transformer;

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::networks::layers::LayerNorm;
use crate::weights::{Placement, Scope, Weights, TRANSFORMERS_STEM};

pub use config::Config;
use transformer::Transformer;
pub use transformer::{Activation, Config as LayersConfig};

/// The end-of-text id in configurations written before transformers 4.31; it differed from the tokenizer's.
const OLD_EOS: i64 = 2;
/// How the name of the token table ends in every layout.
const TOKEN_TABLE: &str = "token_embedding.weight";

/// The token table alone of the CLIPTextModel, CLIPModel or single file at `path`, (vocabulary, d) in f32.
pub fn read_token_table(path: &Path) -> Result<Tensor> {
    let placement = Placement::new(Device::Cpu, Kind::Float);
    let weights = Weights::only(path, TRANSFORMERS_STEM, placement, |name| name.ends_with(TOKEN_TABLE))?;
    let mut found = weights.tensors().filter(|(name, _)| !name.starts_with("conditioner."));
    match found.next() {
        Some((_, table)) => Ok(table.shallow_clone()),
        None => Err(Error::MissingTensor { path: path.to_path_buf(), name: TOKEN_TABLE.into() }),
    }
}

/// A frozen text transformer: token and position embeddings, causal layers, a final normalisation.
#[derive(Debug)]
pub struct TextEncoder {
    config: Config,
    tokens: Tensor,    // (vocabulary, d)
    positions: Tensor, // (max length, d)
    layers: Transformer,
    final_norm: LayerNorm,
}

impl TextEncoder {
    /// Takes the tensors under `scope`, which for a CLIPModel is `text_model`.
    pub(crate) fn from_scope(scope: &Scope<'_>, config: Config) -> Result<Self> {
        let embeddings = scope.sub("embeddings");
        let d = config.layers.hidden_size;
        Ok(Self {
            tokens: embeddings.tensor("token_embedding.weight", &[config.vocab_size, d])?,
            positions: embeddings.tensor("position_embedding.weight", &[config.max_position_embeddings, d])?,
            layers: Transformer::load(&scope.sub("encoder.layers"), &config.layers)?,
            final_norm: LayerNorm::load(&scope.sub("final_layer_norm"), d, config.layers.layer_norm_eps)?,
            config,
        })
    }

    /// The token-embedding table, (vocabulary, d).
    pub fn token_table(&self) -> &Tensor {
        &self.tokens
    }

    /// Rows of the token table, without positions: ids (b, n) → (b, n, d).
    pub fn embed_tokens(&self, ids: &Tensor) -> Tensor {
        Tensor::embedding(&self.tokens, ids, -1, false, false)
    }

    /// transformers' `last_hidden_state`: ids (b, n) → (b, n, d), n at most [`max_length`](Self::max_length).
    pub fn forward(&self, ids: &Tensor) -> Tensor {
        self.forward_embeddings(&self.embed_tokens(ids))
    }

    /// The same from token embeddings, into which learned vectors may have been written: (b, n, d) → (b, n, d).
    pub fn forward_embeddings(&self, token_embeddings: &Tensor) -> Tensor {
        let (_, n, _) = token_embeddings.size3().expect("token embeddings are (b, n, d)");
        let h = token_embeddings + self.positions.narrow(0, 0, n);
        self.final_norm.forward(&self.layers.forward(&h, true))
    }

    /// Where each row's end-of-text token stands, as transformers finds it: ids (b, n) → (b).
    ///
    /// A configuration with the old `eos_token_id` 2 takes the highest id; any other the first `eos_token_id`.
    pub fn eos_positions(&self, ids: &Tensor) -> Tensor {
        if self.config.eos_token_id == OLD_EOS {
            ids.argmax(-1, false)
        } else {
            ids.eq(self.config.eos_token_id).to_kind(Kind::Int).argmax(-1, false)
        }
    }

    /// The most tokens a prompt can have.
    pub fn max_length(&self) -> i64 {
        self.config.max_position_embeddings
    }

    /// Features of a token.
    pub fn hidden_size(&self) -> i64 {
        self.config.layers.hidden_size
    }

    /// What config.json says.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

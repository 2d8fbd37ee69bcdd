//! CLIP's image encoder: Dosovitskiy et al. 2021, *An Image is Worth 16x16 Words*, with a normalisation before the
//! layers; transformers' CLIPVisionModel.

use tch::Tensor;

use super::VisionConfig;
use crate::error::Result;
use crate::networks::clip_text::transformer::Transformer;
use crate::networks::layers::{Conv2d, LayerNorm};
use crate::weights::Scope;

/// Patches, a class token, layers, and the class token's last state.
#[derive(Debug)]
pub(super) struct VisionEncoder {
    patches: Conv2d,
    class: Tensor,     // (d)
    positions: Tensor, // (1 + patches, d)
    pre_norm: LayerNorm,
    layers: Transformer,
    post_norm: LayerNorm,
}

impl VisionEncoder {
    pub(super) fn load(scope: &Scope<'_>, config: &VisionConfig) -> Result<Self> {
        let embeddings = scope.sub("embeddings");
        let (d, eps, side) = (config.layers.hidden_size, config.layers.layer_norm_eps, config.patch_size);
        let patches = embeddings.sub("patch_embedding");
        Ok(Self {
            patches: Conv2d::load_without_bias(&patches, config.num_channels, d, side, side, 0)?,
            class: embeddings.tensor("class_embedding", &[d])?,
            positions: embeddings.tensor("position_embedding.weight", &[config.tokens(), d])?,
            pre_norm: LayerNorm::load(&scope.sub("pre_layrnorm"), d, eps)?, // so spelt in every checkpoint
            layers: Transformer::load(&scope.sub("encoder.layers"), &config.layers)?,
            post_norm: LayerNorm::load(&scope.sub("post_layernorm"), d, eps)?,
        })
    }

    /// transformers' `pooler_output`: (b, 3, s, s) → (b, d)
    pub(super) fn forward(&self, pixel_values: &Tensor) -> Tensor {
        let patches = self.patches.forward(pixel_values).flatten(2, 3).transpose(1, 2); // (b, patches, d)
        let (b, _, d) = patches.size3().expect("patches are (b, n, d)");
        let class = self.class.view([1, 1, d]).expand([b, 1, d], false);
        let h = Tensor::cat(&[class, patches], 1) + &self.positions;
        let h = self.layers.forward(&self.pre_norm.forward(&h), false);
        self.post_norm.forward(&h.select(1, 0))
    }
}

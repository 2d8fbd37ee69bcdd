//! A contrastive term that pulls an emotion's token towards CLIP's images of it and away from the other emotions'.
//!
//! InfoNCE (Radford et al. 2021, fig. 3) over class means. It needs a loss CLIP that shares the tokens' embedding
//! table.

use tch::{Kind, Tensor};

use super::directional::normalise;

/// Cross-entropy of each prompt's embedding (e, p) over the image prototypes (k, p); `targets` (e) names each
/// prompt's own prototype. `temperature` as CLIP's, 0.07 by default there. A scalar.
pub fn alignment(prompts: &Tensor, prototypes: &Tensor, targets: &Tensor, temperature: f64) -> Tensor {
    let logits = normalise(prompts).matmul(&normalise(&prototypes.detach()).tr()) / temperature;
    logits.log_softmax(-1, Kind::Float).nll_loss(targets)
}

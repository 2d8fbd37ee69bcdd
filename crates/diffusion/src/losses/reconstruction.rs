//! `mean |P_t(ε̃) − P_t(ε)|`: the edit stays near the source. Kwon et al. 2023 (Asyrp), eq. 9.

use tch::{Kind, Tensor};

/// Mean absolute difference of the two predicted clean latents, (b, c, h, w) each; a scalar.
pub fn reconstruction(edited: &Tensor, source: &Tensor) -> Tensor {
    (edited - source).abs().mean(Kind::Float)
}

//! The directional CLIP loss: StyleGAN-NADA (Gal et al. 2021), eq. 3, as Asyrp uses it, and the target form.
//!
//! Shapes: b batch, p CLIP's projection.

use schemars::JsonSchema;
use tch::{Kind, Tensor};

/// How far an edit is from the wanted direction.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Directional {
    /// `1 − cos(ΔI, ΔT)`, ΔI from the source photo.
    Linear,
    /// `−log((2 − L) / 2)` of the linear form: what Asyrp's release trains.
    Log,
    /// `1 − cos(E_I(P̃), normalise(E_I(P) + β·ΔT))`: smooth where the edit is still zero, and not moved by the blur
    /// that both sides share.
    Target,
}

impl Directional {
    /// The mean loss over a batch, a scalar.
    ///
    /// `edited` (b, p) embeds the decoded P_t(ε̃); `source` (b, p) the photo for linear and log, the decoded P_t(ε)
    /// for target; `direction` (p) is ΔT, of length 1. Gradient flows through `edited` alone.
    pub fn loss(self, edited: &Tensor, source: &Tensor, direction: &Tensor, beta: f64) -> Tensor {
        let source = normalise(&source.detach());
        match self {
            Directional::Linear => linear(edited, &source, direction),
            Directional::Log => -((2f64 - linear(edited, &source, direction)) / 2.0).log(),
            Directional::Target => {
                let goal = normalise(&(source + beta * direction.detach()));
                1f64 - cosine(&normalise(edited), &goal).mean(Kind::Float)
            }
        }
    }
}

fn linear(edited: &Tensor, source: &Tensor, direction: &Tensor) -> Tensor {
    let change = normalise(&(normalise(edited) - source));
    1f64 - cosine(&change, &direction.detach()).mean(Kind::Float)
}

/// Rows scaled to length 1, (…, p).
pub fn normalise(x: &Tensor) -> Tensor {
    let x = x.to_kind(Kind::Float);
    let length = x.square().sum_dim_intlist([-1].as_slice(), true, Kind::Float).clamp_min(1e-24).sqrt();
    x / length
}

/// Row-wise cosine of vectors that already have length 1, (b).
pub fn cosine(a: &Tensor, b: &Tensor) -> Tensor {
    (a * b).sum_dim_intlist([-1].as_slice(), false, Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::normal;

    #[test]
    fn an_edit_along_the_direction_costs_nothing() {
        let (source, direction) = (normalise(&normal(0, "s", 0, &[3, 8])), normalise(&normal(0, "d", 0, &[8])));
        let edited = normalise(&(&source + &direction));
        let target = Directional::Target.loss(&edited, &source, &direction, 1.0);
        assert!(target.double_value(&[]).abs() < 1e-6);
    }

    #[test]
    fn the_log_form_is_zero_where_the_linear_form_is() {
        let direction = normalise(&normal(0, "d", 0, &[8]));
        let source = Tensor::zeros([1, 8], (Kind::Float, tch::Device::Cpu));
        for form in [Directional::Linear, Directional::Log] {
            let loss = form.loss(&direction.unsqueeze(0), &source, &direction, 1.0);
            assert!(loss.double_value(&[]).abs() < 1e-5, "{form:?}");
        }
    }

    #[test]
    fn every_sample_of_the_batch_counts() {
        // The released Asyrp compares the whole batch with its last image.
        let (source, direction) = (normal(0, "s", 0, &[4, 8]), normalise(&normal(0, "d", 0, &[8])));
        let edited = normal(1, "s", 0, &[4, 8]).set_requires_grad(true);
        let loss = Directional::Linear.loss(&edited, &source, &direction, 1.0);
        let gradient = Tensor::run_backward(&[loss], &[&edited], false, false).remove(0);
        let rows = gradient.abs().sum_dim_intlist([1].as_slice(), false, Kind::Float);
        assert!(rows.min().double_value(&[]) > 0.0);
    }
}

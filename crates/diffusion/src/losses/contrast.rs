//! Contrast over emotions on the image side: which emotion's direction the edit's change resembles most.
//!
//! The cross-entropy of InfoNCE (van den Oord et al. 2018, eq. 4) with an edit's change in CLIP's space (StyleGAN-NADA,
//! Gal et al. 2021, sec. 4.1) as the query and every emotion's direction as a key. What all directions share, which is
//! to look like any emotion at all, counts for nothing.
//!
//! Shapes: b batch, k emotions, p CLIP's projection.

use tch::{Kind, Tensor};

use super::directional::normalise;

/// `−log( e^{cos(ΔI, ΔT_target)/τ} / Σ_j e^{cos(ΔI, ΔT_j)/τ} )`, the mean over a batch; a scalar.
///
/// ΔI goes from `source` to `edited` (b, p), embeddings of P_t or of photos; `directions` (k, p) have length 1, and
/// row `target` is the wanted one. Gradient flows through `edited` alone.
pub fn contrast(edited: &Tensor, source: &Tensor, directions: &Tensor, target: i64, temperature: f64) -> Tensor {
    let change = normalise(&(normalise(edited) - normalise(&source.detach())));
    let logits = change.matmul(&directions.detach().tr()) / temperature; // (b, k)
    -logits.log_softmax(-1, Kind::Float).select(1, target).mean(Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::normal;

    #[test]
    fn what_all_directions_share_counts_for_nothing() {
        // Along what all three share, an edit is as near to each: log 3, whatever the temperature.
        let own = Tensor::eye(3, (Kind::Float, tch::Device::Cpu));
        let directions = normalise(&Tensor::cat(&[&own, &Tensor::ones([3, 1], (Kind::Float, tch::Device::Cpu))], 1));
        let source = Tensor::zeros([1, 4], (Kind::Float, tch::Device::Cpu));
        let edited = Tensor::from_slice(&[0f32, 0.0, 0.0, 1.0]).unsqueeze(0);
        let loss = contrast(&edited, &source, &directions, 1, 0.1).double_value(&[]);
        assert!((loss - 3f64.ln()).abs() < 1e-5, "{loss}");
    }

    #[test]
    fn the_nearest_direction_costs_least() {
        let (source, directions) = (normal(0, "s", 0, &[2, 8]), normalise(&normal(0, "d", 0, &[4, 8])));
        let edited = normalise(&source) + directions.get(2).unsqueeze(0) * 0.1;
        let losses: Vec<f64> =
            (0..4).map(|k| contrast(&edited, &source, &directions, k, 0.1).double_value(&[])).collect();
        assert!(losses.iter().enumerate().all(|(k, loss)| k == 2 || *loss > losses[2]), "{losses:?}");
    }
}

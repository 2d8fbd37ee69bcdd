//! `E‖ε − UNet(z_t, t, c)‖²` on images of the emotion: textual inversion, Gal et al. 2022, eq. 2, against whatever the
//! network is trained to predict, with the min-SNR weight of Hang et al. 2023, eq. 7, as an option.

use tch::{Kind, Tensor};

use crate::process::schedule::Prediction;

/// Mean squared error between the network's output and what it is trained to say (b, c, h, w); a scalar.
///
/// With `min_snr_gamma`, each sample is weighted by its SNR = ᾱ / (1 − ᾱ) at `alpha_bar` (b, 1, 1, 1): `min(SNR, γ)`
/// where x₀ is predicted, over SNR for ε and over SNR + 1 for v, as diffusers weights its training. All are finite at
/// ᾱ = 0.
pub fn denoising(
    prediction: Prediction, output: &Tensor, target: &Tensor, alpha_bar: &Tensor, min_snr_gamma: Option<f64>,
) -> Tensor {
    let errors = (output - target).square().mean_dim([1, 2, 3].as_slice(), false, Kind::Float); // (b)
    let Some(gamma) = min_snr_gamma else { return errors.mean(Kind::Float) };
    let snr = (alpha_bar / (1f64 - alpha_bar)).view([-1]);
    let weight: Tensor = match prediction {
        // min(SNR, γ)/SNR, which is 1 wherever SNR is below γ.
        Prediction::Epsilon => (gamma / snr).clamp_max(1.0),
        Prediction::VPrediction => snr.clamp_max(gamma) / (snr + 1.0),
        Prediction::Sample => snr.clamp_max(gamma),
    };
    (errors * weight).mean(Kind::Float)
}

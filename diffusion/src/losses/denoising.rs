//! `E‖ε − UNet(z_t, t, c)‖²` on images of the emotion: textual inversion, Gal et al. 2022, eq. 2, with the min-SNR
//! weight of Hang et al. 2023, eq. 7, as an option.

use tch::{Kind, Tensor};

/// Mean squared error between the true and the predicted noise (b, c, h, w); a scalar.
///
/// With `min_snr_gamma`, each sample is weighted by `min(SNR, γ) / SNR`, SNR = ᾱ / (1 − ᾱ) of its `alpha_bar`
/// (b, 1, 1, 1).
pub fn denoising(predicted: &Tensor, noise: &Tensor, alpha_bar: &Tensor, min_snr_gamma: Option<f64>) -> Tensor {
    let errors = (predicted - noise).square().mean_dim([1, 2, 3].as_slice(), false, Kind::Float); // (b)
    let Some(gamma) = min_snr_gamma else { return errors.mean(Kind::Float) };
    let snr = (alpha_bar / (1f64 - alpha_bar)).view([-1]);
    (errors * snr.clamp_max(gamma) / &snr).mean(Kind::Float)
}

//! SSIM: Wang et al., *Image Quality Assessment: From Error Visibility to Structural Similarity* (2004).
//!
//! As scikit-image computes it with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1,
//! channel_axis=2`: an 11×11 gaussian window, each channel alone, and the mean over the windows that lie inside.

use tch::{Kind, Tensor};

use super::{numbers, About, Better, Metric, Pair};

const SIGMA: f64 = 1.5;
const RADIUS: i64 = 5;
const C1: f64 = 0.01 * 0.01;
const C2: f64 = 0.03 * 0.03;

/// Structural similarity on RGB.
#[derive(Debug)]
pub struct Ssim;

impl Metric for Ssim {
    fn about(&self) -> About {
        About {
            key: "ssim",
            title: "SSIM",
            definition:
                "Structural similarity of edit and source (Wang et al. 2004): gaussian 11×11 window, σ 1.5, RGB, \
                         data range 1, population covariance.",
            better: Better::Higher,
            unit: "",
            decimals: 3,
            percent: false,
        }
    }

    fn values(&self, pair: &Pair<'_>) -> Vec<f64> {
        ssim(&pair.edit.images, &pair.source.images)
    }
}

/// One value an image of two (b, 3, h, w) batches in [0, 1], sides of at least 11 pixels.
pub fn ssim(a: &Tensor, b: &Tensor) -> Vec<f64> {
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    let (mean_a, mean_b) = (window_mean(&a), window_mean(&b));
    let variance_a = window_mean(&a.square()) - mean_a.square();
    let variance_b = window_mean(&b.square()) - mean_b.square();
    let covariance = window_mean(&(&a * &b)) - &mean_a * &mean_b;
    let luminance = (&mean_a * &mean_b * 2.0 + C1) / (mean_a.square() + mean_b.square() + C1);
    let structure = (covariance * 2.0 + C2) / (variance_a + variance_b + C2);
    numbers(&(luminance * structure).mean_dim([1i64, 2, 3].as_slice(), false, Kind::Double))
}

/// The gaussian-weighted mean around each pixel whose window lies inside: (b, 3, h, w) → (b, 3, h − 10, w − 10)
fn window_mean(images: &Tensor) -> Tensor {
    let weights: Vec<f64> = (-RADIUS..=RADIUS).map(|x| (-0.5 * (x as f64 / SIGMA).powi(2)).exp()).collect();
    let weights = Tensor::from_slice(&weights).to_device(images.device());
    let weights = &weights / weights.sum(Kind::Double);
    let (side, channels) = (2 * RADIUS + 1, images.size()[1]);
    let down = weights.view([1, 1, side, 1]).expand([channels, 1, side, 1], false);
    let across = weights.view([1, 1, 1, side]).expand([channels, 1, 1, side], false);
    let convolve = |x: &Tensor, kernel: &Tensor| x.conv2d(kernel, None::<Tensor>, [1, 1], [0, 0], [1, 1], channels);
    convolve(&convolve(images, &down), &across)
}

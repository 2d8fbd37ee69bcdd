//! SSIM: Wang et al., *Image Quality Assessment: From Error Visibility to Structural Similarity* (2004).
//!
//! As scikit-image computes it with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1,
//! channel_axis=2`: an 11×11 gaussian window, each channel alone, and the mean over the windows that lie inside.
//!
//! It is computed in f32, one image at a time. The five maps of three channels that the windows average are the
//! channels of one depthwise convolution, innermost in memory, for which oneDNN has its fastest kernels.

use tch::{Device, Kind, Tensor};

use super::{numbers, About, Better, Family, Metric, Pair};

const SIGMA: f64 = 1.5;
const RADIUS: i64 = 5;
const C1: f64 = 0.01 * 0.01;
const C2: f64 = 0.03 * 0.03;
const CHANNELS: i64 = 3;
/// a, b, a², b² and a·b, of three channels each.
const MAPS: i64 = 5 * CHANNELS;
/// The middle of the range.
const CENTRE: f64 = 0.5;

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
            family: Family::Headline,
        }
    }

    fn values(&self, pair: &Pair<'_>) -> Vec<f64> {
        ssim(&pair.edit.images, &pair.source.images)
    }
}

/// One value for each image of two (b, 3, h, w) batches in [0, 1], with sides of at least 11 pixels.
pub fn ssim(a: &Tensor, b: &Tensor) -> Vec<f64> {
    let (down, across) = kernels(a.device());
    let one = |n: i64| of_one(&a.narrow(0, n, 1), &b.narrow(0, n, 1), &down, &across);
    numbers(&Tensor::cat(&(0..a.size()[0]).map(one).collect::<Vec<_>>(), 0))
}

/// (1, 3, h, w) and (1, 3, h, w) → (1)
fn of_one(a: &Tensor, b: &Tensor, down: &Tensor, across: &Tensor) -> Tensor {
    // Squares lose the least precision around zero; afterwards only the means must be shifted back.
    let centred = |x: &Tensor| (x.to_kind(Kind::Float) - CENTRE).permute([0, 2, 3, 1]); // (1, h, w, 3)
    let (a, b) = (centred(a), centred(b));
    let maps = Tensor::cat(&[&a, &b, &a.square(), &b.square(), &(&a * &b)], 3).permute([0, 3, 1, 2]);
    let convolve = |x: &Tensor, kernel: &Tensor| x.conv2d(kernel, None::<Tensor>, [1, 1], [0, 0], [1, 1], MAPS);
    let means = convolve(&convolve(&maps, down), across).chunk(MAPS / CHANNELS, 1); // 5 × (1, 3, h − 10, w − 10)
    let [mean_a, mean_b, square_a, square_b, product] = &means[..] else { unreachable!("fifteen maps in fives") };
    let structure =
        ((product - mean_a * mean_b) * 2.0 + C2) / ((square_a - mean_a.square()) + (square_b - mean_b.square()) + C2);
    let (mean_a, mean_b) = (mean_a + CENTRE, mean_b + CENTRE);
    let luminance = (&mean_a * &mean_b * 2.0 + C1) / (mean_a.square() + mean_b.square() + C1);
    (luminance * structure).mean_dim([1i64, 2, 3].as_slice(), false, Kind::Double)
}

/// The gaussian along each axis, one for each map: (15, 1, 11, 1) and (15, 1, 1, 11).
fn kernels(device: Device) -> (Tensor, Tensor) {
    let weights: Vec<f64> = (-RADIUS..=RADIUS).map(|x| (-0.5 * (x as f64 / SIGMA).powi(2)).exp()).collect();
    let total: f64 = weights.iter().sum();
    let weights: Vec<f32> = weights.iter().map(|w| (w / total) as f32).collect();
    let side = 2 * RADIUS + 1;
    let weights = Tensor::from_slice(&weights).to_device(device);
    let along = |shape: [i64; 4]| weights.view(shape).expand([MAPS, 1, shape[2], shape[3]], false).contiguous();
    (along([1, 1, side, 1]), along([1, 1, 1, side]))
}

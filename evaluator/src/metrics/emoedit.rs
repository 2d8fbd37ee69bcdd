//! EmoEdit's own arithmetic, for comparison with its published table: Yang et al., *EmoEdit: Evoking Emotions through
//! Image Manipulation* (CVPR 2025), as its evaluation code computes it, even where it departs from the usual
//! definitions.
//!
//! Both pictures are first resized to 512 × 512 with Pillow's bicubic filter. Their code crops the source but
//! squashes the edit, so that photos that are not square no longer line up; here the edit is made from the crop.

use std::rc::Rc;

use diffusion::images;
use diffusion::networks::lpips::Lpips;
use emotions::Emotion;
use tch::{no_grad, Kind, Tensor};

use super::{numbers, About, Better, Family, Metric, Observed, Pair};

/// The side of the resized pictures.
const SIDE: u32 = 512;
/// scikit-image's default window.
const WINDOW: i64 = 7;
const C1: f64 = 0.01 * 255.0 * 0.01 * 255.0;
const C2: f64 = 0.03 * 255.0 * 0.03 * 255.0;

/// The columns in the order of the report.
pub fn all(lpips: &Rc<Lpips>) -> Vec<Box<dyn Metric>> {
    let names = [Name::Polarity, Name::Lpips, Name::Psnr, Name::Ssim, Name::Mse];
    names.map(|name| Box::new(Column { name, lpips: lpips.clone() }) as Box<dyn Metric>).into()
}

#[derive(Clone, Copy, Debug)]
enum Name {
    Polarity,
    Lpips,
    Psnr,
    Ssim,
    Mse,
}

/// One of its numbers.
#[derive(Debug)]
struct Column {
    name: Name,
    lpips: Rc<Lpips>,
}

impl Metric for Column {
    fn about(&self) -> About {
        let about = |key, title, definition, better| About {
            key,
            title,
            definition,
            better,
            unit: "",
            decimals: 3,
            percent: false,
            family: Family::EmoEdit,
        };
        match self.name {
            Name::Polarity => About {
                unit: "%",
                decimals: 1,
                percent: true,
                ..about(
                    "emoedit_emo_a_polarity",
                    "Emo-A ± (EmoEdit)",
                    "Whether the sum of the probabilities of the target's half exceeds the other half's.",
                    Better::Higher,
                )
            },
            Name::Lpips => about(
                "emoedit_lpips",
                "LPIPS (EmoEdit)",
                "LPIPS (AlexNet, v0.1) at 512 × 512, fed with images in [0, 1] where it expects [−1, 1].",
                Better::Lower,
            ),
            Name::Psnr => About {
                unit: "dB",
                decimals: 2,
                ..about(
                    "emoedit_psnr",
                    "PSNR (EmoEdit)",
                    "PSNR at 512 × 512; the data range is the source's largest minus its smallest value.",
                    Better::Higher,
                )
            },
            Name::Ssim => about(
                "emoedit_ssim",
                "SSIM (EmoEdit)",
                "SSIM at 512 × 512 with a flat 7 × 7 window and the sample covariance (scikit-image's defaults).",
                Better::Higher,
            ),
            Name::Mse => About {
                decimals: 1,
                ..about(
                    "emoedit_mse",
                    "MSE (EmoEdit)",
                    "Mean squared difference at 512 × 512 in 8-bit arithmetic, which wraps at 256, as do the squares.",
                    Better::Lower,
                )
            },
        }
    }

    fn values(&self, pair: &Pair<'_>) -> Vec<f64> {
        if let Name::Polarity = self.name {
            return polarity(pair.edit, pair.targets);
        }
        let canvas = |seen: &Observed| seen.kept("emoedit", || vec![canvas(&seen.images)]);
        let (edit, source) = (&canvas(pair.edit)[0], &canvas(pair.source)[0]);
        match self.name {
            Name::Polarity | Name::Lpips => {
                numbers(&no_grad(|| self.lpips.distance(&(edit / 255.0), &(source / 255.0))))
            }
            Name::Psnr => psnr(edit, source),
            Name::Ssim => ssim(edit, source),
            Name::Mse => wrapped_mse(edit, source),
        }
    }
}

/// Pictures (b, 3, h, w) in [0, 1] at 512 × 512, as whole numbers 0 to 255 in f32.
fn canvas(pictures: &Tensor) -> Tensor {
    let one = |n: i64| {
        let picture = images::from_tensor(&(pictures.narrow(0, n, 1) * 2.0 - 1.0)).expect("invariant: (1, 3, h, w)");
        let resized = match picture.dimensions() {
            (SIDE, SIDE) => picture,
            _ => images::bicubic(&picture, SIDE, SIDE),
        };
        ((images::to_tensor(&resized) + 1.0) * 127.5).round()
    };
    Tensor::cat(&(0..pictures.size()[0]).map(one).collect::<Vec<_>>(), 0).to_device(pictures.device())
}

fn polarity(edit: &Observed, targets: &[Emotion]) -> Vec<f64> {
    let positive: Vec<Emotion> = Emotion::ALL.into_iter().filter(|e| e.is_positive()).collect();
    let share = |row: usize| -> f64 {
        positive.iter().map(|e| edit.probabilities.double_value(&[row as i64, e.index() as i64])).sum()
    };
    let agrees = |(row, target): (usize, &Emotion)| f64::from((share(row) > 0.5) == target.is_positive());
    targets.iter().enumerate().map(agrees).collect()
}

fn psnr(edit: &Tensor, source: &Tensor) -> Vec<f64> {
    let axes = [1i64, 2, 3];
    let mse = (edit.to_kind(Kind::Double) - source.to_kind(Kind::Double)).square();
    let mse = mse.mean_dim(axes.as_slice(), false, Kind::Double);
    let range = (source.amax(axes.as_slice(), false) - source.amin(axes.as_slice(), false)).to_kind(Kind::Double);
    numbers(&((range.square() / mse).log10() * 10.0))
}

/// scikit-image's `structural_similarity(a, b, channel_axis=2)` of 8-bit pictures.
fn ssim(edit: &Tensor, source: &Tensor) -> Vec<f64> {
    let (a, b) = (edit.to_kind(Kind::Double), source.to_kind(Kind::Double));
    let mean = |x: &Tensor| x.avg_pool2d([WINDOW; 2], [1, 1], [0, 0], false, true, None);
    let unbiased = (WINDOW * WINDOW) as f64 / (WINDOW * WINDOW - 1) as f64;
    let (mean_a, mean_b) = (mean(&a), mean(&b));
    let variance_a = (mean(&a.square()) - mean_a.square()) * unbiased;
    let variance_b = (mean(&b.square()) - mean_b.square()) * unbiased;
    let covariance = (mean(&(&a * &b)) - &mean_a * &mean_b) * unbiased;
    let luminance = (&mean_a * &mean_b * 2.0 + C1) / (mean_a.square() + mean_b.square() + C1);
    let structure = (covariance * 2.0 + C2) / (variance_a + variance_b + C2);
    numbers(&(luminance * structure).mean_dim([1i64, 2, 3].as_slice(), false, Kind::Double))
}

fn wrapped_mse(edit: &Tensor, source: &Tensor) -> Vec<f64> {
    let square = (edit - source).remainder(256.0).square().remainder(256.0);
    numbers(&square.mean_dim([1i64, 2, 3].as_slice(), false, Kind::Double))
}

//! PSNR: peak signal-to-noise ratio in decibels.

use tch::{Kind, Tensor};

use super::{numbers, About, Better, Metric, Pair};

/// −10·log10(mean squared error), data range 1, over all pixels and channels of an image.
#[derive(Debug)]
pub struct Psnr;

impl Metric for Psnr {
    fn about(&self) -> About {
        About {
            key: "psnr",
            title: "PSNR",
            definition: "−10·log10 of the mean squared error of edit and source on 8-bit RGB, data range 1; infinite \
                         where they are equal.",
            better: Better::Higher,
            unit: "dB",
            decimals: 2,
            percent: false,
        }
    }

    fn values(&self, pair: &Pair<'_>) -> Vec<f64> {
        psnr(&pair.edit.images, &pair.source.images)
    }
}

/// One value an image of two (b, 3, h, w) batches in [0, 1]; infinity where they are equal.
pub fn psnr(a: &Tensor, b: &Tensor) -> Vec<f64> {
    let difference = a.to_kind(Kind::Double) - b.to_kind(Kind::Double);
    let mse = difference.square().mean_dim([1i64, 2, 3].as_slice(), false, Kind::Double); // (b)
    numbers(&(mse.log10() * -10.0))
}

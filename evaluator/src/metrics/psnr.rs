//! PSNR: peak signal-to-noise ratio in decibels.

use tch::{Kind, Tensor};

use super::{numbers, About, Better, Family, Metric, Pair};

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
            family: Family::Headline,
        }
    }

    fn values(&self, pair: &Pair<'_>) -> Vec<f64> {
        psnr(&pair.edit.images, &pair.source.images)
    }
}

/// One value for each image of two (b, 3, h, w) batches in [0, 1]; infinity if they are equal.
pub fn psnr(a: &Tensor, b: &Tensor) -> Vec<f64> {
    // One image at a time stays in the cache.
    let one = |n: i64| {
        let difference = (a.narrow(0, n, 1) - b.narrow(0, n, 1)).flatten(0, -1);
        (difference.dot(&difference).to_kind(Kind::Double) / difference.numel() as f64).view([1])
    };
    let mse = Tensor::cat(&(0..a.size()[0]).map(one).collect::<Vec<_>>(), 0); // (b)
    numbers(&(mse.log10() * -10.0))
}

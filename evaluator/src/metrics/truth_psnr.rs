//! Truth PSNR (ours): the edit against the true picture of the same subject in the target's state.

use super::psnr::psnr;
use super::{About, Better, Family, Metric, Pair};

/// PSNR of edit and truth, over the whole picture.
#[derive(Debug)]
pub struct TruthPsnr;

impl Metric for TruthPsnr {
    fn about(&self) -> About {
        About {
            key: "truth_psnr",
            title: "Truth PSNR",
            definition: "PSNR of the edit against the true picture of the same subject that is nearest to it in LPIPS, \
                         over the whole picture; infinite where they are equal. Left out where there is no true picture, or \
                         where it is the source.",
            better: Better::Higher,
            unit: "dB",
            decimals: 2,
            percent: false,
            family: Family::Headline,
        }
    }

    fn values(&self, pair: &Pair<'_>) -> Vec<f64> {
        let Some(truth) = pair.truth else { return vec![f64::NAN; pair.targets.len()] };
        let values = psnr(&pair.edit.images, &truth.images);
        values
            .into_iter()
            .enumerate()
            .map(|(row, value)| if truth.is_defined(row) { value } else { f64::NAN })
            .collect()
    }
}

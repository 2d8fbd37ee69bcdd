//! Change outside the expression region (ours): an edit of an expression should leave the rest alone. The region is
//! where the true picture of the same subject in the target's state differs from the source.
//!
//! Shapes: b batch, h height, w width.

use tch::{Kind, Tensor};

use super::{numbers, About, Better, Family, Metric, Pair};

/// A pixel belongs to the region if a channel differs by more levels of 255 than this.
const LEVELS: f64 = 8.0;
/// How far the region is widened, as a share of the picture's shorter side.
const REACH: f64 = 0.04;

/// Mean change outside the region divided by that inside.
#[derive(Debug)]
pub struct ChangeOutside;

impl Metric for ChangeOutside {
    fn about(&self) -> About {
        About {
            key: "change_outside",
            title: "Change outside",
            definition: "Mean |edit − source| outside the expression region, over the same inside. The region: pixels \
                         where the true picture and the source differ by more than 8/255 in any channel, dilated by \
                         4 % of the side. Left out where there is no true picture, no pixel on one side of the region's \
                         border, or no change inside.",
            better: Better::Lower,
            unit: "",
            decimals: 3,
            percent: false,
            family: Family::Headline,
        }
    }

    fn values(&self, pair: &Pair<'_>) -> Vec<f64> {
        let Some(truth) = pair.truth else { return vec![f64::NAN; pair.targets.len()] };
        let region = expression_region(&pair.source.images, &truth.images);
        let values = change_outside(&pair.source.images, &pair.edit.images, &region);
        values
            .into_iter()
            .enumerate()
            .map(|(row, value)| if truth.is_defined(row) { value } else { f64::NAN })
            .collect()
    }
}

/// 1 where the pictures (b, 3, h, w) in [0, 1], of 8 bits a channel, differ in expression, else 0: (b, 1, h, w).
pub fn expression_region(source: &Tensor, truth: &Tensor) -> Tensor {
    let (height, width) = (source.size()[2], source.size()[3]);
    // Whole levels: 8/255 has no exact f32.
    let levels = ((truth - source) * 255.0).round().abs().amax([1i64].as_slice(), true);
    let differs = levels.gt(LEVELS).to_kind(Kind::Float);
    let reach = (REACH * height.min(width) as f64).round() as i64;
    differs.max_pool2d([2 * reach + 1; 2], [1, 1], [reach; 2], [1, 1], false)
}

/// Mean |edit − source| over the pixels outside `region` (b, 1, h, w) and all channels, divided by the same inside;
/// NaN if either has no pixel, or nothing changed inside.
pub fn change_outside(source: &Tensor, edit: &Tensor, region: &Tensor) -> Vec<f64> {
    let change = (edit - source).abs().to_kind(Kind::Double).mean_dim([1i64].as_slice(), true, Kind::Double);
    let inside = region.to_kind(Kind::Double);
    let mean = |mask: &Tensor| {
        let sum = |x: &Tensor| x.sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Double);
        numbers(&(sum(&(&change * mask)) / sum(mask)))
    };
    let outside = mean(&(1.0 - &inside));
    let ratio = |(outside, inside): (f64, f64)| if inside > 0.0 { outside / inside } else { f64::NAN };
    outside.into_iter().zip(mean(&inside)).map(ratio).collect()
}

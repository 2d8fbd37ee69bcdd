//! Bicubic upsampling of some rows at a time: a photo of 100 megapixels is never held in memory as floats.
//!
//! Shapes: (1, c, h, w) small, (H, W) full.

use std::ops::Range;

use tch::{Kind, Tensor};

/// A small picture at a larger size, as torch's `upsample_bicubic2d` without `align_corners` makes it (Keys 1981, a =
/// −0.75). Its width is scaled at once, its rows when they are asked for.
pub struct Upsampled {
    wide: Tensor, // (1, c, h, W)
    height: i64,
}

impl Upsampled {
    /// `small` (1, c, h, w) at `width` × `height`.
    pub fn new(small: &Tensor, width: i64, height: i64) -> Self {
        let rows = small.size()[2];
        Self { wide: small.upsample_bicubic2d([rows, width], false, None, None), height }
    }

    /// (1, c, rows, W)
    pub fn rows(&self, rows: Range<i64>) -> Tensor {
        let from = self.wide.size()[2];
        let scale = from as f64 / self.height as f64;
        let device = self.wide.device();
        let centre = (Tensor::arange_start(rows.start, rows.end, (Kind::Double, device)) + 0.5) * scale - 0.5;
        let first = centre.floor();
        let beyond = &centre - &first; // distance of the second of four taps
        let tap = |k: i64| {
            let index = (&first + (k - 1)).clamp(0.0, (from - 1) as f64).to_kind(Kind::Int64);
            let weight = keys(&(&beyond - (k - 1) as f64).abs()).to_kind(self.wide.kind());
            self.wide.index_select(2, &index) * weight.view([1, 1, -1, 1])
        };
        tap(0) + tap(1) + tap(2) + tap(3)
    }
}

/// Keys' cubic convolution kernel with a = −0.75, at distances from 0 to 2.
fn keys(distance: &Tensor) -> Tensor {
    const A: f64 = -0.75;
    let near = ((distance * (A + 2.0) - (A + 3.0)) * distance * distance) + 1.0;
    let far = ((distance * A - 5.0 * A) * distance + 8.0 * A) * distance - 4.0 * A;
    near.where_self(&distance.le(1.0), &far)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::normal;

    #[test]
    fn rows_are_those_of_torch() {
        for (height, full_width, full_height) in [(9, 40, 31), (9, 20, 9), (9, 7, 4), (1, 5, 3)] {
            let small = normal(0, "small", 0, &[1, 3, height, 12]);
            let expected = small.upsample_bicubic2d([full_height, full_width], false, None, None);
            let upsampled = Upsampled::new(&small, full_width, full_height);
            for rows in [0..full_height, 0..1, full_height / 2..full_height] {
                let found = upsampled.rows(rows.clone());
                let expected = expected.narrow(2, rows.start, rows.end - rows.start);
                let difference = (found - expected).abs().max().double_value(&[]);
                assert!(difference < 1e-5, "{height} to {full_height}, {rows:?}: {difference}");
            }
        }
    }
}

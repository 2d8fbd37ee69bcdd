//! What the metrics that ask for the truth look at: the true picture that is nearest to each edit.
//!
//! Shapes: b batch, h height, w width.

use image::RgbImage;
use tch::{Device, Tensor};

/// For each edit of a batch, the true picture that is nearest to it.
#[derive(Debug)]
pub struct NearestTruth {
    /// The true pictures in [0, 1]; where there is none, any.
    pub images: Tensor, // (b, 3, h, w)
    /// LPIPS to the edit; NaN where there is none.
    pub from_edit: Vec<f64>,
    /// LPIPS to the source; NaN where there is none.
    pub from_source: Vec<f64>,
    /// How many true pictures there were.
    pub drawings: Vec<usize>,
    /// Which one it was, among the batch's; none where there is none.
    pub chosen: Vec<Option<usize>>,
}

impl NearestTruth {
    /// Whether an edit can be held against it: there is one, and it is not the source.
    pub fn is_defined(&self, row: usize) -> bool {
        self.from_source[row] > 0.0
    }

    /// The true picture of one edit, as it lies in the data set.
    pub fn picture(&self, row: usize) -> Option<RgbImage> {
        self.chosen[row]?;
        let image = self.images.narrow(0, row as i64, 1).to_device(Device::Cpu) * 2.0 - 1.0;
        diffusion::images::from_tensor(&image).ok()
    }
}

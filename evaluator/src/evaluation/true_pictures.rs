//! The true pictures that a data set of pairs holds for a batch's sources.

use image::RgbImage;

/// The true pictures of a batch's sources in one emotion.
#[derive(Debug, Default)]
pub struct TruePictures {
    /// Each with the row of its source in the batch, ascending.
    pub pictures: Vec<(usize, RgbImage)>,
}

impl TruePictures {
    /// A source's first true picture.
    pub fn first_of(&self, row: usize) -> Option<&RgbImage> {
        self.pictures.iter().find(|(owner, _)| *owner == row).map(|(_, picture)| picture)
    }
}

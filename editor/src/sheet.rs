//! Several pictures on one sheet: the photo beside its edit, a strip of strengths.

use diffusion::images;
use image::{imageops, Rgb, RgbImage};

use crate::label;

const WHITE: Rgb<u8> = Rgb([255, 255, 255]);
/// The largest height of a strip's pictures.
const MAX_STRIP_HEIGHT: u32 = 512;

/// The photo, and the edit of the same size to its right.
pub fn side_by_side(photo: &RgbImage, edit: &RgbImage) -> RgbImage {
    let mut sheet = RgbImage::from_pixel(photo.width() + edit.width(), photo.height().max(edit.height()), WHITE);
    imageops::replace(&mut sheet, photo, 0, 0);
    imageops::replace(&mut sheet, edit, i64::from(photo.width()), 0);
    sheet
}

/// Pictures from left to right, each above its strength. They are scaled at once, so that little is kept in memory.
#[derive(Default)]
pub struct Strip {
    panels: Vec<(Option<f64>, RgbImage)>,
}

impl Strip {
    /// The next picture to the right; without a strength, the photo itself.
    pub fn add(&mut self, strength: Option<f64>, picture: &RgbImage) -> diffusion::Result<()> {
        self.panels.push((strength, shown(picture)?));
        Ok(())
    }

    /// All of them.
    pub fn sheet(&self) -> RgbImage {
        let (width, height) = self.panels.first().map_or((1, 1), |(_, panel)| panel.dimensions());
        let scale = (height / 64).max(1);
        let size = (width * self.panels.len() as u32, height + label::height(scale));
        let mut sheet = RgbImage::from_pixel(size.0, size.1, WHITE);
        for (i, (strength, panel)) in self.panels.iter().enumerate() {
            let left = i as u32 * width;
            imageops::replace(&mut sheet, panel, i64::from(left), 0);
            if let Some(strength) = strength {
                label::draw(&mut sheet, &strength.to_string(), (left, height), width, scale);
            }
        }
        sheet
    }
}

fn shown(picture: &RgbImage) -> diffusion::Result<RgbImage> {
    if picture.height() <= MAX_STRIP_HEIGHT {
        return Ok(picture.clone());
    }
    let width = u64::from(picture.width()) * u64::from(MAX_STRIP_HEIGHT) / u64::from(picture.height());
    images::resize(picture, (width as u32).max(1), MAX_STRIP_HEIGHT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_stand_in_order_above_their_labels() {
        let colours = [[1, 2, 3], [4, 5, 6], [7, 8, 9]];
        let [photo, a, b] = colours.map(|c| RgbImage::from_pixel(40, 20, Rgb(c)));
        let mut strip = Strip::default();
        for (strength, picture) in [(None, &photo), (Some(0.5), &a), (Some(1.0), &b)] {
            strip.add(strength, picture).expect("a panel");
        }
        let sheet = strip.sheet();
        assert_eq!(sheet.dimensions(), (120, 20 + label::height(1)));
        assert_eq!([5, 45, 85].map(|x| sheet.get_pixel(x, 10).0), colours);
        let ink =
            |from: u32, to: u32| (from..to).any(|x| (20..sheet.height()).any(|y| sheet.get_pixel(x, y).0 == [0; 3]));
        assert_eq!([ink(0, 40), ink(40, 80), ink(80, 120)], [false, true, true]);
        let pair = side_by_side(&photo, &a);
        assert_eq!(
            (pair.dimensions(), pair.get_pixel(39, 0).0, pair.get_pixel(40, 0).0),
            ((80, 20), [1, 2, 3], [4, 5, 6])
        );
    }

    #[test]
    fn large_photos_are_shown_smaller() {
        let photo = RgbImage::new(1000, 1024);
        let mut strip = Strip::default();
        strip.add(Some(1.0), &photo).expect("a panel");
        assert_eq!(strip.sheet().dimensions(), (500, 512 + label::height(8)));
    }
}

//! What a photo says of itself beside its pixels: it is kept in the edit.

use image::metadata::Orientation;

use super::tiff_tags::{self, TiffTags};

/// How large the photo is meant to be seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DotsPerInch {
    /// Across.
    pub x: f64,
    /// Down.
    pub y: f64,
}

/// EXIF and density.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// The TIFF structure of an EXIF block: camera, date, place, whatever there was.
    pub exif: Option<Vec<u8>>,
    /// From JFIF or pHYs; else from EXIF.
    pub density: Option<DotsPerInch>,
}

impl Metadata {
    /// The metadata in a photo's EXIF block and density.
    pub fn new(exif: Option<&[u8]>, density: Option<DotsPerInch>) -> Self {
        // Writers of WebP differ on whether the chunk begins with JPEG's "Exif\0\0".
        let exif = exif.map(|block| block.strip_prefix(b"Exif\0\0").unwrap_or(block));
        let tags = exif.and_then(TiffTags::new);
        let from_exif = || tags.and_then(|tags| tags.dots_per_inch()).map(|(x, y)| DotsPerInch { x, y });
        Self { exif: tags.and(exif).map(<[u8]>::to_vec), density: density.or_else(from_exif) }
    }

    /// How the pixels are to be turned. They are upright here from now on.
    pub fn take_orientation(&mut self) -> Orientation {
        let Some(exif) = &self.exif else { return Orientation::NoTransforms };
        let orientation = Orientation::from_exif_chunk(exif).unwrap_or(Orientation::NoTransforms);
        let sides_swap = matches!(
            orientation,
            Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
        );
        self.set_upright(sides_swap);
        orientation
    }

    /// Says that the pixels are upright, and whether width and height changed places for it.
    pub fn set_upright(&mut self, sides_swap: bool) {
        if let Some(exif) = &mut self.exif {
            tiff_tags::set_upright(exif, sides_swap);
        }
        if sides_swap {
            self.density = self.density.map(|DotsPerInch { x, y }| DotsPerInch { x: y, y: x });
        }
    }
}

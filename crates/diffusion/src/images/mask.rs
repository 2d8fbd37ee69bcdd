//! Masks: where an edit shows. White lets it through, black keeps the photo bit for bit, grey mixes.
//!
//! Shapes: (h, w) the photo's own size.

use std::ops::Range;
use std::path::{Path, PathBuf};

use fast_image_resize as fir;
use image::GrayImage;
use tch::{Kind, Tensor};

use super::photo::Photo;
use crate::error::{Error, Result};

/// Without a word from the user, the feather is the shorter side divided by this.
const SIDE_PER_FEATHER: u32 = 100;

/// A mask as its file has it, upright.
#[derive(Clone, Debug)]
pub struct Mask {
    path: PathBuf,
    levels: GrayImage,
    feather: Option<u32>,
}

/// A mask at its photo's size, feathered.
#[derive(Clone, Debug)]
pub struct FittedMask {
    weights: Vec<u16>, // (h, w), 65535 is the whole edit
    width: usize,
}

impl Mask {
    /// Reads a picture of any format that [`Photo::read`] reads, turned as its EXIF says. A pixel's weight is the mean of
    /// its three channels as they are stored; what is transparent counts as white.
    ///
    /// `feather` blurs the mask over that many pixels of the photo to either side of an edge, and no further; 0 leaves
    /// edges hard, `None` is 1 % of the photo's shorter side.
    pub fn read(path: &Path, feather: Option<u32>) -> Result<Self> {
        let picture = Photo::read(path)?.in_8_bits();
        let mean = |pixel: &image::Rgb<u8>| ((pixel.0.iter().map(|&c| u32::from(c)).sum::<u32>() + 1) / 3) as u8;
        let levels = picture.pixels().map(mean).collect();
        let levels = GrayImage::from_raw(picture.width(), picture.height(), levels).expect("invariant: w·h levels");
        Ok(Self { path: path.to_path_buf(), levels, feather })
    }

    /// Whether it is black everywhere: no edit would show.
    pub fn is_black(&self) -> bool {
        self.levels.iter().all(|&level| level == 0)
    }

    /// Refuses a photo of other proportions: the mask belongs to another one. Sides may be rounded to whole pixels.
    pub fn check(&self, width: u32, height: u32) -> Result<()> {
        let (own, other) = (self.levels.dimensions(), (width, height));
        let [across, along] = [(own.0, other.1), (own.1, other.0)].map(|(a, b)| u64::from(a) * u64::from(b));
        let rounding = [own.0, own.1, other.0, other.1].into_iter().max().unwrap_or_default();
        match across.abs_diff(along) <= u64::from(rounding) {
            true => Ok(()),
            false => Err(Error::invalid(
                self.path.display().to_string(),
                format!(
                    "the mask is {}x{}, the photo {width}x{height}; give a mask of the photo's size or proportions",
                    own.0, own.1
                ),
            )),
        }
    }

    /// The mask at a photo's size, scaled bilinearly where it has another, and feathered.
    pub fn fitted(&self, width: u32, height: u32) -> Result<FittedMask> {
        self.check(width, height)?;
        let refused = |e: String| Error::invalid(format!("{}: resizing to {width}x{height}", self.path.display()), e);
        let mut levels = fir::images::Image::new(width, height, fir::PixelType::U8);
        let (own_width, own_height) = self.levels.dimensions();
        let view = fir::images::ImageRef::new(own_width, own_height, self.levels.as_raw(), fir::PixelType::U8);
        let view = view.map_err(|e| refused(e.to_string()))?;
        // A filter with negative lobes would ring into what the mask keeps.
        let options = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear));
        fir::Resizer::new().resize(&view, &mut levels, &options).map_err(|e| refused(e.to_string()))?;
        let weights = levels.buffer().iter().map(|&level| u16::from(level) * 257).collect();
        let feather = self.feather.unwrap_or(width.min(height) / SIDE_PER_FEATHER) as usize;
        // Two means in a row are a triangle that reaches as far as both together.
        let [first, second] = [feather / 2, feather - feather / 2];
        let width = width as usize;
        Ok(FittedMask { weights: averaged(averaged(weights, width, first), width, second), width })
    }
}

impl FittedMask {
    /// The weights of some rows, (1, 1, rows, w), f32 in [0, 1].
    pub fn rows(&self, rows: Range<u32>) -> Tensor {
        let part = &self.weights[rows.start as usize * self.width..rows.end as usize * self.width];
        let weights: Vec<f32> = part.iter().map(|&weight| f32::from(weight) / 65535.0).collect();
        Tensor::from_slice(&weights).to_kind(Kind::Float).view([1, 1, -1, self.width as i64])
    }
}

/// The mean over a square that reaches `reach` pixels to each side, cut off at the picture's border. In whole numbers:
/// all black stays exactly 0, all white exactly 65535.
fn averaged(weights: Vec<u16>, width: usize, reach: usize) -> Vec<u16> {
    if reach == 0 || weights.is_empty() {
        return weights;
    }
    let height = weights.len() / width;
    let mut across = vec![0; weights.len()];
    for (row, averaged) in weights.chunks_exact(width).zip(across.chunks_exact_mut(width)) {
        let mut sum = 0;
        for (x, averaged) in averaged.iter_mut().enumerate() {
            let (enters, leaves) = window(x, reach, width);
            sum += enters.map(|at| u64::from(row[at])).sum::<u64>();
            sum -= leaves.map_or(0, |at| u64::from(row[at]));
            *averaged = mean(sum, x, reach, width);
        }
    }
    let (mut averaged, mut sums) = (weights, vec![0u64; width]);
    for y in 0..height {
        let (enters, leaves) = window(y, reach, height);
        for row in enters {
            sums.iter_mut().zip(&across[row * width..]).for_each(|(sum, &weight)| *sum += u64::from(weight));
        }
        if let Some(row) = leaves {
            sums.iter_mut().zip(&across[row * width..]).for_each(|(sum, &weight)| *sum -= u64::from(weight));
        }
        let row = &mut averaged[y * width..(y + 1) * width];
        row.iter_mut().zip(&sums).for_each(|(averaged, &sum)| *averaged = mean(sum, y, reach, height));
    }
    averaged
}

/// Which places a window enters and leaves when its centre comes to `at`, from 0 upwards.
fn window(at: usize, reach: usize, length: usize) -> (Range<usize>, Option<usize>) {
    let enters = if at == 0 { 0 } else { (at + reach).min(length) }..(at + reach + 1).min(length);
    (enters, at.checked_sub(reach + 1))
}

/// The mean of a `sum` over the window around `at`, rounded.
fn mean(sum: u64, at: usize, reach: usize, length: usize) -> u16 {
    let count = ((at + reach + 1).min(length) - at.saturating_sub(reach)) as u64;
    ((sum + count / 2) / count) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mask(levels: GrayImage, feather: u32) -> Mask {
        Mask { path: "mask.png".into(), levels, feather: Some(feather) }
    }

    /// The mean as it is defined, a square at a time.
    fn slowly(weights: &[u16], width: usize, reach: usize) -> Vec<u16> {
        let height = weights.len() / width;
        let along = |at: usize, length: usize| at.saturating_sub(reach)..(at + reach + 1).min(length);
        let rounded = |sum: u64, count: u64| ((sum + count / 2) / count) as u16;
        let row_mean = |x: usize, y: usize| {
            let span = along(x, width);
            rounded(span.clone().map(|x| u64::from(weights[y * width + x])).sum(), span.len() as u64)
        };
        let of = |at: usize| {
            let span = along(at / width, height);
            rounded(span.clone().map(|y| u64::from(row_mean(at % width, y))).sum(), span.len() as u64)
        };
        (0..weights.len()).map(of).collect()
    }

    proptest! {
        #[test]
        fn the_running_mean_is_the_mean(
            weights in proptest::collection::vec(any::<u16>(), 1..60), width in 1usize..9, reach in 0usize..12,
        ) {
            let weights = weights[..weights.len() / width * width].to_vec();
            prop_assert_eq!(averaged(weights.clone(), width, reach), slowly(&weights, width, reach));
        }
    }

    #[test]
    fn a_feather_reaches_as_far_as_it_says() {
        let levels = GrayImage::from_fn(40, 30, |x, _| image::Luma([if x < 20 { 255 } else { 0 }]));
        for feather in [0, 1, 4, 7] {
            let fitted = mask(levels.clone(), feather).fitted(40, 30).expect("its own size");
            let row = &fitted.weights[..40];
            let feather = feather as usize;
            assert!(row[..20 - feather].iter().all(|&w| w == 65535), "{row:?}");
            assert!(row[20 + feather..].iter().all(|&w| w == 0), "{row:?}");
            assert!(row.windows(2).all(|pair| pair[0] >= pair[1]), "{row:?}");
            let soft = row.iter().filter(|&&w| w != 0 && w != 65535).count();
            assert_eq!(soft, 2 * feather, "{row:?}");
        }
    }

    #[test]
    fn a_mask_of_other_proportions_is_refused_with_both_sizes() {
        let half = mask(GrayImage::from_pixel(75, 50, image::Luma([255])), 0);
        for (width, height) in [(75, 50), (150, 100), (151, 100), (15, 10), (3000, 2000)] {
            let fitted = half.fitted(width, height).expect("the same proportions");
            assert!(fitted.weights.iter().all(|&w| w == 65535), "white stays white");
        }
        let refused = half.fitted(100, 150).expect_err("it lies on its side").to_string();
        assert!(refused.contains("75x50") && refused.contains("100x150") && refused.contains("mask.png"), "{refused}");
    }
}

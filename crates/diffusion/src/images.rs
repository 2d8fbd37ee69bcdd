//! Photos: files to pixels, pixels to tensors in [−1, 1], and back.
//!
//! Shapes: b batch, (h, w) pixels; images are RGB, tensors (b, 3, h, w).

mod avif;
pub mod clip_preprocess;
mod colour;
mod encode;
mod format;
mod jpeg;
mod mask;
mod metadata;
mod photo;
mod png_chunks;
mod resample;
mod tiff_tags;
mod upsample;

use std::path::Path;

use fast_image_resize as fir;
use image::RgbImage;
use tch::{Kind, Tensor};

use crate::error::{Error, Result};
pub use clip_preprocess::ClipPreprocess;
pub use encode::{encoded_photo, output_format, write, write_photo, write_tagged};
pub use mask::{FittedMask, Mask};
pub use metadata::{DotsPerInch, Metadata};
pub use photo::{Photo, Pixels, Rgb16Image};
pub use resample::bicubic;
pub use upsample::Upsampled;

/// The largest photo that is decoded; a small file can claim any size.
pub const MAX_PIXELS: u64 = 128_000_000;

/// Reads a photo upright (EXIF orientation applied), in sRGB by its colour profile, with transparency composited on
/// white: [`Photo::read`] as networks see it. A profile that cannot be used is ignored.
pub fn read_photo(path: &Path) -> Result<RgbImage> {
    Photo::read(path).map(Photo::into_srgb)
}

/// A photo as (1, 3, h, w), f32 in [−1, 1], on the CPU.
pub fn to_tensor(photo: &RgbImage) -> Tensor {
    let (height, width) = (i64::from(photo.height()), i64::from(photo.width()));
    let pixels = Tensor::from_slice(photo.as_raw()).view([1, height, width, 3]);
    pixels.permute([0, 3, 1, 2]).contiguous().to_kind(Kind::Float) / 127.5 - 1.0
}

/// The photo of (1, 3, h, w) or (3, h, w) in [−1, 1], rounded to 8 bits. Values outside are clamped; NaN and infinity
/// are refused.
pub fn from_tensor(tensor: &Tensor) -> Result<RgbImage> {
    let size = tensor.size();
    let [3, height, width] = size[size.len().saturating_sub(3)..] else {
        return Err(Error::invalid("image tensor", format!("expected (1, 3, h, w) or (3, h, w), found {size:?}")));
    };
    if size.len() > 4 || (size.len() == 4 && size[0] != 1) {
        return Err(Error::invalid("image tensor", format!("expected one image, found {size:?}")));
    }
    Error::unless_finite("image tensor", tensor)?;
    let pixels = ((tensor.detach().to_kind(Kind::Float) + 1.0) * 127.5).round().clamp(0.0, 255.0).to_kind(Kind::Uint8);
    let pixels = pixels.view([3, height, width]).permute([1, 2, 0]).contiguous().view(-1);
    let raw = Vec::<u8>::try_from(&pixels)?;
    Ok(RgbImage::from_raw(width as u32, height as u32, raw).expect("invariant: h·w·3 bytes"))
}

/// A photo at another size, Lanczos-filtered.
pub fn resize(photo: &RgbImage, width: u32, height: u32) -> Result<RgbImage> {
    if (width, height) == photo.dimensions() {
        return Ok(photo.clone());
    }
    let refused = |e: String| Error::invalid(format!("resizing to {width}x{height}"), e);
    if width == 0 || height == 0 || photo.width() == 0 || photo.height() == 0 {
        return Err(refused("a picture needs at least one pixel".into()));
    }
    let view = fir::images::ImageRef::new(photo.width(), photo.height(), photo.as_raw(), fir::PixelType::U8x3)
        .map_err(|e| refused(e.to_string()))?;
    let mut resized = fir::images::Image::new(width, height, fir::PixelType::U8x3);
    let options = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Lanczos3));
    fir::Resizer::new().resize(&view, &mut resized, &options).map_err(|e| refused(e.to_string()))?;
    Ok(RgbImage::from_raw(width, height, resized.into_vec()).expect("invariant: w·h·3 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, (x * 3 + y * 7) as u8]))
    }

    #[test]
    fn pixels_survive_the_way_through_a_tensor() {
        let photo = gradient(256, 3);
        let tensor = to_tensor(&photo);
        assert_eq!(tensor.size(), [1, 3, 3, 256]);
        assert_eq!(tensor.min().double_value(&[]), -1.0);
        assert_eq!(from_tensor(&tensor).expect("an image"), photo);
        assert!(from_tensor(&Tensor::zeros([2, 3, 4, 4], tch::kind::FLOAT_CPU)).is_err());
        assert!(from_tensor(&Tensor::zeros([4, 4], tch::kind::FLOAT_CPU)).is_err());
        let _holed = tensor.get(0).get(1).get(2).get(7).fill_(f64::NAN);
        let error = from_tensor(&tensor).expect_err("no number").to_string();
        assert!(error.contains("1 of 2304 values are not finite"), "{error}");
    }

    #[test]
    fn every_suffix_is_written_in_its_format_and_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let photo = gradient(33, 20);
        for (name, exact) in [("a.png", true), ("b.webp", true), ("c.jpg", false), ("d.JPEG", false)] {
            let path = folder.path().join(name);
            write(&path, &photo).expect("written");
            let read = read_photo(&path).expect("read");
            assert_eq!(read.dimensions(), photo.dimensions());
            assert!(!exact || read == photo, "{name}");
        }
        let message = write(&folder.path().join("e.xyz"), &photo).expect_err("no such format").to_string();
        assert!(message.contains("e.xyz") && message.contains(".png"), "{message}");
    }

    #[test]
    fn a_flat_picture_stays_flat_when_resized() {
        let photo = RgbImage::from_pixel(50, 31, image::Rgb([10, 200, 99]));
        let resized = resize(&photo, 17, 64).expect("resized");
        assert_eq!(resized, RgbImage::from_pixel(17, 64, image::Rgb([10, 200, 99])));
        assert!(resize(&photo, 0, 5).is_err());
    }
}

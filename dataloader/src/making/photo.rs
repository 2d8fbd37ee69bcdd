//! Photos to training images: decoded upright, identified by their pixels, cut to a square and scaled.

use std::io::Cursor;
use std::path::Path;

use bytes::Bytes;
use diffusion::images::{self, Photo};
use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat as Codec, RgbImage};

use crate::format::manifest::{Crop, Transform};
use crate::making::config::{ImageFormat, PhotoLimits};
use crate::sources::{Content, Item};

const JPEG_QUALITY: u8 = 95;

/// The bytes of an item's photo.
pub fn read(item: &Item, limits: &PhotoLimits) -> Result<Bytes, String> {
    let within = |size: u64| match size as f64 > limits.max_megabytes * 1e6 {
        true => Err(format!("{:.1} MB are more than limits.max_megabytes {}", size as f64 / 1e6, limits.max_megabytes)),
        false => Ok(()),
    };
    match &item.content {
        Content::File(path) => {
            let metadata = std::fs::metadata(path).map_err(|e| e.to_string())?;
            if !metadata.is_file() {
                return Err("a folder, a pipe or a device, no file".into()); // opening a pipe would wait for ever
            }
            within(metadata.len())?;
            Ok(std::fs::read(path).map_err(|e| e.to_string())?.into())
        }
        Content::Bytes(bytes) => Ok(bytes.clone()),
        Content::Parquet(image) => {
            let bytes = image.read()?;
            within(bytes.len() as u64)?;
            Ok(bytes)
        }
    }
}

/// Decodes the bytes of an item's photo, to sRGB by its profile; the error is the reason for quarantine.
pub fn decode(item: &Item, bytes: &[u8], limits: &PhotoLimits) -> Result<RgbImage, String> {
    decode_own(item, bytes, limits).map(Photo::into_srgb)
}

/// As [`decode`], in the photo's own colours, with its warnings.
pub fn decode_own(item: &Item, bytes: &[u8], limits: &PhotoLimits) -> Result<Photo, String> {
    let max_pixels = (limits.max_megapixels * 1e6) as u64;
    let photo = Photo::decode(bytes, Path::new(&item.path), max_pixels).map_err(|e| match e {
        diffusion::Error::Image { message, .. } => message,
        other => other.to_string(),
    })?;
    let (width, height) = photo.dimensions();
    match width.min(height) {
        0 => Err("it has no pixels".into()),
        side if side < limits.min_side => {
            Err(format!("{width}x{height} is smaller than limits.min_side {}", limits.min_side))
        }
        _ => Ok(photo),
    }
}

/// The training image of the photo with these pixels, and its compressed bytes; the error is the reason for quarantine.
pub fn prepare(
    item: &Item, id: &str, transform: &Transform, format: ImageFormat, limits: &PhotoLimits,
) -> Result<(RgbImage, Bytes), String> {
    let photo = decode(item, &read(item, limits)?, limits)?;
    if image_id(&photo) != id {
        return Err("the file changed while it was being encoded".into());
    }
    let image = training_image(transform, &photo)?;
    let bytes = compress(&image, format)?;
    Ok((image, bytes.into()))
}

/// blake3 of the decoded pixels and the image's size: equal for copies in any lossless format.
pub fn image_id(photo: &RgbImage) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&photo.width().to_le_bytes()).update(&photo.height().to_le_bytes()).update(photo.as_raw());
    hasher.finalize().to_hex().to_string()
}

/// The part of a photo of this size that is used: x, y, width, height.
pub fn crop(transform: &Transform, width: u32, height: u32) -> [u32; 4] {
    let Crop::Center = transform.crop;
    let side = width.min(height);
    [(width - side) / 2, (height - side) / 2, side, side]
}

/// The square training image of a photo.
pub fn training_image(transform: &Transform, photo: &RgbImage) -> Result<RgbImage, String> {
    let square = part(photo, crop(transform, photo.width(), photo.height()));
    images::resize(&square, transform.resolution, transform.resolution).map_err(|e| e.to_string())
}

/// A part of a photo, copied row by row.
fn part(photo: &RgbImage, [x, y, width, height]: [u32; 4]) -> RgbImage {
    let (stride, start, length) = (3 * photo.width() as usize, 3 * x as usize, 3 * width as usize);
    let rows = photo.as_raw().chunks_exact(stride).skip(y as usize).take(height as usize);
    let mut copy = Vec::with_capacity(length * height as usize);
    rows.for_each(|row| copy.extend_from_slice(&row[start..start + length]));
    RgbImage::from_raw(width, height, copy).expect("invariant: the part lies inside")
}

/// The bytes of the column `image`.
pub fn compress(image: &RgbImage, format: ImageFormat) -> Result<Vec<u8>, String> {
    let mut bytes = Cursor::new(Vec::new());
    let written = match format {
        ImageFormat::Webp => image.write_to(&mut bytes, Codec::WebP),
        ImageFormat::Png => image.write_to(&mut bytes, Codec::Png),
        ImageFormat::Jpeg => JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).encode_image(image),
    };
    written.map_err(|e| e.to_string())?;
    Ok(bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transform(resolution: u32) -> Transform {
        Transform { resolution, crop: Crop::Center, filter: "lanczos3".into(), image_format: "webp".into() }
    }

    fn photo(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 7]))
    }

    #[test]
    fn the_middle_square_is_taken() {
        assert_eq!(crop(&transform(8), 30, 20), [5, 0, 20, 20]);
        assert_eq!(crop(&transform(8), 20, 31), [0, 5, 20, 20]);
        let image = training_image(&transform(20), &photo(30, 20)).expect("made");
        assert_eq!(image.get_pixel(0, 0), photo(30, 20).get_pixel(5, 0));
        assert_eq!(training_image(&transform(8), &photo(1, 3)).expect("made").dimensions(), (8, 8));
    }

    #[test]
    fn ids_tell_pixels_and_shapes_apart_and_formats_together() {
        assert_ne!(image_id(&RgbImage::new(2, 8)), image_id(&RgbImage::new(8, 2)));
        let original = photo(9, 7);
        for format in [ImageFormat::Webp, ImageFormat::Png] {
            let bytes = compress(&original, format).expect("written");
            let read = image::load_from_memory(&bytes).expect("read").to_rgb8();
            assert_eq!(image_id(&read), image_id(&original));
        }
        assert!(compress(&original, ImageFormat::Jpeg).is_ok());
    }
    /// The most memory that this process has held, in bytes (proc(5), VmHWM).
    fn peak_memory() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux says");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line of it");
        1024 * line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    }

    #[test]
    fn fuzz_pictures_of_every_format() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
        let folders = ["images", "photos/avif", "photos/colour", "photos/jpeg", "photos/exif", "photos/formats"]
            .map(|f| folder.join(f));
        let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("fixtures").flatten());
        let read = |entry: std::fs::DirEntry| std::fs::read(entry.path()).ok();
        let seeds: Vec<Vec<u8>> = entries.filter_map(read).filter(|seed| seed.len() < 1 << 14).collect();
        assert!(seeds.len() > 90, "only {} pictures", seeds.len());
        let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
        let slowest = std::cell::Cell::new(std::time::Duration::ZERO);
        crate::fuzz::fuzz("pictures", &seeds, |bytes| {
            let begun = std::time::Instant::now();
            let read = Photo::decode(bytes, Path::new("a.jpg"), 1_000_000);
            slowest.set(slowest.get().max(begun.elapsed()));
            match read {
                Ok(photo) => format!("{:?} {}", photo.dimensions(), photo.warnings.join(" ")),
                Err(error) => error.to_string(),
            }
        });
        println!("pictures: slowest {:?}, peak memory {} MB", slowest.get(), peak_memory() / 1_000_000);
        assert!(peak_memory() < 2_000_000_000, "memory is bounded by the limit of pixels");
    }
}

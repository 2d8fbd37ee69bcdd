//! Pictures to files: lossless as PNG or WebP, or as JPEG; with profile, EXIF and density where they are known.

use std::borrow::Cow;
use std::io::{BufWriter, Cursor, Write};
use std::path::Path;

use image::codecs::jpeg::{JpegEncoder, PixelDensity, PixelDensityUnit};
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageError, ImageFormat, RgbImage};

use super::metadata::{DotsPerInch, Metadata};
use super::photo::{Photo, Pixels};
use crate::error::{Error, Result};

const JPEG_QUALITY: u8 = 95;
/// A JPEG's segment, without its length and "Exif\0\0".
const MAX_JPEG_EXIF: usize = 65533 - 6;
const INCHES_PER_METRE: f64 = 1.0 / 0.0254;

/// The format that a file name's suffix stands for: .png, .jpg, .jpeg or .webp.
pub fn output_format(path: &Path) -> Result<ImageFormat> {
    let suffix = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    match suffix.as_str() {
        "png" => Ok(ImageFormat::Png),
        "jpg" | "jpeg" => Ok(ImageFormat::Jpeg),
        "webp" => Ok(ImageFormat::WebP),
        _ => Err(Error::invalid(path.display().to_string(), "name a .png, .jpg, .jpeg or .webp file")),
    }
}

/// Writes a picture in sRGB in the format of `path`'s suffix: PNG and WebP lossless, JPEG at quality 95.
pub fn write(path: &Path, picture: &RgbImage) -> Result<()> {
    write_tagged(path, picture, None)
}

/// As [`write()`], for a picture whose colours are those of `profile` (ICC).
pub fn write_tagged(path: &Path, picture: &RgbImage, profile: Option<&[u8]>) -> Result<()> {
    encode(path, &Picture { pixels: Levels::Eight(picture), profile, metadata: &Metadata::default() })
}

/// Writes a photo in its own colour space with its profile, EXIF and density. It is written in 16 bits if the photo
/// has them and the format is PNG.
pub fn write_photo(path: &Path, photo: &Photo) -> Result<()> {
    with_levels(photo, output_format(path)?, |picture| encode(path, picture))
}

/// The content of the file that [`write_photo`] writes in `format`: PNG, JPEG or WebP.
pub fn encoded_photo(photo: &Photo, format: ImageFormat) -> Result<Vec<u8>> {
    let refused = |message: String| Error::invalid(format!("a picture as {format:?}"), message);
    if ![ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP].contains(&format) {
        return Err(refused("it is written as PNG, JPEG or WebP".into()));
    }
    with_levels(photo, format, |picture| {
        let mut content = Vec::new();
        encode_into(&mut content, format, picture).map_err(|e| refused(e.to_string()))?;
        Ok(content)
    })
}

/// Hands on a photo's picture in the depth that `format` can hold.
fn with_levels<T>(photo: &Photo, format: ImageFormat, write: impl FnOnce(&Picture<'_>) -> Result<T>) -> Result<T> {
    let rounded;
    let pixels = match (&photo.pixels, format) {
        (Pixels::Eight(pixels), _) => Levels::Eight(pixels),
        (Pixels::Sixteen(pixels), ImageFormat::Png) => Levels::Sixteen(pixels),
        (Pixels::Sixteen(_), _) => {
            rounded = photo.in_8_bits();
            Levels::Eight(&rounded)
        }
    };
    write(&Picture { pixels, profile: photo.profile(), metadata: &photo.metadata })
}

enum Levels<'a> {
    Eight(&'a RgbImage),
    Sixteen(&'a super::photo::Rgb16Image),
}

struct Picture<'a> {
    pixels: Levels<'a>,
    profile: Option<&'a [u8]>,
    metadata: &'a Metadata,
}

/// Writes or replaces the file at `path`, as a whole or not at all.
fn encode(path: &Path, picture: &Picture<'_>) -> Result<()> {
    let format = output_format(path)?;
    let finished = durable::write_with(path, |file| {
        let mut file = BufWriter::new(file);
        encode_into(&mut file, format, picture)?;
        Ok(file.flush()?)
    });
    finished.map_err(|e| match e {
        ImageError::IoError(e) => Error::io(path, e),
        e => Error::Image { path: path.to_path_buf(), message: format!("cannot be written: {e}") },
    })
}

fn encode_into(file: &mut impl Write, format: ImageFormat, picture: &Picture<'_>) -> image::ImageResult<()> {
    match (format, &picture.pixels) {
        (ImageFormat::Png, _) => png(file, picture),
        (ImageFormat::Jpeg, Levels::Eight(pixels)) => jpeg(file, pixels, picture),
        (_, Levels::Eight(pixels)) => webp(file, pixels, picture),
        (_, Levels::Sixteen(_)) => unreachable!("only PNG is given 16 bits"),
    }
}

fn png(file: &mut impl Write, picture: &Picture<'_>) -> image::ImageResult<()> {
    let (width, height, depth, bytes) = match picture.pixels {
        Levels::Eight(pixels) => {
            (pixels.width(), pixels.height(), png::BitDepth::Eight, Cow::Borrowed(&**pixels.as_raw()))
        }
        Levels::Sixteen(pixels) => {
            let bytes = pixels.as_raw().iter().flat_map(|level| level.to_be_bytes()).collect();
            (pixels.width(), pixels.height(), png::BitDepth::Sixteen, Cow::Owned(bytes))
        }
    };
    let mut info = png::Info::with_size(width, height);
    (info.color_type, info.bit_depth) = (png::ColorType::Rgb, depth);
    info.icc_profile = picture.profile.map(Cow::Borrowed);
    info.exif_metadata = picture.metadata.exif.as_deref().map(Cow::Borrowed);
    info.pixel_dims = picture.metadata.density.map(|DotsPerInch { x, y }| {
        let [xppu, yppu] = [x, y].map(|dots| (dots * INCHES_PER_METRE).round() as u32);
        png::PixelDimensions { xppu, yppu, unit: png::Unit::Meter }
    });
    let failed = |e: png::EncodingError| ImageError::IoError(e.into());
    let mut encoder = png::Encoder::with_info(file, info).map_err(failed)?;
    encoder.set_compression(png::Compression::Fast);
    encoder.set_filter(png::Filter::Adaptive);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&bytes).and_then(|()| writer.finish()).map_err(failed)
}

fn jpeg(file: &mut impl Write, pixels: &RgbImage, picture: &Picture<'_>) -> image::ImageResult<()> {
    let mut encoder = JpegEncoder::new_with_quality(file, JPEG_QUALITY);
    if let Some(DotsPerInch { x, y }) = picture.metadata.density {
        let [x, y] = [x, y].map(|dots| dots.round().clamp(1.0, f64::from(u16::MAX)) as u16);
        encoder.set_pixel_density(PixelDensity { density: (x, y), unit: PixelDensityUnit::Inches });
    }
    if let Some(profile) = picture.profile {
        encoder.set_icc_profile(profile.to_vec()).map_err(ImageError::Unsupported)?;
    }
    match &picture.metadata.exif {
        Some(exif) if exif.len() <= MAX_JPEG_EXIF => {
            encoder.set_exif_metadata(exif.clone()).map_err(ImageError::Unsupported)?;
        }
        Some(exif) => {
            let message =
                format!("a JPEG takes {MAX_JPEG_EXIF} bytes of EXIF, the photo has {}; write a .png", exif.len());
            return Err(ImageError::IoError(std::io::Error::other(message)));
        }
        None => {}
    }
    encoder.encode_image(pixels)
}

fn webp(file: &mut impl Write, pixels: &RgbImage, picture: &Picture<'_>) -> image::ImageResult<()> {
    let mut bytes = Cursor::new(Vec::new());
    let mut encoder = WebPEncoder::new_lossless(&mut bytes);
    if let Some(profile) = picture.profile {
        encoder.set_icc_profile(profile.to_vec()).map_err(ImageError::Unsupported)?;
    }
    if let Some(exif) = &picture.metadata.exif {
        encoder.set_exif_metadata(exif.clone()).map_err(ImageError::Unsupported)?;
    }
    encoder.encode(pixels, pixels.width(), pixels.height(), ExtendedColorType::Rgb8)?;
    file.write_all(bytes.get_ref()).map_err(ImageError::IoError)
}

//! A photo as its file has it: upright, in its own colour space and depth, with its metadata.

use std::io::Cursor;
use std::ops::Range;
use std::path::Path;

use image::buffer::ConvertBuffer;
use image::{DynamicImage, ImageBuffer, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgb, RgbImage};
use tch::{Kind, Tensor};

use super::avif::Avif;
use super::colour::{self, BothWays, ColourSpace, Samples};
use super::jpeg::{Jpeg, Pixels as JpegPixels};
use super::metadata::{DotsPerInch, Metadata};
use super::png_chunks::PngChunks;
use super::tiff_tags::TiffTags;
use super::{format, MAX_PIXELS};
use crate::error::{Error, Result};

const MAX_BYTES_PER_PIXEL: u64 = 8;
/// About how many pixels a band of rows has that is edited at once: a photo of 100 megapixels as f32 takes more than
/// a gigabyte for each tensor.
const BAND_PIXELS: u32 = 1 << 21;

/// Red, green and blue of 65536 levels.
pub type Rgb16Image = ImageBuffer<Rgb<u16>, Vec<u16>>;

/// The pixels in the depth of their file.
#[derive(Clone, Debug, PartialEq)]
pub enum Pixels {
    /// 256 levels.
    Eight(RgbImage),
    /// 65536 levels.
    Sixteen(Rgb16Image),
}

/// A photo, upright, opaque (on white), in its own colour space and depth.
#[derive(Clone)]
pub struct Photo {
    /// In the photo's own space.
    pub pixels: Pixels,
    /// EXIF and density; the orientation has been applied.
    pub metadata: Metadata,
    /// How the photo differs from its file, as messages for people.
    pub warnings: Vec<String>,
    space: Option<ColourSpace>, // `None`: sRGB
}

/// What a decoder hands out.
struct Decoded {
    picture: DynamicImage,
    samples: Samples,
    space: std::result::Result<Option<ColourSpace>, String>,
    metadata: Metadata,
}

impl Photo {
    /// Reads a PNG, JPEG, WebP, GIF (its first frame), BMP, TIFF or AVIF (its still picture), told apart by content.
    ///
    /// Fails on other formats, which it names, on damaged files, and on photos above [`MAX_PIXELS`] before they are
    /// decoded. A colour profile that cannot be used is a warning, and the numbers count as sRGB.
    pub fn read(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Err(Error::Image { path: path.to_path_buf(), message: "it is a folder".into() });
        }
        Self::decode(&std::fs::read(path).map_err(|e| Error::io(path, e))?, path, MAX_PIXELS)
    }

    /// As [`Photo::read`], from a file's content, with at most `max_pixels`; `path` is named in errors.
    pub fn decode(content: &[u8], path: &Path, max_pixels: u64) -> Result<Self> {
        let refused = |message: String| Error::Image { path: path.to_path_buf(), message };
        let decoded = match format::of(content, path).map_err(refused)? {
            ImageFormat::Jpeg => jpeg(content, max_pixels),
            ImageFormat::Avif => avif(content, max_pixels),
            format => by_image(content, format, max_pixels),
        };
        Self::from_decoded(decoded.map_err(refused)?).map_err(refused)
    }

    /// A photo of 8 bits in sRGB, without metadata.
    pub fn of_srgb(pixels: RgbImage) -> Self {
        Self { pixels: Pixels::Eight(pixels), metadata: Metadata::default(), warnings: Vec::new(), space: None }
    }

    fn from_decoded(decoded: Decoded) -> std::result::Result<Self, String> {
        let Decoded { mut picture, samples, space, mut metadata } = decoded;
        picture.apply_orientation(metadata.take_orientation());
        let mut warnings = Vec::new();
        let space = space.unwrap_or_else(|reason| {
            warnings.push(format!("{reason}; its numbers are taken for sRGB, and an edit of it has no profile"));
            None
        });
        debug_assert!(samples != Samples::Cmyk || space.is_none());
        Ok(Self { pixels: opaque(picture), metadata, warnings, space })
    }

    /// Width and height.
    pub fn dimensions(&self) -> (u32, u32) {
        match &self.pixels {
            Pixels::Eight(pixels) => pixels.dimensions(),
            Pixels::Sixteen(pixels) => pixels.dimensions(),
        }
    }

    /// The ICC profile that says what the pixels mean; `None` where they are sRGB.
    pub fn profile(&self) -> Option<&[u8]> {
        self.space.as_ref().map(|space| &*space.profile)
    }

    /// The pixels in 8 bits, in the photo's own space.
    pub fn in_8_bits(&self) -> RgbImage {
        match &self.pixels {
            Pixels::Eight(pixels) => pixels.clone(),
            Pixels::Sixteen(pixels) => pixels.convert(),
        }
    }

    /// The photo in sRGB, 8 bits: what networks see.
    pub fn into_srgb(self) -> RgbImage {
        let mut pixels = match self.pixels {
            Pixels::Eight(pixels) => pixels,
            Pixels::Sixteen(pixels) => pixels.convert(),
        };
        if let Some(space) = &self.space {
            space.to_srgb(&mut pixels);
        }
        pixels
    }

    /// As [`Photo::into_srgb`], of a copy.
    pub fn to_srgb(&self) -> RgbImage {
        let mut pixels = self.in_8_bits();
        if let Some(space) = &self.space {
            space.to_srgb(&mut pixels);
        }
        pixels
    }

    /// The photo itself, or a copy in sRGB if its profile cannot convert back, as a scanner's.
    pub fn with_way_back(self) -> Self {
        let Some(Err(reason)) = self.space.as_ref().map(ColourSpace::both_ways) else { return self };
        let (metadata, mut warnings) = (self.metadata.clone(), self.warnings.clone());
        warnings.push(format!("{reason}; an edit of it is in sRGB"));
        Self { pixels: Pixels::Eight(self.into_srgb()), metadata, warnings, space: None }
    }

    /// The photo after `edit` of its sRGB rows, (1, 3, rows, w) in [−1, 1] each: in the photo's own space and depth,
    /// with its metadata. Rows that `edit` leaves alone keep every bit. Fails if there is no [way
    /// back](Photo::with_way_back).
    pub fn edited(&self, mut edit: impl FnMut(Range<u32>, &Tensor) -> Result<Tensor>) -> Result<Self> {
        let no_way = |reason| Error::invalid("the photo's colour space", reason);
        let ways = self.space.as_ref().map(ColourSpace::both_ways).transpose().map_err(no_way)?.flatten();
        let (width, height) = self.dimensions();
        let rows_a_band = (BAND_PIXELS / width.max(1)).max(1);
        let mut edited = self.clone();
        for first in (0..height).step_by(rows_a_band as usize) {
            let rows = first..(first + rows_a_band).min(height);
            let size = [1, i64::from(rows.end - rows.start), i64::from(width), 3];
            let band = 3 * width as usize * rows.start as usize..3 * width as usize * rows.end as usize;
            let mut edit = |pixels: &Tensor| edit(rows.clone(), pixels);
            match &mut edited.pixels {
                Pixels::Eight(pixels) => {
                    edit_band(&mut pixels.as_flat_samples_mut().samples[band], size, ways.as_ref(), &mut edit)?
                }
                Pixels::Sixteen(pixels) => {
                    edit_band(&mut pixels.as_flat_samples_mut().samples[band], size, ways.as_ref(), &mut edit)?
                }
            }
        }
        Ok(edited)
    }
}

/// Rows of a photo in its own space, `size` (1, rows, w, 3), edited in sRGB.
fn edit_band<L: Level>(
    own: &mut [L], size: [i64; 4], ways: Option<&BothWays>, edit: &mut impl FnMut(&Tensor) -> Result<Tensor>,
) -> Result<()> {
    let Some(ways) = ways else {
        let edited = levels::<L>(&edit(&signed(own, size))?)?;
        own.copy_from_slice(&edited);
        return Ok(());
    };
    let mut before: Vec<u16> = own.iter().map(|level| level.in_16_bits()).collect();
    ways.to_srgb(&mut before);
    let mut after = levels::<u16>(&edit(&signed(&before, size))?)?;
    // Converting to sRGB and back changes a number by rounding, and by more for colours outside sRGB. So the edit's
    // change is the difference between two conversions back.
    ways.back_to_own(&mut before);
    ways.back_to_own(&mut after);
    for ((own, before), after) in own.iter_mut().zip(before).zip(after) {
        *own = own.moved(i32::from(after) - i32::from(before));
    }
    Ok(())
}

/// A level of a channel, of 8 or 16 bits.
trait Level: Copy + Into<u16> {
    const MOST: f64;
    fn of(level: i32) -> Self;
    fn in_16_bits(self) -> u16;
    /// Moved by a difference in 16 bits.
    fn moved(self, by: i32) -> Self;
}

impl Level for u8 {
    const MOST: f64 = 255.0;
    fn of(level: i32) -> Self {
        level.clamp(0, 255) as u8
    }
    fn in_16_bits(self) -> u16 {
        u16::from(self) * 257
    }
    fn moved(self, by: i32) -> Self {
        Self::of(i32::from(self) + (f64::from(by) / 257.0).round() as i32)
    }
}

impl Level for u16 {
    const MOST: f64 = 65535.0;
    fn of(level: i32) -> Self {
        level.clamp(0, 65535) as u16
    }
    fn in_16_bits(self) -> u16 {
        self
    }
    fn moved(self, by: i32) -> Self {
        Self::of(i32::from(self) + by)
    }
}

/// Levels (rows, w, 3) as (1, 3, rows, w), f32 in [−1, 1]; 24 bits of mantissa tell all levels apart.
fn signed<L: Level>(levels: &[L], size: [i64; 4]) -> Tensor {
    let numbers: Vec<f32> = levels.iter().map(|&level| f32::from(Into::<u16>::into(level))).collect();
    let pixels = Tensor::from_slice(&numbers).view(size).permute([0, 3, 1, 2]).contiguous();
    pixels / (L::MOST / 2.0) - 1.0
}

/// The inverse, rounded; values outside [−1, 1] are clamped.
fn levels<L: Level>(pixels: &Tensor) -> Result<Vec<L>> {
    let scaled = ((pixels.to_device(tch::Device::Cpu).to_kind(Kind::Float) + 1.0) * (L::MOST / 2.0)).round();
    let numbers = Vec::<f32>::try_from(scaled.permute([0, 2, 3, 1]).contiguous().view(-1))?;
    Ok(numbers.into_iter().map(|number| L::of(number as i32)).collect())
}

fn too_large(width: u32, height: u32, max_pixels: u64) -> std::result::Result<(), String> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels <= max_pixels {
        return Ok(());
    }
    let (found, limit) = (pixels as f64 / 1e6, max_pixels as f64 / 1e6);
    Err(format!("{width}x{height} are {found:.0} megapixels, above the limit of {limit} megapixels; scale it down"))
}

fn jpeg(content: &[u8], max_pixels: u64) -> std::result::Result<Decoded, String> {
    let jpeg = Jpeg::parse(content)?;
    too_large(jpeg.width, jpeg.height, max_pixels)?;
    let metadata = Metadata::new(jpeg.exif, jpeg.density);
    let profile = jpeg.profile.as_deref();
    let of_profile = |samples| profile.map(|icc| ColourSpace::of_profile(icc, samples)).transpose();
    let decoded = |picture: DynamicImage, samples, space| Decoded { picture, samples, space, metadata };
    Ok(match jpeg.decode()? {
        JpegPixels::Grey(grey) => decoded(grey.into(), Samples::Grey, of_profile(Samples::Grey)),
        JpegPixels::Rgb(rgb) => decoded(rgb.into(), Samples::Rgb, of_profile(Samples::Rgb)),
        JpegPixels::InvertedCmyk(mut inks) => {
            inks.iter_mut().for_each(|ink| *ink = 255 - *ink);
            // CMYK is never written: an edit is in sRGB.
            let (pixels, space) = match colour::srgb_of_cmyk(&inks, profile) {
                Ok(pixels) => (pixels, Ok(None)),
                Err(reason) => (colour::srgb_of_ideal_inks(&inks), Err(reason)),
            };
            let rgb = RgbImage::from_raw(jpeg.width, jpeg.height, pixels).ok_or("it is cut off")?;
            decoded(rgb.into(), Samples::Cmyk, space)
        }
    })
}

fn avif(content: &[u8], max_pixels: u64) -> std::result::Result<Decoded, String> {
    let avif = Avif::parse(content)?;
    too_large(avif.width, avif.height, max_pixels)?;
    let of_codes = match avif.profile {
        Some(_) => None, // it comes before the codes
        None => ColourSpace::of_codes(avif.coding.primaries, avif.coding.transfer)?,
    };
    let decoded = avif.decode(max_pixels)?;
    let samples = if decoded.is_grey { Samples::Grey } else { Samples::Rgb };
    let space = avif.profile.map_or(Ok(of_codes), |icc| ColourSpace::of_profile(icc, samples).map(Some));
    let mut metadata = Metadata::new(avif.exif.as_deref(), None);
    metadata.set_upright(avif.sides_swap());
    // The picture is upright: the orientation that EXIF had does not count.
    Ok(Decoded { picture: decoded.picture, samples, space, metadata })
}

/// All formats but JPEG and AVIF.
fn by_image(content: &[u8], format: ImageFormat, max_pixels: u64) -> std::result::Result<Decoded, String> {
    let undecodable = |source| match source {
        ImageError::Limits(e) => format!("decoding it would take too much memory: {e}; scale it down"),
        ImageError::Unsupported(e) => format!("{e}; convert it to PNG or JPEG"),
        e => e.to_string(),
    };
    let mut reader = ImageReader::with_format(Cursor::new(content), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES_PER_PIXEL * max_pixels);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(undecodable)?;
    let (width, height) = decoder.dimensions();
    too_large(width, height, max_pixels)?;
    let samples = if decoder.color_type().has_color() { Samples::Rgb } else { Samples::Grey };
    // A TIFF's own tags: its decoder does not read profiles of the type that libtiff writes.
    let tags = (format == ImageFormat::Tiff).then(|| TiffTags::new(content)).flatten();
    let profile = match tags {
        Some(tags) => tags.profile().map(<[u8]>::to_vec),
        None => decoder.icc_profile().map_err(undecodable)?,
    };
    let exif = decoder.exif_metadata().map_err(undecodable)?;
    let orientation = decoder.orientation().map_err(undecodable)?;
    let chunks = if format == ImageFormat::Png { PngChunks::read(content) } else { PngChunks::default() };
    let space = match profile {
        Some(icc) if chunks.cicp.is_none() => ColourSpace::of_profile(&icc, samples).map(Some),
        _ => Ok(ColourSpace::of_png(&chunks)?),
    };
    let density = tags.and_then(|tags| tags.dots_per_inch()).map(|(x, y)| DotsPerInch { x, y });
    let metadata = Metadata::new(chunks.exif.or(exif.as_deref()), chunks.density.or(density));
    let mut picture = DynamicImage::from_decoder(decoder).map_err(undecodable)?;
    if metadata.exif.is_none() {
        picture.apply_orientation(orientation); // a TIFF says it in its own tags
    }
    Ok(Decoded { picture, samples, space, metadata })
}

/// Any decoded picture as RGB of its depth, its transparent parts white.
fn opaque(picture: DynamicImage) -> Pixels {
    let deep = picture.color().bytes_per_pixel() / picture.color().channel_count() > 1;
    match (deep, picture.color().has_alpha()) {
        (false, false) => Pixels::Eight(picture.into_rgb8()),
        (true, false) => Pixels::Sixteen(picture.into_rgb16()),
        (false, true) => {
            let rgba = picture.into_rgba8();
            Pixels::Eight(ImageBuffer::from_fn(rgba.width(), rgba.height(), |x, y| {
                let [r, g, b, alpha] = rgba.get_pixel(x, y).0.map(u32::from);
                Rgb([r, g, b].map(|channel| ((channel * alpha + 255 * (255 - alpha) + 127) / 255) as u8))
            }))
        }
        (true, true) => {
            let rgba = picture.into_rgba16();
            Pixels::Sixteen(ImageBuffer::from_fn(rgba.width(), rgba.height(), |x, y| {
                let [r, g, b, alpha] = rgba.get_pixel(x, y).0.map(u64::from);
                Rgb([r, g, b].map(|channel| ((channel * alpha + 65535 * (65535 - alpha) + 32767) / 65535) as u16))
            }))
        }
    }
}

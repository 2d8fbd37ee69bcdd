//! JPEG (ITU-T T.81; JFIF 1.02; EXIF 2.32): what a file's segments say, and its pixels.
//!
//! zune-jpeg reads the plain kind, which nearly all photos are, twice as fast as libjpeg without its assembly. It
//! fails on other kinds or decodes them wrongly; libjpeg reads those (mozjpeg's, built from C): several scans, chroma
//! finer than luma or in odd proportions, arithmetic coding, CMYK, stray bytes between segments.

use std::io::{self, Cursor};
use std::panic::{catch_unwind, AssertUnwindSafe};

use image::codecs::jpeg::JpegDecoder;
use image::{DynamicImage, GrayImage, RgbImage};
use mozjpeg::{ColorSpace, Decompress};

use super::metadata::DotsPerInch;

const START_OF_SCAN: u8 = 0xDA;
const END_OF_IMAGE: u8 = 0xD9;
const BASELINE: u8 = 0xC0;
const PROGRESSIVE: u8 = 0xC2;
/// The most scans that are read: a small file with many scans of a large picture could keep a decoder busy for hours.
const MAX_SCANS: usize = 200;
const EXIF: &[u8] = b"Exif\0\0";
const ICC: &[u8] = b"ICC_PROFILE\0";
const CENTIMETRES_PER_INCH: f64 = 2.54;

/// Pixels as the file holds them.
pub enum Pixels {
    /// One component.
    Grey(GrayImage),
    /// Y'CbCr or RGB, as RGB.
    Rgb(RgbImage),
    /// Four components as Adobe stores them, 255 for no ink: c, m, y, k of every pixel.
    InvertedCmyk(Vec<u8>),
}

/// What the segments of a JPEG say.
pub struct Jpeg<'a> {
    content: &'a [u8],
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// The TIFF structure of the first EXIF segment.
    pub exif: Option<&'a [u8]>,
    /// The colour profile, joined from its segments.
    pub profile: Option<Vec<u8>>,
    /// JFIF's density, where it has a unit.
    pub density: Option<DotsPerInch>,
    components: Vec<Component>,
    plain: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Component {
    id: u8,
    sampling: u8, // across in the upper half, down in the lower
}

/// What is collected while walking through the segments.
#[derive(Default)]
struct Walk<'a> {
    frame: Option<(u8, &'a [u8])>, // its marker and segment
    exif: Option<&'a [u8]>,
    profile: Vec<(u8, u8, &'a [u8])>, // number, how many, part
    jfif: Option<&'a [u8]>,
    adobe_transform: Option<u8>,
    first_scan: Option<usize>,
    components_in_first_scan: u8,
    scans: usize,
    stray_bytes: bool,
}

impl<'a> Jpeg<'a> {
    /// Reads the segments; the error says what is wrong with the file.
    pub fn parse(content: &'a [u8]) -> Result<Self, String> {
        let walk = Walk::through(content);
        // Inside the entropy-coded data FF is always followed by 00 or a restart marker.
        let ends = |from: usize| content[from..].windows(2).any(|pair| pair == [0xFF, END_OF_IMAGE]);
        if !walk.first_scan.is_some_and(ends) {
            return Err("it is cut off: the JPEG has no end".into());
        }
        if walk.scans > MAX_SCANS {
            return Err(format!("the JPEG has more than {MAX_SCANS} scans"));
        }
        let (marker, frame) = walk.frame.ok_or("the JPEG has no frame")?;
        let [precision, h1, h0, w1, w0, count, ref rest @ ..] = *frame else {
            return Err("the JPEG's frame is cut off".into());
        };
        let components: Vec<Component> =
            rest.chunks_exact(3).take(count.into()).map(|c| Component { id: c[0], sampling: c[1] }).collect();
        if precision != 8 {
            return Err(format!("the JPEG has {precision} bits a sample; only 8 are read, convert it to PNG"));
        }
        let (width, height) = (u16::from_be_bytes([w1, w0]).into(), u16::from_be_bytes([h1, h0]).into());
        if width == 0 || height == 0 {
            return Err("the JPEG does not say how large it is".into());
        }
        Ok(Self {
            content,
            width,
            height,
            exif: walk.exif,
            profile: walk.profile(),
            density: walk.jfif.and_then(density),
            plain: walk.is_plain(marker, &components),
            components,
        })
    }

    /// The pixels, not turned upright.
    pub fn decode(&self) -> Result<Pixels, String> {
        if self.plain {
            let decoder = JpegDecoder::new(Cursor::new(self.content));
            match decoder.and_then(DynamicImage::from_decoder) {
                Ok(DynamicImage::ImageLuma8(grey)) if self.fits(grey.dimensions()) => return Ok(Pixels::Grey(grey)),
                Ok(DynamicImage::ImageRgb8(rgb)) if self.fits(rgb.dimensions()) => return Ok(Pixels::Rgb(rgb)),
                _ => {} // libjpeg has the last word
            }
        }
        self.by_libjpeg()
    }

    fn fits(&self, dimensions: (u32, u32)) -> bool {
        dimensions == (self.width, self.height)
    }

    fn by_libjpeg(&self) -> Result<Pixels, String> {
        let space = match self.components.len() {
            1 => ColorSpace::JCS_GRAYSCALE,
            4 => ColorSpace::JCS_CMYK,
            _ => ColorSpace::JCS_RGB,
        };
        let decode = || -> io::Result<Vec<u8>> {
            let mut started = Decompress::new_mem(self.content)?.to_colorspace(space)?;
            if (started.width(), started.height()) != (self.width as usize, self.height as usize) {
                return Err(io::Error::other("its frames contradict one another"));
            }
            started.read_scanlines::<u8>()
        };
        // On what it cannot read, libjpeg calls `error_exit`; the crate turns that into an unwinding with libjpeg's
        // message.
        let pixels = match catch_unwind(AssertUnwindSafe(decode)) {
            Ok(decoded) => decoded.map_err(|e| e.to_string())?,
            Err(words) => {
                let words = words.downcast_ref::<String>().map_or("it cannot be decoded", String::as_str);
                return Err(words.trim_start_matches("libjpeg fatal error: ").to_string());
            }
        };
        let made = match space {
            ColorSpace::JCS_CMYK => Some(Pixels::InvertedCmyk(pixels)),
            ColorSpace::JCS_GRAYSCALE => GrayImage::from_raw(self.width, self.height, pixels).map(Pixels::Grey),
            _ => RgbImage::from_raw(self.width, self.height, pixels).map(Pixels::Rgb),
        };
        made.ok_or_else(|| "it is cut off".into())
    }
}

impl<'a> Walk<'a> {
    /// Walks from segment to segment, to the end of the image or as far as the file can be followed.
    fn through(content: &'a [u8]) -> Self {
        let mut walk = Walk::default();
        let mut at = 2; // after the start-of-image marker
        while walk.scans <= MAX_SCANS {
            let Some(found) = next_marker(content, at) else { break };
            walk.stray_bytes |= found.skipped > 0 && walk.scans == 0;
            at = found.end;
            match found.marker {
                END_OF_IMAGE => break,
                0x01 | 0xD0..=0xD8 => {} // without a length
                marker => {
                    let Some(segment) = segment(content, at) else { break };
                    walk.note(marker, segment, at);
                    at += 2 + segment.len();
                }
            }
        }
        walk
    }

    fn note(&mut self, marker: u8, segment: &'a [u8], at: usize) {
        match marker {
            0xC0..=0xCF if ![0xC4, 0xC8, 0xCC].contains(&marker) => self.frame = self.frame.or(Some((marker, segment))),
            START_OF_SCAN => {
                self.scans += 1;
                if self.first_scan.is_none() {
                    self.first_scan = Some(at);
                    self.components_in_first_scan = segment.first().copied().unwrap_or(0);
                }
            }
            0xE0 if segment.starts_with(b"JFIF\0") => self.jfif = self.jfif.or(Some(segment)),
            0xE1 if segment.starts_with(EXIF) => self.exif = self.exif.or(Some(&segment[EXIF.len()..])),
            0xE2 => {
                if let Some([number, count, part @ ..]) = segment.strip_prefix(ICC) {
                    self.profile.push((*number, *count, part));
                }
            }
            0xEE if segment.starts_with(b"Adobe") => self.adobe_transform = segment.get(11).copied(),
            _ => {}
        }
    }

    /// The parts in their order (ICC.1:2022, annex B.4); `None` where one is missing.
    fn profile(&self) -> Option<Vec<u8>> {
        let mut parts = self.profile.clone();
        parts.sort_by_key(|(number, ..)| *number);
        let count = usize::from(parts.first()?.1);
        let whole = parts.len() == count && parts.iter().zip(1..).all(|((number, ..), k)| usize::from(*number) == k);
        // An unreadable profile is reported later; a missing part makes the profile unreadable.
        whole.then(|| parts.iter().flat_map(|(.., part)| *part).copied().collect()).or_else(|| Some(Vec::new()))
    }

    /// Whether zune-jpeg reads it as libjpeg does.
    fn is_plain(&self, frame: u8, components: &[Component]) -> bool {
        let sampling: Vec<u8> = components.iter().map(|c| c.sampling).collect();
        let ids: Vec<u8> = components.iter().map(|c| c.id).collect();
        let in_one_scan = self.scans == 1 && usize::from(self.components_in_first_scan) == components.len();
        let colour = match self.adobe_transform {
            Some(transform) => transform == 1,
            None => self.jfif.is_some() || ids == [1, 2, 3],
        };
        let subsampled = matches!(sampling[..], [0x11 | 0x21 | 0x22, 0x11, 0x11]);
        !self.stray_bytes
            && (frame == PROGRESSIVE || frame == BASELINE && in_one_scan)
            && (sampling == [0x11] || subsampled && colour)
    }
}

struct Marker {
    marker: u8,
    end: usize,
    /// Stray bytes before it, which belong to no segment.
    skipped: usize,
}

/// The next marker from `from` on; FF may be repeated before it.
fn next_marker(content: &[u8], from: usize) -> Option<Marker> {
    let rest = content.get(from..)?;
    let start = rest.windows(2).position(|pair| pair[0] == 0xFF && ![0, 0xFF].contains(&pair[1]))?;
    let fill = rest[..start].iter().rev().take_while(|&&byte| byte == 0xFF).count();
    Some(Marker { marker: rest[start + 1], end: from + start + 2, skipped: start - fill })
}

/// A segment without its length.
fn segment(content: &[u8], at: usize) -> Option<&[u8]> {
    let [high, low] = *content.get(at..at + 2)? else { return None };
    content.get(at + 2..at + usize::from(u16::from_be_bytes([high, low])))
}

fn density(jfif: &[u8]) -> Option<DotsPerInch> {
    let [unit, x1, x0, y1, y0] = *jfif.get(7..12)? else { return None };
    let scale = match unit {
        1 => 1.0,
        2 => CENTIMETRES_PER_INCH,
        _ => return None,
    };
    let [x, y] = [[x1, x0], [y1, y0]].map(|pair| f64::from(u16::from_be_bytes(pair)) * scale);
    (x > 0.0 && y > 0.0).then_some(DotsPerInch { x, y })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::jpeg::JpegEncoder;

    fn is_whole(bytes: &[u8]) -> bool {
        !matches!(Jpeg::parse(bytes), Err(reason) if reason.contains("cut off"))
    }

    #[test]
    fn every_truncation_is_noticed() {
        let photo = RgbImage::from_fn(40, 30, |x, y| image::Rgb([(x * 6) as u8, (y * 8) as u8, 90]));
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(&photo).expect("encoded");
        assert!(is_whole(&bytes) && Jpeg::parse(&bytes).expect("read").plain);
        for length in 0..bytes.len() {
            assert!(!is_whole(&bytes[..length]), "cut at {length} of {}", bytes.len());
        }
        let with_tail = [&bytes[..], b"appended by a camera"].concat();
        assert!(is_whole(&with_tail));
    }

    #[test]
    fn a_thumbnail_does_not_stand_for_the_picture() {
        let thumbnail = [0xFF, 0xD8, 0xFF, START_OF_SCAN, 0xFF, END_OF_IMAGE];
        let length = (thumbnail.len() as u16 + 2).to_be_bytes();
        let mut bytes = vec![0xFF, 0xD8, 0xFF, 0xE1, length[0], length[1]];
        bytes.extend(thumbnail);
        assert!(!is_whole(&bytes));
        bytes.extend([0xFF, START_OF_SCAN, 0, 2, 7, 7, 0xFF, 0, 7]);
        assert!(!is_whole(&bytes));
        bytes.extend([0xFF, END_OF_IMAGE]);
        assert!(is_whole(&bytes));
    }

    #[test]
    fn a_profile_is_joined_by_its_parts_numbers() {
        let part = |number: u8, count: u8, text: &'static [u8]| (number, count, text);
        let joined = |parts: &[(u8, u8, &'static [u8])]| Walk { profile: parts.to_vec(), ..Walk::default() }.profile();
        assert_eq!(joined(&[part(2, 2, b"cd"), part(1, 2, b"ab")]), Some(b"abcd".to_vec()));
        assert_eq!(joined(&[part(1, 2, b"ab")]), Some(Vec::new()), "a part is missing");
        assert_eq!(joined(&[]), None);
    }
}

//! AVIF (AV1 Image File Format, version 1.2): what a file says of its picture, and its pixels, which rav1d decodes, dav1d in
//! Rust.

mod items;
mod planes;
mod sequence_header;

use std::borrow::Cow;

use image::metadata::Orientation;
use image::{DynamicImage, ImageBuffer, RgbImage, RgbaImage};
use re_rav1d::dav1d::{Decoder, Error, Picture, Settings};

use items::{Items, Name};
use planes::{Coding, FromLevel, Planes};

use super::colour::UNSPECIFIED;

const UNSAID: Coding = Coding { primaries: UNSPECIFIED, transfer: UNSPECIFIED, matrix: UNSPECIFIED, full_range: true };
/// MIAF, sec. 7.3.11.4.2: no smaller tiles.
const LEAST_TILE: u32 = 64;
/// MIAF, sec. 7.3.6.7: one turn and one mirroring at most.
const MOST_TURNS: usize = 2;
const ALPHA: [&[u8]; 2] = [b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0", b"urn:mpeg:hevc:2015:auxid:1\0"];
/// Properties that are read here, or that matter to no reader of one still picture in its own colours.
const KNOWN: [&Name; 12] =
    [b"ispe", b"pixi", b"pasp", b"av1C", b"colr", b"auxC", b"irot", b"imir", b"clli", b"mdcv", b"cclv", b"amve"];

/// What a file says of its picture.
pub struct Avif<'a> {
    items: Items<'a>,
    /// In pixels, before the picture is turned.
    pub width: u32,
    /// In pixels, before the picture is turned.
    pub height: u32,
    /// The colour profile.
    pub profile: Option<&'a [u8]>,
    /// How numbers stand for colours, by the container, else by the AV1 stream.
    pub coding: Coding,
    /// The EXIF block.
    pub exif: Option<Vec<u8>>,
    /// Turns and mirrorings in their order. They count, and EXIF's orientation does not (AVIF, sec. 4.1, MIAF 7.3.6.7).
    turns: Vec<Orientation>,
    alpha: Option<u32>,
}

/// A decoded picture.
pub struct Decoded {
    /// Upright; RGB of 8 or 16 bits, with alpha where there is some.
    pub picture: DynamicImage,
    /// Whether the file has luma only.
    pub is_grey: bool,
}

impl<'a> Avif<'a> {
    /// Reads all but the pixels; the error says what is wrong with the file.
    pub fn parse(content: &'a [u8]) -> Result<Self, String> {
        let items = Items::parse(content)?;
        let primary = items.primary();
        let (width, height) = size(&items, primary)?;
        let of_colours = || items.properties(primary).filter(|(found, _)| found.name == *b"colr");
        let profile = of_colours()
            .find_map(|(found, _)| found.data.strip_prefix(b"prof").or_else(|| found.data.strip_prefix(b"rICC")));
        let turns = items.properties(primary).filter_map(|(found, _)| turn(&found.name, found.data));
        let turns = turns.take(MOST_TURNS).collect();
        let is_alpha = |item: &u32| {
            let kind = items.property(*item, b"auxC").and_then(|data| data.get(4..));
            kind.is_some_and(|kind| ALPHA.iter().any(|alpha| kind.starts_with(alpha)))
        };
        let alpha = items.referring(b"auxl", primary).find(is_alpha);
        let (coding, exif) = (coding(&items, primary), exif(&items, primary));
        Ok(Self { width, height, profile, coding, exif, turns, alpha, items })
    }

    /// Whether width and height change places when the picture is turned upright.
    pub fn sides_swap(&self) -> bool {
        let quarters = self.turns.iter().filter(|turn| matches!(turn, Orientation::Rotate90 | Orientation::Rotate270));
        quarters.count() % 2 == 1
    }

    /// The pixels, of at most `max_pixels` a frame.
    pub fn decode(&self, max_pixels: u64) -> Result<Decoded, String> {
        let primary = self.items.primary();
        let colour = self.planes(primary, max_pixels)?;
        let alpha = self.alpha.map(|item| self.planes(item, max_pixels)).transpose()?;
        if alpha.as_ref().is_some_and(|alpha| (alpha.width, alpha.height) != (colour.width, colour.height)) {
            return Err("its alpha is of another size".into());
        }
        let is_grey = colour.is_grey();
        let mut picture = match colour.bits {
            8 => self.picture::<u8>(colour, alpha)?,
            _ => self.picture::<u16>(colour, alpha)?,
        };
        self.turns.iter().for_each(|turn| picture.apply_orientation(*turn));
        Ok(Decoded { picture, is_grey })
    }

    fn picture<L: Level>(&self, colour: Planes, alpha: Option<Planes>) -> Result<DynamicImage, String> {
        let pixels: Vec<L> = colour.rgb(self.coding)?;
        let (Some(alpha), Some(item)) = (alpha, self.alpha) else {
            return L::rgb(self.width, self.height, pixels).ok_or_else(|| "it is cut off".into());
        };
        drop(colour);
        let alpha: Vec<L> = alpha.luma(coding(&self.items, item).full_range);
        let premultiplied = self.items.referred(b"prem", self.items.primary()).contains(&item);
        let mut with_alpha = Vec::with_capacity(4 * alpha.len());
        for (pixel, alpha) in pixels.chunks_exact(3).zip(alpha) {
            let own = |level: L| {
                if premultiplied {
                    L::of(level.share() / alpha.share().max(f32::MIN_POSITIVE))
                } else {
                    level
                }
            };
            with_alpha.extend([own(pixel[0]), own(pixel[1]), own(pixel[2]), alpha]);
        }
        L::rgba(self.width, self.height, with_alpha).ok_or_else(|| "it is cut off".into())
    }

    fn planes(&self, item: u32, max_pixels: u64) -> Result<Planes, String> {
        if let Some((unknown, _)) = self
            .items
            .properties(item)
            .find(|(found, essential)| *essential && !KNOWN.contains(&&found.name) || found.name == *b"clap")
        {
            return Err(format!(
                "its property `{}` is not read; convert it to PNG or JPEG",
                unknown.name.escape_ascii()
            ));
        }
        match self.items.type_of(item).as_ref() {
            Some(b"av01") => self.frame(item, max_pixels),
            Some(b"grid") => self.grid(item, max_pixels),
            Some(other) => Err(format!(
                "its picture is of the kind `{}`, which is not read; convert it to PNG or JPEG",
                other.escape_ascii()
            )),
            None => Err("its picture is missing".into()),
        }
    }

    fn frame(&self, item: u32, max_pixels: u64) -> Result<Planes, String> {
        let (width, height) = size(&self.items, item)?;
        let pixels = u64::from(width) * u64::from(height);
        if pixels > max_pixels {
            return Err(format!("a part of it is of {width}x{height} pixels"));
        }
        let picture = decoded(self.items.data(item)?, pixels)?;
        if (picture.width(), picture.height()) != (width, height) {
            let (w, h) = (picture.width(), picture.height());
            return Err(format!("it is {w}x{h}, although it says {width}x{height}"));
        }
        Planes::of(&picture)
    }

    /// Tiles side by side, row after row (HEIF, sec. 6.6.2.3).
    fn grid(&self, item: u32, max_pixels: u64) -> Result<Planes, String> {
        let (columns, rows, (width, height)) = layout(&self.items.data(item)?).ok_or("its grid is cut off")?;
        let tiles = self.items.referred(b"dimg", item);
        let contradicts = || "the tiles of its grid contradict one another".to_string();
        let first = *tiles.first().ok_or_else(contradicts)?;
        let (across, down) = size(&self.items, first)?;
        let covers = |count: u32, tile: u32, side: u32| {
            let before_last = u64::from(count - 1) * u64::from(tile);
            tile >= LEAST_TILE && before_last < side.into() && before_last + u64::from(tile) >= side.into()
        };
        let sizes_agree =
            (width, height) == size(&self.items, item)? && u64::from(width) * u64::from(height) <= max_pixels;
        if !sizes_agree
            || tiles.len() != (columns * rows) as usize
            || !covers(columns, across, width)
            || !covers(rows, down, height)
        {
            return Err(contradicts());
        }
        let mut whole: Option<(Planes, Planes)> = None; // and a tile to compare with
        for (tile, k) in tiles.iter().zip(0..) {
            if self.items.type_of(*tile) != Some(*b"av01") {
                return Err(contradicts());
            }
            let found = self.planes(*tile, max_pixels)?;
            let (x, y) = (k % columns * across, k / columns * down);
            let (whole, like) = match &mut whole {
                Some(whole) => whole,
                none => none.insert((
                    Planes::to_fill(&found, width as usize, height as usize),
                    Planes::to_fill(&found, found.width, found.height),
                )),
            };
            if !found.is_like(like) || !found.can_lie_at(x as usize, y as usize) {
                return Err(contradicts());
            }
            whole.put(&found, x as usize, y as usize);
        }
        whole.map(|(whole, _)| whole).ok_or_else(contradicts)
    }
}

/// Width and height of an item.
fn size(items: &Items<'_>, item: u32) -> Result<(u32, u32), String> {
    let number = |at: usize| Some(u32::from_be_bytes(*items.property(item, b"ispe")?.get(at..)?.first_chunk()?));
    let size = number(4).zip(number(8)).ok_or("it does not say how large its picture is")?;
    if size.0 == 0 || size.1 == 0 {
        return Err("it has no pixels".into());
    }
    Ok(size)
}

/// How an item's numbers stand for colours; for a grid, by its first tile's stream.
fn coding(items: &Items<'_>, item: u32) -> Coding {
    let nclx = items.properties(item).find_map(|(found, _)| match found.data.strip_prefix(b"nclx") {
        Some(&[p1, p0, t1, t0, m1, m0, range, ..]) if found.name == *b"colr" => {
            let [primaries, transfer, matrix] =
                [[p1, p0], [t1, t0], [m1, m0]].map(|code| u8::try_from(u16::from_be_bytes(code)).unwrap_or(u8::MAX));
            Some(Coding { primaries, transfer, matrix, full_range: range & 0x80 != 0 })
        }
        _ => None,
    });
    let frame = items.referred(b"dimg", item).first().copied().unwrap_or(item);
    let in_stream = || sequence_header::colours(&items.data(frame).ok()?);
    nclx.or_else(in_stream).unwrap_or(UNSAID)
}

/// The TIFF structure in the item that describes `primary`; how far in it begins stands before it (HEIF, annex A.2.1).
fn exif(items: &Items<'_>, primary: u32) -> Option<Vec<u8>> {
    let item = items.referring(b"cdsc", primary).find(|item| items.type_of(*item) == Some(*b"Exif"))?;
    let data = items.data(item).ok()?;
    let (offset, block) = data.split_first_chunk()?;
    Some(block.get(u32::from_be_bytes(*offset) as usize..)?.to_vec())
}

fn turn(name: &Name, data: &[u8]) -> Option<Orientation> {
    Some(match (name, data.first()?) {
        // Quarters against the clock.
        (b"irot", quarters) => match quarters & 3 {
            1 => Orientation::Rotate270,
            2 => Orientation::Rotate180,
            3 => Orientation::Rotate90,
            _ => return None,
        },
        (b"imir", axis) if axis & 1 == 0 => Orientation::FlipVertical,
        (b"imir", _) => Orientation::FlipHorizontal,
        _ => return None,
    })
}

/// Columns, rows, and the size of the whole.
fn layout(data: &[u8]) -> Option<(u32, u32, (u32, u32))> {
    let [0, flags, rows, columns, ref sides @ ..] = *data else { return None };
    let side = |k: usize| match flags & 1 {
        0 => Some(u16::from_be_bytes(*sides.get(2 * k..)?.first_chunk()?).into()),
        _ => Some(u32::from_be_bytes(*sides.get(4 * k..)?.first_chunk()?)),
    };
    Some((u32::from(columns) + 1, u32::from(rows) + 1, (side(0)?, side(1)?)))
}

/// The picture in an AV1 stream, of at most `max_pixels`.
fn decoded(stream: Cow<'_, [u8]>, max_pixels: u64) -> Result<Picture, String> {
    if stream.is_empty() {
        return Err("it is cut off".into());
    }
    let mut settings = Settings::new();
    settings.set_n_threads(1); // loaders decode many photos at a time
    settings.set_max_frame_delay(1);
    settings.set_all_layers(false);
    settings.set_frame_size_limit(max_pixels.try_into().unwrap_or(u32::MAX));
    let damaged = |error: Error| format!("its AV1 stream is damaged: {error}");
    let mut decoder = Decoder::with_settings(&settings).map_err(damaged)?;
    let mut sent = decoder.send_data(stream.into_owned(), None, None, None);
    loop {
        match decoder.get_picture() {
            Err(Error::Again) => {}
            found => return found.map_err(damaged),
        }
        match sent {
            Ok(()) => return Err("its AV1 stream has no picture".into()),
            Err(Error::Again) => sent = decoder.send_pending_data(),
            Err(error) => return Err(damaged(error)),
        }
    }
}

/// A level of a channel, and pictures of such levels.
trait Level: FromLevel {
    /// Of the most.
    fn share(self) -> f32;
    fn rgb(width: u32, height: u32, levels: Vec<Self>) -> Option<DynamicImage>;
    fn rgba(width: u32, height: u32, levels: Vec<Self>) -> Option<DynamicImage>;
}

impl Level for u8 {
    fn share(self) -> f32 {
        f32::from(self) / 255.0
    }
    fn rgb(width: u32, height: u32, levels: Vec<Self>) -> Option<DynamicImage> {
        RgbImage::from_raw(width, height, levels).map(DynamicImage::from)
    }
    fn rgba(width: u32, height: u32, levels: Vec<Self>) -> Option<DynamicImage> {
        RgbaImage::from_raw(width, height, levels).map(DynamicImage::from)
    }
}

impl Level for u16 {
    fn share(self) -> f32 {
        f32::from(self) / 65535.0
    }
    fn rgb(width: u32, height: u32, levels: Vec<Self>) -> Option<DynamicImage> {
        ImageBuffer::from_raw(width, height, levels).map(DynamicImage::ImageRgb16)
    }
    fn rgba(width: u32, height: u32, levels: Vec<Self>) -> Option<DynamicImage> {
        ImageBuffer::from_raw(width, height, levels).map(DynamicImage::ImageRgba16)
    }
}

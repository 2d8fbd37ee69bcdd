//! The planes of a decoded AV1 picture, and their way to RGB (ITU-T H.273, sec. 8.3).

use re_rav1d::dav1d::{Picture, PixelLayout, PlanarImageComponent};

use crate::images::colour::UNSPECIFIED;

/// How the numbers of the planes stand for colours (H.273): primaries, transfer function, matrix, range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coding {
    /// What red, green and blue are.
    pub primaries: u8,
    /// From light to numbers.
    pub transfer: u8,
    /// From RGB to Y'CbCr.
    pub matrix: u8,
    /// Whether black is 0 and white the greatest number.
    pub full_range: bool,
}

/// A picture of one or three planes.
pub struct Planes {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// 8, 10 or 12.
    pub bits: u32,
    planes: Vec<Plane>,
    /// Whether chroma is of half the width, of half the height.
    halves: (bool, bool),
}

#[derive(Clone)]
struct Plane {
    width: usize,
    numbers: Vec<u16>,
}

impl Planes {
    /// An empty picture of this size to put tiles like `tile` into.
    pub fn to_fill(tile: &Self, width: usize, height: usize) -> Self {
        let halves = tile.halves;
        let plane = |index: usize| {
            let (width, height) = size_of(index, width, height, halves);
            Plane { width, numbers: vec![0; width * height] }
        };
        Self { width, height, bits: tile.bits, planes: (0..tile.planes.len()).map(plane).collect(), halves }
    }

    /// Copies what the decoder made.
    pub fn of(picture: &Picture) -> Result<Self, String> {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let (count, halves) = match picture.pixel_layout() {
            PixelLayout::I400 => (1, (false, false)),
            PixelLayout::I420 => (3, (true, true)),
            PixelLayout::I422 => (3, (true, false)),
            PixelLayout::I444 => (3, (false, false)),
        };
        let bits = picture.bit_depth() as u32;
        let plane = |index: usize| {
            let component = PlanarImageComponent::from(index);
            let (width, height) = size_of(index, width, height, halves);
            let (stride, data) = (picture.stride(component) as usize, picture.plane(component));
            let mut numbers = Vec::with_capacity(width * height);
            for row in data.chunks(stride).take(height) {
                match bits {
                    8 => numbers.extend(row.iter().take(width).map(|&byte| u16::from(byte))),
                    _ => numbers.extend(row.chunks_exact(2).take(width).map(|b| u16::from_ne_bytes([b[0], b[1]]))),
                }
            }
            (numbers.len() == width * height).then_some(Plane { width, numbers })
        };
        let planes: Option<Vec<Plane>> = (0..count).map(plane).collect();
        Ok(Self { width, height, bits, planes: planes.ok_or("it is cut off")?, halves })
    }

    /// Whether there is no chroma.
    pub fn is_grey(&self) -> bool {
        self.planes.len() == 1
    }

    /// Whether size, depth and layout are those of `other`.
    pub fn is_like(&self, other: &Self) -> bool {
        let kind = |of: &Self| (of.width, of.height, of.bits, of.planes.len(), of.halves);
        kind(self) == kind(other)
    }

    /// Whether every sample of chroma has its place when this is put there.
    pub fn can_lie_at(&self, x: usize, y: usize) -> bool {
        (x.is_multiple_of(2) || !self.halves.0) && (y.is_multiple_of(2) || !self.halves.1)
    }

    /// Puts a tile at a place, both even where chroma is halved; what lies outside is left out.
    pub fn put(&mut self, tile: &Self, x: usize, y: usize) {
        for (index, (plane, part)) in self.planes.iter_mut().zip(&tile.planes).enumerate() {
            let (x, y) = if index == 0 { (x, y) } else { (x >> self.halves.0 as u32, y >> self.halves.1 as u32) };
            let width = part.width.min(plane.width - x);
            let rows = plane.numbers.chunks_exact_mut(plane.width).skip(y);
            for (row, part) in rows.zip(part.numbers.chunks_exact(part.width)) {
                row[x..x + width].copy_from_slice(&part[..width]);
            }
        }
    }

    /// The first plane as levels, 0 to `most`.
    pub fn luma<L: FromLevel>(&self, full_range: bool) -> Vec<L> {
        let (black, span) = self.luma_range(full_range);
        self.planes[0].numbers.iter().map(|&number| L::of((f32::from(number) - black) / span)).collect()
    }

    /// r, g, b of every pixel. The error names a matrix that is not known here.
    pub fn rgb<L: FromLevel>(&self, coding: Coding) -> Result<Vec<L>, String> {
        if self.is_grey() {
            return Ok(self.luma::<L>(coding.full_range).into_iter().flat_map(|level| [level; 3]).collect());
        }
        let to_rgb = Matrix::of(coding.matrix, self.halves)?;
        let (black, span) = self.luma_range(coding.full_range);
        // With the identity all three planes are of luma's kind.
        let (middle, chroma_span) = match to_rgb {
            Matrix::Identity => (black, span),
            _ if coding.full_range => (self.at_8_bits(128), self.greatest()),
            _ => (self.at_8_bits(128), self.at_8_bits(224)),
        };
        let mut rgb = Vec::with_capacity(3 * self.width * self.height);
        let mut chroma = [vec![0.0; self.width], vec![0.0; self.width]];
        for (y, row) in self.planes[0].numbers.chunks_exact(self.width).enumerate() {
            for (numbers, plane) in chroma.iter_mut().zip(&self.planes[1..]) {
                self.chroma_row(plane, y, numbers);
            }
            for (&luma, (&cb, &cr)) in row.iter().zip(chroma[0].iter().zip(&chroma[1])) {
                let luma = (f32::from(luma) - black) / span;
                let [cb, cr] = [cb, cr].map(|number| (number - middle) / chroma_span);
                rgb.extend(to_rgb.rgb(luma, cb, cr).map(L::of));
            }
        }
        Ok(rgb)
    }

    /// A row of chroma in full width, bilinear: its samples lie between those of luma, as libavif has it.
    fn chroma_row(&self, plane: &Plane, y: usize, row: &mut [f32]) {
        let height = plane.numbers.len() / plane.width;
        let rows = |k: usize| &plane.numbers[k * plane.width..(k + 1) * plane.width];
        let (near, far) = if self.halves.1 { neighbours(y, height) } else { (y, y) };
        let (near, far) = (rows(near), rows(far));
        let blend = |a: f32, b: f32| 0.75 * a + 0.25 * b;
        let at = |x: usize| blend(f32::from(near[x]), f32::from(far[x]));
        for (x, number) in row.iter_mut().enumerate() {
            let (near, far) = if self.halves.0 { neighbours(x, plane.width) } else { (x, x) };
            *number = blend(at(near), at(far));
        }
    }

    /// The number for black, and from there to white.
    fn luma_range(&self, full_range: bool) -> (f32, f32) {
        if full_range {
            (0.0, self.greatest())
        } else {
            (self.at_8_bits(16), self.at_8_bits(219))
        }
    }

    fn greatest(&self) -> f32 {
        ((1u32 << self.bits) - 1) as f32
    }

    fn at_8_bits(&self, number: u32) -> f32 {
        (number << (self.bits - 8)) as f32
    }
}

/// Width and height of a plane.
fn size_of(index: usize, width: usize, height: usize, halves: (bool, bool)) -> (usize, usize) {
    let of = |side: usize, half: bool| if half && index > 0 { side.div_ceil(2) } else { side };
    (of(width, halves.0), of(height, halves.1))
}

/// The sample of `count` that pixel `k` of twice as many lies in, and the next nearest.
fn neighbours(k: usize, count: usize) -> (usize, usize) {
    let near = k / 2;
    let far = if k.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(count - 1) };
    (near, far)
}

/// H.273, table 4.
enum Matrix {
    /// The planes are green, blue and red.
    Identity,
    /// Green against magenta, orange against blue.
    YCgCo,
    /// By the weights of red and blue in luma.
    Weights { red: f32, blue: f32 },
}

impl Matrix {
    fn of(code: u8, halves: (bool, bool)) -> Result<Self, String> {
        let (red, blue) = match code {
            0 if halves == (false, false) => return Ok(Self::Identity),
            8 => return Ok(Self::YCgCo),
            1 => (0.2126, 0.0722),
            4 => (0.3, 0.11),
            5 | 6 | UNSPECIFIED => (0.299, 0.114),
            7 => (0.212, 0.087),
            9 => (0.2627, 0.0593),
            _ => return Err(format!("its colours are coded by a matrix that is not read (H.273's number {code})")),
        };
        Ok(Self::Weights { red, blue })
    }

    fn rgb(&self, y: f32, cb: f32, cr: f32) -> [f32; 3] {
        match *self {
            Self::Identity => [cr, y, cb],
            Self::YCgCo => [y - cb + cr, y + cb, y - cb - cr],
            Self::Weights { red, blue } => {
                let (r, b) = (y + 2.0 * (1.0 - red) * cr, y + 2.0 * (1.0 - blue) * cb);
                [r, (y - red * r - blue * b) / (1.0 - red - blue), b]
            }
        }
    }
}

/// A level of a channel.
pub trait FromLevel: Copy {
    /// Of a number, rounded and clamped: 0 is none, 1 the most.
    fn of(number: f32) -> Self;
}

impl FromLevel for u8 {
    fn of(number: f32) -> Self {
        (number * 255.0 + 0.5) as u8 // clamps
    }
}

impl FromLevel for u16 {
    fn of(number: f32) -> Self {
        (number * 65535.0 + 0.5) as u16
    }
}

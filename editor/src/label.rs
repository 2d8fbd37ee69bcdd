//! Numbers drawn into a picture, in a font of 3 × 5 dots.

use image::{Rgb, RgbImage};

const DOTS: (u32, u32) = (3, 5);
const INK: Rgb<u8> = Rgb([0, 0, 0]);

/// The height of a band that holds a label at `scale` pixels a dot, with a margin of one dot above and below.
pub fn height(scale: u32) -> u32 {
    (DOTS.1 + 2) * scale
}

/// Draws `text` (digits, point, minus) in the middle of a band `width` wide whose upper left corner is `at`.
///
/// What does not fit into the band is left out.
pub fn draw(picture: &mut RgbImage, text: &str, at: (u32, u32), width: u32, scale: u32) {
    let advance = (DOTS.0 + 1) * scale;
    let length = text.chars().count() as u32 * advance;
    let mut left = at.0 + width.saturating_sub(length) / 2;
    for glyph in text.chars().map(dots) {
        if left + advance > at.0 + width {
            return;
        }
        for dot in (0..DOTS.0 * DOTS.1).filter(|dot| glyph >> (DOTS.0 * DOTS.1 - 1 - dot) & 1 == 1) {
            let (x, y) = (left + dot % DOTS.0 * scale, at.1 + (1 + dot / DOTS.0) * scale);
            fill(picture, x, y, scale);
        }
        left += advance;
    }
}

fn fill(picture: &mut RgbImage, left: u32, top: u32, side: u32) {
    for y in top..top + side {
        for x in left..left + side {
            picture.put_pixel(x, y, INK);
        }
    }
}

/// A glyph's rows from the top, three bits each.
fn dots(glyph: char) -> u32 {
    match glyph {
        '0' => 0b111_101_101_101_111,
        '1' => 0b010_110_010_010_111,
        '2' => 0b111_001_111_100_111,
        '3' => 0b111_001_111_001_111,
        '4' => 0b101_101_111_001_001,
        '5' => 0b111_100_111_001_111,
        '6' => 0b111_100_111_101_111,
        '7' => 0b111_001_001_010_010,
        '8' => 0b111_101_111_101_111,
        '9' => 0b111_101_111_001_111,
        '.' => 0b000_000_000_000_010,
        '-' => 0b000_000_111_000_000,
        _ => 0,
    }
}

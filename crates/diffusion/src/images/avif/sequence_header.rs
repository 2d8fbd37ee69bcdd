//! What an AV1 stream says of its colours (AV1 Bitstream & Decoding Process Specification, sec. 5.5), for files whose
//! container does not.

use super::planes::Coding;
use crate::images::colour::UNSPECIFIED;

const SEQUENCE_HEADER: u32 = 1;
const SRGB_AS_IT_IS: [u8; 3] = [1, 13, 0];

/// Primaries, transfer function, matrix and range in the first sequence header; `None` where it is not found, or has
/// a video's timing.
pub fn colours(stream: &[u8]) -> Option<Coding> {
    let mut rest = stream;
    loop {
        let mut bits = Bits { bytes: rest, at: 0 };
        bits.skip(1)?;
        let kind = bits.number(4)?;
        let (extended, sized) = (bits.flag()?, bits.flag()?);
        bits.skip(if extended { 9 } else { 1 })?;
        let length = if sized { leb128(&mut bits)? } else { rest.len() - bits.at / 8 };
        let start = bits.at / 8;
        let unit = rest.get(start..start.checked_add(length)?)?;
        if kind == SEQUENCE_HEADER {
            return of_header(&mut Bits { bytes: unit, at: 0 });
        }
        rest = &rest[start + length..];
    }
}

fn of_header(bits: &mut Bits<'_>) -> Option<Coding> {
    let profile = bits.number(3)?;
    bits.skip(1)?; // still_picture
    let reduced = bits.flag()?;
    match reduced {
        true => bits.skip(5)?, // the level
        false => skip_operating_points(bits)?,
    }
    let (width, height) = (bits.number(4)? + 1, bits.number(4)? + 1);
    bits.skip(width as usize + height as usize)?;
    if !reduced && bits.flag()? {
        bits.skip(7)?; // lengths of frame numbers
    }
    bits.skip(3)?; // superblock, filter intra, intra edge
    if !reduced {
        skip_tools_of_video(bits)?;
    }
    bits.skip(3)?; // super-resolution, CDEF, restoration
    let deep = bits.flag()?;
    if profile == 2 && deep {
        bits.skip(1)?; // 12 bits
    }
    let grey = profile != 1 && bits.flag()?;
    let [primaries, transfer, matrix] = match bits.flag()? {
        true => [bits.number(8)? as u8, bits.number(8)? as u8, bits.number(8)? as u8],
        false => [UNSPECIFIED; 3],
    };
    let full_range = !grey && [primaries, transfer, matrix] == SRGB_AS_IT_IS || bits.flag()?;
    Some(Coding { primaries, transfer, matrix, full_range })
}

fn skip_operating_points(bits: &mut Bits<'_>) -> Option<()> {
    if bits.flag()? {
        return None; // timing_info
    }
    let delays = bits.flag()?;
    for _ in 0..=bits.number(5)? {
        bits.skip(12)?;
        if bits.number(5)? > 7 {
            bits.skip(1)?; // the tier
        }
        if delays && bits.flag()? {
            bits.skip(4)?;
        }
    }
    Some(())
}

fn skip_tools_of_video(bits: &mut Bits<'_>) -> Option<()> {
    bits.skip(4)?; // compound and warped motion, dual filter
    let order = bits.flag()?;
    bits.skip(if order { 2 } else { 0 })?;
    let chosen_a_frame = bits.flag()?;
    let screen_content = chosen_a_frame || bits.flag()?;
    if screen_content && !bits.flag()? {
        bits.skip(1)?; // whole-number motion
    }
    bits.skip(if order { 3 } else { 0 })
}

fn leb128(bits: &mut Bits<'_>) -> Option<usize> {
    let mut value = 0;
    for shift in (0..56).step_by(7) {
        let byte = bits.number(8)? as usize;
        value |= (byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Bits, the highest of a byte first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    fn number(&mut self, bits: usize) -> Option<u32> {
        let mut number = 0;
        for _ in 0..bits {
            number = number << 1 | u32::from(self.flag()?);
        }
        Some(number)
    }

    fn skip(&mut self, bits: usize) -> Option<()> {
        self.at += bits;
        (self.at <= 8 * self.bytes.len()).then_some(())
    }
}

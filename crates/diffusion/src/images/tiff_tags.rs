//! The tags of a TIFF structure, which EXIF is too (TIFF 6.0, sec. 2; EXIF 2.32, sec. 4.6). They are read, and
//! changed in place, so that tags unknown to us stay as they are.

const ORIENTATION: u16 = 0x0112;
const X_RESOLUTION: u16 = 0x011A;
const Y_RESOLUTION: u16 = 0x011B;
const RESOLUTION_UNIT: u16 = 0x0128;
const EXIF_DIRECTORY: u16 = 0x8769;
const ICC_PROFILE: u16 = 0x8773;
const PIXEL_X_DIMENSION: u16 = 0xA002;
const PIXEL_Y_DIMENSION: u16 = 0xA003;
const ENTRY: usize = 12;
const SHORT: u16 = 3;
const LONG: u16 = 4;
const CENTIMETRE: u32 = 3;
const CENTIMETRES_PER_INCH: f64 = 2.54;

/// A TIFF structure. What an offset outside of it points to counts as absent.
#[derive(Clone, Copy)]
pub struct TiffTags<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

/// Where an entry of a directory begins.
pub type Entry = usize;
/// Where a directory begins.
pub type Directory = usize;

impl<'a> TiffTags<'a> {
    /// `None` where the bytes do not begin as a TIFF structure.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        match bytes.get(..4)? {
            b"II*\0" => Some(Self { bytes, big_endian: false }),
            b"MM\0*" => Some(Self { bytes, big_endian: true }),
            _ => None,
        }
    }

    /// Image file directory 0.
    pub fn first_directory(&self) -> Option<Directory> {
        self.u32(4).map(|at| at as usize)
    }

    /// The entry of `tag`.
    pub fn entry(&self, directory: Directory, tag: u16) -> Option<Entry> {
        let entries = (0..self.count(directory)?).map(|k| directory + 2 + k * ENTRY);
        entries.into_iter().find(|&entry| self.u16(entry) == Some(tag))
    }

    /// A whole number of 16 or 32 bits.
    pub fn number(&self, directory: Directory, tag: u16) -> Option<u32> {
        let entry = self.entry(directory, tag)?;
        match self.u16(entry + 2)? {
            SHORT => self.u16(entry + 8).map(u32::from),
            LONG => self.u32(entry + 8),
            _ => None,
        }
    }

    /// The ICC profile of a TIFF file (ICC.1:2022, annex B.3).
    pub fn profile(&self) -> Option<&'a [u8]> {
        let entry = self.entry(self.first_directory()?, ICC_PROFILE)?;
        let (count, at) = (self.u32(entry + 4)? as usize, self.u32(entry + 8)? as usize);
        self.bytes.get(at..at.checked_add(count)?)
    }

    /// Dots per inch, across and down.
    pub fn dots_per_inch(&self) -> Option<(f64, f64)> {
        let directory = self.first_directory()?;
        let ratio = |tag| {
            let at = self.u32(self.entry(directory, tag)? + 8)? as usize;
            let (over, under) = (self.u32(at)?, self.u32(at + 4)?);
            (over > 0 && under > 0).then(|| f64::from(over) / f64::from(under))
        };
        let metric = self.number(directory, RESOLUTION_UNIT) == Some(CENTIMETRE);
        let scale = if metric { CENTIMETRES_PER_INCH } else { 1.0 };
        Some((ratio(X_RESOLUTION)? * scale, ratio(Y_RESOLUTION)? * scale))
    }

    fn count(&self, directory: Directory) -> Option<usize> {
        self.u16(directory).map(usize::from)
    }

    fn u16(&self, at: usize) -> Option<u16> {
        let bytes = self.bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }
}

/// Makes a photo's EXIF right for an edit of the upright photo: orientation 1, width and height swapped where they
/// were, and without the thumbnail of the unedited photo.
pub fn set_upright(exif: &mut [u8], sides_swap: bool) {
    let Some(tags) = TiffTags::new(exif) else { return };
    let Some(first) = tags.first_directory() else { return };
    let big_endian = tags.big_endian;
    let orientation = tags.entry(first, ORIENTATION).filter(|&entry| tags.u32(entry + 8).is_some());
    let sides = tags.number(first, EXIF_DIRECTORY).and_then(|at| {
        let side = |tag| tags.entry(at as usize, tag).filter(|&entry| exif.len() >= entry + ENTRY);
        Some((side(PIXEL_X_DIMENSION)?, side(PIXEL_Y_DIMENSION)?))
    });
    let next = tags.count(first).map(|count| first + 2 + count * ENTRY).filter(|&at| tags.u32(at).is_some());
    if let Some(entry) = orientation {
        let upright = if big_endian { 1u16.to_be_bytes() } else { 1u16.to_le_bytes() };
        exif[entry + 8..entry + 10].copy_from_slice(&upright);
    }
    if let (Some((x, y)), true) = (sides, sides_swap) {
        for k in 2..ENTRY {
            exif.swap(x + k, y + k);
        }
    }
    if let Some(at) = next {
        exif[at..at + 4].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Orientation 6, 300 dots per inch, sides 40 × 30, and a second directory.
    fn exif() -> Vec<u8> {
        let entry = |tag: u16, kind: u16, value: u32| {
            [&tag.to_be_bytes()[..], &kind.to_be_bytes(), &1u32.to_be_bytes(), &value.to_be_bytes()].concat()
        };
        let mut bytes = b"MM\0*\0\0\0\x08\0\x04".to_vec();
        bytes.extend(entry(ORIENTATION, SHORT, 6 << 16));
        bytes.extend(entry(X_RESOLUTION, 5, 92));
        bytes.extend(entry(Y_RESOLUTION, 5, 92));
        bytes.extend(entry(EXIF_DIRECTORY, LONG, 62));
        bytes.extend(100u32.to_be_bytes()); // the next directory
        bytes.extend([0, 2]);
        bytes.extend(entry(PIXEL_X_DIMENSION, LONG, 40));
        bytes.extend(entry(PIXEL_Y_DIMENSION, SHORT, 30 << 16));
        bytes.extend(0u32.to_be_bytes());
        bytes.extend([300u32.to_be_bytes(), 1u32.to_be_bytes()].concat());
        bytes
    }

    #[test]
    fn an_upright_photo_says_so() {
        let mut bytes = exif();
        assert_eq!(TiffTags::new(&bytes).and_then(|tags| tags.dots_per_inch()), Some((300.0, 300.0)));
        set_upright(&mut bytes, true);
        let tags = TiffTags::new(&bytes).expect("a TIFF structure");
        assert_eq!(tags.number(8, ORIENTATION), Some(1));
        assert_eq!([PIXEL_X_DIMENSION, PIXEL_Y_DIMENSION].map(|tag| tags.number(62, tag)), [Some(30), Some(40)]);
        assert_eq!(tags.u32(58), Some(0), "no further directory");
    }

    #[test]
    fn no_cut_or_spoilt_block_is_read_outside_of_itself() {
        let whole = exif();
        for length in 0..whole.len() {
            set_upright(&mut whole[..length].to_vec(), true);
        }
        for at in 0..whole.len() {
            let mut spoilt = whole.clone();
            spoilt[at] = 0xFF;
            set_upright(&mut spoilt, true);
            let _ = TiffTags::new(&spoilt).and_then(|tags| tags.dots_per_inch());
        }
    }
}

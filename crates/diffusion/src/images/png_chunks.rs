//! What a PNG says beside its pixels (PNG 3rd edition, sec. 11.3): colour without a profile, EXIF, density.

use super::metadata::DotsPerInch;

const SIGNATURE: usize = 8;
const METRES_PER_INCH: f64 = 0.0254;

/// The chunks before the pixels that concern us.
#[derive(Default)]
pub struct PngChunks<'a> {
    /// eXIf: a TIFF structure.
    pub exif: Option<&'a [u8]>,
    /// pHYs, where its unit is the metre.
    pub density: Option<DotsPerInch>,
    /// cICP: colour primaries, transfer function, matrix, full range (ITU-T H.273).
    pub cicp: Option<[u8; 4]>,
    /// sRGB.
    pub is_srgb: bool,
    /// gAMA: the exponent of encoding, × 100 000.
    pub gamma: Option<u32>,
    /// cHRM: x and y of white, red, green and blue, × 100 000.
    pub chromaticities: Option<[u32; 8]>,
}

impl<'a> PngChunks<'a> {
    /// Walks through the chunks, also after the pixels, where an eXIf may stand. What is cut off counts as absent.
    pub fn read(content: &'a [u8]) -> Self {
        let mut chunks = Self::default();
        let mut at = SIGNATURE;
        while let Some((kind, data)) = chunk(content, at) {
            match kind {
                b"eXIf" => chunks.exif = Some(data),
                b"pHYs" => chunks.density = density(data),
                b"cICP" => chunks.cicp = data.try_into().ok(),
                b"sRGB" => chunks.is_srgb = true,
                b"gAMA" => chunks.gamma = numbers::<1>(data).map(|[gamma]| gamma),
                b"cHRM" => chunks.chromaticities = numbers(data),
                _ => {}
            }
            at += 12 + data.len();
        }
        chunks
    }
}

/// The type and data of the chunk at `at`.
fn chunk(content: &[u8], at: usize) -> Option<(&[u8; 4], &[u8])> {
    let [length] = numbers::<1>(content.get(at..at + 4)?)?;
    let kind = content.get(at + 4..at + 8)?.first_chunk()?;
    Some((kind, content.get(at + 8..(at + 8).checked_add(length as usize)?)?))
}

fn numbers<const N: usize>(data: &[u8]) -> Option<[u32; N]> {
    if data.len() != 4 * N {
        return None;
    }
    let mut numbers = data.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    Some(std::array::from_fn(|_| numbers.next().unwrap_or_default()))
}

fn density(data: &[u8]) -> Option<DotsPerInch> {
    let (perhaps, unit) = data.split_at_checked(8)?;
    let [x, y] = numbers::<2>(perhaps)?.map(|per_metre| f64::from(per_metre) * METRES_PER_INCH);
    (unit == [1] && x > 0.0 && y > 0.0).then_some(DotsPerInch { x, y })
}

//! Whether a JPEG is all there: decoders fill what is missing with grey and say nothing.

const START_OF_SCAN: u8 = 0xDA;
const END_OF_IMAGE: u8 = 0xD9;

/// Whether `bytes`, a JPEG, reach their end-of-image marker (ITU-T T.81, annex B). Thumbnails inside segments do not
/// count.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    let Some(scan) = first_scan(bytes) else { return false };
    // Inside the entropy-coded data FF is always followed by 00 or a restart marker.
    bytes[scan..].windows(2).any(|pair| pair == [0xFF, END_OF_IMAGE])
}

/// Where the first scan's segment begins, walking from segment to segment.
fn first_scan(bytes: &[u8]) -> Option<usize> {
    let mut at = 2; // after the start-of-image marker
    loop {
        match *bytes.get(at..at + 2)? {
            [0xFF, 0xFF] => at += 1, // fill byte
            [0xFF, START_OF_SCAN] => return Some(at),
            [0xFF, marker] if marker == 0x01 || (0xD0..=0xD7).contains(&marker) => at += 2, // without a length
            [0xFF, _] => {
                let [high, low] = *bytes.get(at + 2..at + 4)? else { return None };
                at += 2 + usize::from(u16::from_be_bytes([high, low]));
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::jpeg::JpegEncoder;

    #[test]
    fn every_truncation_is_noticed() {
        let photo = image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([(x * 6) as u8, (y * 8) as u8, 90]));
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(&photo).expect("encoded");
        assert!(is_whole(&bytes));
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
}

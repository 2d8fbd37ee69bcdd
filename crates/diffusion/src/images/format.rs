//! Which format a picture's bytes are in. The bytes decide, since file names may be wrong.

use std::path::Path;

use image::ImageFormat;

use super::tiff_tags::TiffTags;

/// The formats that are read, with their suffixes.
const READ: [(ImageFormat, &[&str]); 7] = [
    (ImageFormat::Png, &["png"]),
    (ImageFormat::Jpeg, &["jpg", "jpeg", "jpe", "jfif"]),
    (ImageFormat::WebP, &["webp"]),
    (ImageFormat::Gif, &["gif"]),
    (ImageFormat::Bmp, &["bmp", "dib"]),
    (ImageFormat::Tiff, &["tif", "tiff"]),
    (ImageFormat::Avif, &["avif", "avifs"]),
];

/// First bytes of formats that are found among photos but not read, and their names.
const NOT_READ: [(&[u8], &str); 15] = [
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"II*\0\x10\0\0\0CR", "a camera's raw file (CR2)"),
    (b"II\x55\0", "a camera's raw file (RW2)"),
    (b"IIRO", "a camera's raw file (ORF)"),
    (b"FUJIFILMCCD-RAW", "a camera's raw file (RAF)"),
    (b"8BPS", "a Photoshop document"),
    (b"%PDF", "a PDF document"),
    (b"<svg", "an SVG drawing"),
    (b"<!DOCTYPE", "a web page, saved in a picture's place"),
    (b"<html", "a web page, saved in a picture's place"),
    (b"version https://git-lfs", "a Git LFS pointer; `git lfs pull` fetches what it stands for"),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture"),
];

/// Brands of ISO base media files (ISO/IEC 14496-12, 23008-12) and their formats, the most specific first.
const BRANDS: [(&[u8], &str); 9] = [
    (b"heic", "a HEIC picture"),
    (b"heix", "a HEIC picture"),
    (b"heim", "a HEIC picture"),
    (b"heis", "a HEIC picture"),
    (b"hevc", "a HEIC picture"),
    (b"hevx", "a HEIC picture"),
    (b"crx ", "a camera's raw file (CR3)"),
    (b"mif1", "a HEIF picture"),
    (b"msf1", "a HEIF picture"),
];

/// Brands of AVIF, pictures and sequences (AV1 Image File Format, sec. 6). The major brand may be another.
const AVIF: [&[u8]; 2] = [b"avif", b"avis"];

/// The format of `content`; the error says what it is instead. `path` is used only to say that its suffix is wrong.
pub fn of(content: &[u8], path: &Path) -> Result<ImageFormat, String> {
    if content.is_empty() {
        return Err("it is empty".into());
    }
    if brands(content).is_some_and(|mut brands| brands.any(|brand| AVIF.contains(&brand))) {
        return Ok(ImageFormat::Avif);
    }
    if let Some(what) = not_read(content) {
        let suffix = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let lies = READ.iter().any(|(_, suffixes)| suffixes.contains(&suffix.as_str()));
        let named = if lies { format!(", although it is named .{suffix}") } else { String::new() };
        return Err(format!("it is {what}{named}; that is not read, convert it to PNG or JPEG"));
    }
    match image::guess_format(content) {
        Ok(format) if READ.iter().any(|(read, _)| *read == format) => Ok(format),
        Ok(format) => {
            Err(format!("it is a picture in the format {format:?}, which is not read; convert it to PNG or JPEG"))
        }
        Err(_) => Err("it is in no picture format known here; give a PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF".into()),
    }
}

fn not_read(content: &[u8]) -> Option<&'static str> {
    let text = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content).trim_ascii_start();
    let begins = |magic: &[u8]| {
        let start = if magic[0] == b'<' { text } else { content };
        start.len() >= magic.len() && start[..magic.len()].eq_ignore_ascii_case(magic)
    };
    let known = NOT_READ.iter().find(|(magic, _)| begins(magic)).map(|(_, what)| *what);
    known.or_else(|| media_file(content)).or_else(|| raw_in_tiff(content))
}

fn media_file(content: &[u8]) -> Option<&'static str> {
    let brands: Vec<&[u8]> = brands(content)?.collect();
    let has = |brand: &[u8]| brands.contains(&brand);
    Some(BRANDS.iter().find(|(brand, _)| has(brand)).map_or("a video, or another ISO media file", |(_, what)| what))
}

/// The file type box: its size, "ftyp", the major brand, a version, compatible brands.
fn brands(content: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    if content.get(4..8)? != b"ftyp" {
        return None;
    }
    let size = u32::from_be_bytes(content[..4].try_into().ok()?) as usize;
    Some(content.get(8..size.max(12).min(content.len()))?.chunks_exact(4))
}

/// DNG and its kin are TIFF files whose first picture is a thumbnail (DNG specification, DNGVersion; TIFF 6.0,
/// NewSubfileType).
fn raw_in_tiff(content: &[u8]) -> Option<&'static str> {
    const DNG_VERSION: u16 = 0xC612;
    const NEW_SUBFILE_TYPE: u16 = 0x00FE;
    const REDUCED: u32 = 1;
    let tags = TiffTags::new(content)?;
    let first = tags.first_directory()?;
    let reduced = tags.number(first, NEW_SUBFILE_TYPE).is_some_and(|kind| kind & REDUCED != 0);
    (reduced || tags.entry(first, DNG_VERSION).is_some()).then_some("a camera's raw file (DNG or of its kind)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_is_named() {
        let heic = b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf";
        let cases: [(&[u8], &str); 8] = [
            (heic, "a HEIC picture, although it is named .jpg"),
            (b"\0\0\0\x14ftypisom\0\0\0\0mp42", "a video"),
            (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
            (b"\n <!doctype html><html>", "a web page"),
            (b"\xef\xbb\xbf<svg xmlns", "an SVG drawing"),
            (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
            (b"\0\0\0\x08ftypa", "a video"),
            (b"", "empty"),
        ];
        for (content, part) in cases {
            let reason = of(content, Path::new("a.jpg")).expect_err(part);
            assert!(reason.contains(part), "{reason}");
        }
        assert!(!of(heic, Path::new("a.heic")).expect_err("not read").contains("named"));
        assert_eq!(of(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", Path::new("a.jpg")), Ok(ImageFormat::Avif));
        assert_eq!(of(b"\xff\xd8\xff\xe0\0\x10JFIF", Path::new("a.png")), Ok(ImageFormat::Jpeg));
    }
}

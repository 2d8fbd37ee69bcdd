//! Edits are kept on disk while the evaluation runs, so that it needs little memory and the report shows what was
//! scored.

use std::path::{Path, PathBuf};

use emotions::Emotion;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ImageEncoder, RgbImage};

use crate::error::{Error, Result};

/// A folder of PNG files by source, emotion, method and strength; it is deleted when the report is published.
#[derive(Debug)]
pub struct Gallery {
    folder: PathBuf,
}

/// Which picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key {
    /// The source's index.
    pub source: usize,
    /// The method's key.
    pub method: &'static str,
    /// The emotion; none for methods that do not depend on it.
    pub emotion: Option<Emotion>,
    /// The strength; none for methods without one.
    pub strength: Option<f64>,
}

impl Key {
    /// A file name that identifies the picture.
    pub fn file_name(&self) -> String {
        let emotion = self.emotion.map(|e| format!("-{e}")).unwrap_or_default();
        let strength = self.strength.map(|s| format!("-{s}")).unwrap_or_default();
        format!("{:05}-{}{emotion}{strength}.png", self.source, self.method)
    }
}

impl Gallery {
    /// A gallery in `folder`, which is made if it is missing.
    pub fn create(folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
        Ok(Self { folder })
    }

    /// Stores a picture.
    pub fn keep(&self, key: Key, picture: &RgbImage) -> Result<()> {
        let path = self.folder.join(key.file_name());
        std::fs::write(&path, png(picture, CompressionType::Fast)?).map_err(|e| Error::io(&path, e))
    }

    /// Reads a picture; None if it was not stored.
    pub fn picture(&self, key: Key) -> Result<Option<RgbImage>> {
        let path = self.folder.join(key.file_name());
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(image::load_from_memory(&bytes)?.to_rgb8())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(&path, error)),
        }
    }
}

/// A picture as a PNG file, compressed as well as possible.
pub fn best_png(picture: &RgbImage) -> Result<Vec<u8>> {
    png(picture, CompressionType::Best)
}

/// Writes a PNG file.
pub fn write_png(path: &Path, picture: &RgbImage) -> Result<()> {
    std::fs::write(path, best_png(picture)?).map_err(|e| Error::io(path, e))
}

fn png(picture: &RgbImage, compression: CompressionType) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut bytes, compression, FilterType::Adaptive);
    encoder.write_image(picture, picture.width(), picture.height(), image::ExtendedColorType::Rgb8)?;
    Ok(bytes)
}

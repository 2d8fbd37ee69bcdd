//! One image of a data set: what is known of it, where it lies, and its pixels, latents and embedding.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use emotions::Emotion;
use half::f16;
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// The state of a subject without an emotion.
pub const NEUTRAL: &str = "neutral";

/// The light columns: everything but pixels, latents and embeddings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// blake3 of the decoded pixels of the whole photo.
    pub image_id: String,
    /// The kind of its source.
    pub source: String,
    /// Path in the source; with it, unique within a data set.
    pub path: String,
    /// Split.
    pub split: String,
    /// Mikels' category, if it has one.
    pub emotion: Option<Emotion>,
    /// The attribute `emotions`: all categories it shows, for sources that name several.
    pub emotions: Vec<Emotion>,
    /// Whether the label is what viewers felt or what people in the picture show.
    pub namespace: Option<String>,
    /// The source's own label.
    pub label: Option<String>,
    /// Who or what the picture shows, if the source says: pictures of one subject in several states are pairs.
    pub subject: Option<String>,
    /// The state the subject is in: an emotion's name, or another word such as [`NEUTRAL`].
    pub state: Option<String>,
    /// −3 to 3.
    pub valence: Option<f32>,
    /// 0 to 6.
    pub arousal: Option<f32>,
    /// 0 to 6.
    pub ambiguity: Option<f32>,
    /// What else the source says, a JSON object.
    pub attributes: Value,
    /// The photo's width in pixels, upright.
    pub width: u32,
    /// The photo's height in pixels, upright.
    pub height: u32,
    /// The part of the photo that is used: x, y, width, height.
    pub crop: [u32; 4],
}

impl Entry {
    /// Whether `emotion` is the row's label or among its attribute `emotions`.
    pub fn shows(&self, emotion: Emotion) -> bool {
        self.emotion == Some(emotion) || self.emotions.contains(&emotion)
    }
}

/// The attribute `emotions` as categories; other words than the eight are left out.
pub fn emotions_of(attributes: &Value) -> Vec<Emotion> {
    let listed = attributes.get("emotions").and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(|v| v.as_str()?.parse().ok()).collect()
}

/// The position of a row in a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Index into the manifest's shards.
    pub shard: u32,
    /// Row group in the shard.
    pub group: u32,
    /// Row in the group.
    pub row: u32,
}

/// A row's light columns and its position.
#[derive(Clone, Debug)]
pub struct RowRef {
    /// The row's position.
    pub place: Place,
    /// Its light columns.
    pub entry: Arc<Entry>,
}

impl Deref for RowRef {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}

/// A whole row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The light columns.
    pub entry: Arc<Entry>,
    /// The training image, compressed.
    pub image: Bytes,
    /// The models' output for it.
    pub encoding: Encoding,
}

/// The models' output for one image. Latents are the unscaled posterior of the autoencoder, (c, h, w) row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoding {
    /// Posterior mean.
    pub latent_mean: Vec<f16>,
    /// Posterior standard deviation.
    pub latent_std: Vec<f16>,
    /// Posterior mean of the mirrored image.
    pub flip_mean: Vec<f16>,
    /// Posterior standard deviation of the mirrored image.
    pub flip_std: Vec<f16>,
    /// CLIP's image embedding before normalisation, if the data set has one.
    pub clip_embedding: Option<Vec<f16>>,
}

impl Deref for Row {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}

impl Encoding {
    /// The four latents.
    pub fn latents(&self) -> [&[f16]; 4] {
        [&self.latent_mean, &self.latent_std, &self.flip_mean, &self.flip_std]
    }

    /// Whether every number is finite.
    pub fn is_finite(&self) -> bool {
        let embedding = self.clip_embedding.as_deref().unwrap_or(&[]);
        self.latents().into_iter().chain([embedding]).flatten().all(|v| v.is_finite())
    }
}

impl Row {
    /// Decodes the training image.
    pub fn image(&self) -> Result<image::RgbImage> {
        let fail = |e: image::ImageError| Error::Image { path: self.path.clone(), message: e.to_string() };
        Ok(image::load_from_memory(&self.image).map_err(fail)?.to_rgb8())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn entry(path: &str) -> Entry {
        Entry {
            image_id: blake3::hash(path.as_bytes()).to_hex().to_string(),
            source: "folder".into(),
            path: path.into(),
            split: "train".into(),
            emotion: None,
            emotions: vec![],
            namespace: None,
            label: None,
            subject: None,
            state: None,
            valence: None,
            arousal: None,
            ambiguity: None,
            attributes: Value::Object(Default::default()),
            width: 8,
            height: 8,
            crop: [0, 0, 8, 8],
        }
    }

    pub(crate) fn row(path: &str) -> Row {
        let latent: Vec<f16> = (0..16).map(|n| f16::from_f32(n as f32 / 7.0)).collect();
        Row {
            entry: entry(path).into(),
            image: Bytes::from_static(b"image"),
            encoding: Encoding {
                latent_mean: latent.clone(),
                latent_std: latent.clone(),
                flip_mean: latent.clone(),
                flip_std: latent,
                clip_embedding: Some(vec![f16::ONE; 8]),
            },
        }
    }

    #[test]
    fn emotions_are_read_from_attributes() {
        let attributes = serde_json::json!({"emotions": ["awe", "joy", "fear"]});
        assert_eq!(emotions_of(&attributes), [Emotion::Awe, Emotion::Fear]);
        assert!(emotions_of(&Value::Null).is_empty());
    }
}

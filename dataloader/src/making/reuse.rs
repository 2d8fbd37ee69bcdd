//! Rows of an earlier run: an image is encoded again only if its pixels, the transform, the VAE or CLIP has changed.
//!
//! Transform and models are the same for all rows of a data set, so the content key blake3(pixels, transform, VAE,
//! CLIP) is compared in two parts: the manifest's once, the pixels' per image.

use std::collections::HashMap;
use std::path::Path;

use crate::error::{Error, Result};
use crate::format::manifest::{Model, Transform};
use crate::format::row::{Row, RowRef};
use crate::reading::dataset::Dataset;
use crate::reading::filter::Filter;

/// What must be equal so that rows can be used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// How photos become training images.
    pub transform: Transform,
    /// The VAE's hash.
    pub vae: String,
    /// CLIP's hash.
    pub clip: Option<String>,
}

impl Key {
    /// The key of a data set that was made with these.
    pub fn new(transform: &Transform, vae: &Model, clip: Option<&Model>) -> Self {
        Self { transform: transform.clone(), vae: vae.hash.clone(), clip: clip.map(|c| c.hash.clone()) }
    }
}

/// The encoded rows of an earlier run, by image.
#[derive(Debug)]
pub struct Reuse {
    earlier: Option<Dataset>,
    rows: HashMap<String, RowRef>,
}

impl Reuse {
    /// The rows in `folder`; none if there is no data set of the same key, or if it is damaged.
    pub fn open(folder: &Path, key: &Key) -> Self {
        let none = Self { earlier: None, rows: HashMap::new() };
        match Self::try_open(folder, key) {
            Ok(Some(reuse)) => reuse,
            Ok(None) | Err(Error::NotADataset { .. }) => none,
            Err(error) => {
                tracing::warn!("nothing of the earlier data set is reused: {error}");
                none
            }
        }
    }

    fn try_open(folder: &Path, key: &Key) -> Result<Option<Self>> {
        let dataset = Dataset::open(&folder.to_string_lossy())?;
        let manifest = dataset.manifest();
        if Key::new(&manifest.transform, &manifest.vae, manifest.clip.as_ref()) != *key {
            tracing::info!("transform or models changed: every image is encoded again");
            return Ok(None);
        }
        let rows = dataset.rows(&Filter::default())?;
        let rows = rows.into_iter().map(|row| (row.image_id.clone(), row)).collect();
        Ok(Some(Self { earlier: Some(dataset), rows }))
    }

    /// Whether this image was encoded before.
    pub fn has(&self, image_id: &str) -> bool {
        self.rows.contains_key(image_id)
    }

    /// The row that the earlier run encoded for this image.
    pub fn row(&self, image_id: &str) -> Result<Option<Row>> {
        let (Some(dataset), Some(row)) = (&self.earlier, self.rows.get(image_id)) else { return Ok(None) };
        dataset.read(row).map(Some)
    }
}

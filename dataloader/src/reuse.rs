//! Rows of an earlier run: an image is encoded again only if its pixels, the transform, the VAE or CLIP changed.
//!
//! Transform and models are the same for all rows of a data set, so the content key blake3(pixels, transform, VAE,
//! CLIP) is compared in two parts: the manifest's once, the pixels' per image.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::group_cache::GroupCache;
use crate::manifest::{Model, Transform};
use crate::row::{Place, Row};

/// Rows lie in nearly the order in which they are asked for: a few groups are enough.
const BUDGET_BYTES: usize = 256 << 20;

/// What must be equal for rows to be used again.
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
    /// The key of a data set made with these.
    pub fn new(transform: &Transform, vae: &Model, clip: Option<&Model>) -> Self {
        Self { transform: transform.clone(), vae: vae.hash.clone(), clip: clip.map(|c| c.hash.clone()) }
    }
}

/// The encoded rows of an earlier run, by image.
#[derive(Debug)]
pub struct Reuse {
    earlier: Option<(Dataset, GroupCache)>,
    places: HashMap<String, Place>,
}

impl Reuse {
    /// The rows in `folder`, or none if there is no data set of the same key or it is damaged.
    pub fn open(folder: &Path, key: &Key) -> Self {
        let none = Self { earlier: None, places: HashMap::new() };
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
        let places = rows.into_iter().map(|row| (row.image_id.clone(), row.place)).collect();
        Ok(Some(Self { earlier: Some((dataset, GroupCache::new(BUDGET_BYTES))), places }))
    }

    /// Whether this image was encoded before.
    pub fn has(&self, image_id: &str) -> bool {
        self.places.contains_key(image_id)
    }

    /// The row that the earlier run encoded for this image.
    pub fn row(&mut self, image_id: &str) -> Result<Option<Arc<Row>>> {
        let (Some((dataset, cache)), Some(place)) = (&mut self.earlier, self.places.get(image_id)) else {
            return Ok(None);
        };
        let group = cache.get_or_read((place.shard, place.group), || dataset.group(place.shard, place.group))?;
        Ok(Some(group[place.row as usize].clone()))
    }
}

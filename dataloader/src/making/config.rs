//! The recipe of `dataloader shard`.

use std::path::PathBuf;

use collective::DeviceChoice;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sources::SourceConfig;

/// What to encode, how, and where to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardConfig {
    /// The images and where their labels come from.
    pub source: SourceConfig,
    /// Side of the square training images in pixels.
    pub resolution: u32,
    /// The autoencoder: a folder, a pipeline's folder that has `vae/`, or a hub id.
    pub vae: String,
    /// A CLIP whose image embeddings are stored: a folder or hub id. Without it none are stored.
    #[serde(default)]
    pub clip: Option<String>,
    /// The data set's folder.
    pub output: PathBuf,
    /// How training images are compressed.
    #[serde(default)]
    pub image_format: ImageFormat,
    /// Rows per shard, at most.
    #[serde(default = "default_rows_per_shard")]
    pub rows_per_shard: usize,
    /// Images per pass through the autoencoder.
    #[serde(default = "default_batch_size")]
    pub batch_size: usize,
    /// Where the autoencoder runs.
    #[serde(default)]
    pub device: DeviceChoice,
    /// What to do about unusable images.
    #[serde(default)]
    pub quarantine: Quarantine,
    /// Limits beyond which images are unusable even if they can be read.
    #[serde(default)]
    pub limits: PhotoLimits,
    /// With several processes: how long one waits without any change in the folder before it takes the others for
    /// dead.
    #[serde(default = "default_rank_timeout_s")]
    pub rank_timeout_s: u64,
}

fn default_rows_per_shard() -> usize {
    4096
}

fn default_batch_size() -> usize {
    16
}

fn default_rank_timeout_s() -> u64 {
    3600
}

/// Compression of training images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// Lossless WebP.
    #[default]
    Webp,
    /// PNG.
    Png,
    /// JPEG at quality 95.
    Jpeg,
}

impl ImageFormat {
    /// The name in recipes and manifests.
    pub fn name(self) -> &'static str {
        match self {
            ImageFormat::Webp => "webp",
            ImageFormat::Png => "png",
            ImageFormat::Jpeg => "jpeg",
        }
    }
}

/// What to do about unusable images: they are left out and listed in the manifest with a reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quarantine {
    /// The run fails when more than this share of the images is unusable.
    pub max_fraction: f64,
}

impl Default for Quarantine {
    fn default() -> Self {
        Self { max_fraction: 0.01 }
    }
}

/// The limits of a photo; photos beyond them are quarantined before they take the memory that they claim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PhotoLimits {
    /// Pixels, in millions: a small file can claim any size.
    pub max_megapixels: f64,
    /// Size of the file.
    pub max_megabytes: f64,
    /// The shorter side, in pixels.
    pub min_side: u32,
}

impl Default for PhotoLimits {
    fn default() -> Self {
        Self { max_megapixels: 128.0, max_megabytes: 256.0, min_side: 1 }
    }
}

impl PhotoLimits {
    /// Whether a photo of this size, in a file of this size, is within the limits.
    pub fn allow(&self, bytes: u64, width: u32, height: u32) -> bool {
        let pixels = f64::from(width) * f64::from(height);
        bytes as f64 <= self.max_megabytes * 1e6
            && pixels <= self.max_megapixels * 1e6
            && width.min(height) >= self.min_side
    }
}

impl ShardConfig {
    /// Refuses values that no data set can be made with.
    pub fn check(&self) -> Result<()> {
        let refuse = |key: &str, message: String| Err(Error::invalid(key, message));
        if !(8..=4096).contains(&self.resolution) {
            return refuse("resolution", format!("{} pixels; give 8 to 4096", self.resolution));
        }
        if self.rows_per_shard == 0 || self.batch_size == 0 {
            return refuse("rows_per_shard and batch_size", "must be at least 1".into());
        }
        let share = self.quarantine.max_fraction;
        if !(0.0..=1.0).contains(&share) {
            return refuse("quarantine.max_fraction", format!("{share} is not a share; give 0 to 1"));
        }
        if !(self.limits.max_megapixels > 0.0 && self.limits.max_megabytes > 0.0) {
            return refuse("limits", "max_megapixels and max_megabytes must be above 0".into());
        }
        self.source.check()
    }
}

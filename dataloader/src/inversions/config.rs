//! The recipe of `dataloader invert`.

use std::path::PathBuf;

use collective::{DeviceChoice, MixedPrecision};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::reading::filter::Filter;
use crate::store::Access;

/// What to invert, with which weights, and where to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvertConfig {
    /// The pipeline whose UNet inverts: a folder or hub id; the trainer's `model.base`.
    pub base: String,
    /// The images.
    pub sources: Sources,
    /// The source prompt of the inversion; the trainer's `prompts.source`.
    pub prompt: String,
    /// Timesteps of the inversion; the trainer's `edit.num_inversion_steps`.
    #[serde(default = "default_num_inversion_steps")]
    pub num_inversion_steps: usize,
    /// Element type of the networks; the trainer's `train.mixed_precision`.
    #[serde(default)]
    pub mixed_precision: MixedPrecision,
    /// Images inverted at once; the trainer's `data.sources.inversion_batch_size`.
    #[serde(default = "default_batch_size")]
    pub inversion_batch_size: usize,
    /// Images per shard, at most.
    #[serde(default = "default_images_per_shard")]
    pub images_per_shard: usize,
    /// Where the UNet runs.
    #[serde(default)]
    pub device: DeviceChoice,
    /// The folder of the inversions.
    pub output: PathBuf,
    /// How the sources' shards are reached if they are in an object store.
    #[serde(default)]
    pub store: Access,
    /// With several processes: how long one waits without any change in the folder before it takes the others for
    /// dead.
    #[serde(default = "default_rank_timeout_s")]
    pub rank_timeout_s: u64,
}

/// Images that `dataloader shard` has encoded with the pipeline's VAE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    /// Folder or URL with a manifest.json.
    pub shards: String,
    /// A filter of the rows.
    #[serde(default)]
    pub filter: Filter,
}

fn default_num_inversion_steps() -> usize {
    40
}

fn default_batch_size() -> usize {
    16
}

fn default_images_per_shard() -> usize {
    256
}

fn default_rank_timeout_s() -> u64 {
    3600
}

impl InvertConfig {
    /// Refuses values that make an inversion impossible.
    pub fn check(&self) -> Result<()> {
        if !(2..=1000).contains(&self.num_inversion_steps) {
            return Err(Error::invalid(
                "num_inversion_steps",
                format!("{} is not in 2..=1000", self.num_inversion_steps),
            ));
        }
        if self.inversion_batch_size == 0 || self.images_per_shard == 0 {
            return Err(Error::invalid("inversion_batch_size and images_per_shard", "must be at least 1"));
        }
        Ok(())
    }
}

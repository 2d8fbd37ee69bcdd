//! What is computed once of the sources and read by every run on the same weights: their DDIM inversions, and what CLIP
//! sees of them.
//!
//! A row is one image's inversion ([`columns`], [`recording`]). `dataloader invert` makes a data set of its own of them
//! ([`Inversions`]), the trainer a [`pool`], to which any number of runs add. Rows, files and reading are the same.
//! Reading needs no libtorch.

pub mod columns;
#[cfg(feature = "encode")]
pub mod config;
#[cfg(feature = "encode")]
pub mod job;
pub mod pool;
pub mod recording;

use std::collections::HashMap;

use serde_json::Value;

use self::recording::{Recorded, Recording};
use crate::error::{Error, Result};
use crate::format::manifest::{Inversion, Manifest, OF_INVERSIONS};
use crate::reading::shards::Shards;
use crate::store::Access;

/// Inversions of many images, as `dataloader invert` makes them.
#[derive(Debug)]
pub struct Inversions {
    shards: Shards,
    inversion: Inversion,
    recording: Recording,
    /// Shard and row of each image.
    places: HashMap<String, (usize, u64)>,
}

impl Inversions {
    /// Opens the inversions at a folder or URL. Shards are fetched on first use; each row is checked when it is read.
    pub fn open(url: &str, access: &Access) -> Result<Self> {
        Self::of(Shards::open(url, access)?)
    }

    /// The inversions of these shards; refuses shards of images.
    pub(crate) fn of(shards: Shards) -> Result<Self> {
        let manifest = shards.manifest();
        let Some(inversion) = manifest.inversion.clone() else {
            return Err(Error::invalid(shards.url(), "holds images, no inversions; `dataloader invert` makes those"));
        };
        if manifest.format_version < OF_INVERSIONS {
            let message = "its inversions are in an earlier format, with latents and outputs in f32; make them again \
                           with `dataloader invert --config …`, which takes a quarter of the room";
            return Err(Error::invalid(shards.url(), message));
        }
        if inversion.steps.len() + 1 != inversion.timesteps.len() {
            let message = "the manifest's steps do not lead from timestep to timestep; re-run `dataloader invert`";
            return Err(Error::invalid(shards.url(), message));
        }
        let mut places = HashMap::new();
        for (shard, stated) in manifest.shards.iter().enumerate() {
            if stated.image_ids.len() != stated.rows as usize {
                return Err(shards.damaged(shard, "the manifest lists other images than it has rows for"));
            }
            places.extend(stated.image_ids.iter().enumerate().map(|(row, id)| (id.clone(), (shard, row as u64))));
        }
        let recording = Recording { latent: manifest.latent.clone(), steps: inversion.steps.clone() };
        Ok(Self { shards, inversion, recording, places })
    }

    /// Refuses inversions that were not made as `wanted` says, or from other latents than those of `sources`.
    pub fn check(&self, wanted: &Inversion, sources: &Manifest) -> Result<()> {
        let stated = |inversion: &Inversion, of: &Manifest| {
            let scale = of.latent.scaling_factor;
            serde_json::json!({"inversion": inversion, "transform": of.transform, "vae": of.vae.hash, "scaling_factor": scale})
        };
        match difference("", &stated(&self.inversion, self.shards.manifest()), &stated(wanted, sources)) {
            None => Ok(()),
            Some((key, there, here)) => Err(Error::invalid(
                self.shards.url(),
                format!("its inversions were made with {key} {there}, this run has {here}; re-run `dataloader invert`"),
            )),
        }
    }

    /// Whether it has this image's inversion.
    pub fn has(&self, image_id: &str) -> bool {
        self.places.contains_key(image_id)
    }

    /// How many images it has.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How its rows are read.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// The inversion of an image that [`Inversions::has`], up to timestep index `last`.
    pub fn read(&self, image_id: &str, last: usize) -> Result<Recorded> {
        let unknown = || Error::invalid(self.shards.url(), format!("it has no inversion of image {image_id}"));
        let &(shard, row) = self.places.get(image_id).ok_or_else(unknown)?;
        let read = self.recording.read(&*self.shards.file(shard)?, row, last)?;
        read.map_err(|message| {
            self.shards.forget(shard);
            self.shards.damaged(shard, message)
        })
    }

    /// Hashes every shard, reads every row and compares its image; returns the number of rows. Fails at the first
    /// damage.
    pub fn verify(&self) -> Result<u64> {
        for (shard, stated) in self.shards.manifest().shards.iter().enumerate() {
            self.shards.hash(shard)?;
            if pool::keys(&*self.shards.file(shard)?)?.iter().map(|key| &key.image_id).ne(&stated.image_ids) {
                return Err(self.shards.damaged(shard, "its rows are of other images than the manifest lists"));
            }
            for id in &stated.image_ids {
                self.read(id, self.recording.steps.len())?;
            }
        }
        Ok(self.shards.manifest().rows())
    }

    /// A description of its content, for people.
    pub fn describe(&self) -> String {
        let Inversion { prompt, timesteps, prediction, precision, unet, .. } = &self.inversion;
        let bytes: u64 = self.shards.manifest().shards.iter().map(|shard| shard.bytes).sum();
        format!(
            "{}\n  inversions of {} images in {} shards, {:.1} MB, {} timesteps each, {} to {}, prompt {prompt:?}\n  \
             UNet {:.12}…, predicts {prediction}, {precision}\n",
            self.shards.url(),
            self.len(),
            self.shards.manifest().shards.len(),
            bytes as f64 / 1e6,
            timesteps.len(),
            timesteps.first().copied().unwrap_or(0),
            timesteps.last().copied().unwrap_or(0),
            unet,
        )
    }
}

/// The first key at which two values differ, and both values.
fn difference(key: &str, there: &Value, here: &Value) -> Option<(String, String, String)> {
    match (there, here) {
        (Value::Object(a), Value::Object(b)) => {
            let name = |child: &String| if key.is_empty() { child.clone() } else { format!("{key}.{child}") };
            a.iter().find_map(|(child, value)| difference(&name(child), value, b.get(child).unwrap_or(&Value::Null)))
        }
        _ if there == here => None,
        _ => Some((key.to_string(), there.to_string(), here.to_string())),
    }
}

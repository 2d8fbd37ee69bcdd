//! DDIM-inverted trajectories of the sources, made once and read by every run on the same weights.
//!
//! A data set of its own. A row is one timestep of one image's inversion: its latent and the UNet's output there.
//! Each image's timesteps are one row group. Reading needs no libtorch.

#[cfg(feature = "encode")]
mod columns;
#[cfg(feature = "encode")]
pub mod config;
#[cfg(feature = "encode")]
pub mod job;

use std::collections::HashMap;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::format::manifest::{Inversion, Manifest};
use crate::reading::shards::Shards;
use crate::store::Access;

/// The column of the latent at a timestep.
const LATENT: &str = "latent";
/// The column of the UNet's output there, named after the most common kind of output.
const NOISE: &str = "noise";

/// Trajectories of many images.
#[derive(Debug)]
pub struct Inversions {
    shards: Shards,
    inversion: Inversion,
    /// Shard and row group of each image.
    places: HashMap<String, (usize, usize)>,
}

impl Inversions {
    /// Opens the trajectories at a folder or URL. Shards are fetched, and their hashes checked, on first use.
    pub fn open(url: &str, access: &Access) -> Result<Self> {
        Self::of(Shards::open(url, access)?)
    }

    /// The trajectories of these shards; refuses shards of images.
    pub(crate) fn of(shards: Shards) -> Result<Self> {
        let Some(inversion) = shards.manifest().inversion.clone() else {
            return Err(Error::invalid(shards.url(), "holds images, no trajectories; `dataloader invert` makes those"));
        };
        let mut places = HashMap::new();
        for (shard, stated) in shards.manifest().shards.iter().enumerate() {
            if stated.image_ids.len() * inversion.timesteps.len() != stated.rows as usize {
                return Err(shards.damaged(shard, "the manifest lists other images than it has timesteps for"));
            }
            places.extend(stated.image_ids.iter().enumerate().map(|(group, id)| (id.clone(), (shard, group))));
        }
        Ok(Self { shards, inversion, places })
    }

    /// Refuses trajectories that were not made as `wanted` says, or from other latents than those of `sources`.
    pub fn check(&self, wanted: &Inversion, sources: &Manifest) -> Result<()> {
        let manifest = self.shards.manifest();
        let here = serde_json::json!({"inversion": wanted, "transform": sources.transform, "vae": sources.vae.hash});
        let there =
            serde_json::json!({"inversion": self.inversion, "transform": manifest.transform, "vae": manifest.vae.hash});
        match difference("", &there, &here) {
            None => Ok(()),
            Some((key, there, here)) => Err(Error::invalid(
                self.shards.url(),
                format!(
                    "its trajectories were made with {key} {there}, this run has {here}; re-run `dataloader invert`"
                ),
            )),
        }
    }

    /// Whether it has this image's trajectory.
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

    /// The latent and the UNet's output, (c·h·w) each, at timestep index `timestep_index` of an image that [`Inversions::has`].
    pub fn at_timestep(&self, image_id: &str, timestep_index: usize) -> Result<(Vec<f32>, Vec<f32>)> {
        let unknown = || Error::invalid(self.shards.url(), format!("it has no trajectory of image {image_id}"));
        let &(shard, group) = self.places.get(image_id).ok_or_else(unknown)?;
        let file = self.shards.file(shard)?;
        let (latent, noise) = (file.list(LATENT, group, timestep_index)?, file.list(NOISE, group, timestep_index)?);
        match latent.len() == self.shards.manifest().latent.len() && latent.len() == noise.len() {
            true => Ok((latent, noise)),
            false => Err(self.shards.damaged(shard, "latents are not of the manifest's size")),
        }
    }

    /// Hashes every shard and decodes every timestep; returns their number. Fails at the first damage.
    pub fn verify(&self) -> Result<u64> {
        for (shard, stated) in self.shards.manifest().shards.iter().enumerate() {
            for id in &stated.image_ids {
                for timestep_index in 0..self.inversion.timesteps.len() {
                    let (latent, noise) = self.at_timestep(id, timestep_index)?;
                    if !latent.iter().chain(&noise).all(|v| v.is_finite()) {
                        return Err(self
                            .shards
                            .damaged(shard, format!("image {id} is not finite at timestep index {timestep_index}")));
                    }
                }
            }
        }
        Ok(self.shards.manifest().rows())
    }

    /// A description of its content, for people.
    pub fn describe(&self) -> String {
        let Inversion { prompt, timesteps, prediction, precision, unet, .. } = &self.inversion;
        format!(
            "{}\n  trajectories of {} images, {} timesteps each, {} to {}, prompt {prompt:?}\n  UNet {:.12}…, \
             predicts {prediction}, {precision}\n",
            self.shards.url(),
            self.len(),
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

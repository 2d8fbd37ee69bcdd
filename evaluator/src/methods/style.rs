//! What the images of the target emotions have in common, for the baselines that copy it: a few means, from one pass
//! over the shards.
//!
//! Shapes: c latent channels, (h, w) latent cells.

pub mod section;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use dataloader::format::row::RowRef;
use dataloader::{Access, Dataset, Stream};
use diffusion::images;
use diffusion::pipeline::Pipeline;
use emotions::Emotion;
use program::Progress;
use serde_json::{json, Value};
use tch::{Device, Tensor};

use crate::error::{Error, Result};
use crate::evaluation::sources::{spread, Sources};
use crate::methods::moments::{Moments, RunningMean, RunningMoments};
use crate::methods::{adain, colour_transfer};
use section::StyleImages;

/// The means. Memory does not grow with the number of images.
#[derive(Debug)]
pub struct Style {
    emotions: BTreeMap<Emotion, Means>,
    latent: RunningMean, // (1, c, h, w), of all images
    device: Device,
    manifest_hash: String,
}

/// The means over one emotion's images.
#[derive(Debug, Default)]
struct Means {
    colours: RunningMoments,  // (1, 3, 1, 1), lαβ
    channels: RunningMoments, // (1, c, 1, 1)
    latent: RunningMean,      // (1, c, h, w)
}

impl Style {
    /// Reads the images once, for the statistics of `emotions`; refuses images that are also sources.
    pub fn gather(
        config: &StyleImages, store: &Access, emotions: &[Emotion], sources: &Sources, pipeline: &Pipeline,
    ) -> Result<Self> {
        let dataset = Dataset::open_with(&config.shards, store)?;
        dataset.check_vae(&pipeline.hashes.vae)?;
        let (latent, manifest_hash) = (dataset.manifest().latent.clone(), dataset.manifest().checksum.clone());
        let shape = [1, latent.channels.into(), latent.height.into(), latent.width.into()];
        let stream = Stream::new(Arc::new(dataset), &config.filter, 0)?;
        refuse_sources(stream.rows(), sources)?;
        let chosen = Chosen::new(config, emotions, stream.rows())?;
        let mut style = Self {
            emotions: emotions.iter().map(|&e| (e, Means::default())).collect(),
            latent: RunningMean::default(),
            device: pipeline.unet.device(),
            manifest_hash,
        };
        let places = chosen.places();
        let progress = Progress::new("reading style images", "images", places.len() as u64, true);
        for place in places {
            progress.inc(1);
            let row = stream.read(&stream.rows()[place])?;
            let values: Vec<f32> = row.encoding.latent_mean.iter().map(|v| v.to_f32()).collect();
            let latent = Tensor::from_slice(&values).view(shape) * pipeline.vae.scaling_factor();
            style.add(&chosen, place, &latent, || Ok(images::to_tensor(&row.image()?)))?;
        }
        Ok(style)
    }

    /// Adds one row; its picture is decoded only if it is needed.
    fn add(
        &mut self, chosen: &Chosen, place: usize, latent: &Tensor, picture: impl FnOnce() -> Result<Tensor>,
    ) -> Result<()> {
        if chosen.all.contains(&place) {
            self.latent.add(latent);
        }
        let mut showing = self.emotions.iter_mut().filter(|(e, _)| chosen.showing[e].contains(&place)).peekable();
        if showing.peek().is_none() {
            return Ok(());
        }
        let (colours, channels) = (colour_transfer::colours(&picture()?), adain::channels(latent));
        for (_, means) in showing {
            means.colours.add(&colours);
            means.channels.add(&channels);
            means.latent.add(latent);
        }
        Ok(())
    }

    /// The mean moments of the emotion's images in lαβ, (1, 3, 1, 1), on the CPU like the pictures.
    pub fn colours(&self, emotion: Emotion) -> Moments {
        self.of(emotion).colours.mean()
    }

    /// The mean moments of the emotion's latents, (1, c, 1, 1).
    pub fn channels(&self, emotion: Emotion) -> Moments {
        let Moments { mean, std } = self.of(emotion).channels.mean();
        Moments { mean: mean.to_device(self.device), std: std.to_device(self.device) }
    }

    /// The mean latent of the emotion's images minus that of all images, (1, c, h, w).
    pub fn direction(&self, emotion: Emotion) -> Tensor {
        (self.of(emotion).latent.mean() - self.latent.mean()).to_device(self.device)
    }

    /// Counts and hash for the report.
    pub fn account(&self) -> Value {
        let counts = self.emotions.iter().map(|(e, means)| (e.name().to_string(), means.latent.count().into()));
        let counts: serde_json::Map<String, Value> = counts.collect();
        json!({"manifest": self.manifest_hash, "n": self.latent.count(), "n_per_emotion": counts})
    }

    fn of(&self, emotion: Emotion) -> &Means {
        self.emotions.get(&emotion).expect("the statistics of every evaluated emotion were gathered")
    }
}

/// Which rows are read, and for which statistics.
struct Chosen {
    all: BTreeSet<usize>,
    showing: BTreeMap<Emotion, BTreeSet<usize>>,
}

impl Chosen {
    fn new(config: &StyleImages, emotions: &[Emotion], rows: &[RowRef]) -> Result<Self> {
        let evenly = |places: Vec<usize>| -> BTreeSet<usize> {
            spread(places.len(), config.max_images.unwrap_or(places.len())).map(|i| places[i]).collect()
        };
        let of = |&emotion: &Emotion| {
            let places =
                rows.iter().enumerate().filter(|(_, row)| row.shows(emotion)).map(|(place, _)| place).collect();
            match evenly(places) {
                none if none.is_empty() => {
                    let message =
                        format!("no image of {emotion} in {} with {}", config.shards, config.filter.describe());
                    Err(Error::config("style_images", message))
                }
                places => Ok((emotion, places)),
            }
        };
        let showing = emotions.iter().map(of).collect::<Result<_>>()?;
        Ok(Self { all: evenly((0..rows.len()).collect()), showing })
    }

    fn places(&self) -> BTreeSet<usize> {
        self.showing.values().chain([&self.all]).flatten().copied().collect()
    }
}

/// Whatever the splits are called and wherever the shards lie, no picture may be both.
fn refuse_sources(rows: &[RowRef], sources: &Sources) -> Result<()> {
    let held_out: HashSet<&str> = sources.image_ids().collect();
    let mut shared = rows.iter().filter(|row| held_out.contains(row.image_id.as_str()));
    let Some(first) = shared.next() else { return Ok(()) };
    let message = format!("{} and {} more are sources as well; filter them out", first.path, shared.count());
    Err(Error::config("style_images", message))
}

//! `dataloader shard`: images to a data set. Lists, identifies, divides, then encodes what an earlier run did not.

use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use diffusion::hub::Hub;
use image::RgbImage;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use crate::config::{ImageFormat, ShardConfig};
use crate::encode::{Encoded, Encoder, Models};
use crate::error::{Error, Result};
use crate::manifest::{Crop, Manifest, Quarantined, Transform, FORMAT_VERSION};
use crate::photo;
use crate::plan::{Plan, Planned};
use crate::reuse::{Key, Reuse};
use crate::row::{emotions_of, Entry, Row};
use crate::schema::Widths;
use crate::writer::{recover, Writer};

/// What a run of `shard` did.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The data set's manifest.
    pub manifest: Manifest,
    /// Rows that went through the models.
    pub encoded: usize,
    /// Rows taken from the earlier data set.
    pub reused: usize,
    /// Wall time.
    pub seconds: f64,
}

impl Summary {
    /// The run on one line; `output` is where the data set lies.
    pub fn describe(&self, output: &Path) -> String {
        format!(
            "{}: {} rows in {} shards; {} encoded, {} reused, {} quarantined; {:.1} s",
            output.display(),
            self.manifest.rows(),
            self.manifest.shards.len(),
            self.encoded,
            self.reused,
            self.manifest.quarantined.len(),
            self.seconds,
        )
    }
}

/// Makes the data set of a recipe.
pub fn run(config: &ShardConfig, hub: &Hub) -> Result<Summary> {
    config.check()?;
    let started = Instant::now();
    let models = Models::find(config, hub)?;
    recover(&config.output)?;
    let plan = plan(config)?;
    tracing::info!(images = plan.num_images(), quarantined = plan.quarantined.len(), "images identified");
    check_quarantine(config, &plan.quarantined, plan.num_images())?;
    let (manifest, encoded, reused) = Run::new(config, &models, plan)?.write()?;
    Ok(Summary { manifest, encoded, reused, seconds: started.elapsed().as_secs_f64() })
}

fn plan(config: &ShardConfig) -> Result<Plan> {
    let listing = config.source.list()?;
    let bar = progress("identifying", listing.items.len());
    let plan = Plan::new(listing, &config.source.splits(), || bar.inc(1));
    bar.finish_and_clear();
    Ok(plan)
}

/// Refuses a data set without images, or with more unusable ones than the recipe allows.
fn check_quarantine(config: &ShardConfig, quarantined: &[Quarantined], usable: usize) -> Result<()> {
    let (bad, total) = (quarantined.len(), quarantined.len() + usable);
    let allowed = config.quarantine.max_fraction;
    let first = quarantined.first().map(|q| format!("{}: {}", q.path, q.reason));
    match first {
        Some(first) if bad as f64 > allowed * total as f64 => {
            Err(Error::TooManyQuarantined { bad, total, allowed, first })
        }
        _ if usable == 0 => Err(Error::invalid("source", "it has no readable image")),
        _ => Ok(()),
    }
}

/// A run under way.
struct Run<'a> {
    config: &'a ShardConfig,
    models: &'a Models,
    encoder: Encoder,
    transform: Transform,
    plan: Plan,
    reuse: Reuse,
    quarantined: Vec<Quarantined>,
    encoded: usize,
    reused: usize,
}

impl<'a> Run<'a> {
    fn new(config: &'a ShardConfig, models: &'a Models, mut plan: Plan) -> Result<Self> {
        let transform = Transform {
            resolution: config.resolution,
            crop: Crop::Center,
            filter: "lanczos3".into(),
            image_format: config.image_format.name().into(),
        };
        let reuse = Reuse::open(&config.output, &Key::new(&transform, &models.vae_model, models.clip_model.as_ref()));
        let quarantined = std::mem::take(&mut plan.quarantined);
        let encoder = models.load()?;
        Ok(Self { config, models, encoder, transform, plan, reuse, quarantined, encoded: 0, reused: 0 })
    }

    fn write(mut self) -> Result<(Manifest, usize, usize)> {
        let latent = self.encoder.latent(self.config.resolution)?;
        let clip = self.models.clip_model.as_ref().and_then(|c| c.dimension).map(|d| d as usize);
        let mut writer = Writer::new(&self.config.output, Widths { latent: latent.len(), clip })?;
        let plan = std::mem::take(&mut self.plan);
        let bar = progress("encoding", plan.num_images());
        for (file, split, images) in plan.shards(self.config.rows_per_shard) {
            writer.start_shard(&file, split)?;
            for batch in images.chunks(self.config.batch_size) {
                self.rows(split, batch)?.into_iter().try_for_each(|row| writer.push(row))?;
                bar.inc(batch.len() as u64);
            }
            tracing::info!(%file, rows = images.len(), "shard written");
        }
        bar.finish_and_clear();
        check_quarantine(self.config, &self.quarantined, self.encoded + self.reused)?;
        let manifest = writer.finish(Manifest {
            format_version: FORMAT_VERSION,
            shards: vec![],
            splits: Default::default(),
            transform: self.transform,
            latent,
            vae: self.models.vae_model.clone(),
            clip: self.models.clip_model.clone(),
            quarantined: self.quarantined,
            checksum: String::new(),
        })?;
        Ok((manifest, self.encoded, self.reused))
    }

    /// The rows of a batch, those quarantined left out.
    fn rows(&mut self, split: &str, batch: &[Planned]) -> Result<Vec<Row>> {
        let new: Vec<&Planned> = batch.iter().filter(|p| !self.reuse.has(&p.image_id)).collect();
        let mut fresh = self.encode(&new)?.into_iter();
        let mut rows = Vec::with_capacity(batch.len());
        for planned in batch {
            let entry = self.entry(split, planned);
            if let Some(earlier) = self.reuse.row(&planned.image_id)? {
                self.reused += 1;
                rows.push(Row { entry, ..(*earlier).clone() });
                continue;
            }
            match fresh.next().expect("one result per new image") {
                Ok((image, encoded)) => {
                    self.encoded += 1;
                    rows.push(row(entry, image, encoded));
                }
                Err(reason) => {
                    tracing::warn!("{} is quarantined: {reason}", planned.item.path);
                    self.quarantined.push(Quarantined { path: planned.item.path.clone(), reason });
                }
            }
        }
        Ok(rows)
    }

    /// Compressed training image and encoding of each image, or the reason for quarantine.
    fn encode(&self, images: &[&Planned]) -> Result<Vec<std::result::Result<(Bytes, Encoded), String>>> {
        let (transform, format) = (&self.transform, self.config.image_format);
        let prepared: Vec<std::result::Result<(RgbImage, Bytes), String>> =
            images.par_iter().map(|planned| prepare(planned, transform, format)).collect();
        let readable: Vec<RgbImage> = prepared.iter().flatten().map(|(image, _)| image.clone()).collect();
        let encoded = if readable.is_empty() { vec![] } else { self.encoder.encode(&readable)? };
        let mut encoded = encoded.into_iter();
        let joined = prepared.into_iter().map(|image| {
            let (_, bytes) = image?;
            Ok((bytes, encoded.next().expect("one encoding per readable image")?))
        });
        Ok(joined.collect())
    }

    fn entry(&self, split: &str, planned: &Planned) -> Entry {
        let item = &planned.item;
        Entry {
            image_id: planned.image_id.clone(),
            source: self.config.source.name().into(),
            path: item.path.clone(),
            split: split.into(),
            emotion: item.emotion,
            emotions: emotions_of(&item.attributes),
            namespace: item.namespace.clone(),
            label: item.label.clone(),
            valence: item.valence,
            arousal: item.arousal,
            ambiguity: item.ambiguity,
            attributes: item.attributes.clone(),
            width: planned.width,
            height: planned.height,
            crop: photo::crop(&self.transform, planned.width, planned.height),
        }
    }
}

/// The training image of a photo, and its compressed bytes.
fn prepare(
    planned: &Planned, transform: &Transform, format: ImageFormat,
) -> std::result::Result<(RgbImage, Bytes), String> {
    let photo = photo::decode(&planned.item)?;
    if photo::image_id(&photo) != planned.image_id {
        return Err("the file changed while it was being encoded".into());
    }
    let image = photo::training_image(transform, &photo)?;
    let bytes = photo::compress(&image, format)?;
    Ok((image, bytes.into()))
}

fn row(entry: Entry, image: Bytes, encoded: Encoded) -> Row {
    Row {
        entry,
        image,
        latent_mean: encoded.latent_mean,
        latent_std: encoded.latent_std,
        flip_mean: encoded.flip_mean,
        flip_std: encoded.flip_std,
        clip_embedding: encoded.clip_embedding,
    }
}

fn progress(what: &'static str, total: usize) -> ProgressBar {
    let template = "{msg} {wide_bar} {pos}/{len} {per_sec} {eta}";
    let style = ProgressStyle::with_template(template).expect("a valid template");
    ProgressBar::new(total as u64).with_style(style).with_message(what)
}

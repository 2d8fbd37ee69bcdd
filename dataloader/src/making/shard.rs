//! `dataloader shard`: images to a data set. Lists, identifies and divides the images, then encodes those that were
//! not encoded before.
//!
//! Any number of processes work together: each identifies its share of the images and encodes its share of the
//! shards. A run that was killed goes on after its last finished shard.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hub::Hub;
use image::RgbImage;
use program::Progress;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::format::account::Account;
use crate::format::manifest::{Crop, Manifest, Quarantined, Transform, FORMAT_VERSION};
use crate::format::row::{emotions_of, Encoding, Entry, Row};
use crate::format::schema::Widths;
use crate::making::assembly::{Assembly, Made, Wanted};
use crate::making::card;
use crate::making::config::ShardConfig;
use crate::making::encode::{Encoder, Models};
use crate::making::identify::identify;
use crate::making::photo;
use crate::making::plan::{Plan, Planned, PlannedShard};
use crate::making::reuse::{Key, Reuse};
use crate::making::staging::{Receipt, Staging};
use crate::making::waiting::Patience;
use crate::making::worker_rank::WorkerRank;
use crate::making::writer::LAYOUT;
use crate::sources::Listing;

/// The result of a run of `shard`.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The data set's manifest.
    pub manifest: Manifest,
    /// Rows that went through the models.
    pub encoded: usize,
    /// Rows taken from an earlier data set, or from an earlier run that did not finish.
    pub reused: usize,
    /// Wall time.
    pub seconds: f64,
}

impl Summary {
    /// The run on one line, and a line for each kind of entry that is no image; `output` is the data set's folder.
    pub fn describe(&self, output: &Path) -> String {
        let missing = match self.manifest.missing {
            0 => String::new(),
            count => format!(", {count} missing"),
        };
        let beside: String = self.manifest.account.describe().iter().map(|count| format!("\n  {count}")).collect();
        format!(
            "{}: {} rows in {} shards; {} encoded, {} reused, {} quarantined{missing}; {:.1} s{beside}",
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

/// Makes this process's share of a recipe's data set; the first process completes it and returns a summary.
pub fn run(config: &ShardConfig, hub: &Hub, worker_rank: &WorkerRank) -> Result<Option<Summary>> {
    config.check()?;
    let started = Instant::now();
    worker_rank.divide_cores();
    let finding = Progress::unbounded("finding the models", worker_rank.is_first());
    let models = Models::find(config, hub, worker_rank)?;
    drop(finding);
    let listing = {
        let _progress = Progress::unbounded("listing the source", worker_rank.is_first());
        config.source.list()?
    };
    let patience = Patience(Duration::from_secs(config.rank_timeout_s));
    let assembly = Assembly::begin(&config.output, worker_rank, patience)?;
    let (missing, account) = (listing.missing.len(), listing.account.clone());
    let plan = plan(config, listing, &assembly.staging, worker_rank, patience)?;
    tracing::info!(images = plan.num_images(), quarantined = plan.quarantined.len(), missing, "images identified");
    check_quarantine(config, &plan.quarantined, plan.num_images())?;
    let run = Run::new(config, &models)?;
    let shards = plan.shards(config.rows_per_shard);
    let wanted: Vec<Wanted> = shards.iter().map(|shard| run.wanted(shard)).collect();
    let made = assembly.make("encoding", &wanted, |k, progress| {
        run.encode_shard(&assembly.staging, &shards[k], &wanted[k].key, progress)
    })?;
    let Some(Made { receipts, encoded, reused }) = made else { return Ok(None) };
    let manifest = run.manifest(plan.quarantined.clone(), &receipts, missing as u64, account)?;
    let manifest = assembly.commit(receipts, manifest)?;
    card::write(config, &manifest)?;
    Ok(Some(Summary { manifest, encoded, reused, seconds: started.elapsed().as_secs_f64() }))
}

/// The result of planning the source's images.
fn plan(
    config: &ShardConfig, listing: Listing, staging: &Staging, worker_rank: &WorkerRank, patience: Patience,
) -> Result<Plan> {
    let mine = listing.items.len().div_ceil(worker_rank.size) as u64;
    let progress = Progress::new("identifying", "images", mine, worker_rank.is_first());
    let tick = || progress.inc(1);
    let found = identify(&listing.items, &config.output, staging, worker_rank, &config.limits, patience, tick)?;
    drop(progress);
    Ok(Plan::new(listing.items, found, listing.quarantined, &config.source.splits()))
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
        Some(first) if usable == 0 => Err(Error::invalid("source", format!("no image is usable; first: {first}"))),
        None if usable == 0 => Err(Error::invalid("source", "it has no image")),
        _ => Ok(()),
    }
}

/// A run of `shard`.
struct Run<'a> {
    config: &'a ShardConfig,
    models: &'a Models,
    encoder: Encoder,
    transform: Transform,
    reuse: Reuse,
}

impl<'a> Run<'a> {
    fn new(config: &'a ShardConfig, models: &'a Models) -> Result<Self> {
        let transform = Transform {
            resolution: config.resolution,
            crop: Crop::Center,
            filter: "lanczos3".into(),
            image_format: config.image_format.name().into(),
        };
        let key = Key::new(&transform, &models.vae_model, models.clip_model.as_ref());
        let reuse = Reuse::open(&config.output, &key);
        Ok(Self { config, models, encoder: models.load()?, transform, reuse })
    }

    fn wanted(&self, shard: &PlannedShard<'_>) -> Wanted {
        let made_with = (FORMAT_VERSION, LAYOUT, &self.transform, &self.models.vae_model.hash, &self.models.clip_model);
        let entries: Vec<Entry> = shard.images.iter().map(|planned| self.entry(shard.split, planned)).collect();
        let made_of = serde_json::to_vec(&(made_with, entries)).expect("plain data");
        let paths = shard.images.iter().map(|planned| planned.item.path.clone()).collect();
        Wanted { file: shard.file.clone(), key: blake3::hash(&made_of).to_hex().to_string(), paths }
    }

    fn encode_shard(
        &self, staging: &Staging, shard: &PlannedShard<'_>, key: &str, progress: &Progress,
    ) -> Result<Receipt> {
        let PlannedShard { file, split, images } = shard;
        let mut writer = staging.start_shard(file, split, key, self.widths()?)?;
        let (mut quarantined, mut encoded, mut reused) = (Vec::new(), 0, 0);
        for batch in images.chunks(self.config.batch_size) {
            let new: Vec<&Planned> = batch.iter().filter(|p| !self.reuse.has(&p.identity.image_id)).collect();
            let mut fresh = self.encode(&new)?.into_iter();
            for planned in batch {
                let entry = Arc::new(self.entry(split, planned));
                if let Some(earlier) = self.reuse.row(&planned.identity.image_id)? {
                    reused += 1;
                    writer.push(Row { entry, ..earlier })?;
                    continue;
                }
                match fresh.next().expect("one result per new image") {
                    Ok((image, encoding)) => {
                        encoded += 1;
                        writer.push(Row { entry, image, encoding })?;
                    }
                    Err(reason) => {
                        tracing::warn!("{} is quarantined: {reason}", planned.item.path);
                        quarantined.push(Quarantined { path: planned.item.path.clone(), reason });
                    }
                }
            }
            progress.inc(batch.len() as u64);
        }
        Ok(Receipt { shard: writer.finish()?, quarantined, encoded, reused })
    }

    /// The data set's manifest, without the list of shards.
    fn manifest(
        &self, mut quarantined: Vec<Quarantined>, receipts: &[Receipt], missing: u64, account: Account,
    ) -> Result<Manifest> {
        quarantined.extend(receipts.iter().flat_map(|r| r.quarantined.iter().cloned()));
        quarantined.sort_by(|a, b| a.path.cmp(&b.path));
        check_quarantine(self.config, &quarantined, receipts.iter().map(|r| r.shard.rows as usize).sum())?;
        Ok(Manifest {
            format_version: FORMAT_VERSION,
            shards: vec![],
            splits: BTreeMap::new(),
            transform: self.transform.clone(),
            latent: self.encoder.latent(self.config.resolution)?,
            vae: self.models.vae_model.clone(),
            clip: self.models.clip_model.clone(),
            quarantined,
            missing,
            account,
            inversion: None,
            checksum: String::new(),
        })
    }

    fn widths(&self) -> Result<Widths> {
        let clip = self.models.clip_model.as_ref().and_then(|c| c.dimension).map(|d| d as usize);
        Ok(Widths { latent: self.encoder.latent(self.config.resolution)?.len(), clip })
    }

    /// Compressed training image and encoding of each image, or the reason for quarantine.
    fn encode(&self, images: &[&Planned]) -> Result<Vec<std::result::Result<(Bytes, Encoding), String>>> {
        let (transform, format, limits) = (&self.transform, self.config.image_format, &self.config.limits);
        let prepared: Vec<std::result::Result<(RgbImage, Bytes), String>> = images
            .par_iter()
            .map(|p| photo::prepare(&p.item, &p.identity.image_id, transform, format, limits))
            .collect();
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
        let (item, identity) = (&planned.item, &planned.identity);
        Entry {
            image_id: identity.image_id.clone(),
            source: self.config.source.name().into(),
            path: item.path.clone(),
            split: split.into(),
            emotion: item.emotion,
            emotions: emotions_of(&item.attributes),
            namespace: item.namespace.clone(),
            label: item.label.clone(),
            subject: item.subject.clone(),
            state: item.state.clone(),
            valence: item.valence,
            arousal: item.arousal,
            ambiguity: item.ambiguity,
            attributes: item.attributes.clone(),
            width: identity.width,
            height: identity.height,
            crop: photo::crop(&self.transform, identity.width, identity.height),
        }
    }
}

//! `dataloader shard`: images to a data set. Lists, identifies, divides, then encodes what was not encoded before.
//!
//! Any number of processes do it together: each identifies its share of the images and encodes its share of the shards
//! into one folder; the first waits for all and puts the data set together. A run that was killed goes on after its last
//! finished shard.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use diffusion::hub::Hub;
use image::RgbImage;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use crate::card;
use crate::config::ShardConfig;
use crate::encode::{Encoded, Encoder, Models};
use crate::error::{Error, Result};
use crate::identify::identify;
use crate::manifest::{self, Crop, Manifest, Quarantined, Shard, Transform, FORMAT_VERSION};
use crate::photo;
use crate::plan::{Plan, Planned, PlannedShard};
use crate::reuse::{Key, Reuse};
use crate::row::{emotions_of, Entry, Row};
use crate::schema::Widths;
use crate::share::Share;
use crate::sources::Listing;
use crate::staging::{is_cut_off, recover, Receipt, Staging};
use crate::waiting::{wait_for, Patience};

/// What the other processes sign when they have nothing left to do.
const FINISHED: &str = "finished";

/// What a run of `shard` did.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The data set's manifest.
    pub manifest: Manifest,
    /// Rows that went through the models.
    pub encoded: usize,
    /// Rows taken from an earlier data set, or from an earlier run that did not end.
    pub reused: usize,
    /// Wall time.
    pub seconds: f64,
}

impl Summary {
    /// The run on one line; `output` is where the data set lies.
    pub fn describe(&self, output: &Path) -> String {
        let missing = match self.manifest.missing {
            0 => String::new(),
            count => format!(", {count} missing"),
        };
        format!(
            "{}: {} rows in {} shards; {} encoded, {} reused, {} quarantined{missing}; {:.1} s",
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

/// Does this process's share of a recipe's data set; the first process puts it together and has a summary.
pub fn run(config: &ShardConfig, hub: &Hub, share: &Share) -> Result<Option<Summary>> {
    config.check()?;
    let started = Instant::now();
    let models = Models::find(config, hub, share)?;
    let listing = config.source.list()?;
    let patience = Patience(Duration::from_secs(config.rank_timeout_s));
    if share.is_first() {
        recover(&config.output)?;
    } else {
        wait_for(&config.output, patience, || is_cut_off(&config.output).then(|| "rank 0 to recover".into()))?;
    }
    let staging = Staging::open(&config.output)?;
    let before = staging.left();
    let missing = listing.missing.len();
    let plan = plan(config, listing, &staging, share, patience)?;
    tracing::info!(images = plan.num_images(), quarantined = plan.quarantined.len(), missing, "images identified");
    check_quarantine(config, &plan.quarantined, plan.num_images())?;
    let run = Run::new(config, &models, staging, plan, share)?;
    let (shards, receipts, anew) = match run.encode_all() {
        // Late, after the first process has put the data set together out of what an earlier run left of ours.
        Err(error) if !share.is_first() => return run.is_in_place(patience).then_some(None).ok_or(error),
        done => done?,
    };
    if !share.is_first() {
        run.staging.sign(FINISHED, share, &key_of_all(&shards))?;
        return Ok(None);
    }
    let receipts = run.collect(&shards, receipts, patience)?;
    let done_now = |receipt: &&Receipt| anew.contains(&receipt.shard.file) || !before.contains(&receipt.shard.file);
    let encoded = receipts.iter().filter(done_now).map(|r| r.encoded).sum();
    let reused = receipts.iter().map(|r| r.shard.rows as usize).sum::<usize>() - encoded;
    let manifest = run.commit(receipts, missing as u64)?;
    Ok(Some(Summary { manifest, encoded, reused, seconds: started.elapsed().as_secs_f64() }))
}

/// What becomes of the source's images.
fn plan(config: &ShardConfig, listing: Listing, staging: &Staging, share: &Share, patience: Patience) -> Result<Plan> {
    let bar = progress("identifying", listing.items.len().div_ceil(share.size), share);
    let tick = || bar.inc(1);
    let found = identify(&listing.items, &config.output, staging, share, &config.limits, patience, tick)?;
    bar.finish_and_clear();
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

/// A shard to be, and what stands for everything that it is made of.
struct Wanted<'a> {
    shard: PlannedShard<'a>,
    key: String,
}

/// Stands for all shards of a data set.
fn key_of_all(shards: &[Wanted<'_>]) -> String {
    let keys: String = shards.iter().map(|wanted| wanted.key.as_str()).collect();
    blake3::hash(keys.as_bytes()).to_hex()[..16].to_string()
}

/// A run under way.
struct Run<'a> {
    config: &'a ShardConfig,
    models: &'a Models,
    encoder: Encoder,
    transform: Transform,
    staging: Staging,
    plan: Plan,
    share: &'a Share,
    /// The data set that this one replaces, if it is made alike.
    earlier: Option<Manifest>,
}

impl<'a> Run<'a> {
    fn new(
        config: &'a ShardConfig, models: &'a Models, staging: Staging, plan: Plan, share: &'a Share,
    ) -> Result<Self> {
        let transform = Transform {
            resolution: config.resolution,
            crop: Crop::Center,
            filter: "lanczos3".into(),
            image_format: config.image_format.name().into(),
        };
        let bytes = std::fs::read(config.output.join(manifest::FILE)).ok();
        let earlier = bytes.and_then(|bytes| Manifest::parse("", &bytes).ok());
        let encoder = models.load()?;
        Ok(Self { config, models, encoder, transform, staging, plan, share, earlier })
    }

    /// Encodes this process's shards. Returns all shards, the receipts of this process's, and which of them it encoded.
    #[allow(clippy::type_complexity)]
    fn encode_all(&self) -> Result<(Vec<Wanted<'_>>, BTreeMap<String, Receipt>, BTreeSet<String>)> {
        let shards = self.wanted();
        let (mut receipts, mut mine) = (BTreeMap::new(), Vec::new());
        for (_, wanted) in shards.iter().enumerate().filter(|(k, _)| self.share.owns(*k)) {
            let file = &wanted.shard.file;
            let finished =
                self.kept(wanted).map_or_else(|| self.staging.receipt(file, &wanted.key), |r| Ok(Some(r)))?;
            match finished {
                Some(receipt) => drop(receipts.insert(file.clone(), receipt)),
                None => mine.push(wanted),
            }
        }
        let key = Key::new(&self.transform, &self.models.vae_model, self.models.clip_model.as_ref());
        let mut reuse = Reuse::open(&self.config.output, &key);
        let anew = mine.iter().map(|wanted| wanted.shard.file.clone()).collect();
        let bar = progress("encoding", mine.iter().map(|w| w.shard.images.len()).sum(), self.share);
        for wanted in mine {
            let receipt = self.encode_shard(wanted, &mut reuse, &bar)?;
            self.staging.leave(&receipt)?;
            let (file, rows) = (&receipt.shard.file, receipt.shard.rows);
            let left = bar.length().unwrap_or(0).saturating_sub(bar.position());
            tracing::info!(%file, rows, left, per_s = format!("{:.1}", bar.per_sec()), "shard written");
            receipts.insert(file.clone(), receipt);
        }
        bar.finish_and_clear();
        Ok((shards, receipts, anew))
    }

    fn wanted(&self) -> Vec<Wanted<'_>> {
        let shards = self.plan.shards(self.config.rows_per_shard).into_iter();
        shards.map(|shard| Wanted { key: self.key_of(&shard), shard }).collect()
    }

    /// blake3 of all that decides about a shard's bytes.
    fn key_of(&self, shard: &PlannedShard<'_>) -> String {
        let made_with = (FORMAT_VERSION, &self.transform, &self.models.vae_model.hash, &self.models.clip_model);
        let entries: Vec<Entry> = shard.images.iter().map(|planned| self.entry(shard.split, planned)).collect();
        let made_of = serde_json::to_vec(&(made_with, entries)).expect("plain data");
        blake3::hash(&made_of).to_hex().to_string()
    }

    /// The shard of the data set in place, if it is made of the same.
    fn kept(&self, wanted: &Wanted<'_>) -> Option<Receipt> {
        let manifest = self.earlier.as_ref()?;
        let shard = manifest.shards.iter().find(|s| s.file == wanted.shard.file && s.key == wanted.key)?;
        let path = self.config.output.join(&shard.file);
        let (bytes, blake3) = crate::writer::measure(&path).ok()?;
        if (bytes, &blake3) != (shard.bytes, &shard.blake3) {
            tracing::warn!("{}: damaged, made again", path.display());
            return None;
        }
        let paths: BTreeSet<&str> = wanted.shard.images.iter().map(|p| p.item.path.as_str()).collect();
        let quarantined = manifest.quarantined.iter().filter(|q| paths.contains(q.path.as_str())).cloned().collect();
        Some(Receipt { shard: shard.clone(), quarantined, encoded: 0, reused: shard.rows as usize })
    }

    /// Whether the data set in place has all of this process's shards, waiting for it to get there.
    fn is_in_place(&self, patience: Patience) -> bool {
        let folder = &self.config.output;
        let moving = || is_cut_off(folder).then(|| "rank 0 to put the data set in its place".to_string());
        if wait_for(folder, patience, moving).is_err() {
            return false;
        }
        let manifest = std::fs::read(folder.join(manifest::FILE)).ok().and_then(|b| Manifest::parse("", &b).ok());
        let listed: BTreeSet<String> = manifest.iter().flat_map(|m| &m.shards).map(|s| s.key.clone()).collect();
        let wanted = self.wanted();
        wanted.iter().enumerate().filter(|(k, _)| self.share.owns(*k)).all(|(_, w)| listed.contains(&w.key))
    }

    fn encode_shard(&self, wanted: &Wanted<'_>, reuse: &mut Reuse, bar: &ProgressBar) -> Result<Receipt> {
        let PlannedShard { file, split, images } = &wanted.shard;
        let mut writer = self.staging.start_shard(file, split, &wanted.key, self.widths()?)?;
        let (mut quarantined, mut encoded, mut reused) = (Vec::new(), 0, 0);
        for batch in images.chunks(self.config.batch_size) {
            let new: Vec<&Planned> = batch.iter().filter(|p| !reuse.has(&p.identity.image_id)).collect();
            let mut fresh = self.encode(&new)?.into_iter();
            for planned in batch {
                let entry = self.entry(split, planned);
                if let Some(earlier) = reuse.row(&planned.identity.image_id)? {
                    reused += 1;
                    writer.push(Row { entry, ..(*earlier).clone() })?;
                    continue;
                }
                match fresh.next().expect("one result per new image") {
                    Ok((image, numbers)) => {
                        encoded += 1;
                        writer.push(row(entry, image, numbers))?;
                    }
                    Err(reason) => {
                        tracing::warn!("{} is quarantined: {reason}", planned.item.path);
                        quarantined.push(Quarantined { path: planned.item.path.clone(), reason });
                    }
                }
            }
            bar.inc(batch.len() as u64);
        }
        Ok(Receipt { shard: writer.finish()?, quarantined, encoded, reused })
    }

    /// The receipts of all shards, those of the other processes waited for.
    fn collect(
        &self, shards: &[Wanted<'_>], mut receipts: BTreeMap<String, Receipt>, patience: Patience,
    ) -> Result<Vec<Receipt>> {
        for wanted in shards {
            if !receipts.contains_key(&wanted.shard.file) {
                receipts.extend(self.kept(wanted).map(|receipt| (wanted.shard.file.clone(), receipt)));
            }
        }
        let waited_for: Vec<usize> =
            (0..shards.len()).filter(|&k| !receipts.contains_key(&shards[k].shard.file)).collect();
        wait_for(&self.staging.path(), patience, || {
            let left = |k: &&usize| !self.staging.is_left(&shards[**k].shard.file, &shards[**k].key);
            let k = *waited_for.iter().find(left)?;
            Some(format!("rank {} to write {}", k % self.share.size, shards[k].shard.file))
        })?;
        // Nobody may still be looking when the data set moves into its place.
        let key = key_of_all(shards);
        let others = || self.staging.unsigned(FINISHED, self.share, &key).into_iter().filter(|&rank| rank > 0);
        wait_for(&self.staging.path(), patience, || others().next().map(|rank| format!("rank {rank} to end")))?;
        for k in waited_for {
            let (file, key) = (&shards[k].shard.file, &shards[k].key);
            let damaged = || Error::shard(self.staging.path().join(file).display().to_string(), "not what was written");
            receipts.insert(file.clone(), self.staging.receipt(file, key)?.ok_or_else(damaged)?);
        }
        Ok(shards.iter().filter_map(|wanted| receipts.remove(&wanted.shard.file)).collect())
    }

    fn commit(self, receipts: Vec<Receipt>, missing: u64) -> Result<Manifest> {
        let latent = self.encoder.latent(self.config.resolution)?;
        let Self { config, models, staging, plan, transform, .. } = self;
        let mut quarantined = plan.quarantined;
        quarantined.extend(receipts.iter().flat_map(|r| r.quarantined.iter().cloned()));
        quarantined.sort_by(|a, b| a.path.cmp(&b.path));
        let shards: Vec<Shard> = receipts.into_iter().map(|r| r.shard).filter(|s| s.rows > 0).collect();
        check_quarantine(config, &quarantined, shards.iter().map(|s| s.rows as usize).sum())?;
        let manifest = staging.commit(
            shards,
            Manifest {
                format_version: FORMAT_VERSION,
                shards: vec![],
                splits: BTreeMap::new(),
                transform,
                latent,
                vae: models.vae_model.clone(),
                clip: models.clip_model.clone(),
                quarantined,
                missing,
                checksum: String::new(),
            },
        )?;
        card::write(config, &manifest)?;
        Ok(manifest)
    }

    fn widths(&self) -> Result<Widths> {
        let clip = self.models.clip_model.as_ref().and_then(|c| c.dimension).map(|d| d as usize);
        Ok(Widths { latent: self.encoder.latent(self.config.resolution)?.len(), clip })
    }

    /// Compressed training image and encoding of each image, or the reason for quarantine.
    fn encode(&self, images: &[&Planned]) -> Result<Vec<std::result::Result<(Bytes, Encoded), String>>> {
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

fn progress(what: &'static str, total: usize, share: &Share) -> ProgressBar {
    if !share.is_first() {
        return ProgressBar::hidden();
    }
    let template = "{msg} {wide_bar} {pos}/{len} {per_sec} {eta}";
    let style = ProgressStyle::with_template(template).expect("a valid template");
    ProgressBar::new(total as u64).with_style(style).with_message(what)
}

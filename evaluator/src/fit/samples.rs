//! Labelled embeddings: read from the shards if they are the named CLIP's, otherwise computed from the images.
//!
//! Shapes: n rows, p CLIP's projection.

use std::sync::Arc;

use dataloader::format::row::RowRef;
use dataloader::{Dataset, Filter, Stream};
use judge::embedder::Embedder;
use program::Progress;
use tch::{Kind, Tensor};

use super::config::{Config, Validation};
use crate::error::{Error, Result};

/// Images embedded at once.
const BATCH: usize = 32;

/// Rows of one purpose.
#[derive(Debug)]
pub struct Samples {
    /// Embeddings before normalisation.
    pub embeddings: Tensor, // (n, p), f32 on the CPU
    /// Places in [`emotions::Emotion::ALL`].
    pub labels: Tensor, // (n), i64
}

/// All rows, and where they came from.
#[derive(Debug)]
pub struct Parts {
    /// For training.
    pub train: Samples,
    /// For stopping and calibration.
    pub validation: Samples,
    /// For testing.
    pub test: Samples,
    /// Whether the embeddings were in the shards.
    pub stored: bool,
    /// The data set's manifest's checksum.
    pub manifest: String,
}

impl Samples {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.labels.numel()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows at `places`.
    pub fn at(&self, places: &[i64]) -> Self {
        let places = Tensor::from_slice(places);
        Self { embeddings: self.embeddings.index_select(0, &places), labels: self.labels.index_select(0, &places) }
    }
}

/// Reads every part that the recipe names. Fails if one has no labelled row.
pub fn read(config: &Config, clip: &Embedder) -> Result<Parts> {
    let dataset = Arc::new(Dataset::open_with(&config.data.shards, &config.store)?);
    let stored = dataset.manifest().clip.as_ref().is_some_and(|model| model.hash == clip.hash());
    let reader = Reader { dataset: dataset.clone(), clip, stored };
    let (train, validation) = match &config.data.validation.filter {
        Some(filter) => (reader.rows(&config.data.train)?, reader.rows(filter)?),
        None => divide(reader.rows(&config.data.train)?, &config.data.validation, config.seed),
    };
    let parts = [("train", train), ("validation", validation), ("test", reader.rows(&config.data.test)?)];
    if let Some((part, _)) = parts.iter().find(|(_, rows)| rows.is_empty()) {
        let message = "has no row with an emotion; `dataloader inspect` shows what there is";
        return Err(Error::config(format!("data.{part}"), message));
    }
    let [train, validation, test] = parts.map(|(_, rows)| reader.samples(&rows));
    let manifest = dataset.manifest().checksum.clone();
    Ok(Parts { train: train?, validation: validation?, test: test?, stored, manifest })
}

struct Reader<'a> {
    dataset: Arc<Dataset>,
    clip: &'a Embedder,
    stored: bool,
}

impl Reader<'_> {
    /// The rows of a filter that have an emotion, in the data set's order.
    fn rows(&self, filter: &Filter) -> Result<Vec<RowRef>> {
        let mut rows = Stream::new(self.dataset.clone(), filter, 0)?.rows().to_vec();
        rows.retain(|row| row.emotion.is_some());
        Ok(rows)
    }

    fn samples(&self, rows: &[RowRef]) -> Result<Samples> {
        let labels: Vec<i64> = rows.iter().filter_map(|row| Some(row.emotion?.index() as i64)).collect();
        let progress = Progress::new("embedding", "images", rows.len() as u64, true);
        let embedded = rows.chunks(BATCH).map(|batch| {
            let embedded = if self.stored { self.read(batch) } else { self.embed(batch) };
            progress.inc(batch.len() as u64);
            embedded
        });
        let embeddings = Tensor::cat(&embedded.collect::<Result<Vec<_>>>()?, 0);
        Ok(Samples { embeddings, labels: Tensor::from_slice(&labels) })
    }

    fn read(&self, rows: &[RowRef]) -> Result<Tensor> {
        let mut numbers: Vec<f32> = Vec::with_capacity(rows.len() * self.clip.projection_dim() as usize);
        for row in rows {
            let stored = self.dataset.clip_embedding(row)?.unwrap_or_default();
            numbers.extend(stored.into_iter().map(f32::from));
        }
        Ok(Tensor::from_slice(&numbers).view([rows.len() as i64, -1]))
    }

    fn embed(&self, rows: &[RowRef]) -> Result<Tensor> {
        let pictures: Vec<_> = rows.iter().map(|r| self.dataset.read(r)?.image()).collect::<dataloader::Result<_>>()?;
        Ok(self.clip.embeddings(&pictures).to_device(tch::Device::Cpu).to_kind(Kind::Float))
    }
}

/// Divides rows by a hash of their group, or of their image if they have none: seeded, and the same in any order.
fn divide(rows: Vec<RowRef>, validation: &Validation, seed: u64) -> (Vec<RowRef>, Vec<RowRef>) {
    let group = |row: &RowRef| {
        let value = validation.group.as_ref().and_then(|key| row.attributes.get(key));
        value.map_or_else(|| row.image_id.clone(), |value| value.to_string())
    };
    let held_back = |row: &RowRef| {
        const PARTS: u64 = 1 << 32;
        let draw = diffusion::noise::below(seed, &format!("validation {}", group(row)), 0, PARTS);
        (draw as f64) < validation.fraction * PARTS as f64
    };
    rows.into_iter().partition(|row| !held_back(row))
}

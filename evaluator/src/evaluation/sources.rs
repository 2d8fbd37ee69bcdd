//! The held-out photos: which rows take part, in which order, and their pixels batch by batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dataloader::format::row::RowRef;
use dataloader::{Access, Dataset, Filter, Stream};
use emotions::Emotion;
use image::RgbImage;

use crate::config::{self, Config};
use crate::error::{Error, Result};
use crate::evaluation::batch::Batch;
use crate::evaluation::true_pictures::TruePictures;

/// The photos of a report, ordered by image_id.
#[derive(Debug)]
pub struct Sources {
    dataset: Arc<Dataset>,
    stream: Stream,
    rows: Vec<RowRef>,
    subjects: BTreeMap<String, Vec<RowRef>>, // all rows of a subject, by image_id
    manifest_hash: String,
}

impl Sources {
    /// Opens the shards and chooses the rows.
    pub fn open(config: &config::Sources, store: &Access) -> Result<Self> {
        let mut sources = Self::choose(&config.shards, &config.filter, config.max_images, store)?;
        sources.find_subjects()?;
        Ok(sources)
    }

    /// Collects the other pictures of the sources' subjects.
    fn find_subjects(&mut self) -> Result<()> {
        let ours: BTreeSet<&str> = self.rows.iter().filter_map(|row| row.subject.as_deref()).collect();
        if ours.is_empty() {
            return Ok(());
        }
        let mut subjects: BTreeMap<String, Vec<RowRef>> = BTreeMap::new();
        for row in self.dataset.rows(&Filter::default())? {
            if let Some(subject) = row.subject.clone().filter(|subject| ours.contains(subject.as_str())) {
                subjects.entry(subject).or_default().push(row);
            }
        }
        subjects.values_mut().for_each(|rows| rows.sort_by(|a, b| (&a.image_id, &a.path).cmp(&(&b.image_id, &b.path))));
        self.subjects = subjects;
        Ok(())
    }

    /// Whether the data set shows the subject of any photo in one of these emotions too.
    pub fn have_truth(&self, emotions: &[Emotion]) -> bool {
        (0..self.len()).any(|index| emotions.iter().any(|&emotion| self.truth(index, emotion).next().is_some()))
    }

    /// The pictures of a photo's subject in the state `emotion`; none if the photo itself is in that state.
    pub fn truth(&self, index: usize, emotion: Emotion) -> impl Iterator<Item = &RowRef> {
        let own = &self.rows[index];
        let others = own.subject.as_ref().and_then(|subject| self.subjects.get(subject));
        let others = others.filter(|_| own.state.as_deref() != Some(emotion.name()));
        let true_one = move |row: &&RowRef| row.state.as_deref() == Some(emotion.name()) && row.place != own.place;
        others.into_iter().flatten().filter(true_one)
    }

    /// The true pictures of a batch in one emotion.
    pub fn true_pictures(&self, batch: &Batch, emotion: Emotion) -> Result<TruePictures> {
        let mut pictures = Vec::new();
        for row in 0..batch.pictures.len() {
            for truth in self.truth(batch.first + row, emotion) {
                pictures.push((row, self.stream.read(truth)?.image()?));
            }
        }
        Ok(TruePictures { pictures })
    }

    /// An emotion's own images, for comparison with edits towards it; none if the data set has none.
    pub fn references(config: &Config, emotion: Emotion) -> Result<Option<Self>> {
        let references = &config.references;
        let shards = references.shards.as_ref().unwrap_or(&config.sources.shards);
        let filter = Filter { emotions: vec![emotion], ..reference_filter(config) };
        match Self::choose(shards, &filter, references.max_images, &config.store) {
            Err(Error::Data(dataloader::Error::Empty { .. })) => Ok(None),
            chosen => chosen.map(Some),
        }
    }

    fn choose(shards: &str, filter: &Filter, most: Option<usize>, store: &Access) -> Result<Self> {
        let dataset = Arc::new(Dataset::open_with(shards, store)?);
        let manifest_hash = dataset.manifest().checksum.clone();
        let stream = Stream::new(dataset.clone(), filter, 0)?;
        let mut rows = stream.rows().to_vec();
        rows.sort_by(|a, b| (&a.image_id, &a.path).cmp(&(&b.image_id, &b.path)));
        let rows = spread(rows.len(), most.unwrap_or(rows.len())).map(|i| rows[i].clone()).collect();
        Ok(Self { dataset, stream, rows, subjects: BTreeMap::new(), manifest_hash })
    }

    /// The number of photos.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none; opening fails in that case.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What is known of one photo.
    pub fn entry(&self, index: usize) -> &RowRef {
        &self.rows[index]
    }

    /// Whether a photo is already labelled with `emotion`.
    pub fn shows(&self, index: usize, emotion: Emotion) -> bool {
        self.rows[index].shows(emotion)
    }

    /// The photos' image_ids.
    pub fn image_ids(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().map(|row| row.image_id.as_str())
    }

    /// The data set's manifest's checksum.
    pub fn manifest_hash(&self) -> &str {
        &self.manifest_hash
    }

    /// Another photo for each of a batch, the `distance`-th after it, cyclically; none if that is the same one or has
    /// another shape.
    pub fn others(&self, batch: &Batch, distance: usize) -> Result<Option<Vec<RgbImage>>> {
        if distance >= self.rows.len() {
            return Ok(None);
        }
        let places = (0..batch.pictures.len()).map(|place| (batch.first + place + distance) % self.rows.len());
        let others = places.map(|place| Ok(self.stream.read(&self.rows[place])?.image()?));
        let others: Vec<RgbImage> = others.collect::<Result<_>>()?;
        let alike = others.iter().all(|other| other.dimensions() == batch.pictures[0].dimensions());
        Ok(alike.then_some(others))
    }

    /// The photos from `first` on, at most `size`, all of one shape.
    pub fn batch(&self, first: usize, size: usize) -> Result<Batch> {
        let mut pictures: Vec<RgbImage> = Vec::new();
        for row in &self.rows[first..(first + size).min(self.rows.len())] {
            let picture = self.stream.read(row)?.image()?;
            if pictures.first().is_some_and(|p| p.dimensions() != picture.dimensions()) {
                break;
            }
            pictures.push(picture);
        }
        Ok(Batch::new(first, pictures))
    }
}

/// Which rows may be references: the recipe's filter, otherwise the sources' split.
pub fn reference_filter(config: &Config) -> Filter {
    let split = || Filter { split: config.sources.filter.split.clone(), ..Filter::default() };
    config.references.filter.clone().unwrap_or_else(split)
}

/// `count` of 0..`len`, evenly spaced; all if there are no more.
pub fn spread(len: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.min(len);
    (0..count).map(move |i| i * len / count)
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn the_choice_is_even_and_has_no_repeats() {
        assert_eq!(spread(10, 4).collect::<Vec<_>>(), [0, 2, 5, 7]);
        assert_eq!(spread(3, 9).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(spread(0, 3).count(), 0);
    }
}

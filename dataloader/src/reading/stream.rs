//! Rows by position of training, read one by one from verified shards and fetched ahead of time.
//!
//! A stream has no state that a resume would have to restore: any position can be fetched at any time. Only the
//! current batches are held in memory; earlier reads are in the system's page cache.

use std::sync::mpsc::{sync_channel, Receiver};
use std::sync::Arc;
use std::thread::JoinHandle;

use emotions::Emotion;
use half::f16;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::format::row::{Encoding, Row, RowRef};
use crate::reading::batch::{Batch, Encodings};
use crate::reading::dataset::Dataset;
use crate::reading::filter::Filter;
use crate::reading::sampling::{Sampler, Sampling};

/// The rows of a filter in a seeded order.
#[derive(Debug)]
pub struct Stream {
    dataset: Arc<Dataset>,
    rows: Vec<RowRef>,
    sampler: Sampler,
}

impl Stream {
    /// The rows of `dataset` that pass `filter`, each once in an epoch, ordered by `seed`. Fails if none passes.
    pub fn new(dataset: Arc<Dataset>, filter: &Filter, seed: u64) -> Result<Self> {
        Self::sampled(dataset, filter, &Sampling::default(), seed)
    }

    /// As [`Stream::new`], with each emotion as often as `sampling` says.
    pub fn sampled(dataset: Arc<Dataset>, filter: &Filter, sampling: &Sampling, seed: u64) -> Result<Self> {
        let rows = dataset.rows(filter)?;
        if rows.is_empty() {
            return Err(Error::Empty { url: dataset.url().to_string(), filter: filter.describe() });
        }
        let emotions: Vec<Option<Emotion>> = rows.iter().map(|row| row.emotion).collect();
        let sampler = Sampler::new(seed, &emotions, sampling)?;
        Ok(Self { dataset, rows, sampler })
    }

    /// The rows of the stream, in the data set's order: what [`Stream::sample`] indexes.
    pub fn rows(&self) -> &[RowRef] {
        &self.rows
    }

    /// The index of the row at `position`.
    pub fn sample(&self, position: u64) -> usize {
        self.sampler.sample(position)
    }

    /// The light columns of the row at `position`.
    pub fn at(&self, position: u64) -> &RowRef {
        &self.rows[self.sample(position)]
    }

    /// The whole rows at `positions`, read in parallel.
    pub fn fetch(&self, positions: &[u64]) -> Result<Batch> {
        let mut batch = Batch::default();
        self.fetch_into(positions, &mut batch)?;
        Ok(batch)
    }

    /// As [`Stream::fetch`], into a batch that was used before: its arrays are not allocated again.
    pub fn fetch_into(&self, positions: &[u64], batch: &mut Batch) -> Result<()> {
        let rows: Vec<&RowRef> = positions.iter().map(|&position| self.at(position)).collect();
        batch.entries = rows.iter().map(|row| row.entry.clone()).collect();
        let slots = batch.encodings.slots(rows.len(), self.dataset.widths());
        let read = |(row, slot)| {
            self.dataset.fill(row, slot)?;
            self.dataset.image(row)
        };
        batch.images = rows.into_par_iter().zip(slots).map(read).collect::<Result<_>>()?;
        Ok(())
    }

    /// The latents and embeddings at `positions`, read in parallel.
    pub fn encodings(&self, positions: &[u64]) -> Result<Encodings> {
        let mut encodings = Encodings::default();
        let slots = encodings.slots(positions.len(), self.dataset.widths());
        positions.par_iter().zip(slots).try_for_each(|(&p, slot)| self.dataset.fill(self.at(p), slot))?;
        Ok(encodings)
    }

    /// The whole row of `reference`.
    pub fn read(&self, reference: &RowRef) -> Result<Row> {
        self.dataset.read(reference)
    }

    /// The latents and embedding of the row of `reference`.
    pub fn encoding(&self, reference: &RowRef) -> Result<Encoding> {
        self.dataset.encoding(reference)
    }

    /// The embedding of the row of `reference`, if the data set has them.
    pub fn clip_embedding(&self, reference: &RowRef) -> Result<Option<Vec<f16>>> {
        self.dataset.clip_embedding(reference)
    }

    /// Fetches one batch per item of `batches`, on another thread, at most `depth` ahead.
    pub fn prefetch<I>(self: &Arc<Self>, batches: I, depth: usize) -> Prefetch
    where
        I: IntoIterator<Item = Vec<u64>>,
        I::IntoIter: Send + 'static,
    {
        let (stream, batches) = (self.clone(), batches.into_iter());
        let (sender, receiver) = sync_channel(depth.max(1));
        let worker = std::thread::spawn(move || {
            for positions in batches {
                let batch = stream.fetch(&positions);
                let stop = batch.is_err();
                // The receiver is gone once the consumer has stopped.
                if sender.send(batch).is_err() || stop {
                    break;
                }
            }
        });
        Prefetch { receiver: Some(receiver), worker: Some(worker) }
    }
}

/// Batches fetched ahead of time. Ends after the first error; dropping it stops the thread.
#[derive(Debug)]
pub struct Prefetch {
    receiver: Option<Receiver<Result<Batch>>>,
    worker: Option<JoinHandle<()>>,
}

impl Iterator for Prefetch {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.receiver.as_ref()?.recv().ok()
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        drop(self.receiver.take());
        if let Some(worker) = self.worker.take() {
            // A worker that panicked has printed why; the closed channel has told the consumer.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::making::staging::tests::write_dataset;
    use crate::reading::order::Slice;

    fn stream(folder: &tempfile::TempDir, rows: usize) -> Arc<Stream> {
        write_dataset(folder.path(), &[("train", rows)]);
        let dataset = Dataset::open(&folder.path().to_string_lossy()).expect("a data set");
        Arc::new(Stream::new(Arc::new(dataset), &Filter::default(), 3).expect("rows"))
    }

    fn paths(batches: &[Batch]) -> Vec<String> {
        batches.iter().flat_map(|batch| &batch.entries).map(|entry| entry.path.clone()).collect()
    }

    fn batches(stream: &Arc<Stream>, slice: Slice, steps: std::ops::Range<u64>) -> Vec<Batch> {
        let positions = steps.map(move |step| slice.positions(step).collect());
        stream.prefetch(positions, 2).collect::<Result<_>>().expect("readable")
    }

    #[test]
    fn light_columns_and_fetched_rows_agree() {
        let folder = tempfile::tempdir().expect("a folder");
        let stream = stream(&folder, 600);
        for position in 0..30 {
            let row = stream.read(stream.at(position)).expect("readable");
            assert_eq!(row.entry, stream.at(position).entry);
            let number: f32 = row.path[6..10].parse().expect("a number");
            assert_eq!(row.encoding.latent_mean[0].to_f32(), number);
            assert_eq!(row.image().expect("an image").get_pixel(0, 0)[0], number as u32 as u8);
            assert_eq!(stream.encoding(stream.at(position)).expect("readable"), row.encoding);
        }
    }

    #[test]
    fn a_batch_holds_its_rows_one_after_another_and_can_be_filled_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let stream = stream(&folder, 40);
        let mut batch = Batch::default();
        for positions in [vec![7, 3, 3, 21], vec![0], (5..17).collect()] {
            stream.fetch_into(&positions, &mut batch).expect("readable");
            let rows: Vec<_> = positions.iter().map(|&p| stream.read(stream.at(p)).expect("readable")).collect();
            let column = |of: fn(&Encoding) -> &[f16]| rows.iter().flat_map(|row| of(&row.encoding)).copied().collect();
            assert_eq!(batch.encodings, stream.encodings(&positions).expect("readable"));
            let expected = Batch {
                entries: rows.iter().map(|row| row.entry.clone()).collect(),
                images: rows.iter().map(|row| row.image.clone()).collect(),
                encodings: Encodings {
                    latent_mean: column(|e| &e.latent_mean),
                    latent_std: column(|e| &e.latent_std),
                    flip_mean: column(|e| &e.flip_mean),
                    flip_std: column(|e| &e.flip_std),
                    clip_embedding: rows[0]
                        .encoding
                        .clip_embedding
                        .is_some()
                        .then(|| column(|e| e.clip_embedding.as_deref().unwrap_or(&[]))),
                },
            };
            assert_eq!(batch, expected);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        #[test]
        fn any_number_of_ranks_and_any_resume_sees_the_same_order(
            rows in 1usize..60, seed: u64, balanced: bool, resumed_at in 0u64..12,
        ) {
            let folder = tempfile::tempdir().expect("a folder");
            write_dataset(folder.path(), &[("train", rows)]);
            let dataset = Arc::new(Dataset::open(&folder.path().to_string_lossy()).expect("a data set"));
            let sampling = Sampling { balanced, ..Sampling::default() };
            let open = || Arc::new(Stream::sampled(dataset.clone(), &Filter::default(), &sampling, seed).expect("rows"));
            let alone = Slice { rank: 0, world_size: 1, batch_size: 8 };
            let whole = paths(&batches(&open(), alone, 0..12));
            for world_size in [2, 4] {
                let rank = |rank| batches(&open(), Slice { rank, world_size, batch_size: 8 / world_size }, 0..12);
                let ranks: Vec<_> = (0..world_size).map(rank).collect();
                let together: Vec<Batch> =
                    (0..12).flat_map(|step| ranks.iter().map(move |rank| rank[step].clone())).collect();
                prop_assert_eq!(paths(&together), whole.clone());
            }
            let resumed = paths(&batches(&open(), alone, resumed_at..12));
            prop_assert_eq!(&resumed[..], &whole[resumed_at as usize * 8..]);
        }
    }

    #[test]
    fn a_prefetch_can_be_dropped_early_and_stops_at_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let stream = stream(&folder, 300);
        let endless = (0u64..).map(|n| vec![n]);
        let mut prefetch = stream.prefetch(endless.clone(), 3);
        assert!(prefetch.next().expect("a batch").is_ok());
        drop(prefetch);
        std::fs::write(folder.path().join("train-00000-of-00001.parquet"), b"").expect("emptied");
        let mut prefetch = stream.prefetch(endless, 3);
        assert!(prefetch.by_ref().any(|batch| batch.is_err()));
        assert!(prefetch.next().is_none());
    }

    #[test]
    fn a_filter_that_nothing_passes_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        write_dataset(folder.path(), &[("train", 3)]);
        let dataset = Arc::new(Dataset::open(&folder.path().to_string_lossy()).expect("a data set"));
        let filter = Filter { split: Some("test".into()), ..Filter::default() };
        let error = Stream::new(dataset, &filter, 0).expect_err("empty").to_string();
        assert!(error.contains("test") && error.contains("inspect"), "{error}");
    }
}

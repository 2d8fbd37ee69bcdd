//! Rows by position of training: the order of [`Order`] over the rows of a [`Filter`], fetched ahead of time.
//!
//! Row groups are decoded whole and kept, least recently used last, within a memory budget; a data set that fits is
//! read once. Nothing here has state that a resume would have to restore: any position can be fetched at any time.

use std::sync::mpsc::{sync_channel, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::group_cache::GroupCache;
use crate::order::Order;
use crate::row::{Row, RowRef};

/// Memory for decoded rows unless told otherwise.
pub const DEFAULT_BUDGET_BYTES: usize = 2 << 30;

/// The rows of a filter in a seeded order.
#[derive(Debug)]
pub struct Stream {
    dataset: Arc<Dataset>,
    rows: Vec<RowRef>,
    order: Order,
    cache: Mutex<GroupCache>,
}

impl Stream {
    /// The rows of `dataset` that pass `filter`, ordered by `seed`. Fails if none passes.
    pub fn new(dataset: Arc<Dataset>, filter: &Filter, seed: u64) -> Result<Self> {
        let rows = dataset.rows(filter)?;
        if rows.is_empty() {
            return Err(Error::Empty { url: dataset.url().to_string(), filter: filter.describe() });
        }
        let order = Order::new(seed, rows.len());
        let cache = Mutex::new(GroupCache::new(DEFAULT_BUDGET_BYTES));
        Ok(Self { dataset, rows, order, cache })
    }

    /// Keeps at most `bytes` of decoded rows in memory, and at least the row group in use.
    pub fn with_budget(mut self, bytes: usize) -> Self {
        self.cache = Mutex::new(GroupCache::new(bytes));
        self
    }

    /// The rows that take part, in the data set's order: what [`Order::sample`] indexes.
    pub fn rows(&self) -> &[RowRef] {
        &self.rows
    }

    /// The order.
    pub fn order(&self) -> Order {
        self.order
    }

    /// The row at `position`, by its light columns.
    pub fn at(&self, position: u64) -> &RowRef {
        &self.rows[self.order.sample(position)]
    }

    /// The whole rows at `positions`.
    pub fn fetch(&self, positions: &[u64]) -> Result<Vec<Arc<Row>>> {
        positions.iter().map(|&position| self.read(self.at(position))).collect()
    }

    /// The whole row that `reference` stands for.
    pub fn read(&self, reference: &RowRef) -> Result<Arc<Row>> {
        let place = reference.place;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let group = cache.get_or_read((place.shard, place.group), || self.dataset.group(place.shard, place.group))?;
        Ok(group[place.row as usize].clone())
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
                // The receiver is gone when the consumer has had enough.
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
    receiver: Option<Receiver<Result<Vec<Arc<Row>>>>>,
    worker: Option<JoinHandle<()>>,
}

impl Iterator for Prefetch {
    type Item = Result<Vec<Arc<Row>>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.receiver.as_ref()?.recv().ok()
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        drop(self.receiver.take());
        if let Some(worker) = self.worker.take() {
            // A panicking worker has already printed why; the channel's end told the consumer.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Slice;
    use crate::staging::tests::write_dataset;

    fn stream(folder: &tempfile::TempDir, rows: usize) -> Arc<Stream> {
        write_dataset(folder.path(), &[("train", rows)]);
        let dataset = Dataset::open(&folder.path().to_string_lossy()).expect("a data set");
        Arc::new(Stream::new(Arc::new(dataset), &Filter::default(), 3).expect("rows"))
    }

    fn paths(batches: &[Vec<Arc<Row>>]) -> Vec<String> {
        batches.iter().flatten().map(|row| row.path.clone()).collect()
    }

    fn batches(stream: &Arc<Stream>, slice: Slice, steps: std::ops::Range<u64>) -> Vec<Vec<Arc<Row>>> {
        let positions = steps.map(move |step| slice.positions(step).collect());
        stream.prefetch(positions, 2).collect::<Result<_>>().expect("readable")
    }

    #[test]
    fn light_columns_and_fetched_rows_agree() {
        let folder = tempfile::tempdir().expect("a folder");
        let stream = stream(&folder, 600).with_small_budget();
        for position in 0..30 {
            let row = &stream.fetch(&[position]).expect("readable")[0];
            assert_eq!(&row.entry, &*stream.at(position).entry);
            let number: f32 = row.path[6..10].parse().expect("a number");
            assert_eq!(row.latent_mean[0].to_f32(), number);
        }
    }

    impl Stream {
        fn with_small_budget(self: Arc<Self>) -> Self {
            Arc::into_inner(self).expect("one owner").with_budget(1)
        }
    }

    #[test]
    fn any_number_of_ranks_and_any_resume_sees_the_same_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let stream = stream(&folder, 37);
        let whole = paths(&batches(&stream, Slice { rank: 0, world_size: 1, batch_size: 8 }, 0..12));
        for world_size in [2, 4] {
            let ranks: Vec<_> = (0..world_size)
                .map(|rank| batches(&stream, Slice { rank, world_size, batch_size: 8 / world_size }, 0..12))
                .collect();
            let together: Vec<Vec<Arc<Row>>> =
                (0..12).flat_map(|step| ranks.iter().map(move |rank| rank[step].clone())).collect();
            assert_eq!(paths(&together), whole);
        }
        for start in 0..12 {
            let resumed = paths(&batches(&stream, Slice { rank: 0, world_size: 1, batch_size: 8 }, start..12));
            assert_eq!(resumed, whole[start as usize * 8..]);
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
        let stream = Arc::new(Arc::into_inner(stream).expect("the thread has ended").with_budget(0));
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

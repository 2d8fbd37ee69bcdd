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

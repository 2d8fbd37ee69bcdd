//! Images to Parquet shards of VAE latents, and a deterministic, resumable reader of them.
//!
//! Reading needs no libtorch; encoding is behind the feature `encode`.
//!
//! The parts of reading: [`Dataset`] opens a folder or object store and checks hashes, [`Filter`] chooses rows,
//! [`Order`] says which row each position of training holds, [`Stream`] fetches them ahead of time.
//!
//! From a data set to a batch (`dataloader shard --config configs/data/pocket.yaml` makes this one):
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use dataloader::{Dataset, Filter, Slice, Stream};
//!
//! let dataset = Arc::new(Dataset::open("data/pocket")?);
//! let train = Filter { split: Some("train".into()), ..Filter::default() };
//! let stream = Stream::new(dataset, &train, 0)?;
//! let ours = Slice { rank: 0, world_size: 2, batch_size: 8 }; // this process's part of each batch
//! let batch = stream.fetch(&ours.positions(0).collect::<Vec<_>>())?;
//! assert_eq!((batch.entries.len(), batch.images.len()), (8, 8));
//! # Ok::<(), dataloader::Error>(())
//! ```
//!
//! Which rows those are follows from the seed and the position alone:
//!
//! ```
//! use dataloader::Order;
//!
//! let order = Order::new(0, 5);
//! let mut epoch: Vec<usize> = (5..10).map(|position| order.sample(position)).collect();
//! assert_eq!(epoch, (5..10).map(|position| Order::new(0, 5).sample(position)).collect::<Vec<_>>());
//! epoch.sort();
//! assert_eq!(epoch, [0, 1, 2, 3, 4], "each epoch has every row once");
//! ```

pub mod error;
pub mod format;
mod fuzz;
pub mod inversions;
pub mod making;
pub mod reading;
#[cfg(feature = "encode")]
pub mod sources;
pub mod store;

pub use error::{Error, Result};
pub use format::manifest::Manifest;
pub use format::row::{Encoding, Entry, Row, RowRef};
pub use inversions::Inversions;
pub use reading::batch::{Batch, Encodings};
pub use reading::dataset::Dataset;
pub use reading::filter::Filter;
pub use reading::order::{Order, Slice};
pub use reading::sampling::{Sampler, Sampling};
pub use reading::stream::Stream;
pub use store::Access;

//! Images to Parquet shards of VAE latents, and a deterministic, resumable reader of them.
//!
//! Reading needs no libtorch; encoding is behind the feature `encode`.
//!
//! Reading, from the outside in: [`Dataset`] opens a folder or object store and checks hashes, [`Filter`] chooses
//! rows, [`Order`] says which row each position of training holds, [`Stream`] fetches them ahead of time.

mod columns;
pub mod dataset;
pub mod emotion;
pub mod error;
pub mod filter;
mod group_cache;
pub mod manifest;
pub mod order;
pub mod recipe;
pub mod row;
pub mod schema;
pub mod shard_file;
pub mod store;
pub mod stream;

pub use dataset::Dataset;
pub use emotion::Emotion;
pub use error::{Error, Result};
pub use filter::Filter;
pub use manifest::Manifest;
pub use order::{Order, Slice};
pub use row::{Entry, Row, RowRef};
pub use stream::Stream;

//! Images to Parquet shards of VAE latents, and a deterministic, resumable reader of them.
//!
//! Reading needs no libtorch; encoding is behind the feature `encode`.
//!
//! The parts of reading: [`Dataset`] opens a folder or object store and checks hashes, [`Filter`] chooses rows,
//! [`Order`] says which row each position of training holds, [`Stream`] fetches them ahead of time.

pub mod account;
#[cfg(feature = "encode")]
mod assembly;
pub mod batch;
#[cfg(feature = "encode")]
mod card;
mod cells;
mod columns;
#[cfg(feature = "encode")]
pub mod config;
pub mod dataset;
pub mod emotion;
#[cfg(feature = "encode")]
pub mod encode;
pub mod error;
#[cfg(feature = "encode")]
pub mod fetch;
pub mod filter;
mod fuzz;
#[cfg(feature = "encode")]
mod identify;
pub mod inspect;
pub mod inversions;
pub mod manifest;
pub mod order;
#[cfg(feature = "encode")]
pub mod photo;
#[cfg(feature = "encode")]
mod plan;
pub mod recipe;
#[cfg(feature = "encode")]
mod reuse;
pub mod row;
pub mod sampling;
pub mod schema;
#[cfg(feature = "encode")]
pub mod shard;
pub mod shard_file;
mod shards;
#[cfg(feature = "encode")]
pub mod share;
#[cfg(feature = "encode")]
pub mod sources;
pub mod staging;
pub mod store;
pub mod stream;
#[cfg(feature = "encode")]
pub mod survey;
pub mod text_file;
pub mod verify;
#[cfg(feature = "encode")]
mod waiting;
pub mod writer;

pub use batch::{Batch, Encodings};
pub use dataset::Dataset;
pub use emotion::Emotion;
pub use error::{Error, Result};
pub use filter::Filter;
pub use inversions::Inversions;
pub use manifest::Manifest;
pub use order::{Order, Slice};
pub use row::{Encoding, Entry, Row, RowRef};
pub use sampling::{Sampler, Sampling};
pub use store::Access;
pub use stream::Stream;

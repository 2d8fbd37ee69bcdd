//! Images to Parquet shards of VAE latents, and a deterministic, resumable reader of them.
//!
//! Reading needs no libtorch; encoding is behind the feature `encode`.
//!
//! The parts of reading: [`Dataset`] opens a folder or object store and checks hashes, [`Filter`] chooses rows,
//! [`Order`] says which row each position of training holds, [`Stream`] fetches them ahead of time.

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

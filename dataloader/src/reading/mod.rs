//! A data set read: verified shards, chosen rows, and batches by position.

pub mod batch;
pub(crate) mod cells;
pub mod dataset;
pub mod filter;
pub mod inspect;
pub mod order;
pub mod sampling;
pub mod shard_file;
pub(crate) mod shards;
pub mod stream;
pub mod verify;

//! Data sets made: images listed, identified, divided, encoded, written and published as a whole.

#[cfg(feature = "encode")]
pub(crate) mod assembly;
#[cfg(feature = "encode")]
pub(crate) mod card;
#[cfg(feature = "encode")]
pub mod config;
#[cfg(feature = "encode")]
pub mod encode;
#[cfg(feature = "encode")]
pub(crate) mod identify;
#[cfg(feature = "encode")]
pub mod photo;
#[cfg(feature = "encode")]
pub(crate) mod plan;
#[cfg(feature = "encode")]
pub(crate) mod reuse;
#[cfg(feature = "encode")]
pub mod shard;
pub mod staging;
#[cfg(feature = "encode")]
pub mod survey;
#[cfg(feature = "encode")]
pub(crate) mod waiting;
#[cfg(feature = "encode")]
pub mod worker_rank;
pub mod writer;

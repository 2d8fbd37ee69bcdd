//! Photos in, numbers out: sources in batches, every method on each, shared by the processes of an evaluation.

pub mod batch;
mod before;
pub mod contest;
pub mod evaluate;
mod found;
pub mod gallery;
mod jobs;
pub mod made;
pub mod observe;
pub mod parts;
pub mod ranks;
pub mod sources;
pub mod truth;

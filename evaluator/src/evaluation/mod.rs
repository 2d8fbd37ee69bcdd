//! Photos in, numbers out: sources in batches, every method on each, shared by the processes of an evaluation.

pub mod batch;
mod before;
pub mod evaluate;
pub mod evaluation_plan;
mod found;
pub mod gallery;
mod jobs;
pub mod made;
pub mod observe;
pub mod parts;
pub mod ranks;
mod shuffled;
pub mod sources;
pub mod true_pictures;
pub mod truth;

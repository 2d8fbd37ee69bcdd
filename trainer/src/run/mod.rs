//! A run from its set-up to what it leaves: the ranks, the frozen networks, the output folder.

pub mod context;
pub mod export;
pub mod models;
pub mod output_folder;
pub mod signals;
pub mod training;
pub mod world;

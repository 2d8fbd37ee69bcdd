//! Metrics, baselines and the nightly report.
//!
//! The way of an evaluation: [`cli`] takes the arguments; [`config`] is the recipe as written, and checked;
//! [`evaluation`] edits and scores in batches ([`methods`], [`metrics`]) that its processes share; [`scores`] makes
//! means and intervals from the measurements; [`report`] renders them, and its gates decide the exit code. [`fit`]
//! trains classifiers.

pub mod cli;
pub mod config;
pub mod error;
pub mod evaluation;
pub mod fit;
pub mod methods;
pub mod metrics;
pub mod report;
pub mod scores;

pub use error::{Error, Result};
